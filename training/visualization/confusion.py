# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The confusion matrix as a picture: a row per class, shaded by where its videos end up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, Canvas, plural


COLORMAP = "Blues"
MAX_NAMED = 60  # classes, above which names would be too small to read
MAX_NUMBERED = 20  # classes, up to which each cell shows its share
LABEL_LENGTH = 30
SIDE = 9.0  # of the matrix in inches; few classes take less
TOP, LABELS, RIGHT, BOTTOM = 1.25, 3.0, 0.5, 2.6


def draw_confusion_matrix(
    path: Path, matrix: np.ndarray, class_names: Sequence[str], title: str, subtitle: str
) -> None:
    """
    Write `matrix`, number of videos of class `row` that are taken for class `column`, as a PNG file.

    Rows are shaded by their shares, so that rare classes can be read as well; a class without videos is an empty row.
    """
    num_classes = len(matrix)
    is_named = num_classes <= MAX_NAMED
    cell = min(0.55, SIDE / num_classes)
    side = cell * num_classes
    left = LABELS if is_named else 0.8
    canvas = Canvas(max(left + side + RIGHT, 8.0), TOP + side + (BOTTOM if is_named else 0.8))
    canvas.heading(title, subtitle)
    counts = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, counts, out=np.zeros(matrix.shape), where=counts > 0)
    axes = canvas.axes(left, TOP, side, side)
    axes.set_axis_on()
    axes.imshow(shares, aspect="auto", cmap=COLORMAP, vmin=0, vmax=1, interpolation="nearest")
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
            color = "white" if shares[row, column] > 0.6 else INK
            axes.text(
                column, row, f"{100 * shares[row, column]:.0f}", color=color, size=size, ha="center", va="center"
            )
    videos = plural(int(matrix.sum()), "video")
    caption = f"Rows: the true class. Columns: the predicted one. Shades: share of the row's videos, in %. {videos}."
    canvas.text(MARGIN, TOP - 0.16, caption, size=9, color=FAINT_INK)
    canvas.figure.savefig(path)
