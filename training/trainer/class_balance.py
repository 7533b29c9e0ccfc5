# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Class imbalance: weights of the classes in the loss (`class_weights`), and training clips that are sampled by their class (`sampler`).

The weighted loss of a step is the sum over its clips of `-sum_c w_c t_c log p_c`, divided by the sum of `sum_c w_c t_c`, where t is the
label (a class, or the class probabilities of mixup and label smoothing). For plain classes it is torch's cross-entropy with `weight`.
The sums run over the clips of all accumulated batches on all processes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from ..data.augmentation import IGNORED_LABEL
from ..data.class_names import LabelEncoder
from ..data.clip_datasets import ClipDataset, RowCopy
from ..data.data_config import VideoData
from ..data.dataset_columns import arrow_column, count_labels
from ..data.text_tables import read_json, read_table


BALANCED = "balanced"
# A video is sampled with a probability proportional to (number of videos of its class) ** -power.
POWERS = {"balanced": 1.0, "sqrt": 0.5}


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """
    Weights inversely proportional to the number of videos of each class, whose mean over the videos is 1. A class without videos has
    the weight 1.

    >>> balanced_weights(np.array([30, 10, 0])).round(3).tolist()
    [0.667, 2.0, 1.0]
    """
    return np.divide(counts.sum() / max(1, np.count_nonzero(counts)), counts, np.ones(len(counts)), where=counts > 0)


def read_class_weights(path: Path, names: Sequence[str]) -> np.ndarray:
    """
    The weights of the classes in a JSON object from name to weight, or in a table with the columns class and weight.

    Raises `ValueError` for a class without a weight or with two, an unknown class, and a weight that is not a number above 0.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} must be a JSON object from class to weight, not a {type(content).__name__}.")
        pairs = list(content.items())
    else:
        pairs = [(cells["class"], cells["weight"]) for _, cells in read_table(path, ("class", "weight"))]
    encode, weights = LabelEncoder(names), np.zeros(len(names))
    for name, text in pairs:
        try:
            index, weight = encode(name), float(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, class {name!r}: {error}") from None
        if not 0 < weight < math.inf:
            raise ValueError(f"{path}: the weight of the class {name!r} must be a number above 0, got {text!r}.")
        if weights[index]:
            raise ValueError(f"{path} has two weights of the class {names[index]!r}.")
        weights[index] = weight
    if missing := [name for name, weight in zip(names, weights, strict=True) if not weight]:
        raise ValueError(f"{path} has no weight of {len(missing)} of {len(names)} classes, such as {missing[0]!r}.")
    return weights


def weights_of(option: str, counts: np.ndarray | None, names: Sequence[str]) -> torch.Tensor:
    """
    The weight of each class, float32: of `class_weights=balanced` or of a file.

    counts: training videos of each class; `None` for a stream, whose labels are not counted.
    """
    if option != BALANCED:
        if not Path(option).is_file():
            raise FileNotFoundError(f"class_weights must be {BALANCED} or a file, and there is no file {option}.")
        return torch.from_numpy(read_class_weights(Path(option), names)).float()
    if counts is None:
        raise ValueError(
            "class_weights=balanced needs the labels of all videos, and the data are a stream: give a file."
        )
    return torch.from_numpy(balanced_weights(counts)).float()


def label_weights(labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    `sum_c w_c t_c` of each clip, 0 for ignored labels: `(batch,)`.

    labels: class indices `(batch,)` or class probabilities `(batch, classes)`; -100 is ignored.
    """
    weights = weights.to(labels.device)
    if labels.ndim == 1:
        known = labels != IGNORED_LABEL
        return torch.where(known, weights[labels.clamp(min=0).long()], 0.0)
    known = (labels != IGNORED_LABEL).all(dim=-1)
    return torch.where(known, labels.float() @ weights, 0.0)


def weighted_loss(
    labels: torch.Tensor, logits: torch.Tensor, weights: torch.Tensor, total: torch.Tensor
) -> torch.Tensor:
    """The sum of `-sum_c w_c t_c log p_c` over a batch, divided by `total`, the sum of `label_weights` over the whole step."""
    logits = logits.reshape(len(labels), -1)
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    labels, weights = labels.to(logits.device), weights.to(logits.device)
    if labels.ndim == 1:
        losses = -log_probs.gather(1, labels.clamp(min=0).long()[:, None])[:, 0] * label_weights(labels, weights)
    else:
        known = (labels != IGNORED_LABEL).all(dim=-1, keepdim=True)
        losses = -(torch.where(known, labels, 0.0) * weights * log_probs).sum(dim=-1)
    # A step without known labels has no weight: its loss is 0, not NaN.
    return losses.sum() / torch.where(total > 0, total, 1.0).to(logits.device)


def class_probabilities(sampler: str, counts: np.ndarray) -> np.ndarray:
    """The probability of each class among the sampled clips."""
    powers = np.where(counts > 0, np.maximum(counts, 1.0) ** (1 - POWERS.get(sampler, 0.0)), 0.0)
    return powers / max(powers.sum(), 1e-12)


