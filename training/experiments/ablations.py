# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The paper's ablations as configurations: a YAML file per row of a table, in `ablation_rows/table_<number>/`.

Each file has `paper` (the row's place, its number there, and what the paper leaves open), `model` (a size by its name as
`preset`, and fields of `TubeViTConfig`), and sometimes `evaluation`: what differs when the trained model is evaluated.
`tubevit ablations` lists them; every row is built and counted, nothing is trained.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


ROWS_FOLDER = Path(__file__).parent / "ablation_rows"
BLOCKS = {"paper", "model", "evaluation"}


@dataclass(frozen=True)
class Ablation:
    """One row of a table of the paper."""

    name: str  # of the file, without its ending
    paper: dict[str, Any]  # "table", "row", "dataset", "metric", "value", and where given "gflops" and "note"
    model: dict[str, Any]  # "preset", and fields of TubeViTConfig
    evaluation: dict[str, Any] = field(default_factory=dict)  # fields of TubeViTConfig that differ at evaluation

    def config(self, for_evaluation: bool = False, **overrides):
        """
        The row's `TubeViTConfig`. `overrides` are fields of it, or another `preset`: the row's own fields win over those of
        the size alone.
        """
        from tubevit.presets import preset_config

        values = {**self.model, **(self.evaluation if for_evaluation else {}), **overrides}
        return preset_config(values.pop("preset"), **values)


def load_ablation(path: str | Path) -> Ablation:
    """The row in a YAML file. Raises `ValueError` for a file that is none."""
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict) or not {"paper", "model"} <= set(values) <= BLOCKS:
        found = ", ".join(map(str, values)) if isinstance(values, dict) else repr(values)
        raise ValueError(f"{path} must have the blocks paper and model, and may have evaluation; it has {found}.")
    return Ablation(path.stem, **values)


def load_table(table: str) -> list[Ablation]:
    """The rows of a table, in the paper's order. Raises `ValueError` for a table that there is not."""
    folder = ROWS_FOLDER / f"table_{table}"
    if not folder.is_dir():
        raise ValueError(f"There is no ablation of table {table!r}; there are {', '.join(table_names())}.")
    rows = [load_ablation(path) for path in folder.glob("*.yaml")]
    return sorted(rows, key=lambda row: row.paper["position"])


def table_names() -> list[str]:
    """The tables that there are rows of, such as "7a"."""
    names = (path.name.removeprefix("table_") for path in ROWS_FOLDER.glob("table_*"))
    return sorted(names, key=lambda name: (int("".join(filter(str.isdigit, name))), name))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(table_names())} (default: all)")
    parser.add_argument("--preset", default=None, help="size of the models (default: the paper's)")


def run(args: argparse.Namespace) -> int:
    overrides = {} if args.preset is None else {"preset": args.preset}
    for table in args.tables or table_names():
        print(format_rows(table, load_table(table), overrides), end="\n\n")
    return 0


def format_rows(table: str, rows: Sequence[Ablation], overrides: dict[str, Any]) -> str:
    """A table of rows with their tokens, parameters and GFLOPs (at evaluation where that differs), and the paper's number."""
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
