# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Charades: CSV files with the columns `id` and `actions`, for example `c092 11.90 21.20;c147 0.00 12.60`.

The labels of a video are the classes of all its actions, at any time in the video. SlowFast uses only the actions within the
sampled clip; the paper does not specify this. Videos are `<id>.mp4`.
"""

import re
from pathlib import Path

from ..text_tables import read_table, sniff_header
from .registry import AnnotationFormat, ReadContext, read_names_file, register_format
from .samples import VideoSample


NUM_CLASSES = 157
COLUMNS = ("id", "actions")


def sniff_charades(path: Path) -> bool:
    return set(COLUMNS) <= set(sniff_header(path))


def read_charades(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of `Charades_v1_train.csv` or `_test.csv`. Labels are class indices; a video without actions has none."""
    samples = []
    for line, cells in read_table(path, COLUMNS):
        where = f"{path}, line {line}"
        if not cells["id"]:
            raise ValueError(f"{where}: the id is empty.")
        actions = {_parse_action(text, where) for text in cells["actions"].split(";") if text.strip()}
        found = context.videos.find_clip([cells["id"]]) or str(context.videos.root / f"{cells['id']}.mp4")
        samples.append(VideoSample(found, tuple(sorted(actions)), cells["id"]))
    return samples


def charades_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str]:
    """The names in `Charades_v1_classes.txt` without their codes; the codes c000 to c156 if no file is given."""
    names = read_names_file(annotations, names_file, num_classes)
    if names is None:
        return [f"c{index:03d}" for index in range(NUM_CLASSES)]
    return [re.sub(r"^c\d{3} ", "", name) for name in names]


def _parse_action(text: str, where: str) -> int:
    match = re.fullmatch(r"c(\d{3}) +-?[\d.]+ +-?[\d.]+", text.strip())
    if match is None:
        raise ValueError(f"{where}: {text.strip()[:60]!r} is not an action like 'c092 11.90 21.20'.")
    return int(match[1])


register_format(
    AnnotationFormat(
        name="charades",
        description="CSV with the columns id and actions",
        sniff=sniff_charades,
        read=read_charades,
        priority=30,
        needs_split=True,
        suffixes=(".csv",),
        multi_label=(True,),
        class_counts=(NUM_CLASSES,),
        class_names=charades_names,
    )
)
