# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit convert`: convert an image model to a TubeViT, and save it with processors that have the image model's settings."""

import argparse
import json
from pathlib import Path
from typing import Any


TASKS = ("base", "image", "video")
POOLINGS = ("source", "attention", "mean", "cls", "cls_mean", "cls_registers")
# Settings that the processors of this package and those of Transformers have in common.
SHARED_SETTINGS = (
    *("do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="image model of Transformers: a folder, or a name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must be new or empty")
    parser.add_argument(
        "--task",
        choices=TASKS,
        default="video",
        help="kind of model; base: without a head; image: image classifier; video: video classifier (default: %(default)s)",
    )
    parser.add_argument(
        "--positions",
        choices=("transfer", "fixed"),
        default="transfer",
        help="position embeddings; transfer: the source's spatial ones with TubeViT's temporal ones; fixed: the paper's (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--tube-init",
        choices=("central", "average", "random"),
        default="central",
        help="initial 3D kernels: the source's 2D kernel at the central frame, its average over all frames, or random (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--pooling",
        choices=POOLINGS,
        default="source",
        help="pooling of the tokens; source: the pooling of the image model (default: %(default)s)",
    )
    parser.add_argument("--num-frames", type=int, default=32, help="frames per clip (default: %(default)s)")
    parser.add_argument(
        "--labels",
        type=int,
        metavar="N",
        help="create a new classifier with N labels (default: keep the source's classifier)",
    )
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="height and width of a frame (default: the source's)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.json", help="write a JSON file with the conversion of each tensor"
    )


def run(args: argparse.Namespace) -> None:
    from ..logging_utils import quiet_libraries
    from ..models.families import TUBEVIT, converting_family
    from ..models.loading import load_config
    from ..run_folder import check_new_folder

    quiet_libraries()
    source = load_config(args.model)
    check_new_folder(args.output)
    _check_arguments(args)
    family = converting_family(source) or TUBEVIT
    model_class = family.get("base_class") if args.task == "base" else family.classifier(args.task)
    labels = {} if args.labels is None else {"num_labels": args.labels}
    model, report = model_class.from_image_checkpoint(
        args.model,
        positions=args.positions,
        tube_init=args.tube_init,
        pooling=args.pooling,
        num_frames=args.num_frames,
        image_size=args.image_size,
        output_report=True,
        **labels,
    )
    processor = make_processor(args.model, model.config, resize=args.image_size is not None)
    model.save_pretrained(args.output)
    processor.image_processor.save_pretrained(args.output)
    processor.video_processor.save_pretrained(args.output)
    if args.report is not None:
        args.report.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    print(report)
    print(f"Wrote {args.output}: model and processors.")


def make_processor(source: str, config: Any, resize: bool = False) -> Any:
    """
    A `TubeViTProcessor` with the settings of the image model `source`, for images and for frames of videos.

    config: of the TubeViT. resize: resize frames to `config.image_size` instead of the source's size. A center crop then covers the
        same fraction of the image as the source's.
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
        scale = height / settings["crop_size"]["height"]
        settings["size"] = {name: round(side * scale) for name, side in settings["size"].items() if side}
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
