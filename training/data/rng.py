# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Random draws that depend on nothing but a seed, the epoch and the video: the same with any number of workers and ranks, and
after a run was killed and resumed.

Draws from the process's own generator would not be: workers have one each, and a resumed run starts it anew. The epoch
lies in shared memory because workers that outlive an epoch, and a resumed Trainer, are never told about a new one.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def sample_seed(seed: int, epoch: int, name: str) -> int:
    """
    A seed for one video in one epoch, of 63 bits.

    >>> sample_seed(0, 1, "clip.mp4") == sample_seed(0, 1, "clip.mp4") != sample_seed(0, 2, "clip.mp4")
    True
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Within this context torch's global generator, which torchvision draws from, starts at `seed`; then it goes on as before."""
    # Not torch.manual_seed: that seeds the GPUs too, and in a process without one remembers the call, stack and all.
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class SharedEpoch:
    """The number of the current epoch, seen by this process and by the data loader workers that it starts."""

    def __init__(self):
        self.shared = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def value(self) -> int:
        return int(self.shared)

    @value.setter
    def value(self, epoch: int) -> None:
        self.shared.fill_(epoch)
