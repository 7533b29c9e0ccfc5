# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The positions of an image checkpoint, for the tokens of tubes: `position_embedding="transfer"`.

Space is the checkpoint's: its learned grid, one vector per patch, is stretched over the frame and read at every tube's
spatial centre, between its points as the checkpoint's own code reads it at other image sizes. Time is TubeViT's: the
temporal channels of the fixed code (eq. 7) less their value at t = 0. So the first frame, and with it every image, gets
the checkpoint's positions and nothing else.
"""

import math
from functools import lru_cache

import torch
from torch import nn

from .compile_utils import is_eager_tensor, needs_static_shapes, static_size
from .configuration_tubevit import TubeViTConfig
from .tubes import Size, Tube


def patch_coordinates(centers: list[float], extent: int, patch: int | None) -> tuple[list[float], int]:
    """
    Where centres lie along an axis that is cut into patches: `i + 0.5` is the middle of patch `i`.

    centers: indices of rows or columns, as from `Tube.centers`. extent: number of rows or columns of the frame. patch:
    rows or columns of a patch; `None` takes the frame as one patch.

    Returns the coordinates and the number of whole patches. What is left over behind the last whole patch is outside of the
    grid, as it is outside of the source model's image.
    """
    patch = extent if patch is None else min(patch, extent)
    return [(2 * center + 1) / (2 * patch) for center in centers], extent // patch


def interpolation_weights(coordinates: list[float], count: int, points: int, mode: str) -> torch.Tensor:
    """
    Weights of the `points` of one axis of a grid that is stretched over `count` patches, `(coordinates, points)` in float64.

    These are the weights of `torch.nn.functional.interpolate(size=count, align_corners=False)` with the `mode` "bicubic",
    and with `antialias=True` "bicubic_antialias" and "bilinear_antialias", wherever the coordinates are the patches'
    middles; and its formulas in between. With as many points as patches a middle gets one weight of exactly 1.
    """
    scale = points / count
    weights = torch.zeros(len(coordinates), points, dtype=torch.float64)
    for row, coordinate in enumerate(coordinates):
        center = min(max(coordinate * points / count, 0.0), float(points))
        for point, weight in _taps(center, scale, points, mode):
            weights[row, point] += weight
    return weights


def _taps(center: float, scale: float, points: int, mode: str) -> list[tuple[int, float]]:
    """The points around `center` (the middle of point `j` is `j + 0.5`) and their weights, which sum to 1."""
    if mode == "bicubic":  # four points, the outermost standing in for those beyond them
        first = math.floor(center - 0.5) - 1
        return [
            (min(max(j, 0), points - 1), _cubic(center - 0.5 - j, sharpness=-0.75)) for j in range(first, first + 4)
        ]
    stretch = max(scale, 1.0)  # a filter as wide as the spacing of what is read, against aliasing
    support = stretch * (2 if mode == "bicubic_antialias" else 1)
    nearby = range(max(int(center - support + 0.5), 0), min(int(center + support + 0.5), points))
    distances = [(j + 0.5 - center) / stretch for j in nearby]
    if mode == "bicubic_antialias":
        values = [_cubic(distance, sharpness=-0.5) for distance in distances]
    else:
        values = [max(1.0 - abs(distance), 0.0) for distance in distances]
    return [(j, value / sum(values)) for j, value in zip(nearby, values, strict=True)]


def _cubic(distance: float, sharpness: float) -> float:
    """Keys' cubic convolution kernel."""
    x, a = abs(distance), sharpness
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def temporal_code(centers: list[float], dim: int, temperature: float) -> torch.Tensor:
    """
    The temporal channels of the fixed code (`sincos_position_embedding`) less their value at t = 0, at `centers` in frames.

    Returns `(frames, dim)` in float64: `sin(t w_j)` and `cos(t w_j) - 1` in the channels `6 j` and `6 j + 1`, zero elsewhere.
    """
    num_frequencies = dim // 6
    frequencies = temperature ** -(torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    angles = torch.tensor(centers, dtype=torch.float64)[:, None] * frequencies
    groups = torch.stack((angles.sin(), angles.cos() - 1), dim=-1)
    return nn.functional.pad(nn.functional.pad(groups, (0, 4)).flatten(1), (0, dim - 6 * num_frequencies))


class TubeViTTransferredPositions(nn.Module):
    """
    An image checkpoint's learned positions at the tubes' centres, plus the temporal code.

    grid: `(1, rows * columns, hidden_size)` with `config.position_grid` = (rows, columns). A checkpoint with rotary positions
    has no grid; they are applied in every layer (`TubeViTRotaryPositions`), and only the temporal code is added here.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.temperature = float(config.position_temperature)
        self.interpolation = config.position_interpolation
        self.patch = config.get_patch_size()
        self.shape = config.position_grid
        self.grid = None
        if self.shape is not None:
            self.grid = nn.Parameter(torch.empty(1, math.prod(self.shape), config.hidden_size))

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """As in `TubeViTFixedPositions`; `(tokens, hidden_size)` in the dtype of `tokens`."""
        return torch.cat([self._of_tube(tube, size, tokens) for tube in tubes]).to(tokens.dtype)

    def _of_tube(self, tube: Tube, size: Size, tokens: torch.Tensor) -> torch.Tensor:
        size = static_size(size)
        centers = tuple(map(tuple, tube.centers(size)))
        settings = (size, self.patch, self.shape, self.interpolation, tokens.shape[-1], self.temperature)
        make = _cached_tables if is_eager_tensor(tokens) else _constant_tables if needs_static_shapes() else _tables
        time, rows, columns = make(centers, *map(_hashable, settings), tokens.device)
        positions = time[:, None, None].expand(-1, *map(len, centers[1:]), -1)
        if self.grid is not None:
            positions = positions + self._read(rows, columns)
        return positions.flatten(0, 2)

    def _read(self, rows: torch.Tensor | None, columns: torch.Tensor | None) -> torch.Tensor:
        """
        The grid at a tube's rows and columns, `(rows, columns, hidden_size)`.

        rows: weights `(rows, grid rows)`, or `None` for the grid's own rows, and columns likewise: those are the checkpoint's
            values as they are, with no product to round them.
        """
        grid = self.grid[0].unflatten(0, self.shape)
        device = "cpu" if grid.device.type == "meta" else grid.device.type  # autocast does not know the meta device
        with torch.autocast(device, enabled=False):  # which would take these products to half precision
            grid = grid.to(torch.promote_types(grid.dtype, torch.float32))
            if rows is not None:
                grid = torch.einsum("nr,rcd->ncd", rows.to(grid.dtype), grid)
            if columns is not None:
                grid = torch.einsum("nc,rcd->rnd", columns.to(grid.dtype), grid)
        return grid


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


def _tables(centers, size: Size, patch, shape, mode: str, dim: int, temperature: float, device: torch.device):
    """The temporal code `(frames, dim)`, and the weights of rows and of columns; `None` where these are the grid's own."""
    # Devices without float64 get float32; the code is added to tokens, so more digits than theirs are not needed.
    dtype = torch.float64 if device.type in ("cpu", "cuda") else torch.float32
    tables = [temporal_code(list(centers[0]), dim, temperature).to(device, dtype)]
    for axis in (0, 1):
        weights = None
        if shape is not None:
            coordinates, count = patch_coordinates(centers[axis + 1], size[axis + 1], patch and patch[axis])
            if coordinates != [index + 0.5 for index in range(shape[axis])] or count != shape[axis]:
                weights = interpolation_weights(coordinates, count, shape[axis], mode).to(device, dtype)
        tables.append(weights)
    return tables


@torch.compiler.assume_constant_result
def _constant_tables(*settings):
    return _tables(*settings)


@lru_cache(maxsize=64)
def _cached_tables(*settings):
    with torch.inference_mode(False):  # a table first made in inference mode could not be used in training
        return _tables(*settings)
