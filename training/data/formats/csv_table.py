# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
CSV files with a header: our own `path,label[,split]`, and Charades.

In ours the label is the name of a class; with several labels per video, names separated by ";". Charades has `id` and
`actions`, `c092 11.90 21.20;c147 0.00 12.60`: the classes of a video are those of all its actions, wherever in time they
are (SlowFast counts those within the clip it took; the paper does not say).
"""

import re
from pathlib import Path

from .samples import VideoFolder, VideoSample, read_table, split_of


PATH_COLUMNS = ("path", "video_path", "file_name", "filename", "file", "video")
LABEL_SEPARATOR = ";"
NUM_CHARADES_CLASSES = 157


def path_column(header: list[str]) -> str | None:
    """The column that names the files, `None` if no column is called so."""
    return next((name for name in PATH_COLUMNS if name in header), None)


def is_charades(header: list[str]) -> bool:
    """Whether a CSV file with this header is one of Charades."""
    return {"id", "actions"} <= set(header)


def read_csv(
    path: str | Path, header: list[str], videos: VideoFolder, multi_label: bool = False, delimiter: str | None = None
) -> list[VideoSample]:
    """
    The rows of a `path,label[,split]` file; other columns are ignored, and an empty label is an unknown one.

    Raises `ValueError` for a missing column, an empty path and a split of an unknown name.
    """
    name_column = path_column(header)
    if name_column is None:
        raise ValueError(f"{path} has no column 'path'; it has: {', '.join(header)[:200]}.")
    rows = []
    for line, cells in read_table(path, [name_column, "label"], delimiter):
        where, name = f"{path}, line {line}", cells[name_column]
        if not name:
            raise ValueError(f"{where}: the {name_column} is empty.")
        split = split_of(cells.get("split", ""))
        if cells.get("split") and split is None:
            raise ValueError(f"{where}: there is no split {cells['split']!r}; there are train, validation and test.")
        rows.append(VideoSample(videos.find(name), _label(cells["label"], multi_label), name, split))
    return rows


def _label(text: str, multi_label: bool) -> str | tuple | None:
    if not multi_label:
        return text or None
    return tuple(dict.fromkeys(part.strip() for part in text.split(LABEL_SEPARATOR) if part.strip()))


def read_charades(path: str | Path, videos: VideoFolder) -> list[VideoSample]:
    """The rows of `Charades_v1_train.csv` or `_test.csv`; the label is a tuple of indices, empty without actions."""
    rows = []
    for line, cells in read_table(path, ["id", "actions"]):
        where = f"{path}, line {line}"
        if not cells["id"]:
            raise ValueError(f"{where}: there is no id.")
        actions = [_action(text, where) for text in cells["actions"].split(";") if text.strip()]
        found = videos.find_clip([cells["id"]]) or str(videos.root / f"{cells['id']}.mp4")
        rows.append(VideoSample(found, tuple(sorted(set(actions))), cells["id"]))
    return rows


def charades_names(names: list[str] | None) -> list[str]:
    """
    The 157 classes: those of `Charades_v1_classes.txt` without their codes, or else the codes.

    >>> charades_names(None)[:2]
    ['c000', 'c001']
    """
    if names is None:
        return [f"c{index:03d}" for index in range(NUM_CHARADES_CLASSES)]
    return [re.sub(r"^c\d{3} ", "", name) for name in names]


def _action(text: str, where: str) -> int:
    match = re.fullmatch(r"c(\d{3}) +-?[\d.]+ +-?[\d.]+", text.strip())
    if match is None:
        raise ValueError(f"{where}: {text.strip()[:60]!r} is not an action like 'c092 11.90 21.20'.")
    return int(match[1])
