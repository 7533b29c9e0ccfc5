# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Callbacks of Trainer, the progress of training on a terminal or in a log, and checks that stop training if the loss is NaN or inf,
or stays at chance level.

The paper reports the latter for TubeViT-L and -H with the learning rate of TubeViT-B (section A): accuracy 0, flat loss.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from ..data.clip_datasets import ClipDataset, StreamedClips
from ..logging_utils import LineTimer, describe_count, describe_rate, describe_time_left


# Smallest decrease below the chance loss that counts as learning, as a fraction of the chance loss.
MIN_DECREASE = 0.01
SECONDS_BETWEEN_POSTFIXES = 5.0  # of the bar on a terminal
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


def loss_warning(history: list[dict[str, Any]], chance_loss: float | None, num_steps: int) -> str | None:
    """
    A warning if the loss of the last tenth of all steps, at least that of the last entry, is not below chance level.

    history: Trainer's log entries. chance_loss: `None` if unknown. num_steps: of the whole run.
    """
    entries = [entry for entry in history if "loss" in entry]
    if chance_loss is None or not entries:
        return None
    recent = [entry["loss"] for entry in entries if entry["step"] > 0.9 * num_steps] or [entries[-1]["loss"]]
    mean = sum(recent) / len(recent)
    if mean < (1 - MIN_DECREASE) * chance_loss:
        return None
    return (
        f"WARNING: training ended with a loss of {mean:.3f}, not below chance level ({chance_loss:.3f}): the model has learned little "
        "or nothing. Train longer, change learning_rate, or start from a checkpoint."
    )


class StopAtChanceLoss(TrainerCallback):
    """
    Stops training with `TrainingStopped`.

    num_steps: number of steps after the warm-up that the loss may stay at chance level; 0 switches the check off.
    chance_loss: the loss at chance level in nats, `None` if unknown.
    num_warmup_steps: set by `on_train_begin`, which a loop without Trainer does not call.
    """

    def __init__(self, num_steps: int, chance_loss: float | None, num_warmup_steps: int = 0):
        self.num_steps, self.chance_loss, self.num_warmup_steps = num_steps, chance_loss, num_warmup_steps

    def on_train_begin(self, args, state, control, **kwargs):
        self.num_warmup_steps = args.get_warmup_steps(state.max_steps)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in (logs or {}):
            return
        check_loss(logs["loss"], state.global_step)
        first_check = self.num_warmup_steps + self.num_steps
        if self.num_steps and self.chance_loss is not None and state.global_step >= first_check:
            start = state.global_step - self.num_steps
            recent = [entry["loss"] for entry in state.log_history if "loss" in entry and entry["step"] > start]
            check_progress(recent, self.chance_loss, state.global_step, self.num_steps)


class SetEpoch(TrainerCallback):
    """Passes the epoch number to the clips. Trainer does not after a resume within an epoch, or with persistent workers."""

    def __init__(self, clips: ClipDataset | StreamedClips):
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.clips.set_epoch(int(state.epoch or 0))


