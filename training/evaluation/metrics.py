# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Metrics of video classification as `evaluate.Metric` classes, which need no Hub: `evaluate.load("accuracy")` does.

They are used like any other: `add_batch` and `compute`, and with `num_process`, `process_id` and `experiment_id` in
several processes that share a disk. Predictions are scores or logits, one row of them per video.
"""

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Sequence, Value

from .scores import mean_average_precision, mean_class_accuracy, top_k_accuracy


SCORES = Sequence(Value("float64"))
CITATION = "No paper: these are the usual definitions, see tubevit.training.evaluation.scores."
TOP_K = (1, 5)


class TopKAccuracy(evaluate.Metric):
    """
    Share of videos whose class is among the k best: `{"accuracy", "top5_accuracy"}` for `k=(1, 5)`.

    A k that is not below the number of classes is left out of the result: it would always give 1.
    """

    def _info(self):
        return _describe(self, Value("int64"), "k (int or a sequence of them): how many of the best classes count.")

    def _compute(self, predictions: Any, references: Any, k: int | tuple[int, ...] = TOP_K) -> dict[str, float]:
        scores, labels = np.asarray(predictions), np.asarray(references)
        wanted = [k] if isinstance(k, int) else list(k)
        kept = [each for each in wanted if each == 1 or each < scores.shape[1]]
        return {
            "accuracy" if each == 1 else f"top{each}_accuracy": top_k_accuracy(scores, labels, each) for each in kept
        }


class MeanClassAccuracy(evaluate.Metric):
    """The mean over classes of their accuracy, `{"mean_class_accuracy"}`; classes without videos are left out."""

    def _info(self):
        return _describe(self, Value("int64"))

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mean_class_accuracy": mean_class_accuracy(np.asarray(predictions), np.asarray(references))}


class MeanAveragePrecision(evaluate.Metric):
    """For several labels per video: `{"mean_average_precision"}` over the classes that have positives."""

    def _info(self):
        return _describe(self, SCORES)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mean_average_precision": mean_average_precision(np.asarray(predictions), np.asarray(references))}


class ClassificationMetrics:
    """
    All metrics of a problem type, as Trainer's `compute_metrics`: called with an `EvalPrediction`, or by `compute`.

    multi_label: mean average precision, in place of top-1, top-5 and mean class accuracy.
    """

    def __init__(self, multi_label: bool = False):
        # In memory: whoever calls this has gathered the predictions of all processes already.
        kinds = [MeanAveragePrecision] if multi_label else [TopKAccuracy, MeanClassAccuracy]
        self.metrics = [kind(keep_in_memory=True) for kind in kinds]
        self.best_metric = "mean_average_precision" if multi_label else "accuracy"  # to choose a checkpoint by

    def __call__(self, prediction: Any) -> dict[str, float]:
        scores, labels = prediction.predictions, prediction.label_ids
        return self.compute(scores[0] if isinstance(scores, tuple) else scores, labels)

    def compute(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """scores: `(videos, classes)`. labels: `(videos,)` or multi-hot `(videos, classes)`; -100 is left out."""
        results: dict[str, float] = {}
        for metric in self.metrics:
            results |= metric.compute(predictions=scores, references=labels)
        return results


def _describe(metric: evaluate.Metric, label: Any, options: str = "") -> evaluate.MetricInfo:
    inputs = "predictions: a score per class of each video. references: its class, or a 0 or 1 per class. " + options
    features = Features({"predictions": SCORES, "references": label})
    return evaluate.MetricInfo(
        description=" ".join((type(metric).__doc__ or "").split()),
        citation=CITATION,
        inputs_description=inputs,
        features=features,
    )
