# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A figure of the tubes on a clip (fig. 2): the pixels that each tube reads, and their fraction of all pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .canvas import (
    FAINT_INK,
    INK,
    MARGIN,
    MIN_WIDTH,
    WIDTH,
    Canvas,
    darken,
    describe_size,
    dimensions,
    plural,
    tube_colors,
)
from .frame_grid import GAP, enlarge, film_strip, some_frames
from .tube_masks import applied_tubes, central_token, read_mask


NUM_FRAMES_SHOWN = 8
LABELS_WIDTH = 2.75  # inches
DIMMING, DIMMING_OF_ALL = 0.75, 0.5
STRIP_PIXELS = 400  # frames are enlarged to at least this height, so that outlines are thin
HEAD, ROW_GAP, FOOT = 1.25, 0.1, 0.5


def draw_tubes(clip: np.ndarray, config: Any, token_budget: int | None = None) -> Any:
    """
    A matplotlib `Figure` of the pixels that the tubes of a `TubeViTConfig` read from a clip: a row of frames for each tube,
    and a row for all tubes.

    clip: uint8 `(frames, height, width, 3)`, as the model sees it; one frame is an image. token_budget: as in
        `TubeViTConfig.with_token_budget`.

    Raises `ValueError` for a clip that is too small for the tubes, and for a budget that is too small.
    """
    size = clip.shape[:3]
    budgeted = config if token_budget is None else config.with_token_budget(token_budget)
    tubes = applied_tubes(budgeted, size)
    large, frames = enlarged(clip), some_frames(len(clip), NUM_FRAMES_SHOWN)
    colors = dict(zip(tubes, tube_colors(list(tubes)), strict=True))
    notes = {index: tube_notes(tube, size) for index, tube in tubes.items()}
    height = strip_row_height(clip, len(frames))
    # A row is as high as its frames, or as the text next to them.
    steps = [max(height, 0.4 + 0.2 * len(lines)) + ROW_GAP for lines in notes.values()]
    full_height = HEAD + sum(steps) + (height + ROW_GAP if len(tubes) > 1 else 0) + FOOT
    canvas = Canvas(picture_width(len(frames), clip.shape), full_height)
    num_tokens = sum(tube.num_tokens(size) for tube in tubes.values())
    summary = _summary(size, num_tokens, tubes)
    if token_budget is not None:
        full = sum(tube.num_tokens(size) for tube in applied_tubes(config, size).values())
        summary += f"; token budget {token_budget}, without it {full} tokens"
    canvas.heading("Tubes on a clip" if len(clip) > 1 else "Tubes on an image", summary)
    name_frames(canvas, frames, HEAD - 0.08, clip.shape)
    top = HEAD
    for step, (index, tube) in zip(steps, tubes.items(), strict=True):
        label_tube(canvas, top, tube, colors[index], notes[index])
        filled = {0: central_token(tube, size)}
        strip = film_strip(large, frames, [tube], [colors[index]], size, DIMMING, filled)
        canvas.image(LABELS_WIDTH, top, height, strip)
        top += step
    if len(tubes) > 1:
        canvas.text(MARGIN, top + 0.3, "All tubes", size=12, weight="bold")
        canvas.text(MARGIN, top + 0.53, plural(num_tokens, "token"), size=9, color=FAINT_INK)
        strip = film_strip(large, frames, list(tubes.values()), list(colors.values()), size, DIMMING_OF_ALL)
        canvas.image(LABELS_WIDTH, top, height, strip)
    legend = "Dimmed: not read. Filled: one token."
    if any(tube.num_merged > 1 for tube in tubes.values()):
        legend += " Faint outlines: the neighbors that space-to-depth merges into a token."
    canvas.text(LABELS_WIDTH, canvas.height - 0.22, legend, size=9, color=FAINT_INK)
    return canvas.figure


def label_tube(canvas: Canvas, top: float, tube: Any, color: str, notes: Sequence[str]) -> None:
    """Write the kernel of a tube in its color to the left of a row, and `notes` below."""
    canvas.text(MARGIN, top + 0.3, dimensions(tube.kernel_size), size=12, color=darken(color), weight="bold")
    for line, note in enumerate(notes):
        canvas.text(MARGIN, top + 0.53 + 0.2 * line, note, size=9, color=INK if line == 0 else FAINT_INK)


def tube_notes(tube: Any, size: tuple[int, int, int]) -> list[str]:
    """Lines about a tube: number of tokens, stride, offset, space-to-depth."""
    grid = f" ({dimensions(tube.grid(size))})" if tube.num_tokens(size) > 1 else ""
    notes = [f"{plural(tube.num_tokens(size), 'token')}{grid}", f"stride {dimensions(tube.stride)}"]
    if any(tube.offset):
        notes.append(f"offset {dimensions(tube.offset)}")
    if tube.num_merged > 1:
        notes.append(f"space-to-depth {dimensions(tube.space_to_depth)}")
    return notes


def name_frames(canvas: Canvas, frames: Sequence[int], y: float, shape: tuple[int, ...]) -> None:
    """Write the numbers of the frames above a strip, with the baseline at `y`. shape: of the clip."""
    if shape[0] == 1:
        return
    width, step = _frame_width(len(frames), shape)
    for column, frame in enumerate(frames):
        text = f"frame {frame}" if column == 0 else str(frame)
        canvas.text(LABELS_WIDTH + column * step + width / 2, y, text, size=9, color=FAINT_INK, ha="center")


def enlarged(clip: np.ndarray) -> np.ndarray:
    """A clip with each pixel repeated until its frames have `STRIP_PIXELS` rows or more."""
    return enlarge(clip, -(-STRIP_PIXELS // clip.shape[1]))


def strip_row_height(clip: np.ndarray, num_shown: int) -> float:
    """Height in inches of a row of `num_shown` frames that fills the picture's width."""
    width, _ = _frame_width(num_shown, clip.shape)
    return width * clip.shape[1] / clip.shape[2]


def picture_width(num_shown: int, shape: tuple[int, ...]) -> float:
    """Width in inches of a picture with rows of `num_shown` frames."""
    width, step = _frame_width(num_shown, shape)
    return max(LABELS_WIDTH + (num_shown - 1) * step + width + MARGIN, MIN_WIDTH)


def _frame_width(num_shown: int, shape: tuple[int, ...]) -> tuple[float, float]:
    """Width in inches of a frame in a strip, and distance between the left edges of two frames."""
    width = (WIDTH - MARGIN - LABELS_WIDTH) / (max(num_shown, 4) * (1 + GAP) - GAP)
    return width, width * (1 + GAP)


def _summary(size: tuple[int, int, int], num_tokens: int, tubes: dict[int, Any]) -> str:
    fraction = read_mask(tubes.values(), size).mean()
    return f"{describe_size(size)}  ·  {plural(num_tokens, 'token')}, which read {100 * fraction:.0f} % of the pixels"
