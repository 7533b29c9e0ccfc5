# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What an experiment is: a model, data, a recipe and a seed. Together they decide every number that comes out.

Everything here is data, so that a result can carry the settings that it was made with, and a run whose result is there
already is known again.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any


MOTION = "motion"  # the made set; other sources are folders or annotation files
KINDS = ("video", "image")


@dataclass(frozen=True)
class Data:
    """
    Which clips, and images beside them.

    source: "motion" for the made set, otherwise what `load_video_dataset` takes as `data`.
    validation: annotation file or class folders of the validation clips, where `source` names those of the training
    alone.
    task, level, num_train, num_validation, num_images: of the made set.
    num_frames, image_size: what a model sees, frames and pixels.
    extra_frames, extra_pixels: how much longer and larger the clips are that it is cut out of.
    jitter: whether training clips also vary in speed and colours, which labels of the made set may depend on.
    seed: of the made set.
    """

    source: str = MOTION
    validation: str | None = None
    task: str = "all"
    level: int = 1
    num_train: int = 2000
    num_validation: int = 500
    num_images: int = 2000
    num_frames: int = 32
    image_size: int = 64
    extra_frames: int = 0
    extra_pixels: int = 0
    jitter: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """
    How a model is trained: AdamW with linear warm-up and cosine decay to zero.

    steps: batches in all. warmup: share of them. mix: weights by which batches are drawn of "video" and "image".
    """

    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.0
    max_grad_norm: float = 1.0
    mix: dict[str, float] = field(default_factory=lambda: {"video": 1.0})

    def __post_init__(self):
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}.")
        if not self.mix or not set(self.mix) <= set(KINDS) or min(self.mix.values()) <= 0:
            raise ValueError(f"mix must give weights above 0 to some of {', '.join(KINDS)}, got {self.mix}.")

    def learning_rate_at(self, step: int) -> float:
        """
        The factor of the learning rate at a step, counted from 0.

        >>> recipe = Recipe(steps=100, warmup=0.1)
        >>> recipe.learning_rate_at(0), recipe.learning_rate_at(9), round(recipe.learning_rate_at(55), 3)
        (0.1, 1.0, 0.5)
        """
        warmup = round(self.warmup * self.steps)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


@dataclass(frozen=True)
class Experiment:
    """
    model: its "kind" and what `models.build_model` needs of that kind.
    starts: experiments whose trained models this one's is made of, by the part that they play in it.
    evaluations: by name what differs from the plain evaluation of clips: "tubes", or "views", how many (in time, in
    space).
    """

    model: dict[str, Any]
    data: Data
    recipe: Recipe
    seed: int = 0
    starts: dict[str, "Experiment"] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def key(self) -> str:
        """Names the trained weights: what is evaluated does not change them."""
        settings = replace(self, evaluations={}).settings()
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def all_starts(self) -> list["Experiment"]:
        """The experiments that have to be done before this one, in an order that allows it."""
        ordered: dict[str, Experiment] = {}
        for start in self.starts.values():
            ordered |= {each.key: each for each in [*start.all_starts(), start]}
        return list(ordered.values())


def kinds_in_turn(mix: dict[str, float]) -> Iterator[str]:
    """
    Which kind of batch comes next, for ever: at every step the kind that is farthest behind its share.

    >>> from itertools import islice
    >>> list(islice(kinds_in_turn({"video": 2, "image": 1}), 6))
    ['video', 'image', 'video', 'video', 'image', 'video']
    """
    total, done = sum(mix.values()), dict.fromkeys(mix, 0)
    for step in count(1):
        kind = max(mix, key=lambda name: step * mix[name] / total - done[name])
        done[kind] += 1
        yield kind
