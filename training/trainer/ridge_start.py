# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`classifier_init=ridge`: the classifier starts as ridge regression on the features of the training clips, so that training begins with the
accuracy of a linear probe, and its first gradients do not distort the features (Kumar et al., "Fine-Tuning can Distort Pretrained
Features and Underperform Out-of-Distribution", ICLR 2022).

The starting model computes the input of its classifier for each training clip once, without augmentation, and for its mirror image if
training flips clips, and both at each token budget of `token_budget_range`; each process reads its part of the clips, and all processes
fit the same classifier to all of them. The penalty and the scale of the logits follow from predictions for clips that were left out, each
with all its variants, in whole groups if the data have groups (`group_column`). That needs the features, once, in the memory of each process.
"""

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..data.augmentation import flipped_labels
from ..data.dataset_columns import source_keys
from ..data.holding_out import join_groups
from ..data.video_datasets import VideoData
from ..evaluation.multi_view import predict_multi_view
from ..evaluation.probes import PART, RidgeFit, fit_ridge
from ..models.build import RunModel
from ..models.encoders import VideoEncoder
from .run_config import TrainingRun
from .token_budgets import TokenBudgets


if TYPE_CHECKING:
    from .build import RunSetup

SCALES = (0.1, 100.0)  # smallest and largest factor of the regression's outputs
ANNOUNCED_BYTES = 1e9  # of features and predictions, from which they are announced


def check_ridge_start(run: TrainingRun, data: VideoData, model: RunModel) -> None:
    """Raise a `ValueError` for data, a model or options that `classifier_init=ridge` does not support."""
    if run.model.classifier_init is None:
        return
    classifier = getattr(model.model, "classifier", None)
    for is_refused, reason in (
        (data.media != "video", f"is for videos, and the data are {data.media}s"),
        (data.multi_label, "needs one label per video, and these data have several"),
        (
            bool(data.label_groups),
            f"needs one label per video, and these have one of each of {', '.join(data.label_groups)}",
        ),
        (
            run.data.streaming,
            "reads the training videos before training, and streaming=true reads them once: set streaming=false",
        ),
        (bool(run.model.lora_rank), "does not work with lora_rank: freeze layers instead, num_frozen_layers=N"),
        (
            run.training.sharding is not None,
            f"does not work with {run.training.sharding}, which divides the weights: use DDP",
        ),
        (
            not isinstance(classifier, nn.Linear) or classifier.bias is None,
            f"sets a linear layer `classifier` with a bias, which {type(model.model).__name__} does not have",
        ),
    ):
        if is_refused:
            raise ValueError(f"classifier_init={run.model.classifier_init} {reason}.")


def set_ridge_classifier(setup: "RunSetup", accelerator: Any) -> None:
    """
    Set weight and bias of the model's classifier, and print a line about them. The model stays on the accelerator's device. Called by
    all processes before the optimizer has read the weights.

    Raises `ValueError` if no training clip can be read, or all that can be have one class or are of one group.
    """
    run, model = setup.run, setup.model.model
    rows = setup.data.splits["train"]
    was_training = model.training
    flips = flipped_labels(run.augmentation.flip, setup.class_names)
    encoder = VariantEncoder(
        model.to(accelerator.device).eval(),
        setup.model.processors,
        setup.model.family,
        flips is not None,
        setup.budgets,
    )
    num_bytes = 4 * len(rows) * len(encoder.variants) * (model.classifier.in_features + len(setup.class_names))
    if accelerator.is_main_process and num_bytes > ANNOUNCED_BYTES:
        print(
            f"The features of {len(rows):,} training videos{encoder.describe()}, and predictions for them, need {num_bytes / 1e9:.1f} GB of memory in each "
            f"process, and up to as much again while they are gathered.",
            flush=True,
        )
    size, num_workers = run.training.per_device_eval_batch_size, run.training.dataloader_num_workers
    try:
        predictions, _ = predict_multi_view(encoder, rows, accelerator, size, num_workers, description="features")
    finally:
        encoder.remove_hooks()
        model.train(was_training)
    used = [index for index, each in enumerate(predictions) if each.logits is not None and each.label is not None]
    labels = np.array([predictions[index].label for index in used], dtype=int)
    if len(set(labels)) < 2:
        raise ValueError(
            f"classifier_init=ridge needs training videos of two classes, and {len(used)} of {len(predictions)} can be used, of "
            f"{len(set(labels))} classes."
        )
    groups = join_groups(source_keys(rows, setup.data.media), setup.data.groups.get("train", [None] * len(rows)))
    if len({groups[index] for index in used}) < 2:
        raise ValueError(
            f"classifier_init=ridge leaves out one group of videos at a time, and all {len(used)} training videos are of one group: leave out "
            "group_column."
        )
    features = np.empty((len(encoder.variants), len(used), model.classifier.in_features), np.float32)
    for place, index in enumerate(used):
        features[:, place] = predictions[index].logits.mean(0)
        predictions[index] = predictions[index]._replace(logits=None)  # of many clips there is memory for one copy
    mirrored = labels if flips is None else np.array([flips.get(label, label) for label in labels])
    labels = np.concatenate([mirrored if is_mirrored else labels for is_mirrored, _ in encoder.variants])
    groups_used = [groups[index] for index in used] * len(encoder.variants)
    fit = fit_ridge(features.reshape(-1, features.shape[-1]), labels, len(setup.class_names), groups_used)
    scale = softmax_scale(fit.left_out, labels)
    copy_to_classifier(fit, scale, model.classifier)
    has_groups = any(group is not None for group in setup.data.groups.get("train", []))
    right = (fit.left_out.argmax(1) == labels)[: len(used)].mean()  # of the first variant
    variants = encoder.describe()
    lost = f", {len(predictions) - len(used):,} videos could not be used" if len(used) < len(predictions) else ""
    if accelerator.is_main_process:
        print(
            f"The classifier starts as ridge regression on the features of {len(used):,} training videos{variants}{lost}: right on {100 * right:.1f} % "
            f"of the videos when those of one {'group' if has_groups else 'file'} at a time are left out (penalty {fit.penalty:g}, scale {scale:.3g}).",
            flush=True,
        )


class VariantEncoder(VideoEncoder):
    """
    Inputs of the classifier for clips and, with `mirrors`, for their mirror images, at each of the token budgets: `(clips, variants, values)`.

    variants: (is_mirrored, level) of each; the first is the clip with the largest budget. A level of `None`: the model's own tokens.
    """

    def __init__(self, model: Any, processors: Any, family: Any, mirrors: bool, budgets: TokenBudgets | None):
        super().__init__(model, processors, family, "classifier")
        self.budgets = budgets
        levels = [None] if budgets is None else budgets.levels[::-1]
        self.variants = [
            (is_mirrored, level) for level in levels for is_mirrored in ((False, True) if mirrors else (False,))
        ]

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        found = []
        for is_mirrored, level in self.variants:
            with nullcontext() if self.budgets is None else self.budgets.at(level):
                found.append(super().__call__(clips.flip(-1) if is_mirrored else clips))
        return torch.stack(found, dim=1)

    def describe(self) -> str:
        """What the line about the classifier says of the variants."""
        mirrored = " and their mirror images" if any(is_mirrored for is_mirrored, _ in self.variants) else ""
        return mirrored + ("" if self.budgets is None else f" at each of {len(self.budgets.levels)} token budgets")


def softmax_scale(predictions: np.ndarray, labels: np.ndarray) -> float:
    """
    The factor of `predictions` `(examples, classes)` within `SCALES` whose softmax has the smallest cross-entropy for `labels`
    `(examples,)`. Labels are smoothed as if there were one more example of each class, so that predictions which are all right do not
    give probabilities of 1.
    """
    number, num_classes = predictions.shape
    smoothing = num_classes / (number + num_classes)
    own = (1 - smoothing) * predictions[np.arange(number), labels].mean() + smoothing * predictions.mean()
    parts = np.array_split(predictions, math.ceil(number / PART))
    low, high = np.log(SCALES)
    # The cross-entropy is convex: its slope is the mean prediction of the softmax less that of the labels.
    for _ in range(50):
        middle = (low + high) / 2
        expected = 0.0
        for part in parts:
            weights = np.exp(np.exp(middle) * (part - part.max(1, keepdims=True)))
            expected += ((weights * part).sum(1) / weights.sum(1)).sum() / number
        low, high = (low, middle) if expected > own else (middle, high)
    return float(np.exp((low + high) / 2))


@torch.no_grad()
def copy_to_classifier(fit: RidgeFit, scale: float, classifier: nn.Linear) -> None:
    """Give `classifier` the outputs of the regression times `scale`."""
    bias = fit.offset - fit.mean @ fit.weight
    for target, value in ((classifier.weight, fit.weight.T), (classifier.bias, bias)):
        target.copy_(torch.from_numpy(scale * value))