class TrainingProgress:
    """
    The progress of training on stdout: a line at the start, a line for each evaluation, and at most once per minute a line such
    as `step 120 of 400 (30 %): loss 1.234, learning rate 0.00091, 12.3 clips/s, 3 min 20 s left`. On a terminal a bar has
    these numbers.

    steps: the number of steps of earlier calls, and that of the whole run.
    loss_sum, num_clips: sum of losses and number of clips of this process in earlier calls.
    num_processes: processes that train, with as many clips as this one.
    is_hidden: print nothing, for all processes but the first.
    """

    def __init__(
        self,
        steps: tuple[int, int],
        loss_sum: float,
        num_clips: int,
        num_processes: int,
        shows_bar: bool,
        is_hidden: bool,
    ):
        from tqdm.auto import tqdm

        (first_step, num_steps), self.first_clip = steps, num_clips
        self.first_step, self.num_steps = first_step, num_steps
        self.num_processes, self.start, self.is_hidden = num_processes, time.monotonic(), is_hidden
        self.bar = tqdm(total=num_steps, initial=first_step, disable=is_hidden or not shows_bar, dynamic_ncols=True)
        self.lines = LineTimer(self._print)
        self.postfix = LineTimer(self.bar.set_postfix_str, SECONDS_BETWEEN_POSTFIXES)
        self.step, self.logged_step, self.logged_loss = first_step, first_step, loss_sum
        self.wait = ""
        self.lines.write(
            f"Training continues after step {first_step:,} of {num_steps:,}."
            if first_step
            else f"Training starts: {num_steps:,} steps."
        )

    def _print(self, line: str) -> None:
        if self.is_hidden:
            return
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def update(self, step: int, loss_sum: Callable[[], float], learning_rate: float, num_clips: int) -> None:
        """
        Called after each step. loss_sum: returns the sum of the losses of all steps. num_clips: clips of all steps of this process.
        """
        self.bar.update(step - self.step)
        self.step = step
        if not self.is_hidden:
            timer = self.lines if self.bar.disable else self.postfix
            timer.tick(lambda: self._describe(loss_sum(), learning_rate, num_clips - self.first_clip))

    def _describe(self, loss_sum: float, learning_rate: float, num_clips: int) -> str:
        loss = (loss_sum - self.logged_loss) / (self.step - self.logged_step)
        self.logged_step, self.logged_loss = self.step, loss_sum
        seconds = time.monotonic() - self.start
        rate = describe_rate(num_clips * self.num_processes / seconds, "clip")
        text = f"loss {loss:.4g}, learning rate {learning_rate:.3g}, {rate}{self.wait}"
        if not self.bar.disable:
            return text
        left = describe_time_left(self.step - self.first_step, self.num_steps - self.first_step, seconds)
        return f"step {describe_count(self.step, self.num_steps)}: {text}, {left}"

    def note_wait(self, wait: dict[str, Any]) -> None:
        """Show the result of `DataLoaderTimer.slowest_wait` in the next lines, if there are several processes."""
        if "slowest_rank" in wait:
            seconds = wait["seconds_waiting_for_data"]
            self.wait = (
                f", rank {wait['slowest_rank']} waited longest for data ({seconds:.1f} s between the last log entries)"
            )

    def within_step(self, number: int) -> None:
        """Called between the batches of a step, which may take minutes. number: batches that are done."""
        if self.bar.disable:
            self.lines.tick(lambda: f"step {self.step + 1:,} of {self.num_steps:,}: {number} batches done")

    def within_evaluation(self, number: int) -> None:
        """Called after each batch of an evaluation. number: batches that are done."""
        if self.bar.disable:
            self.lines.tick(lambda: f"step {self.step:,} of {self.num_steps:,}, evaluation: {number} batches done")

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Called with the metrics of an evaluation."""
        self.lines.write(f"step {self.step:,} of {self.num_steps:,}, evaluation: {describe_metrics(metrics)}")

    def close(self) -> None:
        self.bar.close()


def describe_metrics(metrics: dict[str, float]) -> str:
    """
    The scores among the metrics of an evaluation, without its speed.

    >>> describe_metrics({"eval_loss": 1.25, "eval_top5_accuracy": 0.5, "eval_runtime": 3.0, "epoch": 2.0})
    'loss 1.25, top5 accuracy 50.0 %'
    """
    parts = []
    for name, value in metrics.items():
        words = name.removeprefix("eval_").replace("_", " ")
        if name.endswith("loss"):
            parts.append(f"{words} {value:.4g}")
        elif name.endswith(
            ("accuracy", "precision", "score", "majority_class_rate", "majority_action_rate", "mean_prevalence")
        ):
            parts.append(f"{words} {100 * value:.1f} %")
    return ", ".join(parts)


def compare_rates(model_rate: float, loading_rate: float, num_workers: int) -> str:
    """
    What a model takes and what loader workers feed, in clips per second. loading_rate: of one worker.

    >>> compare_rates(40.0, 20.0, 4)
    'The model takes 40 clips/s (forward and backward passes on one device), and its 4 workers feed 80 clips/s.'
    >>> print(compare_rates(40.0, 9.0, 0))
    The model takes 40 clips/s (forward and backward passes on one device), and the training process reads 9 clips/s between the \
steps: 5 workers would feed as many clips (dataloader_num_workers).
    """
    text = f"The model takes {model_rate:.3g} clips/s (forward and backward passes on one device), and "
    if num_workers:
        workers = "worker feeds" if num_workers == 1 else f"{num_workers} workers feed"
        text += f"its {workers} {loading_rate * num_workers:.3g} clips/s"
    else:
        text += f"the training process reads {loading_rate:.3g} clips/s between the steps"
    needed = math.ceil(model_rate / loading_rate)
    if needed <= num_workers:
        return f"{text}."
    return f"{text}: {needed} worker{'s' if needed > 1 else ''} would feed as many clips (dataloader_num_workers)."


class ShowProgress(TrainerCallback):
    """Shows the `TrainingProgress` of a `VideoTrainer`."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.progress: TrainingProgress | None = None  # before training
        self.num_batches = 0  # done in the current step or evaluation

    def on_train_begin(self, args, state, control, **kwargs):
        self.progress = TrainingProgress(
            (state.global_step, state.max_steps),
            loss_sum=0.0,
            num_clips=self.trainer.batches.num_clips,
            num_processes=args.world_size,
            shows_bar=not args.disable_tqdm,
            is_hidden=not state.is_world_process_zero,
        )

    def note_wait(self, wait: dict[str, Any]) -> None:
        if self.progress is not None:
            self.progress.note_wait(wait)

    def on_substep_end(self, args, state, control, **kwargs):
        self.num_batches += 1
        self.progress.within_step(self.num_batches)

    def on_step_end(self, args, state, control, lr_scheduler=None, **kwargs):
        self.num_batches = 0
        trainer, learning_rate = self.trainer, max(lr_scheduler.get_last_lr())
        if (rate := trainer.clock.pop_rate()) is not None:
            self.progress.lines.write(compare_rates(rate, trainer.setup.loading_rate, args.dataloader_num_workers))
        self.progress.update(state.global_step, trainer.loss_sum.item, learning_rate, trainer.batches.num_clips)

    def on_prediction_step(self, args, state, control, **kwargs):
        self.num_batches += 1
        if self.progress is not None:
            self.progress.within_evaluation(self.num_batches)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.num_batches = 0
        if self.progress is not None:
            self.progress.evaluated(metrics)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.close()
