# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Validates `TubeViTConfig.heads`, the data sets of joint training (section 3.5)."""

import math
from typing import Any


MODALITIES = ("video", "image")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")
KEYS = ("modality", "num_labels", "id2label", "problem_type", "loss_weight")


def complete_heads(heads: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """
    The heads with a value for every key. Defaults: labels `LABEL_0`, ... for a given `num_labels`,
    `problem_type="single_label_classification"`, and `loss_weight=1.0`. The keys of `id2label` become strings, as in JSON.

    Raises `ValueError` with the data set, the key and the allowed values.
    """
    if not isinstance(heads, dict) or not heads:
        raise ValueError(f"heads must be a dict of at least one data set, got {heads!r}.")
    return {str(name): _complete(str(name), values) for name, values in heads.items()}


def _complete(name: str, values: dict[str, Any]) -> dict[str, Any]:
    # The name becomes a part of parameter names, which use dots as separators.
    if not name or "." in name:
        raise ValueError(f"heads: {name!r} cannot name a data set: it must not be empty or contain a dot.")
    if not isinstance(values, dict):
        raise ValueError(f"heads[{name!r}] must be a dict with the keys {', '.join(KEYS)}, got {values!r}.")
    if unknown := sorted(map(str, set(values) - set(KEYS))):
        raise ValueError(f"heads[{name!r}] has the unknown key {unknown[0]!r}; allowed keys are {', '.join(KEYS)}.")
    modality = values.get("modality")
    if modality not in MODALITIES:
        raise ValueError(f"heads[{name!r}] needs modality as 'video' or 'image', got {modality!r}.")
    problem_type = values.get("problem_type") or PROBLEM_TYPES[0]
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(
            f"heads[{name!r}]: problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}."
        )
    weight = values.get("loss_weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"heads[{name!r}]: loss_weight must be a number of at least 0, got {weight!r}.")
    id2label = _id2label(name, values.get("num_labels"), values.get("id2label"))
    return {
        "modality": modality,
        "num_labels": len(id2label),
        "id2label": id2label,
        "problem_type": problem_type,
        "loss_weight": weight,
    }


def _id2label(name: str, num_labels: int | None, id2label: dict | None) -> dict[str, str]:
    if id2label is None:
        if isinstance(num_labels, bool) or not isinstance(num_labels, int) or num_labels < 1:
            raise ValueError(f"heads[{name!r}] needs id2label, or num_labels of at least 1, got {num_labels!r}.")
        return {str(index): f"LABEL_{index}" for index in range(num_labels)}
    labels = {str(index): label for index, label in id2label.items()} if isinstance(id2label, dict) else {}
    if not labels or set(labels) != {str(index) for index in range(len(labels))}:
        raise ValueError(f"heads[{name!r}]: id2label must name the classes 0, 1, ... without a gap, got {id2label!r}.")
    if num_labels not in (None, len(labels)):
        raise ValueError(f"heads[{name!r}] has num_labels={num_labels}, but id2label names {len(labels)} classes.")
    return {str(index): labels[str(index)] for index in range(len(labels))}
