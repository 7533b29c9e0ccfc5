# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Augmentation of clips and labels in training: random crop, horizontal flip, color jitter, RandAugment, random erasing, mixup, CutMix
and label smoothing. The operations are torchvision's, with the same random parameters for all frames of a clip. Pixels stay
uint8.

Defaults follow the paper (table 10) where it gives a value: random crops and RandAugment(2, 10). The paper does not give
the scale of the magnitude 10; torchvision's scale is 0 to 30.

Crop and flip are applied while a clip is read (`clip_sampling`). The other augmentations are applied to a batch
(`BatchAugmentation`), in the collator or on the GPU, because RandAugment may take more CPU time than reading a clip. On the CPU,
`clip_kernels` computes the slow operations.
Random parameters are the same in the collator and on the GPU.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ..option_types import AT_LEAST_0, AT_LEAST_1, FRACTION, POSITIVE, Range, check_ranges, option
from .class_names import flip_pairs, has_left_right
from .clip_kernels import as_clip, map_values
from .rng import fork_rng, sample_seed


FRAMES_AT_ONCE = 8  # frames of each clip that mixup converts to float at a time
IGNORED_LABEL = -100  # label of a video that could not be read; the loss ignores it

FLIPS = ("auto", "on", "off", "swap_labels")
RAND_AUGMENT_MAX_MAGNITUDES = {"torchvision": 30, "timm": 10}  # of the operations of each library
ABOVE_0_TO_1 = Range(0, 1, exclusive=("minimum",))


