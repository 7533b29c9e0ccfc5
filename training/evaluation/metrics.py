# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Metrics of video classification, as functions and as `evaluate.Metric` classes, which need no Hub, unlike `evaluate.load("accuracy")`.

The classes have `add_batch` and `compute` of `evaluate.Metric`; for several processes with a shared disk, pass `num_process`,
`process_id` and `experiment_id`. Predictions are scores or logits, one row per video.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Sequence, Value

from tubevit.config_checks import JOINT_GROUP


SCORES = Sequence(Value("float64"))
CITATION = "No paper: these are the usual definitions, see tubevit.training.evaluation.metrics."
TOP_K = (1, 5)


class TopKAccuracy(evaluate.Metric):
    """
    Fraction of videos whose class is among the k classes with the highest scores: `{"accuracy", "top5_accuracy"}` for `k=(1, 5)`.

    Values of k from the number of classes on are left out, because their accuracy is always 1.
    """

    def _info(self):
        return _describe(
            self, Value("int64"), "k (int or a sequence of int): number of classes with the highest scores that count."
        )

    def _compute(self, predictions: Any, references: Any, k: int | tuple[int, ...] = TOP_K) -> dict[str, float]:
        scores, labels = np.asarray(predictions), np.asarray(references)
        requested = [k] if isinstance(k, int) else list(k)
        ks = [each for each in requested if each == 1 or each < scores.shape[1]]
        return {
            "accuracy" if each == 1 else f"top{each}_accuracy": top_k_accuracy(scores, labels, each) for each in ks
        }


class MeanClassAccuracy(evaluate.Metric):
    """Mean of the accuracies of all classes, `{"mean_class_accuracy"}`; classes without videos are left out."""

    def _info(self):
        return _describe(self, Value("int64"))

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mean_class_accuracy": mean_class_accuracy(np.asarray(predictions), np.asarray(references))}


class MeanAveragePrecision(evaluate.Metric):
    """Mean average precision for several labels per video, `{"mean_average_precision"}`; classes without positives are left out."""

    def _info(self):
        return _describe(self, SCORES)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mean_average_precision": mean_average_precision(np.asarray(predictions), np.asarray(references))}


