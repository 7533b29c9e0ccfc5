# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`VideoSample`, the common result of all readers of annotations, and helpers of the readers: names of splits, and a folder of
videos that is listed once.

Readers do not open videos. `check_data` finds missing and damaged files before training, and the data loader when it reads a
clip, so one missing video of 240,000 does not make the annotations unreadable.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..media_files import VIDEO_SUFFIXES, MediaFolder, frame_folders, prefix_of, scan_folder
from ..recorded_inputs import record_folder
from ..segments import Segment


SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "validate", "validating", "dev", "devel", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
SPLIT_OF_WORD = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# Words beside the name of a split, as in "train_set", "val-videos", "testlist01".
WORDS_OF_ALL_SPLITS = (
    *("dataset", "subset", "set", "split", "data", "list", "folder", "files", "file"),
    *("videos", "video", "clips", "clip", "frames", "images", "samples", "part", "rawframes", "rgb"),
)


class VideoSample(NamedTuple):
    """
    A video (or image) of a data set, as its annotations describe it.

    path: path of the file, which may not exist.
    label: name or index of the class, a tuple of names or indices for several classes, `None` for an unknown label.
    video_id: name of the video in the annotations; it does not depend on the folder of the videos.
    split: "train", "validation", "test", or `None` if the annotations do not name the split.
    segment: the part of the video that is the clip; `None` for the whole video.
    group: person, camera or film whose videos are held out together; `None` for a group of its own.
    """

    path: str
    label: str | int | tuple | None
    video_id: str
    split: str | None = None
    segment: Segment | None = None
    group: str | None = None


def split_of(name: str) -> str | None:
    """
    The split that a name means, `None` if it means no split. Case, digits and words such as "set" and "videos" are ignored.

    >>> split_of("Val"), split_of("train_set"), split_of("testlist01"), split_of("training dog"), split_of("monkey")
    ('validation', 'train', 'test', None, None)
    """
    words = [word for word in _words(name) if word not in WORDS_OF_ALL_SPLITS]
    return SPLIT_OF_WORD.get(words[0]) if len(words) == 1 else None


def split_of_file(path: Path) -> str | None:
    """
    The split that the name of an annotation file contains, `None` for no split or several splits.

    >>> split_of_file(Path("kinetics-400_val.csv")), split_of_file(Path("something-something-v2-labels.json"))
    ('validation', None)
    """
    found = {SPLIT_OF_WORD[word] for word in _words(path.stem) if word in SPLIT_OF_WORD}
    return found.pop() if len(found) == 1 else None


def splits_of_folders(names: Sequence[str]) -> dict[str, str]:
    """
    Those of the names of sibling folders that mean splits, with their splits: names as for `split_of`, and names that differ in
    the word of the split only.

    >>> splits_of_folders(["ucf_train", "ucf_val", "annotations"]), splits_of_folders(["training dog", "walking dog"])
    ({'ucf_train': 'train', 'ucf_val': 'validation'}, {})
    """
    found = {name: split for name in names if (split := split_of(name))}
    alike = defaultdict(dict)
    for name in names:
        words = _words(name)
        in_name = {SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD}
        if len(in_name) == 1:
            alike[tuple(word for word in words if word not in SPLIT_OF_WORD)][name] = in_name.pop()
    for group in alike.values():
        if len(set(group.values())) > 1:
            found |= group
    return {name: found[name] for name in names if name in found}


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without digits; the end of a word such as "trainset" is removed."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    for index, word in enumerate(words):
        ends = [word.removesuffix(end) for end in WORDS_OF_ALL_SPLITS]
        words[index] = next((each for each in ends if each != word and each in SPLIT_OF_WORD), word)
    return words


def has_replacements(folder: str) -> bool:
    """
    Whether a folder has the name of that with the intact copies of damaged clips in the community archives of Kinetics.

    >>> has_replacements("replacement_for_corrupted_k400"), has_replacements("replacement"), has_replacements("replacing tires")
    (True, True, False)
    """
    return re.fullmatch(r"replacements?([ _-]for[ _-].*)?", folder.lower()) is not None


