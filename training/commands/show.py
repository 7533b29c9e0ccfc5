# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit show`: pictures of what a TubeViT reads, has learned, and looks at."""

import argparse
from pathlib import Path
from typing import Any

from ..options import whole_number


PICTURES = ("tubes", "kernels", "positions", "attention")
OF_CLIPS = ("tubes", "attention")
LEARNED = {"kernels": "Kernels are", "attention": "Attention is"}
DPI = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "picture",
        choices=PICTURES,
        help="the tubes on a clip (fig. 2), the learned kernels (fig. 5), how alike the positions of tokens are, or where the "
        "pooling looks in a clip",
    )
    parser.add_argument("--model", help="folder of a TubeViT checkpoint, or its name on the Hub")
    parser.add_argument("--preset", help="of tubes and positions without a model: its size (default: base)")
    parser.add_argument("--tubes", metavar="NAME", help="of a preset: main, core or charades (default: main)")
    parser.add_argument(
        "--clip", metavar="FILE", help="video or image for tubes and attention (default: a drawn clip)"
    )
    parser.add_argument("--num-frames", type=whole_number(2), metavar="N", help="of the clip (default: the model's)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: the picture's name, as in tubes.png")


def run(args: argparse.Namespace) -> None:
    _check_arguments(args)
    output = args.output or Path(f"{args.picture}.png")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {output.parent} for {output.name}.")
    figure = _draw(args)
    figure.savefig(output, dpi=DPI)
    print(f"Wrote {output}.")


def _draw(args: argparse.Namespace) -> Any:
    """The picture that `args` ask for, as a matplotlib `Figure`."""
    model, config = _find_model(args)
    if args.picture == "kernels":
        from ..visualization.kernels import draw_kernels

        return draw_kernels(model)
    if args.picture == "positions":
        from ..visualization.positions import draw_positions

        return draw_positions(config, (args.num_frames or config.num_frames, *config.image_height_width), model)

    from ..visualization.clips import drawn_clip, read_clip

    if args.clip is None:
        clip = drawn_clip(args.num_frames or config.num_frames, *config.image_height_width)
    else:
        clip = read_clip(args.clip, config, args.model, args.num_frames)
    if args.picture == "attention":
        from ..visualization.attention import draw_attention

        return draw_attention(model, clip)
    from ..visualization.tubes import draw_tubes

    return draw_tubes(clip, config)


def _find_model(args: argparse.Namespace) -> tuple[Any, Any]:
    """The model, where weights are needed and there are such, and the config."""
    if args.model is None:
        from tubevit.presets import preset_config

        frames = args.num_frames or (128 if args.tubes == "charades" else 32)  # as in the paper
        return None, preset_config(args.preset or "base", tubes=args.tubes or "main", num_frames=frames)

    from transformers.utils import logging

    from ..models.loading import load_config, load_model

    if args.picture == "tubes":
        return None, load_config(args.model)
    logging.disable_progress_bar()
    model = load_model(args.model)
    return model, model.config


def _check_arguments(args: argparse.Namespace) -> None:
    """Raise a `ValueError` for options that do not go together."""
    if args.model is None and args.picture in LEARNED:
        raise ValueError(f"{LEARNED[args.picture]} learned: name a checkpoint with --model.")
    if args.model is not None and (args.preset is not None or args.tubes is not None):
        raise ValueError("--model has a size and tubes of its own: leave out --preset and --tubes.")
    if args.clip is not None and args.picture not in OF_CLIPS:
        raise ValueError(f"--clip goes with {' and '.join(OF_CLIPS)}, not with {args.picture}.")
    if args.num_frames is not None and args.picture == "kernels":
        raise ValueError("--num-frames goes with tubes, positions and attention, not with kernels.")