class ClassificationMetrics:
    """
    All metrics of a problem type, for Trainer's `compute_metrics`.

    multi_label: compute mean average precision; otherwise top-1, top-5 and mean class accuracy.
    label_groups: names and sizes of groups of classes, of each of which a video has one: compute top-1 and top-5 accuracy of each group
        and of the action, which is correct if the classes of all groups are.

    Attribute: `best_metric`, that of the best checkpoint.
    """

    def __init__(self, multi_label: bool = False, label_groups: Mapping[str, int] | None = None):
        # In memory: the caller has already gathered the predictions of all processes.
        self.multi_label, self.label_groups = multi_label, dict(label_groups or {})
        kinds = [MeanAveragePrecision] if multi_label else [TopKAccuracy, MeanClassAccuracy]
        self.metrics = [] if self.label_groups else [kind(keep_in_memory=True) for kind in kinds]
        self.best_metric = "mean_average_precision" if multi_label else "accuracy"
        if self.label_groups:
            self.best_metric = f"{JOINT_GROUP}_accuracy"

    def __call__(self, prediction: Any) -> dict[str, float]:
        scores, labels = prediction.predictions, prediction.label_ids
        return self.compute(scores[0] if isinstance(scores, tuple) else scores, labels)

    def compute(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """
        The metrics, and the `trivial_score` to compare them with.

        scores: `(videos, classes)`; for label groups logits or log-probabilities, whose sum ranks the actions. labels: `(videos,)`,
        multi-hot `(videos, classes)`, or class indices of each group `(videos, groups)`; -100 = ignored.
        """
        results = group_accuracies(scores, labels, self.label_groups) if self.label_groups else {}
        for metric in self.metrics:
            results |= metric.compute(predictions=scores, references=labels)
        return results | trivial_score(labels, self.multi_label)


def _describe(metric: evaluate.Metric, label: Any, options: str = "") -> evaluate.MetricInfo:
    inputs = (
        "predictions: one score per class and video. references: a class per video, or a 0 or 1 per class and video. "
        + options
    )
    features = Features({"predictions": SCORES, "references": label})
    return evaluate.MetricInfo(
        description=" ".join((type(metric).__doc__ or "").split()),
        citation=CITATION,
        inputs_description=inputs,
        features=features,
    )


IGNORED_LABEL = -100


AGGREGATIONS = ("probs", "logits", "max")


def aggregate_views(
    logits: np.ndarray,
    aggregation: str = "probs",
    multi_label: bool = False,
    label_groups: Mapping[str, int] | None = None,
) -> np.ndarray:
    """
    Scores of a video from the logits of its views, `(views, classes)` or `(videos, views, classes)`, in float64.

    aggregation: "probs": mean of the views' probabilities; "logits": probabilities of their mean logits; "max": largest probability
        of each class (usual for Charades; the scores of a video then sum to more than 1).
    multi_label: whether probabilities are the sigmoid of each logit, otherwise the softmax.
    label_groups: names and sizes of groups of classes, each with a softmax of its own.

    >>> aggregate_views(np.log([[0.9, 0.1], [0.5, 0.5]])).round(3).tolist()
    [0.7, 0.3]
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}.")
    logits = np.asarray(logits, np.float64)
    to_probabilities = _sigmoid if multi_label else partial(_softmax_of_groups, label_groups or {})
    if aggregation == "logits":
        return to_probabilities(logits.mean(axis=-2))
    probabilities = to_probabilities(logits)
    return probabilities.mean(axis=-2) if aggregation == "probs" else probabilities.max(axis=-2)


def best_labels(
    scores: np.ndarray, labels: Mapping[int, str], top_k: int, label_groups: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """
    `{"label", "score"}` of the `top_k` labels with the largest scores `(labels,)`, best first. With label groups, the best of each
    group follow each other, and an entry also has the `rank` within its group.

    >>> best_labels(np.array([0.2, 0.8, 1.0]), {0: "a", 1: "b", 2: "c"}, 1, {"noun": 2, "verb": 1})
    [{'label': 'b', 'score': 0.8, 'rank': 1}, {'label': 'c', 'score': 1.0, 'rank': 1}]
    """
    best: list[dict[str, Any]] = []
    first = 0
    for size in (label_groups or {"": len(scores)}).values():
        order = (-scores[first : first + size]).argsort(kind="stable")[:top_k] + first
        for rank, index in enumerate(order.tolist(), 1):
            entry = {"label": str(labels[index]), "score": float(scores[index])}
            best.append({**entry, "rank": rank} if label_groups else entry)
        first += size
    return best


def split_groups(scores: np.ndarray, label_groups: Mapping[str, int]) -> list[np.ndarray]:
    """The scores of each label group, along the last axis."""
    return np.split(np.asarray(scores), np.cumsum(list(label_groups.values()))[:-1], axis=-1)


def group_labels(labels: np.ndarray, label_groups: Mapping[str, int]) -> list[np.ndarray]:
    """
    The class index of each video within each label group; -100 stays.

    labels: `(videos, groups)`, class indices counted over all groups.
    """
    firsts = np.cumsum([0, *label_groups.values()])
    labels = np.asarray(labels)
    return [
        np.where(labels[:, i] == IGNORED_LABEL, IGNORED_LABEL, labels[:, i] - firsts[i])
        for i in range(len(label_groups))
    ]


def group_accuracies(scores: np.ndarray, labels: np.ndarray, label_groups: Mapping[str, int]) -> dict[str, float]:
    """
    Top-1 and top-5 accuracy of each label group and of the action, the classes of all groups together: it is correct if all of them
    are, and ranks by the sum of their scores (the product of probabilities). Top-5 is left out for at most 5 classes.

    scores: `(videos, classes)`, logits or log-probabilities. labels: `(videos, groups)`; -100 = unknown.

    >>> names = {"noun": 2, "verb": 2}
    >>> group_accuracies(np.array([[0.0, 1, 2, 0], [1, 0, 1, 0]]), np.array([[1, 2], [0, 3]]), names)
    {'action_accuracy': 0.5, 'noun_accuracy': 1.0, 'verb_accuracy': 0.5}
    """
    parts, own = split_groups(scores, label_groups), group_labels(labels, label_groups)
    known = np.all([each != IGNORED_LABEL for each in own], axis=0)
    ranks = _action_ranks([part[known] for part in parts], [each[known] for each in own])
    found = {}
    for k in TOP_K:
        name = "accuracy" if k == 1 else f"top{k}_accuracy"
        if k == 1 or k < math.prod(label_groups.values()):
            found[f"{JOINT_GROUP}_{name}"] = float((ranks < k).mean()) if len(ranks) else float("nan")
        for group, part, label in zip(label_groups, parts, own, strict=True):
            if k == 1 or k < part.shape[1]:
                found[f"{group}_{name}"] = top_k_accuracy(part, label, k)
    return found


def _action_ranks(parts: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
    """
    Number of actions ranked above the correct one, exact below the largest of `TOP_K`. An action that is not made of classes that rank
    so high in their groups ranks lower itself.
    """
    largest, num_videos = max(TOP_K), len(labels[0])
    sums, own_index, is_candidate = (
        np.zeros((num_videos, 1)),
        np.zeros(num_videos, np.int64),
        np.ones(num_videos, bool),
    )
    for part, label in zip(parts, labels, strict=True):
        is_candidate &= ranks_of_labels(part, label) < largest
        best = np.sort(
            np.argsort(-part, axis=1, kind="stable")[:, :largest], axis=1
        )  # the order of equal scores is that of the classes
        sums = (sums[:, :, None] + np.take_along_axis(part, best, axis=1)[:, None]).reshape(num_videos, -1)
        own_index = own_index * best.shape[1] + (best == label[:, None]).argmax(axis=1)
    own = np.take_along_axis(sums, own_index[:, None], axis=1)
    is_earlier = np.arange(sums.shape[1]) < own_index[:, None]
    ranks = ((sums > own) | ((sums == own) & is_earlier)).sum(axis=1)
    return np.where(is_candidate, ranks, largest)


class LogitsNotFinite(ValueError):
    """The logits of a video are NaN or inf, so it has no scores."""


def scores_of(classifier: Any, logits: np.ndarray) -> np.ndarray:
    """
    `aggregate_views` by probabilities for the labels of a `VideoClassifier`. Raises `LogitsNotFinite`, as for
    float16 weights when an activation exceeds 65,504.
    """
    if not np.isfinite(logits).all():
        raise LogitsNotFinite("the model's logits are NaN or inf; with float16 weights, --dtype float32 may help")
    return aggregate_views(logits, multi_label=classifier.multi_label, label_groups=classifier.label_groups)


def ranks_of_labels(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Number of classes ranked above the correct one, `(videos,)`: 0 for a video that is classified correctly.

    Of classes with equal scores the one with the smaller index ranks first, as in `argmax`.

    >>> ranks_of_labels(np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]]), np.array([2, 1])).tolist()
    [1, 1]
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    _check_labels(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    is_earlier = np.arange(scores.shape[1]) < labels[:, None]
    ranks = ((scores > own) | ((scores == own) & is_earlier)).sum(axis=1)
    return np.where(np.isnan(scores).any(axis=1), scores.shape[1], ranks)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Fraction of videos whose class is among the `k` classes with the highest scores; NaN if no label is known."""
    if not 1 <= k <= np.shape(scores)[1]:
        raise ValueError(f"k must be from 1 to the number of classes, {np.shape(scores)[1]}, got {k}.")
    scores, labels = _known(scores, labels)
    return float((ranks_of_labels(scores, labels) < k).mean()) if len(labels) else float("nan")


def per_class_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Top-`k` accuracy of each class (NaN without videos), and its number of videos."""
    num_classes = np.shape(scores)[1]
    scores, labels = _known(scores, labels)
    counts = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels, weights=ranks_of_labels(scores, labels) < k, minlength=num_classes)
    return np.divide(correct, counts, out=np.full(num_classes, np.nan), where=counts > 0), counts


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the accuracies of all classes with videos; NaN if no label is known."""
    accuracies, counts = per_class_accuracy(scores, labels)
    return float(accuracies[counts > 0].mean()) if counts.any() else float("nan")


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of videos of class `i` that are predicted as class `j`, `(classes, classes)`. Raises `ValueError` for NaN."""
    num_classes = np.shape(scores)[1]
    scores, labels = _known(scores, labels)
    _check_labels(scores, labels)
    if np.isnan(scores).any():
        raise ValueError(
            f"{int(np.isnan(scores).any(axis=1).sum())} of {len(scores)} videos have scores that are NaN."
        )
    pairs = labels * num_classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def average_precision(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """
    Area under the precision-recall curve of one class, without interpolation; NaN without positives.

    scores, is_positive: `(videos,)`. Videos with equal scores form one point of the curve, so their order does not matter.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])) == (1 + 2 / 3) / 2
    True
    """
    is_positive = np.asarray(is_positive, bool)
    if not is_positive.any():
        return float("nan")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_positive[order])
    last_of_ties = np.append(scores[1:] != scores[:-1], True)
    precision = hits[last_of_ties] / (np.flatnonzero(last_of_ties) + 1)
    new_hits = np.diff(hits[last_of_ties], prepend=0)
    return float((precision * new_hits).sum() / is_positive.sum())


def per_class_average_precision(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision of each class (NaN without positives), and its number of positives. Labels are multi-hot."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"Multi-hot labels have the shape of the scores, {scores.shape}; got {labels.shape}.")
    known = labels != IGNORED_LABEL
    positives = known & (labels > 0.5)
    columns = range(scores.shape[1])
    precisions = [average_precision(scores[known[:, i], i], positives[known[:, i], i]) for i in columns]
    return np.array(precisions), positives.sum(axis=0)


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the average precisions of all classes with positives; NaN if no class has positives."""
    precisions, positives = per_class_average_precision(scores, labels)
    return float(precisions[positives > 0].mean()) if positives.any() else float("nan")


