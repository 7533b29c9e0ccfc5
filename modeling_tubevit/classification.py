# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The classification loss, and the average of the predictions of several views.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig


def resolve_problem_type(problem_type: str | None, num_labels: int) -> str:
    """The problem type of a config; `None` means regression for one label and single-label classification for several."""
    return problem_type or ("regression" if num_labels == 1 else "single_label_classification")


def settle_problem_type(config: PreTrainedConfig) -> None:
    """
    Set an open `problem_type` of a config with one label to the one that the loss uses, regression. The saved config then says so
    to pipelines, which would otherwise return a probability.
    """
    if config.num_labels == 1 and config.problem_type is None:
        config.problem_type = "regression"


def label_groups_of(config: Any) -> dict[str, int]:
    """
    Names and sizes of the label groups of a config, in the order of the labels; empty for one group of all labels.

    The configs of Transformers' models have no such field, unless training has set it.
    """
    return dict(config.label_groups or ()) if hasattr(config, "label_groups") else {}


def average_views(
    logits: torch.Tensor, problem_type: str | None, label_groups: Mapping[str, int] | None = None
) -> torch.Tensor:
    """
    One prediction per video from the logits of its views.

    logits: `(batch, views, labels)`. label_groups: of `label_groups_of`.

    Returns `(batch, labels)` in at least float32. Softmax (multi-label: sigmoid; label groups: softmax of each group) of the result equals
    the mean of the views' probabilities; for regression the result is the mean of the outputs.
    """
    logits = _at_least_float32(logits)
    problem_type = resolve_problem_type(problem_type, logits.shape[-1])
    if problem_type == "regression":
        return logits.mean(dim=1)
    if problem_type == "multi_label_classification":
        return _log_mean_exp(nn.functional.logsigmoid(logits)) - _log_mean_exp(nn.functional.logsigmoid(-logits))
    groups = logits.split(_sizes(label_groups, logits), dim=-1)
    return _log_mean_exp(torch.cat([group.log_softmax(dim=-1) for group in groups], dim=-1))


def classify_views(
    pixel_values_videos: torch.Tensor,
    backbone: Callable[..., Any],
    classify: Callable[[Any], torch.Tensor],
    config: PreTrainedConfig,
) -> tuple[Any, torch.Tensor]:
    """
    Run a backbone and a classifier on clips `(batch, frames, channels, height, width)` or on several views of each video,
    `(batch, views, frames, channels, height, width)`.

    Returns the backbone's outputs for all clips, and the logits `(batch, labels)`, averaged over views by `average_views`.
    """
    has_views = pixel_values_videos.dim() == 6
    outputs = backbone(pixel_values_videos=pixel_values_videos.flatten(0, 1) if has_views else pixel_values_videos)
    logits = classify(outputs)
    if has_views:
        views = logits.unflatten(0, (pixel_values_videos.shape[0], pixel_values_videos.shape[1]))
        logits = average_views(views, config.problem_type, label_groups_of(config))
    return outputs, logits


def classification_loss(
    labels: torch.Tensor,
    pooled_logits: torch.Tensor,
    config: PreTrainedConfig,
    num_items_in_batch: torch.Tensor | int | None = None,
    **kwargs,
) -> torch.Tensor:
    """
    Mean loss over a batch; with `num_items_in_batch` from Trainer the sum of the losses divided by that number.

    labels: integers of any type, or floats. pooled_logits: `(batch, num_labels)`. `config.problem_type` selects the loss; unlike the
    losses of Transformers, this function does not set it:

    - `None`, `"single_label_classification"`: cross-entropy with class indices `(batch,)` (-100 is ignored) or with
      soft labels `(batch, num_labels)` whose rows sum to 1, as in mixup (rows of -100 are ignored). With `config.label_groups`, the mean
      of the cross-entropies of the groups, as in ViViT's models of verbs and nouns: class indices are `(batch, groups)`, counted over all
      labels, and the soft labels of each group sum to 1;
    - `"multi_label_classification"`: binary cross-entropy with multi-hot labels `(batch, num_labels)` (-100 is ignored);
    - `"regression"`, and `None` with one label: squared error with `(batch,)` or `(batch, num_labels)`.

    Trainer counts label *elements* over all accumulation steps and ranks, so a soft label counts `num_labels` times. Every
    loss here is a sum over elements divided by that count, so the training curve does not depend on how a batch is split.
    Raises `ValueError` for labels that do not match the problem type, for class indices outside of the classes (on a CPU; on a GPU torch's
    kernel asserts), and with `num_items_in_batch` for soft labels of some label groups only.
    """
    logits = _at_least_float32(pooled_logits)
    labels = labels.to(logits.device)
    if not labels.is_floating_point():
        labels = labels.long()  # cross_entropy takes no smaller integers, and unsigned ones cannot hold -100
    num_labels = logits.shape[-1]
    problem_type = resolve_problem_type(config.problem_type, num_labels)
    sizes = _sizes(label_groups_of(config), logits)
    if problem_type == "single_label_classification" and not labels.is_floating_point():
        if labels.numel() != logits.shape[0] * len(sizes):
            several = "" if len(sizes) == 1 else f" and {len(sizes)} label groups"
            raise ValueError(
                f"Integer labels are class indices, one for each of the {logits.shape[0]} samples{several}, got shape "
                f"{tuple(labels.shape)}; for multi-hot labels set config.problem_type='multi_label_classification'."
            )
        labels = labels.reshape(-1, len(sizes))
        return _mean(_hard_losses(logits, labels, sizes), labels != -100, num_items_in_batch)
    if labels.numel() != logits.numel():
        raise ValueError(
            f"problem_type={config.problem_type!r} with {labels.dtype} labels needs them of shape {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}."
        )
    labels = labels.reshape(logits.shape)
    if problem_type == "single_label_classification":
        losses, counted = _soft_losses(logits, labels, sizes, config)
        if num_items_in_batch is not None and len(sizes) > 1:
            _check_known_groups(counted)
        num_items = None if num_items_in_batch is None else num_items_in_batch * len(sizes) / num_labels
        return _mean(losses, counted, num_items)
    counted = labels != -100
    targets = torch.where(counted, labels, 0).to(logits.dtype)
    if problem_type == "regression":
        losses = nn.functional.mse_loss(logits, targets, reduction="none")
    else:
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _mean(losses, counted, num_items_in_batch)


