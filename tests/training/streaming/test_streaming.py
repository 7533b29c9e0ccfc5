"""Windows of a stream are clips of the video, whatever is reused; events follow the scores."""

import itertools
import json
import math
import signal

import numpy as np
import pytest
import torch
from live_sources import serve, transport_stream
from tiny_models import make_model, tiny_config
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification, TubeViTVideoProcessor
from tubevit.processing import decode_video
from tubevit.training.cli import main
from tubevit.training.commands.watch import read_truth
from tubevit.training.data.demo_clips import LabeledClip
from tubevit.training.streaming import long_video, window_work
from tubevit.training.streaming.events import (
    Event,
    EventDetector,
    ScoreHistory,
    clock,
    cut_events,
    event_f1,
    frame_accuracy,
    read_events,
    write_events,
)
from tubevit.training.streaming.long_video import write_long_video
from tubevit.training.streaming.source import VideoSource
from tubevit.training.streaming.stream import TubeViTStream


LABELS = dict(enumerate(["walk", "run", "jump", "sit", "stand"]))
SMALL = {"num_frames": 8, "size": {"shortest_edge": 16}, "crop_size": 16}
# Space-to-depth in time whose last application does not fit into the clip of 8 frames, and in space.
MERGED = [
    {"kernel_size": [2, 4, 4], "stride": [4, 8, 8], "offset": [1, 0, 0], "space_to_depth": [2, 1, 1]},
    {"kernel_size": [3, 2, 2], "stride": [2, 8, 8], "space_to_depth": [1, 2, 2]},
    {"kernel_size": [1, 8, 8], "stride": [3, 8, 8]},
]


def save_model(folder, processor: dict, **config) -> str:
    model = make_model(TubeViTForVideoClassification, tiny_config(id2label=LABELS, **config))
    model.save_pretrained(folder)
    TubeViTVideoProcessor(**SMALL, **processor).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "long.mp4"
    write_video(path, moving_frames(100, 32, 48), fps=25)  # 4 s
    return path


def windows_of(stream: TubeViTStream, path) -> list:
    found = [window for frame in VideoSource(str(path)) for window in stream.push(frame.picture, frame.seconds)]
    return found + stream.finish()


