# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit sweep`: the paper's ablations, trained at a small size on the made motion set, with our order of the rows
beside the paper's.

Rows of a table share data, recipe and, seed by seed, the order of batches; only what the row names differs. What was
run is kept as result files, and not run again.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..options import whole_number


SIZE_NAMES = ("cpu", "gpu")
CHANGES = ("steps", "task", "level", "num_train", "num_validation")  # options that change the experiments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="5, 6, 7a to 7f, 8, 9, 14 of the paper, or all")
    parser.add_argument("--seeds", type=whole_number(1), default=3, metavar="N", help="runs per row (default: 3)")
    parser.add_argument(
        "--size", choices=SIZE_NAMES, default="cpu", help="of models and data: cpu (default), or gpu, ten times that"
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="of training on clips (default: the size's)"
    )
    add_run_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the made set."""
    parser.add_argument("--task", default=None, help="of the made set (default: all, see make-data)")
    parser.add_argument(
        "--level", type=whole_number(1), metavar="N", help="of difficulty of the made set (default: 1)"
    )
    parser.add_argument("--num-train", type=whole_number(1), metavar="N", help="made training clips")
    parser.add_argument("--num-validation", type=whole_number(1), metavar="N", help="made validation clips")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that do not change the numbers."""
    parser.add_argument("--jobs", type=whole_number(1), default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="of each run (default: the cores, shared)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: the GPU if there is one"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results"), metavar="FOLDER", help="of result files (default: results)"
    )


def run(args: argparse.Namespace) -> int:
    from ..environment import pick_device
    from .runner import run_all
    from .sweep_tables import SIZES, TABLES

    names = list(TABLES) if "all" in args.tables else list(dict.fromkeys(args.tables))
    for name in names:
        if name not in TABLES:
            raise ValueError(f"There is no sweep of table {name!r}; there are {', '.join(TABLES)}, and all.")
    size = change_size(SIZES[args.size], args)
    device = pick_device(args.device)
    for name in names:
        runs = make_runs(name, size, args.seeds, sweep_command(name, args))
        results = run_all(runs, args.output, device, args.jobs, args.threads)
        print(format_table_report(TABLES[name].title, results), end="\n\n", flush=True)
    print(f"Result files are in {args.output}; `tubevit results {args.output}` makes a report of them.")
    return 0


def change_size(size: Any, args: argparse.Namespace) -> Any:
    """The size with the data and steps that the options ask for."""
    names = ("task", "level", "num_train", "num_validation")
    data = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    recipe = size.recipe if args.steps is None else replace(size.recipe, steps=args.steps)
    return replace(size, data=replace(size.data, **data), recipe=recipe)


def make_runs(name: str, size: Any, num_seeds: int, command: str) -> list[Any]:
    """All runs of a table, those of a seed next to each other."""
    from .runner import Label, Run
    from .sweep_tables import TABLES

    table, group = TABLES[name], f"table_{name}"
    runs = []
    for seed in range(num_seeds):
        for position, each in enumerate(table.make_runs(size, seed)):
            label = Label(group, table.title, size.name, each.name, each.rows, command, position, table.about)
            runs.append(Run(each.experiment, label))
    return runs


def sweep_command(name: str, args: argparse.Namespace) -> str:
    """What makes a table again, without what does not change its numbers."""
    return f"tubevit sweep {name} --size {args.size} --seeds {args.seeds}" + changed_options(args, CHANGES)


def changed_options(args: argparse.Namespace, names: Sequence[str]) -> str:
    """Options that were given, as on a shell's command line.

    >>> changed_options(argparse.Namespace(num_train=8, steps=None), ["num_train", "steps"])
    ' --num-train 8'
    >>> changed_options(argparse.Namespace(data="my clips"), ["data"])
    " --data 'my clips'"
    """
    given = ((name.replace("_", "-"), getattr(args, name)) for name in names)
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given if value is not None)


def format_table_report(title: str, results: Sequence[dict[str, Any]]) -> str:
    """A table, and sentences about its order, for a terminal."""
    from ..tables import format_table
    from .sweep_report import collect_rows, describe_order, table_cells

    parts = []
    for panel, rows in collect_rows(results).items():
        what = f", {panel}" if panel else ""
        columns, cells = table_cells(rows)
        parts.append(f"{title}{what}: accuracy, chance {rows[0].chance:.1f} %")
        parts.append(format_table(columns, cells))
        parts += describe_order(rows)
    return "\n".join(parts)
