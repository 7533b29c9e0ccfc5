"""The index of annotations equals what is read anew, is used while nothing has changed, and is never trusted otherwise."""

import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest

from tubevit.training.data import annotation_index, video_datasets
from tubevit.training.data.annotation_index import MIN_ROWS, _hash_file
from tubevit.training.data.video_datasets import DataConfig, load_video_dataset


NUM_VIDEOS = MIN_ROWS + 30


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def class_folders(root: Path) -> DataConfig:
    for number in range(NUM_VIDEOS):
        path = root / f"class {number % 3}" / f"v_g{number % 40:02d}_c{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return DataConfig(data=str(root), group_pattern=r"_g(\d+)_")


def kinetics(root: Path) -> DataConfig:
    """CSV files of two splits, with names that are missing, films with segments, and clips."""
    for split in ("train", "validate"):
        (root / split).mkdir(parents=True)
        lines = ["label,youtube_id,time_start,time_end,split"]
        for number in range(NUM_VIDEOS if split == "train" else 20):
            name = f"{split}{number:06d}"
            lines.append(f"class {number % 3},{name},5,15,{split}")
            if number % 7:
                (root / split / (f"{name}_000005_000015.mp4" if number % 2 else f"{name}.mp4")).touch()
        (root / f"{split}.csv").write_text("\n".join(lines))
    return DataConfig(data=str(root), num_classes=3)


def table(root: Path) -> DataConfig:
    """Several labels per video, and videos that are frame folders."""
    root.mkdir()
    lines = ["path,label"]
    for number in range(NUM_VIDEOS):
        (root / f"v{number:05d}").mkdir()
        lines.append(f"v{number:05d},{'a;b' if number % 2 else 'c'}")
    (root / "train.csv").write_text("\n".join(lines))
    return DataConfig(data=str(root / "train.csv"), multi_label=True, frame_folder_fps=10.0)


def content(data) -> tuple:
    rows = {split: rows[:] for split, rows in data.splits.items()}
    groups = {split: list(groups) for split, groups in data.groups.items()}
    return rows, groups, data.class_names, data.multi_label, data.media, data.data_format


@pytest.mark.parametrize("make", [class_folders, kinetics, table])
def test_the_mapped_rows_equal_those_that_are_read(make, tmp_path, monkeypatch):
    config = make(tmp_path / "data")
    monkeypatch.setattr(annotation_index, "MIN_ROWS", 10**9)
    read = load_video_dataset(config)
    monkeypatch.undo()
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    first = load_video_dataset(config)
    monkeypatch.setattr(video_datasets, "find_sources", None)  # nothing is read again
    second = load_video_dataset(config)
    assert read.index is None and first.index == second.index is not None
    assert content(first) == content(second) == content(read)
    assert first.messages[:-1] == second.messages[:-1] == read.messages
    assert "were read in" in first.messages[-1] and "mapped from the index" in second.messages[-1]
    assert {split: rows.features for split, rows in second.splits.items()} == {
        split: rows.features for split, rows in first.splits.items()
    }
    assert len(pickle.dumps(second.splits["train"])) < 20_000  # a worker gets the path of the file, not the rows


