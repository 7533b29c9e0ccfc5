# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What is added to the tokens to say where they lie (section 3.3, table 7a).

The position embedding of TubeViT is fixed (eqs. 3 to 7): sine and cosine of each token's centre in the clip.

A token's position is the global centre of its tube application, so stride, offset and kernel shape are all accounted
for and clips of any length and size have positions without interpolation. Eq. 3 literally reads `w_j = 1 / tau^j`, which
is numerically zero from the second frequency on; we read it as the usual `w_j = tau^(-j / (d // 6))`. The other kinds are there to compare with it.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn

from .compile_utils import is_eager_tensor, needs_static_shapes
from .configuration_tubevit import TubeViTConfig
from .transferred_positions import TubeViTTransferredPositions
from .tubes import Size, Tube


Centers = tuple[list[float], list[float], list[float]]


def sincos_position_embedding(
    centers: Centers, dim: int, temperature: float, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """
    Position embedding of the tokens of one tube, from their `centers` in frames, rows and columns (`Tube.centers`).

    Channel `6 j + k` holds, for k = 0..5, `sin(t w_j), cos(t w_j), sin(x w_j), cos(x w_j), sin(y w_j), cos(y w_j)` with
    (t, y, x) the centre in frames, rows and columns (eq. 7). The `dim % 6` channels left over are zero.

    Returns `(tokens, dim)` in float64 (float32 on devices that lack it), tokens in (time, height, width) order.
    """
    dtype = torch.float64 if torch.device(device).type in ("cpu", "cuda") else torch.float32
    num_frequencies = dim // 6
    exponents = torch.arange(num_frequencies, dtype=dtype, device=device) / num_frequencies
    frequencies = temperature**-exponents

    def sincos(axis: list[float]) -> torch.Tensor:
        angles = torch.tensor(axis, dtype=dtype, device=device)[:, None] * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1)  # (positions, frequencies, 2)

    t, y, x = (sincos(axis) for axis in centers)
    grid = (t.shape[0], y.shape[0], x.shape[0], num_frequencies, 2)
    t = t[:, None, None].expand(grid)
    y = y[None, :, None].expand(grid)
    x = x[None, None, :].expand(grid)
    table = torch.cat((t, x, y), dim=-1).flatten(3).flatten(0, 2)  # groups of six per frequency
    return nn.functional.pad(table, (0, dim - 6 * num_frequencies))


class TubeViTFixedPositions(nn.Module):
    """
    The paper's: sine and cosine of every token's centre.

    Tables are kept for the shapes seen last, outside any model: they are in no checkpoint, and moving or casting a model
    cannot degrade them.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.temperature = float(config.position_temperature)

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """
        tubes: those that a clip of `size` = (frames, height, width) is tokenized with, as they are applied.
        indices: of these tubes in the config.
        tokens: `(batch, tokens, hidden_size)`, the tokens of each tube in turn.

        Returns `(tokens, hidden_size)` on the device and in the dtype of `tokens`.
        """
        return fixed_table(self.centers, tubes, size, tokens.shape[-1], self.temperature, tokens)

    @staticmethod
    def centers(tube: Tube, size: Size) -> Centers:
        return tube.centers(size)


class TubeViTFixedPositionsWithoutStride(TubeViTFixedPositions):
    """Sine and cosine of a token's index in its tube's grid, whatever stride, offset and kernel are."""

    @staticmethod
    def centers(tube: Tube, size: Size) -> Centers:
        return tuple([float(index) for index in range(count)] for count in tube.grid(size))


class TubeViTLearnedPositions(nn.Module):
    """
    A learned vector for each token of the configured clip.

    Clips of other sizes get each tube's grid resized tri-linearly; a grid of one frame, as of every image, gets its first.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        size = (config.num_frames, *config.image_height_width)
        self.grids = [tube.grid(size) for tube in config.get_tubes()]
        for index, grid in enumerate(self.grids):
            self.register_parameter(f"table_{index}", nn.Parameter(torch.empty(math.prod(grid), config.hidden_size)))

    @property
    def tables(self) -> list[nn.Parameter]:
        """One per tube, `(tokens, hidden_size)`; without rows where the tube does not fit the configured clip."""
        return [getattr(self, f"table_{index}") for index in range(len(self.grids))]

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """As in `TubeViTFixedPositions`. Raises `ValueError` for a tube that does not fit the configured clip."""
        tables = [self._table(index, tube.grid(size)) for index, tube in zip(indices, tubes, strict=True)]
        return torch.cat(tables).to(tokens.dtype)

    def _table(self, index: int, grid: Size) -> torch.Tensor:
        table, own_grid = self.tables[index], self.grids[index]
        if grid == own_grid:
            return table
        if not table.numel():
            raise ValueError(
                f"Tube {index} has no learned positions: it does not fit the clips that the model was made for. "
                "position_embedding='fixed' takes clips of any size."
            )
        table = table.unflatten(0, own_grid)
        if grid[0] == 1:
            table = table[:1]
        table = table.permute(3, 0, 1, 2)[None]
        resized = nn.functional.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        return resized[0].flatten(1).T


class TubeViTNoPositions(nn.Module):
    """Nothing: tokens know nothing of where they lie."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> None:
        return None


POSITION_CLASSES = {
    "fixed": TubeViTFixedPositions,
    "fixed_without_stride": TubeViTFixedPositionsWithoutStride,
    "learned": TubeViTLearnedPositions,
    "none": TubeViTNoPositions,
    "transfer": TubeViTTransferredPositions,
}


def fixed_table(
    centers_of: Callable[[Tube, Size], Centers],
    tubes: tuple[Tube, ...],
    size: Size,
    dim: int,
    temperature: float,
    like: torch.Tensor,
) -> torch.Tensor:
    """`sincos_position_embedding` of several tubes in turn, `(tokens, dim)`, on the device and in the dtype of `like`."""
    settings = (dim, temperature, like.device, like.dtype)
    if is_eager_tensor(like):
        return _cached_table(centers_of, tubes, size, *settings)
    make = _constant_table if needs_static_shapes() else _table
    return make(tuple(centers_of(tube, size) for tube in tubes), *settings)


def _table(
    centers: tuple[Centers, ...], dim: int, temperature: float, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    return torch.cat([sincos_position_embedding(axes, dim, temperature, device) for axes in centers]).to(dtype)


@torch.compiler.assume_constant_result
def _constant_table(*settings) -> torch.Tensor:
    return _table(*settings)


@lru_cache(maxsize=32)
def _cached_table(centers_of: Callable, tubes: tuple[Tube, ...], size: Size, *settings) -> torch.Tensor:
    with torch.inference_mode(False):  # a table first made in inference mode could not be used in training
        return _table(tuple(centers_of(tube, size) for tube in tubes), *settings)
