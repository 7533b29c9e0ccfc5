# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
One learned kernel for tubes of every shape (section 3.4, table 7e), resized trilinearly at run time.

The weights do not depend on the tubes, so kernels can be lengthened for longer clips without training, and resized kernels
can initialize independent ones. Resizing does not rescale the values: a kernel with twice the frames gives outputs about
twice as large. The paper does not mention a correction, and there is none here.

Every forward pass resizes the kernel again, also in eval mode. A cache would need a sign that the weights have changed, and none is
reliable: `AdamW(fused=True)` and writes to `weight.data` change neither the data pointer nor the version counter.
"""

import torch
from torch import nn

from .configuration_tubevit import TubeViTConfig
from .tubes import Size, Tube


def resize_kernel(weight: torch.Tensor, kernel_size: Size) -> torch.Tensor:
    """
    Resize a kernel `(outputs, channels, t, h, w)` trilinearly to `kernel_size`, with `align_corners=False`.

    Equals `torch.nn.functional.interpolate(mode="trilinear")`. It uses a matrix product per axis, whose backward pass is
    deterministic on GPUs too.
    """
    for axis, size in zip((2, 3, 4), kernel_size, strict=True):
        if weight.shape[axis] != size:
            matrix = torch.tensor(_linear_weights(weight.shape[axis], size), dtype=weight.dtype, device=weight.device)
            weight = (weight.transpose(axis, -1) @ matrix).transpose(axis, -1)
    return weight


def _linear_weights(old_size: int, new_size: int) -> list[list[float]]:
    """Weights `(old_size, new_size)` of linear interpolation along an axis; positions beyond the ends are clamped."""
    weights = [[0.0] * new_size for _ in range(old_size)]
    for new in range(new_size):
        position = min(max((new + 0.5) * old_size / new_size - 0.5, 0.0), old_size - 1.0)
        low = min(int(position), max(old_size - 2, 0))
        weights[low][new] += 1 - (position - low)
        weights[min(low + 1, old_size - 1)][new] += position - low
    return weights


class TubeViTInterpolatedKernel(nn.Module):
    """
    The kernel that all 3D tubes share.

    weight: `(hidden_size, channels, *config.interpolated_kernel_size)`. bias: `(hidden_size,)`. A tube with space-to-depth
    needs `hidden_size / S` output channels and uses the first ones.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(config.hidden_size, config.num_channels, *config.interpolated_kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, tube: Tube) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight `(hidden_size / S, channels, *tube.kernel_size)` and bias `(hidden_size / S,)` for `tube`."""
        num_outputs = self.weight.shape[0] // tube.num_merged
        return resize_kernel(self.weight[:num_outputs], tube.kernel_size), self.bias[:num_outputs]

    def extra_repr(self) -> str:
        hidden_size, num_channels, *kernel_size = self.weight.shape
        return f"{num_channels}, {hidden_size}, kernel_size={tuple(kernel_size)}"
