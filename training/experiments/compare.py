# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit compare`: TubeViT and the video models of Transformers from random weights, with the same width, depth, data,
recipe and arithmetic spent on training. TubeViT runs twice, as in the paper and with the mean of its tokens in place of the
paper's attention pooling.

The arithmetic is what TubeViT's steps take: a model that computes more per clip sees fewer clips. Each takes its own
number of frames of a clip, and patches are scaled with the picture, as the tubes are.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..benchmarks.bench import parse_names
from ..options import whole_number
from .sweep import CHANGES, SIZE_NAMES, add_data_arguments, add_run_arguments, change_size, changed_options


PEER_NAMES = ("videomae", "vivit", "timesformer", "vjepa2")
OURS = {"tubevit": "TubeViT", "tubevit_mean": "TubeViT, mean pooling"}
SPEED_BATCH = 8
LONGER = 4  # times the steps of a sweep, for the models that see fewer clips to learn something


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against", default=",".join(PEER_NAMES), metavar="MODELS", help="separated by commas (default: %(default)s)"
    )
    parser.add_argument("--data", metavar="PATH", help="class folders or annotations (default: the made motion set)")
    parser.add_argument("--validation-data", metavar="PATH", help="of the validation clips, where --data has none")
    add_data_arguments(parser)
    parser.add_argument(
        "--size",
        choices=SIZE_NAMES,
        default="cpu",
        help="of models and made data: cpu (default), or gpu, ten times that",
    )
    parser.add_argument("--seeds", type=whole_number(1), default=3, metavar="N", help="runs per model (default: 3)")
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="of TubeViT (default: 4 times those of a sweep)"
    )
    parser.add_argument(
        "--equal", choices=("flops", "steps"), default="flops", help="what all models train for (default: flops)"
    )
    parser.add_argument(
        "--rounds", type=whole_number(0), default=5, metavar="N", help="of timing, 0 for none (default: 5)"
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from ..environment import pick_device
    from .comparison_picture import PICTURE, draw_race
    from .comparison_report import format_race
    from .runner import run_all
    from .sweep_tables import SIZES

    check_arguments(args)
    size, device = change_size(SIZES[args.size], args), pick_device(args.device)
    recipe = size.recipe if args.steps else replace(size.recipe, steps=LONGER * size.recipe.steps)
    if args.threads:
        torch.set_num_threads(args.threads)
    data = race_data(size, args.data, args.validation_data)
    models = race_models(size, parse_names(args.against))
    label = race_label(data, size.name, compare_command(args), args.equal)
    runs = race_runs(models, data, recipe, args.seeds, args.equal, label)
    results = run_all(runs, args.output, device, args.jobs, args.threads)
    speed = find_speed(label, models, data, args.output, device, args.rounds) if args.rounds else None
    print(format_race(results, speed))
    picture = runs[0].path(args.output).with_name(PICTURE)
    draw_race(picture, results, label["title"])
    print(f"Picture: {picture}. `tubevit results {args.output}` makes a report of all result files.")
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    for name in parse_names(args.against):
        if name not in PEER_NAMES:
            raise ValueError(f"--against {name}: there is no such model; there are {', '.join(PEER_NAMES)}.")
    made = {"task": args.task, "level": args.level, "num-train": args.num_train, "num-validation": args.num_validation}
    given = [name for name, value in made.items() if value is not None]
    if args.data is not None and given:
        raise ValueError(f"--{given[0]} is for the made set, not for --data {args.data}.")
    if args.validation_data is not None and args.data is None:
        raise ValueError("--validation-data goes with --data, which names the training clips.")


def race_data(size: Any, source: str | None, validation: str | None) -> Any:
    """The made set, or clips from disk: of these half as many frames again and a margin of a quarter are kept to cut from."""
    if source is None:
        return size.data
    from .settings import Data

    sides = {"num_frames": size.data.num_frames, "image_size": size.data.image_size}
    extra = {"extra_frames": size.data.num_frames // 2, "extra_pixels": size.data.image_size // 4}
    unused = {"task": "", "level": 0, "num_train": 0, "num_validation": 0, "num_images": 0}
    return Data(source=source, validation=validation, jitter=True, **sides, **extra, **unused)


def race_models(size: Any, peers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Descriptions by name, ours first: as in the paper, and with its tokens averaged."""
    from .sweep_tables import tubevit

    of_peers = {name: {"kind": name, "patch_size": size.patch_size, **size.encoder} for name in peers}
    ours = dict(zip(OURS, (tubevit(size), tubevit(size, pooling="mean")), strict=True))
    return ours | of_peers


def race_label(data: Any, size_name: str, command: str, equal: str) -> dict[str, str]:
    """What all result files of a race say of where they belong, see `experiments.Label`."""
    made = data.source == "motion"
    path = Path(data.source).resolve()
    name = "motion" if made else path.parent.name if path.is_file() else path.name
    where = f"the made set (task {data.task}, level {data.level})" if made else name
    group = (
        f"race_{name}"
        + (f"_{data.task}_level{data.level}" if made else "")
        + ("_equal_steps" if equal == "steps" else "")
    )
    spent = "arithmetic" if equal == "flops" else "number of steps"
    return {
        "group": group,
        "title": f"The race on {where}",
        "size": size_name,
        "command": command,
        "about": f"Random weights, one recipe, and the same {spent} spent on training. Frames: VideoMAE 16, TimeSformer 8 and "
        f"ViViT 32, as they were designed, V-JEPA 2 (designed for 64) and TubeViT all {data.num_frames}, spread over the clip. "
        "TubeViT pools by attention, as in the paper, or takes the mean of its tokens.",
    }


def compare_command(args: argparse.Namespace) -> str:
    against = "" if args.against == ",".join(PEER_NAMES) else changed_options(args, ["against"])
    equal = "" if args.equal == "flops" else f" --equal {args.equal}"
    options = changed_options(args, ("data", "validation_data", *CHANGES))
    return f"tubevit compare --size {args.size} --seeds {args.seeds}{against}{equal}{options}"


def race_runs(
    models: dict[str, dict[str, Any]], data: Any, recipe: Any, num_seeds: int, equal: str, label: dict[str, str]
) -> list[Any]:
    """A run per model and seed; the steps of the peers follow from the budget that TubeViT's make."""
    from .runner import Label, Run
    from .settings import Experiment

    recipes = dict.fromkeys(models, recipe) if equal == "steps" else equal_recipes(models, data, recipe)
    runs = []
    for seed in range(num_seeds):
        for position, (name, description) in enumerate(models.items()):
            row = {"name": name, "title": title_of(name), "score": "video"}
            experiment = Experiment(description, data, recipes[name], seed)
            runs.append(Run(experiment, Label(**label, name=name, rows=[row], position=position)))
    return runs


def equal_recipes(models: dict[str, dict[str, Any]], data: Any, recipe: Any) -> dict[str, Any]:
    """The recipe for each model with as many steps as the arithmetic of the first model's pays for."""
    from .compare_speed import build
    from .models import count_gflops
    from .training import steps_for, training_gflops

    gflops = {name: count_gflops(build(description, data), data) for name, description in models.items()}
    budget = training_gflops(recipe, gflops[next(iter(models))])
    return {name: replace(recipe, steps=steps_for(recipe, each, budget)) for name, each in gflops.items()}


def title_of(name: str) -> str:
    from ..models.families import peers

    return OURS.get(name) or peers()[name].title


def find_speed(
    label: dict[str, str], models: dict[str, dict[str, Any]], data: Any, folder: Path, device: str, rounds: int
) -> dict[str, Any]:
    """The speed of all models, as a result file keeps it: measured unless it is there with these settings."""
    import time

    import torch

    from .compare_speed import measure_speed
    from .runner import Label, read_result, write_numbers

    whole = Label(**label, name="speed", rows=[], position=len(models))
    path = whole.folder(folder) / "speed.json"
    machine = {"device": device, "threads": torch.get_num_threads()}
    settings = {"models": models, "data": asdict(data), "batch_size": SPEED_BATCH, "rounds": rounds, **machine}
    if path.is_file() and (known := read_result(path))["settings"] == settings:
        return known
    begin = time.perf_counter()
    speed = measure_speed(models, data, SPEED_BATCH, device, rounds)
    seconds = round(time.perf_counter() - begin, 2)
    return read_result(write_numbers(whole, folder, device, settings=settings, speed=speed, seconds=seconds))
