# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A picture of the scores and the events of a long video over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, TUBE_COLORS, WIDTH, Canvas, to_png


MAX_CLASSES = 12
LABEL_WIDTH, ROW_HEIGHT, TOP = 2.6, 0.42, 1.1  # inches


def draw_timeline(
    path: Path,
    title: str,
    labels: Sequence[str],
    times: np.ndarray,
    scores: np.ndarray,
    events: Sequence[tuple[str, float, float]],
    duration: float,
) -> None:
    """
    Draw a row per class, with the score as an area and the events as bars below it. The first rows are the classes with events, then
    the classes with the largest scores, at most `MAX_CLASSES` together.

    times: seconds, `(columns,)`. scores: from 0 to 1, `(columns, classes)`. events: label, start and end in seconds.
    """
    peaks = scores.max(axis=0) if len(scores) else np.zeros(len(labels))
    with_events = {label for label, _, _ in events}
    order = sorted(range(len(labels)), key=lambda index: (labels[index] not in with_events, -peaks[index]))
    shown = order[:MAX_CLASSES]
    canvas = Canvas(WIDTH, TOP + ROW_HEIGHT * len(shown) + 0.7)
    left_out = (
        "" if len(shown) == len(labels) else f"; {len(labels) - len(shown)} classes with lower scores are left out"
    )
    canvas.heading(title, f"{len(events)} events in {duration:.1f} s{left_out}")
    width = WIDTH - LABEL_WIDTH - 2 * MARGIN
    for row, index in enumerate(shown):
        y, color = TOP + row * ROW_HEIGHT, TUBE_COLORS[row % len(TUBE_COLORS)]
        label = labels[index] if len(labels[index]) < 30 else labels[index][:28] + "\N{HORIZONTAL ELLIPSIS}"
        canvas.text(MARGIN + LABEL_WIDTH - 0.12, y + 0.24, label, size=10, ha="right")
        axes = canvas.axes(MARGIN + LABEL_WIDTH, y, width, ROW_HEIGHT - 0.06)
        axes.set_xlim(0, max(duration, 1e-3))
        axes.set_ylim(-0.25, 1)
        axes.axhline(0, color=FAINT_INK, linewidth=0.5)
        axes.fill_between(times, scores[:, index], color=color, alpha=0.55, linewidth=0)
        bars = [(start, end - start) for name, start, end in events if name == labels[index]]
        axes.broken_barh(bars, (-0.22, 0.16), color=INK, linewidth=0)
    bottom = TOP + len(shown) * ROW_HEIGHT
    for fraction in np.linspace(0, 1, 6):
        text = f"{fraction * duration:.1f} s"
        canvas.text(MARGIN + LABEL_WIDTH + fraction * width, bottom + 0.22, text, size=9, color=FAINT_INK, ha="center")
    canvas.text(
        MARGIN + LABEL_WIDTH, bottom + 0.5, "Area: smoothed score from 0 to 1. Bar: event.", size=9, color=FAINT_INK
    )
    path.write_bytes(to_png(canvas.figure))
