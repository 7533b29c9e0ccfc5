# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Labeled clips of a folder for `tubevit demo`: the same folders and annotation files as for training, without `datasets.Dataset`.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .formats.samples import VideoSample
from .holding_out import choose_held_out
from .media_files import kind_of
from .video_datasets import DataConfig, read_splits


@dataclass(frozen=True)
class LabeledClip:
    """A video file and the name of its class."""

    path: Path
    label: str


@dataclass
class ClassFolders:
    """
    The labeled clips of a folder.

    train, val: clips of the training and the validation split. `val` is empty if each class has one clip.
    messages: for the user, on assumptions and excluded clips, one sentence each.
    """

    train: list[LabeledClip]
    val: list[LabeledClip]
    messages: list[str] = field(default_factory=list)


def find_clips(root: str | Path, val_fraction: float = 0.25, seed: int = 0) -> ClassFolders:
    """
    The labeled clips under `root`. The validation split is the one of the data set, or its test split, or else `val_fraction` of
    each class.

    Raises `FileNotFoundError` for a missing folder and `ValueError` for a folder without labels or training clips.
    """
    clips, messages = _clips_of_splits(root)
    train = clips.get("train", [])
    if not train:
        raise ValueError(f"{root} has a {'/'.join(clips)} split but no train/.")
    if len({clip.label for clip in train}) < 2:
        raise ValueError(f"{root} has training videos of one class only ({train[0].label}), and training needs two.")
    val = clips.get("validation") or clips.get("test")
    found = hold_out(train, val_fraction, seed) if val is None else _use_val(train, val)
    return ClassFolders(found.train, found.val, messages + found.messages)


def evaluation_clips(root: str | Path) -> tuple[list[LabeledClip], list[str]]:
    """
    The clips of the validation split of a folder, or of its test split, or else of its training split, and messages for the user.

    Raises `FileNotFoundError` for a missing folder and `ValueError` for a folder without labels.
    """
    clips, messages = _clips_of_splits(root)
    split = next((name for name in ("validation", "test", "train") if clips.get(name)), None)
    if split is None:
        raise ValueError(f"{root} holds no labeled videos.")
    return clips[split], messages


def _clips_of_splits(root: str | Path) -> tuple[dict[str, list[LabeledClip]], list[str]]:
    """The name of each split to its clips, and messages for the user."""
    if not Path(root).is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    listed = read_splits(DataConfig(data=str(root)))
    return {split: _labeled_clips(samples) for split, samples in listed.splits.items()}, listed.messages


def _labeled_clips(samples: list[VideoSample]) -> list[LabeledClip]:
    if any(isinstance(sample.label, tuple) for sample in samples):
        raise ValueError("The demo needs one label per video; `tubevit train` reads several.")
    if image := next((sample.path for sample in samples if kind_of(sample.path) == "image"), None):
        raise ValueError(f"The demo needs videos, and {image} is an image; `tubevit train` reads images.")
    if any(sample.segment is not None for sample in samples):
        raise ValueError("The demo reads whole videos; `tubevit train` reads time segments.")
    return [LabeledClip(Path(sample.path), str(sample.label)) for sample in samples if sample.label is not None]


def hold_out(clips: list[LabeledClip], fraction: float, seed: int) -> ClassFolders:
    """Hold out a random `fraction` of the clips of each class for validation, see `choose_held_out`."""
    clips = sorted(clips, key=lambda clip: (clip.label, clip.path))
    held_out = set(choose_held_out([clip.label for clip in clips], [str(clip.path) for clip in clips], fraction, seed))
    train = [clip for index, clip in enumerate(clips) if index not in held_out]
    val = [clip for index, clip in enumerate(clips) if index in held_out]
    single = [label for label, members in group_by_label(clips).items() if len(members) == 1]
    messages = []
    if val:
        messages.append(
            f"There is no val/ folder: {len(val)} of {len(clips)} clips are held out, {100 * fraction:.0f} % of each class."
        )
    if single and val:
        messages.append(f"Classes with a single clip are not evaluated: {', '.join(single)}.")
    return ClassFolders(train, val, messages)


def group_by_label(clips: list[LabeledClip]) -> dict[str, list[LabeledClip]]:
    """Label to clips."""
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.label].append(clip)
    return dict(groups)


def take_evenly(clips: list[LabeledClip], number: int, seed: int = 0) -> list[LabeledClip]:
    """At most `number` random clips, with numbers of clips per class that are as equal as possible."""
    groups = [members for _, members in sorted(group_by_label(clips).items())]
    for index, members in enumerate(groups):
        random.Random(f"{seed} {index}").shuffle(members)
    rounds = range(max(map(len, groups), default=0))
    return [members[i] for i in rounds for members in groups if i < len(members)][:number]


def _use_val(train: list[LabeledClip], val: list[LabeledClip]) -> ClassFolders:
    known = {clip.label for clip in train}
    unknown = sorted({clip.label for clip in val} - known)
    val = [clip for clip in val if clip.label in known]
    if not val:
        raise ValueError(
            f"The validation split holds no videos of the classes in train/; it has {', '.join(unknown)}."
        )
    messages = [f"Classes without training clips are left out: {', '.join(unknown)}."] if unknown else []
    return ClassFolders(train, val, messages)
