# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The clips and images of an experiment, in memory as uint8 tensors, and the batches and views that are cut out of them.

Everything random follows from a seed, the kind of batch and its number alone, so that models that are compared see the
same pixels in the same order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ..data.cached_clips import RandomClip
from ..data.rng import fork_rng, sample_seed
from .settings import MOTION, Data


Pair = tuple[torch.Tensor, torch.Tensor]
NUM_SAMPLED = 64  # clips, for statistics


@dataclass
class LabelledPixels:
    """
    pixels: uint8, of clips `(number, frames, channels, height, width)`, of images without the frames.
    labels: int64 `(number,)`, indices of `class_names`.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    class_names: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> "LabelledPixels":
        return LabelledPixels(self.pixels.to(device), self.labels.to(device), self.class_names)


@dataclass
class Pixels:
    """What an experiment trains on and is evaluated on, by kind."""

    train: dict[str, LabelledPixels]
    validation: dict[str, LabelledPixels]

    @property
    def num_classes(self) -> dict[str, int]:
        return {kind: len(split.class_names) for kind, split in self.train.items()}

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and deviation per channel of some training clips, of pixels between 0 and 1."""
        clips = self.train["video"].pixels
        sample = clips[:: max(1, len(clips) // NUM_SAMPLED)].float() / 255
        mean, deviation = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
        return [round(value, 4) for value in mean.tolist()], [round(value, 4) for value in deviation.tolist()]

    def to(self, device: str) -> "Pixels":
        return Pixels(
            {kind: split.to(device) for kind, split in self.train.items()},
            {kind: split.to(device) for kind, split in self.validation.items()},
        )


def load_pixels(data: Data, with_images: bool) -> Pixels:
    """
    Draw, or decode, all there is. The last set is kept, because runs that follow each other share it.

    Raises `ValueError` or `OSError`, in one line, for a source that cannot be used.
    """
    if data.source != MOTION and with_images:
        raise ValueError(f"{data.source} has no images beside its clips; only the made set has.")
    train, validation = _clips(data)
    pixels = Pixels({"video": train}, {"video": validation})
    if with_images:
        pixels.train["image"], pixels.validation["image"] = _made_images(data)
    return pixels


@lru_cache(maxsize=1)
def _clips(data: Data) -> tuple[LabelledPixels, LabelledPixels]:
    return _made_clips(data) if data.source == MOTION else _decoded_clips(data)


def _made_clips(data: Data) -> tuple[LabelledPixels, LabelledPixels]:
    from ..synthetic.motion_set import MotionSet

    frames, size = data.num_frames + data.extra_frames, data.image_size + data.extra_pixels
    train, validation = (
        MotionSet(data.task, data.level, split, number, frames, size, data.seed)
        for split, number in (("train", data.num_train), ("validation", data.num_validation))
    )
    return _all_drawn(train, "training clips"), _all_drawn(validation, "validation clips")


@lru_cache(maxsize=1)
def _made_images(data: Data) -> tuple[LabelledPixels, LabelledPixels]:
    from ..synthetic.motion_set import ShapeImages

    size = data.image_size + data.extra_pixels
    train, validation = (
        ShapeImages(data.level, split, number, size, data.seed)
        for split, number in (("train", data.num_images), ("validation", data.num_validation))
    )
    return _all_drawn(train, "training images"), _all_drawn(validation, "validation images")


def _all_drawn(dataset: Any, description: str) -> LabelledPixels:
    return LabelledPixels(dataset.draw_all(description), torch.tensor(dataset.labels), dataset.class_names)


def _decoded_clips(data: Data) -> tuple[LabelledPixels, LabelledPixels]:
    """The clips of a data set on disk: of training clips a margin is kept, validation clips are as the model sees them."""
    from ..data.video_datasets import DataConfig, load_video_dataset

    if data.validation is None:
        found = load_video_dataset(DataConfig(data=data.source))
    else:
        found = load_video_dataset(DataConfig(train_data=data.source, validation_data=data.validation))
    for note in found.notes:  # such as which clips are held out
        print(note)
    missing = [split for split in ("train", "validation") if split not in found.splits]
    if missing or found.media != "video" or found.multi_label:
        what = (
            f"no {missing[0]} split" if missing else "images" if found.media != "video" else "several labels per video"
        )
        raise ValueError(f"{data.source} has {what}; training and validation videos with one label each are needed.")
    train = _decode(data, found, "train", data.extra_frames, data.extra_pixels)
    return train, _decode(data, found, "validation", 0, 0)


def _decode(data: Data, found: Any, split: str, extra_frames: int, extra_pixels: int) -> LabelledPixels:
    from pathlib import Path

    from tubevit.processing import TubeViTVideoProcessor

    from ..data.cached_clips import decode_clips
    from ..data.formats.class_folders import LabelledClip

    rows, size = found.splits[split], data.image_size + extra_pixels
    unusable = [row["video_id"] for row in rows if row["label"] is None or not row["video"]["path"]]
    if unusable:
        raise ValueError(f"{split} videos need a label and a file of their own; {unusable[0]!r} has not.")
    processor = TubeViTVideoProcessor(
        num_frames=data.num_frames + extra_frames,
        size={"shortest_edge": data.image_size + data.extra_pixels},
        crop_size={"height": size, "width": size},
        do_rescale=False,
        do_normalize=False,
    )
    names = found.class_names
    clips = [LabelledClip(Path(row["video"]["path"]), names[row["label"]]) for row in rows]
    read, pixels, broken = decode_clips(clips, processor, f"{split} clips")
    if broken:
        clip, reason = broken[0]
        raise ValueError(
            f"{len(broken)} of {len(clips)} {split} videos cannot be read; the first: {clip.path}: {reason}"
        )
    return LabelledPixels(torch.stack(pixels), torch.tensor([names.index(clip.label) for clip in read]), names)


def batch_of(split: LabelledPixels, data: Data, kind: str, number: int, batch_size: int, seed: int) -> Pair:
    """
    Batch `number` of a kind: pixels as the model sees them, and labels. Every epoch has an order of its own, and
    batches run on over its end.
    """
    positions = torch.arange(number * batch_size, (number + 1) * batch_size)
    epochs, places = positions // len(split), positions % len(split)
    orders = {epoch: _order(len(split), kind, epoch, seed) for epoch in set(epochs.tolist())}
    chosen = torch.stack([orders[e][p] for e, p in zip(epochs.tolist(), places.tolist(), strict=True)])
    if not (data.extra_frames or data.extra_pixels or data.jitter):
        return split.pixels[chosen], split.labels[chosen]
    with fork_rng(sample_seed(seed, number, kind)):
        pixels = [_training_crop(data, kind)(split.pixels[index]) for index in chosen.tolist()]
    return torch.stack(pixels), split.labels[chosen]


def _order(length: int, kind: str, epoch: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sample_seed(seed, epoch, f"order of {kind}"))
    return torch.randperm(length, generator=generator)


def _training_crop(data: Data, kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if data.jitter and kind == "video":
        return RandomClip(data.num_frames, data.image_size)
    return lambda pixels: _random_crop(pixels, data)


def _random_crop(pixels: torch.Tensor, data: Data) -> torch.Tensor:
    """Frames that follow each other, of the size that a model sees, at a random time and place."""
    size = data.image_size
    top, left = (int(torch.randint(extent - size + 1, ())) for extent in pixels.shape[-2:])
    pixels = pixels[..., top : top + size, left : left + size]
    if pixels.dim() == 3:
        return pixels
    start = int(torch.randint(len(pixels) - data.num_frames + 1, ()))
    return pixels[start : start + data.num_frames]


def views_of(pixels: torch.Tensor, data: Data, views: Sequence[int] = (1, 1)) -> torch.Tensor:
    """
    Views of a batch of clips: `(batch, views, frames, channels, height, width)`, those of a time next to each other.

    views: how many in time, spread from the start to the end, and in space, spread from left to right. One is in the
    middle.
    """
    (frames, height, width), size = (pixels.shape[1], *pixels.shape[-2:]), data.image_size
    top = (height - size) // 2
    cuts = [
        pixels[:, start : start + data.num_frames, :, top : top + size, left : left + size]
        for start in _spread(frames - data.num_frames, views[0])
        for left in _spread(width - size, views[1])
    ]
    return torch.stack(cuts, dim=1)


def image_view_of(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """The middle of a batch of images."""
    top, left = ((extent - size) // 2 for extent in pixels.shape[-2:])
    return pixels[..., top : top + size, left : left + size]


def _spread(room: int, number: int) -> list[int]:
    """
    `number` places from 0 to `room`; a single one is in the middle.

    >>> _spread(16, 1), _spread(16, 3)
    ([8], [0, 8, 16])
    """
    return [room // 2] if number == 1 else [round(i * room / (number - 1)) for i in range(number)]