@pytest.mark.parametrize(
    ("config", "stride"),
    [
        ({}, 1),
        ({"tubes": MERGED}, 2),
        ({"tubes": MERGED, "interpolate_kernels": True, "interpolated_kernel_size": [3, 4, 4]}, 3),
        ({"use_frame_differences": True, "pooling": "cls"}, 4),
        ({"position_embedding": "learned"}, 8),
    ],
)
def test_windows_are_clips_of_the_video(tmp_path, video, config, stride):
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10}, **config)
    stream = TubeViTStream.from_pretrained(name, window_stride=stride)
    windows = windows_of(stream, video)
    assert len(windows) == (40 - 8) // stride + 1 and windows[1].start == stride / 10
    model = TubeViTForVideoClassification.from_pretrained(name)
    processor = TubeViTVideoProcessor.from_pretrained(name)
    for window in windows[:: max(1, len(windows) // 4)]:
        clip = processor(video, clip_start=window.start, return_tensors="pt")
        assert window.end - window.start == pytest.approx(0.8)
        with torch.no_grad():
            expected = model(**clip).logits[0]
        torch.testing.assert_close(window.logits, expected, atol=1e-5, rtol=1e-5)
        assert np.allclose(window.scores, expected.softmax(-1), atol=1e-6)
    assert not torch.allclose(windows[0].logits, windows[-1].logits, atol=1e-3)
    assert "project" not in vars(stream.tokens.embeddings), "the model is as before"


def test_a_window_length_makes_windows_of_uniform_processors(tmp_path, video, capsys):
    name = save_model(tmp_path / "model", {})
    with pytest.raises(ValueError, match="give window_seconds"):
        TubeViTStream.from_pretrained(name)
    stream = TubeViTStream.from_pretrained(name, window_seconds=1.6, window_stride=8)
    assert stream.rate == 5 and [window.start for window in windows_of(stream, video)] == [0.0, 1.6]
    for wrong in ({"window_seconds": 0.0}, {"window_seconds": math.inf}, {"window_seconds": 1.0, "window_stride": 9}):
        with pytest.raises((ValueError, ZeroDivisionError)):
            TubeViTStream.from_pretrained(name, **wrong)
    for argv, message in (  # of the command, the errors name its options
        ([], "a window has no length: give --window-seconds, for example"),
        (["--window-seconds", "1", "--stride", "9"], "--stride must be from 1 to the 8 frames of a window, got 9"),
        (["--window-seconds", "1", "--low", "0.7"], "0 < low <= high <= 1, got --low 0.7 and --high 0.6."),
        (["--window-seconds", "1", "--min-seconds", "-1"], "0 seconds or more, got --min-seconds -1."),
    ):
        assert main(["watch", str(video), "--model", name, *argv]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_each_label_group_has_its_own_probabilities(tmp_path, video):
    config = {"label_groups": [["noun", 3], ["verb", 2]]}
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10}, **config)
    window = windows_of(TubeViTStream.from_pretrained(name, window_stride=8), video)[0]
    assert np.allclose(window.scores[:3], window.logits[:3].double().softmax(0))
    assert np.allclose(window.scores[3:], window.logits[3:].double().softmax(0))
    argv = ["watch", str(video), "--model", name, "--output", str(tmp_path / "out"), "--duration", "1"]
    assert main([*argv, "--high", "0.1", "--low", "0.1"]) == 0
    rows = (tmp_path / "out" / "windows.csv").read_text().splitlines()[1:3]
    assert [row.split(",")[2] in list(LABELS.values())[:3] for row in rows] == [True, False]


def test_frames_are_prepared_once_and_tokens_computed_once(tmp_path, video, monkeypatch):
    """
    With windows that overlap by 7/8, a model call per window reads 8 times as many frames. A tube whose stride in time is a multiple of
    the windows' stride is computed once for every position.
    """
    tubes = [{"kernel_size": [2, 4, 4], "stride": [1, 8, 8]}, {"kernel_size": [1, 8, 8], "stride": [1, 8, 8]}]
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10}, tubes=tubes)
    stream = TubeViTStream.from_pretrained(name)
    prepared = []
    read = stream.classifier.processor.preprocess
    monkeypatch.setattr(
        stream.classifier.processor,
        "preprocess",
        lambda videos, **kwargs: prepared.append(len(videos)) or read(videos, **kwargs),
    )
    windows = windows_of(stream, video)
    assert stream.window_stride == 1 and len(windows) == 33
    assert sum(prepared) == stream.num_prepared == 40 < len(windows) * 8 / 6
    per_frame = 4  # tokens of one position in time, for each tube
    assert stream.tokens.num_tokens == 33 * (7 + 8) * per_frame
    assert stream.tokens.num_computed == (39 + 40) * per_frame
    assert stream.tokens.num_computed * 6 < stream.tokens.num_tokens


def test_the_model_may_move_between_two_frames(tmp_path, video):
    """Other dtypes and the meta device stand in for a GPU."""
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    stream, other = (TubeViTStream.from_pretrained(name, window_stride=2, dtype=each) for each in ("auto", "float32"))
    other.classifier.model.double()
    expected = windows_of(other, video)
    frames, found = list(VideoSource(str(video))), []
    for number, frame in enumerate(frames):
        found += stream.push(frame.picture, frame.seconds)
        if number == len(frames) // 2:
            num_single = len(found)
            stream.classifier.model.double()
    assert 2 < num_single < len(found) - 2
    for index, (window, twin) in enumerate(zip(found, expected, strict=False)):
        assert torch.equal(window.logits, twin.logits) == (index >= num_single), index
        torch.testing.assert_close(window.logits, twin.logits, atol=1e-5, rtol=1e-5)
    stream.reset()
    stream.classifier.model.to("meta")
    with pytest.raises(NotImplementedError, match="meta tensor"):  # no logits
        windows_of(stream, video)
    assert stream.buffer.is_meta and all(row.is_meta for row in stream.tokens.rows.values())