class VideoFolder:
    """
    Finds the files of a data set in a folder. Each folder is listed once: on a network file system, 240,000 single look-ups
    are slow.

    A file is found under its own name or with another video suffix, because copies of a data set are often converted.

    root: folder of the videos.
    others: folders in which a name that is missing in `root` is looked up.
    tree: the scanned folder that holds all of them. A name that none of them has is then looked up anywhere below it.

    Raises `FileNotFoundError` if `root` is not a folder.
    """

    def __init__(self, root: str | Path, others: Sequence[str | Path] = (), tree: MediaFolder | None = None):
        self.root = Path(root)
        self.others, self.tree = [Path(each) for each in others if Path(each) != self.root], tree
        if not self.root.is_dir():
            raise FileNotFoundError(f"There is no folder {self.root} of videos.")
        self.folders: dict[str, dict[str, list[str]]] = {}  # folder to {name without suffix: names}
        self.clips: dict[str, list[str]] | None = None  # name without suffix to relative paths, of all files

    def find(self, name: str) -> str:
        """
        Path of the file that the annotations call `name`: an absolute path, a path relative to the folder, or a URL.

        If the file does not exist, the path at which it is expected. Raises `ValueError` for a name that several files have.
        """
        if "://" in name:
            return name
        found = (self._find_in(root, name) for root in (self.root, *self.others))
        path = next((path for path in found if path is not None), None)
        if path is None and self.tree is not None and not os.path.isabs(name):
            path = self._find_below(os.path.normpath(name).replace(os.sep, "/"))
        return path or os.path.normpath(os.path.join(self.root, name))

    def _find_in(self, root: Path, name: str) -> str | None:
        path = os.path.normpath(os.path.join(root, name))
        folder, file = os.path.split(path)
        if os.path.isabs(name):
            return path
        if folder not in self.folders:
            self.folders[folder] = _list_by_stem(folder)
        names = self.folders[folder].get(os.path.splitext(file)[0], []) + self.folders[folder].get(file, [])
        if file in names:
            return path
        videos = [each for each in names if os.path.splitext(each)[1].lower() in VIDEO_SUFFIXES]
        return os.path.join(folder, min(videos)) if videos else None

    def _find_below(self, name: str) -> str | None:
        """The only file whose path ends with `name`, or whose path is the end of `name`, with any video suffix."""
        stem = os.path.splitext(name)[0]
        found = []
        for relative in self._all_clips().get(stem.rpartition("/")[2], []):
            clip = os.path.splitext(relative)[0]
            if f"/{clip}".endswith(f"/{stem}") or f"/{stem}".endswith(f"/{clip}"):
                found.append(relative)
        if len(found) > 1:
            raise ValueError(
                f"{name!r} names several files ({', '.join(sorted(found)[:3])}); give the paths of files."
            )
        return str(self._top() / found[0]) if found else None

    def find_clip(self, stems: Sequence[str], folder: str | None = None) -> str | None:
        """
        Path of a file anywhere below the root whose name without suffix is in `stems`, earlier stems first; `None` if there is
        no such file.

        folder: preferred name of the parent folder, if several files match; case and underscores are ignored. A file in a folder of
            replacements comes first.
        """
        for stem in stems:
            if found := self._all_clips().get(stem):
                if len(found) > 1:
                    wanted = _normalize([folder]) if folder else None
                    replaced = [path for path in found if any(map(has_replacements, path.split("/")[:-1]))]
                    inside = [path for path in found if _normalize(path.split("/")[-2:-1]) == wanted]
                    found = sorted(replaced or inside or found)
                return prefix_of(self._top()) + found[0].replace("/", os.sep)
        return None

    def _top(self) -> Path:
        return self.root if self.tree is None else self.tree.path

    def _all_clips(self) -> dict[str, list[str]]:
        if self.clips is None:
            self.clips = defaultdict(list)
            tree = self.tree or scan_folder(self.root)
            start = len(prefix_of(self._top()))  # all paths begin with the path of the top folder
            for path in tree.paths(VIDEO_SUFFIXES, unique=False):
                relative = path[start:].replace(os.sep, "/")
                self.clips[os.path.splitext(relative.rpartition("/")[2])[0]].append(relative)
            for folder in frame_folders(tree):
                self.clips[folder.name].append(folder.path.relative_to(self._top()).as_posix())
        return self.clips


def _list_by_stem(folder: str) -> dict[str, list[str]]:
    names = defaultdict(list)
    record_folder(folder)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        names[os.path.splitext(name)[0]].append(name)
    return names


def _normalize(parts: Sequence[str]) -> str:
    return "/".join(parts).lower().replace("_", " ")
