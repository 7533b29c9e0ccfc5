# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A plain training loop for experiments, and their evaluation: clips and images from memory, any model with `logits`."""

import copy
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ..models.model_size import FLOPS_PER_TRAINING_STEP
from ..models.parameter_groups import parameter_groups
from ..trainer.callbacks import check_loss
from .data import LabelledPixels, Pixels, batch_of, image_view_of, views_of
from .models import INPUT_NAMES, count_gflops, count_tokens
from .settings import Experiment, Recipe, kinds_in_turn


NUM_INTERVALS = 10  # of a run, over each of which the loss is averaged
EVALUATION_BATCH = 64  # views


def train(model: nn.Module, pixels: Pixels, experiment: Experiment, device: str = "cpu") -> dict[str, Any]:
    """
    Train `model` in place.

    Returns `{"losses": [{"step", "video", "image"}, ...], "seconds"}`: mean losses over each tenth of the run, by kind
    of batch, and how long the loop took. Raises `TrainingStopped` for a loss that is no number.
    """
    recipe, data = experiment.recipe, experiment.data
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.learning_rate, recipe.weight_decay))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.learning_rate_at)
    parameters = [each for each in model.parameters() if each.requires_grad]
    kinds, numbers = kinds_in_turn(recipe.mix), dict.fromkeys(recipe.mix, 0)
    interval = -(-recipe.steps // NUM_INTERVALS)
    recent, losses = {kind: [] for kind in recipe.mix}, []
    model.train()
    start = time.perf_counter()
    for step in range(recipe.steps):
        kind = next(kinds)
        batch = batch_of(pixels.train[kind], data, kind, numbers[kind], recipe.batch_size, experiment.seed)
        inputs, labels = (each.to(device) for each in batch)
        numbers[kind] += 1
        with precision(device):
            logits = model(**{INPUT_NAMES[kind]: inputs}).logits
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        recent[kind].append(loss.detach())
        if (step + 1) % interval == 0 or step + 1 == recipe.steps:
            losses.append(_mean_losses(recent, step + 1))
            recent = {kind: [] for kind in recipe.mix}
    return {"losses": losses, "seconds": time.perf_counter() - start}


def _mean_losses(recent: dict[str, list[torch.Tensor]], step: int) -> dict[str, float]:
    means = {kind: float(torch.stack(values).mean()) for kind, values in recent.items() if values}
    for loss in means.values():
        check_loss(loss, step)
    return {"step": step, **{kind: round(loss, 5) for kind, loss in means.items()}}


def precision(device: str) -> Any:
    """On a GPU matrix products are computed in bfloat16."""
    return torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext()


def evaluate(
    model: nn.Module, pixels: Pixels, experiment: Experiment, device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """
    `{"accuracy", "correct", "number", "chance"}` of the validation clips ("video") and images ("image"), as far as the
    recipe trains on them, and of the experiment's own evaluations by name. Images have their own "tokens" and "gflops",
    and so have the experiment's evaluations, GFLOPs over all views. "chance" is the share of the largest class.
    """
    model.eval()
    results = {}
    if "video" in experiment.recipe.mix:
        results["video"] = _score_clips(model, pixels.validation["video"], experiment, device)
    if "image" in experiment.recipe.mix:
        results["image"] = _score_images(model, pixels.validation["image"], experiment.data.image_size, device) | {
            "tokens": count_tokens(model, experiment.data, "image"),
            "gflops": round(count_gflops(model, experiment.data, "image"), 4),
        }
    for name, changes in experiment.evaluations.items():
        changed = _with_tubes(model, changes["tubes"]) if "tubes" in changes else model
        views = changes.get("views", (1, 1))
        results[name] = _score_clips(changed, pixels.validation["video"], experiment, device, views) | {
            "tokens": count_tokens(changed, experiment.data),
            "gflops": round(views[0] * views[1] * count_gflops(changed, experiment.data), 4),
        }
    return results


def _with_tubes(model: nn.Module, tubes: list[dict[str, Any]]) -> nn.Module:
    """The same weights with other tubes (table 7d)."""
    changed = copy.deepcopy(model)
    changed.set_tubes(tubes)
    return changed


@torch.no_grad()
def _score_clips(
    model: nn.Module, split: LabelledPixels, experiment: Experiment, device: str, views: Sequence[int] = (1, 1)
) -> dict[str, Any]:
    correct, batch = 0, max(1, EVALUATION_BATCH // (views[0] * views[1]))
    for start in range(0, len(split), batch):
        clips = views_of(split.pixels[start : start + batch], experiment.data, views)
        with precision(device):
            logits = model(pixel_values_videos=clips.flatten(0, 1).to(device)).logits
        probabilities = logits.float().softmax(-1).unflatten(0, clips.shape[:2]).mean(1)
        correct += int((probabilities.argmax(-1).cpu() == split.labels[start : start + batch].cpu()).sum())
    return _score(correct, split.labels)


@torch.no_grad()
def _score_images(model: nn.Module, split: LabelledPixels, size: int, device: str) -> dict[str, Any]:
    correct = 0
    for start in range(0, len(split), EVALUATION_BATCH):
        images = image_view_of(split.pixels[start : start + EVALUATION_BATCH], size)
        with precision(device):
            logits = model(pixel_values=images.to(device)).logits
        correct += int((logits.argmax(-1).cpu() == split.labels[start : start + EVALUATION_BATCH].cpu()).sum())
    return _score(correct, split.labels)


def _score(correct: int, labels: torch.Tensor) -> dict[str, Any]:
    number = len(labels)
    chance = int(labels.bincount().max()) / number
    return {"accuracy": round(correct / number, 5), "correct": correct, "number": number, "chance": round(chance, 5)}


def training_gflops(recipe: Recipe, gflops_per_clip: float) -> float:
    """GFLOPs of a training run, forward and backward passes."""
    return FLOPS_PER_TRAINING_STEP * gflops_per_clip * recipe.batch_size * recipe.steps


def steps_for(recipe: Recipe, gflops_per_clip: float, budget_gflops: float) -> int:
    """Steps that a training budget pays for. Raises `ValueError` for one below a step."""
    per_step = training_gflops(recipe, gflops_per_clip) / recipe.steps
    steps = round(budget_gflops / per_step)
    if steps < 1:
        raise ValueError(
            f"A budget of {budget_gflops:,.0f} GFLOPs is less than a step of this model, which takes {per_step:,.0f}: "
            f"give at least {math.ceil(per_step / budget_gflops)} times the --steps."
        )
    return steps
