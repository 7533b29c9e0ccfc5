# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Work on many files in several processes, with a progress bar, that outlives a file which brings its process down.

FFmpeg reads what strangers wrote; a file that crashes it, or that needs more memory than there is, must be a line in a report
and not the end of a run over 240,000 files.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from typing import Any


FILES_PER_PROCESS = 8  # starting a process takes seconds, so a few files do not get one
IN_FLIGHT = 4  # files handed to each process ahead of time


class ProcessDied(Exception):
    """The process that worked on an item ended without a word."""


def map_in_processes(
    function: Callable[[Any], Any], items: Iterable[Any], total: int, num_workers: int | None, description: str
) -> Iterator[tuple[Any, Any]]:
    """
    `(item, function(item))` of each item, in any order, with a progress bar.

    num_workers: processes; with 1 the work is done in this one. By default one per core, fewer for few items.

    The result is a `ProcessDied` for an item that ended its process. Other exceptions of `function` pass through. It and the
    items must be picklable.
    """
    from tqdm.auto import tqdm

    num_workers = choose_num_workers(num_workers, total)
    if num_workers == 1:
        results = ((item, function(item)) for item in items)
    else:
        results = _map_in_pool(function, iter(items), num_workers)
    yield from tqdm(results, desc=description, total=total, unit="file", dynamic_ncols=True, disable=None)


def choose_num_workers(num_workers: int | None, num_items: int) -> int:
    """Number of processes for so many items. Raises `ValueError` for less than one."""
    from tubevit.processing.cpu_cores import num_cores

    if num_workers is None:
        num_workers = min(num_cores(), num_items // FILES_PER_PROCESS)
        return max(1, num_workers)
    if num_workers < 1:
        raise ValueError(f"The number of workers must be at least 1, got {num_workers}.")
    return num_workers


def note_on_workers(num_workers: int) -> list[str]:
    """A sentence if there are to be more loader workers than cores, over all training processes of this machine."""
    from tubevit.processing.cpu_cores import num_cores

    total, cores = num_workers * int(os.environ.get("LOCAL_WORLD_SIZE", 1)), num_cores()
    if total <= cores:
        return []
    return [f"{total} loader workers share {cores} cores: a smaller dataloader_num_workers may be faster."]


def note_on_gpus(use_cpu: bool) -> list[str]:
    """A sentence if there are GPUs that one process leaves idle."""
    import torch

    num_gpus = 0 if use_cpu else torch.cuda.device_count()
    if num_gpus < 2 or "LOCAL_WORLD_SIZE" in os.environ:
        return []
    return [f"One of {num_gpus} GPUs is used: start this by torchrun --nproc-per-node {num_gpus} for all of them."]


def _map_in_pool(function: Callable, items: Iterator, num_workers: int) -> Iterator[tuple[Any, Any]]:
    pool = _make_pool(num_workers)
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
                # All that were under way are lost, and any of them may be the cause: each is tried again by itself.
                suspects = [running[future] for future in running]
                running = {}
                pool.shutdown(cancel_futures=True)
                yield from _one_by_one(function, suspects)
                pool = _make_pool(num_workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(function: Callable, items: list) -> Iterator[tuple[Any, Any]]:
    pool = _make_pool(1)
    try:
        for item in items:
            try:
                yield item, pool.submit(function, item).result()
            except BrokenProcessPool:
                yield item, ProcessDied("the process that read it died")
                pool = _make_pool(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _make_pool(num_workers: int) -> ProcessPoolExecutor:
    # Processes forked from this one would inherit torch's threads, and the locks that these hold. Those that are forked from
    # a server do not, and share its imports; where there are none, each process imports for itself.
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["tubevit.processing"])
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_use_one_thread)


def _use_one_thread() -> None:
    """The other cores are the other processes'."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for torch where it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
