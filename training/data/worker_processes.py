# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A pool of processes that works on many files, with a progress bar, and survives files that crash their process.

A damaged video may crash FFmpeg or exhaust the memory. In a run over 240,000 files, such a video must be one line in a report
and not end the run.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from typing import Any


# Fewer files are not worth another process, which takes seconds of CPU time to start: files that take a second each, and files of
# which two frames are decoded (some 5 to 50 ms).
FILES_PER_PROCESS, OPENED_FILES_PER_PROCESS = 8, 200
WAITING_HINT_SECONDS, WAITING_HINT_FROM = 60.0, 0.3  # of a task, and the fraction of it spent waiting for data
IN_FLIGHT = 4  # files queued per process


class ProcessDied(Exception):
    """The process that worked on an item ended without a result."""


def map_in_processes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    total: int,
    num_workers: int | None,
    description: str,
    files_per_process: int = FILES_PER_PROCESS,
) -> Iterator[tuple[Any, Any]]:
    """
    `(item, function(item))` of each item, in the order in which they finish, with a progress bar.

    function: must be picklable, like the items. Its exceptions are raised here. If it crashes its process, the result for the
        item is a `ProcessDied`.
    total: number of items.
    num_workers: number of processes; 1 = this process. By default one per core, but at most one for `files_per_process` items.
    """
    from ..logging_utils import progress_bar

    num_workers = choose_num_workers(num_workers, total, files_per_process)
    if num_workers == 1:
        results = ((item, function(item)) for item in items)
    else:
        results = _map_in_pool(function, iter(items), num_workers)
    yield from progress_bar(results, description, total, unit="file")


def choose_num_workers(num_workers: int | None, num_items: int, files_per_process: int = FILES_PER_PROCESS) -> int:
    """The number of processes for `num_items` items. Raises `ValueError` for `num_workers` below 1."""
    from tubevit.processing.cpu_cores import num_cores

    if num_workers is None:
        num_workers = min(num_cores(), num_items // files_per_process)
        return max(1, num_workers)
    if num_workers < 1:
        raise ValueError(f"The number of workers must be at least 1, got {num_workers}.")
    return num_workers


def worker_messages(num_workers: int) -> list[str]:
    """A message if the training processes of this machine start more loader workers than there are cores."""
    total, cores = _count_workers(num_workers)
    if total <= cores:
        return []
    return [f"{total} DataLoader workers run on {cores} cores: a smaller dataloader_num_workers may be faster."]


def waiting_messages(seconds: float, waiting_fraction: float, num_workers: int) -> list[str]:
    """
    A message if a task of some length spent much of its time waiting for data. It advises more loader workers only if there are
    cores for them, so that it never contradicts `worker_messages`.
    """
    if seconds < WAITING_HINT_SECONDS or waiting_fraction <= WAITING_HINT_FROM:
        return []
    total, cores = _count_workers(num_workers)
    more = "a larger dataloader_num_workers, or " if total < cores else ""
    return [f"Faster: {more}videos re-encoded by `tubevit data prepare`."]


def _count_workers(num_workers: int) -> tuple[int, int]:
    """Loader workers of all processes of this machine, and its cores."""
    from tubevit.processing.cpu_cores import num_cores

    return num_workers * int(os.environ.get("LOCAL_WORLD_SIZE", 1)), num_cores()


def gpu_messages(use_cpu: bool) -> list[str]:
    """A message if one process runs on a machine with several GPUs."""
    import torch

    num_gpus = 0 if use_cpu else torch.cuda.device_count()
    if num_gpus < 2 or "LOCAL_WORLD_SIZE" in os.environ:
        return []
    return [f"One of {num_gpus} GPUs is used: --num_processes {num_gpus} uses all."]


def _map_in_pool(function: Callable, items: Iterator, num_workers: int) -> Iterator[tuple[Any, Any]]:
    pool = _make_pool(function, num_workers)
    try:
        running: dict[Future, Any] = {}
        while True:
            for item in islice(items, IN_FLIGHT * num_workers - len(running)):
                running[pool.submit(function, item)] = item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = [future for future in done if isinstance(future.exception(), BrokenProcessPool)]
            for future in done.difference(broken):
                yield running.pop(future), future.result()
            if broken:
                # The results of all running items are lost, and any of them may be the cause: run each again, one at a time.
                suspects = [running[future] for future in running]
                running = {}
                pool.shutdown(cancel_futures=True)
                yield from _one_by_one(function, suspects)
                pool = _make_pool(function, num_workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(function: Callable, items: list) -> Iterator[tuple[Any, Any]]:
    pool = _make_pool(function, 1)
    try:
        for item in items:
            try:
                yield item, pool.submit(function, item).result()
            except BrokenProcessPool:
                yield item, ProcessDied("its process died")
                pool = _make_pool(function, 1)
    finally:
        pool.shutdown(cancel_futures=True)


def _make_pool(function: Callable, num_workers: int) -> ProcessPoolExecutor:
    # A process forked from this one could deadlock: it inherits locks that torch's threads hold. A fork server does not run these
    # threads and imports once for all processes; with spawn (no fork server on this system) each process imports for itself.
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    if method == "forkserver":
        # The module of the function, so that a process is ready as soon as it is forked.
        context.set_forkserver_preload([getattr(function, "func", function).__module__])
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_use_one_thread)


def _use_one_thread() -> None:
    """One thread per process, because the other processes use the other cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch if it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
