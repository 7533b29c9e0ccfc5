# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The report of the demo, a picture: the pixels of a clip that each tube reads, and frames of clips with their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..visualization.canvas import FAINT_INK, INK, MARGIN, WIDTH, Canvas, darken, dimensions, plural, tube_colors
from ..visualization.frame_grid import film_strip


CORRECT_COLOR, WRONG_COLOR, OTHER_COLOR = "#2a9d5c", "#d1495b", "#c3c9d1"
DIM_ONE_TUBE, DIM_ALL_TUBES = 0.75, 0.35  # how far pixels that no shown tube reads are dimmed
STRIP_FRAMES = 8


@dataclass(frozen=True)
class ReportClip:
    """
    A clip of the report.

    frames: uint8 `(frames, height, width, 3)`, the model's input frames at any multiple of its resolution.
    label: the true class.
    predictions: `(label, score)`, best first.
    """

    frames: np.ndarray
    label: str
    predictions: Sequence[tuple[str, float]]

    @property
    def is_correct(self) -> bool:
        return self.predictions[0][0] == self.label


def draw_report(
    path: Path,
    clips: Sequence[ReportClip],
    tubes: Sequence[Any],
    size: tuple[int, int, int],
    *,
    title: str,
    subtitle: str,
    clips_are: str,
) -> None:
    """
    Write the report of `clips` as a PNG file.

    tubes: the model's tubes.
    size: (frames, height, width) of the model's clips.
    clips_are: the kind of clips, such as "held-out clips".
    """
    num_frames = size[0]
    tube_frames = np.linspace(0, num_frames - 1, min(num_frames, 2 * STRIP_FRAMES)).round().astype(int)
    # Heights in inches, from top to bottom: header, tube rows, header, clip rows.
    head, tube_row, clip_row, gap = 1.25, 0.76, 1.42, 0.55
    height = head + len(tubes) * tube_row + gap + len(clips) * clip_row + 0.25
    canvas = Canvas(WIDTH, height)
    canvas.heading(title, subtitle)
    canvas.text(
        MARGIN, 1.08, "Pixels of the first clip that each tube reads (dimmed: not read)", size=12, weight="bold"
    )
    top = head
    for tube, color in zip(tubes, tube_colors(range(len(tubes))), strict=True):
        _draw_tube_row(canvas, top, clips[0], tube, color, size, tube_frames, tube_row)
        top += tube_row
    canvas.text(
        MARGIN,
        top + 0.38,
        f"{clips_are[0].upper()}{clips_are[1:]} and predictions",
        size=12,
        weight="bold",
    )
    top += gap
    for clip in clips:
        _draw_clip_row(canvas, top, clip, tubes, size, clip_row)
        top += clip_row
    canvas.figure.savefig(path)


def _draw_tube_row(
    canvas: Canvas,
    top: float,
    clip: ReportClip,
    tube: Any,
    color: str,
    size: tuple,
    frames: np.ndarray,
    height: float,
) -> None:
    canvas.text(MARGIN, top + 0.30, dimensions(tube.kernel_size), size=12, color=darken(color), weight="bold")
    tokens = f"stride {dimensions(tube.stride)}, {plural(tube.num_tokens(size), 'token')}"
    canvas.text(MARGIN, top + 0.50, tokens, size=8.5, color=FAINT_INK)
    strip = film_strip(clip.frames, frames, [tube], [color], size, DIM_ONE_TUBE)
    canvas.image(2.35, top, height - 0.06, strip)


def _draw_clip_row(canvas: Canvas, top: float, clip: ReportClip, tubes: Sequence, size: tuple, height: float) -> None:
    frames = np.linspace(0, size[0] - 1, min(size[0], STRIP_FRAMES)).round().astype(int)
    strip = film_strip(clip.frames, frames, tubes, tube_colors(range(len(tubes))), size, DIM_ALL_TUBES)
    left = MARGIN + canvas.image(MARGIN, top, height - 0.18, strip) + 0.25
    color, mark = (CORRECT_COLOR, "\N{CHECK MARK}") if clip.is_correct else (WRONG_COLOR, "\N{BALLOT X}")
    canvas.text(left, top + 0.20, f"{mark} {_shorten(clip.label, 30)}", size=11.5, color=color, weight="bold")
    for row, (label, score) in enumerate(clip.predictions[:3]):
        y = top + 0.46 + row * 0.23
        canvas.bar(left, y - 0.13, 1.1, 0.15, score, color if row == 0 else OTHER_COLOR)
        canvas.text(left + 1.57, y, f"{100 * score:.0f} %", size=9, ha="right")
        canvas.text(left + 1.64, y, _shorten(label, 30), size=9, color=INK if row == 0 else FAINT_INK)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
