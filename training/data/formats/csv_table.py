# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Tables with the columns `path,label[,split]`: CSV or TSV with a header, JSON lines, JSON records, Parquet. The label is the name
of a class; several labels per video are separated by ";". An empty label means unknown.

If the table has columns of a start and an end (`segments`), the clip of a row is this segment of the video. Other columns are
ignored.
"""

from collections.abc import Sequence
from pathlib import Path

from ..segments import Segment, SegmentColumns
from ..text_tables import LIST_SEPARATOR, read_header, read_table, sniff_header
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


PATH_COLUMNS = (
    *(
        "path",
        "video_path",
        "file_name",
        "filename",
        "file",
        "video",
        "filepath",
        "file_path",
        "video_file",
        "video_name",
    ),
    *("clip", "clip_path", "clip_name", "image", "image_path", "url", "video_url", "video_id", "clip_id"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "label_name", "category", "action", "target", "cls"),
    *("label_id", "class_id"),
)
SPLIT_COLUMNS = ("split", "subset", "partition")


def sniff_csv(path: Path) -> bool:
    header = sniff_header(path)
    return find_column(header, PATH_COLUMNS) is not None and find_column(header, LABEL_COLUMNS) is not None


def read_csv(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a table. Raises `ValueError` for a missing column, an empty path, an unknown split and an invalid segment."""
    header = read_header(path)
    path_column = find_column(header, PATH_COLUMNS)
    if path_column is None:
        raise ValueError(f"{path} has no column 'path'; it has: {', '.join(header)[:200]}.")
    label_column = find_column(header, LABEL_COLUMNS) or LABEL_COLUMNS[0]
    split_column = find_column(header, SPLIT_COLUMNS) or SPLIT_COLUMNS[0]
    times = SegmentColumns.find(header, (path_column, label_column, split_column, context.group_column))
    context.tell(times.messages())
    required = [path_column, label_column] + ([context.group_column] if context.group_column else [])
    samples, num_cut = [], 0
    for line, cells in read_table(path, required):
        where, name = f"{path}, line {line}", cells[path_column]
        if not name:
            raise ValueError(f"{where}: the {path_column} is empty.")
        split = split_of(cells.get(split_column, ""))
        if cells.get(split_column) and split is None:
            raise ValueError(f"{where}: unknown split {cells[split_column]!r}; use train, validation or test.")
        label = _parse_label(cells[label_column], context.multi_label)
        segment = times.read(cells, where) if times else None
        if segment is not None and is_named_after(name, segment):
            segment, num_cut = None, num_cut + 1
        video_id = name if segment is None else f"{name}#{segment}"
        group = cells[context.group_column] or None if context.group_column else None
        samples.append(VideoSample(context.videos.find(name), label, video_id, split, segment, group))
    if num_cut:
        context.tell(
            [f"{num_cut} of {len(samples)} files are named after their segment: they are cut already and read whole."]
        )
    return samples


def is_named_after(name: str, segment: Segment) -> bool:
    """
    Whether the name of a file ends with the times of its segment, as in Kinetics: the file holds the segment only.

    >>> is_named_after("abc_000007_000017.mp4", Segment(7, 17)), is_named_after("abc.mp4", Segment(7, 17))
    (True, False)
    """
    if segment.start is None or segment.end is None:
        return False
    return Path(name).stem.endswith(f"_{int(segment.start):06d}_{int(segment.end):06d}")


def find_column(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The column of `header` whose name, in any case, comes first in `names`; `None` if there is no such column."""
    lower = {column.lower(): column for column in reversed(header)}
    return next((lower[name] for name in names if name in lower), None)


def _parse_label(text: str, multi_label: bool) -> str | tuple | None:
    if not multi_label:
        return text or None
    return tuple(dict.fromkeys(part.strip() for part in text.split(LIST_SEPARATOR) if part.strip()))


register_format(
    AnnotationFormat(
        name="csv",
        description="CSV, TSV, JSON lines, JSON records or Parquet with the columns path and label, and split if one file holds "
        "all splits",
        sniff=sniff_csv,
        read=read_csv,
        priority=50,
        suffixes=(".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"),
        multi_label=(False, True),
        options=("video_root", "frame_folder_fps", "group_column"),
    )
)
