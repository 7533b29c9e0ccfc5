# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Callbacks of Trainer, and checks that stop training if the loss is NaN or inf, or stays at chance level.

The paper reports the latter for TubeViT-L and -H with the learning rate of TubeViT-B (section A): accuracy 0, flat loss.
"""

import math

import torch
from transformers import TrainerCallback

from ..data.clip_datasets import ClipDataset, StreamedClips


MIN_DECREASE = (
    0.01  # smallest decrease below the chance loss that counts as learning, as a fraction of the chance loss
)


ADVICE = "lower learning_rate or raise warmup_steps; earlier checkpoints have finite weights."


class TrainingStopped(ValueError):
    """Training was stopped because the loss is NaN or inf, or stays at chance level."""


def check_loss(loss: float, step: int) -> None:
    """Raise `TrainingStopped` if the loss is NaN or inf."""
    if not math.isfinite(loss):
        raise TrainingStopped(f"The loss is {loss} at step {step}: {ADVICE}")


def check_weights(model: torch.nn.Module, step: int) -> None:
    """Raise `TrainingStopped` for weights that are NaN or inf, which a gradient or the loss of another process may cause."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise TrainingStopped(f"{name} contains NaN or inf at step {step}: {ADVICE}")


def check_progress(losses: list[float], chance_loss: float, step: int, num_steps: int) -> None:
    """Raise `TrainingStopped` if the mean of `losses`, the losses of the last `num_steps` steps, is at chance level."""
    mean = sum(losses) / len(losses)
    if mean >= (1 - MIN_DECREASE) * chance_loss:
        raise TrainingStopped(
            f"Nothing was learned in {num_steps} steps up to step {step}: the loss is {mean:.3f}, at chance level "
            f"({chance_loss:.3f}). Lower learning_rate and weight_decay (the paper does for L and H); chance_loss_patience=0 switches "
            "this check off."
        )


class StopAtChanceLoss(TrainerCallback):
    """
    Stops training with `TrainingStopped`.

    num_steps: number of steps that the loss may stay at chance level; 0 switches the check off.
    chance_loss: the loss at chance level in nats, `None` if unknown.
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
    """Passes the epoch number to the clips. Trainer does not after a resume within an epoch, or with persistent workers."""

    def __init__(self, clips: ClipDataset | StreamedClips):
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.clips.set_epoch(int(state.epoch or 0))
