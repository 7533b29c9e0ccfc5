# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit convert`: convert an image model to a TubeViT, UniFormerV2 or ViViT, or a published checkpoint of UniFormerV2 or ViViT to a model
of this package; and save it with its processors.
"""

import argparse
import json
from pathlib import Path
from typing import Any


TASKS = ("base", "image", "video")
POOLINGS = ("source", "attention", "mean", "grid", "cls", "cls_mean", "cls_registers")
PUBLISHED_OPTIONS = ("label_order", "head", "attention_order", "factorization", "num_heads", "global_layers")
IMAGE_DEFAULTS = {
    "family": None,
    "task": "video",
    "positions": "transfer",
    "tube_init": "central",
    "pooling": "source",
    "pooling_grid": None,
    "temporal_position_scale": None,
    "add_patch_tube": True,
}
# The other options of which `--to` has none.
NO_OPTIONS = {
    **dict.fromkeys(("num_frames", "labels", "image_size", *PUBLISHED_OPTIONS, "report")),
    "dtype": "float32",
}
# Settings that the processors of this package and those of Transformers have in common.
SHARED_SETTINGS = (
    *("do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        help="image model of Transformers: a folder, or a name on the Hub; or a published checkpoint file of UniFormerV2 or ViViT, or a "
        "folder of Transformers' ViViT",
    )
    parser.add_argument(
        "output", type=Path, help="folder to write; it must be new or empty. With --to, a file to write"
    )
    parser.add_argument(
        "--family",
        choices=("tubevit", "uniformerv2", "factorized_vivit"),
        help="video model that an image model becomes: tubevit, uniformerv2 (from CLIP) or factorized_vivit (from ViT) (default: tubevit)",
    )
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
        "--temporal-position-scale",
        type=float,
        metavar="X",
        help="factor of the temporal positions that --positions transfer adds, at least 0; 0 leaves them out. At 1 they hide the tokens of "
        "a DINOv2 from its layers: choose a small number for a model that is frozen or trained on few clips (default: 1)",
    )
    parser.add_argument(
        "--add-patch-tube",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add the source's patch as the 2D tube; without it the model takes no images (default: add it)",
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
    parser.add_argument(
        "--pooling-grid",
        metavar="T,H,W",
        help="with --pooling grid: cells along time, height and width, whose means are concatenated, such as 2,3,3",
    )
    parser.add_argument(
        "--num-frames",
        type=int,
        metavar="N",
        help="frames per clip (default: 32; for a published checkpoint the number that its tensors determine)",
    )
    parser.add_argument(
        "--labels",
        metavar="N|NAME|FILE|FOLDER",
        help="image model: create a new classifier with N labels (default: keep the source's classifier). Published checkpoint: class "
        "names; kinetics400, kinetics600, kinetics700, kinetics710, ssv1, ssv2 or mit, a file with a name per line, or a folder with "
        "EPIC_100_noun_classes_v2.csv and EPIC_100_verb_classes.csv",
    )
    parser.add_argument(
        "--image-size",
        metavar="PIXELS",
        help="height and width of a frame, or HEIGHTxWIDTH (default: the source's)",
    )
    published = parser.add_argument_group("published checkpoints")
    published.add_argument(
        "--label-order",
        metavar="NAME|FILE",
        help="order of the classes in the checkpoint's classifier; reference: the order of the UniFormerV2 authors; mmaction2; scenic; or a file with a "
        "name per line (default: the order of the code that wrote the checkpoint)",
    )
    published.add_argument(
        "--head",
        choices=("kinetics400", "kinetics600", "kinetics700"),
        help="keep the rows of a Kinetics-710 classifier for the classes of this data set",
    )
    published.add_argument(
        "--attention-order",
        choices=("time_space", "space_time"),
        help="order of the two attentions in ViViT's Model 3",
    )
    published.add_argument(
        "--factorization",
        choices=("spacetime", "dot_product"),
        help="spacetime: ViViT's Model 1; dot_product: Model 4; required if the file can be either",
    )
    published.add_argument(
        "--num-heads",
        metavar="N[,N]",
        help="number of attention heads, and that of the global blocks if it differs (default: width / 64)",
    )
    published.add_argument(
        "--global-layers",
        metavar="N,N,...",
        help="indices of the layers with a global block (default: the last layers, one per global block of the file)",
    )
    published.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="data type of the converted weights (default: %(default)s)",
    )
    published.add_argument(
        "--to",
        choices=("reference", "scenic"),
        help="convert in the opposite direction: write the weights of a UniFormerV2 or ViViT of this package in the format of its authors' code",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.json", help="write a JSON file with the conversion of each tensor"
    )


def run(args: argparse.Namespace) -> None:
    from tubevit.tubevit_checks import check_pooling_grid

    from ..logging_utils import quiet_libraries
    from ..models.families import TUBEVIT, converting_family
    from ..models.loading import load_config
    from ..run_folder import check_new_folder

    quiet_libraries()
    if args.report is not None:
        check_parent(args.report)
    if args.to is not None:
        _write_published(args)
        return
    if _is_published(args.model):
        _convert_published(args)
        return
    source = load_config(args.model)
    check_new_folder(args.output)
    num_labels = _check_arguments(args)
    family = converting_family(source, args.family) or TUBEVIT
    if family is not TUBEVIT:
        _convert_image(args, family, num_labels)
        return
    pooling_grid = _whole_numbers("pooling-grid", args.pooling_grid)
    check_pooling_grid(args.pooling, pooling_grid)  # before the source's weights are loaded
    model_class = family.get("base_class") if args.task == "base" else family.classifier(args.task)
    given = {
        "num_labels": num_labels,
        "temporal_position_scale": args.temporal_position_scale,
        "pooling_grid": pooling_grid,
    }
    model, report = model_class.from_image_checkpoint(
        args.model,
        positions=args.positions,
        tube_init=args.tube_init,
        pooling=args.pooling,
        add_patch_tube=args.add_patch_tube,
        num_frames=32 if args.num_frames is None else args.num_frames,
        image_size=_image_size(args.image_size),
        output_report=True,
        **{name: value for name, value in given.items() if value is not None},
    )
    processor = make_processor(args.model, model.config, resize=args.image_size is not None)
    model.save_pretrained(args.output)
    processor.image_processor.save_pretrained(args.output)
    processor.video_processor.save_pretrained(args.output)
    if args.report is not None:
        args.report.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    print(report)
    print(f"Wrote {args.output}: model and processors.")


def _convert_image(args: argparse.Namespace, family: Any, num_labels: int | None) -> None:
    """Convert an image model to a video model of another family than TubeViT."""
    from ..models.clip_processors import new_processor
    from ..models.model_options import ClipConfig

    for name, default in {**IMAGE_DEFAULTS, "report": None}.items():
        if name != "family" and getattr(args, name) != default:
            raise ValueError(
                f"--{name.replace('_', '-')} is for a TubeViT, and --family is {args.family}: leave it out."
            )
    if num_labels is None:
        raise ValueError(
            f"--family {args.family} needs --labels N: an image model has no classifier for a {family.title}."
        )
    given = {"num_frames": args.num_frames, "image_size": _image_size(args.image_size)}
    model = family.classifier("video").from_image_checkpoint(
        args.model, num_labels=num_labels, **{name: value for name, value in given.items() if value is not None}
    )
    model.save_pretrained(args.output)
    new_processor(family, model.config, ClipConfig()).save_pretrained(args.output)
    print(f"Wrote {args.output}: a {family.title} with a new classifier for {num_labels} classes, and its processor.")


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
        if (
            theirs.do_normalize
        ):  # the statistics that the conversion took, also where the processor's file does not name them
            settings |= {"image_mean": config.image_mean, "image_std": config.image_std}
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


def _check_arguments(args: argparse.Namespace) -> int | None:
    """The number of labels. Raises `ValueError` for options that do not fit an image model."""
    for name in PUBLISHED_OPTIONS:
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for published checkpoints of UniFormerV2 and ViViT, and {args.model} is not one."
            )
    if args.dtype != "float32":
        raise ValueError(
            f"--dtype {args.dtype} is for published checkpoints, and {args.model} is not one: leave it out."
        )
    if args.temporal_position_scale is not None and args.positions != "transfer":
        raise ValueError(
            f"--temporal-position-scale has no effect with --positions {args.positions}: give --positions transfer, or leave it out."
        )
    if args.task == "image" and not args.add_patch_tube:
        raise ValueError("--no-add-patch-tube gives a model that takes no images: leave it out, or give --task video.")
    if args.labels is None:
        return None
    if not args.labels.isdecimal() or int(args.labels) < 1:
        raise ValueError(
            f"--labels must be at least 1, got {args.labels}: it is the number of labels of the new classifier."
        )
    if args.task == "base":
        raise ValueError("--labels goes with --task image or video; a base model has no classifier.")
    return int(args.labels)


def _image_size(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"--image-size must be a number of pixels or HEIGHTxWIDTH, got {text!r}.")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else numbers


def _whole_numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise ValueError(f"--{name} must be whole numbers separated by commas, got {text!r}.")
    return [int(part) for part in text.split(",")]


def check_parent(path: Path) -> None:
    """Raise `FileNotFoundError` for a file in a folder that does not exist, before any work."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}.")


