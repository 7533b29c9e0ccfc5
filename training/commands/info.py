# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit info`: tokens, parameters and arithmetic of the named sizes, or of a checkpoint, without running anything."""

import argparse
import copy
from typing import Any


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


def describe(config, frames: list[int]) -> dict[str, Any]:
    """
    What a model of this configuration is and does: sizes, `"parameters"` (of the backbone, `"encoder_parameters"` of its
    layers alone, `"tube_parameters"` of the kernels), and `"clips"`, one `{"num_frames", "image_size", "tokens",
    "tokens_per_tube", "gflops"}` for each of `frames`.

    GFLOPs are of one forward pass, a multiplication and an addition counted as two operations, in matrix products alone.
    They are found by running the model on torch's meta device, which computes shapes only.
    """
    import torch

    from ..models.model_size import count_flops

    model, (height, width) = _on_meta(config), config.image_height_width
    clips = []
    for num_frames in frames:
        size = (num_frames, height, width)
        pixels = torch.empty(1, num_frames, config.num_channels, height, width, device="meta")
        clips.append(
            {
                "num_frames": num_frames,
                "image_size": [height, width],
                "tokens": config.num_tokens(num_frames),
                "tokens_per_tube": [tube.num_tokens(size) for tube in config.get_tubes()],
                "gflops": count_flops(model, pixel_values_videos=pixels) / 1e9,
            }
        )
    embeddings = model.embeddings
    kernels = [embeddings.projections, *([embeddings.interpolated_kernel] if embeddings.interpolated_kernel else [])]
    return {
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "parameters": _count(model),
        "encoder_parameters": _count(model.layers),
        "tube_parameters": sum(map(_count, kernels)),
        "clips": clips,
    }


def describe_image(config) -> dict[str, Any]:
    """Of one image: `{"image_size", "tokens", "tokens_per_tube", "gflops"}`, as `describe` counts them of a clip."""
    import torch

    from ..models.model_size import count_flops

    height, width = config.image_height_width
    pixels = torch.empty(1, config.num_channels, height, width, device="meta")
    return {
        "image_size": [height, width],
        "tokens": config.num_image_tokens(),
        "tokens_per_tube": [tube.num_tokens((1, height, width)) for tube in config.get_image_tubes()],
        "gflops": count_flops(_on_meta(config), pixel_values=pixels) / 1e9,
    }


def _on_meta(config):
    """The base model, for its shapes alone."""
    import torch

    from tubevit import TubeViTModel

    with torch.device("meta"):
        return TubeViTModel(copy.deepcopy(config))


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


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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

    from ..models.checkpoints import load_config

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
