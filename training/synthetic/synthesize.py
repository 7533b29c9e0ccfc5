# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data synthesize`: a synthetic data set whose classes differ in motion alone, or images of the same shapes, as files. With
`--task figures`: clips of simulated people with the actions of UT-Interaction (`FigureSet`).
"""

import argparse

from ..command_line import whole_number
from .motion_scenes import LEVELS, MIN_FRAMES, MIN_IMAGE_SIZE, TASKS


TASK_NAMES = ("all", *TASKS)
FIGURES = "figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="OUT", help="folder to write to; the same command continues after an interruption"
    )
    parser.add_argument(
        "--task",
        choices=(*TASK_NAMES, FIGURES),
        default="all",
        help=f"the motion that decides the class; {FIGURES}: simulated people that shake hands, hug, kick, ... (default: all)",
    )
    parser.add_argument(
        "--level", type=int, choices=tuple(LEVELS), help=f"difficulty; {FIGURES} has none (default: 1, the easiest)"
    )
    parser.add_argument(
        "--num-train", type=whole_number(1), default=1000, metavar="N", help="training examples (default: 1000)"
    )
    parser.add_argument(
        "--num-validation", type=whole_number(1), default=300, metavar="N", help="validation examples (default: 300)"
    )
    parser.add_argument(
        "--num-frames",
        type=whole_number(MIN_FRAMES),
        default=32,
        metavar="N",
        help=f"frames per clip, at least {MIN_FRAMES}, at 16 frames per second (default: 32)",
    )
    parser.add_argument(
        "--image-size",
        type=whole_number(MIN_IMAGE_SIZE),
        default=128,
        metavar="N",
        help=f"height and width in pixels, at least {MIN_IMAGE_SIZE} (default: 128)",
    )
    parser.add_argument(
        "--container", choices=("mp4", "webm"), default="mp4", help="mp4: H.264; webm: VP9 (default: mp4)"
    )
    parser.add_argument(
        "--images", action="store_true", help="write images instead of clips; their class is the pair of shapes"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="random seed of the clips (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    from .files import write_figure_set, write_motion_set

    common = {
        "num_train": args.num_train,
        "num_validation": args.num_validation,
        "num_frames": args.num_frames,
        "image_size": args.image_size,
        "seed": args.seed,
        "container": args.container,
    }
    if args.task == FIGURES:
        if args.level is not None or args.images:
            option = "--images" if args.images else "--level"
            raise ValueError(f"{option} has no effect on --task {FIGURES}: leave it out.")
        write_figure_set(args.target, **common)
    elif args.images and args.task != "all":
        raise ValueError(
            f"--task {args.task} has no effect on --images, whose classes are pairs of shapes: leave it out."
        )
    else:
        write_motion_set(args.target, args.task, args.level or 1, images=args.images, **common)
    print(describe(args))
    return 0


def describe(args: argparse.Namespace) -> str:
    """A summary of the files, their chance accuracy, and the command that trains on them."""
    from .figures import ACTIONS
    from .motion_set import PAIRS, MotionSet

    size = f"{args.image_size}x{args.image_size} pixels"
    kind = f"images of {size}" if args.images else f"clips of {args.num_frames} frames of {size}"
    if args.images:
        num_classes, note = len(PAIRS), ""
    elif args.task == FIGURES:
        num_classes, note = len(ACTIONS), "; single frames of simulated people show more than chance"
    else:
        num_classes = len(MotionSet(args.task, num_clips=1).class_names)
        note = ", and one frame shows no more than that"
    lines = [
        f"{args.target}: {args.num_train:,} {kind} for training and {args.num_validation:,} for validation",
        f"{num_classes} classes; chance is {100 / num_classes:.1f} %{note}",
    ]
    return "\n".join([*lines, next_command(args)])


def next_command(args: argparse.Namespace) -> str:
    """The command that trains on the files: the recipe of the figures, or a preset with its tubes, or with the tubes that fit."""
    if args.task == FIGURES:
        return f"next: tubevit train --config figures data='{args.target}' output_dir=runs/figures"
    from tubevit.presets import preset_config

    sizes = {} if args.images else {"num_frames": args.num_frames}
    sizes |= {"image_size": args.image_size}
    options = "".join(f" {name}={size}" for name, size in sizes.items())
    try:
        preset_config("tiny", **sizes)
    except ValueError:
        options += " model_config.allow_missing_tubes=true"
    return f"next: tubevit train preset=tiny data='{args.target}'{options} learning_rate=1e-3"
