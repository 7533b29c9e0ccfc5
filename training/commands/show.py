# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit show`: draw the tubes, kernels, position embeddings and attention of a TubeViT, or what other families have of these."""

import argparse
from pathlib import Path
from typing import Any

from ..command_line import whole_number
from ..models.families import PICTURES


OF_CLIPS = ("tubes", "attention")
LEARNED = {"kernels": "Kernels are", "attention": "Attention is"}
DPI = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "picture",
        choices=PICTURES,
        help="tubes: pixels of a clip that each tube reads (fig. 2); kernels: learned kernels (fig. 5); positions: similarity of the "
        "tokens' position embeddings; attention: attention weights on the pixels of a clip (of the pooling; UniFormerV2: within frames and of "
        "the global blocks; ViViT: over space and time)",
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="checkpoint of a TubeViT, for attention also of a UniFormerV2 or ViViT, for kernels of any video model: a folder, or a name "
        "on the Hub (default: a preset)",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="without a model: preset of TubeViT whose tubes or positions are drawn: tiny, small, base, large or huge (default: base)",
    )
    parser.add_argument("--tubes", metavar="NAME", help="tubes of the preset: main, core or charades (default: main)")
    parser.add_argument(
        "--clip", metavar="FILE", help="video or image for tubes and attention (default: a synthetic clip)"
    )
    parser.add_argument(
        "--num-frames", type=whole_number(2), metavar="N", help="frames of the clip, at least 2 (default: the model's)"
    )
    parser.add_argument(
        "--token-budget",
        type=whole_number(1),
        metavar="N",
        help="largest number of tube tokens per clip, for tubes, positions and attention of a TubeViT (default: the model's tubes)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="image file to write (default: PICTURE.png)")


def run(args: argparse.Namespace) -> None:
    _check_arguments(args)
    output = args.output or Path(f"{args.picture}.png")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {output.parent} for {output.name}.")
    figure = _draw(args)
    figure.savefig(output, dpi=DPI)
    print(f"Wrote {output}.")


def _draw(args: argparse.Namespace) -> Any:
    """The picture as a matplotlib `Figure`."""
    model, config = _find_model(args)
    if args.picture == "kernels":
        from ..visualization.kernels import draw_kernels

        return draw_kernels(model)
    if args.picture == "positions":
        from ..visualization.positions import draw_positions

        if args.token_budget is not None:
            config = config.with_token_budget(args.token_budget)
        return draw_positions(config, (args.num_frames or config.num_frames, *config.image_height_width), model)

    from ..models.clip_processors import frame_size
    from ..models.families import family_of
    from ..visualization.clips import read_clip, reads_bgr, synthetic_clip

    family = family_of(config)
    if args.num_frames is not None:
        family.check_num_frames(args.num_frames, config, args.model or "the preset")
    if args.clip is None:
        clip = synthetic_clip(args.num_frames or config.num_frames, *frame_size(family, config))
    else:
        clip = read_clip(args.clip, config, args.model, args.num_frames)
    if args.picture == "attention":
        from ..visualization.attention import draw_attention

        return draw_attention(model, clip, is_bgr=args.clip is not None and reads_bgr(config, args.model))
    from ..visualization.tubes import draw_tubes

    return draw_tubes(clip, config, args.token_budget)


def _find_model(args: argparse.Namespace) -> tuple[Any, Any]:
    """The model, `None` if the picture needs no weights or there is no checkpoint, and the config."""
    if args.model is None:
        from tubevit.presets import preset_config

        frames = args.num_frames or (128 if args.tubes == "charades" else 32)  # the paper's
        return None, preset_config(args.preset or "base", tubes=args.tubes or "main", num_frames=frames)

    from transformers.utils import logging

    from ..models.families import family_of
    from ..models.loading import check_takes_budget, load_config, load_model

    config = load_config(args.model)
    family = family_of(config, args.model)
    if args.picture not in family.pictures:
        raise ValueError(
            f"The picture {args.picture!r} cannot be drawn for {args.model}, a {family.title} model; possible: {', '.join(family.pictures)}."
        )
    check_takes_budget(args.model, config, "video", args.token_budget)
    if args.picture == "tubes":
        return None, config
    logging.disable_progress_bar()
    model = load_model(args.model, token_budget=args.token_budget)
    return model, model.config


def _check_arguments(args: argparse.Namespace) -> None:
    """Raise a `ValueError` for options that do not go together."""
    if args.model is None and args.picture in LEARNED:
        raise ValueError(f"{LEARNED[args.picture]} learned: give a checkpoint with --model.")
    if args.model is not None and (args.preset is not None or args.tubes is not None):
        raise ValueError(
            "--preset and --tubes have no effect with a checkpoint: leave them out, or leave out the model."
        )
    if args.clip is not None and args.picture not in OF_CLIPS:
        raise ValueError(f"--clip has no effect on {args.picture}: it is for {' and '.join(OF_CLIPS)}.")
    for name in ("num_frames", "token_budget"):
        if getattr(args, name) is not None and args.picture == "kernels":
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} has no effect on kernels: it is for tubes, positions and attention.")
