# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The parts of RESULTS.md: Markdown out of result files."""

import re
from collections.abc import Collection, Sequence
from typing import Any

from .comparison_report import describe_race, race_cells
from .run_table import run_cells
from .sweep_report import Row, collect_rows, describe_order, table_cells


SIZES = {"cpu": "small models, on CPU cores", "gpu": "on a GPU; races and tables of the paper ten times as large"}
KINDS = ("train_", "baselines", "race_", "table_")  # what the names of groups begin with, in the order of the report
COMMIT_DIGITS = 10


def group_order(key: tuple[str, str]) -> tuple:
    """
    Sorts (size, group): runs of `tubevit train`, linear baselines, races, then the paper's tables by number, then all else;
    sizes of a group next to each other.

    >>> sorted([("cpu", "table_14"), ("cpu", "table_7b"), ("cpu", "race_x"), ("cpu", "train_x")], key=group_order)
    [('cpu', 'train_x'), ('cpu', 'race_x'), ('cpu', 'table_7b'), ('cpu', 'table_14')]
    """
    size, group = key
    number = re.search(r"\d+", group)
    kind = next((each for each in KINDS if group.startswith(each)), None)
    order = len(KINDS) if kind is None else KINDS.index(kind)
    return order, int(number[0]) if number and kind == "table_" else 0, group, size


def head(keys: Sequence[tuple[str, str]]) -> str:
    sizes = sorted({size for size, _ in keys})
    named = ", ".join(f'"{size}" ({SIZES[size]})' if size in SIZES else f'"{size}"' for size in sizes)
    return (
        "# Results\n\n"
        "This file is made by `tubevit results` out of result files, and not edited by hand. Above each table stands the command "
        "that makes its numbers again, with the machine and the commit that they come from. Accuracies are of validation clips, in "
        "%; the deviation is the sample standard deviation over seeds, and the range goes from the lowest seed to the highest. "
        "Seeds of a model differ in initial weights and in the order of batches, and share the clips. A difference is called beyond the "
        "spread if every seed of one row is above every seed of the other; with three seeds each, chance alone does that to one "
        "pair of equal rows in ten. GFLOP count a multiplication and an addition as two operations.\n\n"
        f"Sizes: {named}."
    )


def what_is_missing(groups: Collection[str]) -> list[str]:
    """A paragraph on the package's experiments that have no result files; none where all have."""
    from .sweep_tables import TABLES

    experiments = {
        "train_": "runs of `tubevit train` (whose results `tubevit results FOLDER --add RUN` takes over)",
        "baselines": "linear baselines (`tubevit baselines --made`)",
        "race_": "the race (`tubevit compare`)",
        **{f"table_{name}": f"{table.title} (`tubevit sweep {name}`)" for name, table in TABLES.items()},
    }
    missing = [
        text
        for name, text in experiments.items()
        if not any(group == name or (name in KINDS and group.startswith(name)) for group in groups)
    ]
    return [f"Not here yet, each command with `--output FOLDER`: {'; '.join(missing)}."] if missing else []


def section(results: Sequence[dict[str, Any]], picture: str | None = None) -> str:
    """
    The results of one group at one size: runs as rows, and what else files show ("table", "speed", "notes").

    picture: where it lies, as the text links to it.
    """
    runs = [result for result in results if result["rows"]]
    speed = next((result for result in results if "speed" in result), None)
    first = (runs or results)[0]
    parts = [f"## {first['title']} ({first['size']})", provenance_lines(results)]
    parts += [first["about"]] if first.get("about") else []
    if first["group"].startswith("race_") and runs:
        rows = collect_rows(runs)[""]
        parts += [markdown_table(*race_cells(runs, speed)), _chance(rows[0]), bullets(describe_race(rows))]
        parts += [f"![Accuracy against arithmetic]({picture})"] if picture else []
    else:
        is_train = first["group"].startswith("train_")
        for panel, rows in collect_rows(runs).items():
            parts += [f"**{panel[0].upper()}{panel[1:]}**"] if panel else []
            cells = run_cells(_of_panel(runs, panel)) if is_train else table_cells(rows)
            parts += [markdown_table(*cells), _chance(rows[0]), bullets(describe_order(rows))]
    parts += [markdown_table(*table) for table in join_tables([each["table"] for each in results if "table" in each])]
    parts.append(bullets(sorted({result["notes"] for result in results if result.get("notes")})))
    return "\n\n".join(part for part in parts if part)


