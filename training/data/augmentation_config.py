# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
How strongly training changes the pixels and labels of clips. The defaults are the paper's (table 10) where it says something:
random crops and RandAugment(2, 10). It does not say on which scale 10 is; torchvision's goes to 30.
"""

from dataclasses import dataclass

from ..options import option
from .class_names import flip_pairs, has_left_right


FLIPS = ("auto", "on", "off", "swap_labels")


@dataclass
class AugmentationConfig:
    """Strength of each augmentation; 0 leaves it out."""

    rrc_scale_min: float = option(
        0.25, "smallest share of a frame's area that a random crop takes; 1 for the whole frame"
    )
    rrc_ratio_max: float = option(4 / 3, "largest ratio of the sides of a random crop")
    flip: str = option("auto", "mirror half of the clips: on, off, swap_labels (left and right change places in the label "
                                "too), or auto: off where a class names a side, else on")  # fmt: skip
    min_temporal_span: float | None = option(
        None,
        "of clips without fps: a clip spans a random share of the video, at least this, and its frames are equally far "
        "apart, to within a frame (default: a random frame of each of num_frames equal parts, TSN)",
    )
    rand_augment_layers: int = option(2, "operations of RandAugment per clip")
    rand_augment_magnitude: int = option(10, "their strength, 0 to 30 as torchvision counts")
    random_erasing_prob: float = option(0.0, "share of clips in which a rectangle is erased")
    mixup_alpha: float = option(0.0, "mixup: both parameters of the beta distribution of the weights")
    cutmix_alpha: float = option(0.0, "CutMix likewise; with mixup as well, every batch draws one of them")
    mixup_prob: float = option(1.0, "share of batches that are mixed")
    label_smoothing: float = option(0.0, "how much of a label is spread over all classes")

    def __post_init__(self):
        for name in ("random_erasing_prob", "mixup_prob", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("rand_augment_layers", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if not 0 < self.rrc_scale_min <= 1:
            raise ValueError(f"rrc_scale_min must be above 0 and at most 1, got {self.rrc_scale_min}.")
        if self.min_temporal_span is not None and not 0 < self.min_temporal_span <= 1:
            raise ValueError(f"min_temporal_span must be above 0 and at most 1, got {self.min_temporal_span}.")
        if self.rrc_ratio_max < 1:
            raise ValueError(f"rrc_ratio_max must be at least 1, got {self.rrc_ratio_max}.")
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
        flip = "off" if has_left_right(class_names) else "on"
    if flip == "off":
        return None
    return flip_pairs(class_names) if flip == "swap_labels" else {}
