# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Interleaved timing of functions; medians, minima and ratios of their times.

Functions that are compared run in turn in one process, round after round, so that changes of clock rate and load affect all
of them equally. Absolute times depend on the machine; report the ratio of two medians from one run. Minima are less affected by
load than medians: if the ratio of minima disagrees with the ratio of medians, measure again.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .logging_utils import progress_bar


class Timing(NamedTuple):
    """Seconds of one call: elapsed time, and CPU time summed over the threads of the process."""

    wall: float
    cpu: float


def time_call(call: Callable[[], Any], device: str = "cpu") -> Timing:
    """Time one call; on a GPU, until its kernels have finished."""
    _wait_for(device)
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    _wait_for(device)
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleave(
    calls: dict[str, Callable[[], Any]], rounds: int, device: str = "cpu", description: str = "timing"
) -> dict[str, list[Timing]]:
    """
    Time each of `calls` once per round, after one warm-up round. Returns `rounds` timings per call.

    Each round starts with the next call, so that no call always runs after the same one and finds its caches.
    """
    names = list(calls)
    timings = {name: [] for name in names}
    gc_was_enabled = gc.isenabled()
    gc.disable()  # a collection would count as time of the call during which it runs
    try:
        for number in progress_bar(range(rounds + 1), description, unit="round", leave=False):
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
    """`{"median_ms", "min_ms", "cpu_ms"}`: median and minimum elapsed time, and median CPU time, in milliseconds."""
    return {
        "median_ms": 1e3 * statistics.median(timing.wall for timing in timings),
        "min_ms": 1e3 * min(timing.wall for timing in timings),
        "cpu_ms": 1e3 * statistics.median(timing.cpu for timing in timings),
    }


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Our time divided by theirs, both as returned by `summarize`: ratios of medians, of minima and of CPU times."""
    keys = {"ratio": "median_ms", "ratio_of_minima": "min_ms", "ratio_of_cpu": "cpu_ms"}
    return {name: ours[key] / theirs[key] for name, key in keys.items() if theirs[key] > 0}


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
