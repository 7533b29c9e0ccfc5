"""Shards: what is written is what is read, every clip once per epoch, and errors that name shard and member."""

import functools
import http.server
import io
import json
import shutil
import tarfile
import threading
from itertools import islice

import datasets
import fsspec
import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, skip_first_batches
from dataset_files import add_clip, add_table, class_folders, clip_bytes, error_of, load
from small_processors import video_processor
from torch.utils.data import BatchSampler, DataLoader, Dataset
from video_files import full_decode, moving_frames, write_video

from tubevit.processing import decode_video
from tubevit.training.cli import main
from tubevit.training.data import annotation_index, clip_datasets, shard_writer, tar_scan
from tubevit.training.data.augmentation import AugmentationConfig
from tubevit.training.data.check_data import ReadableFiles, check_videos, file_key
from tubevit.training.data.clip_datasets import ClipDataset
from tubevit.training.data.clip_sampling import RandomClipReader, video_source
from tubevit.training.data.formats import shards as shard_format
from tubevit.training.data.shard_order import ShardOrder, shard_order
from tubevit.training.data.shards import Address, ShardError, read_manifest, read_member
from tubevit.training.data.tar_scan import scan_tars


SMALL = ["--shard-size", "0.012", "--workers", "1"]  # MiB: two videos


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Class folders with splits; each video is different."""
    folder = class_folders(
        tmp_path_factory.mktemp("files"), {"train": {"run": 4, "walk": 3}, "val": {"run": 1, "walk": 1}}
    )
    for index, path in enumerate(sorted(folder.rglob("*.mp4"))):
        write_video(path, moving_frames(12, 32, 40, seed=index), fps=10)
    return folder


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "tars"
    assert main(["data", "shard", str(files), str(folder), "--as-is", *SMALL]) == 0
    return folder


def content_of(row) -> bytes:
    return video_source(row["video"])["bytes"]


def without_place(row) -> dict:
    return {name: value for name, value in row.items() if name != "video"}


def add_tar(path, members) -> None:
    """Write a tar: `(name, content)` of each member, or a `TarInfo`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


# What is written is what is read


@pytest.mark.parametrize("container", ["tar", "parquet"])
def test_shards_equal_files(files, tmp_path, container, capsys):
    command = ["data", "shard", str(files), str(tmp_path / "out"), "--as-is", "--container", container, *SMALL]
    assert main(command) == 0
    assert "9 clips of 9 videos are in" in capsys.readouterr().out
    expected, found = load(data=files), load(data=tmp_path / "out")
    assert found.class_names == expected.class_names and found.data_format == "shards"
    assert found.splits.keys() == expected.splits.keys()
    for split, rows in expected.splits.items():
        assert list(map(without_place, rows)) == list(map(without_place, found.splits[split]))
        for row, other in zip(rows, found.splits[split], strict=True):
            with open(row["video"]["path"], "rb") as file:
                assert content_of(other) == file.read()
    checked = ReadableFiles(tmp_path / "readable.bin")
    assert check_videos(found, num_workers=1, readable_files=checked)[0] == [] and checked.num_used == 0
    assert check_videos(found, num_workers=1, readable_files=checked)[0] == [] and checked.num_used == 9
    manifest = read_manifest(str(tmp_path / "out"))
    assert len(manifest.shards) >= 4 and sum(each["num_clips"] for each in manifest.shards) == 9
    assert main(command) == 0 and "is complete" in capsys.readouterr().out
    # Other readers understand the shards as well.
    builder, pattern = ("webdataset", "train-*.tar") if container == "tar" else ("parquet", "train-*.parquet")
    plain = datasets.load_dataset(
        builder, data_files=str(tmp_path / "out" / pattern), split="train", cache_dir=str(tmp_path / "cache")
    )
    column = plain.cast_column("mp4" if container == "tar" else "video", datasets.Video(decode=False))
    labels = [row["json"]["label"] if container == "tar" else row["label"] for row in column]
    assert sorted(labels) == ["run"] * 4 + ["walk"] * 3
    if container == "tar":  # and so does this package without the manifest
        (tmp_path / "out" / "shards.json").unlink()
        scanned = load(data=tmp_path / "out")
        assert scanned.class_names == expected.class_names
        by_content = {content_of(row): row["label"] for row in scanned.splits["train"]}
        assert by_content == {content_of(row): row["label"] for row in found.splits["train"]}


