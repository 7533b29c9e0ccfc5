# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A figure of the confusion matrix: a row per true class, shaded by the fractions of its predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, Canvas, plural


COLORMAP = "Blues"
MAX_NAMED = 60  # above this number of classes, names would be too small to read
MAX_NUMBERED = 20  # up to this number of classes, each cell shows its percentage
LABEL_LENGTH = 30
SIDE = 9.0  # largest side of the matrix in inches
TOP, LABELS, RIGHT, BOTTOM = 1.25, 3.0, 0.5, 2.6


def draw_confusion_matrix(
    path: Path, matrix: np.ndarray, class_names: Sequence[str], title: str, subtitle: str
) -> None:
    """
    Write a PNG file of `matrix`, the number of videos of class `row` that are predicted as class `column`.

    The shade of a cell is its fraction of the row's videos, so rare classes are visible too. A class without videos is an
    empty row.
    """
    num_classes = len(matrix)
    is_named = num_classes <= MAX_NAMED
    cell = min(0.55, SIDE / num_classes)
    side = cell * num_classes
    left = LABELS if is_named else 0.8
    canvas = Canvas(max(left + side + RIGHT, 8.0), TOP + side + (BOTTOM if is_named else 0.8))
    canvas.heading(title, subtitle)
    counts = matrix.sum(axis=1, keepdims=True)
    fractions = np.divide(matrix, counts, out=np.zeros(matrix.shape), where=counts > 0)
    axes = canvas.axes(left, TOP, side, side)
    axes.set_axis_on()
    axes.imshow(fractions, aspect="auto", cmap=COLORMAP, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    size = min(10, 0.75 * 72 * cell)
    for index, name in enumerate(class_names if is_named else []):
        middle = (index + 0.5) * cell
        label = name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        canvas.text(left - 0.08, TOP + middle, label, size=size, ha="right", va="center")
        canvas.text(left + middle, TOP + side + 0.08, label, size=size, ha="center", va="top", rotation=90)
    if num_classes <= MAX_NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if fractions[row, column] > 0.6 else INK
            axes.text(
                column, row, f"{100 * fractions[row, column]:.0f}", color=color, size=size, ha="center", va="center"
            )
    videos = plural(int(matrix.sum()), "video")
    caption = f"Rows: true class. Columns: predicted class. Shades: percentage of the row's videos. {videos}."
    canvas.text(MARGIN, TOP - 0.16, caption, size=9, color=FAINT_INK)
    canvas.figure.savefig(path)
