# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Which model is trained, and what a clip is.
"""

from dataclasses import dataclass, field
from typing import Literal

from ..options import as_mapping, check_at_least, option


@dataclass
class ModelConfig:
    """The model: a size of TubeViT by name, or a checkpoint to start from."""

    model_name_or_path: str | None = option(
        None, "a TubeViT, an image model that becomes one, or any other video classifier: folder or name on the Hub"
    )
    preset: str | None = option(None, "a TubeViT with random weights: tiny, small, base, large or huge")
    model_config: dict | str | None = field(
        default=None, metadata={"help": "fields of the model's configuration, as a mapping or JSON"}
    )
    model_revision: str = option("main", "branch, tag or commit on the Hub")
    trust_remote_code: bool = option(False, "run code that a checkpoint on the Hub brings along")
    attn_implementation: str | None = option(
        None, "eager, sdpa, flash_attention_2, ... (default: the library's choice)"
    )
    ignore_mismatched_sizes: bool = option(
        False, "where the checkpoint's classes are not those of the data, start with a new classifier"
    )
    drop_path_rate: float | None = option(
        None, "stochastic depth: share of residual branches left out in the last layer"
    )
    num_frozen_layers: int | None = option(None, "layers from the start that are not trained, with the tokenizer")
    tube_checkpoint: str | None = option(
        None, "a small TubeViT whose tubes the large image model takes over (image-to-video scaling, section 3.6)"
    )
    lora_rank: int = option(
        0, "train low-rank adapters of this rank and the classifier alone (needs peft); 0 for none"
    )
    lora_alpha: float | None = option(None, "their scale (default: twice the rank)")
    lora_target_modules: str = option("all-linear", "names of the layers that get adapters, separated by commas")

    def __post_init__(self):
        if (self.model_name_or_path is None) == (self.preset is None):
            raise ValueError("Give model_name_or_path, a checkpoint to start from, or preset, a size; not both.")
        self.model_config = as_mapping(self.model_config, "model_config")
        check_at_least(self, 0, "lora_rank", "num_frozen_layers")
        if self.tube_checkpoint is not None and self.model_name_or_path is None:
            raise ValueError("tube_checkpoint needs model_name_or_path, the large image model.")
        if self.drop_path_rate is not None and not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate must be at least 0 and below 1, got {self.drop_path_rate}.")


@dataclass
class ClipConfig:
    """
    How clips are sampled and resized; saved with the model's processor, so that inference samples clips the same way.

    Options that are not given are those of the checkpoint's own processor.
    """

    num_frames: int | None = option(None, "frames of a clip (default: the checkpoint's)")
    fps: float | None = option(
        None, "frames per second of a clip; sets sampling=fixed_rate (default: the checkpoint's)"
    )
    sampling: Literal["uniform", "fixed_rate"] | None = option(
        None,
        "uniform: frames spread over the whole video (TSN); fixed_rate: consecutive frames at fps (default: the checkpoint's, "
        "uniform for a new model)",
    )
    image_size: int | None = option(None, "height and width of a frame in pixels (default: the checkpoint's)")
    short_side: int | None = option(
        None, "shorter side in pixels that frames are resized to before they are cropped (default: image_size)"
    )
    fit: Literal["crop", "squeeze"] | None = option(
        None,
        "of frames that are not square, crop: crop views; squeeze: resize the whole frame to a square (default: the "
        "checkpoint's, crop for a new model)",
    )
    pad_mode: Literal["loop", "last", "error"] | None = option(
        None,
        "how to pad a clip longer than its video: loop: start over; last: repeat the last frame; error: refuse the video "
        "(default: the checkpoint's, loop for a new model)",
    )

    def __post_init__(self):
        check_at_least(self, 1, "num_frames", "image_size", "short_side")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps must be above 0, got {self.fps}.")
        if self.fps is not None and self.sampling == "uniform":
            raise ValueError(f"fps={self.fps:g} has no use with sampling=uniform; leave out one of them.")
        if self.short_side is not None and self.image_size is not None and self.short_side < self.image_size:
            raise ValueError(f"short_side={self.short_side} is smaller than the crop, image_size={self.image_size}.")
