# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Random numbers that depend only on a seed, the epoch and the video: they are the same for any number of workers and ranks,
and in a resumed run.

The global generator of a process does not have this property: each worker has its own, and a resumed run starts it again.
The epoch is in shared memory, because Trainer does not tell persistent workers, or the data loader of a resumed run, that an
epoch begins.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def sample_seed(seed: int, epoch: int, name: str) -> int:
    """
    A seed of 63 bits for one video in one epoch.

    >>> sample_seed(0, 1, "clip.mp4") == sample_seed(0, 1, "clip.mp4") != sample_seed(0, 2, "clip.mp4")
    True
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which torchvision uses, within the context; restore its state after it."""
    # torch.manual_seed would also seed the GPUs; in a process without an initialized GPU it stores each call with its stack.
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class SharedEpoch:
    """The index of the current epoch, shared by this process and the data loader workers that it starts."""

    def __init__(self):
        self.shared = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def value(self) -> int:
        return int(self.shared)

    @value.setter
    def value(self, epoch: int) -> None:
        self.shared.fill_(epoch)
