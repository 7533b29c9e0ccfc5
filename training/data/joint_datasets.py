# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Data sets, batch sampler and collator of joint training on several data sets. A batch has samples of one data set only.

The data set and the rows of a batch depend only on the seed and the index of the batch since the start of the run. All ranks
therefore agree for any number of DataLoader workers, and a resumed run continues exactly.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from .augmentation import BatchAugmentation
from .clip_datasets import ClipCollator, ClipDataset
from .rng import sample_seed


class SampleIndex(NamedTuple):
    """Name of the data set, epoch of that data set, and row of a sample."""

    name: str
    epoch: int
    row: int


def draw_names(weights: dict[str, float], seed: int, epoch: int, number: int) -> list[str]:
    """
    Names of the data sets of the `number` batches of an epoch, in random order. The number of batches of each data set is
    proportional to its weight to within one batch; independent random choices could differ much from the weights in a short
    run.

    >>> names = draw_names({"kinetics": 3, "imagenet": 1}, seed=0, epoch=0, number=1000)
    >>> names.count("kinetics")
    750
    """
    generator = torch.Generator().manual_seed(sample_seed(seed, epoch, "data sets"))
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    order = torch.randperm(number, generator=generator)
    bounds = torch.tensor(list(weights.values()), dtype=torch.float64).cumsum(0)
    places = (order + start) / number * bounds[-1]
    names = list(weights)
    return [names[index] for index in torch.bucketize(places, bounds[:-1], right=True).tolist()]


class ShuffledRows:
    """
    The rows of one data set in training order: an endless sequence of epochs, each in a new random order. All batches are
    full: a batch may contain the end of one epoch and the start of the next.
    """

    def __init__(self, name: str, num_rows: int, seed: int):
        self.name, self.num_rows, self.seed = name, num_rows, seed
        self._orders: dict[int, list[int]] = {}

    def __getitem__(self, positions: slice) -> list[SampleIndex]:
        places = (divmod(position, self.num_rows) for position in range(positions.start, positions.stop))
        return [SampleIndex(self.name, epoch, self._order(epoch)[place]) for epoch, place in places]

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch, self.name))
            self._orders = {key: order for key, order in self._orders.items() if key == epoch - 1}
            self._orders[epoch] = torch.randperm(self.num_rows, generator=generator).tolist()
        return self._orders[epoch]


class JointBatches:
    """
    A batch sampler that yields lists of `SampleIndex`. `world_size` consecutive batches, one per rank, have the same data set,
    because Accelerate distributes batches over the ranks in turn.

    num_rows: number of rows of each data set.
    batch_sizes: samples per rank and batch of each data set.
    weights: relative number of batches of each data set.

    The number of batches of an epoch of the run is the sum over the data sets of the batches of one epoch. If the weights are
    proportional to these numbers, each sample is used once per epoch on average. The epochs of a data set do not start with
    those of the run.
    """

    def __init__(
        self,
        num_rows: dict[str, int],
        batch_sizes: dict[str, int],
        weights: dict[str, float],
        seed: int,
        world_size: int = 1,
    ):
        self.weights, self.seed, self.world_size, self.epoch = weights, seed, world_size, 0
        self.batch_sizes = batch_sizes
        self.rows = {name: ShuffledRows(name, number, seed) for name, number in num_rows.items()}
        self.num_steps = count_batches(num_rows, batch_sizes, world_size)

    def __len__(self) -> int:
        return self.num_steps * self.world_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        taken = dict.fromkeys(self.weights, 0)  # batches per rank of each data set since the start of the run
        for epoch in range(self.epoch):
            for name in draw_names(self.weights, self.seed, epoch, self.num_steps):
                taken[name] += 1
        for name in draw_names(self.weights, self.seed, self.epoch, self.num_steps):
            size = self.batch_sizes[name]
            start = taken[name] * size * self.world_size
            for rank in range(self.world_size):
                yield self.rows[name][start + rank * size : start + (rank + 1) * size]
            taken[name] += 1


def count_batches(num_rows: dict[str, int], batch_sizes: dict[str, int], world_size: int) -> int:
    """
    The number of batches per rank in an epoch of a joint run.

    >>> count_batches({"kinetics": 100, "imagenet": 50}, {"kinetics": 4, "imagenet": 16}, world_size=2)
    15
    """
    return sum(-(-num_rows[name] // (batch_sizes[name] * world_size)) for name in num_rows)


class JointClips(Dataset):
    """
    The samples of several data sets, for a `JointBatches` sampler.

    clips: name of a data set to its clips or images. The random parameters of a sample depend on the epoch of its data set.
    """

    def __init__(self, clips: dict[str, ClipDataset]):
        self.clips = clips

    def __len__(self) -> int:
        return sum(map(len, self.clips.values()))

    def slowest_files(self, number: int) -> list[tuple[str, float]]:
        """As `ClipDataset.slowest_files`."""
        found = [each for clips in self.clips.values() for each in clips.slowest_files(number)]
        return sorted(found, key=lambda each: -each[1])[:number]

    def __getitem__(self, index: SampleIndex) -> dict[str, Any]:
        return {**self.clips[index.name].read_row(index.row, index.epoch), "head": index.name}


class NamedClips(Dataset):
    """The samples of one data set with the name of its head, for evaluation."""

    def __init__(self, name: str, clips: ClipDataset):
        self.name, self.clips = name, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.clips[index], "head": self.name}


class JointCollator:
    """
    Collates samples of one data set to a batch with the name of its head:
    `{"pixel_values_videos" or "pixel_values", "labels", "head"}`.

    augment: name of a data set to the augmentation of its batches, see `ClipCollator`; `None` for no augmentation.
    keep_seeds: see `ClipCollator`.
    """

    def __init__(self, augment: dict[str, BatchAugmentation] | None = None, keep_seeds: bool = False):
        self.augment, self.keep_seeds = augment or {}, keep_seeds

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        name = samples[0]["head"]
        collate = ClipCollator(self.augment.get(name), self.keep_seeds)
        return {**collate(samples), "head": name}
