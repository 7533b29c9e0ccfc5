# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments budgets`: is one TubeViT, trained once for a range of token budgets, as good at each budget as a model of that
budget? All models have the same data and recipe, and start from random weights, or with `--model` from one image ViT.

Trained are one model with `token_budget_range`, once more with `budget_distillation`, one model for each budget alone, and one with all
tokens. The models of one budget have the same number of steps; those of the range have the training FLOPs of the one with all tokens,
hence more steps, as have the models of `--against` in `tubevit experiments compare`. The models of the range and of all tokens are
evaluated at each budget, and with as many random tokens.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..command_line import positive_number
from ..models.model_size import FLOPS_PER_TRAINING_STEP
from ..option_types import Range
from ..options import parse_names
from .ablation_tables import SIZES, Size, tubevit
from .ablations import CHANGES, add_run_arguments, change_size, given_options
from .budgets_report import (
    ALONE,
    DISTILLED,
    FULL,
    OTHERS,
    PICTURE,
    RANDOM,
    RANGE,
    TITLES,
    draw_budgets,
    format_budgets,
)
from .comparison import (
    PEERS,
    REAL_DATA,
    add_comparison_arguments,
    build,
    check_arguments,
    comparison_data,
    comparison_label,
    comparison_models,
    comparison_runs,
    find_speed,
    make_step,
    sizes_of_tubevit,
)
from .settings import MOTION, VIDEO, Data, Experiment