def _sizes(label_groups: Mapping[str, int] | None, logits: torch.Tensor) -> list[int]:
    """Number of labels of each group, of one group of all labels by default."""
    return list((label_groups or {}).values()) or [logits.shape[-1]]


def _hard_losses(logits: torch.Tensor, labels: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """
    Cross-entropy of each sample and group, `(batch, groups)`; 0 for ignored labels. labels: `(batch, groups)`.

    Raises `ValueError` for a label outside its group. The check is torch's own, which costs nothing: on a CPU it raises `IndexError`,
    on a GPU its kernel ends with a device-side assertion, and a compiled graph checks as its backend does.
    """
    losses, first = [], 0
    for group, label in zip(logits.split(sizes, dim=-1), labels.unbind(dim=1), strict=True):
        last = first + group.shape[-1] - 1
        try:
            # The ignored value is shifted as the labels are: otherwise label 200 of a group that starts at 300 would be ignored.
            loss = nn.functional.cross_entropy(group, label - first, ignore_index=-100 - first, reduction="none")
        except IndexError:
            wrong = label[(label != -100) & ((label < first) | (label > last))]
            raise ValueError(
                f"Label {wrong[0].item()} is not a class index of this model: labels are from {first} to {last} "
                f"(num_labels={sum(sizes)}), or -100 to be ignored."
            ) from None
        losses.append(loss)
        first = last + 1
    return torch.stack(losses, dim=1)


def _soft_losses(
    logits: torch.Tensor, labels: torch.Tensor, sizes: list[int], config: PreTrainedConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each sample and group, and whether it counts, both `(batch, groups)`. labels: `(batch, labels)`."""
    losses, counts = [], []
    for group, soft in zip(logits.split(sizes, dim=-1), labels.split(sizes, dim=-1), strict=True):
        counted = (soft != -100).all(dim=-1)
        soft = torch.where(counted[:, None], soft, 1 / soft.shape[-1])  # ignored rows get a valid soft label
        _check_soft_labels(soft, config)
        losses.append(nn.functional.cross_entropy(group, soft.to(group.dtype), reduction="none"))
        counts.append(counted)
    return torch.stack(losses, dim=1), torch.stack(counts, dim=1)


def _check_known_groups(counted: torch.Tensor) -> None:
    """
    Refuse samples with soft labels of some groups only: `num_items_in_batch` counts the labels of all groups together, from which the
    number of known groups does not follow. counted: whether each group is known, `(batch, groups)`.
    """
    if not torch.compiler.is_compiling() and (counted != counted[:, :1]).any():
        raise ValueError(
            "A sample has soft labels of some label groups and -100 in others, which cannot be trained with num_items_in_batch: give "
            "class indices (batch, groups), or soft labels of all groups."
        )


def _mean(losses: torch.Tensor, counted: torch.Tensor, num_items: torch.Tensor | int | float | None) -> torch.Tensor:
    """Sum of the counted losses divided by `num_items`, by default their number; 0, not NaN, if none is counted."""
    total = (losses * counted).sum()
    num_items = torch.as_tensor(counted.sum() if num_items is None else num_items, device=total.device)
    return total / num_items.clamp(min=1)


def _check_soft_labels(labels: torch.Tensor, config: PreTrainedConfig) -> None:
    # Only for problem_type=None, where labels may be multi-hot by mistake: the check synchronizes with the device.
    if config.problem_type is not None or torch.compiler.is_compiling():
        return
    if not torch.allclose(labels.float().sum(dim=-1), torch.ones((), device=labels.device), atol=1e-2):
        raise ValueError(
            "Float labels must be soft labels whose rows sum to 1, and these do not: for multi-hot labels set "
            "config.problem_type='multi_label_classification'."
        )


def _log_mean_exp(values: torch.Tensor) -> torch.Tensor:
    return values.logsumexp(dim=1) - math.log(values.shape[1])


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
