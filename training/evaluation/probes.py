# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Classifiers of embeddings whose encoder stays frozen: ridge regression, k-nearest neighbors, and an attentive probe.

Nothing is chosen by looking at the examples that are scored: the penalty of ridge regression follows from the training examples
alone, and the other probes have fixed settings.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


PENALTIES = tuple(10.0**power for power in range(-3, 6))  # of ridge regression, in mean squared norms of an example
TEMPERATURE = 0.07  # of the votes of neighbors (Wu et al., 2018; DINO, Caron et al., 2021)
NEIGHBOR_CHUNK = 256  # examples whose neighbors are found at once
MAX_HEADS = 8  # of the attentive probe
PART = 8192  # examples of ridge regression that are in float64 at once
SMALLEST = 1e-9  # part of an example's own target in its fit that is left; avoids a division by 0


def pool(vectors: np.ndarray, pooling: str) -> np.ndarray:
    """`(videos, *shape)` to `(videos, features)`; pooling: as the option `--pooling` of `tubevit probe`."""
    if vectors.ndim == 2:
        return vectors
    if pooling == "concatenate":
        return vectors.reshape(len(vectors), -1)
    mean = vectors.mean(1)
    return mean if pooling == "mean" else np.hstack([mean, np.abs(np.diff(vectors, axis=1)).mean(1)])


class RidgeFit(NamedTuple):
    """
    Ridge regression of one-hot labels, `(features - mean) @ weight + offset`.

    mean: `(features,)`. weight: `(features, classes)`. offset: `(classes,)`, the frequencies of the classes. penalty: in mean squared norms of an
    example. left_out: predictions `(examples, classes)` for the training examples, each by the fit to the examples of the other groups, of the
    type of the features (float32 at least).
    """

    mean: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    penalty: float
    left_out: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """`(examples, features)` to `(examples, classes)`."""
        return (features - self.mean) @ self.weight + self.offset


def fit_ridge(
    features: np.ndarray, labels: np.ndarray, num_classes: int, groups: Sequence[Hashable] | None = None
) -> RidgeFit:
    """
    Ridge regression of one-hot labels on `features` `(examples, features)`, less their mean, in float64.

    The penalty is the one of `PENALTIES` with the smallest squared error when each group of training examples is left out in turn,
    which follows from one eigendecomposition. labels: class indices `(examples,)`. groups: of each training example (default: each is a
    group of its own). Of many examples, a part at a time is copied and has its targets.
    """
    # Features keep their own scales: places where little moves would otherwise count as much as those where much does.
    number, mean = len(labels), features.mean(0, dtype=np.float64)
    offset, one_hot = np.bincount(labels, minlength=num_classes) / number, np.eye(num_classes)
    values, vectors_of = _eigenvectors(features, mean)
    parts = _parts_of_groups(number, groups)
    rotated = sum(vectors_of(rows).T @ (one_hot[labels[rows]] - offset) for rows, _ in parts)
    unit = max(values.sum() / number, 1e-12)
    shrunk_by = {penalty: values / (values + penalty * unit) for penalty in PENALTIES}

    def residuals_without(part: tuple[np.ndarray, np.ndarray], vectors: np.ndarray, shrunk: np.ndarray) -> np.ndarray:
        rows, sizes = part
        residuals = one_hot[labels[rows]] - offset - vectors @ (shrunk[:, None] * rotated)
        return left_out_residuals(vectors, shrunk, residuals, sizes, number)

    errors = dict.fromkeys(PENALTIES, 0.0)
    for part in parts:
        vectors = vectors_of(part[0])
        for penalty, shrunk in shrunk_by.items():
            errors[penalty] += np.sum(residuals_without(part, vectors, shrunk) ** 2)
    penalty = min(errors, key=lambda each: errors[each])
    weight = np.zeros((features.shape[1], num_classes))
    left_out = np.empty((number, num_classes), np.result_type(features, np.float32))
    for part in parts:
        rows, vectors = part[0], vectors_of(part[0])
        weight += (features[rows] - mean).T @ (vectors @ (rotated / (values + penalty * unit)[:, None]))
        left_out[rows] = one_hot[labels[rows]] - residuals_without(part, vectors, shrunk_by[penalty])
    return RidgeFit(mean, weight, offset, penalty, left_out)


class RidgeResult(NamedTuple):
    """Class indices `(others,)`, and the chosen penalty in mean squared norms of an example."""

    predicted: np.ndarray
    penalty: float


def ridge_probe(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, groups: Sequence[Hashable] | None = None
) -> RidgeResult:
    """Classify `others` `(others, features)` by `fit_ridge` on the training examples."""
    fit = fit_ridge(features, labels, labels.max() + 1, groups)
    return RidgeResult(fit.predict(others).argmax(1), fit.penalty)


