# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments results`: RESULTS.md from records alone, with the command, machine, commit and seeds of every table.

The folder holds the records of `tubevit experiments ablations`, `compare` and `baselines`, and `notes.yaml`: what did not work, as a
list of `title` and `text`. `--add` first writes records of finished runs of `tubevit train`. The same files give the same text.
"""

import argparse
import json
import os
import re
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .budgets_report import PICTURE as BUDGETS_PICTURE
from .budgets_report import budgets_cells, describe_budgets, panels_of, speed_cells
from .comparison_report import comparison_cells, describe_comparison
from .records import SPREAD_COLUMNS, Row, collect_rows, describe_order, read_record, table_cells
from .run_records import without_seeds
from .runner import record_paths


NOTES = "notes.yaml"
PICTURE = "comparison.png"  # beside the records of a comparison
SIZES = {
    "cpu": "small models, on CPU cores",
    "gpu": "on a GPU; a larger model, longer training, more data",
}
KINDS = (
    "transfer_",
    "train_",
    "baselines",
    "comparison_",
    "budgets_",
    "table_",
)  # prefixes of the names of groups, in the order of the page
COMMIT_DIGITS = 10
NO_LOOP = (
    "Made by a training loop for experiments that was removed in November 2026; the command is from that time. Since then "
    "`VideoTrainer` trains the experiments."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of records")
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="first write records of these finished runs of `tubevit train`; for a joint run name the folder of a data set",
    )
    parser.add_argument("--title", help="title of the table of the added runs (default: one table for each data set)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="Markdown file to write (default: RESULTS.md in FOLDER)"
    )


def run(args: argparse.Namespace) -> int:
    if args.title and not args.add:
        raise ValueError("--title is the title of the runs of --add: name runs, or leave it out.")
    if args.output and not args.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output {args.output}: there is no folder {args.output.parent}.")
    if args.add:
        from .run_records import add_runs

        print("\n".join(f"Wrote {path}." for path in add_runs(args.add, args.folder, args.title)))
    output = args.output or args.folder / "RESULTS.md"
    text = make_report(args.folder, output.absolute().parent)
    output.write_text(text, encoding="utf-8")
    print(f"Wrote {output}.")
    return 0


def make_report(folder: Path, home: Path) -> str:
    """
    The text of RESULTS.md.

    home: the folder of RESULTS.md, which links to pictures are relative to.

    Raises a `ValueError` or `OSError` of one line for a folder without records, and for a file that is not a record.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in load_records(folder):
        groups.setdefault((record["size"], record["group"]), []).append(record)
    parts = [head(list(groups)), *missing_experiments({group for _, group in groups})]
    for size, group in sorted(groups, key=group_order):
        members = groups[size, group]
        check_alike(members)
        picture = folder / size / group / (BUDGETS_PICTURE if group.startswith("budgets_") else PICTURE)
        link = Path(os.path.relpath(picture.absolute(), home)).as_posix() if picture.is_file() else None
        parts.append(section(members, link))
    notes = read_notes(folder / NOTES)
    if notes:
        entries = [f"**{note['title']}** {' '.join(note['text'].split())}" for note in notes]
        parts.append(f"## What did not work\n\n{bullets(entries)}")
    return "\n\n".join(parts) + "\n"


