"""`tubevit data prepare`: frames and times of the copies, how they are stored, and runs that continue after a stop."""

import csv
import json
import math
import os
import shutil

import av
import numpy as np
import pytest
import torch
from dataset_files import add_clip
from tiny_runs import make_videos
from torchvision.transforms import v2
from video_files import moving_frames, write_video

from tubevit.processing import decode_video
from tubevit.training.cli import main
from tubevit.training.data import encoding
from tubevit.training.data import prepare as prepare_module
from tubevit.training.data.encoding import PrepareSettings, prepare_video, resize_short_side
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (one.double() - other.double()).square().mean()))


def prepare(*arguments) -> int:
    return main(["data", "prepare", *map(str, arguments), "--workers", "1"])


def smooth_frames(num_frames: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth frames, which chroma subsampling and resizing hardly change."""
    rows, columns = np.mgrid[:height, :width] / height
    frames = [
        np.stack([rows, columns / 2, 0.5 + 0.3 * np.sin(rows + columns + 0.2 * index)], axis=-1)
        for index in range(num_frames)
    ]
    return (np.stack(frames) * 200).astype(np.uint8)


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_copy_shows_the_same_frames_at_the_same_times(tmp_path, rotation):
    times = np.cumsum([0.03, 0.04, 0.1, 0.02] * 10)
    source = write_video(
        tmp_path / "a.mkv" if not rotation else tmp_path / "a.mp4",
        smooth_frames(40),
        times=times - times[0],
        start=2.0,
        b_frames=2,
        rotation=rotation,
        sample_aspect_ratio=2,
    )
    prepare_video(source, tmp_path / "out" / "b.mp4", PrepareSettings(short_side=64, gop=5, crf=5))
    before, metadata = decode_video(source)
    after, copied = decode_video(tmp_path / "out" / "b.mp4")
    assert after.shape[-2:] == ((170, 64) if rotation else (64, 170))
    np.testing.assert_allclose(copied.timestamps, metadata.timestamps, atol=1e-3)
    assert psnr(resize_short_side(before, 64), after) > 33
    # Each frame is more similar to its original than to the previous original.
    difference = (after[1:].double() - resize_short_side(before, 64)[:-1].double()).square().mean()
    assert difference > 2 * (after.double() - resize_short_side(before, 64).double()).square().mean()


def test_encoding_of_copies(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_frames(30, 64, 80), gop=250, b_frames=3, audio=True)
    prepare_video(source, tmp_path / "b.mp4", PrepareSettings(gop=6))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(container.streams) == 1  # no sound
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 6, 12, 18, 24]
    with av.open(str(tmp_path / "b.mp4")) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        assert len(list(container.decode(video=0))) <= 15  # only these frames are decoded for any frame of the video
    content = (tmp_path / "b.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_long_video_is_copied_in_parts(tmp_path, monkeypatch):
    source = write_video(tmp_path / "a.mp4", smooth_frames(50), gop=20, b_frames=2)
    prepare_video(source, tmp_path / "whole.mp4", PrepareSettings())
    monkeypatch.setattr(encoding, "MAX_PART_BYTES", 7 * 3 * 96 * 128)
    prepare_video(source, tmp_path / "parts.mp4", PrepareSettings())
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("size", [(17, 40), (40, 17), (10, 19), (240, 320)])
def test_copies_of_small_frames_have_the_aspect_ratio_of_the_original(tmp_path, size):
    height, width = size
    frames = np.zeros((4, height, width, 3), np.uint8)
    original = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    prepare_video(original, tmp_path / "copy.mp4", PrepareSettings(short_side=256))
    copy = decode_video(tmp_path / "copy.mp4")[0]
    assert abs(math.log(copy.shape[-1] / copy.shape[-2] * height / width)) < 0.02 + 0.5 / width


@pytest.mark.parametrize(("size", "expected"), [((480, 640), (256, 340)), ((100, 51), (100, 50)), ((2, 3), (2, 2))])
def test_sizes(size, expected):
    assert tuple(resize_short_side(torch.zeros(1, 3, *size, dtype=torch.uint8), 256).shape[-2:]) == expected


def test_resize_equals_torchvision():
    frames = torch.randint(0, 256, (2, 3, 100, 200), dtype=torch.uint8)
    assert torch.equal(resize_short_side(frames, 50), v2.functional.resize(frames, [50, 100], antialias=True))


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "originals"
    for name in ("a/one.mp4", "a/two.avi", "b/c/three.webm"):
        add_clip(folder / name)
    (folder / "notes.txt").write_text("not a video")
    return folder


def test_folder_layout_is_preserved_and_annotations_stay_valid(originals, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare_module, "ROUNDS", 1)
    contents = {path: path.read_bytes() for path in originals.rglob("*") if path.is_file()}
    assert prepare(originals, tmp_path / "out") == 0
    copies = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.mp4"))
    assert copies == ["a/one.mp4", "a/two.mp4", "b/c/three.mp4"]
    assert {path: path.read_bytes() for path in originals.rglob("*") if path.is_file()} == contents
    out = capsys.readouterr().out
    assert "3 of 3 videos are ready" in out and "times as fast" in out
    (tmp_path / "list.txt").write_text("a/two.avi 0\nb/c/three.webm 1\n")
    config = DataConfig(data=str(tmp_path / "list.txt"), video_root=str(tmp_path / "out"), validation_fraction=0.0)
    rows = load_video_dataset(config).splits["train"]
    assert [os.path.isfile(row["video"]["path"]) for row in rows] == [True, True]


def test_stopped_run_continues_and_changed_originals_are_copied_again(originals, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(originals, out, "--no-timing") == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    (out / "a" / "two.mp4").unlink()
    (out / "a" / ".two.mp4.123.unfinished").write_bytes(b"half")  # left by a killed run
    newer = add_clip(originals / "b" / "c" / "three.webm")
    os.utime(newer, (4e9, 4e9))
    assert prepare(originals, out, "--no-timing") == 0
    assert "1 of 3 videos have a copy already" in capsys.readouterr().out
    changed = {path.name for path in stamps if path.stat().st_mtime_ns != stamps[path]}
    assert changed == {"two.mp4", "three.mp4"}


def test_corrupt_originals_are_listed_and_have_no_copy(originals, tmp_path, capsys):
    (originals / "a" / "bad.mp4").write_text("no video")
    assert prepare(originals, tmp_path / "out", "--no-timing") == 1
    with open(tmp_path / "out" / "failed.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "reason"] and [row[0] for row in rows[1:]] == [str(originals / "a" / "bad.mp4")]
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert "bad.mp4" not in names and not any("unfinished" in name for name in names)
    (originals / "a" / "bad.mp4").unlink()
    assert prepare(originals, tmp_path / "out", "--no-timing") == 0
    assert not (tmp_path / "out" / "failed.csv").exists()


def error_of(capsys, *arguments) -> str:
    assert prepare(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_invalid_arguments_raise_one_line_and_write_nothing(originals, tmp_path, capsys):
    assert "must not contain each other" in error_of(capsys, originals, originals / "out")
    assert "must not contain each other" in error_of(capsys, originals, originals)
    assert "There is no folder" in error_of(capsys, tmp_path / "no", tmp_path / "out")
    assert "crf must be" in error_of(capsys, originals, tmp_path / "out", "--crf", 60)
    assert "preset" in error_of(capsys, originals, tmp_path / "out", "--preset", "quick")
    assert not (tmp_path / "out").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    assert "is not empty" in error_of(capsys, originals, tmp_path / "other")
    shutil.copy(originals / "a" / "one.mp4", originals / "a" / "two.mp4")
    assert "would both become" in error_of(capsys, originals, tmp_path / "out")


def test_other_settings_need_another_folder(originals, tmp_path, capsys):
    assert prepare(originals, tmp_path / "out", "--no-timing") == 0
    assert "was prepared with gop=24" in error_of(capsys, originals, tmp_path / "out", "--gop", 6)


def test_options_are_given_by_name_too(tmp_path):
    videos = make_videos(tmp_path / "videos", 2, 1)
    options = [f"source={videos}", f"target={tmp_path / 'copies'}", "short-side=16", "no_timing=true", "gop=6"]
    assert main(["data", "prepare", *options, "--workers", "1"]) == 0
    settings = json.loads((tmp_path / "copies" / "prepare.json").read_text())
    assert (settings["short_side"], settings["gop"]) == (16, 6)
    assert len(list((tmp_path / "copies").rglob("*.mp4"))) == 9


def test_a_missing_target_is_an_error(tmp_path, capsys):
    assert main(["data", "prepare", str(tmp_path)]) == 2
    assert "Give a folder of videos and a folder for their copies" in capsys.readouterr().err
