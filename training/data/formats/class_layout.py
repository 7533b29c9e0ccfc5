# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Class folders of a data set: which folders of a folder are splits, which are classes, and which are neither.

A folder is a class only if it was meant as one. Names of splits ("train", "val_set"), a folder around everything and folders
without labels are no classes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..class_names import normalize_label
from ..media_files import ARCHIVE_SUFFIXES, VIDEO_SUFFIXES, MediaFolder, count, shorten
from .registry import Source, list_formats
from .samples import SPLIT_NAMES, has_replacements, split_of, splits_of_folders


# Names of folders without labels.
UNLABELED = ("unlabelled", "unlabeled", "unannotated", "unsorted", "no label", "no labels", "to label")
# Names of folders that are parts of a data set if a number follows.
PART_WORDS = ("split", "part", "fold", "batch", "chunk", "shard", "set", "folder", "data", "disk", "volume")
KINETICS_CLIP = re.compile(r".{11}_\d{6}_\d{6}\.\w+")  # name of a file: YouTube id, start and end in seconds
CLASS_LAYOUT = "<folder>/<class>/*.mp4 or <folder>/train|val|test/<class>/*.mp4"


class Layout(NamedTuple):
    """The annotations to read, and messages for the user, one sentence each."""

    sources: list[Source]
    messages: list[str]


def unwrap(tree: MediaFolder, known: frozenset[str] = frozenset()) -> list[MediaFolder]:
    """
    `tree` and the folders below it that wrap everything, down to the folder that holds splits or classes: a folder is a wrapper
    if no other folder beside it holds videos, and if it is neither a split nor flat nor one of the `known` classes.
    """
    chain = [tree]
    while len(inner := chain[-1].media_folders) == 1:
        (child,) = inner
        below = child.media_folders
        if not below or normalize_label(child.name) in known:
            break
        if split_of(child.name) and not all(split_of(each.name) for each in below):
            break
        chain.append(child)
    return chain


def find_class_folders(tree: MediaFolder, are_classes: bool, known: frozenset[str]) -> Layout | str:
    """
    The sources of the class folders in `tree`, one for each split or one in all; the reason as text if there are none.

    are_classes: whether the user stated that folders are classes. A folder with the name of a split is then a class, unless it
        holds class folders.
    known: normalized names that are classes.

    Raises `ValueError` for two folders of one split.
    """
    messages: list[str] = []
    base = _apply_replacements(unwrap(tree, known)[-1], messages)
    folders = {folder.name: folder for folder in base.media_folders}
    splits = splits_of_folders(list(folders))
    unlabeled = (
        [] if are_classes else [name for name in folders if normalize_label(name) in UNLABELED and len(folders) > 1]
    )
    messages += [
        f"Left out: {count(folders.pop(name).num_media, 'file')} in {name}/, by its name." for name in unlabeled
    ]
    if not folders:
        return _no_class_folders(tree)
    inner = _class_parents([folders[name] for name in splits], known)
    inner = {name: _apply_replacements(parent, messages) for name, parent in inner.items()}
    if splits and (inner or not are_classes):
        layout = _split_layout(tree, base, folders, splits, inner)
        return layout if isinstance(layout, str) else Layout(layout.sources, messages + layout.messages)
    if len(folders) == 1 and not are_classes and known.isdisjoint(map(normalize_label, folders)):
        (name,) = folders
        return (
            f"{tree.path} has videos of one class only ({name}), or videos without labels in one folder: there must be one folder "
            f"per class, {CLASS_LAYOUT}, or an annotation file with the columns path and label (train_data=FILE). "
            "data_format=class_folders reads a single class."
        )
    if not are_classes and (problem := _numbered_parts(base) or _two_levels(base)):
        return problem
    if base.path != tree.path:
        messages.append(f"The class folders are in {base.path.relative_to(tree.path)}/.")
    base = replace(base, folders=[folder for folder in base.folders if folder.name not in unlabeled])
    return Layout([Source(str(base.path), None, base)], messages)


