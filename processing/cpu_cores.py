# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""How many processor cores there are to work on: what the numbers of threads follow from."""

import os


def num_cores() -> int:
    """Cores that this process may use; fewer than the machine has where it was bound to some of them (`taskset`, Slurm)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
