# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments budgets`: is one TubeViT, trained once for a range of token budgets, as good at each budget as a model of that
budget? All models start from random weights and have the same data, recipe and number of steps.

Trained are one model with `token_budget_range`, once more with `budget_distillation`, one model for each budget alone, and one with all
tokens. The models of the range and of all tokens are evaluated at each budget, and with as many random tokens. The models of
`--against` have the training FLOPs of the TubeViT with all tokens, as in `tubevit experiments compare`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

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
    add_comparison_arguments(parser, "default: 400; gpu: 2000")
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
    from .runner import run_all

    check_arguments(args)
    if args.distillation not in Range(0, 1):
        raise ValueError(f"--distillation must be from 0 to 1, got {args.distillation:g}.")
    size, device = change_size(SIZES[args.size], args), pick_device(args.device)
    budgets = parse_budgets(args.budgets, size)
    if args.threads:
        torch.set_num_threads(args.threads)
    data, peers = comparison_data(size, args.data, args.validation_data), parse_names(args.against)
    label = budgets_label(data, args, budgets)
    runs = budgets_runs(size, data, budgets, args.distillation, args.seeds, label)
    runs += peers_runs(size, data, peers, args.seeds, label)
    records = run_all(runs, args.output, device, args.jobs, args.threads)
    speed = None
    if args.rounds:
        models = speed_models(size, budgets, peers)
        speed = find_speed(label, models, args.output, device, args.rounds, measure_forward)
    print(format_budgets(records, speed))
    picture = runs[0].path(args.output).with_name(PICTURE)
    draw_budgets(picture, records, speed, label["title"])
    print(f"Picture: {picture}. `tubevit experiments results {args.output}` makes a report of all records.")
    return 0


def parse_budgets(text: str | None, size: Size) -> list[int]:
    """
    The numbers of tokens, all tokens first. text: of `--budgets`; `None` for the `FRACTIONS`.

    Raises `ValueError` for numbers that a clip cannot have.
    """
    config = tubevit_config(size)
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


def tubevit_config(size: Size) -> Any:
    from tubevit import TubeViTConfig

    return TubeViTConfig(**sizes_of_tubevit(size), **tubevit(size))


def budgets_label(data: Data, args: argparse.Namespace, budgets: Sequence[int]) -> dict[str, str]:
    """The fields of `records.Label` that all records have in common."""
    label = comparison_label(data, args.size, budgets_command(args), "flops", [])
    where, steps = label["title"].partition(" on ")[2], args.steps or SIZES[args.size].steps
    about = (
        f"Random weights, one recipe, and {steps:,} steps of each TubeViT. A step of the range has one of up to 8 numbers of tokens from "
        f"{budgets[-1]} to {budgets[0]}, so that its training costs less than one with all tokens. Random tokens are dropped after the "
        "tokenizer; a budget has coarser strides."
    )
    if args.against:
        about += " The library's models have the training FLOPs of the TubeViT with all tokens."
    group = label["group"].replace("comparison_", "budgets_", 1)
    return label | {"group": group, "title": f"Token budgets on {where}", "about": about}


def budgets_command(args: argparse.Namespace) -> str:
    against = "" if args.against == ",".join(PEERS) else given_options(args, ["against"])
    distillation = "" if args.distillation == 0.5 else given_options(args, ["distillation"])
    options = given_options(args, ("data", "validation_data", *CHANGES, "budgets"))
    return f"tubevit experiments budgets --size {args.size} --seeds {args.seeds}{against}{distillation}{options}"


def budgets_runs(
    size: Size, data: Data, budgets: Sequence[int], distillation: float, num_seeds: int, label: dict[str, str]
) -> list[Any]:
    """The runs of TubeViT, seed by seed. budgets: numbers of tokens, all tokens first."""
    from .records import Label
    from .runner import Run

    full, *fewer = budgets
    config = tubevit(size)
    ranged = {"token_budget_range": [fewer[-1], full]}
    trained: dict[str, dict[str, Any]] = {FULL: {}, RANGE: ranged}
    if distillation:
        trained[DISTILLED] = ranged | {"budget_distillation": distillation}
    evaluations = {f"tokens_{number}": {"token_budget": number} for number in fewer}
    evaluations |= {f"random_{number}": {"random_tokens": number} for number in fewer}
    changes = {} if data.source == MOTION else REAL_DATA
    runs = []
    for seed in range(num_seeds):
        experiments = {
            name: Experiment(size.options(config, **changes, **options), data, seed=seed, evaluations=evaluations)
            for name, options in trained.items()
        }
        rows = {name: rows_of(name, budgets) for name in trained}
        for number in fewer:
            tubes = tubevit_config(size).with_token_budget(number).tubes
            name = f"{ALONE}_{number}"
            experiments[name] = Experiment(size.options({**config, "tubes": tubes}, **changes), data, seed=seed)
            rows[name] = [row_of(ALONE, number, VIDEO)]
        for position, (name, experiment) in enumerate(experiments.items()):
            runs.append(Run(experiment, Label(**label, name=name, rows=rows[name], position=position)))
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


def peers_runs(size: Size, data: Data, peers: Sequence[str], num_seeds: int, label: dict[str, str]) -> list[Any]:
    """The runs of other models, as `tubevit experiments compare` makes them."""
    from dataclasses import replace

    if not peers:
        return []
    runs = comparison_runs(size, comparison_models(size, peers), data, size.steps, num_seeds, "flops", label)
    return [
        replace(run, label=replace(run.label, position=100 + run.label.position, rows=[{**row, "panel": OTHERS}]))
        for run in runs
        if run.label.name in peers
        for row in run.label.rows
    ]


# Speed


def speed_models(size: Size, budgets: Sequence[int], peers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The models whose forward passes are timed, as `comparison.build` takes them."""
    models = comparison_models(size, peers)
    ours = models["tubevit"]
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