def edit(path: Path) -> None:
    """Another label, with size and time of change as before."""
    status = path.stat()
    path.write_text(path.read_text().replace("class 1,train000001", "class 2,train000001"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def retarget(link: Path) -> None:
    link.unlink()
    link.symlink_to("train000003_000005_000015.mp4")


CHANGES = {
    "a file more": lambda root: (root / "train" / "train000000.mp4").touch(),
    "a file less": lambda root: (root / "train" / "train000001_000005_000015.mp4").unlink(),
    "a file renamed": lambda root: (root / "train" / "train000002.mp4").rename(
        root / "train" / "train000002_000005_000015.mp4"
    ),
    "a label edited": lambda root: edit(root / "train.csv"),
    "another annotation file": lambda root: shutil.copy(root / "validate.csv", root / "test.csv"),
    "a link with another target": lambda root: retarget(root / "train" / "train000009_000005_000015.mp4"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_rebuilds_the_index_and_is_said(change, tmp_path, monkeypatch):
    root = tmp_path / "data"
    config = kinetics(root)
    link = root / "train" / "train000009_000005_000015.mp4"
    link.unlink()
    link.symlink_to("train000001_000005_000015.mp4")
    load_video_dataset(config)
    CHANGES[change](root)
    found = load_video_dataset(config)
    assert "were read in" in found.messages[-1] and "has changed" in found.messages[-1]
    assert str(root) in found.messages[-1]
    monkeypatch.setattr(annotation_index, "MIN_ROWS", 10**9)
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "other"))
    assert content(found) == content(load_video_dataset(config))


def test_a_picture_more_in_a_frame_folder_rebuilds_the_index(tmp_path):
    config = table(tmp_path / "data")
    for number in range(1, 4):
        (tmp_path / "data" / "v00000" / f"img_{number}.jpg").touch()
    os.utime(tmp_path / "data" / "v00000", (1, 1))
    load_video_dataset(config)
    assert "mapped" in load_video_dataset(config).messages[-1]
    (tmp_path / "data" / "v00000" / "img_9.jpg").touch()
    found = load_video_dataset(config)
    assert "v00000 has changed" in found.messages[-1]
    assert any("lacks frames" in message for message in found.messages)


def test_other_options_and_classes_have_an_index_of_their_own(tmp_path):
    config = class_folders(tmp_path / "data")
    first = load_video_dataset(config)
    other = load_video_dataset(DataConfig(data=config.data, group_pattern=config.group_pattern, split_seed=1))
    assert other.splits["train"]["video_id"][:] != first.splits["train"]["video_id"][:]
    assert "options or the version of TubeViT have changed" in other.messages[-1]
    in_order = load_video_dataset(config, class_names=["class 2", "class 0", "class 1"])
    assert in_order.class_names == ["class 2", "class 0", "class 1"]
    assert "mapped" in load_video_dataset(config).messages[-1]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("pattern", ["*.arrow", "*/*.json"])
def test_a_damaged_index_is_rebuilt(damage, pattern, tmp_path, own_cache):
    config = class_folders(tmp_path / "data")
    before = load_video_dataset(config)
    (path,) = (own_cache / "index").glob(pattern)
    expected = content(before)
    del before
    damage(path)
    found = load_video_dataset(config)
    assert content(found) == expected and "were read in" in found.messages[-1]
    assert f"{_hash_file(found.index)}.arrow" == found.index.name
    assert "mapped" in load_video_dataset(config).messages[-1]


def test_a_run_that_is_killed_while_it_writes_leaves_no_index(tmp_path, own_cache, monkeypatch):
    config = class_folders(tmp_path / "data")

    def kill(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(annotation_index.os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        load_video_dataset(config)
    monkeypatch.undo()
    monkeypatch.setenv("TUBEVIT_CACHE", str(own_cache))
    assert not list(own_cache.rglob("*.arrow")) and not list(own_cache.rglob("unfinished-*"))
    assert "were read in" in load_video_dataset(config).messages[-1]


def test_one_of_several_processes_reads_and_the_others_map(tmp_path, monkeypatch):
    config, find, calls, found = class_folders(tmp_path / "data"), video_datasets.find_sources, [], []

    def counting(*args):
        calls.append(threading.get_ident())
        return find(*args)

    monkeypatch.setattr(video_datasets, "find_sources", counting)
    threads = [threading.Thread(target=lambda: found.append(load_video_dataset(config))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len({data.index for data in found}) == 1 and len(found) == 3


def test_without_a_writable_cache_the_annotations_are_read_and_it_is_said(tmp_path, monkeypatch):
    config = class_folders(tmp_path / "data")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "file"))
    data = load_video_dataset(config)
    assert data.index is None and "cannot be written" in data.messages[-1]


def test_a_running_process_keeps_its_rows_when_the_index_is_rebuilt(tmp_path):
    config = class_folders(tmp_path / "data")
    running = load_video_dataset(config)
    before = running.splits["train"][:]
    (tmp_path / "data" / "class 0" / "new.mp4").touch()
    assert load_video_dataset(config).index != running.index
    assert pickle.loads(pickle.dumps(running.splits["train"]))[:] == before  # as a worker that is started later