@dataclass
class AugmentationConfig:
    """Strength of each augmentation; 0 turns it off."""

    rrc_scale_min: Annotated[float, ABOVE_0_TO_1] = option(
        0.25, "random-resized crop: smallest area as a fraction of the frame's; 1 = whole frame"
    )
    rrc_ratio_max: Annotated[float, Range(1)] = option(
        4 / 3,
        "random-resized crop: largest change of the aspect ratio, as a factor; 1 = the crop has the aspect ratio of the model's frames, so "
        "nothing is stretched",
    )
    flip: Literal["auto", "on", "off", "swap_labels"] = option(
        "auto",
        "horizontal flip of half of the clips: on; off; swap_labels (a label with left or right becomes the label of the "
        "opposite side); auto (off if a class name contains left or right, else on)",
    )
    scale_jitter_min: Annotated[float, POSITIVE] | None = option(
        None,
        "scale jitter: smallest factor by which height and width are resized at random, relative to short_side, before a crop at a random "
        "position; needs scale_jitter_max; replaces the random-resized crop",
    )
    scale_jitter_max: Annotated[float, POSITIVE] | None = option(
        None, "scale jitter: largest factor by which height and width are resized at random; needs scale_jitter_min"
    )
    augmentation_repeats: Annotated[int, AT_LEAST_1] = option(
        1,
        "augmented copies of each clip in a batch (repeated augmentation); the copies have the same frames, each with its own crop, flip "
        "and pixel augmentation; per_device_train_batch_size does not count them",
    )
    min_temporal_span: Annotated[float, ABOVE_0_TO_1] | None = option(
        None,
        "sampling=uniform: take evenly spaced frames of a random part of the video, whose length is at least this fraction "
        "of the video (default: a random frame of each of num_frames equal segments, TSN)",
    )
    color_jitter: Annotated[float, FRACTION] = option(
        0.0, "color jitter: brightness, contrast and saturation change by factors from 1 - x to 1 + x; 0 = off"
    )
    color_jitter_hue: Annotated[float, Range(0, 0.5)] = option(
        0.0, "color jitter: largest change of the hue, as a fraction of the color circle"
    )
    color_jitter_prob: Annotated[float, FRACTION] = option(1.0, "probability that the colors of a clip are jittered")
    grayscale_prob: Annotated[float, FRACTION] = option(0.0, "probability that a clip loses its colors")
    rand_augment_layers: Annotated[int, AT_LEAST_0] = option(2, "RandAugment: operations per clip")
    rand_augment_magnitude: Annotated[int, Range(0, RAND_AUGMENT_MAX_MAGNITUDES["torchvision"])] = option(
        10, "RandAugment: strength of the operations, at most 30 for those of torchvision and 10 for those of timm"
    )
    rand_augment_magnitude_std: Annotated[float, AT_LEAST_0] = option(
        0.0, "RandAugment with timm's operations: standard deviation of the magnitude of each operation (timm: mstd)"
    )
    rand_augment_space: Literal["torchvision", "timm"] = option(
        "torchvision",
        "RandAugment: operations and scale of the magnitude; torchvision: its 14 operations; timm: the 15 operations of "
        "rand-m9-inc1, each of which is applied with probability 0.5",
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
        if self.rand_augment_space not in RAND_AUGMENT_MAX_MAGNITUDES:
            spaces = ", ".join(RAND_AUGMENT_MAX_MAGNITUDES)
            raise ValueError(f"rand_augment_space must be one of {spaces}, got {self.rand_augment_space!r}.")
        limit = RAND_AUGMENT_MAX_MAGNITUDES[self.rand_augment_space]
        if self.rand_augment_layers and self.rand_augment_magnitude > limit:
            raise ValueError(
                f"rand_augment_magnitude must be at most {limit} with rand_augment_space={self.rand_augment_space}, got "
                f"{self.rand_augment_magnitude}."
            )
        if self.rand_augment_magnitude_std and self.rand_augment_space != "timm":
            raise ValueError(
                f"rand_augment_magnitude_std={self.rand_augment_magnitude_std:g} needs rand_augment_space=timm: torchvision's RandAugment "
                "has no random magnitude."
            )
        factors = (self.scale_jitter_min, self.scale_jitter_max)
        if (factors[0] is None) != (factors[1] is None):
            raise ValueError("scale_jitter_min and scale_jitter_max go together: give both.")
        if self.scale_jitter is not None and factors[0] > factors[1]:
            raise ValueError(f"scale_jitter_min={factors[0]:g} must be at most scale_jitter_max={factors[1]:g}.")

        self._check_effect()

    def _check_effect(self) -> None:
        """Raise `ValueError` for an option that another one switches off."""
        reasons = {
            "rrc_scale_min": self.scale_jitter is not None
            and "scale_jitter_min, which replaces the random-resized crop",
            "rrc_ratio_max": self.scale_jitter is not None
            and "scale_jitter_min, which replaces the random-resized crop",
            "color_jitter_prob": not (self.color_jitter or self.color_jitter_hue)
            and "color_jitter=0 and color_jitter_hue=0",
        }
        defaults = {each.name: each.default for each in fields(self)}
        for name, reason in reasons.items():
            value = getattr(self, name)
            if reason and value != defaults[name]:
                raise ValueError(f"{name}={value:g} has no effect with {reason}: leave out one of them.")

    @property
    def scale_jitter(self) -> tuple[float, float] | None:
        """Smallest and largest factor of scale jitter; `None` for a random-resized crop."""
        if self.scale_jitter_min is None or self.scale_jitter_max is None:
            return None
        return self.scale_jitter_min, self.scale_jitter_max

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


class TimmRandAugment:
    """
    timm's `rand-m{magnitude}-n{num_layers}-mstd{magnitude_std}-inc1` for a clip, uint8 `(frames, channels, height, width)`.

    Each of `num_layers` operations is chosen at random from 15, and applied with probability 0.5. Its magnitude is normally
    distributed and clipped to the range from 0 to 10. Rotations, shears and translations are bilinear; torchvision has no bicubic ones
    for tensors.

    fill: color, 0 to 255 per channel, of uncovered pixels.
    """

    def __init__(self, num_layers: int, magnitude: float, magnitude_std: float, fill: list[int]):
        self.num_layers, self.magnitude, self.magnitude_std, self.fill = num_layers, magnitude, magnitude_std, fill

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        names, limit = list(TIMM_OPERATIONS), RAND_AUGMENT_MAX_MAGNITUDES["timm"]
        for _ in range(self.num_layers):
            name = names[int(torch.randint(len(names), ()))]
            if torch.rand(()) >= 0.5:
                continue
            magnitude = self.magnitude + self.magnitude_std * float(torch.randn(()))
            clip = as_clip(TIMM_OPERATIONS[name](clip, min(max(magnitude, 0.0), limit) / limit, self.fill))
        return clip


def _random_sign(value: float) -> float:
    return value if torch.rand(()) < 0.5 else -value


def _enhance(adjust: Callable) -> Callable:
    """Multiply a property of the colors by 0.1 to 1.9."""
    return lambda clip, level, fill: adjust(clip, max(0.1, 1 + _random_sign(0.9 * level)))


def _warp(**parameters: Callable[[float, int, int], Any]) -> Callable:
    """An affine map. parameters: from (signed level, height, width) to arguments of torchvision's `affine`."""

    def apply(clip: torch.Tensor, level: float, fill: list[int]) -> torch.Tensor:
        level, identity = _random_sign(level), {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        given = {name: function(level, *clip.shape[-2:]) for name, function in parameters.items()}
        bilinear = v2.InterpolationMode.BILINEAR
        return functional.affine(clip, **{**identity, **given}, interpolation=bilinear, fill=fill)

    return apply


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


def _posterize(clip: torch.Tensor, level: float, fill: list[int]) -> torch.Tensor:
    """Keep the highest 4 to 0 bits."""
    return clip & (256 - 2 ** (4 + int(4 * level)))


def _solarize(clip: torch.Tensor, level: float, fill: list[int]) -> torch.Tensor:
    """Invert the pixels from a threshold of 256 to 0."""
    threshold = 256 - int(256 * level)
    return map_values(clip, lambda values: torch.where(values.to(torch.int16) >= threshold, 255 - values, values))


def _solarize_add(clip: torch.Tensor, level: float, fill: list[int]) -> torch.Tensor:
    """Add 0 to 110 to the darker half of the values."""
    return map_values(
        clip,
        lambda values: torch.where(
            values < 128, (values.to(torch.int16) + int(110 * level)).clamp(max=255), values
        ).to(torch.uint8),
    )


# Functions of (clip, level from 0 to 1, fill).
TIMM_OPERATIONS: dict[str, Callable[[torch.Tensor, float, list[int]], torch.Tensor]] = {
    "AutoContrast": lambda clip, level, fill: functional.autocontrast(clip),
    "Equalize": lambda clip, level, fill: functional.equalize(clip),
    "Invert": lambda clip, level, fill: functional.invert(clip),
    "Rotate": _warp(angle=lambda level, height, width: 30 * level),
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhance(functional.adjust_saturation),
    "ContrastIncreasing": _enhance(functional.adjust_contrast),
    "BrightnessIncreasing": _enhance(functional.adjust_brightness),
    "SharpnessIncreasing": _enhance(functional.adjust_sharpness),
    "ShearX": _warp(shear=lambda level, height, width: [_degrees(0.3 * level), 0.0]),
    "ShearY": _warp(shear=lambda level, height, width: [0.0, _degrees(0.3 * level)]),
    "TranslateXRel": _warp(translate=lambda level, height, width: [0.45 * level * width, 0]),
    "TranslateYRel": _warp(translate=lambda level, height, width: [0, 0.45 * level * height]),
}


class ClipAugmentation:
    """
    Color jitter, RandAugment and random erasing of a clip, uint8 `(frames, channels, height, width)`.

    fill: color, 0 to 255 per channel, of erased pixels and of pixels that a rotation or translation uncovers.
    """

    def __init__(self, config: AugmentationConfig, fill: list[int]):
        self.transforms: list[Callable[[torch.Tensor], torch.Tensor]] = []
        if config.color_jitter_prob and (config.color_jitter or config.color_jitter_hue):
            jitter = v2.ColorJitter(*[config.color_jitter] * 3, hue=config.color_jitter_hue)
            self.transforms.append(v2.RandomApply([jitter], p=config.color_jitter_prob))
        if config.grayscale_prob:
            self.transforms.append(v2.RandomGrayscale(config.grayscale_prob))
        if config.rand_augment_layers and config.rand_augment_space == "timm":
            settings = (config.rand_augment_layers, config.rand_augment_magnitude, config.rand_augment_magnitude_std)
            self.transforms.append(TimmRandAugment(*settings, fill))
        elif config.rand_augment_layers:
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
                clip = transform(as_clip(clip))
        return clip.as_subclass(torch.Tensor)


class BatchAugmentation:
    """
    Color jitter, RandAugment and random erasing of each clip, then mixup or CutMix between clips, and soft labels, on the device of the
    batch.

    A batch is `{"pixel_values_videos": uint8 (batch, frames, channels, height, width), "labels", "sample_seeds": (batch,)}`,
    or with `pixel_values` `(batch, channels, height, width)` for images. Labels are class indices `(batch,)` multi-hot
    `(batch, num_classes)`, or class indices of each label group `(batch, groups)`; -100 marks a video that could not be read; it is neither augmented nor mixed. The result has no
    `sample_seeds`; its labels are float `(batch, num_classes)` if `config.has_soft_labels`.

    image_mean: mean color of the model's processor, from 0 to 1 per channel. Erased pixels get this color, which normalization
        maps to 0.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        num_classes: int,
        multi_label: bool,
        image_mean: list[float],
        label_groups: Mapping[str, int] | None = None,
    ):
        self.config, self.num_classes, self.multi_label = config, num_classes, multi_label
        self.label_groups = label_groups or {}
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
            labels = soften_labels(labels, self.num_classes, self.config.label_smoothing, self.label_groups)
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


def soften_labels(
    labels: torch.Tensor, num_classes: int, smoothing: float, label_groups: Mapping[str, int] | None = None
) -> torch.Tensor:
    """
    Labels as float `(batch, num_classes)`: `1 - smoothing` for the class plus `smoothing` spread evenly over all classes. For
    multi-hot labels, `smoothing` is spread over the two values 0 and 1 of each class. With label groups it is spread over the classes of
    the group. Rows of ignored labels are -100.
    """
    if label_groups:
        groups, first = [], 0
        for size, label in zip(label_groups.values(), labels.unbind(dim=1), strict=True):
            within = torch.where(label == IGNORED_LABEL, label, label - first)
            groups.append(soften_labels(within, size, smoothing))
            first += size
        return torch.cat(groups, dim=1)
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
