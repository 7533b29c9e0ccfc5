# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments compare`: an equal-FLOPs comparison of TubeViT with other video models, all from random weights, with the same
width, depth, data, recipe and training FLOPs. TubeViT runs twice: as in the paper, and with the mean of its tokens in
place of the paper's attention pooling.

The training FLOPs are those of TubeViT's steps; a model with more FLOPs per clip trains for fewer steps. Each model takes its own
number of frames of a clip. Patches are scaled with the frame size, as the tubes are.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..command_line import whole_number
from ..option_types import POSITIVE
from ..options import parse_names
from .ablation_tables import SIZES, Size, tubevit
from .ablations import CHANGES, add_data_arguments, add_run_arguments, change_size, given_options
from .initialization import config_at_size
from .settings import MOTION, VIDEO, Data, Experiment


PEERS = ("videomae", "vivit", "timesformer", "vjepa2")
OURS = {"tubevit": "TubeViT", "tubevit_mean": "TubeViT, mean pooling"}
SPEED_BATCH = 8
LONGER = 4  # times the steps of the ablations, so that the models that see fewer clips learn something
PICTURE = "comparison.png"  # beside the records
# Augmentation of clips from files: the product's crops, of 64 to 100 % of the area. The recipe demo has crops of the evaluated size (notes in
# RESULTS.md), but one run of each differed by about one standard error, and a change would make the records of other runs incomparable.
REAL_DATA = {"min_temporal_span": 0.8, "rrc_scale_min": 0.64}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_comparison_arguments(parser, "default: 1600; gpu: 8000")
    parser.add_argument(
        "--equal",
        choices=("flops", "steps"),
        default="flops",
        help="give all models the same FLOPs or the same number of steps (default: flops)",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="peak learning rate of all models (default: 2e-3; gpu: 1e-3)",
    )
    add_run_arguments(parser)


