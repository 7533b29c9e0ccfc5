# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A pool of processes that works on many files with a progress bar. A file that crashes or blocks its process does not end the task.

A damaged video may crash FFmpeg, exhaust the memory, or keep the decoder busy forever. In a run over 240,000 files, this video
must become one line in a report.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import Any


# Fewer files are not worth another process, which takes seconds of CPU time to start: files that take a second each, and files of
# which two frames are decoded (some 5 to 50 ms).
FILES_PER_PROCESS, OPENED_FILES_PER_PROCESS = 8, 200
WAITING_HINT_SECONDS, WAITING_HINT_FROM = 60.0, 0.3  # of a task, and the fraction of it spent waiting for data
NO_ITEM = object()


class ItemFailed(Exception):
    """An item has no result. The message is a reason, as in "the process that decoded it died"."""


class ProcessDied(ItemFailed):
    """The process that worked on an item ended without a result."""


class TimedOut(ItemFailed):
    """An item took longer than its time limit."""


def map_in_processes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    total: int,
    num_workers: int | None,
    description: str,
    files_per_process: int = FILES_PER_PROCESS,
    seconds_per_item: float | None = None,
    imports: Sequence[str] = (),
) -> Iterator[tuple[Any, Any]]:
    """
    `(item, function(item))` of each item, in the order in which they finish, with a progress bar.

    function: must be picklable, like the items, and must not be defined in the script that runs: the processes do not import it, so
        that scripts need no main guard. Its exceptions are raised here. If it crashes its process, the result for the item is a
        `ProcessDied`.
    total: number of items.
    num_workers: number of processes; 1 = this process. By default one per core, but at most one for `files_per_process` items.
    seconds_per_item: time limit. The result for an item that takes longer is a `TimedOut`, and its process is ended; in this process,
        its thread is left behind.
    imports: modules that `function` imports when it is called, which takes seconds for a decoder. Where processes are forked from a
        server, the server imports them once for all.
    """
    from ..logging_utils import progress_bar

    num_workers = choose_num_workers(num_workers, total, files_per_process)
    if num_workers == 1:
        results = ((item, _call(function, item, seconds_per_item)) for item in items)
    else:
        results = _map_in_pool(function, iter(items), min(num_workers, max(1, total)), seconds_per_item, imports)
    yield from progress_bar(results, description, total, unit="file")


def choose_num_workers(num_workers: int | None, num_items: int, files_per_process: int = FILES_PER_PROCESS) -> int:
    """The number of processes for `num_items` items. Raises `ValueError` for `num_workers` below 1."""
    from tubevit.processing.cpu_cores import num_cores

    if num_workers is None:
        cores = num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # the processes of a run divide a machine
        num_workers = min(cores, num_items // files_per_process)
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


def _call(function: Callable, item: Any, seconds: float | None) -> Any:
    """`function(item)` in this process, or a `TimedOut`. A decoder cannot be interrupted, so it runs in a thread of its own."""
    if seconds is None:
        return function(item)
    results: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            results.append((True, function(item)))
        except BaseException as error:
            results.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not results:
        return TimedOut(f"decoding takes longer than {seconds:g} s")
    has_result, result = results[0]
    if not has_result:
        raise result
    return result


def _map_in_pool(
    function: Callable, items: Iterator, num_workers: int, seconds: float | None, imports: Sequence[str]
) -> Iterator:
    workers = [Worker(function, seconds, imports) for _ in range(num_workers)]
    has_more = True
    try:
        while True:
            for worker in workers:
                if worker.is_idle and has_more:
                    item = next(items, NO_ITEM)
                    has_more = item is not NO_ITEM
                    if has_more:
                        worker.submit(item)
            if not has_more and not any(worker.is_busy for worker in workers):
                return
            deadline = min(worker.deadline for worker in workers)
            timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
            connection.wait([worker.connection for worker in workers if not worker.is_idle], timeout)
            for index, worker in enumerate(workers):
                item = worker.item
                result = worker.poll()
                if isinstance(result, ItemFailed):
                    worker.end()
                    workers[index] = Worker(function, seconds, imports)
                if result is not NO_ITEM:
                    yield item, result
    finally:
        for worker in workers:
            worker.end()


def context_of_processes(*modules: str) -> BaseContext:
    """
    How processes on the CPU start. A process forked from this one could deadlock: it inherits locks that torch's threads hold. A fork
    server does not run these threads and imports `modules` once for all processes; with spawn (no fork server on this system) each
    process imports for itself.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))  # without effect if the server runs
    return context


class Worker:
    """A process that works on one item at a time. Until it has imported what it needs, it is neither idle nor busy."""

    def __init__(self, function: Callable, seconds: float | None, imports: Sequence[str] = ()):
        # With the module of the function, a process is ready as soon as it is forked.
        context = context_of_processes(getattr(function, "func", function).__module__, *imports)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        with _without_main_module():
            self.process.start()
        theirs.close()
        self.seconds, self.deadline = seconds, float("inf")
        self.item, self.has_started = NO_ITEM, False

    @property
    def is_busy(self) -> bool:
        return self.item is not NO_ITEM

    @property
    def is_idle(self) -> bool:
        return self.has_started and not self.is_busy

    def submit(self, item: Any) -> None:
        self.connection.send(item)
        self.item = item
        self.deadline = float("inf") if self.seconds is None else time.monotonic() + self.seconds

    def poll(self) -> Any:
        """The result for the current item, an `ItemFailed`, or `NO_ITEM`. Raises exceptions of the function."""
        if not self.connection.poll():
            is_late = self.is_busy and time.monotonic() > self.deadline
            return TimedOut(f"decoding takes longer than {self.seconds:g} s") if is_late else NO_ITEM
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            if self.is_busy:
                return ProcessDied("the process that decoded it died")
            self.process.join()
            raise RuntimeError(
                f"A worker process ended with exit code {self.process.exitcode} before its first file; "
                "--workers 1 or num_workers=1 works in this process."
            ) from None
        if message is None:
            self.has_started = True
            return NO_ITEM
        self.item, self.deadline = NO_ITEM, float("inf")
        has_result, result, text = message
        if not has_result:
            raise result from RuntimeError(f"in a worker process:\n{text}")
        return result

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Processes that start in this context do not import the script that runs, which would run it again without a main guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(commands: Any, function: Callable) -> None:
    """The loop of a worker process: `None` when it is ready, then `(has a result, result or error, traceback)` per item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, which ends this one
    _use_one_thread()
    commands.send(None)
    while True:
        try:
            item = commands.recv()
        except (EOFError, OSError):
            return
        try:
            message = True, function(item), ""
        except Exception as error:
            message = False, error, traceback.format_exc()
        try:
            commands.send(message)
        except Exception as error:  # a result or an error that cannot be pickled
            commands.send((False, RuntimeError(f"{type(error).__name__}: {error}"), traceback.format_exc()))


def _use_one_thread() -> None:
    """One thread per process, because the other processes use the other cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch if it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
