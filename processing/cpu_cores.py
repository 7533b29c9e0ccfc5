# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Number of CPU cores that this process may use: the default for thread and worker counts."""

import os


def num_cores() -> int:
    """CPU cores available to this process: fewer than the machine has if its affinity is restricted (`taskset`, Slurm)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
