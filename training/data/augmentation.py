# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What training does to the pixels and labels of clips: random-resized crop, mirroring, RandAugment, random erasing, mixup,
CutMix, label smoothing. The operations are torchvision's; a draw holds for all frames of a clip. Pixels stay uint8.

Crop and mirroring happen while a clip is read (`clip_sampling`), the rest to a finished batch (`BatchAugmentation`): in the
collator, or on the GPU: RandAugment takes a core several times as long as reading the clip. The draws are the same.
"""

from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from .augmentation_config import AugmentationConfig
from .rng import fork_rng, sample_seed


FRAMES_AT_ONCE = 8  # that mixup turns into floats, of every clip of a batch
IGNORED_LABEL = -100  # of a video that could not be read; the loss leaves it out


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
        if config.random_erasing_prob:
            self.transforms.append(v2.RandomErasing(config.random_erasing_prob, value=fill))

    def __call__(self, clip: torch.Tensor, seed: int) -> torch.Tensor:
        # Not `seed` itself, from which crop and mirroring were drawn: only mirrored clips would be erased.
        with fork_rng(sample_seed(seed, 0, "augmentation")):
            for transform in self.transforms:
                clip = transform(clip)
        return clip


class BatchAugmentation:
    """
    RandAugment and erasing clip by clip, then mixup or CutMix between clips, and soft labels, on the device of the batch.

    A batch is `{"pixel_values_videos": uint8 (batch, frames, channels, height, width), "labels", "sample_seeds": (batch,)}`,
    or `pixel_values` `(batch, channels, height, width)` for images. Labels are class indices `(batch,)`, or multi-hot
    `(batch, num_classes)`; -100 marks a video that could not be read, which is neither changed nor mixed. The result has
    no `rng`, and labels are float `(batch, num_classes)` where mixing or smoothing is on.

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
