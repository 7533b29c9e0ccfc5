# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data check`: finds the files of a data set that cannot be read, before a training run.

By default the first and the last frame of each video are decoded, which finds files that are missing, empty, truncated or not
videos. Damage between these frames is found by `--every-frame`, which decodes all frames.

A training run checks its files too. Its processes share the work, and files that an earlier run could read are not opened again
while their size and time of change stay the same (`ReadableFiles`); a check that was killed continues. A data set with an index that
was checked as a whole is not checked again (`find_earlier_check`).
"""

import argparse
import csv
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..command_line import add_config_arguments, whole_number
from ..environment import cache_folder, cache_id
from ..launch import gather_on_cpu
from ..options import read_config
from .class_names import describe_classes
from .dataset_columns import row_source
from .shards import Address, is_remote
from .video_datasets import DataConfig, VideoData, load_video_dataset
from .worker_processes import FILES_PER_PROCESS, OPENED_FILES_PER_PROCESS, ItemFailed, map_in_processes


REPORT_COLUMNS = ("split", "video_id", "path", "reason")
ON_CORRUPT_VIDEO = ("skip", "raise")
BLOCKS = {"data": DataConfig}
SECONDS_PER_FILE = 300.0
FILES_PER_EXCHANGE = 64  # after which each process of a run shares its results; a killed run loses at most these
NUM_UNSORTED = (
    1 << 14
)  # largest number of results that `ReadableFiles` holds as Python objects before it sorts them into arrays


class CorruptVideo(NamedTuple):
    """A video that cannot be read, and the reason."""

    split: str
    video_id: str
    path: str
    reason: str


class CheckedVideo(NamedTuple):
    """Result of the check of a video. reason: why it cannot be read; `None` for a readable video. seconds: its duration."""

    reason: str | None
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tubevit data check [DATA] [--OPTION VALUE | OPTION=VALUE ...]"
    add_config_arguments(parser, BLOCKS)
    parser.add_argument(
        "--every-frame", action="store_true", help="decode all frames instead of the first and the last"
    )
    parser.add_argument(
        "--workers", type=whole_number(1), metavar="N", help="number of processes (default: one per CPU core)"
    )
    parser.add_argument(
        "--seconds-per-file",
        type=whole_number(1),
        default=SECONDS_PER_FILE,
        metavar="SECONDS",
        help="time limit of a file, after which it counts as unreadable (default: 300)",
    )
    parser.add_argument(
        "--report",
        default="corrupt_videos.csv",
        metavar="FILE",
        help="CSV file for the videos that cannot be read (default: corrupt_videos.csv)",
    )


def run(args: argparse.Namespace) -> int:
    """Check all files, print the counts and write the report; the exit code is 1 if a file cannot be read."""
    args.overrides = [name if "=" in name else f"data={name}" for name in args.overrides]
    data = load_video_dataset(read_config(args, BLOCKS)["data"])
    report = Path(args.report)
    if not report.absolute().parent.is_dir():
        raise FileNotFoundError(f"--report {report}: there is no folder {report.parent}.")
    for message in data.messages:
        print(message)
    corrupt, seconds = check_videos(data, args.every_frame, args.workers, args.seconds_per_file)
    for message in remember_check(data, corrupt):
        print(message)
    total = sum(len(rows) for rows in data.splits.values())
    print(f"classes: {describe_classes(data.class_names, data.label_groups)}")
    for split, rows in data.splits.items():
        num_corrupt = sum(each.split == split for each in corrupt)
        print(f"{split}: {len(rows):,} {data.media}s, {num_corrupt:,} cannot be read")
    print(f"{len(data.class_names)} classes" + (f", {seconds / 3600:.2f} hours of video" if seconds else ""))
    if not corrupt:
        return 0
    write_report(corrupt, report)
    first = corrupt[0]
    print(
        f"{len(corrupt):,} of {total:,} cannot be read; {report} lists the reasons. The first: {first.path}: {first.reason}"
    )
    return 1


def check_videos(
    data: VideoData,
    every_frame: bool = False,
    num_workers: int | None = None,
    seconds_per_file: float = SECONDS_PER_FILE,
    *,
    readable_files: "ReadableFiles | None" = None,
    is_shared: bool = False,
) -> tuple[list[CorruptVideo], float]:
    """
    The videos (or images) that cannot be read, in the order of the rows, and the total duration of the others in seconds.

    num_workers: number of processes that decode; by default one per core.
    seconds_per_file: time limit, after which a file counts as unreadable.
    readable_files: files that an earlier check could read, which are not opened again. The main process adds the newly checked ones.
    is_shared: whether all processes of a distributed run call this function. Each process checks a part of the files, and all return
        the result of all files.

    Raises `ValueError` for streamed splits, which cannot be read by index.
    """
    _check_not_streamed(data)
    rank, num_ranks = _rank() if is_shared else (0, 1)
    seconds_known: list[float] = []
    items = _unknown_items(data, rank, num_ranks, readable_files, seconds_known)
    total = len(range(rank, sum(map(len, data.splits.values())), num_ranks))
    check = partial(check_row, media=data.media, every_frame=every_frame)
    per_process = FILES_PER_PROCESS if every_frame else OPENED_FILES_PER_PROCESS
    description = f"checking {data.media}s"
    imports = [
        f"{__package__}.clip_sampling",
        *(["tubevit.processing.video_decoding"] if data.media == "video" else []),
    ]
    results = map_in_processes(check, items, total, num_workers, description, per_process, seconds_per_file, imports)
    corrupt, microseconds, is_done = [], 0, False
    while not is_done:
        found, readable = [], []
        checked = list(islice(results, FILES_PER_EXCHANGE))
        for (split, index, row, key), result in checked:
            reason = str(result) if isinstance(result, ItemFailed) else result.reason
            if reason is None:
                readable.append((key, result.seconds))
            else:
                path = row[data.media].get("path") or ""
                found.append(((split, index), CorruptVideo(split, row["video_id"], path, reason)))
        seconds = [*seconds_known, *(each for _, each in readable)]
        # Whole microseconds, whose sum is the same for any number of processes.
        part = found, readable, sum(round(1e6 * each) for each in seconds), len(checked) < FILES_PER_EXCHANGE
        seconds_known.clear()
        parts = gather_on_cpu(part) if num_ranks > 1 else [part]
        is_done = all(is_last for *_, is_last in parts)
        for found, readable, own_microseconds, _ in parts:
            corrupt += found
            microseconds += own_microseconds
            if readable_files is not None:
                readable_files.add(readable)
    order = list(data.splits)
    corrupt.sort(key=lambda entry: (order.index(entry[0][0]), entry[0][1]))
    return [video for _, video in corrupt], microseconds / 1e6


def _rank() -> tuple[int, int]:
    """Rank of this process in a distributed run, and the number of processes."""
    from accelerate import PartialState

    state = PartialState()
    return state.process_index, state.num_processes


def _unknown_items(
    data: VideoData, rank: int, num_ranks: int, readable_files: "ReadableFiles | None", seconds_known: list[float]
) -> Iterator[tuple[str, int, dict, int | None]]:
    """
    Of every `num_ranks`-th row of all splits, from row `rank`: split, index, row, and the key of its file. Files that an earlier
    check could read are left out; their durations are appended to `seconds_known`.
    """
    first = rank
    for split, rows in data.splits.items():
        for index in range(first, len(rows), num_ranks):
            row = rows[index]
            key = None if readable_files is None else file_key(row_source(row, data.media))
            seconds = None if readable_files is None else readable_files.get(key)
            if seconds is None:
                yield split, index, row, key
            else:
                seconds_known.append(seconds)
        first = (first - len(rows)) % num_ranks


def _check_not_streamed(data: VideoData) -> None:
    for split, rows in data.splits.items():
        if not hasattr(rows, "__len__"):
            raise ValueError(f"The {split} split is streamed and cannot be checked; set streaming=false.")


def check_row(item: tuple, media: str, every_frame: bool) -> CheckedVideo:
    """Decode the first and the last frame of a row, or all frames. item: split, index, row, key. The row may be a segment of a video."""
    video = row_source(item[2], media)
    try:
        if media == "image":
            from .clip_sampling import read_image

            read_image(video)
            return CheckedVideo(None)
        return _check_video(video, every_frame)
    except (ValueError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return CheckedVideo(" ".join(text.split()).removeprefix(f"{video.get('path')} ") or type(error).__name__)


def _check_video(video: dict[str, Any], every_frame: bool) -> CheckedVideo:
    from tubevit.processing import decode_video

    from .clip_sampling import video_source

    def ends(metadata):
        return sorted({0, metadata.total_num_frames - 1})

    # Only one pixel of each frame stays in memory: the frames of a minute of video would take gigabytes.
    _, metadata = decode_video(
        video_source(video),
        None if every_frame else ends,
        frame_transform=lambda frames: frames[..., :1, :1],
        num_threads=1,
    )
    return CheckedVideo(None, metadata.duration or 0.0)


def drop_corrupt(
    data: VideoData, corrupt: list[CorruptVideo], on_corrupt_video: str = "skip", max_corrupt_fraction: float = 0.05
) -> VideoData:
    """
    `data` without the videos in `corrupt`, and with a note of their number for each split.

    on_corrupt_video: "skip" drops them; "raise" raises `ValueError` if there are any.
    max_corrupt_fraction: largest allowed fraction of corrupt videos in a split, from 0 to 1. Raises `ValueError` for a larger
        fraction, and if all videos of a split are corrupt.
    """
    if on_corrupt_video not in ON_CORRUPT_VIDEO:
        raise ValueError(f"on_corrupt_video must be skip or raise, got {on_corrupt_video!r}.")
    splits, groups, messages = dict(data.splits), dict(data.groups), list(data.messages)
    for split, rows in data.splits.items():
        of_split = {video.video_id: video for video in corrupt if video.split == split}
        if not of_split:
            continue  # or the split is streamed, so it was not checked and has no length
        readable = [index for index, video_id in enumerate(rows["video_id"]) if video_id not in of_split]
        num_corrupt = len(rows) - len(readable)
        if not num_corrupt:
            continue
        first = next(iter(of_split.values()))
        found = f"{num_corrupt} of {len(rows)} {data.media}s of the {split} split cannot be read"
        if on_corrupt_video == "raise":
            raise ValueError(f"{found}, the first: {first.path}: {first.reason}; on_corrupt_video=skip drops them.")
        if not readable or num_corrupt > max_corrupt_fraction * len(rows):
            raise ValueError(
                f"{found}, more than max_corrupt_fraction={max_corrupt_fraction:g} allows; the first: {first.path}: {first.reason}"
            )
        splits[split] = rows.select(readable)
        if split in groups:
            of_rows = groups[split][:]
            groups[split] = [of_rows[index] for index in readable]
        messages.append(f"{found} and are dropped; the first: {first.path}: {first.reason}")
    return replace(data, splits=splits, groups=groups, messages=messages)


def write_report(corrupt: list[CorruptVideo], path: str | Path) -> None:
    """Write a CSV file with a line per video that cannot be read."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(REPORT_COLUMNS)
        writer.writerows(corrupt)


