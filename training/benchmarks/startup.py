# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench --startup`: CPU seconds of fresh processes that print help, report a wrong command, or import the package.

CPU time is the user and system time of the process; other load on the machine changes it less than wall time. Each round
runs every case once, and the result of a case is the median over the rounds.
"""

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..tables import format_table


CLI = ["-m", f"{__package__.rpartition('.')[0]}.cli"]
# Title to the arguments of Python. Python itself is the lower bound of all cases.
CASES = {
    "python": ["-c", "pass"],
    "import tubevit": ["-c", "import tubevit"],
    "tubevit --version": [*CLI, "--version"],
    "tubevit --help": [*CLI, "--help"],
    "tubevit predcit": [*CLI, "predcit"],
    "tubevit data": [*CLI, "data"],
    "tubevit predict --help": [*CLI, "predict", "--help"],
    "tubevit train --help": [*CLI, "train", "--help"],
    "import tubevit, AutoModel": ["-c", "import tubevit; from transformers import AutoModel"],
}
SCRIPT = Path(sys.executable).with_name("tubevit")  # the console script of this environment, if it is installed
if SCRIPT.is_file():
    CASES["tubevit --help, console script"] = [str(SCRIPT), "--help"]


def measure_startup(rounds: int, cases: Mapping[str, Sequence[str]] = CASES) -> dict[str, list[float]]:
    """CPU seconds of each round, by case. An additional first round fills the file cache and is not counted."""
    seconds: dict[str, list[float]] = {title: [] for title in cases}
    for number in range(rounds + 1):
        for title, arguments in cases.items():
            measured = cpu_seconds([sys.executable, *arguments])
            if number:
                seconds[title].append(measured)
    return seconds


def cpu_seconds(command: Sequence[str]) -> float:
    """
    CPU seconds of a process that runs `command`.

    Raises `RuntimeError` for an exit code other than 0 and 2 (a wrong command).
    """
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}: {done.stderr.strip()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def format_startup(seconds: Mapping[str, Sequence[float]]) -> str:
    rows = [[title, f"{statistics.median(each):.2f}", f"{max(each):.2f}"] for title, each in seconds.items()]
    return format_table(["start-up", "CPU s, median", "CPU s, highest"], rows)
