# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Lists of `path label_index` without a header, as in SlowFast, VideoMAE and MMAction2.

The separator is a space, comma, semicolon or tab. A path may contain spaces: the label is the last number of the line. With
several labels per video, all numbers at the end of the line are labels (`clip.mp4 0 3`).
"""

import re
from pathlib import Path

from ..media_files import MEDIA_SUFFIXES
from ..text_tables import read_text, sniff_line
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


LABEL = re.compile(r"(?P<path>.*?\S)\s*[\s,;]\s*(?P<label>-?\d+)")
LABELS = re.compile(r"(?P<path>.*?\S)\s*(?P<label>([\s,;]\s*-?\d+)+)")


def sniff_list(path: Path) -> bool:
    return LABEL.fullmatch(sniff_line(path)) is not None


def read_list(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a list. Labels are class indices."""
    samples = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if line:
            name, label = _parse_line(line, f"{path}, line {number}", context.multi_label)
            samples.append(VideoSample(context.videos.find(name), label, name))
    return samples


def _parse_line(line: str, where: str, multi_label: bool) -> tuple[str, int | tuple]:
    match = (LABELS if multi_label else LABEL).fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: {line[:80]!r} is not a path and a class index.")
    name = match["path"].strip("\"'")
    indices = [int(text) for text in re.findall(r"-?\d+", match["label"])]
    if min(indices) < 0:
        raise ValueError(f"{where}: a class index is at least 0, got {min(indices)}.")
    suffix = Path(name).suffix.lower()
    if suffix not in MEDIA_SUFFIXES and re.search(r"\s\d+$", name):
        raise ValueError(
            f"{where}: {line[:80]!r} looks like a folder of frames with their number; lists must name video files (for "
            "several labels per video, set multi_label)."
        )
    return name, tuple(dict.fromkeys(indices)) if multi_label else indices[0]


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