def load_records(folder: Path) -> list[dict[str, Any]]:
    """All records below a folder, sorted by their position in their table and by seed."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    records = [read_record(path) for path in record_paths(folder)]
    if not records:
        raise ValueError(f"{folder} holds no records.")
    return sorted(records, key=lambda record: (record["position"], record["settings"].get("seed", 0)))


def check_alike(records: Sequence[dict[str, Any]]) -> None:
    """Raise a `ValueError` for runs of one row that differ in more than their seed."""
    first: dict[str, str] = {}
    for record in records:
        settings = json.dumps(without_seeds(record["settings"]), sort_keys=True)
        if first.setdefault(record["name"], settings) != settings:
            raise ValueError(
                f"Results of {record['name']} in {record['group']} ({record['size']}) have different settings: keep those of one "
                "command, and delete the others."
            )


def read_notes(path: Path) -> list[dict[str, str]]:
    """The notes in a YAML file, an empty list if there is no file. Raises `ValueError` for other keys than title and text."""
    import yaml

    if not path.is_file():
        return []
    try:
        notes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(notes, list) or any(
        not isinstance(each, dict) or set(each) != {"title", "text"} for each in notes
    ):
        raise ValueError(f"{path} must be a list of entries with title and text.")
    return notes


def group_order(key: tuple[str, str]) -> tuple:
    """
    Sorts (size, group): transfer from an image ViT, runs of `tubevit train`, linear baselines, comparisons, the paper's tables by number, then all others; the
    sizes of a group next to each other.

    >>> sorted([("cpu", "table_14"), ("cpu", "table_7b"), ("cpu", "comparison_x"), ("cpu", "train_x")], key=group_order)
    [('cpu', 'train_x'), ('cpu', 'comparison_x'), ('cpu', 'table_7b'), ('cpu', 'table_14')]
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
        "`tubevit experiments results` makes this file from records; it is not edited by hand. Above each table is the command that "
        "reproduces its numbers, with the machine and the commit that they come from. Accuracies are of validation clips, in %; the "
        "deviation is the sample standard deviation over seeds, and the range goes from the lowest seed to the highest. Seeds of a "
        "model differ in initial weights and in the order of batches, and have the same clips. A difference is beyond the spread if "
        "every seed of one row is above every seed of the other; with three seeds each, chance alone does that to one pair of equal "
        "rows in ten. GFLOP count a multiplication and an addition as two operations.\n\n"
        f"Sizes: {named}."
    )


def missing_experiments(groups: Collection[str]) -> list[str]:
    """A paragraph that names the package's experiments without records; an empty list if all have some."""
    from .ablation_tables import TABLES

    experiments = {
        "transfer_": "from an image ViT to clips (`tubevit experiments transfer`)",
        "train_": "runs of `tubevit train` (`tubevit experiments results FOLDER --add RUN` writes their records)",
        "baselines": "linear baselines (`tubevit experiments baselines --synthetic`)",
        "comparison_": "the equal-FLOPs comparison (`tubevit experiments compare`)",
        "budgets_": "token budgets (`tubevit experiments budgets`)",
        **{
            f"table_{name}": f"{table.title} (`tubevit experiments ablations {name} --train`)"
            for name, table in TABLES.items()
        },
    }
    missing = [
        text
        for name, text in experiments.items()
        if not any(group == name or (name in KINDS and group.startswith(name)) for group in groups)
    ]
    return [f"No records yet, each command with `--output FOLDER`: {'; '.join(missing)}."] if missing else []


def section(records: Sequence[dict[str, Any]], picture: str | None = None) -> str:
    """
    The records of one group at one size: a table of the runs, then tables and notes of other records.

    picture: its path as the text links to it.
    """
    runs = [record for record in records if record["rows"]]
    speed = next((record for record in records if "speed" in record), None)
    first = (runs or records)[0]
    parts = [f"## {first['title']} ({first['size']})", provenance_lines(records)]
    parts += [first["about"]] if first.get("about") else []
    if first["group"].startswith("comparison_") and runs:
        rows = collect_rows(runs)[""]
        parts += [markdown_table(*comparison_cells(runs, speed)), _chance(rows[0]), bullets(describe_comparison(rows))]
        parts += [f"![Accuracy against FLOPs]({picture})"] if picture else []
    elif first["group"].startswith("budgets_") and runs:
        row = next(iter(next(iter(panels_of(runs).values())).values()))
        parts += [markdown_table(*budgets_cells(runs)), markdown_table(*speed_cells(runs, speed)), _chance(row)]
        parts += [bullets(describe_budgets(runs))]
        parts += [f"![Accuracy against tokens and speed]({picture})"] if picture else []
    else:
        is_train = first["group"].startswith("train_")
        abouts = [first.get("about", ""), ""]  # a panel may have a paragraph of its own, behind that of the table
        for panel, rows in collect_rows(runs).items():
            parts += [f"**{panel[0].upper()}{panel[1:]}**"] if panel else []
            own = [record for record in runs if any(row.get("panel", "") == panel for row in record["rows"])]
            about = own[0].get("about", "")
            if about not in abouts:
                parts.append(about.removeprefix(abouts[0]).strip())
                abouts.append(about)
            cells = run_cells(own) if is_train else table_cells(rows)
            parts += [
                markdown_table(*cells),
                _chance(max(rows, key=lambda row: row.number or 0)),
                bullets(describe_order(rows)),
            ]
    joined: dict[tuple[str, ...], list[list[str]]] = {}  # tables with the same columns become one
    for table in (record["table"] for record in records if "table" in record):
        joined.setdefault(tuple(table["columns"]), []).extend(table["rows"])
    parts += [markdown_table(columns, rows) for columns, rows in joined.items()]
    parts.append(bullets(sorted({record["notes"] for record in records if record.get("notes")})))
    return "\n\n".join(part for part in parts if part)


