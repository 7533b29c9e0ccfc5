# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Something-Something V1 and Jester as they are distributed: `something-something-v1-train.csv` with lines `id;class`, a test file with
lines of an id only, `something-something-v1-labels.csv` with a class per line, and a folder of frames per video, `<id>/00001.jpg`.

The classes are in alphabetical order, as in the classifiers of the UniFormer authors; the label file has another order.
"""

import difflib
import re
from pathlib import Path

from ..class_names import read_class_names
from ..recorded_inputs import record_folder
from ..text_tables import read_text, sniff_text
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of_file


NUM_CLASSES = (174, 27)  # of Something-Something V1 and Jester
LINE = re.compile(r"(?P<id>\d+)(?:;\s*(?P<label>[^\s\d;][^;]*?))?\s*")


def sniff_ssv1(path: Path) -> bool:
    lines = [line for line in sniff_text(path).splitlines() if line.strip()] if path.suffix.lower() == ".csv" else []
    matches = [LINE.fullmatch(line) for line in lines[:-1] or lines]  # the last line may be cut
    if not matches or None in matches:
        return False
    return all(match["label"] for match in matches) or split_of_file(path) == "test"


def ssv1_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """The classes in `names_file`, in its order; by default those of the label file beside the annotations, in alphabetical order."""
    if names_file:
        return read_class_names(names_file)
    record_folder(annotations.parent)
    found = sorted(annotations.parent.glob("*labels.csv"))
    return sorted(read_class_names(found[0])) if found else None


def read_ssv1(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a train, validation or test file. The label is the name of the class, `None` in a test file."""
    samples, known = [], set(context.class_names or [])
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        match = LINE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{path}, line {line}: {text.strip()[:80]!r} is not 'id;class'.")
        label = match["label"]
        if label is not None and known and label not in known:
            close = difflib.get_close_matches(label, known, n=1)
            hint = f"the nearest is {close[0]!r}" if close else "no class is similar"
            raise ValueError(f"{path}, line {line}: {label!r} is not one of the {len(known)} classes ({hint}).")
        found = context.videos.find_clip([match["id"]]) or str(context.videos.root / match["id"])
        samples.append(VideoSample(found, label, match["id"]))
    return samples


register_format(
    AnnotationFormat(
        name="ssv1",
        description="Something-Something V1 and Jester, lines id;class",
        sniff=sniff_ssv1,
        read=read_ssv1,
        priority=12,
        needs_split=True,
        suffixes=(".csv",),
        class_counts=NUM_CLASSES,
        class_names=ssv1_names,
    )
)