def test_clips_of_shards_equal_those_of_files(files, shards):
    tiny = {"num_frames": 8, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    read = RandomClipReader(video_processor(**tiny), AugmentationConfig(), True)
    clips = [ClipDataset(load(data=folder).splits["train"], read, 2) for folder in (files, shards)]
    for epoch in (0, 1):
        for each in clips:
            each.set_epoch(epoch)
        for one, other in zip(*(DataLoader(each, 3, collate_fn=list) for each in clips), strict=True):
            assert all(
                torch.equal(a["pixel_values_videos"], b["pixel_values_videos"])
                for a, b in zip(one, other, strict=True)
            )


def test_encoded_copies_segments_labels_and_failed_videos(tmp_path, capsys):
    add_clip(tmp_path / "v" / "b.mp4")
    film = write_video(tmp_path / "v" / "film.mp4", moving_frames(40, 64, 80), fps=10)
    (tmp_path / "v" / "c.mp4").write_bytes(b"no video")
    rows = [
        {"path": "film.mp4", "label": "a;b", "start": 0, "end": 1.5, "person": "x"},
        {"path": "film.mp4", "label": "b", "start": 1.5, "end": 4, "person": "x"},
        {"path": "b.mp4", "label": "a", "start": "", "end": "", "person": "y"},
        {"path": "c.mp4", "label": "a", "start": "", "end": "", "person": "y"},
    ]
    table = add_table(tmp_path / "v" / "rows.csv", rows)
    options = [f"data={table}", "multi_label=true", "group_column=person", str(tmp_path / "out")]
    assert main(["data", "shard", *options, "--short-side", "32", "--crf", "5", "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "3 clips of 2 videos are in 1 shard in" in said and "Left out: 1 clip whose" in said
    assert str(tmp_path / "v" / "c.mp4") in (tmp_path / "out" / "failed.csv").read_text()
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert sorted(archive.getnames()) == ["b.json", "b.mp4", "film.json", "film.mp4"]
        assert len(json.load(archive.extractfile("film.json"))["clips"]) == 2
    data = load(data=tmp_path / "out", validation_fraction=0.0)
    assert data.multi_label and data.class_names == ["a", "b"]
    found = list(data.splits["train"])
    assert [row["label"] for row in found] == [[0, 1], [1], [0]]
    assert [(row["segment"] or {}).get("start") for row in found] == [0.0, 1.5, None]
    frames, _ = decode_video(video_source({**found[1]["video"], "start": 1.5, "end": 4.0}))
    assert frames.shape == (25, 3, 32, 40)
    expected, _ = decode_video({"path": str(film), "start": 1.5, "end": 4.0})
    assert (frames.double().mean((1, 2, 3)) - expected.double().mean((1, 2, 3))).abs().max() < 4
    assert load(data=tmp_path / "out", group_column="person", validation_fraction=0.5).splits["validation"].num_rows


def test_frames_equal_files_and_shards(tmp_path):
    """Lossless pictures of a video, and a shard that holds the video as it is, show the pixels of the file."""
    path = write_video(add_clip(tmp_path / "v" / "a" / "x.mp4"), moving_frames(10, 32, 40), fps=10)
    add_clip(tmp_path / "v" / "b" / "y.mp4")
    target = tmp_path / "frames"
    command = ["data", "prepare", str(tmp_path / "v"), str(target), "--to", "frames", "--workers", "1", "--no-timing"]
    assert main([*command, "--frame-format", "png"]) == 0
    assert sorted(each.name for each in (target / "a" / "x").iterdir())[:2] == ["img_00001.png", "img_00002.png"]
    data = load(data=target, frame_folder_fps=10, validation_fraction=0.0)
    expected = full_decode(path)
    assert torch.equal(decode_video({**data.splits["train"][0]["video"], "fps": 10})[0], expected)
    assert main(["data", "shard", str(tmp_path / "v"), str(tmp_path / "shards"), "--as-is", *SMALL]) == 0
    rows = {row["video_id"]: row for row in load(data=tmp_path / "shards", validation_fraction=0.0).splits["train"]}
    (row,) = (row for name, row in rows.items() if "x" in name)
    assert torch.equal(decode_video(video_source(row["video"]))[0], expected)
    assert main([*command[:4], *command[4:], "--frame-format", "png"]) == 0  # nothing is left to do


# Resume of the writer


@pytest.mark.parametrize("encoding", [["--as-is"], ["--crf", "40"]])
def test_a_stopped_writer_continues_and_other_options_are_refused(encoding, files, tmp_path, monkeypatch, capsys):
    folder, options = tmp_path / "out", [*encoding, *SMALL]
    pack, packed = shard_writer.pack, []

    def pack_two(shard):
        if len(packed) == 2:
            raise OSError(28, "No space left on device")
        packed.append(shard.name)
        return pack(shard)

    monkeypatch.setattr(shard_writer, "pack", pack_two)
    assert main(["data", "shard", str(files), str(folder), *options]) == 2
    assert "No space left" in capsys.readouterr().err
    assert "is not complete: call `tubevit data shard` again" in error_of(data=folder)
    for changed in (["--short-side", "16", *SMALL], [*options, "--seed", "1"]):
        assert main(["data", "shard", str(files), str(folder), *changed]) == 2
        assert f"{folder} was written with" in capsys.readouterr().err
    copies = {path.read_bytes() for path in (folder / "unfinished").rglob("*.mp4")}
    first = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    monkeypatch.setattr(shard_writer, "pack", lambda shard: packed.append(shard.name) or pack(shard))
    assert main(["data", "shard", str(files), str(folder), *options]) == 0
    assert len(packed) == len(set(packed)), "a complete shard is not written again"
    assert all((folder / name).read_bytes() == content for name, content in first.items())
    rows = [row for split in load(data=folder).splits.values() for row in split]
    assert len(rows) == 9 and copies <= set(map(content_of, rows)), "nor is a copy encoded again"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*packed, "shards.json", "shards.parquet"])


# The order


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("num_shards", range(1, 10))
def test_every_clip_once_per_epoch_and_exact_resume(ranks, num_shards):
    """For 0 to 3 workers: batch `j` of a rank is read by worker `j % workers`, in the order of the batches."""
    rng = np.random.default_rng(num_shards)
    shards = np.repeat(np.arange(num_shards), rng.integers(1, 30, num_shards))
    offsets, size = rng.permutation(len(shards)), 4
    orders = [shard_order(shards, offsets, size, ranks, 5, (7, epoch)) for epoch in (0, 1, 0)]
    assert np.array_equal(orders[0], orders[2])
    assert len(shards) < 3 or not np.array_equal(orders[0], orders[1])
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(len(shards)))
    batches = [
        list(BatchSamplerShard(BatchSampler(orders[0].tolist(), size, False), ranks, rank)) for rank in range(ranks)
    ]
    assert len({len(each) for each in batches}) == 1, "as many steps on each rank"
    read = [index for each in batches for batch in each for index in batch]
    assert set(read) == set(range(len(shards)))
    num_steps = -(-len(shards) // (size * ranks))
    assert len(read) <= num_steps * size * ranks, (
        "clips that complete the last batches of an epoch are all that is read twice"
    )


class Indices(Dataset):
    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_loader_workers_of_each_rank_keep_the_order(workers):
    """In the real loader of a rank alone and of three ranks, from the start and after a resume."""
    shards, size = np.repeat(np.arange(9), 4), 2
    for ranks in (1, 3):
        order = shard_order(shards, np.arange(len(shards)), size, ranks, 5, (1, 0)).tolist()
        read = []
        for rank in range(ranks):
            batches = BatchSamplerShard(BatchSampler(order, size, False), ranks, rank)
            loader = DataLoader(Indices(), batch_sampler=batches, num_workers=workers, collate_fn=list)
            found = list(skip_first_batches(loader, 3) if rank else loader)
            assert found == list(batches)[3 if rank else 0 :]
            read += found
        assert ranks > 1 or sorted(index for batch in read for index in batch) == list(range(len(shards)))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_ranks_and_workers_read_their_own_shards(workers):
    ranks, size, per_shard = 2, 4, 100
    shards = np.repeat(np.arange(96), per_shard)
    order = shard_order(shards, np.arange(len(shards)), size, ranks, 50, (0, 0))
    readers: dict[int, set] = {}
    for number, batch in enumerate(order.reshape(-1, size)):
        for index in batch:
            readers.setdefault(shards[index], set()).add((number % ranks, number // ranks % workers))
    assert sum(len(each) > 1 for each in readers.values()) <= ranks * 24
    assert np.mean([len(each) for each in readers.values()]) < 1.5
    inside = np.diff(order.reshape(-1, size)[::48].ravel())
    assert np.abs(inside).max() < len(shards), "one shard after the other"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_reads_each_clip_once_and_continues_after_any_batch(shards, num_workers):
    tiny = {"num_frames": 8, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    read = RandomClipReader(video_processor(**tiny), AugmentationConfig(), True)
    rows = load(data=shards).splits["train"]
    clips = ClipDataset(rows, read, 2)
    clips.set_epoch(3)
    loader = DataLoader(clips, 2, sampler=ShardOrder(clips, 2, 1, 3, seed=5), num_workers=num_workers, collate_fn=list)
    names = [[sample["video_id"] for sample in batch] for batch in loader]
    assert sorted(name for batch in names for name in batch) == sorted(rows["video_id"])
    for done in (1, 3):
        again = [[sample["video_id"] for sample in batch] for batch in skip_first_batches(loader, done)]
        assert again == names[done:]


def test_order_needs_shards(files):
    clips = ClipDataset(
        load(data=files).splits["train"], RandomClipReader(video_processor(), AugmentationConfig(), True), 2
    )
    with pytest.raises(ValueError, match=r"0\.mp4 is not in a shard"):
        ShardOrder(clips, 2, 1, 3, seed=0)


# Tar files without a manifest


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv", "avi"])
@pytest.mark.parametrize(
    ("label", "options"),
    [
        (("cls", ["0", "1"]), {}),
        (("txt", ["run", "walk"]), {}),
        (("json", ['{"annotation": {"action": "run"}}', '{"annotation": {"action": "walk"}}']), {}),
        (("json", ['{"a": {"b": "run"}}', '{"a": {"b": "walk"}}']), {"label_column": "json.a.b"}),
    ],
)
def test_labels_of_tar_members(tmp_path, suffix, label, options):
    field, texts = label
    for number in range(2):
        members = []
        for index, text in enumerate(texts):
            members += [(f"{index}.{suffix}", b"video %d" % index), (f"{index}.{field}", text)]
        add_tar(tmp_path / f"train-{number:03d}.tar", [*members, ("._0.mp4", b"x"), ("README", b"x")])
    data = load(data=tmp_path, validation_fraction=0.0, **options)
    assert data.class_names == (["0", "1"] if field == "cls" else ["run", "walk"])
    assert [row["label"] for row in data.splits["train"]] == [0, 1, 0, 1]
    assert [content_of(row) for row in data.splits["train"]] == [b"video 0", b"video 1"] * 2
    assert data.splits["train"]["video_id"] == ["train-000/0", "train-000/1", "train-001/0", "train-001/1"]
    assert any(message.startswith("Left out: 4 members of shards") for message in data.messages)
    series = load(train_data=tmp_path / "train-{000..001}.tar", validation_fraction=0.0, **options)
    assert series.splits["train"]["video_id"] == data.splits["train"]["video_id"]
    assert len(load(data=f"{tmp_path}/*-001.tar", validation_fraction=0.0, **options).splits["train"]) == 2


def test_the_member_with_the_label_is_chosen(tmp_path):
    """Captions are often in `.txt`; a tar may be written from `.`, and a folder may be named like a pattern."""
    members = [("./a.mp4", b"x"), ("./a.txt", "a caption"), ("./a.json", '{"label": "run", "start": 1, "end": 2.5}')]
    add_tar(tmp_path / "[set]" / "val.tar", members)
    (row,) = load(data=tmp_path / "[set]").splits["validation"]
    assert row["video_id"] == "a#t=1,2.5" and (row["segment"]["start"], row["segment"]["end"]) == (1.0, 2.5)
    assert load(data=tmp_path / "[set]").class_names == ["run"]
    assert load(data=tmp_path / "[set]" / "val.tar", label_column="txt").class_names == ["a caption"]
    message = error_of(data=tmp_path / "[set]", label_column="cls")
    assert "has the member that label_column=cls names, such as a.cls" in message


def link(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, "elsewhere.mp4"
    return entry


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.mp4", b"x"), ("a.cls", "0"), link("b.mp4")], "{shard} holds b.mp4, which is a link"),
        ([("a.mp4", b"x"), ("a.mp4", b"y")], "{shard} holds two members a.mp4"),
        ([("a.mp4", b"x"), ("a.left.mkv", b"y")], "{shard} holds two videos for one label: a.mp4 and a.left.mkv"),
        ([("a.mp4", b"x"), ("a.cls", "0"), ("b.mp4", b"y")], "{shard} holds b.mp4 without a label, and 1 of 2"),
        ([("a.mp4", b"x"), ("a.json", "{")], "{shard}: a.json is not JSON"),
        (
            [("a.mp4", b"x"), ("a.json", '{"size": 3}')],
            "{shard}: a.json has no field 'label', but size; set label_column",
        ),
        ([("a.mp4", b"x"), ("a.json", '{"label": {"x": 1}}')], "{shard}: a.json: the label is"),
        (
            [("a.mp4", b"x"), ("a.json", '{"label": ["x", "y"]}')],
            "{shard}: a.json has a list of labels: set multi_label",
        ),
        (
            [("a.mp4", b"x"), ("a.json", '{"p": {"label": 1}, "q": {"label": 2}}')],
            "several labels: set label_column to one of json.p.label and json.q.label",
        ),
        ([("a.mp4", b"x"), ("a.cls", b"\xff")], "{shard} holds a.cls, which is not UTF-8"),
        ([("a.mp4", b"x"), ("b\udcff.mp4", b"y")], "{shard} holds b\\xff.mp4, whose name is not UTF-8"),
    ],
)
def test_strange_members_are_named(tmp_path, members, message):
    shard = tmp_path / "train-0.tar"
    add_tar(shard, members)
    assert message.format(shard=f"The shard {shard}") in error_of(data=tmp_path)


def test_tars_that_are_cut_off_compressed_or_joined(tmp_path):
    shard = tmp_path / "t" / "train-0.tar"
    add_tar(
        shard,
        [(f"{index}.{suffix}", text) for index in range(4) for suffix, text in (("mp4", clip_bytes()), ("cls", "0"))],
    )
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        places = [member.offset for member in archive]
    for length in (
        places[4],
        places[4] + 100,
        places[4] + 1000,
        places[5],
        len(whole) - 10240 if len(whole) > 20480 else places[7],
    ):
        shard.write_bytes(whole[:length])
        message = error_of(data=shard.parent)
        assert (str(shard) in message and ".mp4" in message) or ".cls" in message, (length, message)
        assert "cut off" in message or "damaged" in message
    shard.write_bytes(whole + bytes(2**20) + whole)
    assert "tar files that were joined" in error_of(data=shard.parent)
    shard.write_bytes(whole)
    (shard.parent / "b.tar.gz").write_bytes(b"x")
    assert "b.tar.gz is compressed" in error_of(data=shard.parent)
    assert "There is no shard" in error_of(data=tmp_path / "t" / "train-{0..1}.tar")


def test_a_scan_is_reused_until_the_tar_changes(tmp_path, monkeypatch):
    shard, scanned = str(tmp_path / "train-0.tar"), []
    add_tar(tmp_path / "train-0.tar", [("a.mp4", b"x"), ("a.cls", "0")])
    scan = tar_scan._scan
    monkeypatch.setattr(tar_scan, "_scan", lambda name: scanned.append(name) or scan(name))
    first = list(scan_tars([shard]))
    assert list(scan_tars([shard])) == first and len(scanned) == 1
    add_tar(tmp_path / "train-0.tar", [("b.mp4", b"xy"), ("b.cls", "0")])
    assert next(scan_tars([shard]))[1][0].name == "b.mp4" and len(scanned) == 2
    for file in (tar_scan.cache_folder() / "tar_index").iterdir():
        file.write_text("{")
    assert len(next(scan_tars([shard]))[1]) == 2 and len(scanned) == 3


@pytest.mark.parametrize("has_manifest", [True, False])
def test_the_index_of_the_annotations_follows_the_shards(has_manifest, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(annotation_index, "MIN_ROWS", 1)
    folder = shutil.copytree(shards, tmp_path / "shards")
    if not has_manifest:
        (folder / "shards.json").unlink()
    messages = [load(data=folder).messages[-1] for _ in range(2)]
    assert "later runs map them" in messages[0] and "are mapped from the index" in messages[1]
    path = next(folder.glob("train-*.tar"))
    if has_manifest:
        path.unlink()
        assert f"{folder} lacks the shard {path.name}" in error_of(data=folder)
        return
    add_tar(path, [("new.mp4", b"x"), ("new.cls", "run")])
    assert "new" in {row["video_id"].split("/")[-1] for row in load(data=folder).splits["train"]}
    (folder / "more").mkdir()
    add_tar(folder / "more" / "train-9.tar", [("9.mp4", b"x"), ("9.cls", "run")])
    assert "9" in load(data=folder).splits["train"]["video_id"]


def test_numbers_of_classes_that_count_from_1_keep_their_names(tmp_path):
    for name in ("a", "b"):
        add_clip(tmp_path / "v" / f"{name}.mp4")
    (tmp_path / "v" / "train_list.txt").write_text("a.mp4 1\nb.mp4 2\n")
    (tmp_path / "v" / "classes.txt").write_text("1 run\n2 walk\n3 hop\n")
    options = [f"data={tmp_path / 'v' / 'train_list.txt'}", f"class_names_file={tmp_path / 'v' / 'classes.txt'}"]
    assert main(["data", "shard", *options, str(tmp_path / "out"), "--as-is", "--workers", "1"]) == 0
    data = load(data=tmp_path / "out", validation_fraction=0.0)
    labels = {row["video_id"]: data.class_names[row["label"]] for row in data.splits["train"]}
    assert labels == {"a.mp4": "run", "b.mp4": "walk"}
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert json.load(archive.extractfile("a.json"))["label"] == "run"


def test_sources_and_options_that_shards_do_not_take(shards, tmp_path, capsys):
    table = add_table(tmp_path / "rows.csv", [{"path": "a.jpg", "label": "x"}, {"path": "b.jpg", "label": "y"}])
    for data, message in ((shards, "is in a shard"), (table, "a.jpg is an image")):
        options = ["data", "shard", f"data={data}", str(tmp_path / "out"), "--as-is", "validation_fraction=0.5"]
        assert main(options) == 2
        said = capsys.readouterr()
        assert message in said.err and "validation_fraction has no effect" in said.out
        assert not (tmp_path / "out").exists()


# Shards that change


def test_shards_that_are_missing_cut_off_or_changed(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "copy")
    rows = load(data=folder).splits["train"]
    row = rows[0]
    address = Address.parse(row["video"]["path"])
    path = folder / address.shard.rpartition("/")[2]
    whole = path.read_bytes()
    path.write_bytes(whole[: address.offset + 10])
    assert f"The shard {path} has" in error_of(data=folder)
    with pytest.raises(ShardError, match=f"The shard {path} is cut off: {address.name} ends at byte"):
        content_of(row)
    path.write_bytes(whole[: address.offset + 50] + b"?" + whole[address.offset + 51 :])
    with pytest.raises(ShardError, match=f"The shard {path} was changed since it was indexed: {address.name} is not"):
        content_of(row)
    path.unlink()
    assert f"{folder} lacks the shard {path.name}" in error_of(data=folder)
    with pytest.raises(FileNotFoundError, match=f"There is no shard {path}, which holds {address.name}"):
        content_of(row)
    path.write_bytes(whole)
    manifest = json.loads((folder / "shards.json").read_text())
    for change, message in (
        ({"version": 2}, "has version 2"),
        ({"index_sha256": "0"}, "does not belong to shards.json"),
        ({"more": 1}, "is damaged: its entries are record, class_names"),
    ):
        (folder / "shards.json").write_text(json.dumps({**manifest, **change}))
        assert message in error_of(data=folder)


def test_a_tar_that_changes_after_its_scan(tmp_path):
    shard = tmp_path / "train-0.tar"
    add_tar(shard, [("a.mp4", b"x" * 600), ("a.cls", "0")])
    row = load(data=tmp_path, validation_fraction=0.0).splits["train"][0]
    assert content_of(row) == b"x" * 600
    add_tar(shard, [("0.cls", "0"), ("a.mp4", b"x" * 600), ("a.cls", "0")])
    with pytest.raises(ShardError, match=r"train-0\.tar was changed since it was indexed: a\.mp4"):
        content_of(row)


# Remote storage


@pytest.fixture
def address_of(shards):
    """Copies the shards to a storage and returns the URL there."""
    servers = []

    def copy(kind: str) -> str:
        if kind == "memory":
            fs = fsspec.filesystem("memory")
            for path in shards.iterdir():
                fs.pipe(f"/bucket/set/{path.name}", path.read_bytes())
            return "memory://bucket/set"
        handler = functools.partial(Ranges if kind == "http with ranges" else Quiet, directory=str(shards))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield copy
    for server in servers:
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Sends whole files."""

    def log_message(self, *arguments):
        pass


class Ranges(Quiet):
    def do_GET(self):
        bounds = self.headers.get("Range")
        if bounds is None:
            return super().do_GET()
        first, last = map(int, bounds.removeprefix("bytes=").split("-"))
        with open(self.translate_path(self.path), "rb") as file:
            file.seek(first)
            content = file.read(last + 1 - first)
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.mark.parametrize("kind", ["memory", "http with ranges", "http"])
def test_shards_in_remote_storage(kind, address_of, files, monkeypatch):
    monkeypatch.setattr(annotation_index, "MIN_ROWS", 1)
    together, read_members = [], clip_datasets.read_members
    monkeypatch.setattr(
        clip_datasets, "read_members", lambda paths: together.append(list(paths)) or read_members(together[-1])
    )
    url = address_of(kind)
    expected, found = load(data=files).splits["train"], load(data=url, streaming=True).splits["train"]
    assert list(map(without_place, found)) == list(map(without_place, expected))
    for row, other in zip(expected, islice(found, 3), strict=False):
        with open(row["video"]["path"], "rb") as file:
            assert content_of(other) == file.read()
    tiny = {"num_frames": 8, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    read = RandomClipReader(video_processor(**tiny), AugmentationConfig(), True)
    batches = [
        next(iter(DataLoader(ClipDataset(rows, read, 2), 4, num_workers=kind != "memory", collate_fn=list)))
        for rows in (expected, found)
    ]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["pixel_values_videos"], other["pixel_values_videos"])
    assert [len(each) for each in together] == ([4] if kind == "memory" else []), (
        "a batch is read at once, in the worker"
    )
    # A later run maps the rows from the index of the first one, until the shards change.
    assert list(map(without_place, load(data=url, streaming=True).splits["train"])) == list(
        map(without_place, expected)
    )
    with monkeypatch.context() as patch:
        patch.setattr(shard_format, "read_clips", lambda manifest: pytest.fail("the clips are read again"))
        assert "are mapped from the index" in load(data=url, streaming=True).messages[-1]
    if kind == "memory":
        fsspec.filesystem("memory").rm("/bucket/set/train-000000.tar")
        assert "lacks the shard train-000000.tar" in error_of(data=url, streaming=True)


def test_remote_tars_without_a_manifest_and_errors(shards):
    fs = fsspec.filesystem("memory")
    for path in shards.glob("*.tar"):
        fs.pipe(f"/plain/{path.name}", path.read_bytes())
    data = load(data="memory://plain")
    assert len(data.splits["train"]) == 7 and len(data.splits["validation"]) == 2
    row = data.splits["train"][0]
    assert content_of(row)
    fs.rm(Address.parse(row["video"]["path"]).shard)
    with pytest.raises(FileNotFoundError, match=r"There is no shard memory:///?plain/train-000000\.tar, which holds"):
        content_of(row)
    assert "Protocol not known: nostorage" in error_of(data="nostorage://x/y")
    with pytest.raises(ShardError, match="cannot be read"):
        read_member(Address("http://127.0.0.1:9/x.tar", 512, 3, None, "a.mp4"))


def test_a_remote_tar_is_scanned_again_when_it_changes_and_its_errors_name_it(tmp_path, address_of, shards):
    versions, url = [], f"{address_of('http')}/train-000000.tar"
    for content in ((shards / "train-000000.tar").read_bytes(), b"of another size"):
        (shards / "train-000000.tar").write_bytes(content)
        versions.append(tar_scan._version(url))
    assert versions[0] != versions[1]
    add_tar(tmp_path / "a.tar", [("a.mp4", bytes(600)), ("b.mp4", bytes(600)), ("b.cls", "0")])
    fsspec.filesystem("memory").pipe("/lost/train-0.tar", (tmp_path / "a.tar").read_bytes())

    class Lost(io.BytesIO):
        def read(self, *size):
            if self.tell() > 3 * 512:
                raise RuntimeError("connection\nlost")
            return super().read(*size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar_scan, "_open", lambda shard: Lost((tmp_path / "a.tar").read_bytes()))
        message = error_of(data="memory://lost/train-0.tar")
    assert message == "The shard memory://lost/train-0.tar cannot be read after b.mp4 (connection lost)."


def test_a_checked_video_of_a_remote_shard_is_known_by_its_checksum():
    one, other, scanned = (str(Address("s3://b/a.tar", 512, 90, crc, "x.mp4")) for crc in (1, 2, None))
    keys = [file_key({"path": path, "bytes": None}) for path in (one, one, other, scanned)]
    assert keys[0] == keys[1] != keys[2] and keys[3] is None and keys[0] is not None
