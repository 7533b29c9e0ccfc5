# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Finds the labels of a folder of videos: class folders or annotation files, and the splits that they form.

A folder is a class only if it was meant as one. Names of splits ("train", "val_set"), a folder around everything, folders of
annotations and folders whose files are labeled differently by an annotation file are no classes. A layout that can be read in
two ways raises a `ValueError` that states what was found and which option decides.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..class_names import normalize_label
from ..media_files import (
    ARCHIVE_SUFFIXES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    MediaFolder,
    count,
    frame_folders,
    scan_folder,
    shorten,
)
from ..text_tables import sniff_header, sniff_text
from .registry import (
    AUTO,
    HUB_NAME,
    AnnotationFormat,
    Source,
    get_format,
    list_formats,
    marked_format,
)
from .samples import SPLIT_NAMES, VideoFolder, VideoSample, split_of, split_of_file, splits_of_folders


# Usual names of a file with the rows of all splits, the preferred first; `datasets` uses "metadata".
ANNOTATION_STEMS = (
    *("metadata", "labels", "annotations", "annotation", "label", "data", "dataset", "clips", "videos", "index"),
    *("list", "samples", "all", "manifest", "ground_truth", "groundtruth", "gt"),
)
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "splits", "metadata", "lists", "anns")
# Names of folders without labels.
UNLABELED = ("unlabelled", "unlabeled", "unannotated", "unsorted", "no label", "no labels", "to label")
PART_WORDS = (
    "split",
    "part",
    "fold",
    "batch",
    "chunk",
    "shard",
    "set",
    "folder",
    "data",
    "disk",
    "volume",
)  # with a number
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".mat", ".pkl", ".xml")
SUFFIX_ORDER = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet")  # of files that have the same name otherwise
LABEL_WORDS = ("label", "class", "category", "action", "target")  # in the name of a column with labels
MIN_STEM = 3  # characters; shorter names without suffix, such as "7", are in many files
NUM_TRIED = 100  # rows whose files are looked up outside of the folder
CLASS_LAYOUT = "<folder>/<class>/*.mp4 or <folder>/train|val|test/<class>/*.mp4"


ReadSamples = Callable[[Source, AnnotationFormat], list[VideoSample]]


class Layout(NamedTuple):
    """The annotations to read, and messages for the user, one sentence each."""

    sources: list[Source]
    messages: list[str]


class _Annotations(NamedTuple):
    """
    An annotation file of a folder.

    split: split that the name of the file or its folder states, `None` if there is none.
    folder: the folder that was searched.
    samples: its rows.
    num_found: number of rows whose file is in the folder.
    """

    source: Source
    split: str | None
    folder: Path
    samples: list[VideoSample]
    num_found: int

    @property
    def path(self) -> Path:
        return Path(self.source.path)

    @property
    def is_usual(self) -> bool:
        """Whether the file or its folder has the usual name of annotations."""
        return (
            self.split is not None
            or self.path.stem.lower() in ANNOTATION_STEMS
            or (self.path.parent != self.folder and self.path.parent.name.lower() in ANNOTATION_FOLDERS)
        )


def find_sources(
    data: str | None,
    split_files: dict[str, str],
    data_format: str,
    read: ReadSamples,
    known_classes: Sequence[str] = (),
) -> Layout:
    """
    The annotations to read: `split_files`, or those of the folder `data`.

    split_files: split to file or folder; used if `data` is `None`.
    data_format: a format with layout "folder" means that folders are classes, one with layout "file" that annotation files are
        read, if the folder holds any.
    read: reads the samples of a source in a format.
    known_classes: names of classes, of a checkpoint: a folder with one of these names is a class.

    Raises `FileNotFoundError` for a missing path, and `ValueError` for a folder without labels or with several readings.
    """
    known = frozenset(map(normalize_label, known_classes))
    if data is not None:
        return _find_labels(_check_exists(data), data_format, read, known)
    sources, messages = [], []
    for split, name in split_files.items():
        found = _find_labels(_check_exists(name), data_format, read, known)
        of_split = [source for source in found.sources if source.split in (None, split)]
        if len(found.sources) > 1 and len(of_split) != 1:
            splits = ", ".join(str(source.split) for source in found.sources)
            raise ValueError(
                f"{name} holds the splits {splits}, none is {split}: set {split}_data to one of its folders."
            )
        sources.append((of_split or found.sources)[0]._replace(split=split))
        messages += found.messages
    return Layout(sources, messages)


