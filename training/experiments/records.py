# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Records: JSON files that hold the numbers of an experiment, and the rows over several seeds that tables print of them.

A record holds the settings that decide its numbers, the numbers, and the command, commit, machine and day that they come from.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ..environment import describe_machine, provenance


# The fields that RESULTS.md needs of every record, and their types.
FIELDS = {
    "group": str,
    "name": str,
    "title": str,
    "size": str,
    "rows": list,
    "settings": dict,
    "command": str,
    "position": int,
    "commit": str,
    "dirty": bool,
    "machine": dict,
    "date": str,
    "seconds": (int, float),
    "scores": dict,
}


@dataclass(frozen=True)
class Label:
    """
    The place of a record on the results page.

    group: the table, such as "table_7a". title: of the table. size: "cpu" or "gpu"; numbers of different sizes are not compared.
    name: of the run within its table. position: of the run within its table.
    rows: the rows that show the run's scores, each with "name", "title", "score" (the name of a score), and optionally "paper"
        (the paper's number) and "panel".
    about: a paragraph on the table. command: reproduces the table.
    """

    group: str
    title: str
    size: str
    name: str
    rows: list[dict[str, Any]]
    command: str
    position: int
    about: str = ""

    def folder(self, parent: Path) -> Path:
        return parent / self.size / self.group


def digest(settings: dict[str, Any]) -> str:
    """Text that identifies settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_record(path: Path) -> dict[str, Any]:
    """A record with all its fields. Raises a `ValueError` of one line for a file that is not a record."""
    record = read_json(path)
    missing = [name for name, kind in FIELDS.items() if not isinstance(record.get(name), kind)]
    if missing:
        raise ValueError(f"{path} is not a result file: {', '.join(missing)} missing or of the wrong type.")
    for row in record["rows"]:
        if not {"name", "title", "score"} <= set(row) or "accuracy" not in record["scores"].get(row["score"], {}):
            raise ValueError(f"{path}: a row needs name, title and the name of one of the scores, got {row}.")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)  # so that an interrupted write leaves no file that looks complete


def write_numbers(label: Label, folder: Path, device: str, **numbers: Any) -> Path:
    """
    Write a record without scores: `numbers` must have "settings" and "seconds", and may have a "table" of text with "columns" and
    "rows". Returns its path.
    """
    path = label.folder(folder) / f"{label.name}.json"
    write_record(path, asdict(label) | {"scores": {}} | numbers | provenance(describe_machine(device)))
    return path


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a result file: it holds a {type(content).__name__}.")
    return content


def check_place(path: Path, settings: dict[str, Any]) -> None:
    """Raise `FileExistsError` if the file of a record holds a record with other settings, which would be overwritten."""
    if path.is_file() and read_json(path).get("settings") != settings:
        raise FileExistsError(f"{path} has other settings: choose another --output, or move the file.")


# Rows over seeds


@dataclass(frozen=True)
class Row:
    """
    A row of a table over all seeds.

    scores: accuracy in %, one per seed; of cross-validation over all folds. chance: accuracy in % of always answering the most frequent class. paper: the paper's
    number, `None` for a row that the paper does not have. tokens: of a clip or image. gflops: of the forward pass, over all views.
    seconds: of training, mean over seeds, without the runs that this one starts from. rate: GFLOP/s in training. number: of
    validation examples of a seed. missing: seeds that lack a fold of the others, with the number of folds that they have.
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
    missing: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; `None` for a single seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


# Columns of the spread over seeds: name to the text of a row.
SPREAD_COLUMNS: dict[str, Callable[[Row], str]] = {
    "deviation": lambda row: "" if row.deviation is None else f"{row.deviation:.1f}",
    "range": lambda row: f"{min(row.scores):.1f} - {max(row.scores):.1f}" if len(row.scores) > 1 else "",
    "seeds": lambda row: str(len(row.scores)),
}


def collect_rows(records: Sequence[dict[str, Any]]) -> dict[str, list[Row]]:
    """The rows of one table by panel ("" in a table without panels), in the order of the records."""
    found: dict[tuple[str, str], list[tuple[dict, dict]]] = {}
    for record in records:
        for row in record["rows"]:
            found.setdefault((row.get("panel", ""), row["name"]), []).append((row, record))
    panels: dict[str, list[Row]] = {}
    for (panel, _), members in found.items():
        panels.setdefault(panel, []).append(_make_row(members))
    return panels