def _eigenvectors(features: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """
    Eigenvalues `(rank,)` of `examples @ examples.T` for `examples = features - mean`, from the smaller of the two Gram matrices, and a
    function that gives the rows of the eigenvectors `(examples, rank)`. Eigenvalues of 0 may be missing.
    """
    if len(features) <= features.shape[1]:
        examples = features - mean
        values, vectors = np.linalg.eigh(examples @ examples.T)
        return np.maximum(values, 0), vectors.__getitem__
    gram = np.zeros((features.shape[1], features.shape[1]))
    for begin in range(0, len(features), PART):
        examples = features[begin : begin + PART] - mean
        gram += examples.T @ examples
    values, axes = np.linalg.eigh(gram)
    is_used = values > max(values.max(), 0) * 1e-12
    axes = axes[:, is_used] / np.sqrt(values[is_used])
    return values[is_used], lambda rows: (features[rows] - mean) @ axes


def _parts_of_groups(number: int, groups: Sequence[Hashable] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Parts of `number` examples, of about `PART` or of one group: their indices, group by group, and the sizes of the groups."""
    codes: dict[str, int] = {}
    of_examples = range(number) if groups is None else [codes.setdefault(str(group), len(codes)) for group in groups]
    order, sizes = np.argsort(of_examples, kind="stable"), np.bincount(of_examples)
    ends = np.cumsum(sizes)
    parts, first = [], 0
    while first < len(sizes):
        begin = ends[first] - sizes[first]
        last = max(first + 1, int(np.searchsorted(ends, begin + PART, side="right")))
        parts.append((order[begin : ends[last - 1]], sizes[first:last]))
        first = last
    return parts


def left_out_residuals(
    vectors: np.ndarray, shrunk: np.ndarray, residuals: np.ndarray, sizes: np.ndarray, number: int
) -> np.ndarray:
    """
    Residuals `(rows, classes)` of the fits without each group: `(I - H)^-1 r` for the rows of the group, where
    `H = V diag(shrunk) V^T + 1/n` gives the fitted targets and r are the residuals of the fit to all examples.

    vectors: rows of V, `(rows, rank)`, group by group. shrunk: `(rank,)`. residuals: r, of these rows. sizes: of the groups. number: n.
    """
    leverage = (vectors**2) @ shrunk + 1 / number
    left_out = residuals / np.maximum(1 - leverage, SMALLEST)[:, None]
    for end, size in zip(np.cumsum(sizes)[sizes > 1], sizes[sizes > 1], strict=True):
        rows = slice(end - size, end)
        fitted = (vectors[rows] * shrunk) @ vectors[rows].T + 1 / number
        left_out[rows] = np.linalg.solve((1 + SMALLEST) * np.eye(size) - fitted, residuals[rows])
    return left_out


def nearest_neighbors(features: np.ndarray, labels: np.ndarray, others: np.ndarray, num_neighbors: int) -> np.ndarray:
    """
    Class indices `(others,)` by a vote of the `num_neighbors` training examples of the largest cosine similarity; a vote has the weight
    `exp(similarity / TEMPERATURE)`.
    """
    features, votes = _unit_length(features), []
    for first in range(0, len(others), NEIGHBOR_CHUNK):
        similarities = _unit_length(others[first : first + NEIGHBOR_CHUNK]) @ features.T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :num_neighbors]
        near = np.take_along_axis(similarities, nearest, axis=1)
        weights = np.exp((near - near.max(1, keepdims=True)) / TEMPERATURE)
        votes.append((weights[:, :, None] * np.eye(labels.max() + 1)[labels[nearest]]).sum(1).argmax(1))
    return np.concatenate(votes)


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class AttentiveProbe(nn.Module):
    """
    A linear classifier of attention pooling: one learned query attends to the tokens, as in the probes of V-JEPA (Bardes et al., 2024).
    Positions are learned too, because the vectors of frames have none.
    """

    def __init__(self, num_tokens: int, width: int, num_classes: int):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(num_tokens, width))
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = nn.MultiheadAttention(width, math.gcd(width, MAX_HEADS), batch_first=True)
        self.layernorm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, width)` to logits `(batch, classes)`."""
        tokens = tokens + self.positions
        pooled, _ = self.attention(self.query.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        return self.classifier(self.layernorm(pooled[:, 0]))


def attentive_probe(
    tokens: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray,
    seed: int = 0,
    epochs: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    device: str = "cpu",
) -> np.ndarray:
    """
    Class indices `(others,)` by an `AttentiveProbe`, trained by AdamW with a cosine schedule and weight decay 0.05.

    tokens: `(examples, tokens, features)`. Mean and standard deviation of each of their features standardize `others` too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, std = tokens.mean((0, 1)), tokens.std((0, 1)) + 1e-6
        inputs, unseen = (torch.from_numpy(((each - mean) / std).astype(np.float32)) for each in (tokens, others))
        targets = torch.from_numpy(labels.astype(np.int64))
        probe = AttentiveProbe(*tokens.shape[1:], int(labels.max()) + 1).to(device)
        optimizer = torch.optim.AdamW(probe.parameters(), learning_rate, weight_decay=0.05)
        num_steps = epochs * math.ceil(len(labels) / batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for _ in range(epochs):
            for batch in torch.randperm(len(labels)).split(batch_size):
                loss = torch.nn.functional.cross_entropy(probe(inputs[batch].to(device)), targets[batch].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        with torch.inference_mode():
            return np.concatenate([probe(each.to(device)).argmax(1).cpu().numpy() for each in unseen.split(256)])
