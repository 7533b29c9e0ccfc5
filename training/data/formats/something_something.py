# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Something-Something V2 as it is distributed: a JSON list of videos per split, and one dictionary of labels.

The class of a video is its `template` without the square brackets ("Putting [something] on [something]"); its `label` is
the sentence that was filled in. Videos are `<id>.webm`. Test entries hold an `id` only.
"""

import difflib
from pathlib import Path

from ..class_names import load_json, read_class_names
from .samples import VideoFolder, VideoSample


NUM_CLASSES = 174
LABEL_FILES = ("something-something-v2-labels.json", "labels.json")


def read_ssv2_labels(path: str | Path, num_classes: int | None = None) -> list[str]:
    """The class names in the order of their indices. Raises `ValueError` unless there are 174 (or `num_classes`)."""
    names = read_class_names(path)
    expected = num_classes or NUM_CLASSES
    if len(names) != expected:
        raise ValueError(
            f"{path} holds {len(names)} classes, Something-Something V2 has {NUM_CLASSES}: other data sets use files of the "
            f"same name; num_classes={len(names)} takes it as it is."
        )
    return names


def find_ssv2_labels(annotations: str | Path) -> Path:
    """The labels file beside an annotation file. Raises `FileNotFoundError` if there is none."""
    folder = Path(annotations).parent
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} holds no {' or '.join(LABEL_FILES)}; set class_names_file to where it is.")


def read_ssv2(path: str | Path, videos: VideoFolder, names: list[str]) -> list[VideoSample]:
    """The rows of a train, validation or test file. The label is the name of the class, `None` in a test file."""
    entries = load_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of videos, not a {type(entries).__name__}.")
    known = set(names)
    return [_read_entry(entry, f"{path}, entry {number}", videos, known) for number, entry in enumerate(entries)]


def _read_entry(entry, where: str, videos: VideoFolder, known: set[str]) -> VideoSample:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)) or not str(entry["id"]):
        raise ValueError(f"{where}: a video is a dictionary with an 'id'.")
    video_id, template = str(entry["id"]), entry.get("template")
    label = None
    if template is not None:
        if not isinstance(template, str):
            raise ValueError(f"{where}: the template is a {type(template).__name__}, not text.")
        label = template.replace("[", "").replace("]", "")
        if label not in known:
            close = difflib.get_close_matches(label, known, n=1)
            hint = f"the nearest is {close[0]!r}" if close else "nothing there resembles it"
            raise ValueError(f"{where}: {label!r} is not among the labels ({hint}).")
    elif "label" in entry:
        raise ValueError(f"{where}: there is a label but no template, which names the class.")
    path = videos.find_clip([video_id]) or str(videos.root / f"{video_id}.webm")
    return VideoSample(path, label, video_id)
