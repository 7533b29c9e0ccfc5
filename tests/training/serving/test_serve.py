"""The service answers as `predict` does, batches requests, refuses what exceeds a limit, and survives every file."""

import asyncio
import http.server
import os
import pickle
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from tiny_models import make_model, tiny_config
from video_files import moving_frames, write_video
from warm_processes import Running

from tubevit import TubeViTForVideoClassification, TubeViTVideoProcessor
from tubevit.processing import VideoDecodeError, decode_video
from tubevit.training.commands.predict import make_classifier
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.serving.app import ServiceSettings, create_app
from tubevit.training.serving.decoding import ClipDecoder, Limits


LABELS = dict(enumerate(["walk", "run", "jump", "sit", "stand"]))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    make_model(TubeViTForVideoClassification, tiny_config(id2label=LABELS)).save_pretrained(folder / "model")
    TubeViTVideoProcessor(
        num_frames=8, size={"shortest_edge": 16}, crop_size=16, num_temporal_views=2
    ).save_pretrained(folder / "model")
    for seed in range(4):
        write_video(folder / f"{seed}.mp4", moving_frames(30, 32, 48, seed))
    return folder


def client_of(files, **settings) -> TestClient:
    classifier = load_video_classifier(str(files / "model"), {})
    return TestClient(create_app(classifier, "model", ServiceSettings(num_decoders=1, **settings)))


@pytest.fixture(scope="module")
def client(files):
    settings = {"limits": Limits(duration=5, pixels=64 * 64, seconds=20), "max_bytes": 50_000, "upload_seconds": 5.0}
    with client_of(files, **settings) as client:
        yield client


def metrics_of(client) -> dict[tuple, float]:
    text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_scores_are_those_of_predict(client, files):
    classify = make_classifier(str(files / "model"), {"video"}, top_k=3)
    for name in ("0.mp4", "1.mp4"):
        data = (files / name).read_bytes()
        sent = [
            client.post("/classify?top_k=3", files={"file": (name, data)}),
            client.post("/classify?top_k=3", content=data),
        ]
        for answer in sent:
            found = answer.json()
            assert (
                answer.status_code == 200
                and found["model"] == "model"
                and set(found["seconds"]) >= {"decode", "model"}
            )
            expected = classify(str(files / name))
            assert [each["label"] for each in found["predictions"]] == [each["label"] for each in expected]
            assert np.allclose(
                [each["score"] for each in found["predictions"]], [each["score"] for each in expected], atol=1e-6
            )


def test_requests_at_the_same_time_are_one_batch(files):
    data = [(files / f"{seed}.mp4").read_bytes() for seed in range(4)]
    with client_of(files, max_wait=2.0, max_batch_size=4) as client:
        single = [client_scores(client, each) for each in data[:1]]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda each: client_scores(client, each), data))
        assert np.allclose(together[0], single[0], atol=1e-6) and not np.allclose(together[0], together[1], atol=1e-4)
        found = metrics_of(client)
        assert found["tubevit_batch_size_count",] == 2 and found["tubevit_batch_size_sum",] == 5


def client_scores(client, data: bytes) -> list[float]:
    found = client.post("/classify", content=data).json()["predictions"]
    return [each["score"] for each in sorted(found, key=lambda each: each["label"])]


def test_each_label_group_has_its_own_probabilities(files, tmp_path):
    groups = [["noun", 3], ["verb", 2]]
    config = tiny_config(id2label=LABELS, label_groups=groups)
    make_model(TubeViTForVideoClassification, config).save_pretrained(tmp_path)
    TubeViTVideoProcessor.from_pretrained(files / "model").save_pretrained(tmp_path)
    settings = ServiceSettings(num_decoders=1)
    with TestClient(create_app(load_video_classifier(str(tmp_path), {}), "model", settings)) as client:
        answer = client.post("/classify?top_k=9", content=(files / "0.mp4").read_bytes()).json()
    expected = make_classifier(str(tmp_path), {"video"}, top_k=9)(str(files / "0.mp4"))
    assert [each["rank"] for each in expected] == [1, 2, 3, 1, 2]
    for found, each in zip(answer["predictions"], expected, strict=True):
        assert found == each | {"score": pytest.approx(each["score"], abs=1e-6)}
    assert sum(each["score"] for each in answer["predictions"]) == pytest.approx(2)


