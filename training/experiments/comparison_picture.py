# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The race as a picture: accuracy against the arithmetic of a prediction, and how the loss fell with that of training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..visualization.canvas import FAINT_INK, INK, TUBE_COLORS, Canvas, darken
from .comparison_report import by_model, training_tflops
from .sweep_report import Row, collect_rows


PICTURE = "race.png"  # in the folder of the race's result files
WIDTH, HEIGHT = 12.0, 5.4  # inches
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 0.85, 1.35, 5.0, 3.3, 0.95


def draw_race(path: Path, results: Sequence[dict[str, Any]], title: str) -> None:
    """Write the picture of a race as a PNG file."""
    from matplotlib import rc_context

    rows = collect_rows(results)[""]
    models = list(by_model(results).values())
    colors = [darken(TUBE_COLORS[index % len(TUBE_COLORS)]) for index in range(len(models))]
    number = len(rows[0].scores)
    tflops = training_tflops(models[0][0])
    canvas = Canvas(WIDTH, HEIGHT)
    seeds = f"{number} seeds, bars from the lowest to the highest" if number > 1 else "one seed"
    canvas.heading(title, f"{models[0][0]['steps']:,} steps of TubeViT, {tflops:.3g} TFLOP of training; {seeds}")
    with rc_context({"font.size": 9}):
        accuracy = _panel(canvas, 0, "Accuracy, %, against GFLOP of a clip's forward pass")
        _draw_accuracy(accuracy, models, rows, colors)
        _draw_losses(_panel(canvas, 1, "Training loss against TFLOP spent on training"), models, colors)
        handles, names = accuracy.get_legend_handles_labels()
        canvas.figure.legend(handles, names, loc="lower center", ncols=3, frameon=False, labelcolor=colors)
    canvas.figure.savefig(path)


def _panel(canvas: Canvas, index: int, caption: str) -> Any:
    left = LEFT + index * (PANEL_WIDTH + GAP)
    canvas.text(left, TOP - 0.15, caption, size=11, weight="bold")
    axes = canvas.axes(left, TOP, PANEL_WIDTH, PANEL_HEIGHT)
    axes.set_axis_on()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(alpha=0.25)
    return axes


def _draw_accuracy(axes: Any, models: list[list[dict[str, Any]]], rows: Sequence[Row], colors: list[str]) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    for members, row, color in zip(models, rows, colors, strict=True):
        gflops = members[0]["gflops"]
        below, above = row.mean - min(row.scores), max(row.scores) - row.mean
        name = f"{row.title}, {members[0]['tokens']:,} tokens"
        error = [[below], [above]]
        axes.errorbar(gflops, row.mean, error, fmt="o", color=color, capsize=4, markersize=8, label=name)
    low, high = min(each[0]["gflops"] for each in models), max(each[0]["gflops"] for each in models)
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.axhline(rows[0].chance, color=FAINT_INK, linestyle=":")
    axes.annotate("chance", (low / 1.5, rows[0].chance), (4, 4), color=FAINT_INK, textcoords="offset points")


def _draw_losses(axes: Any, models: list[list[dict[str, Any]]], colors: list[str]) -> None:
    """Each seed as a faint line, their mean as a strong one."""
    for members, color in zip(models, colors, strict=True):
        spent = training_tflops(members[0])
        steps = [entry["step"] for entry in members[0]["losses"]]
        shares = [spent * step / members[0]["steps"] for step in steps]
        curves = [[entry["video"] for entry in each["losses"]] for each in members]
        for curve in curves if len(curves) > 1 else []:
            axes.plot(shares, curve, color=color, alpha=0.25, linewidth=1)
        means = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        axes.plot(shares, means, color=color, linewidth=2)
    axes.set_xlim(left=0)
