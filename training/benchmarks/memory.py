# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Peak memory of a forward pass or training step on the CPU, over the weights: measured in a process of its own.

Torch does not count its memory on the CPU, so the kernel's count of the process's resident memory is used. Each model gets
a process of its own, in which glibc is told to return every block at once that is freed: a heap that keeps
blocks would hide what the next call uses. After one call (which brings in code and the libraries' own buffers) the
kernel's high-water mark is reset, and one more call shows how far it rises. That includes gradients, in training.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # resets VmHWM to VmRSS, see proc(5)
KEEP_NOTHING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_memory_mib(setup: dict, module: str) -> float | None:
    """
    MiB that one step of a model takes beyond its weights and inputs; `None` where the kernel keeps no such count.

    setup: the fields of `model.Setup`, or what else `module` makes a step of, which it gives to `print_peak`.

    Takes as long as building the model and two steps. Raises `ChildProcessError` if the process fails, for want of memory for
    instance.
    """
    if not (RESET.is_file() and os.access(RESET, os.W_OK)):
        return None
    import torch

    # Threads have buffers of their own, so the child uses as many as its parent.
    environment = os.environ | KEEP_NOTHING | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", module, json.dumps(setup)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last_words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ChildProcessError(f"The process that measures the memory of {setup['name']} failed: {last_words[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_peak(step: Callable[[], Any]) -> None:
    """Do a step twice and print by how many MiB the second one raises the memory of this process."""
    step()
    RESET.write_text(RESET_PEAK)
    before = _status_kib("VmRSS")
    step()
    # The kernel adds up its counts per core now and then, so a step that needs next to nothing may come out negative.
    print(max(0, _status_kib("VmHWM") - before) / 2**10)


def _status_kib(field: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])
