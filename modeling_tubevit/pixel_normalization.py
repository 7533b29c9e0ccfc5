# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The check of clips and the normalization of raw pixels inside a model, for the model families that embed whole frames."""

import torch
from transformers import PreTrainedConfig

from .config_checks import FLOAT16_MAX, check_pixel_range


def check_clips(clips: torch.Tensor, num_channels: int) -> None:
    """Raise `ValueError` for clips that are not `(batch, frames, num_channels, height, width)`, and for a batch without pixels."""
    shape = tuple(clips.shape)
    if clips.dim() != 5 or shape[2] != num_channels:
        raise ValueError(
            f"pixel_values_videos must have the shape (batch, frames, {num_channels} channels, height, width), got {shape}."
        )
    if 0 in shape:
        raise ValueError(
            f"pixel_values_videos is empty: its shape is {shape} (batch, frames, channels, height, width)."
        )


def normalize_pixels(clips: torch.Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> torch.Tensor:
    """
    Raw pixels as `(pixel * rescale_factor - image_mean) / image_std` of the config, computed in at least float32; floats,
    which are normalized already, unchanged.

    clips: `(..., channels, height, width)`, uint8 or float.

    Returns a tensor of the same shape and of `dtype`. Raises `ValueError` for other integers, and for pixels beyond the range of float16.
    """
    if clips.is_floating_point():
        return clips.to(dtype)
    if clips.dtype != torch.uint8:
        raise ValueError(f"Clips must be float (normalized) or uint8 (raw pixels), got {clips.dtype}.")
    if dtype == torch.float16:
        check_pixel_range(config.image_mean, config.image_std, config.rescale_factor, FLOAT16_MAX)
    exact = torch.promote_types(dtype, torch.float32)  # bfloat16 would round the statistics to 3 digits
    mean, std = (
        torch.tensor(values, dtype=exact, device=clips.device)[:, None, None]
        for values in (config.image_mean, config.image_std)
    )
    return torch.addcmul(-mean / std, clips.to(exact), config.rescale_factor / std).to(dtype)