def read_report(path: str | Path) -> list[CorruptVideo]:
    """Read a file of `write_report`, for `drop_corrupt`: a data set need not be checked before every run."""
    from .text_tables import read_table

    return [
        CorruptVideo(*(cells[name] for name in REPORT_COLUMNS)) for _, cells in read_table(path, REPORT_COLUMNS, ",")
    ]


def find_earlier_check(data: VideoData) -> tuple[list[CorruptVideo], float] | None:
    """
    The corrupt videos that an earlier check of all videos of the index found, and the time of that check. `None` without an index or
    a check, for another version of the decoder, and if the file of a corrupt video has changed. Other files are not compared: a file
    that was replaced by a corrupt file of the same name is found during training.
    """
    if data.index is None or not (path := _path_of_check(data.index)).is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["versions"] != _versions() or any(
        _status_of(each[2]) != status for *each, status in content["corrupt"]
    ):
        return None
    return [CorruptVideo(*each) for *each, _ in content["corrupt"]], path.stat().st_mtime


def remember_check(data: VideoData, corrupt: list[CorruptVideo]) -> list[str]:
    """Store the result of a check of all videos of an index beside it. Returns a message if that is not possible."""
    if data.index is None:
        return []
    path = _path_of_check(data.index)
    content = {"versions": _versions(), "corrupt": [[*video, _status_of(video.path)] for video in corrupt]}
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        return [f"{path} cannot be written ({error.strerror}): the next run checks the files again."]
    return []


