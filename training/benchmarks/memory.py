# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Peak CPU memory of a forward pass or training step beyond the weights, measured in a child process (Linux only).

Torch does not count CPU memory, so the resident memory of the process, counted by the kernel, is used. In the child process
glibc returns every freed block to the kernel at once; otherwise free blocks in the heap would hide the memory of the next
step. The first step loads code and allocates the buffers of libraries. Then the kernel's peak count is reset, and the result
is the increase during the second step. For training steps it includes gradients.
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
RETURN_FREED_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_memory_mib(setup: dict, module: str) -> float | None:
    """
    MiB that one step needs beyond weights and inputs; `None` if the kernel has no peak count that can be reset.

    setup: passed to `module` as JSON, such as the fields of `model.Setup`; "name" is used in errors.
    module: run as the child process; it builds the step and calls `print_peak`.

    The child process builds the model and runs two steps. Raises `ChildProcessError` if it fails, for example out of memory.
    """
    if not (RESET.is_file() and os.access(RESET, os.W_OK)):
        return None
    import torch

    # Each thread has its own buffers, so the child process uses as many threads as its parent.
    environment = os.environ | RETURN_FREED_BLOCKS | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", module, json.dumps(setup)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last_lines = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ChildProcessError(f"The process that measures the memory of {setup['name']} failed: {last_lines[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_peak(step: Callable[[], Any]) -> None:
    """Run `step` twice and print the MiB by which the second run raises the peak memory of this process."""
    step()
    RESET.write_text(RESET_PEAK, encoding="utf-8")
    before = _status_kib("VmRSS")
    step()
    # The kernel updates its counts with a delay, so the difference may be slightly negative for a step that needs no memory.
    print(max(0, _status_kib("VmHWM") - before) / 2**10)


def _status_kib(field: str) -> int:
    (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


def memory_of(pid: int) -> float:
    """
    MiB that a process and its children have allocated; memory that they share is divided among them. NaN on systems without /proc
    and before Linux 5.9, which does not count this memory.

    The pages of libraries and other files are left out: the fraction of them that Linux counts for a process changes when another
    program that uses them starts or ends.
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    kib = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    own = sum(kib) / 2**10 if kib else float("nan")
    return own + sum(memory_of(int(child)) for child in children)
