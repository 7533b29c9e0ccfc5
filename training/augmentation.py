# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What training does to the pixels and labels of clips: random-resized crop, mirroring, RandAugment, random erasing, mixup,
CutMix, label smoothing. The operations are torchvision's; a draw holds for all frames of a clip. Pixels stay uint8.

Crop and mirroring happen while a clip is read (`clip_readers`), the rest to a finished batch (`BatchAugmentation`): in the
collator, or on the GPU, where RandAugment of 64 frames costs a millisecond instead of a second. The draws are the same.
The paper augments by random crops, RandAugment(2, 10) and, on Something-Something, mixup 0.3 (table 10).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from .class_names import mirrored_classes, names_a_side
from .sample_seeds import draws_from, sample_seed


FLIPS = ("auto", "on", "off", "swap_labels")
FRAMES_AT_ONCE = 8  # that mixup turns into floats, of every clip of a batch
IGNORED_LABEL = -100  # of a video that could not be read; the loss leaves it out


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class AugmentationConfig:
    """Strength of each augmentation; 0 leaves it out."""

    crop_min_area: float = _option(
        0.25, "smallest share of a frame's area that a random crop takes; 1 for the whole frame"
    )
    crop_max_ratio: float = _option(4 / 3, "largest ratio of the sides of a random crop")
    flip: str = _option("auto", "mirror half of the clips: on, off, swap_labels (left and right change places in the label "
                                "too), or auto: off where a class names a side, else on")  # fmt: skip
    rand_augment_layers: int = _option(2, "operations of RandAugment per clip")
    rand_augment_magnitude: int = _option(10, "their strength, 0 to 30 as torchvision counts")
    erasing_probability: float = _option(0.0, "share of clips in which a rectangle is erased")
    mixup_alpha: float = _option(0.0, "mixup: both parameters of the beta distribution of the weights")
    cutmix_alpha: float = _option(0.0, "CutMix likewise; with mixup as well, every batch draws one of them")
    mix_probability: float = _option(1.0, "share of batches that are mixed")
    label_smoothing: float = _option(0.0, "how much of a label is spread over all classes")

    def __post_init__(self):
        for name in ("erasing_probability", "mix_probability", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("rand_augment_layers", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if not 0 < self.crop_min_area <= 1:
            raise ValueError(f"crop_min_area must be above 0 and at most 1, got {self.crop_min_area}.")
        if self.crop_max_ratio < 1:
            raise ValueError(f"crop_max_ratio must be at least 1, got {self.crop_max_ratio}.")
        if not 0 <= self.rand_augment_magnitude <= 30:
            raise ValueError(f"rand_augment_magnitude must be from 0 to 30, got {self.rand_augment_magnitude}.")
        if self.flip not in FLIPS:
            raise ValueError(f"flip must be one of {', '.join(FLIPS)}, got {self.flip!r}.")

    @property
    def has_soft_labels(self) -> bool:
        """Whether labels become probabilities."""
        return bool(self.mixup_alpha or self.cutmix_alpha or self.label_smoothing)


def flipped_labels(flip: str, class_names: list[str]) -> dict[int, int] | None:
    """
    How mirroring changes labels: class index to that of the mirrored clip, where it is another one; `None` for no mirroring.

    Something-Something has three such pairs, and "auto" leaves its clips as they are.
    """
    if flip == "auto":
        flip = "off" if names_a_side(class_names) else "on"
    if flip == "off":
        return None
    return mirrored_classes(class_names) if flip == "swap_labels" else {}


class ClipAugmentation:
    """RandAugment and random erasing of a clip, uint8 `(frames, channels, height, width)`; what is laid bare is `fill`."""

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
        if config.erasing_probability:
            self.transforms.append(v2.RandomErasing(config.erasing_probability, value=fill))

    def __call__(self, clip: torch.Tensor, seed: int) -> torch.Tensor:
        with draws_from(seed):
            for transform in self.transforms:
                clip = transform(clip)
        return clip


class BatchAugmentation:
    """
    RandAugment and erasing clip by clip, then mixup or CutMix between clips, and soft labels, on the device of the batch.

    A batch is `{"pixel_values_videos": uint8 (batch, frames, channels, height, width), "labels", "sample_seeds": (batch,)}`,
    or `pixel_values` `(batch, channels, height, width)` for images. Labels are class indices `(batch,)`, or multi-hot
    `(batch, num_classes)`; -100 marks a video that could not be read, which is neither changed nor mixed. The result has
    no `sample_seeds`, and labels are float `(batch, num_classes)` where mixing or smoothing is on.

    image_mean: of the model, per channel from 0 to 1; erased pixels take it, and are 0 once they are normalised.
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
        with draws_from(sample_seed(0, 0, str(seeds))):
            if torch.rand(()) >= self.config.mix_probability:
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
    Labels as float `(batch, num_classes)`: `1 - smoothing` for the class and `smoothing` spread evenly over all classes; for
    multi-hot labels, which are yes or no for each class, over the two. Rows of ignored labels are -100.
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
    Mix each clip with the one before it, uint8 `(batch, [frames,] channels, height, width)`, by a draw of the mixer.

    torchvision mixes images, so frames are handed over as channels, a few at a time: their floats take four bytes each.
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
