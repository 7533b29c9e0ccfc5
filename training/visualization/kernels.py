# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The learned kernels that read pixels (fig. 5): a grid of small images for 2D kernels, a row of frames per 3D kernel."""

from typing import Any

import numpy as np

from .canvas import FAINT_INK, MARGIN, MIN_WIDTH, WIDTH, Canvas, darken, dimensions, plural, tube_colors


ROWS, PATCH_COLUMNS = 8, 8  # kernels per column; for 2D kernels also per row
NUM_CHANNELS = 3
CELL, CELL_GAP = 0.3, 0.03  # inches
PANEL_GAP, PANEL_HEAD, HEAD = 0.45, 0.62, 0.95


def draw_kernels(model: Any) -> Any:
    """
    A matplotlib `Figure` of a model's kernels. A TubeViT has a panel for each tube, and an interpolated kernel is shown in the
    shape of each tube. Other models have a panel for their first convolution.

    The kernels with the largest standard deviation are shown. Each has its own scale: gray is 0, and its largest magnitude is
    black, white or a full color.

    Raises `ValueError` for a model without a convolution that reads pixels.
    """
    weights, is_interpolated = pixel_kernels(model)
    panels = []
    for weight, color in zip(weights, tube_colors(range(len(weights))), strict=True):
        shown = most_varied(weight, ROWS * PATCH_COLUMNS if weight.shape[2] == 1 else ROWS)
        panels.append((dimensions(weight.shape[2:]), color, kernel_pictures(shown), _note(weight, shown)))
    # Panels side by side, in as many lines as the width needs.
    places, left, line, right = [], MARGIN, 0, 0.0
    for _, _, pictures, _ in panels:
        width = _panel_width(pictures)
        if left > MARGIN and left + width > WIDTH - MARGIN:
            left, line = MARGIN, line + 1
        places.append((left, line))
        right = max(right, left + width)
        left += width + PANEL_GAP
    line_height = PANEL_HEAD + ROWS * (CELL + CELL_GAP) + 0.3
    canvas = Canvas(max(right + MARGIN, MIN_WIDTH), HEAD + (line + 1) * line_height)
    subtitle = "The kernels with the largest standard deviation, each with its own scale; gray is 0. 3D kernels frame by frame."
    if is_interpolated:
        subtitle += " All 3D kernels are interpolated from one."
    canvas.heading("Kernels", subtitle)
    for (title, color, pictures, note), (left, line) in zip(panels, places, strict=True):
        top = HEAD + line * line_height
        canvas.text(left, top + 0.24, title, size=12, color=darken(color), weight="bold")
        canvas.text(left, top + 0.46, note, size=9, color=FAINT_INK)
        _draw_panel(canvas, left, top + PANEL_HEAD, pictures)
    return canvas.figure


def pixel_kernels(model: Any) -> tuple[list[np.ndarray], bool]:
    """
    The kernels of a model that read pixels, float32 `(outputs, channels, t, h, w)` each, and whether they are interpolated
    from one.

    Raises `ValueError` for a model without a convolution of 3 input channels.
    """
    from torch import nn

    from ..models.families import family_of

    if "tubes" in family_of(model.config).pictures:
        embeddings = model.get_input_embeddings()
        weights = [embeddings.kernel(index)[0] for index in range(len(embeddings.tubes))]
        is_interpolated = embeddings.interpolated_kernel is not None
    else:
        kinds = (nn.Conv2d, nn.Conv3d)
        convolutions = (
            each for each in model.modules() if isinstance(each, kinds) and each.in_channels == NUM_CHANNELS
        )
        first = next(convolutions, None)
        if first is None:
            raise ValueError(
                f"A {type(model).__name__} has no convolution that reads pixels: there are no kernels to show."
            )
        weights, is_interpolated = [first.weight if first.weight.ndim == 5 else first.weight.unsqueeze(2)], False
    return [weight.detach().float().cpu().numpy() for weight in weights], is_interpolated


def most_varied(weight: np.ndarray, count: int) -> np.ndarray:
    """The `count` kernels of `weight` `(outputs, channels, t, h, w)` with the largest standard deviation, largest first."""
    return weight[np.argsort(-weight.std(axis=(1, 2, 3, 4)), kind="stable")[:count]]


def kernel_pictures(weight: np.ndarray) -> np.ndarray:
    """
    Kernels `(outputs, channels, t, h, w)` as pictures `(outputs, t, h, w, 3)` from 0 to 1, where 0.5 is a weight of 0.

    The largest magnitude of each kernel becomes 0 or 1. If there are not three channels, their mean is shown in gray.
    """
    if weight.shape[1] != 3:
        weight = weight.mean(axis=1, keepdims=True).repeat(3, axis=1)
    largest = np.abs(weight).max(axis=(1, 2, 3, 4), keepdims=True)
    scaled = np.divide(weight, 2 * largest, out=np.zeros_like(weight), where=largest > 0)
    return (0.5 + scaled).transpose(0, 2, 3, 4, 1)


def _draw_panel(canvas: Canvas, left: float, top: float, pictures: np.ndarray) -> None:
    """pictures: `(outputs, t, h, w, 3)`."""
    num_frames, height, width = pictures.shape[1:4]
    columns = _columns(pictures)
    cells = pictures.reshape(-1, height, width, 3) if num_frames == 1 else pictures.reshape(-1, *pictures.shape[2:])
    step = CELL + CELL_GAP
    shape = (CELL, CELL * width / height) if width <= height else (CELL * height / width, CELL)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        axes = canvas.axes(left + column * step, top + row * step, shape[1], shape[0])
        axes.imshow(cell, aspect="auto", interpolation="nearest")


def _columns(pictures: np.ndarray) -> int:
    return PATCH_COLUMNS if pictures.shape[1] == 1 else pictures.shape[1]


def _panel_width(pictures: np.ndarray) -> float:
    return max(_columns(pictures) * (CELL + CELL_GAP) - CELL_GAP, 1.75)


def _note(weight: np.ndarray, shown: np.ndarray) -> str:
    frames = " \N{RIGHTWARDS ARROW} time" if weight.shape[2] > 1 else ""
    total = plural(len(weight), "kernel")
    return f"{total}{frames}" if len(shown) == len(weight) else f"{len(shown)} of {total}{frames}"
