# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Masks of the pixels that a tube's tokens read, for pictures (sections 3.2 and 3.4).

A kernel is applied at every combination of its offsets in time, rows and columns, and space-to-depth merges a block of
applications into a token. The pixels of a token are therefore the product of three sets of indices, one per axis. A clip of
one frame is an image. Sizes are (frames, height, width) in frames and pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


Size = tuple[int, int, int]


class Box(NamedTuple):
    """A kernel's rectangle on a frame, in pixels; `is_merged` if it is a neighbor that space-to-depth merges into a token."""

    top: int
    left: int
    height: int
    width: int
    is_merged: bool


def applied_tubes(config: Any, size: Size, tubes: Sequence[Any] | None = None) -> dict[int, Any]:
    """
    The tubes that tokenize a clip or image of `size`, by their index in the `TubeViTConfig`. 2D tubes are returned without
    their temporal offset for an image. tubes: of a model, which may have a token budget (default: those of the config). Raises
    `ValueError` for a size that is too small.
    """
    from tubevit.tubes import select_tubes

    tubes = dict(enumerate(config.get_tubes() if tubes is None or size[0] == 1 else tubes))
    if size[0] == 1:
        tubes = {index: tube.on_image() for index, tube in tubes.items() if tube.is_image_tube}
        if not tubes:
            raise ValueError("These tubes cannot take an image: none of them has a kernel that spans one frame.")
    return {index: tubes[index] for index in select_tubes(tubes, size, config.allow_missing_tubes)}


def application_masks(tube: Any, size: Size) -> list[np.ndarray]:
    """Pixels that each application of a `Tube`'s kernel reads: for each axis, bool `(applications along the axis, extent)`."""
    masks = []
    for extent, count, offset, stride, kernel in zip(
        size, tube.kernel_grid(size), tube.offset, tube.kernel_stride, tube.kernel_size, strict=True
    ):
        starts = offset + stride * np.arange(count)[:, None]
        indices = np.arange(extent)
        masks.append((indices >= starts) & (indices < starts + kernel))
    return masks


def token_masks(tube: Any, size: Size) -> list[np.ndarray]:
    """Pixels that each token of a `Tube` reads: for each axis, bool `(tokens along the axis, extent)`."""
    return [
        np.stack([mask[start : start + factor].any(0) for start in range(0, len(mask), factor)])
        for mask, factor in zip(application_masks(tube, size), tube.space_to_depth, strict=True)
    ]


def boxes_read(tube: Any, size: Size, frame: int) -> list[Box]:
    """Boxes that a `Tube` reads from a frame. `is_merged` is false for a box that is the first application of any token."""
    moments = np.flatnonzero(application_masks(tube, size)[0][:, frame])
    if not len(moments):
        return []
    per_token, (_, num_rows, num_columns) = tube.space_to_depth, tube.kernel_grid(size)
    is_late = bool((moments % per_token[0]).all())
    boxes = []
    for row, column in np.ndindex(num_rows, num_columns):
        top, left = (tube.offset[axis] + tube.kernel_stride[axis] * index for axis, index in ((1, row), (2, column)))
        is_merged = is_late or bool(row % per_token[1] or column % per_token[2])
        boxes.append(Box(top, left, *tube.kernel_size[1:], is_merged))
    return boxes


def read_mask(tubes: Any, size: Size) -> np.ndarray:
    """Pixels that at least one tube reads, bool `(frames, height, width)`."""
    mask = np.zeros(size, bool)
    for tube in tubes:
        time, rows, columns = (axis.any(0) for axis in token_masks(tube, size))
        mask |= time[:, None, None] & rows[:, None] & columns
    return mask


def token_mask(tube: Any, size: Size, token: tuple[int, int, int]) -> np.ndarray:
    """Pixels that one token reads, bool `(frames, height, width)`. token: its index in the tube's grid."""
    time, rows, columns = (axis[index] for axis, index in zip(token_masks(tube, size), token, strict=True))
    return time[:, None, None] & rows[:, None] & columns


def central_token(tube: Any, size: Size) -> tuple[int, int, int]:
    """Index of the token in the middle of the tube's grid."""
    return tuple(count // 2 for count in tube.grid(size))


def paint(tubes: Mapping[int, Any], values: Mapping[int, np.ndarray], size: Size) -> np.ndarray:
    """
    Values of tokens at the pixels that they read, `(frames, height, width)`: the mean if several tokens read a pixel, NaN if
    no token reads it.

    tubes, values: mappings with the same keys to a `Tube` and to its tokens' values `(time, rows, columns)`.
    """
    total, count = np.zeros(size), np.zeros(size)
    for key, tube in tubes.items():
        masks = [mask.astype(float) for mask in token_masks(tube, size)]
        total += np.einsum("tyx,tf,yr,xc->frc", values[key], *masks, optimize=True)
        time, rows, columns = (mask.sum(0) for mask in masks)
        count += time[:, None, None] * rows[:, None] * columns
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