def add_comparison_arguments(parser: argparse.ArgumentParser, default_steps: str) -> None:
    """Options of models, data and seeds. default_steps: for the help of `--steps`."""
    parser.add_argument(
        "--against",
        default=",".join(PEERS),
        metavar="MODELS",
        help="models to compare with, separated by commas: videomae, vivit, timesformer, vjepa2, uniformerv2, uniformerv2_full, vivit_fe, "
        "vivit_fe_mean, vivit_fsa, vivit_fdp; empty: TubeViT alone (default: %(default)s)",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="class folders or annotations (default: the synthetic motion set)"
    )
    parser.add_argument(
        "--validation-data", metavar="PATH", help="validation clips, if --data holds the training clips alone"
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--size",
        choices=tuple(SIZES),
        default="cpu",
        help="size of models and clips; cpu: 4 layers of width 96, 64x64 pixels; gpu: 12 layers of width 192, 128x128 pixels "
        "(default: cpu)",
    )
    parser.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="N", help="runs per model, at least 1 (default: 3)"
    )
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help=f"optimizer steps of TubeViT ({default_steps})"
    )
    parser.add_argument(
        "--rounds", type=whole_number(0), default=5, metavar="N", help="rounds of timing; 0 for none (default: 5)"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from ..environment import pick_device
    from .comparison_report import draw_comparison, format_comparison
    from .runner import run_all

    check_arguments(args)
    if args.learning_rate is not None and args.learning_rate not in POSITIVE:
        raise ValueError(f"--learning-rate must be a number above 0, got {args.learning_rate:g}.")
    size, device = change_size(SIZES[args.size], args), pick_device(args.device)
    steps = size.steps if args.steps else LONGER * size.steps
    if args.threads:
        torch.set_num_threads(args.threads)
    data = comparison_data(size, args.data, args.validation_data)
    peers = parse_names(args.against)
    label = comparison_label(data, size.name, comparison_command(args), args.equal, peers)
    models = comparison_models(size, peers)
    changes = {} if args.learning_rate is None else {"learning_rate": args.learning_rate}
    runs = comparison_runs(size, models, data, steps, args.seeds, args.equal, label, changes)
    records = run_all(runs, args.output, device, args.jobs, args.threads)
    speed = find_speed(label, models, args.output, device, args.rounds) if args.rounds else None
    print(format_comparison(records, speed))
    picture = runs[0].path(args.output).with_name(PICTURE)
    draw_comparison(picture, records, label["title"])
    print(f"Picture: {picture}. `tubevit experiments results {args.output}` makes a report of all records.")
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    from ..models.families import designs

    names = parse_names(args.against)
    if args.against and not names:
        raise ValueError(f"--against {args.against!r} names no model; the models are {', '.join(designs())}.")
    for name in names:
        if name not in designs():
            raise ValueError(f"--against {name}: no such model; the models are {', '.join(designs())}.")
    if len(set(names)) < len(names):
        raise ValueError(f"--against {args.against} names a model twice.")
    synthetic = ("task", "level", "num_train", "num_validation")
    given = [name.replace("_", "-") for name in synthetic if getattr(args, name) is not None]
    if args.data is not None and given:
        raise ValueError(
            f"--{given[0]} is for the synthetic set and has no effect on --data {args.data}: leave it out."
        )
    if args.validation_data is not None and args.data is None:
        raise ValueError("--validation-data needs --data, which names the training clips.")


def comparison_data(size: Size, source: str | None, validation: str | None) -> Data:
    """The synthetic set, or clips from files."""
    if source is None:
        return size.data
    return Data.of_files(source, validation, size.data.num_frames, size.data.image_size)


def comparison_models(size: Size, peers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """
    Models by name, ours first: for a TubeViT its "model_config", for a peer its "initial" checkpoint (see
    `initialization.build_random`).
    """
    sizes = {"num_frames": size.data.num_frames, "image_size": size.data.image_size, "patch_size": size.patch_size}
    statistics = {"image_mean": [size.image_mean] * 3, "image_std": [size.image_std] * 3}
    ours = dict(zip(OURS, (tubevit(size), tubevit(size, pooling="mean")), strict=True))
    of_peers = {name: {"kind": "random", "name": name, **sizes, **statistics, **size.encoder} for name in peers}
    return {
        **{name: {"model_config": {**sizes_of_tubevit(size), **model}} for name, model in ours.items()},
        **{name: {"initial": initial} for name, initial in of_peers.items()},
    }


def sizes_of_tubevit(size: Size) -> dict[str, int]:
    return {"num_frames": size.data.num_frames, "image_size": size.data.image_size}


def make_config(model: dict[str, Any]) -> Any:
    """The config of a model of `comparison_models`."""
    if "model_config" in model:
        from tubevit import TubeViTConfig

        return TubeViTConfig(**model["model_config"])
    arguments = {
        name: value for name, value in model["initial"].items() if name not in ("kind", "image_mean", "image_std")
    }
    return config_at_size(**arguments)


def comparison_label(
    data: Data, size_name: str, command: str, equal: str, peers: Sequence[str] = PEERS
) -> dict[str, str]:
    """The fields of `records.Label` that all records of a comparison have in common."""
    is_synthetic = data.source == MOTION
    path = Path(data.source).resolve()
    name = "motion" if is_synthetic else path.parent.name if path.is_file() else path.name
    where = f"the synthetic motion set (task {data.task}, level {data.level})" if is_synthetic else name
    group = (
        f"comparison_{name}"
        + (f"_{data.task}_level{data.level}" if is_synthetic else "")
        + ("_equal_steps" if equal == "steps" else "")
    )
    budget = "training FLOPs" if equal == "flops" else "number of steps"
    return {
        "group": group,
        "title": f"Equal-{'FLOPs' if equal == 'flops' else 'steps'} comparison on {where}",
        "size": size_name,
        "command": command,
        "about": f"Random weights, one recipe, and the same {budget}. {describe_frames(peers, data.num_frames)} TubeViT pools by "
        "attention, as in the paper, or takes the mean of its tokens.",
    }


def describe_frames(peers: Sequence[str], num_frames: int) -> str:
    """
    The number of frames of each model, and what else differs from the published models. num_frames: of the longest clips there are.

    >>> describe_frames(["videomae", "vjepa2"], 32)
    'Frames: VideoMAE 16, as in its paper; V-JEPA 2 (64 in its paper) and TubeViT all 32.'
    """
    from ..models.families import designs

    compared = [designs()[name][1] for name in peers]
    fitting = [f"{each.title} {each.num_frames}" for each in compared if each.num_frames <= num_frames]
    longer = [f"{each.title} ({each.num_frames} in its paper)" for each in compared if each.num_frames > num_frames]
    papers = "its paper" if len(fitting) == 1 else "their papers"
    designed = f"{_enumerate(fitting)}, as in {papers}; " if fitting else ""
    notes = dict.fromkeys(each.note for each in compared if each.note)
    return " ".join([f"Frames: {designed}{_enumerate([*longer, 'TubeViT'])} all {num_frames}.", *notes])


def _enumerate(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def comparison_command(args: argparse.Namespace) -> str:
    against = "" if args.against == ",".join(PEERS) else given_options(args, ["against"])
    equal = "" if args.equal == "flops" else f" --equal {args.equal}"
    options = given_options(args, ("data", "validation_data", *CHANGES, "learning_rate"))
    return f"tubevit experiments compare --size {args.size} --seeds {args.seeds}{against}{equal}{options}"


def comparison_runs(
    size: Size,
    models: dict[str, dict[str, Any]],
    data: Data,
    steps: int,
    num_seeds: int,
    equal: str,
    label: dict[str, str],
    changes: dict[str, Any] | None = None,
) -> list[Any]:
    """
    A run per model and seed. The steps of the peers follow from TubeViT's training FLOPs. changes: options of `tubevit train` that
    replace those of the recipe.
    """
    from ..models.families import designs
    from .records import Label
    from .runner import Run

    positions = {
        name: position for position, name in enumerate([*OURS, *designs()])
    }  # also beside records of other models
    budgets = dict.fromkeys(models, steps) if equal == "steps" else equal_steps(models, steps)
    changes = ({} if data.source == MOTION else REAL_DATA) | (changes or {})
    runs = []
    for seed in range(num_seeds):
        for name, model in models.items():
            config, initial = model.get("model_config"), model.get("initial")
            clips = {} if initial is None else {"num_frames": None, "image_size": None}  # those of the checkpoint
            if config is not None:
                config = {key: value for key, value in config.items() if key not in ("num_frames", "image_size")}
            options = size.options(config, budgets[name], **changes, **clips)
            experiment = Experiment(options, data, (VIDEO,), seed, initial)
            row = {"name": name, "title": title_of(name), "score": VIDEO}
            runs.append(Run(experiment, Label(**label, name=name, rows=[row], position=positions[name])))
    return runs


def equal_steps(models: dict[str, dict[str, Any]], steps: int) -> dict[str, int]:
    """
    By model the steps that have the training FLOPs of `steps` steps of the first model; batches have the same number of clips.

    Raises `ValueError` where that is less than one step.
    """
    from .run_records import measure_classifier

    gflops = {name: measure_classifier(make_config(model), VIDEO)["gflops"] for name, model in models.items()}
    budget = steps * next(iter(gflops.values()))
    equal = {name: round(budget / each) for name, each in gflops.items()}
    for name, number in equal.items():
        if number < 1:
            raise ValueError(
                f"{steps} steps of TubeViT have fewer FLOPs than one step of {title_of(name)}: set --steps to at least "
                f"{math.ceil(steps * gflops[name] / budget)}."
            )
    return equal


def title_of(name: str) -> str:
    if name in OURS:
        return OURS[name]
    from ..models.families import designs

    return designs()[name][1].title


# Speed and memory


def find_speed(
    label: dict[str, str],
    models: dict[str, dict[str, Any]],
    folder: Path,
    device: str,
    rounds: int,
    measure: Callable[..., dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    The record of the speed of all models: measured unless `folder` has it with these settings. measure: takes the arguments of
    `measure_speed` (default: that).
    """
    import torch

    from .records import Label, read_record, write_numbers

    whole = Label(**label, name="speed", rows=[], position=len(models))
    path = whole.folder(folder) / "speed.json"
    machine = {"device": device, "threads": torch.get_num_threads()}
    settings = {"models": models, "batch_size": SPEED_BATCH, "rounds": rounds, **machine}
    if path.is_file() and (known := read_record(path))["settings"] == settings:
        return known
    begin = time.perf_counter()
    speed = (measure or measure_speed)(models, SPEED_BATCH, device, rounds)
    seconds = round(time.perf_counter() - begin, 2)
    return read_record(write_numbers(whole, folder, device, settings=settings, speed=speed, seconds=seconds))


def measure_speed(
    models: dict[str, dict[str, Any]], batch_size: int, device: str, rounds: int
) -> dict[str, dict[str, float | None]]:
    """
    By model `{"clips_per_second", "training_clips_per_second", "peak_mib"}`: of forward passes, of training steps without the
    optimizer, and the peak memory of such a step without weights and clips (`None` where it cannot be measured). Medians of
    `rounds`.
    """
    from ..timing import interleave, summarize

    built = {name: build(model).to(device) for name, model in models.items()}
    report: dict[str, dict[str, float | None]] = {name: {} for name in models}
    for column, train in (("clips_per_second", False), ("training_clips_per_second", True)):
        calls = {name: make_step(model, batch_size, device, train) for name, model in built.items()}
        timings = interleave(calls, rounds, device, "training steps" if train else "forward passes")
        for name, values in timings.items():
            report[name][column] = round(1e3 * batch_size / summarize(values)["median_ms"], 3)
    for name, model in models.items():
        report[name]["peak_mib"] = _peak_mib(model, built[name], batch_size, device)
    return report


def build(model: dict[str, Any]) -> Any:
    """A classifier with random weights; a TubeViT with its "token_budget" or "random_tokens", if `model` has one."""
    from ..models.families import family_of
    from ..models.random_tokens import RandomTokens

    config = make_config(model)
    built = family_of(config).classifier(VIDEO)(config)
    if "token_budget" in model:
        built.set_token_budget(model["token_budget"])
    if "random_tokens" in model:
        RandomTokens(built, model["random_tokens"])
    return built


def make_step(model: Any, batch_size: int, device: str, train: bool) -> Callable[[], None]:
    """A forward pass, or one with the loss and the backward pass; in bfloat16 on a GPU, as in a run."""
    import torch

    from ..models.families import family_of

    family = family_of(model.config)
    side = getattr(model.config, family.size_field)
    shape = (batch_size, family.num_frames(model.config), 3, side, side)
    dtype = torch.uint8 if family.normalizes_pixels else torch.float32
    inputs = {family.input_name: torch.zeros(shape, dtype=dtype, device=device)}
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)

    def forward() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return model(**inputs).logits

    def predict() -> None:
        model.eval()
        with torch.inference_mode():
            forward()

    def forward_backward() -> None:
        model.train()
        torch.nn.functional.cross_entropy(forward().float(), labels).backward()
        model.zero_grad(set_to_none=True)

    return forward_backward if train else predict


def _peak_mib(model: dict[str, Any], built: Any, batch_size: int, device: str) -> float | None:
    from ..benchmarks.memory import peak_memory_mib

    if device == "cpu":
        name = model["initial"]["name"] if "initial" in model else "tubevit"
        setup = {"name": name, "model": model, "batch_size": batch_size}
        peak = peak_memory_mib(setup, module=__name__)
        return peak if peak is None else round(peak, 1)
    import torch

    step = make_step(built, batch_size, device, train=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def main() -> None:
    """Measure the memory of one model: `python -m tubevit.training.experiments.comparison SETUP`."""
    from ..benchmarks.memory import print_peak

    setup = json.loads(sys.argv[1])
    print_peak(make_step(build(setup["model"]), setup["batch_size"], "cpu", train=True))


if __name__ == "__main__":
    main()
