# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Kinetics-400, -600 and -700: the official CSV files, and clips that are named after video and time.

Columns are found by name: some editions have additional columns (`is_cc`), and test files have no `label`. A clip is
`<youtube_id>_<start:06d>_<end:06d>.mp4`, in one folder or in one folder per class; some copies omit the times. Ids may begin
with "-" and contain "_", so clips are looked up by the name that the row gives, and file names are never parsed.

A file `<youtube_id>.mp4` may be the whole film or the clip. If several segments of it are listed, it is the film, and the clip of
a row is its segment. If one is listed, the length of the file decides when it is read (`video_segments`).
"""

import math
from collections import defaultdict
from pathlib import Path

from ..segments import Segment
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
    samples: list[VideoSample] = []
    of_film: dict[str, list[int]] = defaultdict(list)  # path of a file without times in its name to its rows
    required = (
        [*COLUMNS] + (["label"] if has_labels else []) + ([context.group_column] if context.group_column else [])
    )
    for line, cells in read_table(path, required):
        where = f"{path}, line {line}"
        label = cells.get("label") or None
        if has_labels and label is None:
            raise ValueError(f"{where}: the label is empty.")
        if not cells["youtube_id"]:
            raise ValueError(f"{where}: the youtube_id is empty.")
        start, end = (_parse_seconds(cells[name], name, where) for name in COLUMNS[1:])
        if not 0 <= start < end:
            raise ValueError(f"{where}: the segment {start:g} to {end:g} s does not end after its start.")
        clip = f"{cells['youtube_id']}_{int(start):06d}_{int(end):06d}"
        found = context.videos.find_clip([clip, cells["youtube_id"]], folder=label)
        found = found or str(context.videos.root / f"{clip}.mp4")
        group = cells[context.group_column or "youtube_id"] or None
        if Path(found).stem != clip:
            of_film[found].append(len(samples))
        segment = Segment(start, end) if Path(found).stem != clip else None
        samples.append(VideoSample(found, label, clip, split_of(cells.get("split", "")), segment, group))
    for rows in of_film.values():
        may_be_cut = len({samples[row].segment for row in rows}) == 1
        for row in rows:
            samples[row] = samples[row]._replace(segment=samples[row].segment._replace(may_be_cut=may_be_cut))
    if of_film:
        number = sum(map(len, of_film.values()))
        context.tell(
            [
                f"{number} of {len(samples)} clips have a file without times in its name (<youtube_id>.mp4): the segment from "
                "time_start to time_end is read, or the whole file if it is as short as the segment."
            ]
        )
    return samples


def _parse_seconds(text: str, name: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"{where}: {name} is {text!r}, not a number of seconds.")
    return seconds


register_format(
    AnnotationFormat(
        name="kinetics",
        description="CSV with the columns youtube_id, time_start and time_end",
        sniff=sniff_kinetics,
        read=read_kinetics,
        priority=20,
        suffixes=(".csv", ".tsv", ".txt"),
        class_counts=NUM_CLASSES,
        options=("video_root", "frame_folder_fps", "group_column"),
    )
)
