# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Terminal output of long commands: progress bars on a terminal, a line per minute elsewhere; and quieter libraries."""

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any


SECONDS_BETWEEN_LINES = 60.0


def quiet_libraries() -> None:
    """
    Turn off output of libraries for the rest of the process: Transformers' progress bars of loading and saving weights (downloads
    keep theirs), torch's warning about many DataLoader workers (`worker_processes` prints a message instead), and that about modules
    whose output is a view, under FSDP2, for the models of this package: they change no output in place.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    shows_downloads = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if shows_downloads:
        enable_progress_bars()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(FSDP(TubeViT|UniFormerV2|FactorizedViViT)")


def progress_bar(
    iterable: Iterable | None = None,
    description: str = "",
    total: int | None = None,
    unit: str = "item",
    is_hidden: bool = False,
    leave: bool = True,
) -> Any:
    """
    A tqdm bar if stderr is a terminal; elsewhere a `ProgressLines`, with the same methods. Both iterate over `iterable`, or count
    by `update` in a `with` block.

    is_hidden: print nothing, for all processes but the first.
    """
    if is_hidden or sys.stderr.isatty():
        from tqdm.auto import tqdm

        return tqdm(iterable, description, total, unit=unit, disable=is_hidden, leave=leave, dynamic_ncols=True)
    return ProgressLines(iterable, description, total, unit)


class LineTimer:
    """Writes at most one line per `seconds`, by default `SECONDS_BETWEEN_LINES`. write: prints a line."""

    def __init__(self, write: Callable[[str], Any], seconds: float | None = None):
        self.write_line, self.last, self.lock = write, time.monotonic(), threading.Lock()
        self.seconds = SECONDS_BETWEEN_LINES if seconds is None else seconds

    def tick(self, text: Callable[[], str]) -> None:
        """Write `text()` if the last line is old enough."""
        with self.lock:
            if time.monotonic() - self.last >= self.seconds:
                self.write(text())

    def write(self, line: str) -> None:
        self.write_line(line)
        self.last = time.monotonic()


class ProgressLines:
    """
    The progress of a task as lines on stderr: `checking: 1,200 of 5,000 (24 %), 20.1 files/s, 3 min 9 s left`. A thread prints them
    while an item takes long.
    """

    def __init__(self, iterable: Iterable | None, description: str, total: int | None, unit: str):
        self.iterable, self.description, self.unit = iterable, description, unit
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.count, self.start = 0, time.monotonic()
        self.lines = LineTimer(lambda line: print(line, file=sys.stderr, flush=True))
        self.is_done = threading.Event()

    def __iter__(self) -> Iterator:
        with self:
            for item in () if self.iterable is None else self.iterable:
                yield item
                self.update()

    def __enter__(self) -> "ProgressLines":
        threading.Thread(target=self._print_while_waiting, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.is_done.set()

    def _print_while_waiting(self) -> None:
        while not self.is_done.wait(self.lines.seconds):
            self.lines.tick(self._line)

    def update(self, number: int = 1) -> None:
        self.count += number
        self.lines.tick(self._line)

    def _line(self) -> str:
        seconds = time.monotonic() - self.start
        rate = describe_rate(self.count / max(seconds, 1e-9), self.unit)
        return f"{self.description}: {describe_count(self.count, self.total)}, {rate}" + (
            f", {describe_time_left(self.count, self.total, seconds)}" if self.total else ""
        )


def describe_count(count: int, total: int | None) -> str:
    """
    >>> describe_count(1200, 5000)
    '1,200 of 5,000 (24 %)'
    """
    return f"{count:,}" if total is None else f"{count:,} of {total:,} ({100 * count / max(total, 1):.0f} %)"


def describe_rate(per_second: float, unit: str) -> str:
    """
    >>> describe_rate(20.123, "file"), describe_rate(0.25, "run")
    ('20.1 files/s', '15 runs/min')
    """
    return f"{per_second:.3g} {unit}s/s" if per_second >= 1 else f"{60 * per_second:.3g} {unit}s/min"


def describe_time_left(count: int, total: int, seconds: float) -> str:
    """
    Time that the rest of a task takes at the mean speed so far. count: items done in `seconds`.

    >>> describe_time_left(1200, 5000, 60)
    '3 min 10 s left'
    """
    return f"{describe_duration(seconds * (total - count) / count)} left" if count else "time left unknown"


def describe_duration(seconds: float) -> str:
    """
    >>> describe_duration(9.4), describe_duration(190), describe_duration(7300), describe_duration(200_000)
    ('9 s', '3 min 10 s', '2 h 1 min', '2 d 7 h')
    """
    seconds = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller_size} {smaller}"
    return f"{seconds} s"
