# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Something-Something V2 as it is distributed: a JSON list of videos per split, and one JSON dictionary of labels.

The class of a video is its `template` without square brackets ("Putting [something] on [something]"); its `label` is the
template with the objects filled in. Videos are `<id>.webm`. Entries of the test file have an `id` only.
"""

import difflib
from pathlib import Path
from typing import Any

from ..class_names import read_class_names
from ..recorded_inputs import record_file
from ..text_tables import read_json, sniff_json
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoFolder, VideoSample


NUM_CLASSES = 174
ENTRY_KEYS = {"id", "label", "template", "placeholders"}
LABEL_FILES = ("something-something-v2-labels.json", "labels.json")


def sniff_ssv2(path: Path) -> bool:
    start = sniff_json(path)
    first = start[0] if isinstance(start, list) else None
    # An id and a label without a template are a list of another data set.
    return isinstance(first, dict) and ("template" in first or set(first) == {"id"}) and set(first) <= ENTRY_KEYS


def ssv2_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str]:
    """
    The classes, from `names_file` or the label file in the folder of the annotations.

    Raises `FileNotFoundError` without a label file, and `ValueError` unless the file has 174 (or `num_classes`) classes,
    because other data sets have label files of the same name.
    """
    path = Path(names_file) if names_file else _find_label_file(annotations)
    names = read_class_names(path)
    if len(names) != (num_classes or NUM_CLASSES):
        raise ValueError(
            f"{path} holds {len(names)} classes, Something-Something V2 has {NUM_CLASSES}: it may belong to another data set; "
            f"set num_classes={len(names)} to use it."
        )
    return names


def read_ssv2(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a train, validation or test file. The label is the name of the class, `None` in a test file."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of videos, not a {type(entries).__name__}.")
    names = set(context.class_names or [])
    return [_read_entry(entry, f"{path}, entry {i}", context.videos, names) for i, entry in enumerate(entries)]


def _find_label_file(annotations: Path) -> Path:
    for name in LABEL_FILES:
        record_file(annotations.parent / name)
        if (annotations.parent / name).is_file():
            return annotations.parent / name
    raise FileNotFoundError(
        f"{annotations.parent} holds no {' or '.join(LABEL_FILES)}; set class_names_file to the label file."
    )


def _read_entry(entry: Any, where: str, videos: VideoFolder, names: set[str]) -> VideoSample:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)) or not str(entry["id"]):
        raise ValueError(f"{where}: a video must be a dictionary with an 'id'.")
    video_id, template = str(entry["id"]), entry.get("template")
    label = None
    if template is not None:
        if not isinstance(template, str):
            raise ValueError(f"{where}: the template is a {type(template).__name__}, not text.")
        label = template.replace("[", "").replace("]", "")
        if label not in names:
            close = difflib.get_close_matches(label, names, n=1)
            hint = f"the nearest label is {close[0]!r}" if close else "no label is similar"
            raise ValueError(f"{where}: {label!r} is not in the label file ({hint}).")
    elif "label" in entry:
        raise ValueError(
            f"{where}: the template, which names the class, is missing; the label alone does not name it."
        )
    path = videos.find_clip([video_id]) or str(videos.root / f"{video_id}.webm")
    return VideoSample(path, label, video_id)


register_format(
    AnnotationFormat(
        name="ssv2",
        description="Something-Something V2, JSON",
        sniff=sniff_ssv2,
        read=read_ssv2,
        priority=10,
        needs_split=True,
        suffixes=(".json",),
        ignored_files=("*answers*",),
        class_counts=(NUM_CLASSES,),
        class_names=ssv2_names,
    )
)
