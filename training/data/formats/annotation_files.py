# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Annotation files in a folder of videos: finds them, reads them, and chooses those of each split.

A file holds annotations if its rows name videos of the folder, or if its name is usual.
"""

import os
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..class_names import read_class_names
from ..media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaFolder, frame_folders, shorten
from ..recorded_inputs import record_folder
from ..text_tables import sniff_header, sniff_text
from .class_layout import Layout, unwrap
from .registry import AnnotationFormat, Source, list_formats
from .samples import SPLIT_NAMES, VideoFolder, VideoSample, split_of, split_of_file, splits_of_folders


# Usual names of a file with the rows of all splits, the preferred first; `datasets` uses "metadata".
ANNOTATION_STEMS = (
    *("metadata", "labels", "annotations", "annotation", "label", "data", "dataset", "clips", "videos", "index"),
    *("list", "samples", "all", "manifest", "ground_truth", "groundtruth", "gt"),
)
# Usual names of folders of annotation files.
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "splits", "metadata", "lists", "anns")
# Suffixes of tables that cannot be read.
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".mat", ".pkl", ".xml")
SUFFIX_ORDER = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet")  # of files that have the same name otherwise
LABEL_WORDS = ("label", "class", "category", "action", "target")  # in the name of a column with labels
RESULT_WORDS = ("pred", "result", "score", "output", "submission")  # in the name of a file that a model wrote
MIN_STEM = 3  # characters; shorter names without suffix, such as "7", are in many files
NUM_TRIED = 100  # rows whose files are looked up outside of the folder


ReadSamples = Callable[[Source, AnnotationFormat], list[VideoSample]]


class Annotations(NamedTuple):
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
        """Whether the file or its folder has the usual name of annotations. Files of predictions have a split in their name too."""
        return (
            (self.split is not None and not any(word in self.path.stem.lower() for word in RESULT_WORDS))
            or self.path.stem.lower() in ANNOTATION_STEMS
            or (self.path.parent != self.folder and self.path.parent.name.lower() in ANNOTATION_FOLDERS)
        )


def find_annotations(
    tree: MediaFolder, given: AnnotationFormat | None, read: ReadSamples, known: frozenset[str]
) -> list[Annotations]:
    """
    The annotation files in a folder: beside everything, in folders without videos, and in folders that directly hold videos or
    splits. A file is used if its rows name files of the folder, or if its name is usual.

    given: the format, if the user stated it.

    Raises `ValueError` for a file of annotations that cannot be read.
    """
    chain = unwrap(tree, known)
    formats = [each for each in list_formats() if each.layout == "file"]
    suffixes = {suffix for each in formats for suffix in each.suffixes}
    ignored = [pattern for each in formats for pattern in each.ignored_files]
    media = {*tree.paths(unique=False), *(str(folder.path) for folder in frame_folders(tree))}
    names = _names_of(media)
    splits = splits_of_folders([folder.name for folder in chain[-1].folders])
    found, groups = [], set()
    for holder in _holders(chain):
        sidecars = {Path(name).stem for name in holder.media}  # files about one video each, as its subtitles
        for name in holder.others:
            path = holder.path / name
            is_table = split_of_file(path) or path.stem.lower() in ANNOTATION_STEMS
            if path.suffix.lower() in OTHER_TABLES and is_table and path.stem not in sidecars:
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
            found += _read_annotations(source, entry, tree, media, names, read)
    return found


def _holders(chain: list[MediaFolder]) -> list[MediaFolder]:
    """The folders in which annotation files are looked for. chain: result of `unwrap`."""
    holders = list(chain)
    for folder in (each for parent in chain for each in parent.folders if each not in chain):
        holders += [folder] if folder.num_media else folder.walk()
    return holders


def _read_annotations(
    source: Source,
    entry: AnnotationFormat | None,
    tree: MediaFolder,
    media: set[str],
    names: set[str],
    read: ReadSamples,
) -> list[Annotations]:
    """
    The annotation file in a list; an empty list if the file is not about the videos of the folder.

    media: paths of the videos, images and frame folders. names: result of `_names_of`.
    """
    path = Path(source.path)
    annotations = Annotations(source, source.split, tree.path, [], 0)
    if entry is None:
        if _is_class_list(path):
            return []
        if _names_any(path, names) and (_has_label_column(path) or annotations.is_usual):
            columns = shorten(sniff_header(path), 8) or "unknown"
            raise ValueError(
                f"{path} names videos of the folder, but not in a format that can be read (its columns: {columns}): rename its "
                "columns to path and label, or set data_format=class_folders to ignore the file."
            )
        return []
    try:
        samples = read(source._replace(split=None), entry)
    except (ValueError, OSError):
        if (annotations.is_usual and not media) or _names_any(path, names):
            raise
        return []
    num_found = sum(sample.path in media or "://" in sample.path for sample in samples)
    if not num_found and not media & {sample.path for sample in samples}:
        for sample in samples[:NUM_TRIED]:  # in another video_root
            record_folder(os.path.dirname(sample.path))
            num_found += os.path.exists(sample.path)
    annotations = annotations._replace(samples=samples, num_found=num_found)
    return [annotations] if num_found or annotations.is_usual else []


def _is_class_list(path: Path) -> bool:
    """Whether a JSON file is a list of class names, or maps class names to numbers, as that of Something-Something."""
    if path.suffix.lower() != ".json":
        return False
    try:
        read_class_names(path)
    except (ValueError, OSError):
        return False
    return True


def _names_of(media: set[str]) -> set[str]:
    """The names of files, with and without their suffix."""
    names = {os.path.basename(each) for each in media}
    return names | {stem for name in names if len(stem := os.path.splitext(name)[0]) >= MIN_STEM}


def _names_any(path: Path, names: set[str]) -> bool:
    """Whether the beginning of a file contains one of the names of `_names_of`."""
    text = sniff_text(path)
    words = {word.replace("\\", "/").rpartition("/")[2] for word in re.split(r"[\s,;\"':\[\]{}]+", text)}
    words |= {word.strip().rpartition("/")[2] for word in re.split(r"[,;\"\t\n]+", text)}
    return not words.isdisjoint(names)


def _has_label_column(path: Path) -> bool:
    return any(word in column.lower() for column in sniff_header(path) for word in LABEL_WORDS)


def use_annotations(tree: MediaFolder, found: list[Annotations]) -> Layout:
    """
    The sources of annotation files, at most one for each split or one in all, and messages on what they leave out.

    Raises `ValueError` if the choice of files is not clear, and if the folder has training videos but the files have none.
    """
    about = [each for each in found if each.num_found] or found
    covered = {each.split for each in about}
    about += [each for each in found if each.split and covered - {None} and each.split not in covered]
    chosen = _select(tree, about)
    names = ", ".join(str(each.path.relative_to(tree.path)) for each in chosen)
    messages = [f"Labels are read from {names}."] if tree.media_folders else []
    unused = [each for each in found if each not in chosen]
    if unused:
        others = shorten(str(each.path.relative_to(tree.path)) for each in unused)
        messages.append(f"Left out: other annotation files ({others}); data=FILE, or train_data=FILE, reads one.")
    listed = {sample.path for each in chosen for sample in each.samples}
    has_images = any(os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES for path in listed)
    files = tree.paths(IMAGE_SUFFIXES if has_images else VIDEO_SUFFIXES)
    missing = [path for path in files if path not in listed]
    splits = {each.split for each in chosen}
    train = [path for path in missing if any(map(_is_train, Path(path).relative_to(tree.path).parts[:-1]))]
    if train and not splits & {None, "train"}:
        raise ValueError(
            f"{names} gives the labels of the {' and '.join(sorted(splits))} split only, and {len(train)} videos for training are not "
            f"listed ({train[0]}): give an annotation file of the training split too, or set train_data and validation_data."
        )
    if missing and len(missing) < len(files):
        messages.append(
            f"Left out: {len(missing)} of {len(files)} files, which the annotations do not list ({missing[0]})."
        )
    return Layout([each.source for each in chosen], messages)


def _select(tree: MediaFolder, found: list[Annotations]) -> list[Annotations]:
    """One file for each split, or one file of all splits. Raises `ValueError` if the choice is not clear."""
    of_split = {split: [each for each in found if each.split == split] for split in (*SPLIT_NAMES, None)}
    whole = of_split.pop(None)
    of_split = {split: files for split, files in of_split.items() if files}
    if whole and "train" not in of_split:
        if of_split:
            names = shorten((each.path.name for each in found), 5)
            raise ValueError(
                f"{tree.path} has several annotation files ({names}); give one for each split, as train_data."
            )
        return [_first_of_whole(tree, whole)]
    return [_first_of_split(tree, split, files, of_split) for split, files in of_split.items()]


def _first_of_whole(tree: MediaFolder, files: list[Annotations]) -> Annotations:
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
    tree: MediaFolder, split: str, files: list[Annotations], of_split: dict[str, list[Annotations]]
) -> Annotations:
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


def _is_train(folder: str) -> bool:
    return split_of(folder) == "train"


def _root(tree: MediaFolder) -> Path:
    return unwrap(tree)[-1].path


def _preference(annotations: Annotations) -> tuple:
    stem, suffix = annotations.path.stem.lower(), annotations.path.suffix.lower()
    order = ANNOTATION_STEMS.index(stem) if stem in ANNOTATION_STEMS else len(ANNOTATION_STEMS)
    return order, SUFFIX_ORDER.index(suffix) if suffix in SUFFIX_ORDER else len(SUFFIX_ORDER), str(annotations.path)
