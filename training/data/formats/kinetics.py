# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Kinetics-400, -600 and -700: the official CSV files, and clips that are named after video and time.

Columns are found by name: some editions have additional columns (`is_cc`), and test files have no `label`. A clip is
`<youtube_id>_<start:06d>_<end:06d>.mp4`, in one folder or in one folder per class; some copies omit the times. Ids may begin
with "-" and contain "_", so clips are looked up by the name that the row gives, and file names are never parsed.
"""

from pathlib import Path

from ..text_tables import read_header, read_table, sniff_header
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


NUM_CLASSES = (400, 600, 700)
COLUMNS = ("youtube_id", "time_start", "time_end")


def sniff_kinetics(path: Path) -> bool:
    return set(COLUMNS) <= set(sniff_header(path))


def read_kinetics(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of an official CSV. The label is the name of the class, `None` in a file without labels."""
    has_labels = "label" in read_header(path)
    samples = []
    for line, cells in read_table(path, [*COLUMNS, "label"] if has_labels else COLUMNS):
        where = f"{path}, line {line}"
        label = cells.get("label") or None
        if has_labels and label is None:
            raise ValueError(f"{where}: the label is empty.")
        if not cells["youtube_id"]:
            raise ValueError(f"{where}: the youtube_id is empty.")
        start, end = (_parse_seconds(cells[name], name, where) for name in COLUMNS[1:])
        clip = f"{cells['youtube_id']}_{start:06d}_{end:06d}"
        found = context.videos.find_clip([clip, cells["youtube_id"]], folder=label)
        found = found or str(context.videos.root / f"{clip}.mp4")
        samples.append(VideoSample(found, label, clip, split_of(cells.get("split", ""))))
    return samples


def _parse_seconds(text: str, name: str, where: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{where}: {name} is {text!r}, not a number of seconds.") from None


register_format(
    AnnotationFormat(
        name="kinetics",
        description="CSV with the columns youtube_id, time_start and time_end",
        sniff=sniff_kinetics,
        read=read_kinetics,
        priority=20,
        suffixes=(".csv", ".tsv", ".txt"),
        class_counts=NUM_CLASSES,
    )
)
