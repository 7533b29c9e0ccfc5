# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit check-data`: whether every file of a data set can be read, before training finds out.

Opening a file does not tell: a flipped bit shows when the frame that it is in is decoded. By default the first and the last
frame are decoded, which finds files that are missing, empty, cut off or no videos; `--every-frame` decodes all.
"""

import argparse
import csv
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..options import add_config_arguments, read_config, whole_number
from .video_datasets import DataConfig, VideoData, load_video_dataset
from .worker_processes import ProcessDied, map_in_processes


REPORT_COLUMNS = ("split", "video_id", "path", "reason")
ON_CORRUPT_VIDEO = ("skip", "raise")
BLOCKS = {"data": DataConfig}


class CorruptVideo(NamedTuple):
    """A video that cannot be read, and why."""

    split: str
    video_id: str
    path: str
    reason: str


class CheckedVideo(NamedTuple):
    """What the check of a video found: the reason why it cannot be read, else its length."""

    reason: str | None
    num_frames: int = 0
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tubevit check-data [DATA] [KEY=VALUE ...] [options]"
    add_config_arguments(parser, BLOCKS)
    parser.add_argument("--every-frame", action="store_true", help="decode all frames, not the first and last only")
    parser.add_argument("--workers", type=whole_number(1), metavar="N", help="processes (default: one per core)")
    parser.add_argument("--report", default="corrupt_videos.csv", metavar="FILE", help="default: corrupt_videos.csv")
    parser.add_argument(
        "--dry-run", action="store_true", help="read the annotations and one file of each split; write nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found and write the report; the exit code is 1 if a file cannot be read."""
    args.overrides = [name if "=" in name else f"data={name}" for name in args.overrides]
    data = load_video_dataset(read_config(args, BLOCKS)["data"])
    report = Path(args.report)
    if not report.absolute().parent.is_dir():
        raise FileNotFoundError(f"--report {report}: there is no folder {report.parent}.")
    for note in data.notes:
        print(note)
    if args.dry_run:
        return dry_run(data, args.every_frame)
    bad, seconds = check_videos(data, args.every_frame, args.workers)
    total = sum(len(rows) for rows in data.splits.values())
    for split, rows in data.splits.items():
        num_bad = sum(each.split == split for each in bad)
        print(f"{split}: {len(rows):,} {data.media}s, {num_bad:,} cannot be read")
    print(f"{len(data.class_names)} classes" + (f", {seconds / 3600:.2f} hours of video" if seconds else ""))
    if not bad:
        return 0
    write_report(bad, report)
    print(f"{len(bad):,} of {total:,} cannot be read; {report} says why. The first: {bad[0].path}: {bad[0].reason}")
    return 1


def dry_run(data: VideoData, every_frame: bool = False) -> int:
    """Print what the annotations name, and try the first file of each split; the exit code is 1 if one cannot be read."""
    _check_not_streamed(data)
    for split, rows in data.splits.items():
        print(f"{split}: {len(rows):,} {data.media}s")
    print(f"{len(data.class_names)} classes")
    first = {split: rows.select(range(min(1, len(rows)))) for split, rows in data.splits.items()}
    bad, _ = check_videos(replace(data, splits=first), every_frame, num_workers=1)
    for video in bad:
        print(f"{video.path} cannot be read: {video.reason}")
    print("Dry run: the first file of each split was tried; nothing was written.")
    return 1 if bad else 0


def check_videos(
    data: VideoData, every_frame: bool = False, num_workers: int | None = None
) -> tuple[list[CorruptVideo], float]:
    """
    The videos (or images) that cannot be read, in the order of the splits, and how many seconds the others last together.

    Raises `ValueError` for streamed data, which is there only while it is read.
    """
    _check_not_streamed(data)
    total = sum(len(rows) for rows in data.splits.values())
    check = partial(check_row, media=data.media, every_frame=every_frame)
    items = ((split, index, row) for split, rows in data.splits.items() for index, row in enumerate(rows))
    bad, seconds = [], 0.0
    for (split, index, row), found in map_in_processes(check, items, total, num_workers, f"checking {data.media}s"):
        if isinstance(found, ProcessDied):
            found = CheckedVideo("the process that decoded it died")
        seconds += found.seconds
        if found.reason is not None:
            path = row[data.media].get("path") or ""
            bad.append(((split, index), CorruptVideo(split, row["video_id"], path, found.reason)))
    order = list(data.splits)
    bad.sort(key=lambda entry: (order.index(entry[0][0]), entry[0][1]))
    return [video for _, video in bad], seconds


def _check_not_streamed(data: VideoData) -> None:
    for split, rows in data.splits.items():
        if not hasattr(rows, "__len__"):
            raise ValueError(f"The {split} split is streamed: it cannot be checked before it is read.")


def check_row(item: tuple[str, int, dict], media: str, every_frame: bool) -> CheckedVideo:
    """Decode the first and last frame of a row, or all."""
    video = item[2][media]
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

    # One pixel is kept of each frame: a minute of video would take gigabytes.
    _, metadata = decode_video(
        video_source(video),
        None if every_frame else ends,
        frame_transform=lambda frames: frames[..., :1, :1],
        num_threads=1,
    )
    return CheckedVideo(None, metadata.total_num_frames, metadata.duration or 0.0)


def drop_bad(
    data: VideoData, bad: list[CorruptVideo], on_corrupt_video: str = "skip", max_share: float = 0.05
) -> VideoData:
    """
    `data` without the videos that cannot be read, with a note of how many they were.

    Raises `ValueError` with `on_corrupt_video="raise"` if there are any, and with "skip" if a split has a larger share of them
    than `max_share`, or nothing else.
    """
    if on_corrupt_video not in ON_CORRUPT_VIDEO:
        raise ValueError(f"on_corrupt_video must be skip or raise, got {on_corrupt_video!r}.")
    splits, notes = dict(data.splits), list(data.notes)
    for split, rows in data.splits.items():
        here = {video.video_id: video for video in bad if video.split == split}
        if not here:
            continue  # nothing is known of a stream, which cannot be counted either
        kept = [index for index, video_id in enumerate(rows["video_id"]) if video_id not in here]
        num_bad = len(rows) - len(kept)
        if not num_bad:
            continue
        first = next(iter(here.values()))
        found = f"{num_bad} of {len(rows)} {data.media}s of the {split} split cannot be read"
        if on_corrupt_video == "raise":
            raise ValueError(
                f"{found}, the first: {first.path}: {first.reason}; on_corrupt_video=skip leaves them out."
            )
        if not kept or num_bad > max_share * len(rows):
            raise ValueError(
                f"{found}, more than max_corrupt_fraction={max_share:g} allows; the first: {first.path}: {first.reason}"
            )
        splits[split] = rows.select(kept)
        notes.append(f"{found} and are left out, the first: {first.path}: {first.reason}")
    return VideoData(splits, data.class_names, data.media, data.multi_label, data.data_format, notes)


def write_report(bad: list[CorruptVideo], path: str | Path) -> None:
    """A CSV file with a line per video that cannot be read."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(REPORT_COLUMNS)
        writer.writerows(bad)


def read_report(path: str | Path) -> list[CorruptVideo]:
    """What `write_report` wrote: `drop_bad` takes it, so that a data set need not be checked before every run."""
    from .text_tables import read_table

    return [
        CorruptVideo(*(cells[name] for name in REPORT_COLUMNS)) for _, cells in read_table(path, REPORT_COLUMNS, ",")
    ]