def trivial_score(labels: np.ndarray, multi_label: bool) -> dict[str, float]:
    """
    The score of a classifier that sees nothing: `{"majority_class_rate"}`, the accuracy of always predicting the most frequent
    class; with several labels per video `{"mean_prevalence"}`, the mean average precision of equal scores for all videos, which is
    the mean fraction of positive videos of the classes with positives; with label groups `{"majority_action_rate"}`, the accuracy of
    always predicting the most frequent action. Empty if no label is known.

    labels: `(videos,)`, multi-hot `(videos, classes)`, or of label groups `(videos, groups)`; -100 = unknown.

    >>> trivial_score(np.array([0, 1, 1, 2, -100]), multi_label=False)
    {'majority_class_rate': 0.5}
    """
    labels = np.asarray(labels)
    if multi_label:
        known = labels != IGNORED_LABEL
        positives, counts = (known & (labels > 0.5)).sum(axis=0), known.sum(axis=0)
        rates = positives[positives > 0] / counts[positives > 0]
        return {"mean_prevalence": float(rates.mean())} if len(rates) else {}
    if labels.ndim == 2:
        known = labels[(labels != IGNORED_LABEL).all(axis=1)]
        _, counts = np.unique(known, axis=0, return_counts=True)
        return {f"majority_{JOINT_GROUP}_rate": float(counts.max() / len(known))} if len(known) else {}
    known = labels[labels != IGNORED_LABEL].astype(np.int64)
    return {"majority_class_rate": float(np.bincount(known).max() / len(known))} if len(known) else {}