def test_the_work_of_a_stream_is_compared_with_calls(tmp_path, video, capsys):
    """In both tubes, 2 of 4 positions in time are those of the window 4 frames earlier."""
    tubes = [{"kernel_size": [2, 4, 4], "stride": [2, 8, 8]}, {"kernel_size": [1, 8, 8], "stride": [2, 8, 8]}]
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10}, tubes=tubes)
    stream = TubeViTStream.from_pretrained(name, window_stride=4)
    report = window_work.measure(stream, str(video), num_windows=4, rounds=1)
    counts = report["multiplications"]
    hidden_size = stream.classifier.model.config.hidden_size
    per_position = 4 * 3 * (2 * 4 * 4 + 8 * 8) * hidden_size  # 4 places in a frame, 3 channels
    assert [counts[name][1] for name in ("stream", "calls")] == [2 * per_position, 4 * per_position]
    assert counts["stream"][3] == counts["calls"][3] > 0 and report["difference"] < 1e-5
    assert all(milliseconds > 0 for route in report["milliseconds"].values() for milliseconds in route)
    with pytest.raises(ValueError, match="too short for 10 windows: give a longer"):
        window_work.measure(stream, str(video), num_windows=8, rounds=1)
    assert window_work.main([name, "--video", str(video), "--stride", "8", "--windows", "1", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Windows of 8 frames, one every 8." in shown and "file to tokens" in shown
    with pytest.raises(SystemExit):
        window_work.main([name, "--preset", "tiny"])
    assert f"--preset tiny has no effect on {name}" in capsys.readouterr().err


def test_memory_stays_flat(tmp_path):
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    stream = TubeViTStream.from_pretrained(name)
    frames = moving_frames(16, 16, 16)
    sizes = []
    for index in range(200):
        stream.push(frames[index % 16], index / 10)
        sizes.append((len(stream.tokens.rows), stream.num_buffered, len(stream.waiting)))
    assert max(sizes[20:]) == max(sizes[-20:]) and max(map(sum, sizes)) < 60


def test_other_families_have_windows_too(tmp_path, video):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = VideoMAEConfig(**sizes, image_size=16, patch_size=8, num_frames=4, tubelet_size=2, num_labels=3)
    VideoMAEForVideoClassification(config).save_pretrained(tmp_path / "model")
    VideoMAEImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        tmp_path / "model"
    )
    stream = TubeViTStream.from_pretrained(str(tmp_path / "model"), window_seconds=1.0)
    windows = windows_of(stream, video)
    assert stream.tokens is None and len(windows) == 16 - 4 + 1
    assert all(window.scores.sum() == pytest.approx(1) for window in windows)


def test_frames_with_gaps_are_shown_until_the_next(tmp_path):
    """A frame is visible until the next one begins, as in a clip at a fixed rate."""
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    frames = moving_frames(4, 16, 16)
    times = [0.0, 0.15, 0.62, 0.9]
    stream = TubeViTStream.from_pretrained(name, window_stride=8)
    taken = []
    windows = []
    for index, seconds in enumerate(times):
        windows += stream.push(lambda index=index: taken.append(index) or frames[index], 5 + seconds)
    assert taken == [0, 1, 2] and len(windows) == 1  # times 0 0.1 | 0.2 ... 0.6 | 0.7
    clip = np.stack([frames[index] for index in (0, 0, 1, 1, 1, 1, 1, 2)])
    processor = TubeViTVideoProcessor.from_pretrained(name)
    with torch.no_grad():
        expected = TubeViTForVideoClassification.from_pretrained(name)(
            **processor(clip, do_sample_frames=False, return_tensors="pt")
        )
    torch.testing.assert_close(windows[0].logits, expected.logits[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="follows one at"):
        stream.push(frames[0], 5.9)


def test_events_are_written_before_an_error_is_raised(tmp_path, video, monkeypatch):
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    classify, calls = TubeViTStream._classify, []

    def broken(stream):
        calls.append(None)
        if len(calls) > 5:
            raise RuntimeError("out of memory")
        return classify(stream)

    monkeypatch.setattr(TubeViTStream, "_classify", broken)
    argv = ["watch", str(video), "--model", name, "--output", str(tmp_path / "out"), "--high", "0.2", "--low", "0.1"]
    with pytest.raises(RuntimeError):
        main(argv)
    found = json.loads((tmp_path / "out" / "events.json").read_text())
    assert found["problem"] == "out of memory" and found["windows"] == 5 and found["events"]


def detect(scores: list[float], **settings) -> list[Event]:
    detector = EventDetector(["a", "b"], smoothing=1, **settings)
    events = []
    for index, score in enumerate(scores):
        events += detector.add(float(index), np.array([score, 1 - score]))[2]
    return [event for event in events + detector.finish() if event.label == "a"]


def test_events_have_hysteresis():
    scores = [0.1, 0.5, 0.7, 0.5, 0.3, 0.5, 0.5, 0.1, 0.9]
    found = detect(scores, high=0.6, low=0.4)
    assert [(event.start, event.end, event.score) for event in found] == [(1, 3, 0.7), (8, 8, 0.9)]
    assert [(event.start, event.end) for event in detect(scores, high=0.5, low=0.4)] == [(1, 3), (5, 6), (8, 8)]
    assert [(event.start, event.end) for event in detect(scores, half_window=0.5, min_seconds=1.5)] == [(0.5, 3.5)]
    assert detect(scores, ignored={"a"}) == []
    for wrong in ({"high": 0.3, "low": 0.4}, {"low": 0.0}, {"high": 1.1}, {"min_seconds": -1}, {"ignored": ["c"]}):
        with pytest.raises(ValueError):
            detect(scores, **wrong)


def test_smoothing_is_the_mean_at_the_mean_time():
    detector = EventDetector(["a"], smoothing=3)
    values = [detector.add(float(index), np.array([score])) for index, score in enumerate([0.0, 0.3, 0.9, 0.6])]
    assert [time for time, _, _ in values] == [0.0, 0.5, 1.0, 2.0]
    assert np.allclose([scores[0] for _, scores, _ in values], [0.0, 0.15, 0.4, 0.6])


def test_a_long_history_keeps_its_peaks():
    history = ScoreHistory(2, size=16)
    for index in range(1000):
        history.add(index / 10, np.array([float(index == 777), 0.1]))
    times, scores = history.columns()
    assert len(times) <= 16 and scores[:, 0].max() == 1 and scores[:, 1].max() == np.float32(0.1)
    assert abs(times[scores[:, 0].argmax()] - 77.7) < 100 / 8 and (np.diff(times) > 0).all()


def test_files_hold_the_events(tmp_path):
    events = [Event("b <& c>", 61.5, 3725.25, 0.75), Event("a\n-->", 1.0, 2.0, 0.5)]
    write_events(tmp_path, events, {"source": "x.mp4"})
    assert read_events(tmp_path / "events.json") == [events[1], events[0]]
    text = (tmp_path / "events.vtt").read_text()
    assert text.startswith("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na --&gt; (50 %)\n\n")
    assert "00:01:01.500 --> 01:02:05.250\nb &lt;&amp; c&gt; (75 %)" in text
    assert (tmp_path / "events.csv").read_text().splitlines()[-1] == "b <& c>,61.500,3725.250,0.7500"
    assert clock(0.0004) == "00:00:00.000" and clock(59.9996) == "00:01:00.000"


def test_scores_of_events():
    expected = [Event("a", 0, 2, 1), Event("b", 2, 4, 1)]
    assert frame_accuracy(expected, expected, 4) == 1 and event_f1(expected, expected)["f1"] == 1
    found = [Event("a", 0, 1.9, 0.9), Event("a", 0.1, 2, 0.8), Event("b", 3.5, 4, 0.9)]
    scores = event_f1(found, expected)
    assert scores == {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": pytest.approx(0.4)}
    assert frame_accuracy(found, expected, 4) == pytest.approx(0.625, abs=0.03)
    assert event_f1([], expected)["f1"] == event_f1(expected, [])["f1"] == 0


def test_frame_accuracy_counts_overlapping_and_touching_events():
    expected = [Event("a", 0, 2, 1), Event("b", 1, 3, 1)]
    assert frame_accuracy([Event("a", 0, 1, 1), Event("a", 1, 2, 1), Event("b", 1, 3, 1)], expected, 3) == 1
    assert frame_accuracy([Event("a", 0, 3, 1)], expected, 3) == pytest.approx(1 / 3)
    assert frame_accuracy([], expected, 6) == 0.5 and math.isnan(frame_accuracy([], [], 0))
    assert cut_events(expected, 1) == [Event("a", 0, 1, 1)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "label,begin\nwalk,1\n", "columns label, start and end"),
        ("a.csv", "label,start,end\nwalk,1,x\n", "could not convert"),
        ("a.csv", "label,start,end\nwalk,2,1\n", "from 2 to 1 s"),
        ("a.json", "[]", "needs a CSV"),
        ("a.json", '{"events": [{"label": "walk"}]}', "needs a CSV"),
        ("a.csv", "label,start,end\nfly,1,2\n", "no class 'fly'"),
    ],
)
def test_wrong_truth_is_refused_before_the_video_is_read(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words) as found:
        read_truth(tmp_path / name, list(LABELS.values()), [])
    assert "\n" not in str(found.value)


def test_the_command_compares_with_known_events(tmp_path, video, capsys):
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    argv = ["watch", str(video), "--model", name, "--high", "0.3", "--low", "0.2", "--stride", "2"]
    assert main([*argv, "--output", str(tmp_path / "first")]) == 0
    assert "event F1" not in capsys.readouterr().out
    # Its own events, with one that is ignored and one behind the end of the video.
    rows = (tmp_path / "first" / "events.csv").read_text().splitlines()
    assert len(rows) > 1
    (tmp_path / "truth.csv").write_text("\n".join([*rows, "background,0,4,1", f"{rows[1].split(',')[0]},7,8,1"]))
    truth = ["--truth", str(tmp_path / "truth.csv"), "--ignore", "stand"]
    assert main([*argv, *truth]) == 2 and "no class 'background'" in capsys.readouterr().err
    (tmp_path / "truth.csv").write_text("\n".join([*rows, f"{rows[1].split(',')[0]},7,8,1"]))
    assert main([*argv, *truth[:2], "--output", str(tmp_path / "second")]) == 0
    assert "frame accuracy 100.0 %, event F1 1.000" in capsys.readouterr().out
    scores = json.loads((tmp_path / "second" / "events.json").read_text())["scores"]
    assert scores["num_expected"] == len(rows) - 1 and scores["f1"] == scores["frame_accuracy"] == 1


def test_a_long_video_has_the_events_of_its_clips(tmp_path):
    """Every event shows its own clip, whatever the size and rate of the clip."""
    clips, sizes = [], {"bright": (32, 48), "dark": (40, 20), "gray": (32, 32)}
    for (label, size), level in zip(sizes.items(), (220, 20, 120), strict=True):
        write_video(tmp_path / f"{label}.mp4", np.full((10, *size, 3), level, np.uint8), fps=20)
        clips.append(LabeledClip(tmp_path / f"{label}.mp4", label))
    path = tmp_path / "long.mp4"
    events = write_long_video(path, clips, seconds=12, repeats=2, size=(32, 32), fps=10, seed=0)
    assert events[0].start == 0 and all(first.end == second.start for first, second in itertools.pairwise(events))
    assert all(first.label != second.label for first, second in itertools.pairwise(events))
    assert {event.label for event in events} == set(sizes)
    frames, metadata = decode_video(str(path))
    assert metadata.duration == pytest.approx(events[-1].end) and events[-1].end >= 12
    levels = {"bright": 220, "dark": 20, "gray": 120}
    for event in events:
        middle = frames[round(5 * (event.start + event.end)), :, 16, 16].float()
        assert middle.mean() == pytest.approx(levels[event.label], abs=6)
    assert frames[round(10 * next(event.start for event in events if event.label == "bright")), :, 2, 16].max() < 20


@pytest.mark.parametrize("split", ["", "val"])  # demo --quick writes val/ only
def test_options_of_watch_follow_after_two_dashes(split, tmp_path, monkeypatch, capsys):
    for label, level in (("dark", 20), ("bright", 220)):
        (tmp_path / "clips" / split / label).mkdir(parents=True)
        write_video(tmp_path / "clips" / split / label / "0.mp4", np.full((8, 32, 32, 3), level, np.uint8), fps=20)
    commands = []
    monkeypatch.setattr(long_video, "watch", lambda command: (commands.append(command), ([], []))[1])
    paths = ["m", str(tmp_path / "clips"), "--output", str(tmp_path / "long")]
    assert long_video.main([*paths, "--hours", "0.001", "--size", "32", "32", "--", "--stride", "4"]) == 0
    (command,) = commands
    assert command[-2:] == ["--stride", "4"] and command[command.index("--model") + 1] == "m"
    assert "events." in capsys.readouterr().out


def test_the_command_writes_a_timeline(tmp_path, video, capsys):
    from PIL import Image

    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    argv = ["watch", str(video), "--model", name, "--output", str(tmp_path / "out"), "--high", "0.3", "--low", "0.2"]
    assert main([*argv, "--stride", "2"]) == 0
    shown = capsys.readouterr().out
    assert "17 windows of 4.0 s of video" in shown and "tube tokens were computed" in shown
    assert "a call per window would prepare 3.4 times as many frames" in shown  # 17 times 8 instead of 40
    found = json.loads((tmp_path / "out" / "events.json").read_text())
    assert found["duration"] == pytest.approx(4.0) and found["windows"] == 17 and found["events"]
    assert all(
        event["label"] in LABELS.values() and 0 <= event["start"] < event["end"] <= 4 for event in found["events"]
    )
    assert len((tmp_path / "out" / "windows.csv").read_text().splitlines()) == 18
    assert Image.open(tmp_path / "out" / "timeline.png").width > 1000
    assert main(argv) == 2 and "out" in capsys.readouterr().err  # the folder exists
    assert main(["watch", str(video), "--model", name, "--duration", "2"]) == 0
    assert "windows of 2.0 s" in capsys.readouterr().out


def test_a_file_that_breaks_off_is_said(tmp_path, video, capsys):
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    path = tmp_path / "cut.ts"
    path.write_bytes(transport_stream(tmp_path)[: 188 * 20 + 5])
    main(["watch", str(path), "--model", name])
    capsys.readouterr()
    output = ["--output", str(tmp_path / "missing")]
    assert main(["watch", str(tmp_path / "missing.mp4"), "--model", name, *output]) == 2
    assert capsys.readouterr().out == "" and not (tmp_path / "missing").exists()
    (tmp_path / "missing.mp4").write_text("no video")
    assert main(["watch", str(tmp_path / "missing.mp4"), "--model", name, *output]) == 1
    shown = capsys.readouterr()
    assert "is not a video file" in shown.err and " windows of " not in shown.out.replace("Windows of", "")
    assert not (tmp_path / "missing").exists()
    address, _ = serve(transport_stream(tmp_path), times=1)
    secret = address.replace("//", "//user:secret@secret@") + "?passphrase=secret"
    assert main(["watch", secret, "--model", name, "--max-reconnects", "0", "--output", str(tmp_path / "out")]) == 1
    assert f"{address} is lost" in capsys.readouterr().err
    written = (tmp_path / "out" / "events.json").read_text()
    assert f"{address} is lost" in json.loads(written)["problem"] and "secret" not in written


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_source_that_is_stopped_before_its_first_frame_writes_nothing(how, tmp_path, video, monkeypatch, capsys):
    def stop(source):
        if how == "Ctrl-C":
            raise KeyboardInterrupt  # not the signal: a process in the background may ignore it
        signal.raise_signal(signal.SIGTERM)
        yield from ()

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(VideoSource, "__iter__", stop)
    name = save_model(tmp_path / "model", {"sampling": "fixed_rate", "fps": 10})
    assert main(["watch", str(video), "--model", name, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.endswith(f"Stopped.\nNo frame of {video} was read.\n")
    assert not (tmp_path / "out").exists() and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("option", ["--window-seconds", "--stall-seconds", "--duration"])
@pytest.mark.parametrize("value", ["0", "nan", "inf", "-1", "a"])
def test_seconds_are_finite_and_above_0(option, value, capsys):
    with pytest.raises(SystemExit):
        main(["watch", "a.mp4", "--model", "m", f"{option}={value}"])
    assert f"{option}: must be a number above 0, got '{value}'" in capsys.readouterr().err
