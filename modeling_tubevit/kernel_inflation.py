# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""3D tube kernels out of the patch kernel of an image model."""

import torch
from torch import nn

from .tubes import Size


TUBE_INITS = ("central", "average", "random")


def inflate_kernel(patch_kernel: torch.Tensor, kernel_size: Size, num_outputs: int, how: str) -> torch.Tensor:
    """
    A tube's kernel that starts from an image model's patch kernel.

    patch_kernel: `(hidden_size, channels, rows, columns)`. kernel_size: (frames, rows, columns) of the tube.
    num_outputs: channels that the tube's kernel makes. With space-to-depth these are `hidden_size / S`: the first ones are
        taken, so that the first of a token's S neighbours makes channels that mean what they meant.
    how: `"central"`, the patch kernel at the central frame (the later of two) and zero elsewhere; `"average"`, a share of
        1 / frames of it at every frame.

    In space the kernel is resized bilinearly, with antialiasing, and scaled by the ratio of the areas. Either way a clip of
    one colour gives the outputs that an image of it gives, and with the patch's own shape a still clip gives those of its frame.

    Returns `(num_outputs, channels, *kernel_size)` in the dtype of the patch kernel.
    """
    if how not in ("central", "average"):
        raise ValueError(f"A kernel is inflated as 'central' or 'average', got {how!r}.")
    frames, *shape = kernel_size
    kernel = patch_kernel[:num_outputs]
    if tuple(kernel.shape[2:]) != tuple(shape):
        area_ratio = (kernel.shape[2] * kernel.shape[3]) / (shape[0] * shape[1])
        precise = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
        resized = nn.functional.interpolate(
            precise, size=tuple(shape), mode="bilinear", align_corners=False, antialias=True
        )
        # Resizing keeps the level of values, but near the border not exactly their mean.
        totals = precise.sum(dim=(2, 3), keepdim=True) - resized.sum(dim=(2, 3), keepdim=True) * area_ratio
        kernel = (resized * area_ratio + totals / (shape[0] * shape[1])).to(patch_kernel.dtype)
    if how == "average":
        return (kernel / frames)[:, :, None].repeat(1, 1, frames, 1, 1)
    inflated = kernel.new_zeros(*kernel.shape[:2], frames, *shape)
    inflated[:, :, frames // 2] = kernel
    return inflated
