# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Moments in Time as it is distributed: `trainingSet.csv` and `validationSet.csv` without a header, with lines
`class/video.mp4,class,positive votes,negative votes`; `moments_categories.txt` with lines `class,number`, from 0; and the videos in
`training/<class>/` and `validation/<class>/`.
"""

import csv
import os
from pathlib import Path

from ..class_names import read_class_names
from ..media_files import MEDIA_SUFFIXES
from ..recorded_inputs import record_file
from ..text_tables import read_text, sniff_line
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import SPLIT_NAMES, VideoSample, split_of_file


NUM_CLASSES = (339, 305)  # of the first and the second version
NAMES_FILE = "moments_categories.txt"


def sniff_moments(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and _split_line(sniff_line(path)) is not None


def moments_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """The classes in `names_file`, by default in `moments_categories.txt` beside the annotations; `None` without a file."""
    path = Path(names_file) if names_file else annotations.parent / NAMES_FILE
    record_file(path)
    return read_class_names(path) if names_file or path.is_file() else None


def read_moments(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a training or validation file. The label is the name of the class."""
    folders = ("", *SPLIT_NAMES.get(split_of_file(path) or "", ()))  # a path may lack the folder of its split
    samples = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        cells = _split_line(text)
        if cells is None:
            raise ValueError(f"{path}, line {line}: {text.strip()[:80]!r} is not 'class/video.mp4,class,votes,votes'.")
        found = [context.videos.find(os.path.join(folder, cells[0])) for folder in folders]
        existing = next((each for each in found if os.path.exists(each)), found[0])
        samples.append(VideoSample(existing, cells[1], cells[0]))
    return samples


def _split_line(line: str) -> list[str] | None:
    """The cells of a line, a path, a class and numbers of votes; `None` for another line."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error:
        return None
    if len(cells) < 2 or Path(cells[0]).suffix.lower() not in MEDIA_SUFFIXES or not cells[1]:
        return None
    # A list of paths and class indices has no class of text; without votes, the class is the folder of the video.
    is_class = not cells[1].lstrip("-").isdecimal() and all(cell.lstrip("-").isdecimal() for cell in cells[2:])
    return cells if is_class and (len(cells) > 2 or Path(cells[0]).parent.name == cells[1]) else None


register_format(
    AnnotationFormat(
        name="moments_in_time",
        description="Moments in Time, CSV lines path,class,votes,votes without a header",
        sniff=sniff_moments,
        read=read_moments,
        priority=36,
        needs_split=True,
        suffixes=(".csv",),
        class_counts=NUM_CLASSES,
        class_names=moments_names,
    )
)
