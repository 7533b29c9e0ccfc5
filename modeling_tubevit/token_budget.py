# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Coarser strides of the tubes for a given number of tokens per clip. Ours; the paper varies strides at evaluation in table 7d."""

import math
from dataclasses import replace
from functools import lru_cache
from itertools import product
from numbers import Integral

from .tubes import Size, Tube, format_size


def tubes_for_budget(tubes: tuple[Tube, ...], size: Size, budget: int) -> tuple[Tube, ...]:
    """
    The tubes with coarser strides, so that a clip of `size` = (frames, height, width) has at most `budget` tokens.

    Every tube keeps its kernel and at least one token, so weights fit. A tube that has n tokens along an axis may get any c from 1 to n:
    its stride becomes the largest one that keeps c tokens between the centers of its first and last token, and its offset centers
    them there, as far as the clip's end allows no further token. Among all combinations of these c, those with the most tokens are
    taken, and of these the one that thins the axes of all tubes most evenly: the sum of squared differences between each axis's
    logarithmic thinning and an even one is smallest. Close budgets may therefore have different mixes of tubes. The choice is
    deterministic. Tubes that do not fit the clip stay as they are; a budget of at least the clip's tokens returns the tubes unchanged.

    Raises `ValueError` with the smallest possible budget if `budget` is below it, or is no integer.
    """
    if isinstance(budget, bool) or not isinstance(budget, Integral):
        raise ValueError(f"token_budget must be an integer, got {budget!r}.")
    return _coarser_tubes_of(tubes, size, int(budget))


@lru_cache(maxsize=1024)  # after the check: a cached result of 5 is also that of 5.0
def _coarser_tubes_of(tubes: tuple[Tube, ...], size: Size, budget: int) -> tuple[Tube, ...]:
    num_tokens = [tube.num_tokens(size) for tube in tubes]
    if budget >= sum(num_tokens):
        return tubes
    candidates = [
        _coarser_tubes(tube, size, math.log(max(budget, 1) / sum(num_tokens)))
        for tube, count in zip(tubes, num_tokens, strict=True)
        if count
    ]
    smallest = sum(min(each) for each in candidates)
    if budget < smallest:
        raise ValueError(
            f"token_budget={budget} is too small for a clip of {format_size(size)} (frames x height x width): the smallest possible "
            f"budget of its {len(candidates)} tubes is {smallest}."
        )
    # Dynamic programming over the tubes: for every total number of tokens the smallest cost, and the tubes of that cost.
    best: dict[int, tuple[float, tuple[Tube, ...]]] = {0: (0.0, ())}
    remaining = smallest
    for each in candidates:
        remaining -= min(each)
        extended: dict[int, tuple[float, tuple[Tube, ...]]] = {}
        for total, (cost, chosen) in best.items():
            for count, (extra, tube) in each.items():
                new_total, new_cost = total + count, cost + extra
                if new_total + remaining <= budget and (
                    new_total not in extended or new_cost < extended[new_total][0]
                ):
                    extended[new_total] = (new_cost, (*chosen, tube))
        best = extended
    coarser = iter(best[max(best)][1])
    return tuple(next(coarser) if count else tube for tube, count in zip(tubes, num_tokens, strict=True))


def _coarser_tubes(tube: Tube, size: Size, log_fraction: float) -> dict[int, tuple[float, Tube]]:
    """For every number of tokens that the tube can have: the most even thinning's cost, and the tube."""
    grid = tube.grid(size)
    num_axes = max(1, sum(count > 1 for count in grid))
    axes = [_coarser_axes(tube, size, axis) for axis in range(3)]
    found: dict[int, tuple[float, Tube]] = {}
    for counts in product(*axes):
        cost = sum(
            (math.log(count / full) - log_fraction / num_axes) ** 2
            for count, full in zip(counts, grid, strict=True)
            if full > 1
        )
        num_tokens = math.prod(counts)
        if num_tokens in found and found[num_tokens][0] <= cost:
            continue
        strides, offsets = zip(*(axes[axis][count] for axis, count in enumerate(counts)), strict=True)
        found[num_tokens] = (cost, replace(tube, stride=strides, offset=offsets))
    return found


def _coarser_axes(tube: Tube, size: Size, axis: int) -> dict[int, tuple[int, int]]:
    """Stride and offset along an axis for every number of tokens from the tube's own down to 1."""
    count, applications = tube.grid(size)[axis], tube.kernel_grid(size)[axis]
    offset, stride, factor = tube.offset[axis], tube.kernel_stride[axis], tube.space_to_depth[axis]
    slack, span = size[axis] - tube.smallest_size[axis], (applications - 1) * stride
    found = {count: (tube.stride[axis], offset)}
    for fewer in range(count - 1, 0, -1):
        # All kernel applications of the last token lie in the clip, because they lie between the first and last of the tube.
        merged = fewer * factor
        wider = span // (merged - 1) if merged > 1 else slack + 1
        centered = (span - (merged - 1) * wider) // 2
        # A smaller shift would leave room for a further token. This one keeps the last application inside the span, which ends
        # less than a stride before the last place of the clip: slack - span < stride <= wider.
        shift = max(centered, slack - merged * wider + 1)
        found[fewer] = (wider * factor, offset + shift)
    return found