def test_a_file_that_cannot_be_read_is_the_client_s_error(client, files, tmp_path):
    good = (files / "0.mp4").read_bytes()
    write_video(tmp_path / "long.mp4", moving_frames(30, 32, 48), fps=4)
    write_video(tmp_path / "wide.mp4", moving_frames(30, 32, 256))
    middle = good.index(b"mdat") + 4 + (len(good) - good.index(b"mdat")) // 4
    damaged = good[:middle] + bytes(400) + good[middle + 400 :]
    with pytest.raises(VideoDecodeError, match="allow_partial=True returns") as caught:
        decode_video(damaged)
    copied = pickle.loads(pickle.dumps(caught.value))  # as from a worker process
    assert str(copied) == str(caught.value) and "allow_partial" not in copied.reason
    cut = write_video(tmp_path / "cut.mkv", moving_frames(20, 32, 48)).read_bytes()[:-500]
    rng = np.random.default_rng(0)
    for data, status, words in [
        (b"", 400, "no file"),
        (b"no video", 422, ""),
        (good[: len(good) // 2], 422, ""),
        (damaged, 422, "the file is damaged: "),
        (cut, 422, "the file is cut off: "),
        (rng.bytes(20_000), 422, ""),
        (bytes(60_000), 413, "50,000 bytes"),
        (bytes(200_000), 413, "50,000 bytes"),
        ((tmp_path / "long.mp4").read_bytes(), 422, "7.5 s long, longer than 5 s"),
        ((tmp_path / "wide.mp4").read_bytes(), 422, "256x32 pixels, more than 4,096"),
    ]:
        for sent in ({"content": data}, {"files": {"file": ("x.mp4", data)}}):
            answer = client.post("/classify", **sent)
            assert answer.status_code == status, (status, answer.text)
            reason = answer.json()["detail"]
            assert words in reason and "\n" not in reason and 5 < len(reason) < 300
            assert "allow_partial" not in reason
    assert client.post("/classify", content=good).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"data": {"other": "x"}}, 422),  # the type of `curl --data-binary`: the bytes are taken for a video
        ({"files": {"wrong": ("x.mp4", b"x")}}, 400),
        ({"content": b"--", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"--x\r\nrubbish", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))]}, 400),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"json": ["url"]}, 400),
        ({"json": {"url": 3}}, 400),
        ({"json": {"url": "http://[::1"}}, 400),
        ({"json": {"url": "http://127.0.0.1:65536/x.mp4"}}, 400),
        ({"content": rb'{"url": "http://127.0.0.1/\ud800"}', "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"[" * 200_000, "headers": {"content-type": "application/json"}}, 413),
        ({"content": b"[" * 49_000, "headers": {"content-type": "application/json"}}, 400),
        ({"json": {"url": "http://localhost/x.mp4"}}, 403),
        ({"json": {"url": "file:///etc/passwd"}}, 403),
        ({"content": b"x", "params": {"top_k": 0}}, 422),
        ({"content": b"x", "params": {"top_k": "many"}}, 422),
    ],
)
def test_malformed_requests_are_refused(client, sent, status):
    answer = client.post("/classify", **sent)
    assert answer.status_code == status, answer.text
    reason = answer.json()["detail"]
    assert isinstance(reason, str) and "\n" not in reason and 5 < len(reason) < 300
    assert "top_k='" in reason or "params" not in sent


def test_a_process_that_dies_or_hangs_is_replaced(files, monkeypatch):
    """The file is refused, and the next one has its labels."""
    from tubevit.training.serving import decoding

    good = (files / "0.mp4").read_bytes()
    with client_of(files, limits=Limits(seconds=3)) as client:
        assert client.post("/classify", content=good).status_code == 200
        real = decoding._run

        def killed(worker, data):
            os.kill(worker.process.pid, signal.SIGKILL)
            return real(worker, data)

        def stopped(worker, data):
            os.kill(worker.process.pid, signal.SIGSTOP)
            return real(worker, data)

        for function, words in ((killed, "died"), (stopped, "longer than 3 s")):
            monkeypatch.setattr(decoding, "_run", function)
            answer = client.post("/classify", content=good)
            assert answer.status_code == 422 and words in answer.json()["detail"]
            monkeypatch.setattr(decoding, "_run", real)
            assert client.post("/classify", content=good).status_code == 200


def test_a_model_without_finite_logits_is_refused_and_a_clip_without_them_is_a_client_error(files, monkeypatch):
    classifier = load_video_classifier(str(files / "model"), {})
    forward = type(classifier).__call__
    monkeypatch.setattr(type(classifier), "__call__", lambda self, clips: forward(self, clips) * float("nan"))
    with pytest.raises(ValueError, match="NaN or inf"):
        create_app(classifier, "model", ServiceSettings(num_decoders=1))

    def dark_is_nan(self, clips):
        return forward(self, clips) / (clips.float().mean((1, 2, 3, 4)) > 30)[:, None]

    monkeypatch.setattr(type(classifier), "__call__", dark_is_nan)
    write_video(files / "dark.mp4", np.zeros((30, 32, 48, 3), np.uint8))
    with client_of(files, max_wait=1.0, max_batch_size=2) as client:
        data = [(files / name).read_bytes() for name in ("dark.mp4", "0.mp4")]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda each: client.post("/classify", content=each), data))
    assert [answer.status_code for answer in answers] == [422, 200]
    assert "NaN or inf" in answers[0].json()["detail"]


