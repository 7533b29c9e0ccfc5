# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
CSV files with a header, `path,label[,split]`. The label is the name of a class; several labels per video are separated by
";". An empty label means unknown. Other columns are ignored.
"""

from pathlib import Path

from ..text_tables import read_header, read_table, sniff_header
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


PATH_COLUMNS = ("path", "video_path", "file_name", "filename", "file", "video")
LABEL_SEPARATOR = ";"


def sniff_csv(path: Path) -> bool:
    header = sniff_header(path)
    return _path_column(header) is not None and "label" in header


def read_csv(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a table. Raises `ValueError` for a missing column, an empty path and an unknown split."""
    header = read_header(path)
    path_column = _path_column(header)
    if path_column is None:
        raise ValueError(f"{path} has no column 'path'; it has: {', '.join(header)[:200]}.")
    samples = []
    for line, cells in read_table(path, [path_column, "label"]):
        where, name = f"{path}, line {line}", cells[path_column]
        if not name:
            raise ValueError(f"{where}: the {path_column} is empty.")
        split = split_of(cells.get("split", ""))
        if cells.get("split") and split is None:
            raise ValueError(f"{where}: unknown split {cells['split']!r}; use train, validation or test.")
        label = _parse_label(cells["label"], context.multi_label)
        samples.append(VideoSample(context.videos.find(name), label, name, split))
    return samples


def _path_column(header: list[str]) -> str | None:
    return next((name for name in PATH_COLUMNS if name in header), None)


def _parse_label(text: str, multi_label: bool) -> str | tuple | None:
    if not multi_label:
        return text or None
    return tuple(dict.fromkeys(part.strip() for part in text.split(LABEL_SEPARATOR) if part.strip()))


register_format(
    AnnotationFormat(
        name="csv",
        description="CSV with the columns path and label, and split if one file holds all splits",
        sniff=sniff_csv,
        read=read_csv,
        priority=50,
        suffixes=(".csv",),
        multi_label=(False, True),
    )
)
