# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Operations of torchvision on uint8 clips in CPU memory, several times as fast and with the same results bit for bit.

torchvision converts each frame to float32 and computes the same coordinates for each. Here, values are looked up in tables of 256
entries, and the source pixels of an affine map are computed once for all frames.

`as_clip` marks a clip: torchvision's transforms and functionals then dispatch to the kernels of this module, or, for operations without
one, to those of videos (`torchvision.transforms.v2.functional.register_kernel`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode, functional
from torchvision.transforms.v2.functional import register_kernel


FRAMES_AT_ONCE = 8  # frames whose float32 copies stay in the CPU cache


class Clip(tv_tensors.Video):
    """uint8 clip `(..., channels, height, width)` in CPU memory; also an image."""


def as_clip(pixels: torch.Tensor) -> torch.Tensor:
    """A view as `Clip` of uint8 pixels in CPU memory; other tensors are returned as they are."""
    return pixels.as_subclass(Clip) if pixels.device.type == "cpu" and pixels.dtype == torch.uint8 else pixels


def map_values(clip: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`function(clip)`, for a function that computes each uint8 value of its result from the value at the same place."""
    if not isinstance(clip, Clip):
        return function(clip)
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    return _look_up(clip, function(values)).as_subclass(Clip)


def _look_up(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    translated = bytearray(pixels.as_subclass(torch.Tensor).contiguous().numpy()).translate(table.numpy().tobytes())
    return torch.frombuffer(translated, dtype=torch.uint8).view(pixels.shape)


@register_kernel(functional.adjust_brightness, Clip)
def adjust_brightness(clip: Clip, brightness_factor: float) -> torch.Tensor:
    return map_values(clip, lambda values: functional.adjust_brightness(values, brightness_factor))


@register_kernel(functional.rgb_to_grayscale, Clip)
def rgb_to_grayscale(clip: Clip, num_output_channels: int = 1) -> torch.Tensor:
    """torchvision has no kernel for videos, and its transforms return an input without a kernel unchanged."""
    return functional.rgb_to_grayscale(clip.as_subclass(torch.Tensor), num_output_channels).as_subclass(Clip)


@register_kernel(functional.solarize, Clip)
def solarize(clip: Clip, threshold: float) -> torch.Tensor:
    return map_values(clip, lambda values: functional.solarize(values, threshold))


@register_kernel(functional.autocontrast, Clip)
def autocontrast(clip: Clip) -> torch.Tensor:
    pixels = clip.as_subclass(torch.Tensor)
    planes = pixels.flatten(-2).flatten(0, -2)  # (frames * channels, height * width)
    values = torch.arange(256, dtype=torch.uint8).expand(len(planes), 256)
    limited = torch.minimum(torch.maximum(values, planes.amin(1, keepdim=True)), planes.amax(1, keepdim=True))
    tables = functional.autocontrast(limited.reshape(-1, 1, 16, 16)).flatten(1)
    pairs = zip(planes, tables, strict=True)
    return torch.stack([_look_up(plane, table) for plane, table in pairs]).view(pixels.shape).as_subclass(Clip)


@register_kernel(functional.adjust_sharpness, Clip)
def adjust_sharpness(clip: Clip, sharpness_factor: float) -> torch.Tensor:
    """
    torchvision's blurred pixel is `round((sum of 8 neighbors + 5 * pixel) / 13)`. Thirteenths are never close to a half, so the order of
    the sum does not matter.
    """
    if min(clip.shape[-2:]) <= 2:
        return clip
    pixels = clip.as_subclass(torch.Tensor)
    result = torch.empty_like(pixels)
    frames = zip(
        pixels.flatten(0, -4) if pixels.ndim > 3 else [pixels], result.view(-1, *pixels.shape[-3:]), strict=True
    )
    for frame, target in frames:
        values = frame.to(torch.float32)
        rows = (values[..., :-2] + values[..., 1:-1]).add_(values[..., 2:])
        blurred = (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :])
        inner = values[..., 1:-1, 1:-1]
        blurred.add_(inner, alpha=4).mul_(1 / 13).round_()
        inner.add_(blurred.sub_(inner), alpha=1.0 - sharpness_factor)
        target.copy_(values.clamp_(0, 255))
    return result.as_subclass(Clip)


def _register_map(operation: Callable) -> None:
    """Register a kernel for an affine map of torchvision, `affine` or `rotate`, which takes `interpolation` and `fill`."""

    @register_kernel(operation, Clip)
    def move_pixels(clip: Clip, *args: Any, interpolation: Any, fill: Any, **kwargs: Any) -> torch.Tensor:
        pixels, (height, width) = clip.as_subclass(torch.Tensor), clip.shape[-2:]
        fill = [float(each) for each in fill]
        if interpolation != InterpolationMode.NEAREST:
            frames = pixels.reshape(-1, *pixels.shape[-3:])
            moved = [
                operation(
                    each.reshape(1, -1, height, width),
                    *args,
                    interpolation=interpolation,
                    fill=fill * len(each),
                    **kwargs,
                )
                for each in frames.split(FRAMES_AT_ONCE)
            ]
            return (
                torch.cat([each.view(-1, *pixels.shape[-3:]) for each in moved]).view(pixels.shape).as_subclass(Clip)
            )
        positions = torch.arange(height * width, dtype=torch.float32).view(1, height, width)
        source = (
            operation(positions, *args, interpolation=interpolation, fill=[-1.0], **kwargs).flatten().long().numpy()
        )
        uncovered = np.flatnonzero(source < 0)
        source = np.maximum(source, 0)
        planes = pixels.flatten(-2).flatten(0, -2).numpy()
        result = np.empty_like(planes)
        for index, (plane, target) in enumerate(zip(planes, result, strict=True)):
            np.take(plane, source, out=target, mode="clip")  # "raise" would buffer the result
            target[uncovered] = fill[index % len(fill)]
        return torch.from_numpy(result).view(pixels.shape).as_subclass(Clip)


for _operation in (functional.affine, functional.rotate):
    _register_map(_operation)
