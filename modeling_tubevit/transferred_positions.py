# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The spatial positions of an image checkpoint at the centers of tubes: `position_embedding="transfer"`.

Learned positions are a grid with one vector per patch. The grid is stretched over the frame and interpolated at every tube's
spatial center, as the checkpoint's own code does at other image sizes. Rotary positions (DINOv3) rotate queries and keys in
every layer. Image checkpoints have no temporal positions, so the temporal channels of the fixed code (eq. 7) minus their value
at t = 0 are added to the tokens, times `config.temporal_position_scale`. The first frame, and with it every image, therefore has
exactly the checkpoint's positions.
"""

import math

import torch
from torch import nn

from .compile_utils import constant_tables
from .configuration_tubevit import TubeViTConfig
from .tubes import Centers, Size, Tube


def patch_coordinates(centers: list[float], extent: int, patch: int) -> tuple[list[float], int]:
    """
    Coordinates of centers along an axis in units of patches: `i + 0.5` is the middle of patch `i`.

    centers: indices of rows or columns, as from `Tube.centers`. extent: number of rows or columns of the frame. patch:
    rows or columns of a patch; a larger patch is as large as the frame.

    Returns the coordinates and the number of whole patches. Pixels after the last whole patch are outside of the grid, as
    they are in the source model.
    """
    patch = min(patch, extent)
    return [(2 * center + 1) / (2 * patch) for center in centers], extent // patch


def position_patch(config: TubeViTConfig) -> tuple[int, int]:
    """Rows and columns of the patch in which positions are counted: the 2D tube's kernel, without a 2D tube the first tube's kernel."""
    _, rows, columns = config.get_tubes()[0].kernel_size
    return config.get_patch_size() or (rows, columns)


def interpolation_weights(coordinates: list[float], count: int, points: int, mode: str) -> torch.Tensor:
    """
    Interpolation weights `(coordinates, points)` in float64, for one axis of a grid of `points` stretched over `count`
    patches.

    At the middles of patches these are the weights of `torch.nn.functional.interpolate(size=count, align_corners=False)`:
    mode "bicubic", or "bicubic" and "bilinear" with `antialias=True` for "bicubic_antialias" and "bilinear_antialias". At
    other coordinates the same formulas apply. If there are as many points as patches, a middle has one weight of exactly 1.
    """
    scale = points / count
    weights = torch.zeros(len(coordinates), points, dtype=torch.float64)
    for row, coordinate in enumerate(coordinates):
        center = min(max(coordinate * points / count, 0.0), float(points))
        for point, weight in _taps(center, scale, points, mode):
            weights[row, point] += weight
    return weights


def _taps(center: float, scale: float, points: int, mode: str) -> list[tuple[int, float]]:
    """The grid points near `center` (the middle of point `j` is `j + 0.5`) and their weights, which sum to 1."""
    if mode == "bicubic":  # four points; points beyond the border are clamped to it
        first = math.floor(center - 0.5) - 1
        return [
            (min(max(j, 0), points - 1), _cubic(center - 0.5 - j, sharpness=-0.75)) for j in range(first, first + 4)
        ]
    stretch = max(scale, 1.0)  # antialiasing: the filter is as wide as the spacing of the output
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
    The temporal channels of the fixed code (`sincos_position_embedding`) minus their value at t = 0. centers: in frames.

    Returns `(frames, dim)` in float64: `sin(t w_j)` and `cos(t w_j) - 1` in the channels `6 j` and `6 j + 1`, zero elsewhere.
    """
    num_frequencies = dim // 6
    frequencies = temperature ** -(torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    angles = torch.tensor(centers, dtype=torch.float64)[:, None] * frequencies
    groups = torch.stack((angles.sin(), angles.cos() - 1), dim=-1)
    return nn.functional.pad(nn.functional.pad(groups, (0, 4)).flatten(1), (0, dim - 6 * num_frequencies))


def interpolate_grid(grid: torch.Tensor, rows: torch.Tensor | None, columns: torch.Tensor | None) -> torch.Tensor:
    """
    A learned grid `(grid rows, grid columns, hidden_size)` at a tube's rows and columns, `(rows, columns, hidden_size)`.

    rows: weights `(rows, grid rows)`, or `None` if they are the grid's own rows, whose values are then copied without
        rounding. columns: weights `(columns, grid columns)` or `None`.
    """
    device = "cpu" if grid.device.type == "meta" else grid.device.type  # autocast has no meta device
    with torch.autocast(device, enabled=False):  # autocast would compute these products in half precision
        grid = grid.to(torch.promote_types(grid.dtype, torch.float32))
        if rows is not None:
            grid = torch.einsum("nr,rcd->ncd", rows.to(grid.dtype), grid)
        if columns is not None:
            grid = torch.einsum("nc,rcd->rnd", columns.to(grid.dtype), grid)
    return grid


class TubeViTTransferredPositions(nn.Module):
    """
    An image checkpoint's learned positions at the tubes' centers, plus the temporal code.

    grid: `(1, rows * columns, hidden_size)` with `config.position_grid` = (rows, columns). It is `None` for a checkpoint with
    rotary positions, which every layer applies (`TubeViTRotaryPositions`); this module then adds only the temporal code.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.grid_shape: tuple[int, int] | None = None
        self.grid = None
        if config.position_grid is not None:
            rows, columns = config.position_grid
            self.grid_shape = rows, columns
            self.grid = nn.Parameter(torch.empty(1, rows * columns, config.hidden_size))
        self.table_settings = (
            *(position_patch(config), self.grid_shape, config.position_interpolation),
            *(config.hidden_size, float(config.position_temperature), float(config.temporal_position_scale)),
        )

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """As in `TubeViTFixedPositions`; `(tokens, hidden_size)` in the dtype of `tokens`."""
        return torch.cat([self._tube_positions(tube, size, tokens) for tube in tubes]).to(tokens.dtype)

    def _tube_positions(self, tube: Tube, size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """The positions of one tube's tokens, `(tokens, hidden_size)`."""
        time, rows, columns = _transfer_tables(tokens, self, size, tokens.device, tube)
        _, num_rows, num_columns = tube.grid(size)
        positions = time[:, None, None].expand(-1, num_rows, num_columns, -1)
        if self.grid is not None and self.grid_shape is not None:
            positions = positions + interpolate_grid(self.grid.reshape(*self.grid_shape, -1), rows, columns)
        return positions.flatten(0, 2)


@constant_tables(max_cached=64)
def _transfer_tables(
    settings: tuple[tuple[int, int], tuple[int, int] | None, str, int, float, float],
    size: Size,
    device: torch.device,
    tube: Tube,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The temporal code `(frames, dim)`, and the weights of rows and of columns; `None` if they are the grid's own."""
    patch, grid_shape, mode, dim, temperature, scale = settings
    # Devices without float64 use float32: the code is added to tokens of at most that precision.
    dtype = torch.float64 if device.type in ("cpu", "cuda") else torch.float32
    centers = tube.centers(size)

    def weights(axis: int) -> torch.Tensor | None:
        if grid_shape is None:
            return None
        points = grid_shape[axis]
        coordinates, count = patch_coordinates(centers[axis + 1], size[axis + 1], patch[axis])
        if count == points and coordinates == [index + 0.5 for index in range(points)]:
            return None
        return interpolation_weights(coordinates, count, points, mode).to(device, dtype)

    return (scale * temporal_code(centers[0], dim, temperature)).to(device, dtype), weights(0), weights(1)


def rotary_angles(centers: Centers, size: Size, patch: tuple[int, int], head_dim: int, theta: float) -> torch.Tensor:
    """
    Rotation angles of the queries and keys of one tube's tokens, as DINOv3 has them.

    centers: of the tokens (`Tube.centers`) in a clip of `size` = (frames, height, width). patch: (rows, columns) of a patch.

    With y and x the center's coordinates, from -1 to 1 over the whole patches of the frame, the angles are `2 pi y w_j`
    followed by `2 pi x w_j` for `w_j = theta^(-4 j / head_dim)`, and the same again for the second half of the head. Time has
    no angles: DINOv3 has no time axis, and TubeViT's temporal code is added to the tokens.

    Returns `(tokens, head_dim)` in float64, tokens in (time, height, width) order.
    """
    frequencies = theta ** -(torch.arange(head_dim // 4, dtype=torch.float64) * 4 / head_dim)
    grid = [len(axis) for axis in centers]

    def angles(axis: int) -> torch.Tensor:
        coordinates, count = patch_coordinates(centers[axis], size[axis], patch[axis - 1])
        scaled = 2 * torch.tensor(coordinates, dtype=torch.float64) / count - 1
        return 2 * math.pi * scaled[:, None] * frequencies

    rows = angles(1)[None, :, None].expand(*grid, -1)
    columns = angles(2)[None, None].expand(*grid, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 2).tile(2)


class TubeViTRotaryPositions(nn.Module):
    """Cosine and sine of the rotation angles of all tokens. It has no weights; tables are cached per shape."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        if config.rope_theta is None:
            raise ValueError("TubeViTRotaryPositions needs config.rope_theta, which is None.")
        head_dim = config.hidden_size // config.num_attention_heads
        self.table_settings = (
            *(position_patch(config), head_dim, float(config.rope_theta)),
            config.num_prefix_tokens,
        )

    def forward(self, tubes: tuple[Tube, ...], size: Size, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        tubes: the tubes that tokenize a clip of `size` = (frames, height, width), as they are applied.
        tokens: `(batch, prefix + tokens, hidden_size)`. CLS and register tokens are not rotated.

        Returns cosine and sine, each `(prefix + tokens, head_dim)` on the device and in the dtype of `tokens`.
        """
        return _rotary_tables(tokens, self, size, tokens.device, tokens.dtype, *tubes)


@constant_tables(max_cached=32)
def _rotary_tables(
    settings: tuple[tuple[int, int], int, float, int],
    size: Size,
    device: torch.device,
    dtype: torch.dtype,
    *tubes: Tube,
) -> tuple[torch.Tensor, torch.Tensor]:
    patch, head_dim, theta, num_prefix_tokens = settings
    prefix = torch.zeros(num_prefix_tokens, head_dim, dtype=torch.float64)
    rotated = [rotary_angles(tube.centers(size), size, patch, head_dim, theta) for tube in tubes]
    angles = torch.cat([prefix, *rotated])
    return angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)