class BalancedOrder(Sampler):
    """
    The clips of an epoch, sampled by their class; an epoch has as many clips as there are videos. With "balanced" each class has the
    same number of clips, with "sqrt" a number proportional to the square root of its number of videos. The numbers of clips per class and
    per video are exact to within one clip (systematic sampling). The order depends only on the seed and on the epoch of `clips`.

    labels: class of each video, -1 if it is unknown; such a video is not sampled.
    """

    def __init__(self, clips: ClipDataset, labels: np.ndarray, sampler: str, seed: int):
        self.clips, self.labels, self.seed = clips, labels, seed
        counts = np.bincount(labels[labels >= 0])
        probabilities = class_probabilities(sampler, counts) / np.maximum(counts, 1)  # of one video of each class
        self.expected = np.where(labels >= 0, probabilities[labels], 0.0) * len(
            labels
        )  # clips of each video in an epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[RowCopy]:
        rng = np.random.default_rng((self.seed, self.clips.epoch.value))
        by_class = np.lexsort((rng.random(len(self.labels)), self.labels))
        ends = np.cumsum(self.expected[by_class])
        places = (np.arange(len(self)) + rng.random()) / len(self) * ends[-1]
        rows = np.sort(by_class[np.minimum(np.searchsorted(ends, places, side="right"), len(self) - 1)])
        copies = np.arange(len(rows)) - np.searchsorted(rows, rows)  # number of the clip among those of its video
        order = rng.permutation(len(rows))
        for row, copy in zip(rows[order].tolist(), copies[order].tolist(), strict=True):
            yield RowCopy(row, copy)


def balance_of(
    training: Any, is_streamed: bool, data: VideoData
) -> tuple[tuple[np.ndarray, int] | None, torch.Tensor | None]:
    """
    The numbers of training videos of each class and with a label, `None` for a stream; and the weights of the classes in the loss, `None`
    for equal weights.

    Raises `ValueError` for `class_weights` or a `sampler` with data to which they do not apply.
    """
    train = data.splits["train"]
    given = {"class_weights": training.class_weights, "sampler": training.sampler}
    given = {name: value for name, value in given.items() if value not in (None, "random")}
    for name, value in given.items():
        if data.multi_label or data.label_groups:
            raise ValueError(f"{name}={value} needs one label per {data.media}, and these data have several.")
    counts = count_labels(train, len(data.class_names)) if hasattr(train, "__len__") else None
    if "sampler" in given:
        if is_streamed or training.train_sampling_strategy != "random":
            raise ValueError(
                f"sampler={training.sampler} samples clips of all videos at random: set streaming=false and "
                "train_sampling_strategy=random."
            )
        if not counts[1]:
            raise ValueError(f"sampler={training.sampler} needs labels, and no training {data.media} has one.")
    if training.class_weights is None:
        return counts, None
    return counts, weights_of(training.class_weights, counts and counts[0], data.class_names)


def chance_loss(
    counts: np.ndarray,
    num_known: int,
    multi_label: bool,
    smoothing: float = 0.0,
    weights: np.ndarray | None = None,
    label_groups: Mapping[str, int] | None = None,
) -> float:
    """
    The smallest training loss of a prediction that is the same for every video, in nats.

    counts: training videos of each class. num_known: training videos with a label. weights: of the classes in the loss.
    label_groups: names of groups of classes to their numbers of classes; the loss is the mean over the groups.

    >>> round(chance_loss(np.ones(4), 4, False) / math.log(4), 6)
    1.0
    """
    if label_groups:
        parts = np.split(counts, np.cumsum(list(label_groups.values()))[:-1])
        return sum(chance_loss(part, num_known, False, smoothing) for part in parts) / len(parts)
    fractions = counts / max(1, num_known)
    if multi_label:
        fractions = fractions * (1 - smoothing) + smoothing / 2
        return float((_entropy(fractions) + _entropy(1 - fractions)).mean())
    fractions = fractions * (1 - smoothing) + smoothing / len(counts)
    if weights is not None:
        fractions = fractions * weights / (fractions * weights).sum()
    return float(_entropy(fractions).sum())


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return -probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0))


def label_array(rows: Any) -> np.ndarray:
    """The class of each row, int64; -1 for an unknown label. Rows with several labels have no such array."""
    import pyarrow.compute as pc

    return pc.fill_null(arrow_column(rows, "label"), -1).to_numpy()


def describe_sampler(sampler: str, counts: np.ndarray, unit: str) -> str:
    """
    >>> describe_sampler("balanced", np.array([30, 10]), "clip")
    'balanced: 20 to 20 clips of a class in an epoch, 10 to 30 in the data'
    """
    found = counts[counts > 0]
    sampled = class_probabilities(sampler, found) * found.sum()
    return (
        f"{sampler}: {sampled.min():,.0f} to {sampled.max():,.0f} {unit}s of a class in an epoch, {found.min():,} to {found.max():,} in "
        "the data"
    )


def describe_weights(weights: torch.Tensor, names: Sequence[str]) -> str:
    """The smallest and the largest weight."""
    low, high = int(weights.argmin()), int(weights.argmax())
    return f"{float(weights[low]):.3g} ({names[low]}) to {float(weights[high]):.3g} ({names[high]})"
