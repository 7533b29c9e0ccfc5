# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Training one TubeViT for a range of token budgets (`token_budget_range`).

Each optimizer step tokenizes its clips with one of a few budgets, which depends on the seed and the step alone: all processes and all
accumulated batches of a step have the same budget, and a resumed run continues with the same budgets. Evaluations, and the saved model,
have all tokens. With `budget_distillation` a step below the largest budget also learns from the logits of the same weights at that
budget.

Ours; the paper has no such training. Token counts that change between steps are those of FluxViT ("Make Your Training Flexible", 2025),
for dense tokens; the teacher inside the step is that of universally slimmable networks (ICCV 2019).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tubevit.classification import classification_loss, label_groups_of

from ..data.augmentation import IGNORED_LABEL
from ..data.rng import sample_seed
from ..models.build import RunModel
from ..models.model_size import FLOPS_PER_TRAINING_STEP, describe


MAX_LEVELS = 8  # different budgets of a run: torch.compile compiles the model once for each
TEMPERATURE = 2.0  # of the softmax or sigmoid of teacher and student


@dataclass(frozen=True)
class Level:
    """A budget. tubes: with coarser strides. num_tokens: tube tokens of a clip. gflops: of a forward pass."""

    tubes: tuple
    num_tokens: int
    gflops: float