def _make_row(members: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Row:
    row, first = members[0]
    by_seed: dict[int, list[tuple[dict, dict]]] = {}
    for member in members:
        by_seed.setdefault(member[1]["settings"].get("seed", 0), []).append(member)
    data = first["settings"].get("data")
    num_folds = data.get("num_folds", 1) if isinstance(data, dict) else 1
    missing = [f"seed {seed}: {len(each)} of {num_folds}" for seed, each in by_seed.items() if len(each) < num_folds]
    # Without a seed that has all folds, the row shows what there is, and says so in its column of missing folds.
    seeds = [each for each in by_seed.values() if len(each) >= num_folds] or list(by_seed.values())
    scores = [record["scores"][row["score"]] for row, record in seeds[0]]
    rates = [record["gflops_per_second"] for _, record in members if "gflops_per_second" in record]
    about = first | scores[0]  # an additional evaluation has its own tokens and GFLOPs
    return Row(
        row["title"],
        tuple(_accuracy(each) for each in seeds),
        _mean([100 * score.get("chance", 0) for score in scores], scores),
        row.get("paper"),
        about.get("tokens"),
        about.get("gflops"),
        statistics.fmean(
            sum(record.get("training_seconds", record["seconds"]) for _, record in each) for each in seeds
        ),
        statistics.fmean(rates) if len(rates) == len(members) else None,
        sum(score["number"] for score in scores) if all("number" in score for score in scores) else None,
        "; ".join(missing),
    )


def _accuracy(members: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Accuracy in % of one seed: over the clips of all its folds."""
    scores = [record["scores"][row["score"]] for row, record in members]
    return _mean([100 * score["accuracy"] for score in scores], scores)


def _mean(values: Sequence[float], scores: Sequence[dict[str, Any]]) -> float:
    """The mean of values of several folds, weighted by their numbers of clips."""
    if len(values) == 1:
        return values[0]
    return statistics.fmean(values, [score["number"] for score in scores])


def exceeds_spread(one: Row, other: Row) -> bool:
    """Whether every seed of one row is above every seed of the other; False where a row has a single seed.

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
    Kendall's tau-b between our means and the paper's numbers: 1 for the same order, -1 for the opposite order, about 0 for
    unrelated orders. `None` where one of the two ranks all rows equally.
    """
    agreeing, ours, theirs = 0, 0, 0
    for one, other in _pairs(rows):
        sign_ours, sign_theirs = _sign(one.mean - other.mean), _sign(one.paper - other.paper)
        agreeing += sign_ours * sign_theirs
        ours += abs(sign_ours)
        theirs += abs(sign_theirs)
    return agreeing / math.sqrt(ours * theirs) if ours and theirs else None


def describe_order(rows: Sequence[Row]) -> list[str]:
    """Sentences: how far our order of the rows agrees with the paper's, and every pair in the opposite order."""
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
    """Column names, and rows of text, without the columns that are empty in every row."""
    columns = {
        "": lambda row: row.title,
        "paper": lambda row: "" if row.paper is None else f"{row.paper:g}",
        "ours, %": lambda row: f"{row.mean:.1f}",
        **SPREAD_COLUMNS,
        "INCOMPLETE: folds": lambda row: row.missing,
        "tokens": lambda row: "" if row.tokens is None else f"{row.tokens:,}",
        "GFLOP": lambda row: "" if row.gflops is None else f"{row.gflops:.3g}",
        "training, s": lambda row: f"{row.seconds:.0f}" if row.seconds else "",
        "GFLOP/s": lambda row: "" if row.rate is None else f"{row.rate:,.0f}",
    }
    filled = {name: cell for name, cell in columns.items() if not name or any(map(cell, rows))}
    return list(filled), [[cell(row) for cell in filled.values()] for row in rows]


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of the rows that the paper has."""
    return list(combinations([row for row in rows if row.paper is not None], 2))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
