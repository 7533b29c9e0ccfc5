# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
HMDB51 as it is distributed: `testTrainMulti_7030_splits/<class>_test_split<1|2|3>.txt` with lines `video.avi flag`. Flag 1 is
the training split, 2 the test split, and 0 a video that this split does not use.

One file stands for a split number: the files of all classes with this number are read together.
"""

import re
from pathlib import Path

from ..recorded_inputs import record_folder
from ..text_tables import read_text, sniff_line
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


FILE_NAME = re.compile(r"(?P<label>.+)_test_split(?P<number>\d+)")
LINE = re.compile(r"(?P<name>\S.*\S)\s+(?P<flag>[012])")
SPLIT_OF_FLAG = {"1": "train", "2": "test"}


def sniff_hmdb51(path: Path) -> bool:
    return FILE_NAME.fullmatch(path.stem) is not None and LINE.fullmatch(sniff_line(path)) is not None


def split_number(path: Path) -> str:
    """
    >>> split_number(Path("brush_hair_test_split2.txt"))
    '2'
    """
    match = FILE_NAME.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path}: the name of a list of HMDB51 ends with '_test_split' and a number.")
    return match["number"]


def read_hmdb51(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of all classes with the split number of `path`. The label is the name of the class."""
    number = split_number(path)
    samples, num_unused = [], 0
    record_folder(path.parent)
    for file in sorted(path.parent.glob(f"*_test_split{number}{path.suffix}")):
        label = FILE_NAME.fullmatch(file.stem)["label"]
        for line, text in enumerate(read_text(file).splitlines(), start=1):
            match = LINE.fullmatch(text.strip())
            if match is None and text.strip():
                raise ValueError(f"{file}, line {line}: {text.strip()[:80]!r} is not a video and a flag of 0, 1 or 2.")
            if match is None:
                continue
            num_unused += match["flag"] == "0"
            if match["flag"] != "0":
                name = f"{label}/{match['name']}"
                samples.append(VideoSample(context.videos.find(name), label, name, SPLIT_OF_FLAG[match["flag"]]))
    if num_unused and context.messages is not None:
        context.messages.append(f"Left out: {num_unused} videos that split {number} of HMDB51 does not use.")
    return samples


register_format(
    AnnotationFormat(
        name="hmdb51",
        description="HMDB51, <class>_test_split1.txt; from one of these files the lists of all classes are found",
        sniff=sniff_hmdb51,
        read=read_hmdb51,
        priority=32,
        file_group=split_number,
        suffixes=(".txt",),
    )
)
