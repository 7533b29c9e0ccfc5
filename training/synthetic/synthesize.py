# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit make-data`: a data set in which motion alone decides the class, or its image counterpart, as files; or with
`--task figures` clips of made people who do what people do in UT-Interaction (`figure_set`).
"""

import argparse

from ..options import whole_number
from .motion_scenes import LEVELS, MIN_FRAMES, MIN_IMAGE_SIZE, TASKS


TASK_NAMES = ("all", *TASKS)
FIGURES = "figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="OUT", help="folder for the files; a run that was stopped goes on where it was"
    )
    parser.add_argument(
        "--task",
        choices=(*TASK_NAMES, FIGURES),
        default="all",
        help=f"what motion decides (default: all), or {FIGURES}: made people shaking hands, hugging, kicking, ...",
    )
    parser.add_argument(
        "--level", type=int, choices=tuple(LEVELS), help=f"difficulty (default: 1, the easiest); {FIGURES} have none"
    )
    parser.add_argument("--num-train", type=whole_number(1), default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--num-validation", type=whole_number(1), default=300, metavar="N", help="default: 300")
    parser.add_argument("--num-frames", type=whole_number(MIN_FRAMES), default=32, metavar="N", help="default: 32")
    parser.add_argument(
        "--image-size", type=whole_number(MIN_IMAGE_SIZE), default=128, metavar="N", help="default: 128 pixels"
    )
    parser.add_argument("--container", choices=("mp4", "webm"), default="mp4", help="default: mp4")
    parser.add_argument("--images", action="store_true", help="images, whose class is the pair of shapes, not clips")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="default: 0")


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
            raise ValueError(f"--task {FIGURES} takes no {option}, which is for moving shapes: leave it out.")
        write_figure_set(args.target, **common)
    elif args.images and args.task != "all":
        raise ValueError(f"--images takes no --task {args.task}: their classes are pairs of shapes; leave it out.")
    else:
        write_motion_set(args.target, args.task, args.level or 1, images=args.images, **common)
    print(describe(args))
    return 0


def describe(args: argparse.Namespace) -> str:
    """What was written, what guessing reaches, and the command that trains on it."""
    from .figures import ACTIONS
    from .motion_set import PAIRS, MotionSet

    size = f"{args.image_size}x{args.image_size} pixels"
    what = f"images of {size}" if args.images else f"clips of {args.num_frames} frames of {size}"
    if args.images:
        num_classes, note = len(PAIRS), ""
    elif args.task == FIGURES:
        num_classes, note = len(ACTIONS), "; a simulation of actions, which single frames give away in part"
    else:
        num_classes = len(MotionSet(args.task, num_clips=1).class_names)
        note = ", and so is the best guess from one frame"
    lines = [
        f"{args.target}: {args.num_train:,} {what} to train on and {args.num_validation:,} to evaluate on",
        f"{num_classes} classes; guessing is right in {1 / num_classes:.1%}{note}",
    ]
    return "\n".join([*lines, next_command(args)])


def next_command(args: argparse.Namespace) -> str:
    """What trains on the files: the figures' own recipe, or a preset with its tubes, or with those of them that fit."""
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
