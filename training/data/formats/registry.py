# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Which annotation files a data set consists of, what their format is, and the reader of each.

A folder may hold class folders (with `train/` and `val/` around them or not), a file for each split whose name says which
(`kinetics-400_val.csv`, `something-something-v2-train.json`, `train.txt`), one `metadata.csv`, or what `datasets` saves.
"""

import re
from pathlib import Path
from typing import NamedTuple

from .class_folders import clips_of
from .csv_table import is_charades, path_column, read_charades, read_csv
from .hub_datasets import is_saved_dataset
from .kinetics import is_kinetics, read_kinetics
from .path_label_list import is_list, read_list
from .samples import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    VIDEO_SUFFIXES,
    VideoFolder,
    VideoSample,
    read_header,
    split_of,
    split_of_file,
)
from .something_something import LABEL_FILES, read_ssv2


FORMATS = ("kinetics", "ssv2", "list", "csv", "charades", "class_folders", "image_folders", "datasets")
FOLDER_FORMATS = {"class_folders": VIDEO_SUFFIXES, "image_folders": IMAGE_SUFFIXES}
ANNOTATION_SUFFIXES = (".csv", ".json", ".txt")
SINGLE_FILES = ("metadata.csv", "labels.csv")  # with all splits in one; the first name is that of `datasets`
DATASET_SUFFIXES = (".parquet", ".arrow", ".tar", ".jsonl")
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class Source(NamedTuple):
    """A file or folder of annotations, or the name of a data set, and the split that it is, `None` if it says so itself."""

    path: str
    split: str | None


def find_sources(data: str | None, split_files: dict[str, str], data_format: str = "auto") -> list[Source]:
    """
    What to read: `split_files` (split to file or folder), or what is in `data`: class folders rather than annotation files, unless
    these are asked for by `data_format`.

    Raises `FileNotFoundError` for a path that is not there and `ValueError` for a folder with nothing to read.
    """
    if data is None:
        return [Source(_existing(name), split) for split, name in split_files.items()]
    folder = Path(_existing(data))
    if not folder.is_dir() or is_saved_dataset(folder):
        return [Source(data, None)]
    if data_format not in ("auto", "datasets", *FOLDER_FORMATS) and (files := _annotation_files(folder)):
        return files
    if splits := _split_folders(folder):
        return [Source(str(path), split) for split, path in splits.items()]
    if files := _annotation_files(folder):
        return files
    if _class_format(folder) or any(next(folder.rglob(f"*{suffix}"), None) for suffix in DATASET_SUFFIXES):
        return [Source(data, None)]
    raise ValueError(
        f"{data} holds no videos in class folders (<folder>/<class>/*.mp4 or <folder>/train|val/<class>/*.mp4), no "
        "annotation files (train.csv, val.csv, ...) and no data set of `datasets`."
    )


def detect_format(sources: list[Source]) -> str:
    """The format of `sources`, one of `FORMATS`. Raises `ValueError` if it cannot be told or they differ."""
    found = {source.path: _format_of(Path(source.path)) for source in sources}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{path} is {name}" for path, name in found.items())
        raise ValueError(f"The splits have different formats: {listed}.")
    return next(iter(found.values()))


def read_rows(
    source: Source, data_format: str, video_root: str | None, names: list[str] | None, multi_label: bool
) -> list[VideoSample]:
    """
    The rows of a source. Of a file for one split that holds several, those of this split.

    video_root: where the files lie, by default the folder of the annotations.
    names: the class names, which Something-Something needs.
    """
    path = Path(source.path)
    if data_format in FOLDER_FORMATS:
        clips = clips_of(path, FOLDER_FORMATS[data_format])
        return [
            VideoSample(str(clip.path), clip.label, clip.path.relative_to(path).as_posix(), source.split)
            for clip in clips
        ]
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder; the format {data_format} needs an annotation file (folders named by classes are "
            "data_format=class_folders)."
        )
    videos = VideoFolder(video_root or path.parent)
    if data_format == "csv":
        rows = read_csv(path, read_header(path), videos, multi_label)
    elif data_format == "list":
        rows = read_list(path, videos, multi_label)
    elif data_format == "ssv2":
        rows = read_ssv2(path, videos, names or [])
    else:
        rows = {"kinetics": read_kinetics, "charades": read_charades}[data_format](path, videos)
    return _of_split(rows, source)


def _of_split(rows: list[VideoSample], source: Source) -> list[VideoSample]:
    if source.split is None:
        return rows
    # A file that is given as one split may call it as it likes, unless it holds several.
    if len({row.split for row in rows}) > 1:
        rows = [row for row in rows if row.split == source.split]
        if not rows:
            raise ValueError(f"{source.path} holds several splits, but no row of {source.split}.")
    return [row._replace(split=source.split) for row in rows]


def _existing(name: str) -> str:
    if not Path(name).exists() and not HUB_NAME.fullmatch(name):
        raise FileNotFoundError(f"There is no file or folder {name}.")
    return name


def _format_of(path: Path) -> str:
    if not path.exists() or path.suffix in DATASET_SUFFIXES:
        return "datasets"
    if path.is_dir():
        return "datasets" if is_saved_dataset(path) else _class_format(path) or "datasets"
    if path.suffix == ".json":
        return "ssv2"
    header = read_header(path)
    if is_kinetics(header):
        return "kinetics"
    if is_charades(header):
        return "charades"
    if is_list(path):
        return "list"
    if path_column(header) and "label" in header:
        return "csv"
    raise ValueError(
        f"{path} is in no known format: a header needs path and label, or youtube_id, time_start and time_end, or id and "
        f"actions; a list needs 'path number' in each line. It begins with {','.join(header)[:80]!r}."
    )


def _class_format(folder: Path) -> str | None:
    """Whether the folders in `folder` hold videos or images, by the first file found."""
    for entry in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in entry.rglob("*"):
            for name, suffixes in FOLDER_FORMATS.items():
                if path.suffix.lower() in suffixes:
                    return name
    return None


def _split_folders(folder: Path) -> dict[str, Path]:
    """`train/`, `val/` and `test/` in a folder, if they hold class folders."""
    found = {}
    for split, names in SPLIT_NAMES.items():
        here = [folder / name for name in names if (folder / name).is_dir() and _class_format(folder / name)]
        if len(here) > 1:
            raise ValueError(f"{folder} has {here[0].name}/ and {here[1].name}/; which is the {split} split?")
        if here:
            found[split] = here[0]
    return found


def _annotation_files(folder: Path) -> list[Source]:
    """One annotation file per split, or one for all."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        split = split_of_file(path) if path.suffix.lower() in ANNOTATION_SUFFIXES and path.is_file() else None
        if split is not None and path.name not in LABEL_FILES and "answers" not in path.stem:
            found.setdefault(split, []).append(path)
    for split, paths in found.items():
        exact = [path for path in paths if split_of(path.stem)]
        if len(paths) > 1 and len(exact) != 1:
            listed = ", ".join(path.name for path in paths)
            raise ValueError(f"{folder} has several files of the {split} split ({listed}); give one as {split}_data.")
        found[split] = exact or paths
    if found:
        return [Source(str(found[split][0]), split) for split in SPLIT_NAMES if split in found]
    return [Source(str(folder / name), None) for name in SINGLE_FILES if (folder / name).is_file()][:1]
