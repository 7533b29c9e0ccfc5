# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Finds the labels of a folder of videos: class folders (`class_layout`) or annotation files (`annotation_files`).

A layout that can be read in two ways raises a `ValueError` that states what was found and which option decides.
"""

from collections.abc import Sequence
from pathlib import Path

from ..class_names import normalize_label
from ..media_files import MEDIA_SUFFIXES, MediaFolder, scan_folder, shorten
from ..shards import is_remote, is_several
from .annotation_files import Annotations, ReadSamples, find_annotations, use_annotations
from .class_layout import Layout, find_class_folders
from .registry import AUTO, HUB_NAME, Source, get_format, list_formats, marked_format
from .samples import VideoSample


class NoLabelsError(ValueError):
    """A folder has videos, and neither class folders nor annotation files."""


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

    Raises `FileNotFoundError` for a missing path, `NoLabelsError` for a folder without labels, and `ValueError` for a folder with
    several readings.
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
    if not (Path(name).exists() or is_remote(name) or is_several(name) or HUB_NAME.fullmatch(name)):
        raise FileNotFoundError(f"There is no file or folder {name}.")
    return name


def _find_labels(name: str, data_format: str, read: ReadSamples, known: frozenset[str]) -> Layout:
    """The sources of a folder; of a file or the name of a data set, itself."""
    folder = Path(name)
    given = None if data_format == AUTO else get_format(data_format)
    if not folder.is_dir() or marked_format(folder) or (given is not None and given.layout == "dataset"):
        return Layout([Source(name, None)], [])
    tree = scan_folder(folder)
    are_classes = given is not None and given.layout == "folder"
    found = [] if are_classes else find_annotations(tree, given, read, known)
    if given is not None and found:
        return use_annotations(tree, found)
    classes = find_class_folders(tree, are_classes, known)
    if isinstance(classes, Layout):
        return _choose(classes, tree, found)
    if found:
        return use_annotations(tree, found)
    if any(each.sniff(folder) for each in list_formats() if each.layout == "dataset"):
        return Layout([Source(name, None)], [])
    if given is not None:
        return Layout([Source(name, None)], [])  # the format tells what it needs
    raise NoLabelsError(classes)


def _choose(classes: Layout, tree: MediaFolder, found: list[Annotations]) -> Layout:
    """
    The class folders, or the annotation files beside them: the files if their labels differ from the names of the folders, or if
    only they define splits or several rows of a file.

    Raises `ValueError` if the labels differ, but the name of the file is not a usual one.
    """
    lost = [each for each in found if each.is_usual and not each.num_found and any(map(_has_media_name, each.samples))]
    messages = [
        f"Left out: the annotation file {each.path.name}, because none of its {len(each.samples)} videos is found "
        f"({each.samples[0].path}); video_root sets their folder."
        for each in lost
    ]
    found = [each for each in found if each.num_found]
    folder_of = {
        path: folder.name
        for source in (classes.sources if found else ())
        for folder in source.folder.media_folders
        for path in (*folder.paths(), *(str(each.path) for each in folder.walk()))
    }
    differing = [each for each in found if not _agrees(each.samples, folder_of)]
    if any(each.split for each in lost) and not differing:
        each = next(each for each in lost if each.split)
        raise ValueError(
            f"{tree.path} has class folders and {each.path.name}, but none of the {len(each.samples)} videos in this file is "
            f"found ({each.samples[0].path}): set video_root, or data_format=class_folders to ignore the file."
        )
    names = shorten(each.path.name for each in differing)
    if differing and not any(each.is_usual for each in differing):
        raise ValueError(
            f"{tree.path} has class folders, but {names} gives other labels: data_format=class_folders uses the folders, "
            f"data={differing[0].path} the file."
        )
    has_splits = any(source.split for source in classes.sources)
    if differing or any(_defines_more(each, has_splits) for each in found):
        chosen = differing or found
        splits = {each.split for each in chosen}
        if None not in splits:  # files of further splits, without labels or without videos
            chosen = chosen + [each for each in found + lost if each.split and each.split not in splits]
        layout = use_annotations(tree, chosen)
        if differing:
            others = shorten(sorted({f"{name}/" for name in folder_of.values()}))
            verb = "give" if len(differing) > 1 else "gives"
            layout.messages.insert(0, f"The folders {others} are not classes, because {names} {verb} other labels.")
        return layout
    return classes._replace(
        messages=[
            *classes.messages,
            *messages,
            *(
                f"The labels are the names of the class folders; {each.path.name} gives the same ones (data={each.path} reads it)."
                for each in found
            ),
        ]
    )


def _has_media_name(sample: VideoSample) -> bool:
    return Path(sample.path).suffix.lower() in MEDIA_SUFFIXES


def _agrees(samples: list[VideoSample], folder_of: dict[str, str]) -> bool:
    """Whether the labels are the names of the folders, or numbers that stand for them one to one."""
    has_labels = any(sample.label is not None for sample in samples)
    if has_labels and not any(sample.path in folder_of for sample in samples):  # of videos elsewhere
        return False
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


def _defines_more(annotations: Annotations, has_splits: bool) -> bool:
    paths = [sample.path for sample in annotations.samples]
    states_splits = annotations.split is not None or any(sample.split for sample in annotations.samples)
    has_segments = any(sample.segment is not None for sample in annotations.samples)
    return has_segments or len(set(paths)) < len(paths) or (states_splits and not has_splits)
