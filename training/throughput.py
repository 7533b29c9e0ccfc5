# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Throughput of training: clips per second, of the model alone too, and the fraction of the time spent waiting for the DataLoader."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


Batch = dict[str, Any]


class DataLoaderTimer:
    """
    Iterates over DataLoaders and counts `num_clips` and `seconds_waiting` over all of them, and `seconds` since `begin`.

    augment: applied to each batch in the training process; `None` if the workers augment.
    """

    def __init__(self, augment: Callable[[Batch], Batch] | None):
        self.augment = augment
        self.begin({})

    def begin(self, before: dict[str, Any]) -> None:
        """Start counting. before: the `counts` of the run that is resumed, or an empty dictionary for a new run."""
        self.num_clips, self.seconds_waiting = before.get("num_clips", 0), before.get("seconds_waiting", 0.0)
        self.seconds_reported = self.seconds_waiting
        self.start = time.perf_counter() - before.get("seconds", 0.0)

    def counts(self) -> dict[str, Any]:
        return {
            "num_clips": self.num_clips,
            "seconds_waiting": self.seconds_waiting,
            "seconds": time.perf_counter() - self.start,
        }

    def slowest_wait(self, accelerator: Any) -> dict[str, float | int]:
        """
        `{"seconds_waiting_for_data", "slowest_rank"}` since the last call: the longest time that a process waited for its batches, and
        the rank of this process; without the rank if there is one process. Called on all processes.
        """
        import torch

        seconds, self.seconds_reported = self.seconds_waiting - self.seconds_reported, self.seconds_waiting
        if accelerator.num_processes == 1:
            return {"seconds_waiting_for_data": seconds}
        of_ranks = accelerator.gather(torch.tensor([seconds], device=accelerator.device)).tolist()
        longest = max(of_ranks)
        return {"seconds_waiting_for_data": longest, "slowest_rank": of_ranks.index(longest)}

    def __call__(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        batches = iter(loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - start
            if batch is None:
                return
            self.num_clips += len(batch["labels"])
            yield batch if self.augment is None else self.augment(batch)

    def throughput(self, num_processes: int, num_workers: int) -> dict[str, float | int]:
        """Duration in seconds, clips per second over all processes, and the fraction of the time spent waiting for data."""
        seconds = self.counts()["seconds"]
        return {
            "seconds": seconds,
            "clips_per_second": self.num_clips * num_processes / seconds,
            "share_of_time_waiting_for_data": self.seconds_waiting / seconds,
            "dataloader_num_workers": num_workers,
        }


class ModelClock:
    """
    Measures the clips per second that a model takes on one device: forward and backward passes, without the wait for data.

    num_warmup: calls of `measure` that are not timed. num_timed: calls after them, whose median time counts; the device finishes its
    work before and after each.
    """

    def __init__(self, has_accelerator: bool, num_warmup: int = 2, num_timed: int = 3):
        self.has_accelerator, self.num_warmup, self.num_timed = has_accelerator, num_warmup, num_timed
        self.num_calls, self.seconds_per_clip = 0, []

    @contextmanager
    def measure(self, num_clips: int) -> Iterator[None]:
        is_timed = self.num_warmup <= self.num_calls < self.num_warmup + self.num_timed
        self.num_calls += 1
        if is_timed:
            start = self._now()
        yield
        if is_timed:
            self.seconds_per_clip.append((self._now() - start) / num_clips)

    def pop_rate(self) -> float | None:
        """Clips per second, once when it is measured; otherwise `None`."""
        if len(self.seconds_per_clip) < self.num_timed:
            return None
        rate = 1 / statistics.median(self.seconds_per_clip)
        self.seconds_per_clip = []
        return rate

    def _now(self) -> float:
        if self.has_accelerator:
            import torch

            torch.accelerator.synchronize()
        return time.perf_counter()
