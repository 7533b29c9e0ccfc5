# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Inflates the patch kernel of an image model to the kernels of 3D tubes."""

import torch
from torch import nn

from .tubes import Size


TUBE_INITS = ("central", "average", "random")


def inflate_kernel(patch_kernel: torch.Tensor, kernel_size: Size, num_outputs: int, how: str) -> torch.Tensor:
    """
    The initial kernel of a tube.

    patch_kernel: `(hidden_size, channels, rows, columns)`. kernel_size: (frames, rows, columns) of the tube.
    num_outputs: output channels of the tube's kernel, `hidden_size / S` with space-to-depth: the first channels of the patch
        kernel, so that the first of a token's S applications computes the same channels as the patch.
    how: `"central"`, the patch kernel at frame `frames // 2` and zero at the others; `"average"`, the patch
        kernel divided by the number of frames at every frame.

    Rows and columns are resized bilinearly with antialiasing and scaled by the ratio of the areas, so a clip of one color
    gives the outputs of an image of that color. If the tube has as many rows and columns as the patch, a static clip gives the
    outputs of its frame.

    Returns `(num_outputs, channels, *kernel_size)` in the dtype of the patch kernel.
    """
    if how not in ("central", "average"):
        raise ValueError(f"how must be 'central' or 'average', got {how!r}.")
    frames, *shape = kernel_size
    kernel = patch_kernel[:num_outputs]
    if tuple(kernel.shape[2:]) != tuple(shape):
        area_ratio = (kernel.shape[2] * kernel.shape[3]) / (shape[0] * shape[1])
        precise = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
        resized = nn.functional.interpolate(
            precise, size=tuple(shape), mode="bilinear", align_corners=False, antialias=True
        )
        # Resizing changes the sum slightly near the border: spread the difference evenly.
        totals = precise.sum(dim=(2, 3), keepdim=True) - resized.sum(dim=(2, 3), keepdim=True) * area_ratio
        kernel = (resized * area_ratio + totals / (shape[0] * shape[1])).to(patch_kernel.dtype)
    if how == "average":
        return (kernel / frames)[:, :, None].repeat(1, 1, frames, 1, 1)
    inflated = kernel.new_zeros(*kernel.shape[:2], frames, *shape)
    inflated[:, :, frames // 2] = kernel
    return inflated
