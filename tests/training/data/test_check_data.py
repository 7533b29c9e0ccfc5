"""`tubevit data check` finds files that cannot be read; its pool of processes survives files that crash a process."""

import hashlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from dataset_files import add_clip, add_table, class_folders, clip_bytes
from PIL import Image
from pool_functions import fail_at, sleep_long_for_3, square_unless_deadly
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.data import annotation_index, check_data, dataset_columns
from tubevit.training.data.check_data import (
    CorruptVideo,
    ReadableFiles,
    check_videos,
    drop_corrupt,
    read_report,
    write_report,
)
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset
from tubevit.training.data.worker_processes import ProcessDied, TimedOut, choose_num_workers, map_in_processes
from tubevit.training.environment import cache_id
from tubevit.training.trainer import build


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


# Processes


def test_script_without_main_guard(tmp_path):
    """Processes do not import the script that runs. If they did, each would run it again, and no item would have a result."""
    script = tmp_path / "script.py"
    script.write_text(
        "from tubevit.training.data.worker_processes import map_in_processes\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('run ')\n"
        "print('found', sorted(map_in_processes(abs, [-1, 2], 2, 2, 'x')))\n"
    )
    ended = run_python(script)
    assert "found [(-1, 1), (2, 2)]" in ended.stdout, ended.stderr
    assert (tmp_path / "runs").read_text() == "run "


@pytest.mark.parametrize("num_workers", [1, 2])
def test_time_limit_of_an_item(num_workers):
    items = map_in_processes(sleep_long_for_3, range(6), 6, num_workers, "x", seconds_per_item=1.0)
    found = dict(items)
    assert isinstance(found.pop(3), TimedOut)
    assert found == {number: number for number in (0, 1, 2, 4, 5)}


def test_file_that_takes_too_long_is_reported(tmp_path, monkeypatch):
    class_folders(tmp_path, {"": {"a": 1, "b": 1}})
    original = check_data._check_video

    def hang_at_b(video, every_frame):
        if f"{os.sep}b{os.sep}" in video["path"]:
            time.sleep(2)
        return original(video, every_frame)

    monkeypatch.setattr(check_data, "_check_video", hang_at_b)
    bad, seconds = check_videos(load(tmp_path), num_workers=1, seconds_per_file=0.5)
    assert [video.reason for video in bad] == ["decoding takes longer than 0.5 s"] and seconds > 0


# Files of earlier checks, and several processes of a run


def test_readable_files_are_opened_once_until_they_change(broken_set, tmp_path, monkeypatch):
    opened = []
    original = check_data._check_video
    monkeypatch.setattr(
        check_data, "_check_video", lambda video, every: opened.append(video["path"]) or original(video, every)
    )
    path, data = tmp_path / "cache" / "readable.bin", load(broken_set)
    first = check_videos(data, num_workers=1, readable_files=ReadableFiles(path))
    assert len(opened) == 13 and len(ReadableFiles(path)) == 8
    opened.clear()
    again = ReadableFiles(path)
    assert check_videos(data, num_workers=1, readable_files=again) == first and again.num_used == 8
    assert {Path(name).name for name in opened} == {Path(video.path).name for video in first[0]}  # the corrupt ones
    (broken_set / "train" / "b" / "dangling.mp4").unlink()
    changed = broken_set / "train" / "b" / "1.mp4"
    changed.write_bytes(changed.read_bytes()[:-200])
    bad, _ = check_videos(data, num_workers=1, readable_files=ReadableFiles(path))
    assert {Path(video.path).name for video in bad} - {Path(video.path).name for video in first[0]} == {"1.mp4"}


def test_readable_files_are_found_again_however_their_run_ended(tmp_path):
    """Among 40,000 of them, in memory and from the file, also behind the incomplete record of a run that was killed."""
    files, keys = ReadableFiles(tmp_path / "readable.bin"), [blake2b_key(number) for number in range(40_000)]
    for first in range(0, len(keys), 64):
        files.add((key, float(number)) for number, key in enumerate(keys[first : first + 64], first))
    files.add([(keys[5], -1.0), (None, 3.0)])  # known already, and a file without key
    assert len(files) == 40_000 and len(files.new) <= check_data.NUM_UNSORTED
    again = ReadableFiles(files.path)
    for each in (files, again):
        assert [each.get(keys[number]) for number in (0, 5, 20_000, 39_999)] == [0.0, 5.0, 20_000.0, 39_999.0]
        assert each.get(blake2b_key(-1)) is None and each.get(None) is None and each.num_used == 4
    assert again.keys.nbytes + again.seconds.nbytes == files.path.stat().st_size == 16 * 40_000
    files.path.write_bytes(files.path.read_bytes()[:-5])
    cut = ReadableFiles(files.path)
    assert cut.get(keys[39_998]) is not None and cut.get(keys[39_999]) is None
    cut.add([(keys[39_999], 1.0), (blake2b_key("new"), 2.0)])
    again = ReadableFiles(files.path)
    assert {again.get(key) for key in keys[:39_999]} == set(map(float, range(39_999)))


def blake2b_key(value) -> int:
    return int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest(), "little")


def test_one_process_of_each_cache_writes_it(tmp_path, monkeypatch):
    """Of four processes on two machines whose caches differ, the first of each machine; of a cache that all see, the first."""
    for folders, writers in (("aabb", [True, False, True, False]), ("aaaa", [True, False, False, False])):
        ids = []
        for name in folders:
            monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / folders / name))
            ids.append(cache_id())
        monkeypatch.setattr(check_data, "gather_on_cpu", lambda own, ids=ids: ids)
        found = []
        for rank in range(4):
            monkeypatch.setattr(check_data, "_rank", lambda rank=rank: (rank, 4))
            found.append(check_data.writes_cache())
        assert found == writers
    assert [path.name for path in (tmp_path / "aaaa" / "a").iterdir()] == ["id"]


