# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Normalization of raw pixels inside a model, for the model families that embed whole frames."""

import torch
from transformers import PreTrainedConfig


def normalize_pixels(clips: torch.Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> torch.Tensor:
    """
    Raw pixels as `(pixel * rescale_factor - image_mean) / image_std` of the config; floats, which are normalized already, unchanged.

    clips: `(..., channels, height, width)`, uint8 or float.

    Returns a tensor of the same shape and of `dtype`. Raises `ValueError` for other integers.
    """
    if clips.is_floating_point():
        return clips.to(dtype)
    if clips.dtype != torch.uint8:
        raise ValueError(f"Clips must be float (normalized) or uint8 (raw pixels), got {clips.dtype}.")
    mean, std = (
        torch.tensor(values, dtype=dtype, device=clips.device)[:, None, None]
        for values in (config.image_mean, config.image_std)
    )
    return torch.addcmul(-mean / std, clips.to(dtype), config.rescale_factor / std)