def run_cells(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text of runs of `tubevit train`, of one panel; columns that are empty in every row are left out."""
    (rows,) = collect_rows(records).values()
    members: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        members.setdefault(record["name"], []).append(record)
    cells = []
    for row, runs in zip(rows, members.values(), strict=True):
        first, scores = runs[0], [score for record in runs for score in record["scores"].values()]
        is_complete = all(score["number"] == score["listed"] for score in scores)
        cells.append(
            {
                "": row.title,
                "ours, %": f"{row.mean:.1f}",
                **{name: cell(row) for name, cell in SPREAD_COLUMNS.items()},
                "correct": f"{', '.join(str(score['correct']) for score in scores)} of {scores[0]['number']:,}",
                "INCOMPLETE: scored": ""
                if is_complete
                else ", ".join(f"{score['number']:,} of {score['listed']:,}" for score in scores),
                "views": first["views"],
                "tokens": f"{first['tokens']:,}" if "tokens" in first else "",
                "parameters": f"{first['parameters'] / 1e6:.2f} M",
                "GFLOP": f"{first['gflops']:.3g}" if "gflops" in first else "",
                "steps": f"{first['steps']:,}",
                "training, min": f"{statistics.fmean(record['training_seconds'] for record in runs) / 60:.1f}",
                "evaluation, s": f"{statistics.fmean(record['evaluation_seconds'] for record in runs):.1f}",
            }
        )
    filled = [name for name in cells[0] if not name or any(each[name] for each in cells)]
    return filled, [[each[name] for name in filled] for each in cells]


def provenance_lines(records: Sequence[dict[str, Any]]) -> str:
    """Commands, machines, commits, seeds, days and computing time of some records. A run in two tables counts in both."""
    commands = sorted({record["command"] for record in records})
    commits = sorted(
        {record["commit"][:COMMIT_DIGITS] + (" with changes" if record["dirty"] else "") for record in records}
    )
    machines = sorted({machine_line(record["machine"]) for record in records})
    seeds = {record["settings"]["seed"] for record in records if "seed" in record["settings"]}
    seeds = sorted(seeds.union(*(record["settings"].get("seeds", []) for record in records)))
    dates = sorted({record["date"] for record in records})
    starts = any(record["settings"].get("init_from") or record["settings"].get("starts") for record in records)
    starts = ", without the runs that these start from" if starts else ""
    # Runs of `tubevit train` had the product's loop at all times.
    is_old = any("scores" in each and each["rows"] and "loop" not in each for each in records)
    is_old = is_old and not records[0]["group"].startswith("train_")
    lines = [
        *(f"    {command}" for command in commands),
        "",
        f"{'; '.join(machines)}. Commit {', '.join(commits)}. "
        + (f"Seeds {', '.join(map(str, seeds))}. " if seeds else "")
        + f"{dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}, {computing_time(records)}{starts}.",
        *(["", NO_LOOP] if is_old else []),
    ]
    return "\n".join(lines)


def computing_time(records: Sequence[dict[str, Any]]) -> str:
    """
    >>> computing_time([{"seconds": 90}, {"seconds": 60.0}]), computing_time([{"seconds": 12}, {"seconds": 0}])
    ('2 minutes of computing', '0.2 minutes of computing (not recorded of 1 of 2 results)')
    """
    minutes, unknown = sum(record["seconds"] for record in records) / 60, sum(not each["seconds"] for each in records)
    text = f"{minutes:,.0f}" if minutes >= 1 else f"{minutes:.1f}"
    return f"{text} minutes of computing" + (
        f" (not recorded of {unknown} of {len(records)} results)" if unknown else ""
    )


def machine_line(machine: dict[str, Any]) -> str:
    """
    >>> machine_line({"cpu": "Xeon", "cores": 2, "threads": 1, "torch": "2.15.0"})
    'Xeon, 2 cores, threads: 1, torch 2.15.0'
    """
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    parts = [str(machine.get("cpu", "unknown processor"))]
    parts += [f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"] if "cores" in machine else []
    parts += [f"threads: {machine['threads']}"] if "threads" in machine else []
    parts += [f"{name} {machine[name]}" for name in ("torch", "transformers") if name in machine]
    return gpu + ", ".join(parts)


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
    return f"Chance (always the most frequent class): {row.chance:.1f} %.{number}"
