# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Scores, metrics and result files from the logits of all views."""

import csv
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .metrics import (
    IGNORED_LABEL,
    aggregate_views,
    confusion_matrix,
    group_labels,
    per_class_accuracy,
    per_class_average_precision,
    split_groups,
)
from .multi_view import VideoPrediction


POSITIVE_FROM = 0.5  # with several labels, smallest probability of a predicted class
SEGMENT_COLUMNS = (("start", "end"), ("start_frame", "end_frame"))
SEPARATOR = ";"  # between several labels in a cell
ROWS_PER_BATCH = 4096  # in the parquet file


@dataclass
class ScoredVideos:
    """
    All predictions of an evaluation, and the scores of the videos with logits.

    predictions: one for every video of the split, in its order; labels are indices of the classifier's classes.
    scores: probabilities `(scored videos, classes)`, by `metrics.aggregate_views`.
    label_groups: names and sizes of groups of classes, of each of which a video has one; empty for one group.
    """

    predictions: list[VideoPrediction]
    scores: np.ndarray
    class_names: list[str]
    multi_label: bool
    label_groups: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        predictions: list[VideoPrediction],
        class_names: list[str],
        aggregation: str,
        multi_label: bool,
        label_groups: dict[str, int] | None = None,
    ):
        """Aggregate the views. Raises `ValueError`, with the first reason, if no video could be scored."""
        logits = [each.logits for each in predictions if each.logits is not None]
        if not logits:
            first = f"; the first: {predictions[0].path}: {predictions[0].reason}" if predictions else ""
            raise ValueError(f"None of {len(predictions)} videos could be scored{first}")
        if logits[0].shape[-1] != len(class_names):
            raise ValueError(f"The model returns {logits[0].shape[-1]} logits for {len(class_names)} classes.")
        scores = np.stack([aggregate_views(each, aggregation, multi_label, label_groups) for each in logits])
        return cls(predictions, scores, class_names, multi_label, label_groups or {})

    @property
    def scored(self) -> list[VideoPrediction]:
        return [each for each in self.predictions if each.logits is not None]

    @property
    def labels(self) -> np.ndarray:
        """Labels of the scored videos: class indices, multi-hot vectors, or class indices of each label group; -100 = unknown."""
        labels = [each.label for each in self.scored]
        if self.label_groups:
            unknown = [IGNORED_LABEL] * len(self.label_groups)
            return np.array([unknown if label is None else label for label in labels])
        if not self.multi_label:
            return np.array([IGNORED_LABEL if label is None else label for label in labels])
        array = np.zeros(self.scores.shape)
        for row, label in zip(array, labels, strict=True):
            row[slice(None) if label is None else label] = IGNORED_LABEL if label is None else 1
        return array

    @property
    def has_labels(self) -> bool:
        return any(each.label is not None for each in self.scored)

    def counts(self) -> dict[str, Any]:
        """Number of videos, and how many of them were scored, missing, skipped, or without a label."""
        num_scored = len(self.scores)
        num_missing = sum(each.is_missing for each in self.predictions)
        return {
            "num_videos": len(self.predictions),
            "num_scored": num_scored,
            "num_missing": num_missing,
            "num_skipped": len(self.predictions) - num_scored - num_missing,
            "num_without_label": sum(each.label is None for each in self.scored),
            "is_complete": num_scored == len(self.predictions),
        }

    def metrics(self) -> dict[str, float]:
        """`ClassificationMetrics` of the scored videos with known labels; empty if no label is known."""
        from .metrics import ClassificationMetrics

        if not self.has_labels:
            return {}
        # The score of an action is the product of the probabilities, the sum of their logarithms.
        scores = np.log(np.maximum(self.scores, np.finfo(np.float64).tiny)) if self.label_groups else self.scores
        return ClassificationMetrics(self.multi_label, self.label_groups).compute(scores, self.labels)

    def chance_warning(self) -> str | None:
        """As `metrics.chance_warning`."""
        from .metrics import chance_warning

        counts = self.counts()
        return chance_warning(self.metrics(), counts["num_scored"] - counts["num_without_label"])

    def per_class(self) -> list[dict[str, Any]]:
        """A row per class: its number of videos and of predictions, and its accuracy or average precision."""
        predicted = self._predicted().sum(axis=0)
        if self.multi_label:
            values, videos = per_class_average_precision(self.scores, self.labels)
            columns = {"average_precision": values}
        else:
            groups = self._groups()
            columns = {"accuracy": np.concatenate([per_class_accuracy(*group)[0] for group in groups.values()])}
            videos = np.concatenate([per_class_accuracy(*group)[1] for group in groups.values()])
            if all(scores.shape[1] > 5 for scores, _ in groups.values()):
                top5 = [per_class_accuracy(*group, 5)[0] for group in groups.values()]
                columns["top5_accuracy"] = np.concatenate(top5)
        return [
            {"index": index, "class": name, "num_videos": int(videos[index]), "num_predicted": int(predicted[index])}
            | {
                key: "" if math.isnan(column[index]) else round(float(column[index]), 6)
                for key, column in columns.items()
            }
            for index, name in enumerate(self.class_names)
        ]

    def _groups(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Scores and class indices within each label group; without groups those of all classes, under the name ""."""
        if not self.label_groups:
            return {"": (self.scores, self.labels)}
        parts = zip(
            split_groups(self.scores, self.label_groups), group_labels(self.labels, self.label_groups), strict=True
        )
        return dict(zip(self.label_groups, parts, strict=True))

    def confusions(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """
        Confusion matrix `(classes, classes)` of the videos with known labels, and the names of the classes, for each label group; without
        groups for all classes, under the name "".
        """
        groups = self._groups()
        firsts = np.cumsum([0, *(scores.shape[1] for scores, _ in groups.values())])
        return {
            name: (confusion_matrix(scores, labels), self.class_names[first : first + scores.shape[1]])
            for (name, (scores, labels)), first in zip(groups.items(), firsts[:-1], strict=True)
        }

    def write_per_class(self, path: Path) -> None:
        write_csv(path, self.per_class())

    def write_videos(self, path: Path) -> None:
        """Write a CSV file with a row per video: label, prediction and score, or the reason why it was not scored."""
        predicted = iter(zip(self._predicted(), self.scores, strict=True))
        write_csv(path, [self._video_row(each, predicted) for each in self.predictions])

    def write_views(self, path: Path) -> None:
        """
        Write a parquet file with a row per scored view, `video_id`, `path`, `label`, `view` and `logits`, and the class names. Rows
        of segments also have their `start` and `end` in seconds, or `start_frame` and `end_frame`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        label = pa.list_(pa.int64()) if self.multi_label or self.label_groups else pa.int64()
        schema = pa.schema(
            [
                ("video_id", pa.string()),
                ("path", pa.string()),
                *((name, pa.int64() if name.endswith("frame") else pa.float64()) for name in self._segment_columns),
                ("label", label),
                ("view", pa.int32()),
                ("logits", pa.list_(pa.float32())),
            ],
            metadata={"class_names": json.dumps(self.class_names)},
        )
        rows = (
            {
                "video_id": valid_text(each.video_id),
                "path": valid_text(each.path),
                **self._segment_cells(each),
                "label": each.label,
                "view": view,
                "logits": row,
            }
            for each in self.scored
            for view, row in enumerate(each.logits)
        )
        with pq.ParquetWriter(path, schema) as writer:
            while batch := list(islice(rows, ROWS_PER_BATCH)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))

    def _predicted(self) -> np.ndarray:
        """Predicted classes, bool `(scored videos, classes)`."""
        if self.multi_label:
            return self.scores >= POSITIVE_FROM
        parts = split_groups(self.scores, self.label_groups) if self.label_groups else [self.scores]
        return np.concatenate([np.eye(each.shape[1], dtype=bool)[each.argmax(axis=1)] for each in parts], axis=1)

    def _video_row(self, video: VideoPrediction, predicted: Any) -> dict[str, Any]:
        label = [] if video.label is None else video.label if isinstance(video.label, list) else [video.label]
        row = {
            "video_id": video.video_id,
            "path": video.path,
            **self._segment_cells(video),
            "label": self._names(label),
        }
        if video.logits is None:
            status = "missing" if video.is_missing else "skipped"
            return {**row, "status": status, "predicted": "", "score": "", "reason": video.reason}
        is_predicted, scores = next(predicted)
        best = float(scores[is_predicted].prod() if self.label_groups else scores.max())
        return {
            **row,
            "status": "scored",
            "predicted": self._names(np.flatnonzero(is_predicted)),
            "score": round(best, 6),
            "reason": "",
        }

    @cached_property
    def _segment_columns(self) -> list[str]:
        """The columns that name the segments: `start` and `end` in seconds, `start_frame` and `end_frame`, or none of them."""
        found = {name for each in self.predictions if each.segment is not None for name in each.segment.given()}
        return [name for pair in SEGMENT_COLUMNS if found.intersection(pair) for name in pair]

    def _segment_cells(self, video: VideoPrediction) -> dict[str, Any]:
        given = {} if video.segment is None else video.segment.given()
        return {name: given.get(name) for name in self._segment_columns}

    def _names(self, classes: Any) -> str:
        return SEPARATOR.join(self.class_names[index] for index in classes)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys to a CSV file; the keys are its header."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def valid_text(name: str) -> str:
    """A file name as valid UTF-8, which parquet requires; invalid bytes are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def without_nan(content: Any) -> Any:
    """Replace NaN and inf by `None`, because JSON has no such numbers. A metric without videos is NaN."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content