def _check_exists(name: str) -> str:
    if not Path(name).exists() and not HUB_NAME.fullmatch(name):
        raise FileNotFoundError(f"There is no file or folder {name}.")
    return name


def _find_labels(name: str, data_format: str, read: ReadSamples, known: frozenset[str]) -> Layout:
    """The sources of a folder; of a file or the name of a data set, itself."""
    folder = Path(name)
    given = None if data_format == AUTO else get_format(data_format)
    if not folder.is_dir() or marked_format(folder) or (given is not None and given.layout == "dataset"):
        return Layout([Source(name, None)], [])
    tree = scan_folder(folder)
    is_meant = given is not None and given.layout == "folder"
    found = [] if is_meant else _find_annotations(tree, given, read, known)
    if given is not None and found:
        return _use_annotations(tree, found)
    classes = find_class_folders(tree, is_meant, known)
    if isinstance(classes, Layout):
        return _choose(classes, tree, found)
    if found:
        return _use_annotations(tree, found)
    if any(each.sniff(folder) for each in list_formats() if each.layout == "dataset"):
        return Layout([Source(name, None)], [])
    if given is not None:
        return Layout([Source(name, None)], [])  # the format tells what it needs
    raise ValueError(classes)


def _choose(classes: Layout, tree: MediaFolder, found: list[_Annotations]) -> Layout:
    """
    The class folders, or the annotation files beside them: the files if their labels differ from the names of the folders, or if
    only they define splits or several rows of a file.

    Raises `ValueError` if the labels differ, but the name of the file is not a usual one.
    """
    found = [each for each in found if each.num_found]
    folder_of = {
        str(path): folder.name
        for source in classes.sources
        for folder in source.folder.media_folders
        for path in (*folder.files(), *(each.path for each in folder.walk()))
    }
    differing = [each for each in found if not _agrees(each.samples, folder_of)]
    names = shorten(each.path.name for each in differing)
    if differing and not any(each.is_usual for each in differing):
        raise ValueError(
            f"{tree.path} has class folders, but {names} gives other labels: data_format=class_folders uses the folders, "
            f"data={differing[0].path} the file."
        )
    has_splits = any(source.split for source in classes.sources)
    if differing or any(_defines_more(each, has_splits) for each in found):
        layout = _use_annotations(tree, differing or found)
        if differing:
            others = shorten(sorted({f"{name}/" for name in folder_of.values()}))
            layout.messages.insert(0, f"The folders {others} are no classes, because {names} gives other labels.")
        return layout
    return classes._replace(
        messages=[
            *classes.messages,
            *(f"Not read: {each.path.name}, which agrees with the class folders." for each in found),
        ]
    )


def _agrees(samples: list[VideoSample], folder_of: dict[str, str]) -> bool:
    """Whether the labels are the names of the folders, or numbers that stand for them one to one."""
    number_of: dict[str, int] = {}
    for sample in samples:
        label, name = sample.label, folder_of.get(sample.path)
        label = label[0] if isinstance(label, tuple) and len(label) == 1 else label
        if name is None or label is None:
            continue
        if isinstance(label, tuple):
            return False
        if isinstance(label, int):
            if number_of.setdefault(name, label) != label:
                return False
        elif normalize_label(label) != normalize_label(name):
            return False
    return len(set(number_of.values())) == len(number_of)


def _defines_more(annotations: _Annotations, has_splits: bool) -> bool:
    paths = [sample.path for sample in annotations.samples]
    states_splits = annotations.split is not None or any(sample.split for sample in annotations.samples)
    has_segments = any(sample.segment is not None for sample in annotations.samples)
    return has_segments or len(set(paths)) < len(paths) or (states_splits and not has_splits)


