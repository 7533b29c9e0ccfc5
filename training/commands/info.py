# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit info`: tokens, parameters and GFLOPs of presets or checkpoints, without running a model.

The parameters of a TubeViT are those without its classifier; those of other models include it. GFLOPs count a multiplication and an
addition as two operations, in matrix products and convolutions.
"""

import argparse
from pathlib import Path
from typing import Any

from ..command_line import whole_number


DEFAULT_FRAMES = [32, 64, 128]  # of the presets of TubeViT
MULTIPLES = (1, 2, 4)  # of its own number of frames, for another model that takes more than this number
DEFAULT_CLASSES = 400  # of Kinetics-400
# By `config.interpolate_positions`: whether other sizes of clips are accepted.
POSITIONS = {True: "interpolated", False: "fixed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="presets (`tubevit train --help` lists them) or checkpoints (folders, or names on the Hub) (default: the presets of "
        "TubeViT)",
    )
    parser.add_argument(
        "--num-frames",
        metavar="N,...",
        help="numbers of frames per clip, separated by commas (default: the model's own, and where its weights allow them, twice and four "
        "times as many)",
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="height and width of a frame in pixels (default: the model's)"
    )
    parser.add_argument(
        "--num-labels",
        type=whole_number(1),
        metavar="N",
        help=f"classes of the classifier of a UniFormerV2 or ViViT preset (default: {DEFAULT_CLASSES})",
    )
    parser.add_argument(
        "--token-budget",
        type=whole_number(1),
        metavar="N",
        help="list a TubeViT also with at most N tube tokens per clip (default: only with all tokens)",
    )
    parser.add_argument("--tubes", help="tubes of a TubeViT preset: main, core or charades (default: main)")
    parser.add_argument(
        "--interpolate-kernels",
        action="store_true",
        help="for a TubeViT preset: one interpolated kernel for all 3D tubes (section 3.4)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from ..models.families import TUBEVIT, family_of, preset_names
    from ..models.loading import check_takes_budget
    from ..models.model_size import describe

    frames = None if args.num_frames is None else _parse_frames(args.num_frames)
    reports = []
    for name in args.models or TUBEVIT.get("presets"):
        is_preset = name in preset_names() and not (Path(name) / "config.json").is_file()
        config = (_preset_config if is_preset else _load_config)(name, args, max(frames or DEFAULT_FRAMES))
        family = family_of(config, name)
        own = family.num_frames(config)
        if is_preset and family == TUBEVIT:
            chosen = DEFAULT_FRAMES
        else:
            chosen = [own * factor for factor in (MULTIPLES if family.num_frames_may_differ == "forward" else (1,))]
        accepted = {"accepted_num_frames": family.accepted_num_frames(config)}
        if hasattr(config, "interpolate_positions"):  # a ViViT
            accepted["interpolate_positions"] = config.interpolate_positions
        report = {"model": name} | describe(config, frames or chosen) | accepted
        if args.token_budget is not None:
            check_takes_budget(name, config, "video", args.token_budget)
            report["clips"] = with_budget(config, report["clips"], args.token_budget)
        reports.append(report)
    if args.json:
        import json

        print(json.dumps(reports, indent=2))
    else:
        print(format_reports(reports))
    return 0


def with_budget(config: Any, clips: list[dict[str, Any]], token_budget: int) -> list[dict[str, Any]]:
    """The clips of `describe`, each followed by the same clip with a token budget, `"token_budget"`."""
    from ..models.model_size import describe

    both = []
    for clip in clips:
        frames = clip["num_frames"]
        own = config.with_tubes(config.tubes, num_frames=frames).with_token_budget(token_budget)
        both += [clip, describe(own, [frames])["clips"][0] | {"token_budget": token_budget}]
    return both


def format_reports(reports: list[dict[str, Any]]) -> str:
    """A table with one row per model and clip length. Columns that no model has are left out."""
    from ..tables import format_table

    columns = {
        "model": lambda report, clip: report["model"],
        "layers": lambda report, clip: report.get("num_hidden_layers"),
        "width": lambda report, clip: report.get("hidden_size"),
        "heads": lambda report, clip: report.get("num_attention_heads"),
        "parameters": lambda report, clip: f"{report['parameters'] / 1e6:.1f} M",
        "of tubes": lambda report, clip: (
            f"{report['tube_parameters'] / 1e6:.2f} M" if "tube_parameters" in report else ""
        ),
        "classes": lambda report, clip: report.get("num_labels"),
        "takes frames": lambda report, clip: report["accepted_num_frames"],
        "positions": lambda report, clip: POSITIONS.get(report.get("interpolate_positions")),
        "clip": lambda report, clip: "x".join(map(str, [clip["num_frames"], *clip["image_size"]])),
        "token budget": lambda report, clip: clip.get("token_budget"),
        "tokens": lambda report, clip: clip["tokens"],
        "per tube": lambda report, clip: "+".join(map(str, clip.get("tokens_per_tube", []))),
        "GFLOPs": lambda report, clip: _format_gflops(clip["gflops"]),
        "computed": lambda report, clip: _format_gflops(clip["computed_gflops"]) if "computed_gflops" in clip else "",
    }
    of_model = ("model", "layers", "width", "heads", "parameters", "of tubes", "classes", "takes frames", "positions")
    rows = [
        ["" if index and name in of_model else value(report, clip) for name, value in columns.items()]
        for report in reports
        for index, clip in enumerate(report["clips"])
    ]
    shown = [
        index for index, column in enumerate(zip(*rows, strict=True)) if any(cell not in ("", None) for cell in column)
    ]
    table = format_table([list(columns)[index] for index in shown], [[row[index] for index in shown] for row in rows])
    if any("computed_gflops" in clip for report in reports for clip in report["clips"]):
        table += (
            "\nGFLOPs: of the published formulation; computed: by this package, whose UniFormerV2 does not project the tokens to keys and "
            "values."
        )
    return table


def _format_gflops(gflops: float) -> str:
    return f"{gflops:,.0f}" if gflops >= 10 else f"{gflops:.3g}"


def _parse_frames(text: str) -> list[int]:
    try:
        frames = [int(part) for part in text.split(",")]
    except ValueError:
        frames = []
    if not frames or min(frames) < 1:
        raise ValueError(f"--num-frames needs integers of at least 1, separated by commas, got {text!r}.")
    return frames


def _preset_config(name: str, args: argparse.Namespace, num_frames: int) -> Any:
    from ..models.families import TUBEVIT, family_of_preset

    family = family_of_preset(name)
    if family == TUBEVIT and args.num_labels is not None:
        raise ValueError(
            f"--num-labels: the parameters of a TubeViT exclude the classifier, {name} too; leave it out."
        )
    options = {} if args.image_size is None else {family.size_field: args.image_size}
    if family == TUBEVIT:
        options |= {"tubes": args.tubes or "main", "interpolate_kernels": args.interpolate_kernels}
        options |= {"allow_missing_tubes": True, "num_frames": num_frames}
    elif args.tubes or args.interpolate_kernels:
        raise ValueError(f"--tubes and --interpolate-kernels are for TubeViT presets; {name} is a {family.title}.")
    else:
        options["num_labels"] = args.num_labels or DEFAULT_CLASSES
    return family.get("build_preset")(name, **options)


def _load_config(name: str, args: argparse.Namespace, num_frames: int) -> Any:
    from ..models.families import family_of
    from ..models.loading import load_config

    if args.tubes or args.interpolate_kernels:
        raise ValueError(f"--tubes and --interpolate-kernels are for TubeViT presets; {name} is a checkpoint.")
    if args.num_labels is not None:
        raise ValueError(f"--num-labels is for presets; the checkpoint {name} has its own classes.")
    config = load_config(name)
    family = family_of(config, name)
    if args.image_size is not None:
        if not family.image_size_may_differ:
            raise ValueError(
                f"--image-size: the {family.title} model {name} takes frames of its own size; leave it out."
            )
        setattr(config, family.size_field, args.image_size)
    return config
