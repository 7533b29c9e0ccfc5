# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data check`: finds the files of a data set that cannot be read, before a training run.

By default the first and the last frame of each video are decoded, which finds files that are missing, empty, truncated or not
videos. Damage between these frames is found by `--every-frame`, which decodes all frames.
"""

import argparse
import csv
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..command_line import add_config_arguments, whole_number
from ..options import read_config
from .class_names import describe_classes
from .dataset_columns import row_source
from .video_datasets import DataConfig, VideoData, load_video_dataset
from .worker_processes import FILES_PER_PROCESS, OPENED_FILES_PER_PROCESS, ProcessDied, map_in_processes


REPORT_COLUMNS = ("split", "video_id", "path", "reason")
ON_CORRUPT_VIDEO = ("skip", "raise")
BLOCKS = {"data": DataConfig}


class CorruptVideo(NamedTuple):
    """A video that cannot be read, and the reason."""

    split: str
    video_id: str
    path: str
    reason: str


class CheckedVideo(NamedTuple):
    """Result of the check of a video. reason: why it cannot be read; `None` for a readable video, which has a length."""

    reason: str | None
    num_frames: int = 0
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
    corrupt, seconds = check_videos(data, args.every_frame, args.workers)
    total = sum(len(rows) for rows in data.splits.values())
    print(f"classes: {describe_classes(data.class_names)}")
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
    data: VideoData, every_frame: bool = False, num_workers: int | None = None
) -> tuple[list[CorruptVideo], float]:
    """
    The videos (or images) that cannot be read, in the order of the rows, and the total duration of the others in seconds.

    Raises `ValueError` for streamed splits, which cannot be read by index.
    """
    _check_not_streamed(data)
    total = sum(len(rows) for rows in data.splits.values())
    check = partial(check_row, media=data.media, every_frame=every_frame)
    items = ((split, index, row) for split, rows in data.splits.items() for index, row in enumerate(rows))
    corrupt, seconds = [], 0.0
    per_process = FILES_PER_PROCESS if every_frame else OPENED_FILES_PER_PROCESS
    description = f"checking {data.media}s"
    for (split, index, row), found in map_in_processes(check, items, total, num_workers, description, per_process):
        if isinstance(found, ProcessDied):
            found = CheckedVideo("the process that decoded it died")
        seconds += found.seconds
        if found.reason is not None:
            path = row[data.media].get("path") or ""
            corrupt.append(((split, index), CorruptVideo(split, row["video_id"], path, found.reason)))
    order = list(data.splits)
    corrupt.sort(key=lambda entry: (order.index(entry[0][0]), entry[0][1]))
    return [video for _, video in corrupt], seconds


def _check_not_streamed(data: VideoData) -> None:
    for split, rows in data.splits.items():
        if not hasattr(rows, "__len__"):
            raise ValueError(f"The {split} split is streamed and cannot be checked; set streaming=false.")


def check_row(item: tuple[str, int, dict], media: str, every_frame: bool) -> CheckedVideo:
    """Decode the first and the last frame of a row `(split, index, row)`, or all frames. The row may be a segment of a video."""
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
    return CheckedVideo(None, metadata.total_num_frames, metadata.duration or 0.0)


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
    splits, messages = dict(data.splits), list(data.messages)
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
        messages.append(f"{found} and are dropped; the first: {first.path}: {first.reason}")
    return VideoData(splits, data.class_names, data.media, data.multi_label, data.data_format, messages)


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
