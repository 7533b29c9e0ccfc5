# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench --startup`: CPU seconds that fresh processes need until a command has printed, or the package is imported.

CPU time, user and system, of the whole process: other load on the machine changes it less than the time on the clock. The
cases take turns in each round; medians.
"""

import os
import statistics
import subprocess
import sys
from typing import Any


CLI = ["-m", "tubevit.training.cli"]
# Title to the arguments of Python. The first case is the floor: Python itself.
CASES = {
    "python": ["-c", "pass"],
    "import tubevit": ["-c", "import tubevit"],
    "tubevit --version": [*CLI, "--version"],
    "tubevit --help": [*CLI, "--help"],
    "a wrong command": [*CLI, "predcit"],
    "tubevit data": [*CLI, "data"],
    "tubevit predict --help": [*CLI, "predict", "--help"],
    "tubevit train --help": [*CLI, "train", "--help"],
    "import tubevit, then AutoModel": ["-c", "import tubevit; from transformers import AutoModel"],
}


def measure_startup(rounds: int, cases: dict[str, list[str]] = CASES) -> dict[str, Any]:
    """`{title: {"cpu_seconds": median, "rounds": each}}`; the first round fills caches of files and does not count."""
    measured: dict[str, list[float]] = {title: [] for title in cases}
    for index in range(rounds + 1):
        for title, arguments in cases.items():
            seconds = cpu_seconds([sys.executable, *arguments])
            if index:
                measured[title].append(seconds)
    return {title: {"cpu_seconds": statistics.median(each), "rounds": each} for title, each in measured.items()}


def cpu_seconds(command: list[str]) -> float:
    """CPU time of a process, with the processes that it waits for. Raises `RuntimeError` if it fails other than by a wrong command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate()
    if process.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}: {errors.strip()}")
    return 0.0
