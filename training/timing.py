# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What every benchmark here shares: timing calls in turn, medians and their ratios, and what machine it was.

Calls that are compared take turns in one process, round after round, so that a change of clock rate or other load on
the machine meets all of them alike. Absolute times move with the machine; the ratio of two medians of one run is what to
quote. Minima are reported beside the medians because they shed other load: where the two disagree, measure again.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm


class Timing(NamedTuple):
    """Seconds that one call took: on the wall clock, and of processor time summed over the process's threads."""

    wall: float
    cpu: float


def time_call(call: Callable[[], Any], device: str = "cpu") -> Timing:
    """Time one call; on a GPU until its work is done."""
    _wait_for(device)
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    _wait_for(device)
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleave(
    calls: dict[str, Callable[[], Any]], rounds: int, device: str = "cpu", description: str = "timing"
) -> dict[str, list[Timing]]:
    """
    Time every call `rounds` times, in turn, after one uncounted round; returns the timings of each, `rounds` long.

    Each round begins with another call, so that none always follows the same one's state of the caches.
    """
    names = list(calls)
    timings = {name: [] for name in names}
    gc_was_enabled = gc.isenabled()
    gc.disable()  # a collection would be charged to whichever call it falls into
    try:
        for number in tqdm(range(rounds + 1), desc=description, unit="round", disable=None, leave=False):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                timing = time_call(calls[name], device)
                if number:
                    timings[name].append(timing)
            gc.collect()
    finally:
        if gc_was_enabled:
            gc.enable()
    return timings


def summarize(timings: list[Timing]) -> dict[str, float]:
    """`{"median_ms", "min_ms", "cpu_ms"}`: median and minimum wall clock time, and median processor time."""
    return {
        "median_ms": 1e3 * statistics.median(timing.wall for timing in timings),
        "min_ms": 1e3 * min(timing.wall for timing in timings),
        "cpu_ms": 1e3 * statistics.median(timing.cpu for timing in timings),
    }


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Our time as a share of theirs, both as `summarize` gives them: of medians, of minima, of processor time."""
    keys = {"ratio": "median_ms", "ratio_of_minima": "min_ms", "ratio_of_cpu": "cpu_ms"}
    return {name: ours[key] / theirs[key] for name, key in keys.items() if theirs[key] > 0}


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