FRACTIONS = (1.0, 0.5, 0.25, 0.125)  # of all tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_comparison_arguments(parser, "default: 400; gpu: 2000; with --model the epochs of the recipe")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="image ViT to start from, folder or Hub name, with the recipe finetune-transfer; needs --data, and compares with no models of the library (default: random weights)",
    )
    parser.add_argument(
        "--learning-rate", type=positive_number, metavar="X", help="of all models (default: that of the recipe)"
    )
    parser.add_argument(
        "--budgets",
        metavar="N,...",
        help="numbers of tube tokens to evaluate, besides all tokens (default: a half, a quarter and an eighth of all)",
    )
    parser.add_argument(
        "--distillation",
        type=float,
        default=0.5,
        metavar="X",
        help="budget_distillation of a second model for the range of budgets; 0 trains no second model (default: 0.5)",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from ..environment import pick_device
    from ..logging_utils import quiet_libraries
    from .runner import run_all

    quiet_libraries()
    check_arguments(args)
    if args.distillation not in Range(0, 1):
        raise ValueError(f"--distillation must be from 0 to 1, got {args.distillation:g}.")
    device, setup = pick_device(args.device), make_setup(args)
    peers = [] if args.model else parse_names(args.against)
    budgets = parse_budgets(args.budgets, setup.config)
    if args.threads:
        torch.set_num_threads(args.threads)
    label = budgets_label(setup, args, budgets)
    runs = budgets_runs(setup, budgets, args.distillation, args.seeds, label)
    runs += peers_runs(setup, peers, args.seeds, label)
    records = run_all(runs, args.output, device, args.jobs, args.threads)
    speed = None
    if args.rounds:
        models = speed_models(setup, budgets, peers)
        speed = find_speed(label, models, args.output, device, args.rounds, measure_forward)
    print(format_budgets(records, speed))
    picture = runs[0].path(args.output).with_name(PICTURE)
    draw_budgets(picture, records, speed, label["title"])
    print(f"Picture: {picture}. `tubevit experiments results {args.output}` makes a report of all records.")
    return 0


@dataclass(frozen=True)
class Setup:
    """
    What all TubeViTs have in common, as `from_random_weights` and `from_image_vit` make it.

    size: of the library's models. steps: of a model with all tokens. model_config: with all tokens, as JSON holds it. passes: forward and
    backward passes of a training step. start: what the models start from, for the report. given: options of `tubevit train` from the
    command line. experiment: one of the runs, from its steps, its seed, its tubes (`None` for those of `model_config`) and its options.
    """

    size: Size
    data: Data
    steps: int
    model_config: dict[str, Any]
    passes: float
    start: str
    given: dict[str, Any]
    experiment: Callable[[int, int, list[dict[str, Any]] | None, dict[str, Any]], Experiment]

    @cached_property
    def config(self) -> Any:
        from tubevit import TubeViTConfig

        return TubeViTConfig(**self.model_config)


def from_random_weights(size: Size, data: Data, steps: int, given: dict[str, Any] | None = None) -> Setup:
    given, model, recipe = given or {}, tubevit(size), {} if data.source == MOTION else REAL_DATA

    def experiment(steps: int, seed: int, tubes: list[dict[str, Any]] | None, options: dict[str, Any]) -> Experiment:
        config = model if tubes is None else {**model, "tubes": tubes}
        return Experiment(size.options(config, steps, **{**recipe, **given, **options}), data, seed=seed)

    config, start = {**sizes_of_tubevit(size), **model}, "Random weights, one recipe."
    return Setup(size, data, steps, config, FLOPS_PER_TRAINING_STEP, start, given, experiment)


def from_image_vit(size: Size, data: Data, steps: int, given: dict[str, Any], transfer: Any) -> Setup:
    """transfer: a `transfer_rows.Transfer`, with the image ViT."""
    from .transfer_rows import BASE

    def experiment(steps: int, seed: int, tubes: list[dict[str, Any]] | None, options: dict[str, Any]) -> Experiment:
        own = {} if tubes is None else {"model_config": {"tubes": tubes}}
        found = transfer.experiment(replace(BASE, options={**given, **options, **own}), data, seed)
        return replace(found, options=found.options | {"max_steps": steps})

    config = transfer.tubevit_config(BASE).to_diff_dict()
    config = {name: value for name, value in config.items() if name not in ("transformers_version", "model_type")}
    start = f"From {Path(transfer.model).name}, the recipe finetune-transfer."
    return Setup(size, data, steps, config, transfer.passes(BASE), start, given, experiment)


def make_setup(args: argparse.Namespace) -> Setup:
    """
    What the models have in common, from the command line.

    Raises `ValueError` for options that do not work with `--model`, and for data without training or validation clips.
    """
    size = change_size(SIZES[args.size], args)
    given = {} if args.learning_rate is None else {"learning_rate": args.learning_rate}
    if args.model is None:
        data = comparison_data(size, args.data, args.validation_data)
        return from_random_weights(size, data, size.steps, given)
    from .folds import read_split
    from .transfer import check_model, num_train
    from .transfer_rows import Transfer, recipe_options

    if args.data is None:
        raise ValueError(f"--model {args.model} needs --data, the clips to train on.")
    for name, is_refused in (
        ("--validation-data", args.validation_data),
        (f"--against {args.against}", args.against not in ("", ",".join(PEERS))),
        ("--size gpu", args.size == "gpu"),
    ):
        if is_refused:
            raise ValueError(
                f"{name} does not work with --model, whose recipe finetune-transfer trains TubeViT alone, on a data set with two splits."
            )
    check_model(args.model)
    clips = read_split(args.data)
    options = recipe_options()
    data = Data.of_files(args.data, None, options["num_frames"], options["image_size"])
    transfer = Transfer(args.model, len(clips.class_names), num_train(clips), options["num_train_epochs"])
    return from_image_vit(size, data, args.steps or transfer.base_steps, given, transfer)


def parse_budgets(text: str | None, config: Any) -> list[int]:
    """
    The numbers of tokens, all tokens first. text: of `--budgets`; `None` for the `FRACTIONS`. config: with all tokens.

    Raises `ValueError` for numbers that a clip cannot have.
    """
    full = config.num_tokens()
    if text is None:
        budgets = [round(fraction * full) for fraction in FRACTIONS]
    else:
        names = parse_names(text)
        if not names or not all(name.isdecimal() for name in names):
            raise ValueError(f"--budgets must be whole numbers, separated by commas, got {text!r}.")
        budgets = [full, *map(int, names)]
    if max(budgets) > full:
        raise ValueError(f"--budgets {text}: a clip has {full} tube tokens.")
    numbers = {config.with_token_budget(budget).num_tokens() for budget in budgets}
    if len(numbers) < 2:
        raise ValueError(f"--budgets {text}: give at least one number below all {full} tokens.")
    return sorted(numbers, reverse=True)


def steps_of_range(setup: Setup, budgets: Sequence[int], distillation: float) -> int:
    """Steps of a model for the range of `budgets` with the training FLOPs of the one with all tokens."""
    from ..trainer.token_budgets import levels_of, training_gflops

    levels = levels_of(setup.config, budgets[-1], budgets[0])
    teacher = levels[-1] if distillation else None
    each = [training_gflops(level, None if level is levels[-1] else teacher, setup.passes) for level in levels]
    return round(setup.steps * each[-1] * len(each) / math.fsum(each))


def budgets_label(setup: Setup, args: argparse.Namespace, budgets: Sequence[int]) -> dict[str, str]:
    """The fields of `records.Label` that all records have in common."""
    data, size_name = setup.data, setup.size.name
    label = comparison_label(data, size_name, budgets_command(args), "flops", [])
    where = label["title"].partition(" on ")[2]
    teacher = ""
    if args.distillation:
        steps = steps_of_range(setup, budgets, args.distillation)
        teacher = f" ({steps:,} with budget_distillation={args.distillation:g}, whose teacher has its forward passes)"
    about = (
        f"{setup.start} A model of one budget has {setup.steps:,} steps. A model of the range has the training FLOPs of the one with all "
        f"tokens, {steps_of_range(setup, budgets, 0):,} steps{teacher}, of which each has one of up to 8 numbers of tokens from {budgets[-1]} "
        f"to {budgets[0]}. Random tokens are dropped after the tokenizer; a budget has coarser strides."
    )
    if args.against and not args.model:
        about += " The library's models have the training FLOPs of the TubeViT with all tokens."
    group = label["group"].replace("comparison_", "budgets_transfer_" if args.model else "budgets_", 1)
    return label | {"group": group, "title": f"Token budgets on {where}", "about": about}


def budgets_command(args: argparse.Namespace) -> str:
    against = "" if args.against == ",".join(PEERS) or args.model else given_options(args, ["against"])
    distillation = "" if args.distillation == 0.5 else given_options(args, ["distillation"])
    options = given_options(args, ("data", "validation_data", "model", "learning_rate", *CHANGES, "budgets"))
    size = "" if args.model else f" --size {args.size}"
    return f"tubevit experiments budgets{size} --seeds {args.seeds}{against}{distillation}{options}"


def budgets_runs(
    setup: Setup, budgets: Sequence[int], distillation: float, num_seeds: int, label: dict[str, str]
) -> list[Any]:
    """The runs of TubeViT, seed by seed. budgets: numbers of tokens, all tokens first."""
    from .records import Label
    from .runner import Run

    full, *fewer = budgets
    ranged = {"token_budget_range": [fewer[-1], full]}
    # Of each model its steps, its options, and its number of tokens if it is of one budget below all tokens.
    trained: dict[str, tuple[int, dict[str, Any], int | None]] = {FULL: (setup.steps, {}, None)}
    trained[RANGE] = (steps_of_range(setup, budgets, 0.0), ranged, None)
    if distillation:
        steps = steps_of_range(setup, budgets, distillation)
        trained[DISTILLED] = (steps, ranged | {"budget_distillation": distillation}, None)
    trained |= {f"{ALONE}_{number}": (setup.steps, {}, number) for number in fewer}
    evaluations = {f"tokens_{number}": {"token_budget": number} for number in fewer}
    evaluations |= {f"random_{number}": {"random_tokens": number} for number in fewer}
    runs = []
    for seed in range(num_seeds):
        for position, (name, (steps, options, number)) in enumerate(trained.items()):
            tubes = None if number is None else setup.config.with_token_budget(number).tubes
            experiment = setup.experiment(steps, seed, tubes, options)
            if number is None:
                experiment = replace(experiment, evaluations=evaluations)
            rows = rows_of(name, budgets) if number is None else [row_of(ALONE, number, VIDEO)]
            runs.append(Run(experiment, Label(**label, name=name, rows=rows, position=position)))
    return runs


def rows_of(name: str, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of a checkpoint that is evaluated at all budgets; that of all tokens also counts among the models of one budget."""
    full, *fewer = budgets
    rows = [row_of(name, full, VIDEO), *(row_of(name, number, f"tokens_{number}") for number in fewer)]
    rows += [row_of(name, number, f"random_{number}", RANDOM.format(TITLES[name])) for number in fewer]
    return [*rows, row_of(ALONE, full, VIDEO)] if name == FULL else rows


def row_of(name: str, number: int, score: str, panel: str | None = None) -> dict[str, Any]:
    return {
        "name": f"{name}_{score}_{number}",
        "title": f"{number} tokens",
        "score": score,
        "panel": panel or TITLES[name],
    }


def peers_runs(setup: Setup, peers: Sequence[str], num_seeds: int, label: dict[str, str]) -> list[Any]:
    """The runs of other models, as `tubevit experiments compare` makes them."""
    if not peers:
        return []
    models = comparison_models(setup.size, peers)
    runs = comparison_runs(setup.size, models, setup.data, setup.steps, num_seeds, "flops", label, setup.given)
    return [
        replace(run, label=replace(run.label, position=100 + run.label.position, rows=[{**row, "panel": OTHERS}]))
        for run in runs
        if run.label.name in peers
        for row in run.label.rows
    ]


# Speed


def speed_models(setup: Setup, budgets: Sequence[int], peers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The models whose forward passes are timed, as `comparison.build` takes them."""
    models = comparison_models(setup.size, peers)
    ours = {"model_config": setup.model_config}
    full, *fewer = budgets
    return {
        f"tokens_{full}": ours,
        **{f"tokens_{number}": ours | {"token_budget": number} for number in fewer},
        **{f"random_{number}": ours | {"random_tokens": number} for number in fewer},
        **{name: models[name] for name in peers},
    }


def measure_forward(
    models: dict[str, dict[str, Any]], batch_size: int, device: str, rounds: int
) -> dict[str, dict[str, float]]:
    """By model `{"clips_per_second"}` of its forward pass: of the median of `rounds`."""
    from ..timing import interleave, summarize

    built = {name: build(model).to(device) for name, model in models.items()}
    calls = {name: make_step(model, batch_size, device, train=False) for name, model in built.items()}
    timings = interleave(calls, rounds, device, "forward passes")
    return {
        name: {"clips_per_second": round(1e3 * batch_size / summarize(values)["median_ms"], 3)}
        for name, values in timings.items()
    }
