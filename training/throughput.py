# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Batches on their way from a data loader to the model: how many clips, in what time, and how much of it was waiting for them."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


Batch = dict[str, Any]


class DataLoaderTimer:
    """
    augment: what is done to each batch once it is here; `None` where the loader's workers did it.

    Counts `num_clips` and `seconds_waiting` over all loaders, and `seconds` since `begin`.
    """

    def __init__(self, augment: Callable[[Batch], Batch] | None):
        self.augment = augment
        self.begin({})

    def begin(self, before: dict[str, Any]) -> None:
        """Start the clock. before: what `counts` gave when a run was broken off that now goes on."""
        self.num_clips, self.seconds_waiting = before.get("num_clips", 0), before.get("seconds_waiting", 0.0)
        self.start = time.perf_counter() - before.get("seconds", 0.0)

    def counts(self) -> dict[str, Any]:
        return {
            "num_clips": self.num_clips,
            "seconds_waiting": self.seconds_waiting,
            "seconds": time.perf_counter() - self.start,
        }

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
        """How long training took, how fast it was, and what share of the time this process waited for clips."""
        seconds = self.counts()["seconds"]
        return {
            "seconds": seconds,
            "clips_per_second": self.num_clips * num_processes / seconds,
            "share_of_time_waiting_for_data": self.seconds_waiting / seconds,
            "dataloader_num_workers": num_workers,
        }
