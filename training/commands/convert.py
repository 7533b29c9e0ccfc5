# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit convert`: a TubeViT that starts from an image model, saved with processors that prepare pixels as that model's did."""

import argparse
import json
from pathlib import Path
from typing import Any


TASKS = {
    "base": "TubeViTModel",
    "image": "TubeViTForImageClassification",
    "video": "TubeViTForVideoClassification",
}
POOLINGS = ("source", "attention", "mean", "cls", "cls_mean", "cls_registers")
# What our processors have in common with the library's.
SHARED_SETTINGS = (
    *("do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="folder of an image model of Transformers, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must be new or empty")
    parser.add_argument("--task", choices=TASKS, default="video", help="what the model is for (%(default)s)")
    parser.add_argument(
        "--positions",
        choices=("transfer", "fixed"),
        default="transfer",
        help="the source's spatial positions with TubeViT's temporal ones, or the paper's (%(default)s)",
    )
    parser.add_argument(
        "--tube-init",
        choices=("central", "average", "random"),
        default="central",
        help="how 3D kernels start: the source's at the central frame, spread over all, or random (%(default)s)",
    )
    parser.add_argument("--pooling", choices=POOLINGS, default="source", help="how tokens are pooled (%(default)s)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames of a clip (%(default)s)")
    parser.add_argument("--labels", type=int, metavar="N", help="a new classifier with N labels, not the source's")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the clips; by default the source's")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write what became of each tensor to a file")


def run(args: argparse.Namespace) -> None:
    import tubevit

    from ..logging_utils import quiet_libraries
    from ..models.loading import check_model_name
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_model_name(args.source)
    check_new_folder(args.output)
    _check_arguments(args)
    labels = {} if args.labels is None else {"num_labels": args.labels}
    model, report = getattr(tubevit, TASKS[args.task]).from_image_checkpoint(
        args.source,
        positions=args.positions,
        tube_init=args.tube_init,
        pooling=args.pooling,
        num_frames=args.num_frames,
        image_size=args.image_size,
        output_report=True,
        **labels,
    )
    processor = make_processor(args.source, model.config, resize=args.image_size is not None)
    model.save_pretrained(args.output)
    processor.image_processor.save_pretrained(args.output)
    processor.video_processor.save_pretrained(args.output)
    if args.report is not None:
        args.report.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    print(report)
    print(f"Wrote {args.output}: model and processors.")


def make_processor(source: str, config: Any, resize: bool = False) -> Any:
    """
    A `TubeViTProcessor` that prepares images as the image model `source` does, and videos frame by frame in the same way.

    config: of the TubeViT that was made of it. resize: whether pixels are to come in `config.image_size`, which is not the
        source's own; the share of the image that a central crop keeps stays what it was.
    """
    from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor
    from tubevit.source_checkpoints import load_image_processor

    theirs = load_image_processor(source)
    height, width = config.image_height_width
    settings = {"image_mean": config.image_mean, "image_std": config.image_std, "do_center_crop": False}
    if theirs is not None:
        settings |= {
            name: getattr(theirs, name) for name in SHARED_SETTINGS if getattr(theirs, name, None) is not None
        }
        settings |= {name: dict(settings[name]) for name in ("size", "crop_size") if name in settings}
    own_size = settings.get("size") and settings.get("do_resize", True)
    if resize and own_size and settings["do_center_crop"]:
        share = height / settings["crop_size"]["height"]
        settings["size"] = {name: round(side * share) for name, side in settings["size"].items() if side}
        settings["crop_size"] = {"height": height, "width": width}
    elif resize or not own_size:
        settings |= {"do_resize": True, "do_center_crop": False, "size": {"height": height, "width": width}}
    return TubeViTProcessor(
        TubeViTImageProcessor(**settings), TubeViTVideoProcessor(num_frames=config.num_frames, **settings)
    )


def _check_arguments(args: argparse.Namespace) -> None:
    if args.labels is not None and args.labels < 1:
        raise ValueError(f"--labels must be at least 1, got {args.labels}.")
    if args.labels is not None and args.task == "base":
        raise ValueError("--labels goes with --task image or video; a base model has no classifier.")
