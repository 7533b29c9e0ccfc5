# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Lists of `path label_index` without a header, as in SlowFast, VideoMAE and MMAction2, and of frame folders, `path num_frames
label_index` or `path offset num_frames label_index`, as MMAction2's lists of rawframes. `offset` frames are left out.

The separator is a space, comma, semicolon or tab. A path may contain spaces: the label is the last number of the line. With
several labels per video, all numbers at the end of the line are labels (`clip.mp4 0 3`).
"""

import re
from pathlib import Path

from ..media_files import MEDIA_SUFFIXES
from ..segments import Segment
from ..text_tables import read_text, sniff_line
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


LABEL = re.compile(r"(?P<path>.*?\S)\s*[\s,;]\s*(?P<label>-?\d+)")
NUMBERS_AFTER_VIDEO = re.compile(
    rf"(?:{'|'.join(map(re.escape, sorted(MEDIA_SUFFIXES)))})[\"']?((?:[\s,;]+-?[\d.]+)+)$", re.I
)


def sniff_list(path: Path) -> bool:
    return LABEL.fullmatch(sniff_line(path)) is not None


def read_list(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a list. Labels are class indices."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [_parse_line(line.strip(), f"{path}, line {number}", context) for number, line in lines if line.strip()]


def _parse_line(line: str, where: str, context: ReadContext) -> VideoSample:
    name, numbers = _split(line, None if context.multi_label else 1, where)
    segment = None
    if extra := NUMBERS_AFTER_VIDEO.search(name):
        raise ValueError(
            f"{where}: the numbers {extra[1].strip()!r} stand between a video and its class index; for a time segment use a table "
            "with the columns path, start, end and label, for several labels per video set multi_label."
        )
    if Path(context.videos.find(name)).suffix.lower() not in MEDIA_SUFFIXES:
        name, numbers, segment = _parse_frame_folder(line, where, context)
    if min(numbers) < 0:
        raise ValueError(f"{where}: a class index is at least 0, got {min(numbers)}.")
    label = tuple(dict.fromkeys(numbers)) if context.multi_label else numbers[0]
    video_id = f"{name}#{segment}" if segment is not None and segment.start_frame else name
    return VideoSample(context.videos.find(name), label, video_id, segment=segment)


def _parse_frame_folder(line: str, where: str, context: ReadContext) -> tuple[str, list[int], Segment | None]:
    """Name, labels and frames of `path label`, `path num_frames label` or `path offset num_frames label`."""
    name, every = _split(line, None, where)
    if len(every) == 1:
        return name, every, None
    if context.multi_label:
        num_labels, offset, num_frames = len(every) - 1, 0, every[0]
    else:
        splits = [_split(line, count, where) for count in (3, 2) if count <= len(every)]
        is_folder = [len(splits) > 1 and Path(context.videos.find(each[0])).is_dir() for each in splits]
        name, every = splits[is_folder.index(True) if True in is_folder else 0]
        num_labels, offset, num_frames = 1, sum(every[:-2]), every[-2]
    if num_frames < 1 or offset < 0:
        raise ValueError(
            f"{where}: the number of frames must be at least 1 and their offset at least 0, got {line[-80:]!r}."
        )
    return name, every[-num_labels:], Segment(start_frame=offset, end_frame=offset + num_frames)


def _split(line: str, count: int | None, where: str) -> tuple[str, list[int]]:
    """The path and the `count` numbers at the end of a line; `None` for all numbers. Raises `ValueError` without a number."""
    repeats = "+" if count is None else f"{{{count}}}"
    match = re.fullmatch(rf"(?P<path>.*?\S)\s*(?P<numbers>(?:[\s,;]\s*-?\d+){repeats})", line)
    if match is None:
        raise ValueError(f"{where}: {line[:80]!r} is not a path and a class index.")
    return match["path"].strip("\"'"), _numbers(match["numbers"])


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


register_format(
    AnnotationFormat(
        name="list",
        description="a path and a class index per line, without a header",
        sniff=sniff_list,
        read=read_list,
        priority=40,
        needs_split=True,
        suffixes=(".txt", ".csv"),
        multi_label=(False, True),
    )
)