# Class folders


def _unwrap(tree: MediaFolder, known: frozenset[str] = frozenset()) -> list[MediaFolder]:
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


def find_class_folders(tree: MediaFolder, is_meant: bool, known: frozenset[str]) -> Layout | str:
    """
    The sources of the class folders in `tree`, one for each split or one in all; the reason as text if there are none.

    is_meant: whether the user stated that folders are classes. Then folders without class folders in them are classes, also if
        they have the names of splits.
    known: normalized names that are classes.

    Raises `ValueError` for two folders of one split.
    """
    base = _unwrap(tree, known)[-1]
    folders = {folder.name: folder for folder in base.media_folders}
    splits = splits_of_folders(list(folders))
    unlabeled = (
        [] if is_meant else [name for name in folders if normalize_label(name) in UNLABELED and len(folders) > 1]
    )
    messages = [
        f"Left out: {count(folders.pop(name).num_media, 'file')} in {name}/, by its name." for name in unlabeled
    ]
    if not folders:
        return _no_class_folders(tree)
    inner = _class_parents([folders[name] for name in splits], known)
    if splits and (inner or not is_meant):
        layout = _split_layout(tree, base, folders, splits, inner)
        return layout if isinstance(layout, str) else Layout(layout.sources, messages + layout.messages)
    if len(folders) == 1 and not is_meant and known.isdisjoint(map(normalize_label, folders)):
        (name,) = folders
        return (
            f"{tree.path} has videos of one class only ({name}), or videos without labels in one folder: there must be one folder "
            f"per class, {CLASS_LAYOUT}, or an annotation file with the columns path and label (train_data=FILE). "
            "data_format=class_folders reads a single class."
        )
    if not is_meant and (problem := _numbered_parts(base) or _two_levels(base)):
        return problem
    if base is not tree:
        messages.append(f"The class folders are in {base.path.relative_to(tree.path)}/.")
    base = replace(base, folders=[folder for folder in base.folders if folder.name not in unlabeled])
    return Layout([Source(str(base.path), None, base)], messages)


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
    if not inner and others:
        return (
            f"{base.path} holds {names}, which have the names of splits, and {others}, which have not. If all of them are classes, "
            "set data_format=class_folders; else give each split with its labels as train_data and validation_data."
        )
    if not inner and len({each.name for name in splits for each in folders[name].media_folders}) == 1:
        (only,) = {each.name for name in splits for each in folders[name].media_folders}
        return f"{base.path} has videos of one class only ({only}) in {names}, and training needs two: {CLASS_LAYOUT}."
    if not inner and all(folders[name].media_folders for name in splits):
        only = _slashes(sorted({each.name for name in splits for each in folders[name].media_folders}))
        return f"{base.path} holds {names} with one folder each ({only}): {CLASS_LAYOUT} needs two classes in train/."
    if not inner:
        return (
            f"{base.path} holds {names} with videos that are not in class folders, so their labels are missing: move them into "
            f"{CLASS_LAYOUT}, or give annotation files with the columns path and label as train_data and validation_data."
        )
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
    if base is not tree:
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
    return (
        f"{tree.path} holds {found}{packed}, no annotation file and no data set of `datasets`: there must be one folder per class, "
        f"{CLASS_LAYOUT}, or an annotation file with the columns path and label (train_data=FILE)."
    )


def _slashes(names: Iterable[str]) -> str:
    return shorten(f"{name}/" for name in names)


# Annotation files


