# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Diving48 as it is distributed: `Diving48_V2_train.json` and `_test.json`, lists of `{"vid_name", "label", "start_frame", "end_frame"}`,
with class numbers from 0; and `Diving48_vocab.json`, which describes each class by four words. Videos are `<vid_name>.mp4`.

A video is a dive that was cut from a competition: its frames are read whole. The dives of one competition are a group.
"""

from pathlib import Path
from typing import Any

from ..class_names import ClassNames, read_class_names
from ..recorded_inputs import record_file
from ..segments import Segment
from ..text_tables import read_json, sniff_json
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


NUM_CLASSES = 48
NAMES_FILE = "Diving48_vocab.json"


def sniff_diving48(path: Path) -> bool:
    start = sniff_json(path)
    return isinstance(start, list) and isinstance(start[0], dict) and {"vid_name", "label"} <= set(start[0])


def diving48_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """
    The classes of `names_file`, by default of `Diving48_vocab.json` beside the annotations: the words of a class joined by "+"
    ("Back+15som+05Twis+FREE", as in MMAction2). `None` without a file: the classes are then called by their numbers.
    """
    path = Path(names_file) if names_file else annotations.parent / NAMES_FILE
    record_file(path)
    if not path.is_file() and not names_file:
        return None
    content = read_json(path) if path.suffix.lower() == ".json" else None
    if isinstance(content, list) and content and all(isinstance(words, list) for words in content):
        names = ["+".join(map(str, words)) for words in content]
    else:
        names = read_class_names(path)
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path} lists the class {min(repeated)!r} more than once.")
    return ClassNames(names, first_number=0)


def read_diving48(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a train or test file. The label is the name of the class, or its number without names."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of videos, not a {type(entries).__name__}.")
    return [_read_entry(entry, f"{path}, entry {index}", context) for index, entry in enumerate(entries)]


def _read_entry(entry: Any, where: str, context: ReadContext) -> VideoSample:
    if not isinstance(entry, dict) or not isinstance(entry.get("vid_name"), str) or not entry["vid_name"]:
        raise ValueError(f"{where}: a video must be a dictionary with a 'vid_name'.")
    name, label = entry["vid_name"], entry.get("label")
    largest = (len(context.class_names) if context.class_names else NUM_CLASSES) - 1
    if label is not None and (isinstance(label, bool) or not isinstance(label, int) or not 0 <= label <= largest):
        raise ValueError(f"{where}: the label is {label!r}, not a class number from 0 to {largest}.")
    if label is not None and context.class_names:
        label = context.class_names[label]
    start = entry.get("start_frame") or 0
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"{where}: the start_frame is {start!r}, not a number of frames.")
    segment = Segment(start_frame=start) if start else None  # files are cut before the first frame and after the last
    found = context.videos.find_clip([name]) or str(context.videos.root / f"{name}.mp4")
    return VideoSample(found, label, name, segment=segment, group=name.rpartition("_")[0] or None)


register_format(
    AnnotationFormat(
        name="diving48",
        description="Diving48, JSON list with vid_name and label",
        sniff=sniff_diving48,
        read=read_diving48,
        priority=14,
        needs_split=True,
        suffixes=(".json",),
        class_counts=(NUM_CLASSES,),
        class_names=diving48_names,
    )
)