def _path_of_check(index: Path) -> Path:
    return index.with_suffix(".checked.json")


def _status_of(path: str) -> list[int] | None:
    """Size in bytes and time of change of a file in nanoseconds; `None` if there is no file."""
    if not os.path.isfile(path):
        return None
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def file_key(source: dict[str, Any]) -> int | None:
    """
    A 64-bit hash that changes with the file: of its source, size and modification time; for a video in a shard, those of the shard or
    the CRC-32 in its address, which is compared at each read. `None` for sources whose change cannot be detected: bytes, web addresses,
    folders of frames, and members of remote shards without a manifest.
    """
    path = source.get("path")
    if source.get("bytes") is not None or path is None:
        return None
    address = Address.parse(path)
    if address is None or address.crc is None or not is_remote(address.shard):
        file = path if address is None else address.shard
        if not os.path.isfile(file):
            return None
        status = os.stat(file)
        source = {**source, "path": os.path.abspath(path), "size": status.st_size, "changed": status.st_mtime_ns}
    text = json.dumps(source, sort_keys=True, default=str).encode(errors="surrogateescape")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class ReadableFiles:
    """
    A cache file that lists the files that earlier checks could read. Files that could not be read are checked again.

    path: path of the cache file, by default in `cache_folder`. It has 16 bytes for each readable file: its `file_key` and its duration
        in seconds. Its name contains the versions of PyAV and TubeViT, because another decoder may find other damage. If a killed run
        leaves an incomplete record, no file has the key in it.
    is_writer: whether this process writes to the cache file; exactly one of the processes that share the cache does.
    num_used: number of files that were not opened again.
    error: why results could not be written, or `None`.
    """

    RECORD = np.dtype([("key", "<u8"), ("seconds", "<f8")])

    def __init__(self, path: str | Path | None = None, is_writer: bool = True):
        self.path, self.is_writer = Path(path) if path is not None else _default_cache(), is_writer
        self.num_used, self.error = 0, None
        # In the order of the keys; two arrays, because a search in a column of one array would copy the column.
        self.keys, self.seconds = np.zeros(0, "<u8"), np.zeros(0, "<f8")
        self.new: dict[int, float] = {}
        if self.path.is_file():
            self._sort_in(np.fromfile(self.path, self.RECORD))

    def __len__(self) -> int:
        return len(self.keys) + len(self.new)

    def _sort_in(self, records: np.ndarray) -> None:
        self.keys, first = np.unique(np.concatenate([self.keys, records["key"]]), return_index=True)
        self.seconds = np.concatenate([self.seconds, records["seconds"]])[first]

    def _find(self, key: int) -> float | None:
        if key in self.new:
            return self.new[key]
        index = int(self.keys.searchsorted(np.uint64(key)))
        return float(self.seconds[index]) if index < len(self.keys) and self.keys[index] == key else None

    def get(self, key: int | None) -> float | None:
        """The duration of a readable file; `None` for a file that no check could read yet."""
        seconds = None if key is None else self._find(key)
        self.num_used += seconds is not None
        return seconds

    def add(self, results: Iterable[tuple[int | None, float]]) -> None:
        """Add keys and durations of readable files, in memory and in the file. Keys that are `None` are left out."""
        new = {key: seconds for key, seconds in results if key is not None and self._find(key) is None}
        self.new |= new
        if len(self.new) > NUM_UNSORTED:
            self._sort_in(np.array(list(self.new.items()), self.RECORD))
            self.new.clear()
        if not new or not self.is_writer or self.error:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(np.array(list(new.items()), self.RECORD).tobytes())
        except OSError as error:
            self.error = f"{self.path} cannot be written ({error.strerror}): the next run opens all files again."


def writes_cache() -> bool:
    """Whether this process writes what its machine's cache stores: the first of the processes that see this cache. Called on all."""
    ids = gather_on_cpu(cache_id())
    rank, _ = _rank()
    return ids.index(ids[rank]) == rank


def _versions() -> str:
    return f"av{version('av')}_tubevit{version('tubevit')}"


def _default_cache() -> Path:
    return cache_folder() / f"readable_files_{_versions()}.bin"