def budgets_of(training: Any, model: RunModel, media: str) -> "TokenBudgets | None":
    """
    The budgets of a run; `None` without `token_budget_range`.

    Raises `ValueError` for a model without tubes, for images, for positions that number the tokens, and for a range outside of the
    possible numbers of tokens.
    """
    if training.token_budget_range is None:
        return None
    name = f"token_budget_range={training.token_budget_range}"
    config = model.model.config
    if not hasattr(config, "with_token_budget"):
        raise ValueError(f"{name} is for TubeViT, and this is a {model.family.title} model: leave it out.")
    if media == "image":
        raise ValueError(f"{name} is for clips, and the data are images: leave it out.")
    lowest, highest = training.token_budget_range
    if highest > (num_tokens := config.num_tokens()):
        raise ValueError(f"{name}: a clip of this model has {num_tokens} tube tokens, set the range to at most that.")
    try:
        return TokenBudgets(
            model.model, lowest, highest, training.budget_distillation, training.seed, training.torch_compile
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class TokenBudgets:
    """
    The token budgets of the steps of a run.

    model: a TubeViT classifier, possibly with adapters. lowest, highest: of the tube tokens of a clip. distillation: weight of the
    divergence from the teacher in the loss, 0 to 1. is_compiled: whether the model is compiled with torch.compile.
    """

    def __init__(
        self, model: Any, lowest: int, highest: int, distillation: float, seed: int, is_compiled: bool = False
    ):
        self.config, self.embeddings = model.config, model.get_input_embeddings()
        self.distillation, self.seed = distillation, seed
        self.full_tubes = self.embeddings.tubes
        self.levels = [
            replace(level, tubes=self.full_tubes) if level.tubes == self.full_tubes else level
            for level in levels_of(self.config, lowest, highest)
        ]
        self.level = self.teacher = self.levels[-1]
        self.is_compiled = is_compiled

    def enough_recompiles(self) -> AbstractContextManager:
        """Within the context torch.compile may compile a graph for each budget, and afterwards as many as before."""
        if not self.is_compiled:
            return nullcontext()
        needed = 4 * (len(self.levels) + 1)  # the two batch sizes of an epoch, in training and in evaluation mode
        return torch._dynamo.config.patch(recompile_limit=max(torch._dynamo.config.recompile_limit, needed))

    @contextmanager
    def of_step(self, step: int) -> Iterator[None]:
        """Within the context the model has the budget of this optimizer step, and after it all tokens. step: counted from 0."""
        self.level = self.levels[sample_seed(self.seed, step, "token budget") % len(self.levels)]
        with self.at(self.level):
            yield

    @contextmanager
    def at(self, level: Level) -> Iterator[None]:
        """Within the context the model has this budget, and after it all tokens."""
        self.embeddings.tubes = level.tubes
        try:
            yield
        finally:
            self.embeddings.tubes = self.full_tubes

    @property
    def has_teacher(self) -> bool:
        """Whether this step learns from a teacher: not at the largest budget, where teacher and student are the same."""
        return self.distillation > 0 and self.level is not self.teacher

    @torch.no_grad()
    def teacher_logits(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor | None:
        """
        Logits of `inputs` at the largest budget, without dropout and gradient; `None` if this step has no teacher. Called within
        `of_step`, in training mode. model: as it is trained, which may be wrapped.
        """
        if not self.has_teacher:
            return None
        self.embeddings.tubes = self.teacher.tubes
        model.eval()
        try:
            return model(**{name: value for name, value in inputs.items() if name != "labels"})["logits"]
        finally:
            model.train()
            self.embeddings.tubes = self.level.tubes

    def loss(
        self,
        labels: torch.Tensor,
        logits: torch.Tensor,
        teacher: torch.Tensor,
        num_items: torch.Tensor | int | None,
    ) -> torch.Tensor:
        """
        `(1 - w) loss(labels) + w T^2 KL(teacher || student)` with w = `distillation`.

        The divergence counts what has a label: clips, of a clip the label groups, and of several labels the classes. Both parts
        are sums divided by the same number, so they do not depend on how a step is split into batches. Arguments as for
        `classification_loss`; teacher: logits.
        """
        loss = classification_loss(labels, logits, self.config, num_items)
        known = (labels != IGNORED_LABEL).reshape(len(labels), -1)
        divergences = self._divergences(logits, teacher)
        if known.shape != divergences.shape:  # soft labels (clips, classes), and divergences (clips, groups)
            num_items = None if num_items is None else num_items * divergences.shape[1] / known.shape[1]
            known = torch.stack([each.all(dim=1) for each in known.split(self._group_sizes(logits), dim=1)], dim=1)
        number = torch.as_tensor(known.sum() if num_items is None else num_items, device=loss.device).clamp(min=1)
        divergence = (divergences * known).sum() / number
        return (1 - self.distillation) * loss + self.distillation * TEMPERATURE**2 * divergence

    def _divergences(self, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """`KL(teacher || student)`: `(clips, groups)`, with one group without label groups; `(clips, classes)` of several labels."""
        student, teacher = (
            each.to(torch.promote_types(each.dtype, torch.float32)) / TEMPERATURE for each in (logits, teacher)
        )
        if self.config.problem_type == "multi_label_classification":
            cross_entropy = partial(nn.functional.binary_cross_entropy_with_logits, reduction="none")
            targets = teacher.sigmoid()
            return cross_entropy(student, targets) - cross_entropy(teacher, targets)
        groups = (each.split(self._group_sizes(logits), dim=-1) for each in (student, teacher))
        divergence = partial(nn.functional.kl_div, reduction="none", log_target=True)
        each_class = [divergence(one.log_softmax(-1), two.log_softmax(-1)) for one, two in zip(*groups, strict=True)]
        return torch.stack([each.sum(dim=-1) for each in each_class], dim=1)

    def _group_sizes(self, logits: torch.Tensor) -> list[int]:
        return list(label_groups_of(self.config).values()) or [logits.shape[-1]]

    def step_flops(self) -> float:
        """FLOPs of the current step for one clip: forward and backward passes, and the teacher's forward pass."""
        return 1e9 * training_gflops(self.level, self.teacher if self.has_teacher else None)

    def describe(self) -> dict[str, str]:
        """Lines of the summary of a run."""
        numbers = [level.num_tokens for level in self.levels]
        mean = sum(numbers) / len(numbers)
        gflops = sum(level.gflops for level in self.levels) / len(numbers)
        own = self.config.num_tokens()
        lines = {
            "token budgets": f"each step {', '.join(map(str, numbers))} tokens with equal probability, mean {mean:.0f} tokens and "
            f"{gflops:.3g} GFLOPs; evaluations {own} tokens"
        }
        if self.distillation:
            lines["distillation"] = (
                f"weight {self.distillation:g} of the divergence from the logits at {self.teacher.num_tokens} tokens, with one more "
                "forward pass in each step below that"
            )
        return lines

    def usage(self, name: str) -> str:
        """A paragraph of the model card. name: of the model's folder."""
        lowest, highest = self.levels[0].num_tokens, self.levels[-1].num_tokens
        return (
            f"Trained for any number of tube tokens of a clip from {lowest} to {highest}; it has {self.config.num_tokens()}. "
            f'`from_pretrained("{name}", token_budget=N)` and `--token-budget N` of the commands choose another.'
        )


def levels_of(config: Any, lowest: int, highest: int) -> list[Level]:
    """
    The budgets of a range, the fewest tokens first. config: of a TubeViT.

    Raises `ValueError` for a budget below the smallest possible one.
    """
    levels = {}  # by number of tokens: two budgets have the same where no combination of strides gives one in between
    for budget in spread(lowest, highest):
        own = config.with_token_budget(budget)
        gflops = describe(own, [own.num_frames])["clips"][0]["gflops"]
        levels[own.num_tokens()] = Level(tuple(own.get_tubes()), own.num_tokens(), gflops)
    return list(levels.values())


def training_gflops(level: Level, teacher: Level | None, passes: float = FLOPS_PER_TRAINING_STEP) -> float:
    """
    GFLOPs of a training step on one clip at a budget. teacher: that of the forward pass of a teacher, if there is one. passes: of a step
    without a teacher, forward and backward; fewer where layers are frozen.
    """
    return passes * level.gflops + (0.0 if teacher is None else teacher.gflops)


def spread(lowest: int, highest: int) -> list[int]:
    """
    Up to `MAX_LEVELS` budgets from `lowest` to `highest`, with equal ratios.

    >>> spread(44, 176), spread(5, 7), spread(9, 9)
    ([44, 54, 65, 80, 97, 118, 144, 176], [5, 6, 7], [9])
    """
    ratio = (highest / lowest) ** (1 / (MAX_LEVELS - 1))
    return sorted({round(lowest * ratio**index) for index in range(MAX_LEVELS)})
