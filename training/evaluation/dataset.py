# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The videos that a classifier is evaluated on, with labels in the order of its logits.

Labels are matched by name: checkpoints and copies of a data set order their classes differently, and an index that means
another class there would score a good model at 0 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.class_names import LabelEncoder
from ..data.video_datasets import DataConfig, VideoData, load_video_dataset
from ..models.loading import VideoClassifier


SPLITS = ("validation", "test")  # what is evaluated by default, the first that there is


@dataclass
class EvaluationData:
    """
    rows: `datasets.Dataset` or `IterableDataset`, as in `VideoData`.
    split: which one they are.
    class_names: the classifier's classes, in the order of its logits.
    to_class: index of a class of it for each label in `rows`; `None` where they are the same.
    notes: what was decided on the way, for the user to read.
    """

    rows: Any
    split: str
    class_names: list[str]
    to_class: list[int] | None = None
    notes: list[str] = field(default_factory=list)

    def label_of(self, label: int | Sequence[int] | None) -> int | list[int] | None:
        """The label of a row as class of the classifier, or a list of them."""
        if label is None or self.to_class is None:
            return label
        return self.to_class[label] if isinstance(label, int) else [self.to_class[each] for each in label]


def load_evaluation_data(config: DataConfig, classifier: VideoClassifier, split: str | None = None) -> EvaluationData:
    """
    Read the annotations that `config` names.

    split: by default the validation split, or else the test split.

    Raises `ValueError` of one line where labels and classifier do not belong together.
    """
    names = classifier.class_names
    if names is not None and config.class_names_file is None:
        data = load_video_dataset(config, names)
        to_class = None
    else:
        data = load_video_dataset(config)
        to_class = _match_classes(data, names, classifier.model.config.num_labels)
    rows, split = _pick_split(data, split)
    if data.media != classifier.media:
        raise ValueError(
            f"The data are {data.media}s; a classifier of {classifier.media}s is evaluated on {classifier.media}s."
        )
    if _any_label(rows) and data.multi_label != classifier.multi_label:
        kinds = {True: "several labels per video", False: "one label per video"}
        raise ValueError(
            f"The data have {kinds[data.multi_label]}, the checkpoint was trained on {kinds[classifier.multi_label]} "
            f"(problem_type={classifier.model.config.problem_type!r})."
        )
    if names is None:
        data.notes.append(
            "The checkpoint does not name its classes: they are taken to be in the order of the data's, which is "
            f"{', '.join(data.class_names[:3])}{', ...' if len(data.class_names) > 3 else ''}."
        )
    return EvaluationData(rows, split, names or data.class_names, to_class, data.notes)


def _match_classes(data: VideoData, names: list[str] | None, num_labels: int) -> list[int] | None:
    if names is None:
        if len(data.class_names) != num_labels:
            raise ValueError(
                f"The data have {len(data.class_names)} classes and the checkpoint {num_labels}, without names; say with "
                "class_names_file what they are, in the order of the checkpoint's."
            )
        return None
    index_of = LabelEncoder(names)
    try:
        return [index_of(name) for name in data.class_names]
    except ValueError as error:
        raise ValueError(f"The data have a class that the checkpoint has not: {error}") from None


def _pick_split(data: VideoData, split: str | None) -> tuple[Any, str]:
    there = ", ".join(data.splits)
    if split is None:
        split = next((name for name in SPLITS if name in data.splits), None)
        if split is None:
            raise ValueError(f"There is no validation or test split, only {there}; split={there} evaluates that.")
    if split not in data.splits:
        raise ValueError(f"There is no {split} split; there is: {there}.")
    rows = data.splits[split]
    if hasattr(rows, "__len__") and not len(rows):
        raise ValueError(f"The {split} split is empty.")
    return rows, split


def _any_label(rows: Any) -> bool:
    """Whether labels are known, by the first row; rows of a split are alike in that."""
    return next(iter(rows), {"label": None})["label"] is not None
