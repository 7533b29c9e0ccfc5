# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit export`: a checkpoint together with its code, for machines that do not have this package."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder of a TubeViT checkpoint, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must be new or empty")
    parser.add_argument("--dataset", metavar="NAME", help="of a joint model: the classifier of this data set alone")


def run(args: argparse.Namespace) -> None:
    from ..logging_utils import quiet_libraries
    from ..models.loading import load_model, load_processors
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_new_folder(args.output)
    model = load_model(args.model)
    if args.dataset is not None:
        if not hasattr(model, "to_classifier"):
            raise ValueError(f"--dataset is for joint models, and {args.model} is a {type(model).__name__}.")
        model = model.to_classifier(args.dataset)
    for part in (model, *load_processors(args.model)):
        part.save_pretrained(args.output, with_code=True)
    auto_class = type(model).__name__.replace("TubeViTFor", "AutoModelFor").replace("TubeViTModel", "AutoModel")
    print(
        f"Wrote {args.output}: weights, processors and code. Elsewhere, without this package:\n"
        f'  model = {auto_class}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  processor = AutoProcessor.from_pretrained("{args.output}", trust_remote_code=True)'
    )
