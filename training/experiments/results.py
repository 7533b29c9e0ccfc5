# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit results`: RESULTS.md out of result files alone, with the command, machine, commit and seeds behind every table.

The folder holds the JSON files of `sweep`, `compare` and `baselines`, and of whatever else writes such
(`experiments.write_numbers`), and `notes.yaml`: what did not work, as a list of `title` and `text`. `--add` makes such files of
finished runs of `tubevit train` first. The same files make the same text.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .comparison_picture import PICTURE
from .runner import STARTS, read_result


NOTES = "notes.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of result files")
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="write result files of these finished runs of `tubevit train`; of a joint run name the folder of a data set",
    )
    parser.add_argument("--title", help="of the added runs' table (default: one for each data set)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="Markdown file to write (default: RESULTS.md in the folder)"
    )


def run(args: argparse.Namespace) -> int:
    if args.title and not args.add:
        raise ValueError("--title is of the runs that --add names.")
    if args.output and not args.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output {args.output}: there is no folder {args.output.parent}.")
    if args.add:
        from .run_results import add_runs

        print("\n".join(f"Wrote {path}." for path in add_runs(args.add, args.folder, args.title)))
    output = args.output or args.folder / "RESULTS.md"
    text = make_report(args.folder, output.absolute().parent)
    output.write_text(text, encoding="utf-8")
    print(f"Wrote {output}.")
    return 0


def make_report(folder: Path, home: Path) -> str:
    """
    The text of RESULTS.md.

    home: where it will lie, from which pictures are linked.

    Raises `ValueError` or `OSError`, in one line, for a folder without results, and for a file that is none.
    """
    from .results_sections import group_order, head, notes_section, section, what_is_missing

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in load_results(folder):
        groups.setdefault((result["size"], result["group"]), []).append(result)
    parts = [head(list(groups)), *what_is_missing({group for _, group in groups})]
    for size, group in sorted(groups, key=group_order):
        members = groups[size, group]
        check_alike(members)
        picture = folder / size / group / PICTURE
        parts.append(section(members, _relative(picture, home) if picture.is_file() else None))
    notes = read_notes(folder / NOTES)
    parts += [notes_section(notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def load_results(folder: Path) -> list[dict[str, Any]]:
    """All result files below a folder, sorted: rows as in their table, and by seed."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    paths = sorted(path for path in folder.glob("**/*.json") if STARTS not in path.relative_to(folder).parts)
    if not paths:
        raise ValueError(f"{folder} holds no result files.")
    results = [read_result(path) for path in paths]
    return sorted(results, key=lambda result: (result["position"], result["settings"].get("seed", 0)))


def check_alike(results: Sequence[dict[str, Any]]) -> None:
    """Raise a `ValueError` where runs that are averaged differ in more than their seed."""
    first: dict[str, str] = {}
    for result in results:
        settings = json.dumps(_without_seed(result["settings"]), sort_keys=True)
        if first.setdefault(result["name"], settings) != settings:
            raise ValueError(
                f"Results of {result['name']} in {result['group']} ({result['size']}) have different settings: keep those of one "
                "command, and delete the others."
            )


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the seed of the run and of the runs that it starts from; that of the data stays."""
    starts = {part: _without_seed(start) for part, start in settings.get("starts", {}).items()}
    return {name: value for name, value in settings.items() if name != "seed"} | {"starts": starts}


def read_notes(path: Path) -> list[dict[str, str]]:
    """The notes in a YAML file; none where there is no such file. Raises `ValueError` for anything else than title and text."""
    import yaml

    if not path.is_file():
        return []
    try:
        notes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(notes, list) or any(
        not isinstance(each, dict) or set(each) != {"title", "text"} for each in notes
    ):
        raise ValueError(f"{path} must be a list of entries with title and text.")
    return notes


def _relative(path: Path, home: Path) -> str:
    import os

    return Path(os.path.relpath(path.absolute(), home)).as_posix()