def _apply_replacements(base: MediaFolder, messages: list[str]) -> MediaFolder:
    """
    `base` without its folder of intact copies of damaged Kinetics clips; these replace the files of the same names. A message says
    how many.
    """
    folders = {
        folder.name: folder
        for folder in base.media_folders
        if has_replacements(folder.name) and all(KINETICS_CLIP.fullmatch(path.name) for path in folder.files())
    }
    if not folders:
        return base
    copies = {path.name: path for folder in folders.values() for path in folder.files()}
    others = [folder for folder in base.folders if folder.name not in folders]
    replaced = {path.name for folder in others for path in folder.files()} & set(copies)
    unused = f" Left out there: {count(len(copies) - len(replaced), 'file')} of other names."
    messages.append(
        f"Read from {_slashes(folders)} in place of the files of the same names: {count(len(replaced), 'clip')}."
        + (unused if len(copies) > len(replaced) else "")
    )
    return _with_replacements(replace(base, folders=others), {**base.replacements, **copies})


def _with_replacements(folder: MediaFolder, copies: dict[str, Path]) -> MediaFolder:
    return replace(folder, replacements=copies, folders=[_with_replacements(each, copies) for each in folder.folders])


def _class_parents(splits: list[MediaFolder], known: frozenset[str]) -> dict[str, MediaFolder]:
    """
    The name of a split folder to the folder that holds its class folders; splits whose videos are not in class folders are left
    out. A single folder in a split is a class if another split has several classes, else a wrapper.
    """
    chains = {split.name: _descend(split, known) for split in splits}
    parents = {name: chain[-1] for name, chain in chains.items() if chain[-1].media_folders}
    known |= {normalize_label(each.name) for parent in parents.values() for each in parent.media_folders}
    for name, chain in chains.items():
        if name not in parents and known and len(chain) > 1:
            named = [parent for parent, child in pairwise(chain) if normalize_label(child.name) in known]
            parents[name] = (named or chain[-2:])[0]
    return parents


def _descend(folder: MediaFolder, known: frozenset[str]) -> list[MediaFolder]:
    """A folder and the only folder in it, the only folder in that, ..., as far as only one holds videos."""
    chain = [folder]
    while len(inner := chain[-1].media_folders) == 1 and normalize_label(inner[0].name) not in known:
        chain += inner
    return chain


def _split_layout(
    tree: MediaFolder,
    base: MediaFolder,
    folders: dict[str, MediaFolder],
    splits: dict[str, str],
    inner: dict[str, MediaFolder],
) -> Layout | str:
    """The result of `find_class_folders` for a folder with the folders of splits. inner: their `_class_parents`."""
    names, others = _slashes(splits), _slashes(name for name in folders if name not in splits)
    if not inner:
        return _no_classes_in_splits(base, [folders[name] for name in splits], names, others)
    if others and "train" not in splits.values():
        return (
            f"{base.path} holds {names} and, beside it, {others}: move the training videos into train/<class>/, or set train_data "
            "and validation_data (or test_data)."
        )
    sources, messages = {}, []
    for name, split in splits.items():
        if name in inner and split in sources:
            first = next(each for each in splits if splits[each] == split)
            raise ValueError(
                f"{base.path} has {first}/ and {name}/: set {split}_data to the folder of the {split} split."
            )
        if name in inner:
            sources[split] = Source(str(inner[name].path), split, inner[name])
        elif split == "test":
            messages.append(
                f"Left out: {count(folders[name].num_media, 'file')} in {name}/, which has no class folders; test_data=FILE reads "
                "labels from a file."
            )
        else:
            return (
                f"{base.path / name} holds {count(folders[name].num_media, 'file')} that are not in class folders, but "
                f"{_slashes(inner)} has class folders: move them into {name}/<class>/, or set {split}_data to a file with the "
                "columns path and label."
            )
    if base.path != tree.path:
        messages.append(f"The splits are in {base.path.relative_to(tree.path)}/.")
    for name in (name for name in folders if name not in splits):
        messages.append(
            f"Left out: {count(folders[name].num_media, 'file')} in {name}/, which is beside the folders of the splits."
        )
    if base.media:
        messages.append(
            f"Left out: {count(len(base.media), 'file')} beside the folders of the splits ({shorten(base.media, 1)})."
        )
    for folder in base.folders:
        if splits_of_folders([folder.name]) and not folder.num_media:
            messages.append(f"{folder.name}/ holds no videos: there is no {split_of(folder.name)} split.")
    return Layout([sources[split] for split in SPLIT_NAMES if split in sources], messages)


