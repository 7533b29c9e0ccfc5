# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Augmentation of clips and labels in training: random-resized crop, horizontal flip, RandAugment, random erasing, mixup, CutMix
and label smoothing. The operations are torchvision's, with the same random parameters for all frames of a clip. Pixels stay
uint8.

Defaults follow the paper (table 10) where it gives a value: random crops and RandAugment(2, 10). The paper does not give
the scale of the magnitude 10; torchvision's scale is 0 to 30.

Crop and flip are applied while a clip is read (`clip_sampling`). The other augmentations are applied to a batch
(`BatchAugmentation`), in the collator or on the GPU, because RandAugment takes several times the CPU time of reading a clip.
Random parameters are the same in the collator and on the GPU.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torchvision.transforms import v2

from ..option_types import AT_LEAST_0, FRACTION, Range, check_ranges, option
from .class_names import flip_pairs, has_left_right
from .rng import fork_rng, sample_seed


FRAMES_AT_ONCE = 8  # frames of each clip that mixup converts to float at a time
IGNORED_LABEL = -100  # label of a video that could not be read; the loss ignores it

FLIPS = ("auto", "on", "off", "swap_labels")
RAND_AUGMENT_MAX_MAGNITUDE = 30  # the largest magnitude of torchvision
ABOVE_0_TO_1 = Range(0, 1, exclusive=("minimum",))


@dataclass
class AugmentationConfig:
    """Strength of each augmentation; 0 turns it off."""

    rrc_scale_min: Annotated[float, ABOVE_0_TO_1] = option(
        0.25, "random-resized crop: smallest area as a fraction of the frame's; 1 = whole frame"
    )
    rrc_ratio_max: Annotated[float, Range(1)] = option(
        4 / 3,
        "random-resized crop: largest factor by which a clip is stretched; 1 = the crop has the proportions of the model's "
        "frames, and all shapes keep theirs",
    )
    flip: Literal["auto", "on", "off", "swap_labels"] = option(
        "auto",
        "horizontal flip of half of the clips: on; off; swap_labels (a label with left or right becomes the label of the "
        "opposite side); auto (off if a class name contains left or right, else on)",
    )
    min_temporal_span: Annotated[float, ABOVE_0_TO_1] | None = option(
        None,
        "clips without fps: take evenly spaced frames of a random part of the video, whose length is at least this fraction "
        "of the video (default: a random frame of each of num_frames equal segments, TSN)",
    )
    rand_augment_layers: Annotated[int, AT_LEAST_0] = option(2, "RandAugment: operations per clip")
    rand_augment_magnitude: Annotated[int, Range(0, RAND_AUGMENT_MAX_MAGNITUDE)] = option(
        10, "RandAugment: strength of the operations, on torchvision's scale"
    )
    random_erasing_prob: Annotated[float, FRACTION] = option(0.0, "probability that a rectangle of a clip is erased")
    mixup_alpha: Annotated[float, AT_LEAST_0] = option(
        0.0, "mixup: both parameters of the beta distribution of mixing weights"
    )
    cutmix_alpha: Annotated[float, AT_LEAST_0] = option(
        0.0,
        "CutMix: both parameters of the beta distribution of area fractions; if mixup_alpha is also above 0, each batch "
        "uses mixup or CutMix at random",
    )
    mixup_prob: Annotated[float, FRACTION] = option(1.0, "probability that mixup or CutMix is applied to a batch")
    label_smoothing: Annotated[float, FRACTION] = option(
        0.0, "fraction of a label that is spread evenly over all classes"
    )

    def __post_init__(self):
        check_ranges(self)
        if self.flip not in FLIPS:
            raise ValueError(f"flip must be one of {', '.join(FLIPS)}, got {self.flip!r}.")

    @property
    def has_soft_labels(self) -> bool:
        """Whether labels become class probabilities."""
        return bool(self.mixup_alpha or self.cutmix_alpha or self.label_smoothing)


def flipped_labels(flip: str, class_names: list[str]) -> dict[int, int] | None:
    """
    Class index to the class index of the flipped clip, for classes where the two differ; `None` if clips are not flipped.

    Something-Something V2 has three left-right pairs of classes, so "auto" does not flip its clips.
    """
    if flip == "auto":
        flip = "off" if has_left_right(class_names) else "on"
    if flip == "off":
        return None
    return flip_pairs(class_names) if flip == "swap_labels" else {}


class ClipAugmentation:
    """
    RandAugment and random erasing of a clip, uint8 `(frames, channels, height, width)`.

    fill: color, 0 to 255 per channel, of erased pixels and of pixels that a rotation or translation uncovers.
    """

    def __init__(self, config: AugmentationConfig, fill: list[int]):
        self.transforms = []
        if config.rand_augment_layers:
            self.transforms.append(
                v2.RandAugment(
                    config.rand_augment_layers,
                    config.rand_augment_magnitude,
                    fill=fill,
                    interpolation=v2.InterpolationMode.NEAREST,
                )
            )
        if config.random_erasing_prob:
            self.transforms.append(v2.RandomErasing(config.random_erasing_prob, value=fill))

    def __call__(self, clip: torch.Tensor, seed: int) -> torch.Tensor:
        # Crop and flip used `seed` itself: with the same random numbers, only flipped clips would be erased.
        with fork_rng(sample_seed(seed, 0, "augmentation")):
            for transform in self.transforms:
                clip = transform(clip)
        return clip


