# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit export`: write a checkpoint with the code of its model, for machines without this package."""

import argparse
from pathlib import Path


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
    from ..models.export import auto_class, export_checkpoint
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_new_folder(args.output)
    model, processors = export_checkpoint(args.model, args.output, args.dataset)
    file = "picture.jpg" if "Image" in auto_class(model) else "clip.mp4"
    print(
        f"Wrote {args.output}: weights, processors and code. On a machine without this package:\n"
        f'  model = {auto_class(model)}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  processor = {auto_class(processors[0])}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  outputs = model(**processor("{file}", return_tensors="pt"))'
    )
