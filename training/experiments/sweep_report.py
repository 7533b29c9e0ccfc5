# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Our order of a table's rows beside the paper's: means over seeds, their spread, and where the two orders differ."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """
    A row over all seeds.

    scores: accuracy in %, one per seed. chance: of guessing the most frequent class, in %. paper: the paper's number,
    `None` for a row of ours. tokens: of a clip, or image. gflops: of its forward pass, over all views. seconds: of
    training, without what the run starts from, mean over seeds. rate: GFLOP/s in training. number: of validation examples.
    """

    title: str
    scores: tuple[float, ...]
    chance: float
    paper: float | None = None
    tokens: int | None = None
    gflops: float | None = None
    seconds: float = 0.0
    rate: float | None = None
    number: int | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; `None` of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


# Columns of the spread over seeds: name to the text of a row.
SPREAD_COLUMNS: dict[str, Callable[[Row], str]] = {
    "deviation": lambda row: "" if row.deviation is None else f"{row.deviation:.1f}",
    "range": lambda row: f"{min(row.scores):.1f} - {max(row.scores):.1f}" if len(row.scores) > 1 else "",
    "seeds": lambda row: str(len(row.scores)),
}


def collect_rows(results: Sequence[dict[str, Any]]) -> dict[str, list[Row]]:
    """The rows of one table by panel (what was measured, "" where there is one thing only), in the order of the results."""
    found: dict[tuple[str, str], list[tuple[dict, dict]]] = {}
    for result in results:
        for row in result["rows"]:
            found.setdefault((row.get("panel", ""), row["name"]), []).append((row, result))
    panels: dict[str, list[Row]] = {}
    for (panel, _), members in found.items():
        panels.setdefault(panel, []).append(_make_row(members))
    return panels


def _make_row(members: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Row:
    row, first = members[0]
    scores = [result["scores"][row["score"]] for row, result in members]
    rates = [result["gflops_per_second"] for _, result in members if "gflops_per_second" in result]
    about = first | scores[0]  # an evaluation of its own has its own tokens and GFLOPs
    return Row(
        row["title"],
        tuple(100 * score["accuracy"] for score in scores),
        100 * scores[0].get("chance", 0),
        row.get("paper"),
        about.get("tokens"),
        about.get("gflops"),
        statistics.fmean(result.get("training_seconds", result["seconds"]) for _, result in members),
        statistics.fmean(rates) if len(rates) == len(members) else None,
        scores[0].get("number"),
    )


def exceeds_spread(one: Row, other: Row) -> bool:
    """Whether every seed of one row is above every seed of the other; from a single seed nothing can be said.

    >>> exceeds_spread(Row("a", (70, 72), 10), Row("b", (60, 69), 10))
    True
    >>> exceeds_spread(Row("a", (70, 72), 10), Row("b", (60, 71), 10))
    False
    """
    if min(len(one.scores), len(other.scores)) < 2:
        return False
    return min(one.scores) > max(other.scores) or min(other.scores) > max(one.scores)


def rank_agreement(rows: Sequence[Row]) -> float | None:
    """
    Kendall's tau-b between our means and the paper's numbers: 1 for the same order, -1 for the opposite one, about 0
    for none.

    `None` where one of the two has no order.
    """
    agreeing, ours, theirs = 0, 0, 0
    for one, other in _pairs(rows):
        sign_ours, sign_theirs = _sign(one.mean - other.mean), _sign(one.paper - other.paper)
        agreeing += sign_ours * sign_theirs
        ours += abs(sign_ours)
        theirs += abs(sign_theirs)
    return agreeing / math.sqrt(ours * theirs) if ours and theirs else None


def describe_order(rows: Sequence[Row]) -> list[str]:
    """Sentences: how well the orders agree, and every pair that is the other way round than in the paper."""
    pairs = [pair for pair in _pairs(rows) if pair[0].paper != pair[1].paper]
    if not pairs:
        return []
    agreement = rank_agreement(rows)
    same = [pair for pair in pairs if _sign(pair[0].mean - pair[1].mean) == _sign(pair[0].paper - pair[1].paper)]
    clear = sum(exceeds_spread(*pair) for pair in same)
    sentences = [
        f"{len(same)} of {len(pairs)} pairs of rows are in the paper's order, {clear} of them beyond the spread over seeds"
        + (f"; rank agreement (Kendall's tau) {agreement:+.2f}." if agreement is not None else ".")
    ]
    turned = [pair if pair[0].paper > pair[1].paper else pair[::-1] for pair in pairs if pair not in same]
    for better, worse in (pair for pair in turned if exceeds_spread(*pair)):
        sentences.append(
            f"Differs from the paper beyond the spread: {better.title} ({better.mean:.1f}) is below {worse.title} "
            f"({worse.mean:.1f}); in the paper {better.paper:g} and {worse.paper:g}."
        )
    close = [f"{better.title} / {worse.title}" for better, worse in turned if not exceeds_spread(better, worse)]
    if close:
        how = "but within the spread" if have_spread(rows) else "of one seed, which has no spread"
        sentences.append(f"Not in the paper's order, {how}: {'; '.join(close)}.")
    return sentences


def have_spread(rows: Sequence[Row]) -> bool:
    """Whether every row has several seeds."""
    return min(len(row.scores) for row in rows) > 1


def table_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names, and rows of text; columns that no row fills are left out."""
    columns = {
        "": lambda row: row.title,
        "paper": lambda row: "" if row.paper is None else f"{row.paper:g}",
        "ours, %": lambda row: f"{row.mean:.1f}",
        **SPREAD_COLUMNS,
        "tokens": lambda row: "" if row.tokens is None else f"{row.tokens:,}",
        "GFLOP": lambda row: "" if row.gflops is None else f"{row.gflops:.3g}",
        "training, s": lambda row: f"{row.seconds:.0f}" if row.seconds else "",
        "GFLOP/s": lambda row: "" if row.rate is None else f"{row.rate:,.0f}",
    }
    filled = {name: cell for name, cell in columns.items() if not name or any(map(cell, rows))}
    return list(filled), [[cell(row) for cell in filled.values()] for row in rows]


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of the rows that the paper has."""
    return list(itertools.combinations([row for row in rows if row.paper is not None], 2))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
