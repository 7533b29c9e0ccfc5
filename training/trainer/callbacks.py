# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
When training goes nowhere it stops, and says so: a loss that is no number, or one that stays where guessing is.

The paper reports the latter of TubeViT-L and -H with the learning rate of TubeViT-B (section A): accuracy 0, flat loss.
"""

import math

import torch
from transformers import TrainerCallback

from ..data.clip_datasets import ClipDataset, StreamedClips


LEARNED = 0.01  # of the chance loss: below this share of it, nothing was learned


ADVICE = "lower learning_rate or lengthen warmup_steps; of the checkpoints that are there, none has such weights."


class TrainingStopped(ValueError):
    """Training that would not lead to anything."""


def check_loss(loss: float, step: int) -> None:
    """Raise `TrainingStopped` for a loss that is no finite number."""
    if not math.isfinite(loss):
        raise TrainingStopped(f"The loss is {loss} at step {step}: {ADVICE}")


def check_weights(model: torch.nn.Module, step: int) -> None:
    """Raise `TrainingStopped` for weights that are no finite numbers: of a gradient that was none, or a loss on another rank."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise TrainingStopped(f"{name} holds what is no finite number at step {step}: {ADVICE}")


def check_progress(losses: list[float], chance_loss: float, step: int, num_steps: int) -> None:
    """Raise `TrainingStopped` if the mean of `losses`, those of the last `num_steps`, is that of guessing."""
    mean = sum(losses) / len(losses)
    if mean >= (1 - LEARNED) * chance_loss:
        raise TrainingStopped(
            f"Nothing was learned in {num_steps} steps up to step {step}: the loss is {mean:.3f}, and guessing has "
            f"{chance_loss:.3f}. Lower learning_rate and weight_decay (the paper does for L and H); chance_loss_patience=0 goes on "
            "regardless."
        )


class StopAtChanceLoss(TrainerCallback):
    """
    Ends training by `TrainingStopped`.

    num_steps: how long the loss may be that of guessing; 0 for ever.
    chance_loss: that loss, `None` where it is not known.
    """

    def __init__(self, num_steps: int, chance_loss: float | None):
        self.num_steps, self.chance_loss = num_steps, chance_loss

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in (logs or {}):
            return
        check_loss(logs["loss"], state.global_step)
        if self.num_steps and self.chance_loss is not None and state.global_step >= self.num_steps:
            start = state.global_step - self.num_steps
            recent = [entry["loss"] for entry in state.log_history if "loss" in entry and entry["step"] > start]
            check_progress(recent, self.chance_loss, state.global_step, self.num_steps)


class SetEpoch(TrainerCallback):
    """Tells clips which epoch begins. Trainer does not after a resume in mid-epoch, nor to workers that persist."""

    def __init__(self, clips: ClipDataset | StreamedClips):
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.clips.set_epoch(int(state.epoch or 0))
