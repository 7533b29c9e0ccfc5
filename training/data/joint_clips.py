# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What a joint run's loaders read: samples of several data sets, each of which says whose it is, and batches of one of them."""

from typing import Any

from torch.utils.data import Dataset

from .augmentation import BatchAugmentation
from .clip_datasets import ClipCollator, ClipDataset
from .joint_datasets import SampleIndex


class JointClips(Dataset):
    """
    The samples of several data sets, for a `JointBatches` sampler.

    clips: name of a data set to its clips or images. What is drawn for a sample follows from its data set's own epoch.
    """

    def __init__(self, clips: dict[str, ClipDataset]):
        self.clips = clips

    def __len__(self) -> int:
        return sum(map(len, self.clips.values()))

    def __getitem__(self, index: SampleIndex) -> dict[str, Any]:
        return {**self.clips[index.name].read_row(index.row, index.epoch), "head": index.name}

    @property
    def num_bad(self) -> int:
        """Samples that could not be read so far, over all workers of this process."""
        return sum(clips.num_bad for clips in self.clips.values())


class NamedClips(Dataset):
    """The samples of one data set, to be scored on its head."""

    def __init__(self, name: str, clips: ClipDataset):
        self.name, self.clips = name, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.clips[index], "head": self.name}


class JointCollator:
    """
    Samples of one data set to a batch, which names its head: `{"pixel_values_videos" or "pixel_values", "labels", "head"}`.

    augment: of each data set, see `ClipCollator`; `None` for none.
    """

    def __init__(self, augment: dict[str, BatchAugmentation] | None = None, keep_seeds: bool = False):
        self.augment, self.keep_seeds = augment or {}, keep_seeds

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        name = samples[0]["head"]
        collate = ClipCollator(self.augment.get(name), self.keep_seeds)
        return {**collate(samples), "head": name}
