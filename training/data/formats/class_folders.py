# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Videos, or images, in folders that are named by their class: `<root>/<class>/*.mp4`, or `<root>/train|val|test/<class>/*.mp4`.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .registry import AnnotationFormat, ReadContext, register_format
from .samples import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoSample, list_files


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
            description=f"{media}s in folders that are named by their class",
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


# Of the demo, which reads videos without the data path of training.


TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "test")  # the first that is there is used


@dataclass(frozen=True)
class LabelledClip:
    """A video file and the name of its class."""

    path: Path
    label: str


@dataclass
class ClassFolders:
    """
    The labelled clips of a folder.

    train, val: clips to learn from and to evaluate on. `val` is empty where no clip can be spared.
    notes: what was decided on the way, one sentence each, for the user to read.
    """

    train: list[LabelledClip]
    val: list[LabelledClip]
    notes: list[str] = field(default_factory=list)


def find_clips(root: str | Path, val_share: float = 0.25, seed: int = 0) -> ClassFolders:
    """
    The labelled clips under `root`, split as its folders say, otherwise with `val_share` of each class held out.

    Raises `FileNotFoundError` where there is no such folder and `ValueError` for a folder of another layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    train_folder = _first_folder(root, TRAIN_NAMES)
    val_folder = _first_folder(root, VAL_NAMES)
    if train_folder is None and val_folder is not None:
        raise ValueError(f"{root} has a folder {val_folder.name}/ but no train/.")
    train = clips_of(train_folder or root)
    if len({clip.label for clip in train}) < 2:
        raise ValueError(_explain_layout(root, train))
    if val_folder is None:
        return hold_out(train, val_share, seed)
    return _use_val_folder(train, clips_of(val_folder), val_folder)


def hold_out(clips: list[LabelledClip], share: float, seed: int) -> ClassFolders:
    """
    Split `clips` class by class: `share` of each, and at least one, to evaluate on. A class of one clip keeps it.
    """
    train, val, lone = [], [], []
    for label, members in sorted(group_by_label(clips).items()):
        members = sorted(members, key=lambda clip: clip.path)
        random.Random(f"{seed} {label}").shuffle(members)
        num_val = max(1, round(len(members) * share)) if len(members) > 1 else 0
        if num_val == 0:
            lone.append(label)
        val += members[:num_val]
        train += members[num_val:]
    notes = []
    if val:
        notes.append(
            f"There is no val/ folder: {len(val)} of {len(clips)} clips are held out, {share:.0%} of each class."
        )
    if lone and val:
        notes.append(f"Classes with a single clip are not evaluated: {', '.join(lone)}.")
    return ClassFolders(train, val, notes)


def group_by_label(clips: list[LabelledClip]) -> dict[str, list[LabelledClip]]:
    """Label to clips."""
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.label].append(clip)
    return dict(groups)


def take_evenly(clips: list[LabelledClip], number: int, seed: int = 0) -> list[LabelledClip]:
    """At most `number` clips, chosen at random and as evenly over the classes as they allow."""
    groups = [members for _, members in sorted(group_by_label(clips).items())]
    for index, members in enumerate(groups):
        random.Random(f"{seed} {index}").shuffle(members)
    rounds = range(max(map(len, groups), default=0))
    return [members[i] for i in rounds for members in groups if i < len(members)][:number]


def _use_val_folder(train: list[LabelledClip], val: list[LabelledClip], val_folder: Path) -> ClassFolders:
    known = {clip.label for clip in train}
    strange = sorted({clip.label for clip in val} - known)
    val = [clip for clip in val if clip.label in known]
    if not val:
        raise ValueError(f"{val_folder} holds no videos of the classes in train/.")
    notes = [f"Classes of {val_folder.name}/ that train/ lacks are left out: {', '.join(strange)}."] if strange else []
    return ClassFolders(train, val, notes)


def _first_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def clips_of(folder: Path) -> list[LabelledClip]:
    """The videos in the folders of `folder`, labelled by the name of their folder."""
    return [LabelledClip(Path(sample.path), sample.label) for sample in list_samples(folder, "video")]


def _explain_layout(root: Path, clips: list[LabelledClip]) -> str:
    layout = "videos belong into one folder per class, <folder>/<class>/*.mp4 or <folder>/train|val/<class>/*.mp4"
    if clips:
        return f"{root} has videos of one class only ({clips[0].label}); there must be two: {layout}."
    num_loose = sum(path.suffix.lower() in VIDEO_SUFFIXES for path in root.iterdir())
    found = f"{num_loose} videos but no class folders" if num_loose else "no videos in class folders"
    return f"{root} has {found}: {layout}."