def _is_published(source: str) -> bool:
    """Whether the source is a file of other codes, or a folder of Transformers' ViViT."""
    from ..models.published import is_published_file, read_config

    path = Path(source)
    if not path.exists():
        return False
    if is_published_file(path):
        return True
    return read_config(path / "config.json").get("model_type") == "vivit"


def _convert_published(args: argparse.Namespace) -> None:
    import torch

    from ..models.published import PublishedOptions, convert_published, model_card
    from ..run_folder import check_new_folder

    for name, default in IMAGE_DEFAULTS.items():
        if getattr(args, name) != default:
            raise ValueError(
                f"--{name.replace('_', '-')} is for image models, and {args.model} is a published video model."
            )
    check_new_folder(args.output)
    options = PublishedOptions(
        num_frames=args.num_frames,
        image_size=_image_size(args.image_size),
        attention_order=args.attention_order,
        factorization=args.factorization,
        global_layers=_whole_numbers("global-layers", args.global_layers),
        num_heads=_whole_numbers("num-heads", args.num_heads),
        labels=args.labels,
        label_order=args.label_order,
        head=args.head,
        dtype=getattr(torch, args.dtype),
    )
    converted = convert_published(args.model, options)
    converted.model.save_pretrained(args.output)
    converted.processor.save_pretrained(args.output)
    (args.output / "README.md").write_text(model_card(converted, args.model), encoding="utf-8")
    if args.report is not None:
        args.report.write_text(json.dumps(converted.report.to_dict(), indent=2) + "\n", encoding="utf-8")
    print(converted.report)
    for message in converted.messages:
        print(message)
    print(f"Wrote {args.output}: model, processor and model card.")


def _write_published(args: argparse.Namespace) -> None:
    from ..models.loading import load_model
    from ..models.published import write_published

    for name, default in {**IMAGE_DEFAULTS, **NO_OPTIONS}.items():
        if getattr(args, name) != default:
            raise ValueError(
                f"--{name.replace('_', '-')} has no effect with --to {args.to}, which writes the weights as they are: leave it out."
            )
    if args.output.exists():
        raise FileExistsError(f"{args.output} exists already: name a new file.")
    check_parent(args.output)
    message = write_published(load_model(args.model), args.output, args.to)
    if message is not None:
        print(message)
    print(f"Wrote {args.output}.")
