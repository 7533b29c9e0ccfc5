# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit info`: tokens, parameters and arithmetic of the named sizes, or of a checkpoint, without running anything."""

import argparse
from typing import Any

from ..models.model_size import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="tiny, small, base, large, huge (default: all of them), or a checkpoint's name or folder",
    )
    parser.add_argument(
        "--num-frames", default="32,64,128", metavar="N,...", help="frames of the clips (default: %(default)s)"
    )
    parser.add_argument(
        "--image-size", type=int, default=None, metavar="N", help="default: the model's, 224 for sizes"
    )
    parser.add_argument("--tubes", default=None, help="tubes of the named sizes: main (default), core, charades")
    parser.add_argument(
        "--interpolate-kernels", action="store_true", help="one kernel for all 3D tubes of named sizes"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from tubevit.presets import PRESETS

    frames = _parse_frames(args.num_frames)
    reports = []
    for name in args.models or PRESETS:
        config = _load_config(name, args, max(frames))
        reports.append({"model": name} | describe(config, frames))
    if args.json:
        import json

        print(json.dumps(reports, indent=2))
    else:
        print(format_table(reports))
    return 0


def format_table(reports: list[dict[str, Any]]) -> str:
    """One row per model and clip length."""
    head = ("model", "layers", "width", "heads", "parameters", "of tubes", "clip", "tokens", "per tube", "GFLOP")
    rows = [head]
    for report in reports:
        about = (
            report["model"],
            str(report["num_hidden_layers"]),
            str(report["hidden_size"]),
            str(report["num_attention_heads"]),
            f"{report['parameters'] / 1e6:.1f} M",
            f"{report['tube_parameters'] / 1e6:.2f} M",
        )
        for index, clip in enumerate(report["clips"]):
            height, width = clip["image_size"]
            row = about if index == 0 else ("",) * len(about)
            per_tube = "+".join(map(str, clip["tokens_per_tube"]))
            rows.append(
                (
                    *row,
                    f"{clip['num_frames']}x{height}x{width}",
                    f"{clip['tokens']:,}",
                    per_tube,
                    f"{clip['gflops']:,.0f}",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = {0, 6, 8}
    lines = (
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _parse_frames(text: str) -> list[int]:
    try:
        frames = [int(part) for part in text.split(",")]
    except ValueError:
        frames = []
    if not frames or min(frames) < 1:
        raise ValueError(f"--num-frames must be whole numbers of at least 1, separated by commas, got {text!r}.")
    return frames


def _load_config(name: str, args: argparse.Namespace, num_frames: int):
    from tubevit.presets import PRESETS, preset_config

    from ..models.loading import load_config

    sizes = {} if args.image_size is None else {"image_size": args.image_size}
    if name in PRESETS:
        options = {
            "tubes": args.tubes or "main",
            "interpolate_kernels": args.interpolate_kernels,
            "allow_missing_tubes": True,
        }
        return preset_config(name, num_frames=num_frames, **options, **sizes)
    if args.tubes or args.interpolate_kernels:
        raise ValueError(f"--tubes and --interpolate-kernels are for the named sizes; {name} has tubes of its own.")
    config = load_config(name)
    config.image_size = sizes.get("image_size", config.image_size)
    return config
