# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Rotary spatial positions as DINOv3 has them, at the centres of tubes, for checkpoints of that family.

A head's channels turn in pairs, half of the pairs by angles that grow with the row, half with the column. Time does not
turn them: DINOv3 has no such axis, and TubeViT's temporal code is added to the tokens.
"""

import math
from functools import lru_cache

import torch
from torch import nn

from .compile_utils import is_eager_tensor, needs_static_shapes, static_size
from .configuration_tubevit import TubeViTConfig
from .transferred_positions import patch_coordinates
from .tubes import Size, Tube


def rotary_angles(
    centers: tuple, size: Size, patch: tuple[int, int] | None, head_dim: int, theta: float
) -> torch.Tensor:
    """
    Angles by which queries and keys of one tube's tokens turn, from their `centers` (`Tube.centers`) in a clip of `size` =
    (frames, height, width).

    With y and x the centre's place in the frame, from -1 to 1 over its whole patches, the angles are `2 pi y w_j` and then
    `2 pi x w_j` for `w_j = theta^(-4 j / head_dim)`, and all of them once more for the second half of the head.

    Returns `(tokens, head_dim)` in float64, tokens in (time, height, width) order.
    """
    frequencies = theta ** -(torch.arange(head_dim // 4, dtype=torch.float64) * 4 / head_dim)
    grid = [len(axis) for axis in centers]

    def along(axis: int) -> torch.Tensor:
        coordinates, count = patch_coordinates(centers[axis], size[axis], patch and patch[axis - 1])
        places = 2 * torch.tensor(coordinates, dtype=torch.float64) / count - 1
        return 2 * math.pi * places[:, None] * frequencies

    rows = along(1)[None, :, None].expand(*grid, -1)
    columns = along(2)[None, None].expand(*grid, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 2).tile(2)


class TubeViTRotaryPositions(nn.Module):
    """Cosine and sine of the angles of all tokens, kept for the shapes seen last like the fixed table. No weights."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.theta = float(config.rope_theta)
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.patch = config.get_patch_size()
        self.num_prefix_tokens = config.num_prefix_tokens

    def forward(self, tubes: tuple[Tube, ...], size: Size, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        tubes: those that a clip of `size` = (frames, height, width) is tokenized with, as they are applied.
        tokens: `(batch, prefix + tokens, hidden_size)`. CLS and register tokens do not turn.

        Returns cosine and sine, each `(prefix + tokens, head_dim)` on the device and in the dtype of `tokens`.
        """
        make = _cached_tables if is_eager_tensor(tokens) else _constant_tables if needs_static_shapes() else _tables
        size = static_size(size)
        # Plain numbers, which torch.compile takes as constants.
        centers = tuple(tuple(map(tuple, tube.centers(size))) for tube in tubes)
        return make(
            centers, size, self.patch, self.head_dim, self.theta, self.num_prefix_tokens, tokens.device, tokens.dtype
        )


def _tables(centers, size: Size, patch, head_dim: int, theta: float, num_prefix: int, device, dtype):
    angles = [torch.zeros(num_prefix, head_dim, dtype=torch.float64)]
    angles += [rotary_angles(axes, size, patch, head_dim, theta) for axes in centers]
    angles = torch.cat(angles)
    return angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)


@torch.compiler.assume_constant_result
def _constant_tables(*settings):
    return _tables(*settings)


@lru_cache(maxsize=32)
def _cached_tables(*settings):
    with torch.inference_mode(False):  # a table first made in inference mode could not be used in training
        return _tables(*settings)
