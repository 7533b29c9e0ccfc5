# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments ablations`: the paper's ablations. Without `--train` it lists the rows of tables 7a to 7e, 8 and 14 at the
paper's size, with their tokens, parameters and GFLOPs. With `--train` it trains the rows of tables 5 to 9 and 14 at a small size
on the synthetic motion set, and compares our order of the rows with the paper's.

All rows of a table have the data, the recipe and the seeds in common, and differ only in what the row names.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..command_line import whole_number
from .ablation_tables import SIZES, TABLES, Ablation, Size, load_table, table_names


CHANGES = ("steps", "task", "level", "num_train", "num_validation")  # options that change the experiments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"{', '.join(table_names())}; with --train {', '.join(TABLES)} (default: all)",
    )
    parser.add_argument("--preset", default=None, help="size of the listed models (default: the paper's)")
    parser.add_argument("--train", action="store_true", help="train the rows at a small size, instead of listing them")
    parser.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="N", help="runs per row, at least 1 (default: 3)"
    )
    parser.add_argument(
        "--size",
        choices=tuple(SIZES),
        default="cpu",
        help="size of models and clips; cpu: 4 layers of width 96, 64x64 pixels; gpu: 12 layers of width 192, 128x128 pixels "
        "(default: cpu)",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="optimizer steps on clips (default: 400; gpu: 2000)"
    )
    add_run_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the synthetic motion set."""
    parser.add_argument("--task", default=None, help="task of `tubevit data synthesize` (default: all)")
    parser.add_argument("--level", type=whole_number(1), metavar="N", help="difficulty, from 1 to 4 (default: 1)")
    parser.add_argument(
        "--num-train", type=whole_number(1), metavar="N", help="synthetic training clips (default: 2000; gpu: 10000)"
    )
    parser.add_argument(
        "--num-validation",
        type=whole_number(1),
        metavar="N",
        help="synthetic validation clips (default: 500; gpu: 2000)",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that do not change the numbers."""
    parser.add_argument(
        "--jobs", type=whole_number(1), default=1, metavar="N", help="runs at the same time (default: 1)"
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        metavar="N",
        help="threads per run (default: OMP_NUM_THREADS if it is set, else the cores divided by --jobs)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: the GPU if there is one (default: auto)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results"),
        metavar="FOLDER",
        help="folder for the records, the runs and the synthetic data (default: results)",
    )


def run(args: argparse.Namespace) -> int:
    return train_tables(args) if args.train else list_tables(args)


def list_tables(args: argparse.Namespace) -> int:
    if ignored := given_options(args, CHANGES).strip():
        raise ValueError(f"{ignored} has no effect on a list of the tables: add --train, or leave it out.")
    overrides = {} if args.preset is None else {"preset": args.preset}
    for table in args.tables or table_names():
        print(format_rows(table, load_table(table), overrides), end="\n\n")
    return 0


def train_tables(args: argparse.Namespace) -> int:
    from ..environment import pick_device
    from .runner import run_all

    if args.preset is not None:
        raise ValueError("--preset has no effect on --train: choose --size cpu or gpu.")
    names = list(TABLES) if not args.tables or "all" in args.tables else list(dict.fromkeys(args.tables))
    for name in names:
        if name not in TABLES:
            raise ValueError(f"No experiments for table {name!r}; the tables are {', '.join(TABLES)}, and all.")
    size = change_size(SIZES[args.size], args)
    device = pick_device(args.device)
    for name in names:
        runs = make_runs(name, size, args.seeds, table_command(name, args))
        records = run_all(runs, args.output, device, args.jobs, args.threads)
        print(format_table_report(TABLES[name].title, records), end="\n\n", flush=True)
    print(f"Records are in {args.output}; `tubevit experiments results {args.output}` makes a report of them.")
    return 0


def change_size(size: Size, args: argparse.Namespace) -> Size:
    """The size with the data and steps of the options."""
    names = ("task", "level", "num_train", "num_validation")
    data = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(size, data=replace(size.data, **data), steps=args.steps or size.steps)


def make_runs(name: str, size: Size, num_seeds: int, command: str) -> list[Any]:
    """All runs of a table, seed by seed."""
    from .records import Label
    from .runner import Run

    table, group = TABLES[name], f"table_{name}"
    runs = []
    for seed in range(num_seeds):
        for position, each in enumerate(table.make_runs(size, seed)):
            label = Label(group, table.title, size.name, each.name, each.rows, command, position, table.about)
            runs.append(Run(each.experiment, label))
    return runs


def table_command(name: str, args: argparse.Namespace) -> str:
    """The command that reproduces a table, without the options that do not change its numbers."""
    start = f"tubevit experiments ablations {name} --train --size {args.size} --seeds {args.seeds}"
    return start + given_options(args, CHANGES)


def given_options(args: argparse.Namespace, names: Sequence[str]) -> str:
    """The options with a value, as on a shell's command line.

    >>> given_options(argparse.Namespace(num_train=8, steps=None), ["num_train", "steps"])
    ' --num-train 8'
    >>> given_options(argparse.Namespace(data="my clips"), ["data"])
    " --data 'my clips'"
    >>> given_options(argparse.Namespace(epochs=6.0), ["epochs"])
    ' --epochs 6'
    """
    given = ((name.replace("_", "-"), getattr(args, name)) for name in names)
    texts = (
        (name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in given if value is not None
    )
    return "".join(f" --{name} {shlex.quote(text)}" for name, text in texts)


def format_rows(table: str, rows: Sequence[Ablation], overrides: dict[str, Any]) -> str:
    """A table of rows with their tokens, parameters and GFLOPs (at evaluation if it differs), and the paper's number."""
    from ..models.model_size import describe

    paper = rows[0].paper
    lines = [f"Table {table}: {paper['dataset']}, {paper['metric']} in the paper"]
    lines.append(f"{'':<32}{'tokens':>8}{'parameters':>12}{'GFLOP':>8}{'paper':>8}")
    for row in rows:
        config = row.config(for_evaluation=True, **overrides)
        report = describe(config, [config.num_frames])
        (clip,) = report["clips"]
        parameters = f"{report['parameters'] / 1e6:.1f} M"
        lines.append(
            f"{row.paper['row']:<32}{clip['tokens']:>8,}{parameters:>12}{clip['gflops']:>8,.0f}{row.paper['value']:>8}"
        )
    if note := paper.get("note"):
        lines.append(note)
    return "\n".join(lines)


def format_table_report(title: str, records: Sequence[dict[str, Any]]) -> str:
    """A table, and sentences about its order, for a terminal."""
    from ..tables import format_table
    from .records import collect_rows, describe_order, table_cells

    parts = []
    for panel, rows in collect_rows(records).items():
        panel = f", {panel}" if panel else ""
        parts.append(f"{title}{panel}: accuracy; always the most frequent class: {rows[0].chance:.1f} %")
        parts.append(format_table(*table_cells(rows)))
        parts += describe_order(rows)
    return "\n".join(parts)
