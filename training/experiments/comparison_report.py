# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The race as a table and in sentences."""

import statistics
from collections.abc import Sequence
from typing import Any

from ..models.model_size import FLOPS_PER_TRAINING_STEP
from .sweep_report import SPREAD_COLUMNS, Row, collect_rows, exceeds_spread, have_spread


def by_model(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results of all seeds by model, in the order in which they come."""
    models: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        models.setdefault(result["name"], []).append(result)
    return models


def training_tflops(result: dict[str, Any]) -> float:
    """TFLOPs of a training run, forward and backward passes."""
    gflops_per_step = FLOPS_PER_TRAINING_STEP * result["gflops"] * result["settings"]["recipe"]["batch_size"]
    return 1e-3 * gflops_per_step * result["steps"]


def race_cells(results: Sequence[dict[str, Any]], speed: dict[str, Any] | None) -> tuple[list[str], list[list[str]]]:
    """
    Column names, and a row of text per model.

    speed: the result with the speed of all models, if it was measured.
    """
    columns = ["", "accuracy, %", *SPREAD_COLUMNS, "steps", "tokens", "GFLOP per clip", "training TFLOP", "M weights"]
    columns += ["clips/s", "training clips/s", "peak MiB"] if speed else []
    rows = {row.title: row for row in collect_rows(results).get("", [])}
    cells = []
    for name, members in by_model(results).items():
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


def describe_race(rows: Sequence[Row]) -> list[str]:
    """A sentence per other model: how far the first row is from it, and whether that is more than the spread."""
    ours, *others = rows
    sentences = []
    for other in others:
        difference = ours.mean - other.mean
        where = "above" if difference >= 0 else "below"
        how = "beyond the spread over seeds" if exceeds_spread(ours, other) else "within the spread over seeds"
        how = how if have_spread([ours, other]) else "of one seed, which has no spread"
        sentences.append(f"{ours.title} is {abs(difference):.1f} points {where} {other.title}, {how}.")
    return sentences


def format_race(results: Sequence[dict[str, Any]], speed: dict[str, Any] | None) -> str:
    """Table and sentences for a terminal."""
    from ..tables import format_table

    rows = collect_rows(results)[""]
    first = results[0]
    parts = [
        f"{first['title']}: accuracy on {first['scores']['video']['number']} clips, chance {rows[0].chance:.1f} %"
    ]
    parts += [format_table(*race_cells(results, speed)), *describe_race(rows), first["about"]]
    return "\n".join(parts)
