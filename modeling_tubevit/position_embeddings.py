# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The fixed position embedding of TubeViT (section 3.3, eqs. 3 to 7): sine and cosine of each token's centre in the clip.

A token's position is the global centre of its tube application, so stride, offset and kernel shape are all accounted
for and clips of any length and size have positions without interpolation. Eq. 3 literally reads `w_j = 1 / tau^j`, which
is numerically zero from the second frequency on; we read it as the usual `w_j = tau^(-j / (d // 6))`.
"""

from functools import lru_cache

import torch
from torch import nn

from .tubes import Size, Tube


def sincos_position_embedding(
    tube: Tube, size: Size, dim: int, temperature: float, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """
    Position embedding of one tube's tokens in a clip of `size` = (frames, height, width).

    Channel `6 j + k` holds, for k = 0..5, `sin(t w_j), cos(t w_j), sin(x w_j), cos(x w_j), sin(y w_j), cos(y w_j)` with
    (t, y, x) the centre in frames, rows and columns (eq. 7). The `dim % 6` channels left over are zero.

    Returns `(tokens, dim)` in float64 (float32 on devices that lack it), tokens in (time, height, width) order.
    """
    dtype = torch.float64 if torch.device(device).type in ("cpu", "cuda") else torch.float32
    num_frequencies = dim // 6
    exponents = torch.arange(num_frequencies, dtype=dtype, device=device) / num_frequencies
    frequencies = temperature**-exponents

    def sincos(centers: list[float]) -> torch.Tensor:
        angles = torch.tensor(centers, dtype=dtype, device=device)[:, None] * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1)  # (positions, frequencies, 2)

    t, y, x = (sincos(axis) for axis in tube.centers(size))
    grid = (t.shape[0], y.shape[0], x.shape[0], num_frequencies, 2)
    t = t[:, None, None].expand(grid)
    y = y[None, :, None].expand(grid)
    x = x[None, None, :].expand(grid)
    table = torch.cat((t, x, y), dim=-1).flatten(3).flatten(0, 2)  # groups of six per frequency
    return nn.functional.pad(table, (0, dim - 6 * num_frequencies))


def position_embedding(
    tubes: tuple[Tube, ...], size: Size, temperature: float, tokens: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """
    The position embeddings of all `tubes` in turn, `(tokens, hidden_size)`, on the device of `tokens`
    `(batch, tokens, hidden_size)` and in `dtype`, by default that of `tokens`.

    Tables are kept for the shapes seen last, outside any model: they are in no checkpoint, and moving or casting a
    model cannot degrade them.
    """
    # Under torch.compile and torch.export the table becomes part of the graph; fake and other special tensors must
    # not enter the cache, nor meet what is in it.
    cacheable = type(tokens) is torch.Tensor and not torch.compiler.is_compiling()
    compute = _cached_table if cacheable else _table
    return compute(tubes, size, tokens.shape[-1], temperature, tokens.device, dtype or tokens.dtype)


def _table(
    tubes: tuple[Tube, ...], size: Size, dim: int, temperature: float, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    return torch.cat([sincos_position_embedding(tube, size, dim, temperature, device) for tube in tubes]).to(dtype)


@lru_cache(maxsize=32)
def _cached_table(*shape) -> torch.Tensor:
    with torch.inference_mode(False):  # a table first made in inference mode could not be used in training
        return _table(*shape)
