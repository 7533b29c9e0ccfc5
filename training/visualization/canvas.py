# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Colors, and a matplotlib figure with coordinates in inches from its top left corner."""

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np


# One color per tube, in the order of the config.
TUBE_COLORS = ("#ff9f1c", "#2ec4f1", "#ff5fa2", "#7ddf64", "#b79cff", "#ffe066")
INK, FAINT_INK, EMPTY_COLOR = "#1d2430", "#6b7685", "#eef0f3"
WIDTH, MIN_WIDTH, MARGIN = 14.8, 10.0, 0.3  # inches; MIN_WIDTH holds title and subtitle


class Canvas:
    """A figure of `width` x `height` inches. It needs no display and does not change the user's matplotlib settings."""

    def __init__(self, width: float, height: float, dpi: int = 110):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure, self.width, self.height = (
            Figure(figsize=(width, height), dpi=dpi, facecolor="white"),
            width,
            height,
        )
        FigureCanvasAgg(self.figure)

    def text(self, x: float, y: float, text: str, *, size: float, color: str = INK, **kwargs: Any) -> None:
        """
        Text whose baseline starts at (x, y), with letters that the default font lacks from other installed fonts; letters that
        no font has become the replacement character. kwargs: those of matplotlib's `Figure.text`.
        """
        families, missing = find_fonts(text)
        for letter in missing:
            text = text.replace(letter, "\N{REPLACEMENT CHARACTER}")
        self.figure.text(
            *(x / self.width, 1 - y / self.height, text),
            **{"fontsize": size, "color": color, "fontfamily": families, "parse_math": False, **kwargs},
        )

    def heading(self, title: str, subtitle: str) -> None:
        """A title and a subtitle below it, in the top 0.8 inches."""
        self.text(MARGIN, 0.38, title, size=21, weight="bold")
        self.text(MARGIN, 0.70, subtitle, size=11, color=FAINT_INK)

    def image(
        self, x: float, y: float, height: float, pixels: np.ndarray, *, interpolation: str = "hanning", **kwargs: Any
    ) -> float:
        """Place an image and return its width in inches. kwargs: those of matplotlib's `imshow`."""
        width = height * pixels.shape[1] / pixels.shape[0]
        self.axes(x, y, width, height).imshow(pixels, aspect="auto", interpolation=interpolation, **kwargs)
        return width

    def bar(self, x: float, y: float, width: float, height: float, fraction: float, color: str) -> None:
        """A horizontal bar, filled to `fraction` of its width."""
        axes = self.axes(x, y, width, height)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.barh(0.5, 1, height=1, color=EMPTY_COLOR)
        axes.barh(0.5, fraction, height=1, color=color)

    def color_scale(self, x: float, y: float, colormap: str, low: str, high: str, caption: str) -> None:
        """A color scale with the labels `low` and `high` at its ends, right-aligned at `x`. caption: the quantity."""
        width, height = 1.6, 0.14
        left = x - width - 0.45
        ramp = np.linspace(0, 1, 256)[None]
        self.axes(left, y, width, height).imshow(ramp, aspect="auto", cmap=colormap, vmin=0, vmax=1)
        middle = y + height / 2
        self.text(left - 0.08, middle, low, size=9, color=FAINT_INK, ha="right", va="center")
        self.text(left + width + 0.08, middle, high, size=9, color=FAINT_INK, va="center")
        self.text(left + width / 2, y - 0.07, caption, size=9, color=FAINT_INK, ha="center")

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes without frame or ticks, their top left corner at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes


def find_fonts(text: str) -> tuple[list[str], set[str]]:
    """
    The families of installed fonts that together have the letters of a text, the default font first, and the letters that no font
    has.

    >>> find_fonts("running")
    (['DejaVu Sans'], set())
    """
    from matplotlib import font_manager

    default = font_manager.findfont(font_manager.FontProperties())
    families = [font_manager.get_font(default).family_name]
    missing = {letter for letter in text if letter != "\n" and ord(letter) not in _letters(default)}
    for name in sorted({font.name for font in font_manager.fontManager.ttflist}) if missing else ():
        if "Last Resort" in name:  # it draws a box for every letter
            continue
        drawn = font_manager.findfont(font_manager.FontProperties(family=[name]))  # a bold file may have other letters
        if found := {letter for letter in missing if ord(letter) in _letters(drawn)}:
            families.append(name)
            missing -= found
        if not missing:
            break
    return families, missing


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points that a font file has."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(path).get_charmap())


def to_png(figure: Any, dpi: int = 90) -> bytes:
    """A figure as the bytes of a small PNG file with a palette; in notebooks, `IPython.display.Image(to_png(figure))`."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi)
    # An octree palette preserves the few pixels of a bright outline; a palette by frequency would make them gray.
    palette = Image.open(full).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(small, "png", optimize=True)
    return small.getvalue()


def tube_colors(indices: Sequence[int]) -> list[str]:
    """Colors of the tubes with these indices in the config."""
    return [TUBE_COLORS[index % len(TUBE_COLORS)] for index in indices]


def rgb(color: str) -> list[int]:
    """`"#ff9f1c"` -> `[255, 159, 28]`."""
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def darken(color: str) -> str:
    """A darker shade, for text on white."""
    return "#" + "".join(f"{int(value * 0.72):02x}" for value in rgb(color))


def dimensions(sizes: Sequence[int]) -> str:
    """`(8, 12, 12)` -> `"8×12×12"`."""
    return "\N{MULTIPLICATION SIGN}".join(map(str, sizes))


def describe_size(size: Sequence[int]) -> str:
    """`(32, 224, 224)` -> `"32 frames of 224×224 pixels"`; of one frame `"224×224 pixels"`."""
    pixels = f"{dimensions(size[1:])} pixels"
    return pixels if size[0] == 1 else f"{size[0]} frames of {pixels}"


def plural(count: int, noun: str) -> str:
    """`(1, "token")` -> `"1 token"`, `(98, "token")` -> `"98 tokens"`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
