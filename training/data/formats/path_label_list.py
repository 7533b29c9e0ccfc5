# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Lists of `path label_id` without a header, as SlowFast, VideoMAE and MMAction2 read them.

The separator is a space, a comma, a semicolon or a tab. A path may hold spaces: the label is what stands last. With several
labels per video, all numbers at the end are labels (`clip.mp4 0 3`).
"""

import re
from pathlib import Path

from .samples import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoFolder, VideoSample, read_text


LABEL = re.compile(r"(?P<path>.*?\S)\s*[\s,;]\s*(?P<label>-?\d+)")
LABELS = re.compile(r"(?P<path>.*?\S)\s*(?P<label>([\s,;]\s*-?\d+)+)")


def is_list(path: str | Path) -> bool:
    """Whether the first line of a file is a path and a number."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return LABEL.fullmatch(lines[0]) is not None


def read_list(path: str | Path, videos: VideoFolder, multi_label: bool = False) -> list[VideoSample]:
    """The rows of a list; the label is the index of a class, or with `multi_label` a tuple of them."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if line:
            name, label = _split_line(line, f"{path}, line {number}", multi_label)
            rows.append(VideoSample(videos.find(name), label, name))
    return rows


def _split_line(line: str, where: str, multi_label: bool) -> tuple[str, int | tuple]:
    match = (LABELS if multi_label else LABEL).fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: {line[:80]!r} is not a path and the index of a class.")
    name = match["path"].strip("\"'")
    ids = [int(text) for text in re.findall(r"-?\d+", match["label"])]
    if min(ids) < 0:
        raise ValueError(f"{where}: {min(ids)} is not the index of a class.")
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES and re.search(r"\s\d+$", name):
        raise ValueError(
            f"{where}: {line[:80]!r} looks like a folder of frames with their number; lists must name video files (with "
            "several labels per video, set multi_label)."
        )
    return name, tuple(dict.fromkeys(ids)) if multi_label else ids[0]