def _find_annotations(
    tree: MediaFolder, given: AnnotationFormat | None, read: ReadSamples, known: frozenset[str]
) -> list[_Annotations]:
    """
    The annotation files in a folder: beside everything, in folders without videos, and in folders that directly hold videos or
    splits. A file is used if its rows name files of the folder, or if its name is usual.

    given: the format, if the user stated it.

    Raises `ValueError` for a file that must be meant as annotations but cannot be read.
    """
    chain = _unwrap(tree, known)
    formats = [each for each in list_formats() if each.layout == "file"]
    suffixes = {suffix for each in formats for suffix in each.suffixes}
    ignored = [pattern for each in formats for pattern in each.ignored_files]
    media = {str(path) for path in (*tree.files(), *(folder.path for folder in frame_folders(tree)))}
    splits = splits_of_folders([folder.name for folder in chain[-1].folders])
    found, groups = [], set()
    for holder in _holders(chain):
        sidecars = {Path(name).stem for name in holder.media}  # files about one video each, as its subtitles
        for name in holder.others:
            path = holder.path / name
            if path.suffix.lower() in OTHER_TABLES and (split_of_file(path) or path.stem.lower() in ANNOTATION_STEMS):
                raise ValueError(
                    f"{path} seems to hold annotations, but {path.suffix} files are not read: save them as CSV with the columns path "
                    "and label, or set data_format=class_folders to ignore the file."
                )
            is_ignored = any(fnmatchcase(name, pattern) for pattern in ignored)
            if path.suffix.lower() not in suffixes or path.stem in sidecars or is_ignored:
                continue
            entry = next((each for each in ([given] if given is not None else formats) if each.sniff(path)), None)
            split = split_of_file(path) or splits.get(holder.name)
            if entry is not None and entry.file_group is not None:
                split = None
                if (group := (holder.path, entry.file_group(path))) in groups:
                    continue
                groups.add(group)
            of_split = [chain[-1].path / each for each in splits if splits[each] == split]
            roots = [*of_split, *(folder.path for folder in reversed(chain))]
            source = Source(str(path), split, None, VideoFolder(holder.path, roots, tree))
            found += _read_annotations(source, entry, tree, media, read)
    return found


def _holders(chain: list[MediaFolder]) -> list[MediaFolder]:
    holders = list(chain)
    for folder in (each for parent in chain for each in parent.folders if each not in chain):
        holders += [folder] if folder.num_media else folder.walk()
    return holders


def _read_annotations(
    source: Source, entry: AnnotationFormat | None, tree: MediaFolder, media: set[str], read: ReadSamples
) -> list[_Annotations]:
    """The annotation file in a list; an empty list if the file is not about the videos of the folder."""
    path = Path(source.path)
    annotations = _Annotations(source, source.split, tree.path, [], 0)
    if entry is None:
        if _names_any(path, media) and (_has_label_column(path) or annotations.is_usual):
            columns = shorten(sniff_header(path), 8) or "unknown"
            raise ValueError(
                f"{path} names videos of the folder, but not in a format that can be read (its columns: {columns}): rename its "
                "columns to path and label, or set data_format=class_folders to ignore the file."
            )
        return []
    try:
        samples = read(source._replace(split=None), entry)
    except (ValueError, OSError):
        if (annotations.is_usual and not media) or _names_any(path, media):
            raise
        return []
    num_found = sum(sample.path in media or "://" in sample.path for sample in samples)
    if not num_found and not media & {sample.path for sample in samples}:
        num_found = sum(os.path.exists(sample.path) for sample in samples[:NUM_TRIED])  # in another video_root
    annotations = annotations._replace(samples=samples, num_found=num_found)
    return [annotations] if num_found or annotations.is_usual else []


def _names_any(path: Path, media: set[str]) -> bool:
    """Whether the beginning of a file contains the name of a video of the folder, with or without its suffix."""
    text = sniff_text(path)
    words = {word.replace("\\", "/").rpartition("/")[2] for word in re.split(r"[\s,;\"':\[\]{}]+", text)}
    words |= {word.strip().rpartition("/")[2] for word in re.split(r"[,;\"\t\n]+", text)}
    names = {os.path.basename(each) for each in media}
    return not words.isdisjoint(names | {stem for name in names if len(stem := os.path.splitext(name)[0]) >= MIN_STEM})


def _has_label_column(path: Path) -> bool:
    return any(word in column.lower() for column in sniff_header(path) for word in LABEL_WORDS)


