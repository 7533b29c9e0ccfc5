# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Kinetics-400, -600 and -700: the official CSV and JSON files, and clips that are named after video and time.

A JSON file is an object `{youtube_id: {"annotations": {"label", "segment": [start, end]}, "duration", "subset", "url"}}`. Columns of CSV are found by name: some editions have additional columns (`is_cc`), and test files have no `label`. A clip is
`<youtube_id>_<start:06d>_<end:06d>.mp4`, in one folder or in one folder per class; some copies omit the times. Ids may begin
with "-" and contain "_", so clips are looked up by the name that the row gives, and file names are never parsed.

A file `<youtube_id>.mp4` may be the whole film or the clip. If several segments of it are listed, it is the film, and the clip of
a row is its segment. If one is listed, the length of the file decides when it is read (`video_segments`).
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..media_files import prefix_of
from ..segments import Segment, parse_seconds
from ..text_tables import read_header, read_json, read_table, sniff_header, sniff_json
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


NUM_CLASSES = (400, 600, 700)
COLUMNS = ("youtube_id", "time_start", "time_end")


def sniff_kinetics(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return set(COLUMNS) <= set(sniff_header(path))
    start = sniff_json(path)
    entry = next(iter(start.values())) if isinstance(start, dict) else None
    return isinstance(entry, dict) and isinstance(entry.get("annotations"), dict) and "segment" in entry["annotations"]


def read_kinetics(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of an official CSV or JSON file. The label is the name of the class, `None` in a file without labels."""
    samples: list[VideoSample] = []
    of_film: dict[str, list[int]] = defaultdict(list)  # path of a file without times in its name to its rows
    for where, cells in (_read_json if path.suffix.lower() == ".json" else _read_csv)(path, context.group_column):
        label = cells.get("label") or None
        if not cells["youtube_id"]:
            raise ValueError(f"{where}: the youtube_id is empty.")
        start, end = (parse_seconds(cells[name], name, where) for name in COLUMNS[1:])
        if not 0 <= start < end:
            raise ValueError(f"{where}: the segment {start:g} to {end:g} s does not end after its start.")
        clip = f"{cells['youtube_id']}_{int(start):06d}_{int(end):06d}"
        found = context.videos.find_clip([clip, cells["youtube_id"]], folder=label)
        found = found or f"{prefix_of(context.videos.root)}{clip}.mp4"
        group = cells[context.group_column or "youtube_id"] or None
        is_film = os.path.splitext(os.path.basename(found))[0] != clip
        if is_film:
            of_film[found].append(len(samples))
        segment = Segment(start, end) if is_film else None
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


def _read_csv(path: Path, group_column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    has_labels = "label" in read_header(path)
    required = [*COLUMNS, *(["label"] if has_labels else []), *([group_column] if group_column else [])]
    for line, cells in read_table(path, required):
        if has_labels and not cells["label"]:
            raise ValueError(f"{path}, line {line}: the label is empty.")
        yield f"{path}, line {line}", cells


def _read_json(path: Path, group_column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a JSON file with the columns of CSV."""
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must be an object from youtube_id to the annotations of a video.")
    if group_column not in (None, "youtube_id"):
        raise ValueError(
            f"{path} has no column {group_column!r}; JSON of Kinetics has the group_column youtube_id only."
        )
    for youtube_id, entry in content.items():
        where = f"{path}, {youtube_id!r}"
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        segment = annotations.get("segment") if isinstance(annotations, dict) else None
        if not isinstance(segment, list) or len(segment) != 2:
            raise ValueError(f"{where}: the 'annotations' must have a 'segment' [start, end].")
        label, subset = annotations.get("label"), entry.get("subset")
        for name, value in (("label", label), ("subset", subset)):
            if not isinstance(value, str | None):
                raise ValueError(f"{where}: the {name} is {value!r}, not text.")
        times = dict(zip(COLUMNS[1:], segment, strict=True))
        yield where, {"youtube_id": youtube_id, "label": label, "split": subset or "", **times}


register_format(
    AnnotationFormat(
        name="kinetics",
        description="Kinetics, CSV with the columns youtube_id, time_start and time_end, or JSON by youtube_id",
        sniff=sniff_kinetics,
        read=read_kinetics,
        priority=20,
        suffixes=(".csv", ".tsv", ".txt", ".json"),
        class_counts=NUM_CLASSES,
        options=("video_root", "frame_folder_fps", "group_column"),
    )
)
