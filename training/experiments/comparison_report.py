# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The equal-FLOPs comparison as a table, in sentences and as a picture: accuracy against the FLOPs of a prediction, and the training
loss against the training FLOPs.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.model_size import FLOPS_PER_TRAINING_STEP
from ..visualization.canvas import FAINT_INK, INK, TUBE_COLORS, Canvas, darken
from .records import SPREAD_COLUMNS, Row, collect_rows, exceeds_spread, have_spread


WIDTH, HEIGHT, LEGEND_ROW = 12.0, 4.95, 0.22  # inches; HEIGHT without the legend
LEGEND_COLUMNS = 3
MARKS = (("o", "-"), ("s", "--"))  # marker and line of the models of the first and second use of each color
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 0.85, 1.35, 5.0, 3.3, 0.95


def by_model(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Records of all seeds by model, in the order of the records."""
    models: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        models.setdefault(record["name"], []).append(record)
    return models


def training_tflops(record: dict[str, Any]) -> float:
    """TFLOPs of a training run, forward and backward passes."""
    settings = record["settings"]
    if "recipe" in settings:  # of records made before November 2026
        batch_size = settings["recipe"]["batch_size"]
    else:
        batch_size = settings["options"]["per_device_train_batch_size"]
    return 1e-3 * FLOPS_PER_TRAINING_STEP * record["gflops"] * batch_size * record["steps"]


def comparison_cells(
    records: Sequence[dict[str, Any]], speed: dict[str, Any] | None
) -> tuple[list[str], list[list[str]]]:
    """
    Column names, and a row of text per model.

    speed: the record of the speed of all models, if it was measured.
    """
    columns = ["", "accuracy, %", *SPREAD_COLUMNS, "steps", "tokens", "GFLOP per clip", "training TFLOP", "M weights"]
    columns += ["clips/s", "training clips/s", "peak MiB"] if speed else []
    rows = {row.title: row for row in collect_rows(records).get("", [])}
    cells = []
    for name, members in by_model(records).items():
        first = members[0]
        row = rows[first["rows"][0]["title"]]
        line = [
            row.title,
            f"{row.mean:.1f}",
            *(cell(row) for cell in SPREAD_COLUMNS.values()),
            f"{first['steps']:,}",
            f"{first['tokens']:,}",
            f"{first['gflops']:.3g}",
            f"{statistics.fmean(map(training_tflops, members)):.3g}",
            f"{first['parameters'] / 1e6:.2f}",
        ]
        if speed:
            line += _speed_cells(speed["speed"].get(name, {}))
        cells.append(line)
    return columns, cells


def _speed_cells(speed: dict[str, float | None]) -> list[str]:
    values = [speed.get(name) for name in ("clips_per_second", "training_clips_per_second", "peak_mib")]
    return ["" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in values]


def describe_comparison(rows: Sequence[Row]) -> list[str]:
    """A sentence per other model: its distance from the first row, and whether that exceeds the spread over seeds."""
    ours, *others = rows
    sentences = []
    for other in others:
        difference = ours.mean - other.mean
        where = "above" if difference >= 0 else "below"
        how = "beyond the spread over seeds" if exceeds_spread(ours, other) else "within the spread over seeds"
        how = how if have_spread([ours, other]) else "of one seed, which has no spread"
        sentences.append(f"{ours.title} is {abs(difference):.1f} points {where} {other.title}, {how}.")
    return sentences


def format_comparison(records: Sequence[dict[str, Any]], speed: dict[str, Any] | None) -> str:
    """Table and sentences for a terminal."""
    from ..tables import format_table

    rows = collect_rows(records)[""]
    first = records[0]
    parts = [
        f"{first['title']}: accuracy on {first['scores']['video']['number']} clips; always the most frequent class: {rows[0].chance:.1f} %"
    ]
    parts += [format_table(*comparison_cells(records, speed)), *describe_comparison(rows), first["about"]]
    return "\n".join(parts)


def draw_comparison(path: Path, records: Sequence[dict[str, Any]], title: str) -> None:
    """Write the picture of a comparison as a PNG file."""
    from matplotlib import rc_context

    rows = collect_rows(records)[""]
    models = list(by_model(records).values())
    colors = [darken(TUBE_COLORS[index % len(TUBE_COLORS)]) for index in range(len(models))]
    marks = [MARKS[index // len(TUBE_COLORS) % len(MARKS)] for index in range(len(models))]
    number = len(rows[0].scores)
    steps = {each[0]["steps"] for each in models}
    budget = f"{models[0][0]['steps']:,} steps of {'TubeViT' if len(steps) > 1 else 'each model'}"
    if len(steps) > 1:
        budget += f", {training_tflops(models[0][0]):.3g} TFLOP of training"
    canvas = Canvas(WIDTH, HEIGHT + LEGEND_ROW * -(-len(models) // LEGEND_COLUMNS))
    seeds = f"{number} seeds, bars from the lowest to the highest" if number > 1 else "one seed"
    kind, _, data = title.partition(" on ")
    canvas.heading(kind, f"{data}; {budget}; {seeds}")
    with rc_context({"font.size": 9}):
        accuracy = draw_panel(canvas, 0, "Accuracy, %, against GFLOP of a clip's forward pass")
        _draw_accuracy(accuracy, models, rows, colors, marks)
        _draw_losses(draw_panel(canvas, 1, "Training loss against TFLOP spent on training"), models, colors, marks)
        handles, names = accuracy.get_legend_handles_labels()
        canvas.figure.legend(
            handles, names, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, labelcolor=colors
        )
    canvas.figure.savefig(path)


def draw_panel(canvas: Canvas, index: int, caption: str) -> Any:
    """The axes of the first or second panel of a picture, under its caption."""
    left = LEFT + index * (PANEL_WIDTH + GAP)
    canvas.text(left, TOP - 0.15, caption, size=11, weight="bold")
    axes = canvas.axes(left, TOP, PANEL_WIDTH, PANEL_HEIGHT)
    axes.set_axis_on()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(alpha=0.25)
    return axes


def _draw_accuracy(
    axes: Any, models: list[list[dict[str, Any]]], rows: Sequence[Row], colors: list[str], marks: list[tuple[str, str]]
) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    for members, row, color, (marker, _) in zip(models, rows, colors, marks, strict=True):
        gflops = members[0]["gflops"]
        below, above = row.mean - min(row.scores), max(row.scores) - row.mean
        name = f"{row.title}, {members[0]['tokens']:,} tokens"
        error = [[below], [above]]
        axes.errorbar(gflops, row.mean, error, fmt=marker, color=color, capsize=4, markersize=8, label=name)
    low, high = min(each[0]["gflops"] for each in models), max(each[0]["gflops"] for each in models)
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.axhline(rows[0].chance, color=FAINT_INK, linestyle=":")
    axes.annotate(
        "most frequent class", (low / 1.5, rows[0].chance), (4, 4), color=FAINT_INK, textcoords="offset points"
    )


def _draw_losses(
    axes: Any, models: list[list[dict[str, Any]]], colors: list[str], marks: list[tuple[str, str]]
) -> None:
    """Each seed as a faint line, their mean as a strong one."""
    for members, color, (_, line) in zip(models, colors, marks, strict=True):
        spent = training_tflops(members[0])
        steps = [entry["step"] for entry in members[0]["losses"]]
        tflops = [spent * step / members[0]["steps"] for step in steps]
        curves = [
            [entry["loss"] if "loss" in entry else entry["video"] for entry in each["losses"]] for each in members
        ]
        for curve in curves if len(curves) > 1 else []:
            axes.plot(tflops, curve, color=color, alpha=0.25, linewidth=1)
        means = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        axes.plot(tflops, means, line, color=color, linewidth=2)
    axes.set_xlim(left=0)
