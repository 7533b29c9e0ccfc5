# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Result files of `tubevit baselines`: one for each data set, of the made ones for each task and level."""

import argparse
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..options import option_values
from ..synthetic.motion_scenes import LEVELS
from ..synthetic.synthesize import TASK_NAMES
from .linear_baselines import FRAMES_OF_FILES, FRAMES_OF_MADE, read_data_config
from .paths import as_name, portable
from .run_command import as_text
from .runner import Label, read_result, write_numbers


GROUP = "baselines"
TITLE = "Linear classifiers of small grey pictures"
ABOUT = (
    "What is reached without a video model: chance is the most frequent class of the training clips, one frame the middle one, "
    "frames without order are mean, minimum and maximum over time, and motion energy says where and when something moves, not "
    "which way. ± is the sample standard deviation over made sets of different seeds, of which each has clips of its own."
)
SIZES = ("image_size", "num_train", "num_validation")


def describe_settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings behind each line of the table, by the name of its result file, in order; known before anything is scored."""
    if not args.made:
        options = portable(option_values(read_data_config(args)))
        name = as_name(Path(options.get("data") or options.get("train_data") or "data").name)
        return {f"files-{name}": {"options": options, "num_frames": args.num_frames or FRAMES_OF_FILES}}
    common = {name: getattr(args, name) for name in SIZES} | {"num_frames": args.num_frames or FRAMES_OF_MADE}
    return {
        f"made-{task}-level{level}": {"task": task, "level": level, **common, "seeds": list(range(args.seeds))}
        for task in args.task
        for level in args.level
    }


def check_files(folder: Path, args: argparse.Namespace) -> None:
    """Raise `FileExistsError` where a result with other settings would be overwritten."""
    for name, settings in describe_settings(args).items():
        path = make_label(name, settings, args).folder(folder) / f"{name}.json"
        if path.is_file() and read_result(path)["settings"] != settings:
            raise FileExistsError(f"{path} has other settings: name another --output, or move it away.")


def write_baselines(results: Sequence[dict[str, Any]], folder: Path, args: argparse.Namespace) -> list[Path]:
    """
    Write a result file for each of `results`, and return their paths.

    results: as `linear_baselines.score_made` or `score_files` gives them for these arguments, in the same order.
    """
    settings = describe_settings(args)
    return [
        write_numbers(
            make_label(name, settings[name], args),
            folder,
            "cpu",
            settings=settings[name],
            seconds=result.get("seconds", 0),
            table={"columns": list(columns := make_cells(result)), "rows": [list(columns.values())]},
            accuracies=result["accuracies"],
        )
        for name, result in zip(settings, results, strict=True)
    ]


def make_label(name: str, settings: dict[str, Any], args: argparse.Namespace) -> Label:
    """Data from files stand first, made ones as `tubevit make-data` lists them."""
    place = (
        TASK_NAMES.index(settings["task"]) * len(LEVELS) + list(LEVELS).index(settings["level"]) if args.made else -1
    )
    return Label(GROUP, TITLE, "cpu", name, [], make_command(args), 1 + place, ABOUT)


def make_command(args: argparse.Namespace) -> str:
    """The command line that makes the results."""
    first = next(iter(describe_settings(args).values()))
    if not args.made:
        pairs = [shlex.quote(f"{name}={as_text(value, False)}") for name, value in first["options"].items()]
        return " ".join(["tubevit baselines", *pairs, f"--num-frames {first['num_frames']}"])
    words = []
    if args.task != list(TASK_NAMES):
        words.append(f"--task {' '.join(args.task)}")
    if args.level != list(LEVELS):
        words.append(f"--level {' '.join(map(str, args.level))}")
    words += [f"--{name.replace('_', '-')} {first[name]}" for name in ("num_frames", *SIZES)]
    return " ".join(["tubevit baselines --made", *words, f"--seeds {args.seeds}"])


def make_cells(result: dict[str, Any]) -> dict[str, str]:
    """Column to text of one line of the report, accuracies in %."""
    columns = {
        f"{name}, %": describe_share([each[name] for each in result["accuracies"]]) for name in result["accuracies"][0]
    }
    return {
        "": portable(result["data"]),
        **columns,
        "seeds": str(len(result["accuracies"])),
        "clips to learn from": f"{result['num_train']:,}",
        "to score": f"{result['num_validation']:,}",
        "frames": str(result["num_frames"]),
    }


def describe_share(shares: Sequence[float]) -> str:
    """In %, mean and standard deviation over seeds.

    >>> describe_share([0.24, 0.26]), describe_share([0.5])
    ('25.0 ± 1.4', '50.0')
    """
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.fmean(shares):.1f}{spread}"