def test_unwritable_memory_is_said(tmp_path):
    files = ReadableFiles(tmp_path / "file" / "readable.bin")
    (tmp_path / "file").write_text("no folder")
    files.add([(7, 1.0)])
    assert "cannot be written" in files.error


@pytest.mark.parametrize("files_per_exchange", [1, 4, 100])
def test_processes_of_a_run_share_the_files(broken_set, tmp_path, monkeypatch, files_per_exchange):
    """Both processes get the result of one that checks all files, and each opens half of them."""
    data, opened, barrier, parts = load(broken_set), {0: 0, 1: 0}, threading.Barrier(2), {}
    expected = check_videos(data, num_workers=1)
    current = threading.local()

    def gather(part):
        parts[current.rank] = part
        barrier.wait(60)
        of_ranks = [parts[0], parts[1]]
        barrier.wait(60)
        return of_ranks

    def run(rank):
        current.rank = rank
        files = ReadableFiles(tmp_path / "readable.bin", is_writer=rank == 0)
        return check_videos(data, num_workers=1, seconds_per_file=None, readable_files=files, is_shared=True)

    original = check_data._check_video
    monkeypatch.setattr(check_data, "FILES_PER_EXCHANGE", files_per_exchange)
    monkeypatch.setattr(check_data, "_rank", lambda: (current.rank, 2))
    monkeypatch.setattr(check_data, "gather_on_cpu", gather)

    def check(video, every_frame):
        opened[current.rank] += 1
        return original(video, every_frame)

    monkeypatch.setattr(check_data, "_check_video", check)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, (0, 1)))
    assert results == [expected, expected]
    assert sorted(opened.values()) == [6, 7]
    assert len(ReadableFiles(tmp_path / "readable.bin")) == 8


def test_a_check_that_is_killed_continues(broken_set, tmp_path, monkeypatch):
    data, opened, original = load(broken_set), [], check_data._check_video
    expected = check_videos(data, num_workers=1)

    def check(video, every_frame):
        if len(opened) == 9:
            raise KeyboardInterrupt
        opened.append(video["path"])
        return original(video, every_frame)

    def run():
        files = ReadableFiles(tmp_path / "readable.bin")
        return check_videos(data, num_workers=1, seconds_per_file=None, readable_files=files)

    monkeypatch.setattr(check_data, "_check_video", check)
    monkeypatch.setattr(check_data, "FILES_PER_EXCHANGE", 4)
    with pytest.raises(KeyboardInterrupt):
        run()
    readable = len(ReadableFiles(tmp_path / "readable.bin"))
    assert 0 < readable < 8
    opened[:] = [None] * 10
    assert run() == expected
    assert len(opened) - 10 == 13 - readable


@pytest.fixture
def indexed_set(tmp_path, monkeypatch) -> object:
    """1,000 empty files with an index, in a cache of its own."""
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(500):
            (tmp_path / "data" / name / f"{number}.mp4").touch()
    return load(tmp_path / "data")


def test_an_index_that_was_checked_is_not_checked_again(indexed_set, tmp_path, monkeypatch):
    path, checks = tmp_path / "data" / "a" / "7.mp4", []
    corrupt = [CorruptVideo("train", "a/7.mp4", str(path), "it is empty")]

    def check(data, **options):
        checks.append(data)
        return corrupt, 0.0

    monkeypatch.setattr(build, "check_videos", check)
    assert build._check_files(indexed_set) == corrupt and len(checks) == 1
    again = load(tmp_path / "data")
    assert build._check_files(again) == corrupt and len(checks) == 1
    assert "checked on" in again.messages[-1]
    path.write_bytes(clip_bytes())  # the corrupt file was replaced
    assert build._check_files(load(tmp_path / "data")) == corrupt and len(checks) == 2
    monkeypatch.setattr(check_data, "version", lambda name: "0")
    assert build._check_files(load(tmp_path / "data")) == corrupt and len(checks) == 3
    (tmp_path / "data" / "b" / "new.mp4").touch()
    assert build._check_files(load(tmp_path / "data")) == corrupt and len(checks) == 4


def test_processes_with_other_rows_do_not_start(indexed_set, tmp_path, monkeypatch):
    """Machines with own caches agree, whether they map an index or read the annotations; machines with other files do not."""
    prints, folder = [dataset_columns.fingerprint_rows(indexed_set)], tmp_path / "data"
    monkeypatch.setattr(annotation_index, "MIN_ROWS", 10_000)
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "other cache"))
    read = load(folder)
    assert indexed_set.index is not None and read.index is None
    (folder / "a" / "7.mp4").rename(folder / "a" / "new.mp4")
    for data in (read, load(folder)):
        prints.append(dataset_columns.fingerprint_rows(data))
    assert prints[0] == prints[1] != prints[2]
    monkeypatch.setattr(build, "PartialState", lambda: SimpleNamespace(num_processes=2))
    monkeypatch.setattr(build, "gather_on_cpu", lambda own: [own, prints[0]])
    assert build.check_same_rows(read) is read
    with pytest.raises(ValueError, match="The processes of the run read different annotations"):
        build.check_same_rows(load(folder))