def chance_warning(metrics: dict[str, float], num_videos: int) -> str | None:
    """
    A warning if a score is not above `trivial_score` by more than one standard error; `None` if it is above, if all videos have the same
    label, or if there are so few that a score halfway to 1 is within two standard errors.

    metrics: with `accuracy` and `majority_class_rate`, `action_accuracy` and `majority_action_rate`, or `mean_average_precision` and
        `mean_prevalence`.
    num_videos: number of videos with known labels.
    """
    for name, trivial, what in (
        ("accuracy", "majority_class_rate", "always predicting the most frequent class"),
        (f"{JOINT_GROUP}_accuracy", f"majority_{JOINT_GROUP}_rate", "always predicting the most frequent action"),
        ("mean_average_precision", "mean_prevalence", "equal scores for all videos"),
    ):
        if name not in metrics or trivial not in metrics or metrics[trivial] == 1:
            continue
        score, chance = metrics[name], metrics[trivial]
        error = (chance * (1 - chance) / max(1, num_videos)) ** 0.5
        if score <= chance + error and error <= (1 - chance) / 4:
            return (
                f"WARNING: the {name.replace('_', ' ')}, {100 * score:.1f} %, is at chance level: {what} reaches {100 * chance:.1f} %, with a "
                f"standard error of {100 * error:.1f} % on {num_videos:,} samples. It does not show that the model has learned."
            )
    return None


def _known(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of the videos whose label is known."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"Scores are (videos, classes) and labels (videos,); got {scores.shape} and {labels.shape}.")
    known = labels != IGNORED_LABEL
    return scores[known], labels[known].astype(np.int64)


def _check_labels(scores: np.ndarray, labels: np.ndarray) -> None:
    wrong = labels[(labels < 0) | (labels >= scores.shape[1])]
    if len(wrong):
        raise ValueError(f"label {wrong[0]} is out of range: there are {scores.shape[1]} classes, counted from 0.")


def _softmax_of_groups(label_groups: Mapping[str, int], logits: np.ndarray) -> np.ndarray:
    parts = split_groups(logits, label_groups) if label_groups else [logits]
    return np.concatenate([_softmax(part) for part in parts], axis=-1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # exp(-abs(x)) cannot overflow.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)
