"""Frames of files, of live sources, which are opened again, and of http(s) URLs of either kind."""

import itertools
import socket
import threading
from types import SimpleNamespace

import av
import numpy as np
import pytest
from live_sources import http_server, send_chunks, send_jpegs, send_unmarked, serve, transport_stream
from video_files import moving_frames, write_video

from tubevit.processing import VideoDecodeError, decode_video
from tubevit.processing.video_source import _Login, open_url
from tubevit.training.streaming import source as source_module
from tubevit.training.streaming.source import VideoSource


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "long.mp4"
    write_video(path, moving_frames(100, 32, 48), fps=25)  # 4 s
    return path


def test_no_decoder_threads_that_could_deadlock(video, monkeypatch):
    counts, frames_of = [], VideoSource._frames

    def note(source, container, stream):
        for frame in frames_of(source, container, stream):
            counts.append(stream.codec_context.thread_count)
            yield frame

    monkeypatch.setattr(VideoSource, "_frames", note)
    monkeypatch.setattr(av.logging, "get_level", lambda: av.logging.ERROR)
    next(iter(VideoSource(str(video))))
    assert counts == [1]


def test_a_file_gives_the_frames_of_decode_video(video):
    frames, metadata = decode_video(str(video))
    found = list(VideoSource(str(video)))
    assert len(found) == 100 and [frame.is_first for frame in found] == [True] + [False] * 99
    assert np.allclose([frame.seconds for frame in found], metadata.timestamps, atol=1e-3)
    for index in (0, 57, 99):
        assert np.array_equal(found[index].picture(), frames[index].permute(1, 2, 0).numpy())
    with pytest.raises(FileNotFoundError):
        VideoSource("missing.mp4")


def test_a_live_source_is_opened_again(tmp_path):
    address, thread = serve(transport_stream(tmp_path), times=3)
    messages, pauses = [], []
    source = VideoSource(address, max_reconnects=2, stall_seconds=5, on_message=messages.append, sleep=pauses.append)
    starts, num_frames = 0, 0
    with pytest.raises(VideoDecodeError, match="attempts to open it again: 2"):
        for frame in source:
            num_frames += 1
            starts += frame.is_first
            assert frame.seconds >= 0 and frame.picture().shape == (32, 48, 3)
    thread.join(10)
    assert starts == 3 and num_frames >= 3 * 45
    # A break after frames is attempt 1; without frames, attempts go on to the limit.
    assert pauses == [1.0, 1.0, 1.0, 2.0] and all("attempt" in message for message in messages)


def test_a_clock_that_jumps_begins_anew(tmp_path, monkeypatch):
    """Otherwise the last frame would be shown for the length of the jump."""
    messages = []
    source = VideoSource("tcp://127.0.0.1:1", stall_seconds=5, on_message=messages.append)
    path = tmp_path / "jump.mp4"
    frames = moving_frames(20, 16, 16)
    write_video(path, frames, times=[index / 10 + 3600 * (index >= 10) for index in range(20)])
    with av.open(str(path)) as container:
        found = list(source._frames(container, container.streams.video[0]))
    assert [index for index, frame in enumerate(found) if frame.is_first] == [0, 10]
    assert max(frame.seconds for frame in found) < 2 and "jumps by 3600" in messages[0]


def test_a_stalled_source_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and sends nothing
        source = VideoSource(
            f"tcp://127.0.0.1:{server.getsockname()[1]}", max_reconnects=0, stall_seconds=0.5, on_message=print
        )
        with pytest.raises(VideoDecodeError, match=r"is lost \(no data for 0\.5 s\); attempts"):
            list(source)


def read(url, number=None, reconnects=0, **settings) -> tuple[VideoSource, list, list[str], str]:
    """A source, its first frames, its messages, and the error at its end ("" if there is none)."""
    messages: list[str] = []
    source = VideoSource(url, reconnects, on_message=messages.append, sleep=lambda seconds: None, **settings)
    frames = []
    try:
        frames.extend(itertools.islice(source, number))
    except VideoDecodeError as error:
        return source, frames, messages, str(error)
    return source, frames, messages, ""