def test_the_bytes_of_all_requests_have_a_limit(files, monkeypatch):
    """Of three files at the same time, two fit; their bytes are free again once they are decoded."""
    data = (files / "0.mp4").read_bytes()
    with pytest.raises(ValueError, match="less than one file"):
        ServiceSettings(max_bytes=100, max_total_bytes=99)
    limit = int(2.5 * len(data))
    with client_of(files, max_bytes=limit, max_total_bytes=limit) as client:
        arrived, decode = threading.Barrier(3), ClipDecoder.decode

        async def slow(self, data):
            await asyncio.get_running_loop().run_in_executor(None, arrived.wait, 20)
            return await decode(self, data)

        monkeypatch.setattr(ClipDecoder, "decode", slow)
        with ThreadPoolExecutor(2) as pool:
            first = [pool.submit(client.post, "/classify", content=data) for _ in range(2)]
            while arrived.n_waiting < 2:
                time.sleep(0.01)
            refused = client.post("/classify", content=data)
            arrived.wait(20)
            assert [answer.result().status_code for answer in first] == [200, 200]
        assert refused.status_code == 429 and "too many bytes" in refused.json()["detail"]
        monkeypatch.setattr(ClipDecoder, "decode", decode)
        assert client.post("/classify", content=data).status_code == 200


def test_too_many_requests_are_refused_at_once(files):
    data = (files / "0.mp4").read_bytes()
    with client_of(files, max_wait=1.0, max_batch_size=64, max_requests=2) as client:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: client.post("/classify", content=data), range(6)))
        statuses = [answer.status_code for answer in answers]
        assert sorted(set(statuses)) == [200, 429] and statuses.count(200) >= 2
        assert next(answer for answer in answers if answer.status_code == 429).headers["retry-after"] == "1"
        found = metrics_of(client)
        assert found["tubevit_requests_total", "429"] == statuses.count(429)
        assert found["tubevit_requests_in_work",] == 0 and found["tubevit_queue_length",] == 0


def test_health_metrics_and_openapi(client, files):
    client.post("/classify", content=(files / "0.mp4").read_bytes())
    assert client.get("/healthz").json() == {"status": "ok", "model": "model"}
    found = metrics_of(client)
    assert found["tubevit_latency_seconds", "0.5"] <= found["tubevit_latency_seconds", "0.99"] < 60
    assert found["tubevit_seconds_count", "decode"] >= 1
    page = client.get("/openapi.json").json()["paths"]["/classify"]["post"]
    assert "multipart/form-data" in page["requestBody"]["content"] and {"413", "422", "429"} <= set(page["responses"])
    sentence = "<p>This page loads its script from cdn.jsdelivr.net."  # what a browser without a network shows
    assert sentence in client.get("/docs").text
    assert client.get("/redoc").status_code == 404  # a second page, which would be blank there


class Host(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "http://localhost:1/0.mp4")
            self.end_headers()
            return
        if self.path == "/damaged":
            self.send_response(200)
            self.send_header("content-encoding", "gzip")
            self.end_headers()
            self.wfile.write(b"no gzip")
            return
        super().do_GET()

    def log_message(self, *args):
        pass


def test_urls_of_allowed_hosts_are_fetched(files):
    data = (files / "0.mp4").read_bytes()
    handler = lambda *args: Host(*args, directory=str(files))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        with client_of(files, url_hosts=("127.0.0.1",), max_bytes=len(data)) as client:
            answer = client.post("/classify", json={"url": f"{base}/0.mp4"})
            expected = client.post("/classify", content=data)
            assert answer.status_code == 200 and answer.json()["predictions"] == expected.json()["predictions"]
            for path, status, words in [
                ("missing.mp4", 422, "status 404"),
                ("elsewhere", 422, "status 302"),
                ("damaged", 422, "DecodingError"),
                ("model/model.safetensors", 413, "bytes"),
            ]:
                answer = client.post("/classify", json={"url": f"{base}/{path}"})
                assert answer.status_code == status and words in answer.json()["detail"]
            assert client.post("/classify", json={"url": "http://127.0.0.1:1/x"}).status_code == 422
            assert (
                client.post("/classify", json={"url": f"{base.replace('127.0.0.1', 'localhost')}/0.mp4"}).status_code
                == 403
            )
        server.shutdown()


def test_a_stop_answers_what_was_accepted(files):
    """The real command, in a process of its own, which gets SIGTERM while it holds requests."""
    command = ["-m", "tubevit.training.cli", "serve", files / "model", "--port", "0", "--workers", "1"]
    process = Running(*command, "--max-wait-ms", "1500", "--max-batch-size", "64")
    try:
        while not (address := re.search(r"Uvicorn running on (\S+) .*\n", process.stderr_so_far())):
            assert process.poll() is None, process.stderr_so_far()
            time.sleep(0.05)
        data = (files / "0.mp4").read_bytes()
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(httpx.post, f"{address[1]}/classify", content=data, timeout=60) for _ in range(3)]
            while httpx.get(f"{address[1]}/metrics").text.count("tubevit_requests_in_work 3.0") == 0:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200] * 3
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
    finally:
        process.send_signal(signal.SIGKILL)


def test_the_command_names_what_it_needs(files, monkeypatch, capsys):
    from tubevit.training.cli import main

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(files / "model")]) == 2
    assert "pip install 'tubevit[serve]'" in capsys.readouterr().err
