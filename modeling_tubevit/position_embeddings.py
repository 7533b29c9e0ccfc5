# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Position embeddings of the tokens (section 3.3, table 7a).

The position embedding of TubeViT is fixed (eqs. 3 to 7): sine and cosine of each token's center in the clip. The center
follows from the tube's stride, offset and kernel size, so clips of any length and size have positions without interpolation.
Eq. 3 literally reads `w_j = 1 / tau^j`, which is numerically zero from the second frequency on; we read it as the usual `w_j =
tau^(-j / (d // 6))`. The other kinds exist for comparison and for image checkpoints.
"""

import math

import torch
from torch import nn

from .compile_utils import constant_tables
from .configuration_tubevit import TubeViTConfig
from .transferred_positions import TubeViTTransferredPositions
from .tubes import AXES, Centers, Size, Tube


def sincos_position_embedding(
    centers: Centers, dim: int, temperature: float, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """
    Position embedding of the tokens of one tube.

    centers: of the tokens, in frames, rows and columns (`Tube.centers`). dim: number of channels.

    Channel `6 j + k` contains, for k = 0..5, `sin(t w_j), cos(t w_j), sin(x w_j), cos(x w_j), sin(y w_j), cos(y w_j)` with
    (t, y, x) the center in frames, rows and columns (eq. 7). The remaining `dim % 6` channels are zero.

    Returns `(tokens, dim)` in float64 (float32 on devices without float64), tokens in (time, height, width) order.
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
    The paper's position embedding: sine and cosine of every token's center.

    Tables are cached per shape outside of the model: checkpoints do not contain them, and casting a model does not change
    their precision.
    """

    uses_grid_index = False

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.table_settings = (self.uses_grid_index, config.hidden_size, float(config.position_temperature))

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> torch.Tensor:
        """
        tubes: the tubes that tokenize a clip of `size` = (frames, height, width), as they are applied.
        indices: indices of these tubes in the config.
        tokens: `(batch, tokens, hidden_size)`, tube by tube.

        Returns `(tokens, hidden_size)` on the device and in the dtype of `tokens`.
        """
        return _fixed_table(tokens, self, size, tokens.device, tokens.dtype, *tubes)


class TubeViTFixedPositionsWithoutStride(TubeViTFixedPositions):
    """Sine and cosine of a token's index in its tube's grid; stride, offset and kernel size have no effect."""

    uses_grid_index = True


@constant_tables(max_cached=32)
def _fixed_table(
    settings: tuple[bool, int, float], size: Size, device: torch.device, dtype: torch.dtype, *tubes: Tube
) -> torch.Tensor:
    """`sincos_position_embedding` of the tokens, tube by tube, `(tokens, dim)`."""
    uses_grid_index, dim, temperature = settings
    tables = []
    for tube in tubes:
        if uses_grid_index:
            frames, rows, columns = ([float(index) for index in range(count)] for count in tube.grid(size))
            centers = frames, rows, columns
        else:
            centers = tube.centers(size)
        tables.append(sincos_position_embedding(centers, dim, temperature, device))
    return torch.cat(tables).to(dtype)


class TubeViTLearnedPositions(nn.Module):
    """
    A learned vector for each token of the configured clip.

    For clips of other sizes the grid of each tube is resized trilinearly. A grid of one frame, such as that of an image, uses
    the table's first frame.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        size = (config.num_frames, *config.image_height_width)
        self.grids = [tube.grid(size) for tube in config.get_tubes()]
        for index, grid in enumerate(self.grids):
            self.register_parameter(f"table_{index}", nn.Parameter(torch.empty(math.prod(grid), config.hidden_size)))

    @property
    def tables(self) -> list[nn.Parameter]:
        """One per tube, `(tokens, hidden_size)`; a tube that does not fit the configured clip has a table without rows."""
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
                f"Tube {index} has no learned positions: it does not fit the configured clip (num_frames, image_size). "
                "position_embedding='fixed' takes clips of any size."
            )
        table = table.unflatten(0, own_grid)
        if grid[0] == 1:
            table = table[:1]
        table = table.permute(3, 0, 1, 2)[None]
        resized = nn.functional.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        return resized[0].flatten(1).T


class TubeViTRelativePositions(nn.Module):
    """
    A learned bias on the attention scores, which depends only on the displacement between the centers of two tokens.

    The paper does not define its relative positions (table 7a). Ours have a table per axis with a value for each head and
    displacement; the bias of a query and a key is the sum over time, height and width. The bias per displacement follows Swin and
    T5, the sum over axes MViTv2. As in T5, all layers share the tables. Centers are those of the fixed positions,
    multiples of half a frame or pixel. A displacement larger than the configured clip uses the value of the largest displacement in it.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.table_settings = ()
        for axis, extent in zip(AXES, (config.num_frames, *config.image_height_width), strict=True):
            num_displacements = 4 * (extent - 1) + 1  # in steps of 1/2, in both directions
            self.register_parameter(axis, nn.Parameter(torch.empty(config.num_attention_heads, num_displacements)))

    @property
    def tables(self) -> list[nn.Parameter]:
        """For frames, rows and columns, `(heads, displacements)`; displacement 0 is in the middle."""
        return [getattr(self, axis) for axis in AXES]

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> None:
        """Adds nothing to the tokens."""
        return None

    def attention_bias(
        self, tubes: tuple[Tube, ...], size: Size, tokens: torch.Tensor, num_prefix_tokens: int
    ) -> torch.Tensor:
        """
        tubes, size: as in `TubeViTFixedPositions`. tokens: `(batch, tokens, hidden_size)` with the prefix tokens, whose bias is 0.

        Returns `(1, heads, tokens, tokens)`, queries before keys, in the dtype of the tables.
        """
        centers = _doubled_centers(tokens, self, size, tokens.device, *tubes)
        bias = tokens.new_zeros(())
        for table, positions in zip(self.tables, centers, strict=True):
            largest = table.shape[1] // 2
            displacements = (positions[:, None] - positions[None, :]).clamp(-largest, largest)
            bias = bias + table[:, displacements + largest]
        return nn.functional.pad(bias, (num_prefix_tokens, 0, num_prefix_tokens, 0))[None]


@constant_tables(max_cached=32)
def _doubled_centers(settings: tuple[()], size: Size, device: torch.device, *tubes: Tube) -> torch.Tensor:
    """Twice the centers of all tokens, tube by tube, in frames, rows and columns: whole numbers `(3, tokens)`."""
    centers = []
    for tube in tubes:
        axes = [torch.tensor(axis, dtype=torch.float32, device=device) for axis in tube.centers(size)]
        centers.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1))
    return (2 * torch.cat(centers, dim=1)).round().long()


class TubeViTNoPositions(nn.Module):
    """No position embedding."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()

    def forward(self, tubes: tuple[Tube, ...], indices: list[int], size: Size, tokens: torch.Tensor) -> None:
        return None


POSITION_CLASSES = {
    "fixed": TubeViTFixedPositions,
    "fixed_without_stride": TubeViTFixedPositionsWithoutStride,
    "learned": TubeViTLearnedPositions,
    "relative": TubeViTRelativePositions,
    "none": TubeViTNoPositions,
    "transfer": TubeViTTransferredPositions,
}
