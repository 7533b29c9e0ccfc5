# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The table of finished runs of `tubevit train` in RESULTS.md: a row for each configuration, over its seeds."""

import statistics
from collections.abc import Sequence
from typing import Any

from .sweep_report import SPREAD_COLUMNS, collect_rows


def run_cells(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """
    Column names, and rows of text; columns that no row fills are left out.

    results: of one panel, as `run_results` makes them.
    """
    (rows,) = collect_rows(results).values()
    members: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        members.setdefault(result["name"], []).append(result)
    cells = [
        {
            "": row.title,
            "ours, %": f"{row.mean:.1f}",
            **{name: cell(row) for name, cell in SPREAD_COLUMNS.items()},
            **_own_cells(group),
        }
        for row, group in zip(rows, members.values(), strict=True)
    ]
    filled = [name for name in cells[0] if not name or any(each[name] for each in cells)]
    return filled, [[each[name] for name in filled] for each in cells]


def _own_cells(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What one row says beside accuracy and spread, from its seeds."""
    first, scores = runs[0], [score for run in runs for score in run["scores"].values()]
    complete = all(score["number"] == score["listed"] for score in scores)
    return {
        "right": f"{', '.join(str(score['correct']) for score in scores)} of {scores[0]['number']:,}",
        "INCOMPLETE: scored": "" if complete else ", ".join(f"{s['number']:,} of {s['listed']:,}" for s in scores),
        "views": first["views"],
        "tokens": f"{first['tokens']:,}" if "tokens" in first else "",
        "parameters": f"{first['parameters'] / 1e6:.2f} M",
        "GFLOP": f"{first['gflops']:.3g}" if "gflops" in first else "",
        "steps": f"{first['steps']:,}",
        "training, min": f"{statistics.fmean(run['training_seconds'] for run in runs) / 60:.1f}",
        "evaluation, s": f"{statistics.fmean(run['evaluation_seconds'] for run in runs):.1f}",
    }
