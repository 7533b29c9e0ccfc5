# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Videos or images in one folder per class: `<root>/<class>/*.mp4`, or `<root>/train|val|test/<class>/*.mp4`.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ..media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_files
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_by_class


SUFFIXES = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}


def first_media(folder: Path) -> str | None:
    """The kind of the first video or image in a folder of `folder`, "video" or "image"; `None` if there is no such file."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            for path in entry.rglob("*"):
                for media, suffixes in SUFFIXES.items():
                    if path.suffix.lower() in suffixes:
                        return media
    return None


def list_samples(folder: Path, media: str) -> list[VideoSample]:
    """A sample of each video (or image) in a folder of `folder`; the label is the name of that folder."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [
        VideoSample(str(path), entry.name, path.relative_to(folder).as_posix())
        for entry in classes
        for path in list_files(entry, SUFFIXES[media])
    ]


def _register(name: str, media: str, priority: int) -> None:
    def sniff(path: Path) -> bool:
        return first_media(path) == media

    def read(path: Path, context: ReadContext) -> list[VideoSample]:
        return list_samples(path, media)

    register_format(
        AnnotationFormat(
            name=name,
            description=f"{media}s in one folder per class",
            sniff=sniff,
            read=read,
            priority=priority,
            layout="folder",
            media=media,
            options=(),
        )
    )


_register("class_folders", "video", 60)
_register("image_folders", "image", 70)


# Clips of the demo, which uses class folders without `datasets.Dataset`


TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "test")  # the first existing folder is used


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
    The labeled clips under `root`. Without a validation folder, `val_fraction` of each class is held out.

    Raises `FileNotFoundError` for a missing folder and `ValueError` for a folder without class folders.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    train_folder = _first_folder(root, TRAIN_NAMES)
    val_folder = _first_folder(root, VAL_NAMES)
    if train_folder is None and val_folder is not None:
        raise ValueError(f"{root} has a folder {val_folder.name}/ but no train/.")
    train = _list_clips(train_folder or root)
    if len({clip.label for clip in train}) < 2:
        raise ValueError(_explain_layout(root, train))
    if val_folder is None:
        return hold_out(train, val_fraction, seed)
    return _use_val_folder(train, _list_clips(val_folder), val_folder)


def hold_out(clips: list[LabeledClip], fraction: float, seed: int) -> ClassFolders:
    """Hold out a random `fraction` of the clips of each class for validation, see `split_by_class`."""
    groups = {label: sorted(members, key=lambda clip: clip.path) for label, members in group_by_label(clips).items()}
    train, val, single = split_by_class(groups, fraction, seed)
    messages = []
    if val:
        messages.append(
            f"There is no val/ folder: {len(val)} of {len(clips)} clips are held out, {fraction:.0%} of each class."
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


def _use_val_folder(train: list[LabeledClip], val: list[LabeledClip], val_folder: Path) -> ClassFolders:
    known = {clip.label for clip in train}
    unknown = sorted({clip.label for clip in val} - known)
    val = [clip for clip in val if clip.label in known]
    if not val:
        raise ValueError(f"{val_folder} holds no videos of the classes in train/.")
    messages = (
        [f"Classes of {val_folder.name}/ that train/ does not have are excluded: {', '.join(unknown)}."]
        if unknown
        else []
    )
    return ClassFolders(train, val, messages)


def _first_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _list_clips(folder: Path) -> list[LabeledClip]:
    return [LabeledClip(Path(sample.path), sample.label) for sample in list_samples(folder, "video")]


def _explain_layout(root: Path, clips: list[LabeledClip]) -> str:
    layout = "there must be one folder per class, <folder>/<class>/*.mp4 or <folder>/train|val/<class>/*.mp4"
    if clips:
        return f"{root} has videos of one class only ({clips[0].label}), and training needs two: {layout}."
    num_loose = sum(path.suffix.lower() in VIDEO_SUFFIXES for path in root.iterdir())
    found = f"{num_loose} videos but no class folders" if num_loose else "no videos in class folders"
    return f"{root} has {found}: {layout}."
