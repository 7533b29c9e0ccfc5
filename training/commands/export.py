# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit export`: write a checkpoint with the code of its model, for machines without this package."""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint of a model: a folder, or a name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must be new or empty")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="for a joint model: write the classifier of this data set (default: the joint model)",
    )


def run(args: argparse.Namespace) -> None:
    from ..logging_utils import quiet_libraries
    from ..models.families import family_of
    from ..models.loading import load_config, load_model, load_processors
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_new_folder(args.output)
    family = family_of(load_config(args.model), args.model)
    model, processors = load_model(args.model), load_processors(args.model, family)
    if args.dataset is not None:
        if family.joint_class is None or not isinstance(model, family.get("joint_class")):
            raise ValueError(f"--dataset is for joint models, and {args.model} is a {type(model).__name__}.")
        model = model.to_classifier(args.dataset)
    for part in (model, *processors):
        _save_with_code(part, args.output, has_with_code=family.exports_code)
    print(
        f"Wrote {args.output}: weights, processors and code. On a machine without this package:\n"
        f'  model = {_auto_class(model)}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  processor = {_auto_class(processors[0])}.from_pretrained("{args.output}", trust_remote_code=True)'
    )


def _save_with_code(part: Any, folder: Path, has_with_code: bool) -> None:
    """
    Save a model or a processor with the modules that define it. Classes of Transformers are saved without code.

    has_with_code: whether its `save_pretrained` takes `with_code`. Otherwise `register_for_auto_class` marks its class.
    """
    from transformers import PreTrainedModel

    if has_with_code:
        part.save_pretrained(folder, with_code=True)
        return
    if not type(part).__module__.startswith("transformers."):
        type(part).register_for_auto_class(_auto_class(part))
        if isinstance(part, PreTrainedModel):
            type(part.config).register_for_auto_class()
    part.save_pretrained(folder)


def _auto_class(part: Any) -> str:
    """The Auto class that loads a model or a processor."""
    from transformers import PreTrainedModel
    from transformers.image_processing_utils import ImageProcessingMixin
    from transformers.video_processing_utils import BaseVideoProcessor

    if not isinstance(part, PreTrainedModel):
        kinds = {"AutoVideoProcessor": BaseVideoProcessor, "AutoImageProcessor": ImageProcessingMixin}
        return next((name for name, kind in kinds.items() if isinstance(part, kind)), "AutoProcessor")
    for name in ("AutoModelForVideoClassification", "AutoModelForImageClassification"):
        if type(part).__name__.endswith(name.removeprefix("AutoModel")):
            return name
    return "AutoModel"
