# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`VideoSample`, the common result of all readers of annotations, and helpers of the readers: names of splits, kinds of files,
and a folder of videos that is listed once.

Readers do not open videos. `check_data` finds missing and damaged files before training, and the data loader when it reads a
clip, so one missing video of 240,000 does not make the annotations unreadable.
"""

import os
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit


SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev"),
    "test": ("test", "testing"),
}
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class VideoSample(NamedTuple):
    """
    A video (or image) of a data set, as its annotations describe it.

    path: path of the file, which may not exist.
    label: name or index of the class, a tuple of names or indices for several classes, `None` for an unknown label.
    video_id: name of the video in the annotations; it does not depend on the folder of the videos.
    split: "train", "validation", "test", or `None` if the annotations do not name the split.
    """

    path: str
    label: str | int | tuple | None
    video_id: str
    split: str | None = None


def split_of(name: str) -> str | None:
    """
    The split that a word names, `None` if it names no split.

    >>> split_of("Val"), split_of("validate"), split_of("monkey")
    ('validation', 'validation', None)
    """
    word = name.strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def split_of_file(path: Path) -> str | None:
    """
    The split that the name of an annotation file contains, `None` for no split or several splits.

    >>> split_of_file(Path("kinetics-400_val.csv")), split_of_file(Path("something-something-v2-labels.json"))
    ('validation', None)
    """
    found = {split_of(word) for word in re.split(r"[^a-z]+", path.stem.lower())} - {None}
    return found.pop() if len(found) == 1 else None


def split_by_class(groups: dict[str, list[Any]], fraction: float, seed: int) -> tuple[list[Any], list[Any], list[str]]:
    """
    Hold out a random `fraction` of the members of each class, at least one, but not the only member of a class.

    groups: label to members, in an order that does not depend on the file system.

    Returns the other members, the held-out members, and the labels of classes with one member.
    """
    rest, held_out, single = [], [], []
    for label, members in sorted(groups.items()):
        members = list(members)
        random.Random(f"{seed} {label}").shuffle(members)
        number = max(1, round(len(members) * fraction)) if len(members) > 1 else 0
        if number == 0:
            single.append(label)
        held_out += members[:number]
        rest += members[number:]
    return rest, held_out, single


def kind_of(path: str | Path) -> str:
    """`"image"` or `"video"`, by the suffix of a file or URL. A suffix that is not in `IMAGE_SUFFIXES` is a video's."""
    name = urlsplit(str(path)).path if "://" in str(path) else path  # the name of a local file may contain "#" or "?"
    return "image" if Path(name).suffix.lower() in IMAGE_SUFFIXES else "video"


def list_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """The files below `folder` with one of `suffixes`, sorted by path, without hidden files and folders (leading dot)."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


class VideoFolder:
    """
    Finds the files of a data set in a folder. Each folder is listed once: on a network file system, 240,000 single look-ups
    are slow.

    A file is found under its own name or with another video suffix, because copies of a data set are often converted.

    Raises `FileNotFoundError` if `root` is not a folder.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"There is no folder {self.root} of videos.")
        self.folders: dict[str, dict[str, list[str]]] = {}  # folder to {name without suffix: names of files}
        self.clips: dict[str, list[str]] | None = (
            None  # name without suffix to relative paths, of all files below root
        )

    def find(self, name: str) -> str:
        """
        Path of the file that the annotations call `name`, an absolute path or a path relative to the folder.

        If the file does not exist, the path at which it is expected.
        """
        path = os.path.normpath(os.path.join(self.root, name))
        if os.path.isabs(name):
            return path
        folder, file = os.path.split(path)
        if folder not in self.folders:
            self.folders[folder] = _list_videos(folder)
        names = self.folders[folder].get(os.path.splitext(file)[0], [])
        return path if file in names or not names else os.path.join(folder, min(names))

    def find_clip(self, stems: Sequence[str], folder: str | None = None) -> str | None:
        """
        Path of a file anywhere below the root whose name without suffix is in `stems`, earlier stems first; `None` if there is
        no such file.

        folder: preferred name of the parent folder, if several files match; case and underscores are ignored.
        """
        if self.clips is None:
            self.clips = defaultdict(list)
            for relative in _walk(self.root):
                stem, suffix = os.path.splitext(relative.rpartition("/")[2])
                if suffix.lower() in VIDEO_SUFFIXES:
                    self.clips[stem].append(relative)
        for stem in stems:
            found = sorted(self.clips.get(stem, []))
            inside = [path for path in found if folder and _normalize(path.split("/")[-2:-1]) == _normalize([folder])]
            if found:
                return str(self.root / (inside or found)[0])
        return None


def _list_videos(folder: str) -> dict[str, list[str]]:
    videos = defaultdict(list)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in VIDEO_SUFFIXES:
            videos[stem].append(name)
    return videos


def _normalize(parts: Sequence[str]) -> str:
    return "/".join(parts).lower().replace("_", " ")


def _walk(root: Path) -> Iterator[str]:
    """Relative paths of all files. Links to folders are followed, each folder is entered once, hidden entries are left out."""
    entered, waiting = set(), [""]
    while waiting:
        prefix = waiting.pop()
        identity = os.path.realpath(root / prefix)
        if identity in entered:
            continue
        entered.add(identity)
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(f"{prefix}{entry.name}/")
                else:
                    yield f"{prefix}{entry.name}"
