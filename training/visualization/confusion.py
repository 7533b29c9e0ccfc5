# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A figure of the confusion matrix: a row per true class, shaded by the fractions of its predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, Canvas, find_fonts, plural


COLORMAP = "Blues"
MAX_NAMED = 60  # above this number of classes, names would be too small to read
MAX_NUMBERED = 20  # up to this number of classes, each cell shows its percentage
LABEL_LENGTH = 30
MAX_LETTERS = 8  # that a note names
SIDE = 9.0  # largest side of the matrix in inches
TOP, LABELS, RIGHT, BOTTOM = 1.25, 3.0, 0.5, 2.6


def draw_confusion_matrix(
    path: Path, matrix: np.ndarray, class_names: Sequence[str], title: str, subtitle: str
) -> str | None:
    """
    Write a PNG file of `matrix`, the number of videos of class `row` that are predicted as class `column`.

    The shade of a cell is its fraction of the row's videos, so rare classes are visible too. A class without videos is an
    empty row. Classes whose names no installed font can show have their index as name; the result is then a note of one line.
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
    labels, note = _drawable(class_names if is_named else [], path)
    for index, name in enumerate(labels):
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
    return note


def _drawable(names: Sequence[str], path: Path) -> tuple[list[str], str | None]:
    """The names, with `class 3` in place of those that no installed font can show, and a note on these."""
    missing = {index: letters for index, name in enumerate(names) if (letters := find_fonts(name)[1])}
    labels = [f"class {index}" if index in missing else name for index, name in enumerate(names)]
    if not missing:
        return labels, None
    letters = "".join(sorted(set().union(*missing.values())))
    return labels, (
        f"{path.name} names {len(missing)} of {len(names)} classes by their index in per_class.csv: no installed font has the "
        f"letters {letters[:MAX_LETTERS]!r}; install one, such as Noto Sans."
    )
