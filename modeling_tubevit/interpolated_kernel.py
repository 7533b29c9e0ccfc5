# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
One learned kernel for tubes of every shape (section 3.4, table 7e): resized tri-linearly, at run time.

The weights do not depend on the tubes, so kernels can be lengthened for longer clips without training, and resized ones are a
warm start for kernels of their own. Values are resized as they are: a kernel with twice the frames gives sums about twice as
large, which the paper does not speak of.
"""

import weakref

import torch
from torch import nn

from .compile_utils import has_storage
from .configuration_tubevit import TubeViTConfig
from .tubes import Size, Tube


def resize_kernel(weight: torch.Tensor, kernel_size: Size) -> torch.Tensor:
    """
    `(outputs, channels, t, h, w)` resized tri-linearly to `kernel_size`; pixel centres correspond, not corners.

    The same as `torch.nn.functional.interpolate(mode="trilinear")`, by a matrix product per axis, which has a deterministic
    backward pass on GPUs, too.
    """
    for axis, size in zip((2, 3, 4), kernel_size, strict=True):
        if weight.shape[axis] != size:
            matrix = torch.tensor(_linear_weights(weight.shape[axis], size), dtype=weight.dtype, device=weight.device)
            weight = (weight.transpose(axis, -1) @ matrix).transpose(axis, -1)
    return weight


def _linear_weights(old_size: int, new_size: int) -> list[list[float]]:
    """Weights `(old_size, new_size)` of linear interpolation along an axis, held at both ends."""
    weights = [[0.0] * new_size for _ in range(old_size)]
    for new in range(new_size):
        place = min(max((new + 0.5) * old_size / new_size - 0.5, 0.0), old_size - 1.0)
        low = min(int(place), max(old_size - 2, 0))
        weights[low][new] += 1 - (place - low)
        weights[min(low + 1, old_size - 1)][new] += place - low
    return weights


class TubeViTInterpolatedKernel(nn.Module):
    """
    The kernel that all 3D tubes share.

    weight: `(hidden_size, channels, *config.interpolated_kernel_size)`. bias: `(hidden_size,)`. A tube with space-to-depth,
    whose kernel makes `hidden_size / S` channels, takes the first `hidden_size / S` of them.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(config.hidden_size, config.num_channels, *config.interpolated_kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(config.hidden_size))
        self._kept: dict = {}

    def forward(self, tube: Tube) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight `(hidden_size / S, channels, *tube.kernel_size)` and bias `(hidden_size / S,)` for `tube`."""
        num_outputs = self.weight.shape[0] // tube.num_merged
        return self._resized(num_outputs, tube.kernel_size), self.bias[:num_outputs]

    def train(self, mode: bool = True) -> "TubeViTInterpolatedKernel":
        self._kept.clear()
        return super().train(mode)

    def _resized(self, num_outputs: int, kernel_size: Size) -> torch.Tensor:
        """
        The resized weight; in eval mode without gradients it is kept until the weights change.

        Changes are seen by the tensor's identity, its version, which counts in-place operations, and its place in memory.
        Writing through `weight.data` goes by all of them: call `train()` or `eval()` after it.
        """
        weight = self.weight
        needs_graph = torch.is_grad_enabled() and weight.requires_grad
        # An inference tensor does not count its changes.
        if self.training or needs_graph or not has_storage(weight) or weight.is_inference():
            return resize_kernel(weight[:num_outputs], kernel_size)
        state = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        owner, kept_state, resized = self._kept.get((num_outputs, kernel_size), (None, None, None))
        # A weak reference: an address is used again once the tensor that lay there is gone.
        if owner is None or owner() is not weight or kept_state != state:
            with torch.inference_mode(False):  # what is made in inference mode could not be used outside it
                resized = resize_kernel(weight.detach()[:num_outputs], kernel_size)
            self._kept[num_outputs, kernel_size] = (weakref.ref(weight), state, resized)
        return resized

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": {}}  # neither copies nor pickles take along what can be made again

    def extra_repr(self) -> str:
        hidden_size, num_channels, *kernel_size = self.weight.shape
        return f"{num_channels}, {hidden_size}, kernel_size={tuple(kernel_size)}"