def join_tables(tables: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[list[str]]]]:
    """Columns and rows of tables, one table for all that have the same columns.

    >>> join_tables([{"columns": ["", "a"], "rows": [["x", "1"]]}, {"columns": ["", "a"], "rows": [["y", "2"]]}])
    [(['', 'a'], [['x', '1'], ['y', '2']])]
    """
    joined: dict[tuple[str, ...], list[list[str]]] = {}
    for table in tables:
        joined.setdefault(tuple(table["columns"]), []).extend(table["rows"])
    return [(list(columns), rows) for columns, rows in joined.items()]


def _of_panel(runs: Sequence[dict[str, Any]], panel: str) -> list[dict[str, Any]]:
    return [result for result in runs if any(row.get("panel", "") == panel for row in result["rows"])]


def provenance_lines(results: Sequence[dict[str, Any]]) -> str:
    """Command, machine, commit, seeds, days and time behind some results. A run that two tables share counts in both."""
    commands = sorted({result["command"] for result in results})
    commits = sorted({_commit(result) for result in results})
    machines = sorted({machine_line(result["machine"]) for result in results})
    seeds = {result["settings"]["seed"] for result in results if "seed" in result["settings"]}
    seeds = sorted(seeds.union(*(result["settings"].get("seeds", []) for result in results)))
    dates = sorted({result["date"] for result in results})
    starts = ", without the runs that these start from" if any(r["settings"].get("starts") for r in results) else ""
    lines = [
        *(f"    {command}" for command in commands),
        "",
        f"{'; '.join(machines)}. Commit {', '.join(commits)}. "
        + (f"Seeds {', '.join(map(str, seeds))}. " if seeds else "")
        + f"{dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}, {computing_time(results)}{starts}.",
    ]
    return "\n".join(lines)


def computing_time(results: Sequence[dict[str, Any]]) -> str:
    """
    >>> computing_time([{"seconds": 90}, {"seconds": 60.0}]), computing_time([{"seconds": 12}, {"seconds": 0}])
    ('2 minutes of computing', '0.2 minutes of computing (not recorded of 1 of 2 results)')
    """
    minutes, unknown = sum(result["seconds"] for result in results) / 60, sum(not each["seconds"] for each in results)
    text = f"{minutes:,.0f}" if minutes >= 1 else f"{minutes:.1f}"
    return f"{text} minutes of computing" + (
        f" (not recorded of {unknown} of {len(results)} results)" if unknown else ""
    )


def machine_line(machine: dict[str, Any]) -> str:
    """
    >>> machine_line({"cpu": "Xeon", "cores": 2, "threads": 1, "torch": "2.15.0"})
    'Xeon, 2 cores, threads: 1, torch 2.15.0'
    """
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    parts = [str(machine.get("cpu", "unknown processor"))]
    parts += [f"{machine['cores']} cores"] if "cores" in machine else []
    parts += [f"threads: {machine['threads']}"] if "threads" in machine else []
    parts += [f"{name} {machine[name]}" for name in ("torch", "transformers") if name in machine]
    return gpu + ", ".join(parts)


def notes_section(notes: Sequence[dict[str, str]]) -> str:
    """What did not work."""
    entries = [f"**{note['title']}** {' '.join(note['text'].split())}" for note in notes]
    return f"## What did not work\n\n{bullets(entries)}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text left, numbers right.

    >>> print(markdown_table(["", "paper"], [["a", "1"]]))
    |  | paper |
    | --- | ---: |
    | a | 1 |
    """
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _chance(row: Row) -> str:
    number = "" if row.number is None else f" {row.number:,} validation examples."
    return f"Guessing the most frequent class: {row.chance:.1f} %.{number}"


def _commit(result: dict[str, Any]) -> str:
    return result["commit"][:COMMIT_DIGITS] + (" with changes" if result["dirty"] else "")
