# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
UCF101 as it is distributed: `trainlist01.txt` with lines `class/video.avi number`, `testlist01.txt` with lines `class/video.avi`,
and `classInd.txt` with the number of each class, from 1. There are three train lists and three test lists.

The class of a video is its folder, in both files. Lists of other data sets whose lines are only paths are read alike.
"""

import re
from pathlib import Path

from ..class_names import ClassNames, read_class_names
from ..media_files import MEDIA_SUFFIXES
from ..recorded_inputs import record_file
from ..text_tables import read_text, sniff_text
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


NAMES_FILE = "classInd.txt"
LIST_NAME = re.compile(r"(train|test)list\d*", re.IGNORECASE)
LINE = re.compile(r"(?P<path>[^\t,;]+?\.(?P<suffix>\w+))(\s+(?P<number>\d+))?")


def sniff_ucf101(path: Path) -> bool:
    lines = [line.strip() for line in sniff_text(path).splitlines() if line.strip()] if path.suffix == ".txt" else []
    matches = [_match(line) for line in lines[:-1] or lines]  # the last line may be cut
    if not matches or None in matches:
        return False
    if all(match["number"] is None for match in matches):
        return True
    pairs = {(match["number"], _label(match)) for match in matches}
    one_to_one = len(pairs) == len(dict(pairs)) == len({label for _, label in pairs})
    return one_to_one and LIST_NAME.fullmatch(path.stem) is not None


def ucf101_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """The names in `names_file`, by default in `classInd.txt` beside the list; `None` without a file."""
    path = Path(names_file) if names_file else annotations.parent / NAMES_FILE
    record_file(path)
    return read_class_names(path) if names_file or path.is_file() else None


def read_ucf101(path: Path, context: ReadContext) -> list[VideoSample]:
    """
    The samples of a list. The label is the name of the class.

    Raises `ValueError` for a line that is not the path of a video, and for a number that does not belong to the folder.
    """
    first = context.class_names.first_number if isinstance(context.class_names, ClassNames) else 0
    name_of = dict(enumerate(context.class_names or [], start=first))
    samples = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        match = _match(text.strip())
        if match is None:
            raise ValueError(f"{path}, line {line}: {text.strip()[:80]!r} is not the path of a video.")
        name = match["path"].replace("\\", "/")
        found = context.videos.find(name)
        label = _label(match) or Path(found).parent.name
        if match["number"] and name_of.setdefault(int(match["number"]), label) != label:
            raise ValueError(
                f"{path}, line {line}: class {match['number']} is {name_of[int(match['number'])]!r}, but the folder is {label!r}."
            )
        samples.append(VideoSample(found, label, name))
    if context.messages is not None and not name_of:
        context.messages.append(f"{path.name} states no labels: the class of a video is its folder.")
    return samples


def _match(line: str) -> re.Match | None:
    match = LINE.fullmatch(line)
    return match if match is not None and f".{match['suffix'].lower()}" in MEDIA_SUFFIXES else None


def _label(match: re.Match) -> str:
    """The folder in the path; empty without a folder, which is then that of the file."""
    return match["path"].replace("\\", "/").rpartition("/")[0].rpartition("/")[2]


register_format(
    AnnotationFormat(
        name="ucf101",
        description="UCF101, one path CLASS/VIDEO per line",
        sniff=sniff_ucf101,
        read=read_ucf101,
        priority=34,
        needs_split=True,
        suffixes=(".txt",),
        class_names=ucf101_names,
    )
)