def _no_classes_in_splits(base: MediaFolder, splits: list[MediaFolder], names: str, others: str) -> str:
    """Why the folders of splits hold no class folders. names, others: of the folders in `base` that are splits, and that are not."""
    only = sorted({each.name for split in splits for each in split.media_folders})
    if others:
        return (
            f"{base.path} holds {names}, which have the names of splits, and {others}, which have not. If all of them are classes, "
            "set data_format=class_folders; else give each split with its labels as train_data and validation_data."
        )
    if len(only) == 1:
        return (
            f"{base.path} has videos of one class only ({only[0]}) in {names}, and training needs two: {CLASS_LAYOUT}."
        )
    if all(split.media_folders for split in splits):
        return f"{base.path} holds {names} with one folder each ({_slashes(only)}): {CLASS_LAYOUT} needs two classes in train/."
    return (
        f"{base.path} holds {names} with videos that are not in class folders, so their labels are missing: move them into "
        f"{CLASS_LAYOUT}, or give annotation files with the columns path and label as train_data and validation_data."
    )


def _numbered_parts(base: MediaFolder) -> str | None:
    """The reason why folders that are all called "part1", "fold_2", ... may be no classes; else `None`."""
    matches = [re.fullmatch(r"([a-z]+)[\W_]*\d+", folder.name.lower()) for folder in base.media_folders]
    if not all(match is not None and match[1].removesuffix("s") in PART_WORDS for match in matches):
        return None
    return (
        f"{base.path} holds {_slashes(folder.name for folder in base.media_folders)}, which have the names of parts, not of classes: "
        "write an annotation file with the columns path and label, or set data_format=class_folders if they are classes."
    )


def _two_levels(base: MediaFolder) -> str | None:
    """The reason why either of two levels of folders may be the classes, as in `<person>/<class>/*.mp4`; else `None`."""
    if any(folder.media for folder in base.media_folders):
        return None
    holders = defaultdict(list)
    for folder in base.media_folders:
        for inner in folder.media_folders:
            if any(Path(name).suffix.lower() in VIDEO_SUFFIXES for each in inner.walk() for name in each.media):
                holders[inner.name].append(folder.name)
    shared = [name for name, parents in holders.items() if len(parents) > 1]
    if not shared or len(holders) < 2 or all(split_of(name) for name in holders):
        return None
    return (
        f"{base.path} holds {_slashes(holders[shared[0]])}, and each of these holds {_slashes([shared[0]])}: either may be the "
        "classes. data_format=class_folders takes the upper folders as classes; for the lower ones write an annotation file with "
        "the columns path and label."
    )


def _no_class_folders(tree: MediaFolder) -> str:
    num_loose = sum(Path(name).suffix.lower() in VIDEO_SUFFIXES for name in tree.media)
    archives = [name for each in tree.walk() for name in each.others if name.lower().endswith(ARCHIVE_SUFFIXES)]
    found = f"{count(num_loose, 'video')} but no class folders" if num_loose else "no videos in class folders"
    packed = f"; {count(len(archives), 'archive')} not unpacked ({shorten(archives)})" if archives else ""
    formats = [each for each in list_formats() if each.layout == "file"]
    suffixes = {suffix for each in formats for suffix in each.suffixes} - {".txt"}  # often a readme
    tables = [name for each in tree.walk() for name in each.others if Path(name).suffix.lower() in suffixes]
    unknown = (
        f" in a known format that names its videos ({shorten(tables)}; formats: {', '.join(each.name for each in formats)})"
        if tables
        else ""
    )
    return (
        f"{tree.path} holds {found}{packed}, no annotation file{unknown} and no data set of `datasets`: there must be one folder per class, "
        f"{CLASS_LAYOUT}, or an annotation file with the columns path and label (train_data=FILE)."
    )


def _slashes(names: Iterable[str]) -> str:
    return shorten(f"{name}/" for name in names)