class BatchAugmentation:
    """
    RandAugment and random erasing of each clip, then mixup or CutMix between clips, and soft labels, on the device of the
    batch.

    A batch is `{"pixel_values_videos": uint8 (batch, frames, channels, height, width), "labels", "sample_seeds": (batch,)}`,
    or with `pixel_values` `(batch, channels, height, width)` for images. Labels are class indices `(batch,)` or multi-hot
    `(batch, num_classes)`; -100 marks a video that could not be read; it is neither augmented nor mixed. The result has no
    `sample_seeds`; its labels are float `(batch, num_classes)` if `config.has_soft_labels`.

    image_mean: mean color of the model's processor, from 0 to 1 per channel. Erased pixels get this color, which normalization
        maps to 0.
    """

    def __init__(self, config: AugmentationConfig, num_classes: int, multi_label: bool, image_mean: list[float]):
        self.config, self.num_classes, self.multi_label = config, num_classes, multi_label
        self.augment = ClipAugmentation(config, [round(255 * mean) for mean in image_mean])
        mixers = {"mixup_alpha": v2.MixUp, "cutmix_alpha": v2.CutMix}
        self.mixers = [make(alpha=getattr(config, name)) for name, make in mixers.items() if getattr(config, name)]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = dict(batch)
        seeds = batch.pop("sample_seeds").tolist()
        name = "pixel_values_videos" if "pixel_values_videos" in batch else "pixel_values"
        labels = batch["labels"]
        is_read = (labels != IGNORED_LABEL).reshape(len(labels), -1).all(dim=-1)
        if self.augment.transforms:
            pairs = zip(batch[name], seeds, is_read.tolist(), strict=True)
            batch[name] = torch.stack([self.augment(clip, seed) if read else clip for clip, seed, read in pairs])
        if self.config.has_soft_labels:
            labels = soften_labels(labels, self.num_classes, self.config.label_smoothing)
            read = is_read.nonzero().flatten()
            if self.mixers and len(read) > 1:
                batch[name], labels = self._mix(batch[name], labels, read, seeds)
            batch["labels"] = labels
        return batch

    def _mix(self, pixels: torch.Tensor, labels: torch.Tensor, read: torch.Tensor, seeds: list[int]):
        with fork_rng(sample_seed(0, 0, str(seeds))):
            if torch.rand(()) >= self.config.mixup_prob:
                return pixels, labels
            mixer = self.mixers[int(torch.randint(len(self.mixers), ()))]
            params = mixer.make_params([pixels])
        pixels, labels = pixels.clone(), labels.clone()
        pixels[read] = mix_pixels(pixels[read], mixer, params)
        chosen = labels[read]
        labels[read] = mixer.transform(chosen, {**params, "labels": chosen, "batch_size": len(chosen)})
        return pixels, labels


def soften_labels(labels: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """
    Labels as float `(batch, num_classes)`: `1 - smoothing` for the class plus `smoothing` spread evenly over all classes. For
    multi-hot labels, `smoothing` is spread over the two values 0 and 1 of each class. Rows of ignored labels are -100.
    """
    if labels.ndim == 1:
        ignored = (labels == IGNORED_LABEL)[:, None]
        soft = nn.functional.one_hot(labels.clamp(min=0), num_classes).float()
        soft = soft * (1 - smoothing) + smoothing / num_classes
    else:
        ignored = labels == IGNORED_LABEL
        soft = labels.float() * (1 - smoothing) + smoothing / 2
    return torch.where(ignored, float(IGNORED_LABEL), soft)


def mix_pixels(pixels: torch.Tensor, mixer: v2.MixUp | v2.CutMix, params: dict[str, Any]) -> torch.Tensor:
    """
    Mix each clip with the previous clip of the batch, uint8 `(batch, [frames,] channels, height, width)`.

    params: random parameters of the mixer, from `mixer.make_params`.

    torchvision mixes images, so frames are passed as channels: a few at a time, because floats take four bytes per value.
    """
    if pixels.ndim == 4:
        return _mix_images(pixels, mixer, params)
    mixed = torch.empty_like(pixels)
    for source, target in zip(pixels.split(FRAMES_AT_ONCE, 1), mixed.split(FRAMES_AT_ONCE, 1), strict=True):
        target.copy_(_mix_images(source.flatten(1, 2), mixer, params).view_as(target))
    return mixed


def _mix_images(images: torch.Tensor, mixer: v2.MixUp | v2.CutMix, params: dict[str, Any]) -> torch.Tensor:
    params = {**params, "labels": None, "batch_size": len(images)}
    return mixer.transform(images.float(), params).round_().to(torch.uint8)
