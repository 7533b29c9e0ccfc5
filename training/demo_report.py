# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The demo's picture: what each tube reads of a clip, and clips as film strips beside what the model makes of them.

Pixels that no tube reads are dimmed, so that the sparsity of the tokenizer can be seen (section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


TUBE_COLORS = ("#ff9f1c", "#2ec4f1", "#ff5fa2", "#7ddf64", "#b79cff", "#ffe066")
RIGHT_COLOR, WRONG_COLOR, OTHER_COLOR, EMPTY_COLOR = "#2a9d5c", "#d1495b", "#c3c9d1", "#eef0f3"
INK, FAINT_INK = "#1d2430", "#6b7685"
LINE_PIXELS, LINE_OPACITY = 2, 0.75
STRONGLY, SLIGHTLY = 0.75, 0.35  # how far pixels that are not read are dimmed, where one tube and where all are shown
DIMMED_GREY = 40  # the grey they are dimmed towards
STRIP_FRAMES = 8
WIDTH = 14.8  # inches


@dataclass(frozen=True)
class ReportClip:
    """
    A clip in the report.

    frames: uint8 `(frames, height, width, 3)`: the frames the model sees, at any multiple of its resolution.
    label: the true class.
    predictions: `(label, score)`, best first.
    """

    frames: np.ndarray
    label: str
    predictions: Sequence[tuple[str, float]]

    @property
    def is_right(self) -> bool:
        return self.predictions[0][0] == self.label


def frames_read(tube: Any, num_frames: int) -> list[int]:
    """The frames that a `Tube` reads of a clip of `num_frames`."""
    (offset, *_), (stride, *_), (kernel, *_) = tube.offset, tube.stride, tube.kernel_size
    starts = range(offset, num_frames - kernel + 1, stride)
    return sorted({start + step for start in starts for step in range(kernel)})


def boxes_read(tube: Any, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """`(top, left, height, width)` in pixels of each place where a `Tube` reads the frames of `frames_read`."""
    rows, columns = (
        range(offset, extent - kernel + 1, stride)
        for offset, extent, kernel, stride in zip(
            tube.offset[1:], (height, width), tube.kernel_size[1:], tube.stride[1:], strict=True
        )
    )
    return [(top, left, *tube.kernel_size[1:]) for top in rows for left in columns]


def read_mask(tubes: Sequence[Any], size: tuple[int, int, int]) -> np.ndarray:
    """bool `(frames, height, width)` of `size`: whether some tube reads a pixel."""
    mask = np.zeros(size, bool)
    for tube in tubes:
        for top, left, height, width in boxes_read(tube, *size[1:]):
            mask[frames_read(tube, size[0]), top : top + height, left : left + width] = True
    return mask


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
    size: (frames, height, width) of the clips that the model sees.
    clips_are: what kind of clips these are, such as "held-out clips".
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_frames = size[0]
    tube_frames = np.linspace(0, num_frames - 1, min(num_frames, 2 * STRIP_FRAMES)).round().astype(int)
    # Heights in inches, from top to bottom: header, tube rows, header, clip rows.
    head, tube_row, clip_row, gap = 1.25, 0.76, 1.42, 0.55
    height = head + len(tubes) * tube_row + gap + len(clips) * clip_row + 0.25
    figure = Figure(figsize=(WIDTH, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)  # draws without a display and leaves the user's matplotlib settings alone
    canvas = _Canvas(figure, WIDTH, height)

    canvas.text(0.3, 0.38, title, size=21, weight="bold")
    canvas.text(0.3, 0.70, subtitle, size=11, color=FAINT_INK)
    canvas.text(0.3, 1.08, "What each tube reads of the first clip (dimmed: not read)", size=12, weight="bold")
    top = head
    for tube, color in zip(tubes, _colors(tubes), strict=True):
        _draw_tube_row(canvas, top, clips[0], tube, color, size, tube_frames, tube_row)
        top += tube_row
    canvas.text(
        0.3,
        top + 0.38,
        f"{clips_are[0].upper()}{clips_are[1:]} and predictions",
        size=12,
        weight="bold",
    )
    top += gap
    for clip in clips:
        _draw_clip_row(canvas, top, clip, tubes, size, clip_row)
        top += clip_row
    figure.savefig(path)


class _Canvas:
    """A figure that is addressed in inches from its top left corner."""

    def __init__(self, figure: Any, width: float, height: float):
        self.figure, self.width, self.height = figure, width, height

    def text(self, x: float, y: float, text: str, *, size: float, color: str = INK, **kwargs) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, color=color, **kwargs)

    def image(self, x: float, y: float, height: float, pixels: np.ndarray) -> float:
        """Place an image and return its width in inches."""
        width = height * pixels.shape[1] / pixels.shape[0]
        self._axes(x, y, width, height).imshow(pixels, aspect="auto", interpolation="lanczos")
        return width

    def bar(self, x: float, y: float, width: float, height: float, share: float, color: str) -> None:
        """A horizontal bar that is filled to `share`."""
        axes = self._axes(x, y, width, height)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.barh(0.5, 1, height=1, color=EMPTY_COLOR)
        axes.barh(0.5, share, height=1, color=color)

    def _axes(self, x: float, y: float, width: float, height: float) -> Any:
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes


def _draw_tube_row(
    canvas: _Canvas,
    top: float,
    clip: ReportClip,
    tube: Any,
    color: str,
    size: tuple,
    frames: np.ndarray,
    height: float,
) -> None:
    canvas.text(0.3, top + 0.30, _format(tube.kernel_size), size=12, color=_darken(color), weight="bold")
    tokens = f"stride {_format(tube.stride)}, {tube.num_tokens(size)} tokens"
    canvas.text(0.3, top + 0.50, tokens, size=8.5, color=FAINT_INK)
    strip = film_strip(clip.frames, frames, [tube], [color], size, STRONGLY)
    canvas.image(2.35, top, height - 0.06, strip)


def _draw_clip_row(canvas: _Canvas, top: float, clip: ReportClip, tubes: Sequence, size: tuple, height: float) -> None:
    frames = np.linspace(0, size[0] - 1, min(size[0], STRIP_FRAMES)).round().astype(int)
    strip = film_strip(clip.frames, frames, tubes, _colors(tubes), size, SLIGHTLY)
    left = 0.3 + canvas.image(0.3, top, height - 0.18, strip) + 0.25
    color, mark = (RIGHT_COLOR, "\N{CHECK MARK}") if clip.is_right else (WRONG_COLOR, "\N{BALLOT X}")
    canvas.text(left, top + 0.20, f"{mark} {_shorten(clip.label, 30)}", size=11.5, color=color, weight="bold")
    for row, (label, score) in enumerate(clip.predictions[:3]):
        y = top + 0.46 + row * 0.23
        canvas.bar(left, y - 0.13, 1.1, 0.15, score, color if row == 0 else OTHER_COLOR)
        canvas.text(left + 1.18, y, f"{100 * score:.0f} %", size=9)
        canvas.text(left + 1.64, y, _shorten(label, 30), size=9, color=INK if row == 0 else FAINT_INK)


def film_strip(
    clip: np.ndarray,
    frames: Sequence[int],
    tubes: Sequence[Any],
    colors: Sequence[str],
    size: tuple[int, int, int],
    dimming: float,
    gap: float = 0.06,
) -> np.ndarray:
    """
    Some `frames` of a clip side by side, dimmed where no tube reads them, with the tubes' boxes in their colours.

    clip: uint8 `(frames, height, width, 3)`, a multiple of the pixels of `size`, the clip that the tubes are applied to.
    dimming: of pixels that are not read, from 0 (none) to 1 (a uniform dark grey).
    gap: white space between frames, in frame widths.

    Returns uint8 `(height, strip width, 3)`.
    """
    scale = clip.shape[1] // size[1]
    mask = read_mask(tubes, size).repeat(scale, axis=1).repeat(scale, axis=2)
    space = np.full((clip.shape[1], round(gap * clip.shape[2]), 3), 255, np.uint8)
    pieces = []
    for index in frames:
        dark = (clip[index] * (1 - dimming) + DIMMED_GREY * dimming).astype(np.uint8)
        frame = np.where(mask[index][..., None], clip[index], dark)
        for tube, color in zip(tubes, colors, strict=True):
            if index in frames_read(tube, size[0]):
                for box in boxes_read(tube, *size[1:]):
                    _outline(frame, [edge * scale for edge in box], color)
        pieces += [frame, space]
    return np.concatenate(pieces[:-1], axis=1)


def _outline(frame: np.ndarray, box: Sequence[int], color: str) -> None:
    """Draw the inner edge of `box` = (top, left, height, width) into `frame`, blended with what is there."""
    top, left, height, width = box
    window = frame[top : top + height, left : left + width]
    edge = np.ones(window.shape[:2], bool)
    edge[LINE_PIXELS:-LINE_PIXELS, LINE_PIXELS:-LINE_PIXELS] = False
    window[edge] = (window[edge] * (1 - LINE_OPACITY) + np.array(_rgb(color)) * LINE_OPACITY).astype(np.uint8)


def _colors(tubes: Sequence) -> list[str]:
    return [TUBE_COLORS[index % len(TUBE_COLORS)] for index in range(len(tubes))]


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _darken(color: str) -> str:
    """A darker shade, for text on white."""
    return "#" + "".join(f"{int(value * 0.72):02x}" for value in _rgb(color))


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _format(triple: Sequence[int]) -> str:
    return "\N{MULTIPLICATION SIGN}".join(map(str, triple))
