# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Frames of a clip side by side, with boxes, dimming or a heat map drawn on them.

Pixels that no tube reads are dimmed, which shows the sparsity of the tokenizer (section 3.2).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import rgb
from .tube_masks import Box, Size, boxes_read, read_mask, token_mask


LINE_PIXELS, LINE_OPACITY, MERGED_OPACITY, FILL_OPACITY = 2, 0.85, 0.45, 0.9
DIMMED_GRAY = 40  # the gray value of fully dimmed pixels
HEAT_OPACITY, PALENESS = 0.8, 0.65  # opacity of the colors over a frame, and of the gray frame below
GAP = 0.06  # between frames, in frame widths


def film_strip(
    clip: np.ndarray,
    frames: Sequence[int],
    tubes: Sequence[Any],
    colors: Sequence[str],
    size: Size,
    dimming: float,
    filled: Mapping[int, tuple[int, int, int]] | None = None,
    gap: float = GAP,
) -> np.ndarray:
    """
    The frames `frames` of a clip, dimmed where no tube reads them, with a box in the tube's color around each kernel
    application. Boxes of neighbors that space-to-depth merges into a token are fainter than that of the token's first
    application.

    clip: uint8 `(frames, height, width, 3)`, enlarged by an integer factor from `size`, the size to which the tubes are
        applied.
    dimming: of pixels that are not read, from 0 (none) to 1 (a uniform dark gray).
    filled: tokens to fill with their tube's color: position of the tube in `tubes` to the token's index in the tube's grid.

    Returns uint8 `(height, strip width, 3)`.
    """
    scale = clip.shape[1] // size[1]
    mask = enlarge(read_mask(tubes, size), scale)
    tokens = [(colors[index], token_mask(tubes[index], size, token)) for index, token in (filled or {}).items()]
    drawn = []
    for index in frames:
        dark = (clip[index] * (1 - dimming) + DIMMED_GRAY * dimming).astype(np.uint8)
        frame = np.where(mask[index][..., None], clip[index], dark)
        for color, pixels in tokens:
            blend(frame, enlarge(pixels[index][None], scale)[0], color, FILL_OPACITY)
        for tube, color in zip(tubes, colors, strict=True):
            for box in boxes_read(tube, size, index):
                _outline(frame, box, scale, color)
        drawn.append(frame)
    return side_by_side(drawn, gap)


def heat_strip(clip: np.ndarray, frames: Sequence[int], heat: np.ndarray, colormap: str, top: float) -> np.ndarray:
    """
    The frames `frames` of a clip in pale gray, under the colors of `heat`.

    clip: uint8 `(frames, height, width, 3)`, enlarged by an integer factor from the size of `heat`.
    heat: `(frames, height, width)`, values from 0 to `top` for matplotlib's `colormap`; a pixel with NaN is not colored.

    Returns uint8 `(height, strip width, 3)`.
    """
    from matplotlib import colormaps

    scale = clip.shape[1] // heat.shape[1]
    drawn = []
    for index in frames:
        gray = clip[index].mean(-1, keepdims=True).repeat(3, axis=-1) * (1 - PALENESS) + 255 * PALENESS
        values = enlarge(heat[index][None], scale)[0]
        colors = 255 * colormaps[colormap](np.nan_to_num(values / top).clip(0, 1))[..., :3]
        covered = gray * (1 - HEAT_OPACITY) + colors * HEAT_OPACITY
        drawn.append(np.where(np.isnan(values)[..., None], gray, covered).astype(np.uint8))
    return side_by_side(drawn)


def side_by_side(pictures: Sequence[np.ndarray], gap: float = GAP) -> np.ndarray:
    """Pictures uint8 `(height, width, 3)` of one size in a row `(height, row width, 3)`, with white gaps."""
    height, width = pictures[0].shape[:2]
    space = np.full((height, round(gap * width), 3), 255, np.uint8)
    pieces = [piece for picture in pictures for piece in (picture, space)]
    return np.concatenate(pieces[:-1], axis=1)


def some_frames(num_frames: int, most: int) -> np.ndarray:
    """Indices of at most `most` frames, evenly spaced, starting with the first frame."""
    shown = min(num_frames, most)
    return np.arange(shown) * num_frames // shown


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """`(frames, height, width, ...)` with each pixel repeated to a square of `scale` pixels."""
    return pixels if scale == 1 else pixels.repeat(scale, axis=1).repeat(scale, axis=2)


def blend(frame: np.ndarray, where: np.ndarray, color: str, opacity: float) -> None:
    """Blend `color` into the pixels `where` of a uint8 `frame` `(height, width, 3)`, in place."""
    frame[where] = (frame[where] * (1 - opacity) + np.array(rgb(color)) * opacity).astype(np.uint8)


def _outline(frame: np.ndarray, box: Box, scale: int, color: str) -> None:
    """Draw the inner edge of `box` into `frame`, which has `scale` times its pixels."""
    top, left, height, width = (edge * scale for edge in box[:4])
    window = frame[top : top + height, left : left + width]
    edge = np.ones(window.shape[:2], bool)
    edge[LINE_PIXELS:-LINE_PIXELS, LINE_PIXELS:-LINE_PIXELS] = False
    blend(window, edge, color, MERGED_OPACITY if box.is_merged else LINE_OPACITY)