def test_an_http_response_with_a_length_is_a_file_and_another_a_live_stream(video, tmp_path, monkeypatch):
    """The command would wait for ever for the end of a camera's stream."""
    monkeypatch.setenv("no_proxy", "*")
    data = transport_stream(tmp_path)
    halves, skipped = (data[: len(data) // 2], data[len(data) // 2 :]), itertools.count()

    def send_file(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(video.stat().st_size))
        handler.end_headers()
        handler.wfile.write(video.read_bytes())

    answers = {
        "/file": send_file,
        "/jpegs": send_jpegs,
        "/stream": lambda handler: send_chunks(handler, itertools.chain([data], itertools.repeat(b"\0" * 188, 2000))),
        "/ends": lambda handler: send_chunks(handler, halves, ends=True),
        "/breaks": lambda handler: send_chunks(handler, [data[188 * next(skipped) :]]),  # of a live stream
        "/mp4": lambda handler: send_chunks(handler, [video.read_bytes()], ends=True),
    }
    with http_server(answers) as url:
        source, frames, messages, error = read(f"{url}/file?token=secret")
        assert not source.is_live and len(frames) == 100 and not messages and not error
        assert source.name == url.replace("user:p%40ss@", "") + "/file"
        source, frames, messages, error = read(f"{url}/stream", 40)
        assert source.is_live and len(frames) == 40 and frames[5].seconds == pytest.approx(0.2) and not messages
        source, frames, messages, error = read(f"{url}/ends", 200, reconnects=2)
        assert source.is_live and 45 <= len(frames) <= 50 and not messages and not error  # the stream is over
        source, frames, messages, error = read(f"{url}/breaks", 90, reconnects=2)
        assert sum(frame.is_first for frame in frames) == 2 and "(the connection broke off); attempt 1" in messages[0]
        *_, error = read(f"{url}/mp4")
        assert "/mp4 is lost (no video that can be read as a stream; an MP4 file with its index at the end" in error
        with pytest.raises(VideoDecodeError, match="is a live stream without an end; `tubevit watch`"):
            decode_video(f"{url}/jpegs")
        clock = itertools.count()
        monkeypatch.setattr(source_module, "time", SimpleNamespace(monotonic=lambda: 0.7 * next(clock), sleep=None))
        source, frames, messages, error = read(f"{url}/jpegs", 6, stall_seconds=60)
        next(iter(source))  # a second connection
        seconds = [frame.seconds for frame in frames]
        assert source.is_live and min(np.diff(seconds)) >= 0.69, "not the clock that is read when a frame comes"
        assert len(messages) == 1 and "is motion JPEG without times" in messages[0]
        assert frames[0].picture().shape == (32, 48, 3) and not any(
            "p%40" in text for text in [source.name, *messages]
        )


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_a_file_without_a_length_is_read_once(kind, ends, video, tmp_path, monkeypatch):
    """Its server closes the connection at the end, as for a live stream that is lost; then it begins with the same bytes."""
    monkeypatch.setenv("no_proxy", "*")
    path, requests = tmp_path / "index_first.mp4", []
    with av.open(str(video)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = transport_stream(tmp_path) if kind == "ts" else path.read_bytes()

    def send(handler):
        requests.append(handler.path)
        if ends:
            send_unmarked(handler, data)
        else:
            send_chunks(handler, [data[:-1000]])

    with http_server({"/file": send}) as url:
        source, frames, messages, error = read(f"{url}/file", 400, reconnects=2)
    assert (
        len(frames) == pytest.approx(50 if kind == "ts" else 100, abs=15)
        and sum(each.is_first for each in frames) == 1
    )
    assert len(requests) == 3  # is it a file, its frames, its beginning
    assert messages[0].endswith(
        f"is lost ({'it ended' if ends else 'the connection broke off'}); attempt 1 of 2 in 1 s."
    )
    if ends:
        assert (
            source.is_complete
            and not error
            and messages[1].endswith("/file is a file, and has ended: its response begins as before.")
        )
    else:
        assert "/file cannot be read to its end: the connection broke off" in error and len(messages) == 1


def test_a_live_http_stream_whose_header_is_that_of_before_is_opened_again(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    data, requests = transport_stream(tmp_path), []
    header, packets = data[: 3 * 188], data[3 * 188 :]

    def send(handler):
        requests.append(handler.path)
        skipped = 0 if len(requests) < 3 else len(packets) // 188 // 2 * 188
        send_unmarked(handler, header + packets[skipped:])

    with http_server({"/live": send}) as url:
        source, frames, messages, _ = read(f"{url}/live", 60, reconnects=2)
    assert sum(each.is_first for each in frames) == 2 and not source.is_complete and len(messages) == 1
    # A camera may repeat its pictures.
    with http_server({"/jpegs": lambda handler: send_jpegs(handler, number=8)}) as url:
        _, frames, messages, _ = read(f"{url}/jpegs", 20, reconnects=2)
    assert len(frames) == 20 and sum("(it ended)" in each for each in messages) == 2


def test_an_http_stream_without_data_or_without_frames_is_lost(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    hold = threading.Event()

    def drip():
        for _ in range(100):
            yield b"\0"
            hold.wait(0.01)

    answers = {
        "/silent": lambda handler: send_chunks(handler, iter(lambda: hold.wait(10) and None, None)),
        "/drips": lambda handler: send_chunks(handler, drip()),
    }
    with http_server(answers) as url:
        for path, why in (("silent", "no data"), ("drips", "no frame")):
            *_, error = read(f"{url}/{path}", stall_seconds=0.2)
            assert f"/{path} is lost ({why} for 0.2 s); attempts" in error and "p%40" not in error
        hold.set()
        with pytest.raises(VideoDecodeError, match=r"/file could not be downloaded: HTTP Error 401") as caught:
            VideoSource(url.replace("p%40ss", "other") + "/file")
        assert "other" not in str(caught.value)


def test_a_login_is_for_the_server_of_the_url_alone(monkeypatch):
    """Redirects on it are answered; urllib's own password manager sends the password of an https URL to http as well."""
    monkeypatch.setenv("no_proxy", "*")

    def redirect(handler, url):
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    answers = {
        "/moved": lambda handler: redirect(handler, "/other/place"),
        "/other/place": lambda handler: send_chunks(handler, [b"content"], ends=True),
        "/elsewhere": lambda handler: redirect(handler, f"http://localhost:{handler.server.server_port}/other/place"),
    }
    with http_server(answers) as url:
        with open_url(f"{url}/moved", "name") as response:
            assert response.read() == b"content"
        with pytest.raises(OSError, match="HTTP Error 401"):
            open_url(f"{url}/elsewhere", "name")
    login = _Login("https://host/video", "user", "pass")
    for address in ("http://host/video", "https://host:8443/video", "https://other/video"):
        assert login.find_user_password("realm", address) == (None, None)
    assert login.find_user_password("realm", "https://host/") == ("user", "pass")