def _use_annotations(tree: MediaFolder, found: list[_Annotations]) -> Layout:
    """The sources of annotation files, at most one for each split or one in all, and messages on what they leave out."""
    about = [each for each in found if each.num_found] or found
    covered = {each.split for each in about}
    about += [each for each in found if each.split and covered - {None} and each.split not in covered]
    chosen = _select(tree, about)
    names = ", ".join(str(each.path.relative_to(tree.path)) for each in chosen)
    messages = [f"Labels are read from {names}."] if tree.media_folders else []
    unused = [each for each in found if each not in chosen]
    if unused:
        messages.append(f"Not read: {shorten(str(each.path.relative_to(tree.path)) for each in unused)}.")
    listed = {sample.path for each in chosen for sample in each.samples}
    suffixes = (
        IMAGE_SUFFIXES if any(Path(path).suffix.lower() in IMAGE_SUFFIXES for path in listed) else VIDEO_SUFFIXES
    )
    files = [str(path) for path in tree.files(suffixes)]
    missing = [path for path in files if path not in listed]
    if missing and len(missing) < len(files):
        messages.append(
            f"Left out: {len(missing)} of {len(files)} files, which the annotations do not list ({missing[0]})."
        )
    return Layout([each.source for each in chosen], messages)


def _select(tree: MediaFolder, found: list[_Annotations]) -> list[_Annotations]:
    """One file for each split, or one file of all splits. Raises `ValueError` if the choice is not clear."""
    of_split = {split: [each for each in found if each.split == split] for split in (*SPLIT_NAMES, None)}
    whole = of_split.pop(None)
    of_split = {split: files for split, files in of_split.items() if files}
    if whole and ("train" not in of_split or not of_split):
        if of_split:
            names = shorten((each.path.name for each in found), 5)
            raise ValueError(
                f"{tree.path} has several annotation files ({names}); give one for each split, as train_data."
            )
        return [_first_of_whole(tree, whole)]
    return [_first_of_split(tree, split, files, of_split) for split, files in of_split.items()]


def _first_of_whole(tree: MediaFolder, files: list[_Annotations]) -> _Annotations:
    files = sorted(files, key=_preference)
    labels: dict[str, set] = {}
    for each in files:
        for sample in each.samples:
            labels.setdefault(sample.path, set()).add((each.path, (sample.label, sample.split)))
    differ = any(
        len({label for _, label in pairs}) > 1 and len({path for path, _ in pairs}) > 1 for pairs in labels.values()
    )
    partial = any({s.path for s in each.samples} - {s.path for s in files[0].samples} for each in files)
    if differ or partial:
        names = shorten((str(each.path.relative_to(tree.path)) for each in files), 5)
        raise ValueError(
            f"{tree.path} has several annotation files ({names}); give one, as data={files[0].path} video_root={_root(tree)}."
        )
    return files[0]


def _first_of_split(
    tree: MediaFolder, split: str, files: list[_Annotations], of_split: dict[str, list[_Annotations]]
) -> _Annotations:
    """The only file of a split, or the one whose name is the split. Of files that differ in their suffixes, the first suffix."""
    files = sorted(files, key=_preference)
    exact = [each for each in files if split_of(each.path.stem) and not re.search(r"\d", each.path.stem)] or files
    if len({each.path.with_suffix("") for each in exact}) > 1:
        names = ", ".join(each.path.name for each in files)
        example = " ".join(f"{name}_data={sorted(each.path for each in group)[0]}" for name, group in of_split.items())
        raise ValueError(
            f"{tree.path} has several files of the {split} split ({names}); give one as {split}_data, as in {example} "
            f"video_root={_root(tree)}."
        )
    return exact[0]


def _root(tree: MediaFolder) -> Path:
    return _unwrap(tree)[-1].path


def _preference(annotations: _Annotations) -> tuple:
    stem, suffix = annotations.path.stem.lower(), annotations.path.suffix.lower()
    order = ANNOTATION_STEMS.index(stem) if stem in ANNOTATION_STEMS else len(ANNOTATION_STEMS)
    return order, SUFFIX_ORDER.index(suffix) if suffix in SUFFIX_ORDER else len(SUFFIX_ORDER), str(annotations.path)
