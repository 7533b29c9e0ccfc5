# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Folds of cross-validation for experiments: whole groups of clips (a person, camera or film) are in one fold.

The clips are those of the splits train and validation. The clips of a fold are scored by a model that is trained on all others;
clips without a group are always trained on. The folds do not depend on the seed of a run.
"""

import csv
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .records import digest


FOLDS = "folds"  # folder of the annotation files, beside the records
MANIFEST = "MANIFEST.csv"  # the annotation file of a folder, if it has one
SPLITS = ("train", "validation")


class GroupedClips(NamedTuple):
    """Paths, class names, folds and groups of all clips, and the class names in order. A clip that is never scored has the fold `None`."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    folds: tuple[int | None, ...]
    groups: tuple[str, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """
    The clips of one fold, for `Experiment.data`.

    source: annotation file, or folder with the annotation file `MANIFEST.csv`. group_column: its column of groups.
    num_folds, fold: number of folds, and of this one. seed: of the choice of the folds, see `holding_out.make_folds`.
    """

    source: str
    group_column: str
    num_folds: int
    fold: int
    seed: int = 0

    @property
    def suffix(self) -> str:
        """Part of the file name of a record."""
        return f"-fold{self.fold}"

    def options(self, kind: str, folder: Path) -> dict[str, Any]:
        """The options of `tubevit train` that name the clips. Their files are in `folder`, see `write`."""
        files = self._folder(folder)
        return {
            "train_data": str(files / "train.csv"),
            "validation_data": str(files / "validation.csv"),
            "class_names_file": str(files / "classes.txt"),
            "group_column": "group",
        }

    def write(self, kind: str, folder: Path) -> None:
        """Write the annotation files of both sides. Raises `ValueError` as `read_groups` does."""
        clips = read_groups(self.source, self.group_column, self.num_folds, self.seed)
        files = self._folder(folder)
        files.mkdir(parents=True, exist_ok=True)
        (files / "classes.txt").write_text("\n".join(clips.class_names) + "\n", encoding="utf-8")
        for split in SPLITS:
            rows = [
                (os.path.abspath(path), label, group)  # a path in an annotation file is relative to that file
                for path, label, fold, group in zip(*clips[:4], strict=True)
                if (fold == self.fold) == (split == "validation")
            ]
            with open(files / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("path", "label", "group"), *rows])

    def _folder(self, folder: Path) -> Path:
        return folder / FOLDS / digest(asdict(self))


@lru_cache
def load_clips(source: str, group_column: str | None = None) -> Any:
    """
    The data set `VideoData` of an annotation file, or of a folder; with a group column, of its annotation file `MANIFEST.csv`.

    Raises `ValueError` for images, clips with several labels, and clips without one.
    """
    from ..data.data_config import DataConfig
    from ..data.video_datasets import load_video_dataset

    manifest = Path(source) / MANIFEST
    if group_column is None:
        data = load_video_dataset(DataConfig(data=source, validation_fraction=0.0))
    else:
        annotations = str(manifest) if manifest.is_file() else source
        data = load_video_dataset(DataConfig(data=annotations, group_column=group_column, validation_fraction=0.0))
    if data.media != "video" or data.multi_label or data.label_groups:
        raise ValueError(f"{source}: the comparison needs videos with one label each.")
    for split in splits_of(data):
        rows = data.splits[split]
        if unlabeled := [name for name, label in zip(rows["video_id"], rows["label"], strict=True) if label is None]:
            raise ValueError(f"{source}: {len(unlabeled)} clips have no label, such as {unlabeled[0]}.")
    return data


def splits_of(data: Any) -> list[str]:
    """The splits whose clips are used, in order."""
    return [split for split in SPLITS if split in data.splits]


@lru_cache
def read_groups(source: str, group_column: str, num_folds: int, seed: int) -> GroupedClips:
    """
    The clips of a data set with their folds.

    Raises `ValueError` as `load_clips` does, for clips without groups, and for fewer groups than folds.
    """
    from ..data.holding_out import join_groups, make_folds

    data = load_clips(source, group_column)
    rows = [
        (row["video"]["path"], row["label"], group)
        for split in splits_of(data)
        for row, group in zip(data.splits[split], data.groups[split], strict=True)
    ]
    if all(group is None for _, _, group in rows):
        raise ValueError(
            f"{source} has no groups of clips: name an annotation file and its column of groups with --group-column, or use the splits of "
            "the data with --folds split."
        )
    paths, labels, groups = zip(*rows, strict=True)
    joined = join_groups(paths, groups)
    with_group = {root for root, group in zip(joined, groups, strict=True) if group is not None}
    used = [index for index, root in enumerate(joined) if root in with_group]
    chosen = make_folds([labels[index] for index in used], [joined[index] for index in used], num_folds, seed)
    folds = dict(zip(used, chosen, strict=True))
    return GroupedClips(
        paths,
        tuple(data.class_names[label] for label in labels),
        tuple(folds.get(index) for index in range(len(rows))),
        tuple(map(str, joined)),
        tuple(data.class_names),
    )


def read_split(source: str) -> GroupedClips:
    """The clips of a data set with a validation split, as one fold with the number 0; each clip is a group of its own."""
    data = load_clips(source)
    rows = [(split, row["video"]["path"], row["label"]) for split in splits_of(data) for row in data.splits[split]]
    if "validation" not in data.splits:
        raise ValueError(f"{source} has no split validation: use folds by group, such as --folds 5.")
    return GroupedClips(
        tuple(path for _, path, _ in rows),
        tuple(data.class_names[label] for _, _, label in rows),
        tuple(0 if split == "validation" else None for split, _, _ in rows),
        tuple(str(index) for index in range(len(rows))),
        tuple(data.class_names),
    )
