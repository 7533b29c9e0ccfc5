"""`tubevit data check` finds files that cannot be read; its pool of processes survives files that crash a process."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from dataset_files import add_clip, add_table, class_folders, clip_bytes
from PIL import Image
from pool_functions import fail_at, square_unless_deadly

from tubevit.training.cli import main
from tubevit.training.data.check_data import CorruptVideo, check_videos, drop_corrupt, read_report, write_report
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.data.worker_processes import ProcessDied, choose_num_workers, map_in_processes


def flip_bits(path: Path) -> None:
    """Change 200 bytes of a file that are not part of its first or last frame."""
    content = bytearray(path.read_bytes())
    for index in range(len(content) // 3, len(content) // 3 + 200):
        content[index] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def broken_set(tmp_path) -> Path:
    """Readable videos of two classes, three of each in train/ and one in val/, and one corrupt video of every kind."""
    class_folders(tmp_path, {"train": {"a": 3, "b": 3}, "val": {"a": 1, "b": 1}})
    train = tmp_path / "train"
    (train / "a" / "empty.mp4").write_bytes(b"")
    (train / "a" / "text.mp4").write_text("This is no video.")
    (train / "a" / "cut.mp4").write_bytes(clip_bytes()[:-200])
    (train / "b" / "dangling.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "val" / "b" / "random.webm").write_bytes(os.urandom(3000))
    return tmp_path


def load(folder) -> object:
    return load_video_dataset(DataConfig(data=str(folder), validation_fraction=0.0))


def test_every_corrupt_file_is_found_with_its_reason(broken_set):
    bad, seconds = check_videos(load(broken_set), num_workers=1)
    found = {(video.split, Path(video.path).name): video.reason for video in bad}
    assert list(found) == [
        ("train", "cut.mp4"),
        ("train", "empty.mp4"),
        ("train", "text.mp4"),
        ("train", "dangling.mp4"),
        ("validation", "random.webm"),
    ]
    assert "empty" in found["train", "empty.mp4"] and "not a video file" in found["train", "text.mp4"]
    assert all("\n" not in reason for reason in found.values())
    assert seconds == pytest.approx(8 * 1.2, rel=0.02)


def test_missing_files_of_annotations_are_found(tmp_path):
    add_clip(tmp_path / "here.mp4")
    file = add_table(tmp_path / "a.csv", [{"path": name, "label": "x"} for name in ("here.mp4", "gone.mp4")])
    bad, _ = check_videos(load(file), num_workers=1)
    assert [(video.video_id, video.reason) for video in bad] == [("gone.mp4", "No such file or directory")]


def test_damage_in_the_middle_is_found_with_every_frame(tmp_path):
    class_folders(tmp_path, {"": {"a": 1, "b": 1}})
    path = add_clip(tmp_path / "b" / "1.mp4", num_frames=60)
    flip_bits(path)
    data = load(tmp_path)
    assert check_videos(data, num_workers=1)[0] == []
    bad, _ = check_videos(data, every_frame=True, num_workers=1)
    assert [video.path for video in bad] == [str(path)]


def test_two_processes_give_the_result_of_one(broken_set):
    data = load(broken_set)
    assert check_videos(data, num_workers=2)[0] == check_videos(data, num_workers=1)[0]


def test_images_are_checked(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.effect_noise((64, 64), 50).save(tmp_path / name / "good.png")
    (tmp_path / "b" / "bad.png").write_bytes((tmp_path / "b" / "good.png").read_bytes()[:2000])
    bad, seconds = check_videos(load(tmp_path), num_workers=1)
    assert [Path(image.path).name for image in bad] == ["bad.png"] and seconds == 0


def test_corrupt_videos_are_dropped_and_counted(broken_set):
    data = load(broken_set)
    bad, _ = check_videos(data, num_workers=1)
    readable = drop_corrupt(data, bad, max_corrupt_fraction=0.5)
    assert {split: len(rows) for split, rows in readable.splits.items()} == {"train": 6, "validation": 2}
    assert readable.class_names == data.class_names and check_videos(readable, num_workers=1)[0] == []
    counted = ["4 of 10 videos of the train split", "1 of 3 videos of the validation split"]
    firsts = [next(video for video in bad if video.split == split) for split in ("train", "validation")]
    assert readable.messages == [
        f"{count} cannot be read and are dropped; the first: {first.path}: {first.reason}"
        for count, first in zip(counted, firsts, strict=True)
    ]
    with pytest.raises(
        ValueError, match=r"4 of 10 videos of the train split cannot be read, more than max_corrupt_fraction=0\.3"
    ):
        drop_corrupt(data, bad, max_corrupt_fraction=0.3)
    with pytest.raises(ValueError, match="on_corrupt_video=skip"):
        drop_corrupt(data, bad, on_corrupt_video="raise")
    with pytest.raises(ValueError, match="skip or raise"):
        drop_corrupt(data, bad, on_corrupt_video="ignore")
    assert drop_corrupt(data, [], on_corrupt_video="raise").messages == []


def test_split_without_readable_videos_raises(tmp_path):
    class_folders(tmp_path, {"": {"a": 1, "b": 1}})
    data = load(tmp_path)
    bad = [CorruptVideo("train", row["video_id"], "", "x") for row in data.splits["train"]]
    with pytest.raises(ValueError, match="2 of 2"):
        drop_corrupt(data, bad, max_corrupt_fraction=1.0)


def test_report_round_trip(tmp_path):
    bad = [CorruptVideo("train", 'a,"b"', "/x y/ü.mp4", "is, well, damaged"), CorruptVideo("test", "c", "", "gone")]
    write_report(bad, tmp_path / "report.csv")
    assert read_report(tmp_path / "report.csv") == bad


def test_the_command(capsys, broken_set, tmp_path):
    report = tmp_path / "report.csv"
    assert main(["data", "check", str(broken_set), "--workers", "1", "--report", str(report)]) == 1
    out = capsys.readouterr().out
    assert "train: 10 videos, 4 cannot be read" in out and "5 of 13 cannot be read" in out
    assert len(read_report(report)) == 5
    shutil.rmtree(broken_set / "val")
    for name in ("empty", "text", "cut"):
        (broken_set / "train" / "a" / f"{name}.mp4").unlink()
    (broken_set / "train" / "b" / "dangling.mp4").unlink()
    report.unlink()
    assert main(["data", "check", str(broken_set), "--workers", "1", "--report", str(report)]) == 0
    assert not report.exists() and "2 classes, 0.00 hours" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "no"), "--report", str(tmp_path / "no" / "x.csv")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_crashed_process_affects_only_its_item():
    found = dict(map_in_processes(square_unless_deadly, range(12), 12, 2, "squaring"))
    assert isinstance(found.pop(5), ProcessDied)
    assert found == {number: number**2 for number in range(12) if number != 5}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_exceptions_of_workers_propagate(num_workers):
    with pytest.raises(ValueError, match="3 is bad"):
        list(map_in_processes(partial(fail_at, bad=3), range(9), 9, num_workers, "x"))


def test_number_of_workers():
    assert choose_num_workers(None, 3) == 1 and choose_num_workers(3, 1) == 3
    assert 1 <= choose_num_workers(None, 10_000) <= (os.cpu_count() or 1)
    assert choose_num_workers(None, 100, files_per_process=200) == 1  # opening files is faster than starting a process
    with pytest.raises(ValueError):
        choose_num_workers(0, 3)
