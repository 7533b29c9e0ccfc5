# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Videos without labels: every video and frame folder of a folder, for embeddings and for pretraining."""

import os
from dataclasses import fields
from pathlib import Path

from .data_config import DataConfig, VideoData
from .dataset_columns import make_dataset
from .formats.folder_layout import NoLabelsError, find_sources
from .formats.registry import AUTO
from .formats.samples import splits_of_folders
from .holding_out import GroupPattern, real_paths
from .media_files import VIDEO_SUFFIXES, MediaFolder, describe_left_out, frame_folders, scan_folder
from .video_datasets import AnnotationReader, hold_out, load_video_dataset


# Options that folders of videos without labels have.
OPTIONS_OF_FOLDERS = (
    *("data", "train_data", "validation_data", "test_data"),
    *("frame_folder_fps", "group_pattern", "validation_fraction", "split_seed"),
)


def read_unlabeled(config: DataConfig) -> VideoData:
    """
    The videos and frame folders of the folder `data` as a `VideoData` with the split "all" and no labels; ids are paths in the
    folder.

    Raises `OSError` or `ValueError` for a folder without videos, and for options that need annotations.
    """
    if given := _given_options(config, without=("data", "frame_folder_fps", "group_pattern")):
        raise ValueError(
            f"{given[0]} has no effect with unlabeled=true, which reads every video of the folder `data`."
        )
    folder = Path(str(config.data))
    if not folder.is_dir():
        raise NotADirectoryError(f"unlabeled=true needs a folder of videos, and {folder} is not a folder.")
    tree = scan_folder(folder)
    return _make_data({"all": _list_videos(tree)}, folder, config, list(describe_left_out(tree, [])))


def load_unlabeled(config: DataConfig) -> VideoData:
    """
    The splits of a data set for training without labels.

    Annotations and class folders are read as `load_video_dataset` reads them, for their splits and segments, and `class_names` is
    then empty; the rows keep their labels. A local folder without annotation files and without usable class folders is read as a
    whole: all its videos, or those of its folders `train`, `val` and `test`. Without a validation split, `validation_fraction` of
    the videos is held out.

    Raises `ValueError` or `OSError` of one line for annotations that cannot be read, for options that need annotations where there
    are none, and for images.
    """
    given = {"train": config.train_data, "validation": config.validation_data, "test": config.test_data}
    folders = {split: Path(name) for split, name in given.items() if name} or {"": Path(str(config.data))}
    try:
        data = load_video_dataset(config)
    except ValueError as error:
        if config.data_format != AUTO or any(
            not each.is_dir() or _has_annotations(each, config) for each in folders.values()
        ):
            raise
        if given := _given_options(config, without=OPTIONS_OF_FOLDERS):
            value = getattr(config, given[0])
            raise ValueError(f"{given[0]}={value} needs annotations, and there are none: {error}") from error
        return _read_folders(folders, config, str(error))
    if data.media != "video":
        raise ValueError(f"task=masked needs videos, and the data are {data.media}s.")
    if data.class_names:
        data.messages.append(
            f"The labels ({len(data.class_names)} classes) are ignored: task=masked trains without labels."
        )
    data.class_names, data.multi_label, data.label_groups = [], False, {}
    return data


def _has_annotations(folder: Path, config: DataConfig) -> bool:
    """Whether a folder has annotations other than class folders. Raises `ValueError` if that is not clear."""
    try:
        sources, _ = find_sources(str(folder), {}, AUTO, AnnotationReader(config))
    except NoLabelsError:
        return False
    return any(source.folder is None for source in sources)


def _given_options(config: DataConfig, without: tuple[str, ...]) -> list[str]:
    """Names of the options that differ from their defaults."""
    names = [each.name for each in fields(config) if getattr(config, each.name) != each.default]
    return [name for name in names if name not in without]


def _read_folders(folders: dict[str, Path], config: DataConfig, reason: str) -> VideoData:
    """folders: those of the splits, or one under the name "". reason: why no labels are read."""
    trees = {split: scan_folder(folder) for split, folder in folders.items()}
    if "" in trees:
        tree = trees.pop("")
        found = splits_of_folders([each.name for each in tree.media_folders])
        trees = {found[each.name]: each for each in tree.media_folders if each.name in found}
        if "train" not in trees or len(trees) < len(tree.media_folders) or tree.media:
            trees = {"train": tree}
    paths = {split: _list_videos(each) for split, each in trees.items()}
    counts = ", ".join(f"{split} {len(each):,}" for split, each in paths.items())
    messages = [
        f"Videos are read without labels: {counts}. ({reason.partition(':')[0].rstrip('.')}.)",
        *(message for each in trees.values() for message in describe_left_out(each, [])),
    ]
    data = _make_data(paths, folders.get("", Path()), config, messages)
    if "train" in paths and "validation" not in paths:
        rows, groups = data.splits["train"], data.groups["train"]
        files = real_paths([str(path) for path, _ in paths["train"]])
        held_out = hold_out([""] * len(rows), files, groups, config, data.messages)
        rest = sorted(set(range(len(rows))) - set(held_out))
        for split, indices in (("train", rest), ("validation", held_out)) if held_out else ():
            data.splits[split], data.groups[split] = rows.select(indices), [groups[index] for index in indices]
    return data


def _list_videos(tree: MediaFolder) -> list[tuple[Path, bool]]:
    """Videos and frame folders, sorted by path, and whether each is a frame folder. Raises `ValueError` if there are none."""
    of_frames = {each.path for each in frame_folders(tree)}
    paths = sorted([*tree.files(VIDEO_SUFFIXES, without=of_frames), *of_frames])
    if not paths:
        raise ValueError(f"{tree.path} holds no videos.")
    return [(path, path in of_frames) for path in paths]


def _make_data(
    splits: dict[str, list[tuple[Path, bool]]], folder: Path, config: DataConfig, messages: list[str]
) -> VideoData:
    data = VideoData({}, [], "video", False, "folder without labels", messages)
    for split, videos in splits.items():
        ids = [Path(os.path.relpath(path, folder)).as_posix() for path, _ in videos]
        pattern = config.group_pattern
        groups = [None] * len(ids) if pattern is None else GroupPattern(pattern).of_all(ids, messages)
        fps = [config.frame_folder_fps if is_folder else None for _, is_folder in videos]
        has_folders = any(is_folder for _, is_folder in videos)
        paths = [str(path) for path, _ in videos]
        data.splits[split] = make_dataset(
            "video", paths, [None] * len(ids), ids, None, fps=fps if has_folders else None
        )
        data.groups[split] = groups
    return data
