# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit export`: write a checkpoint with the code of its model, or as an ONNX file, for machines without this package."""

import argparse
import tempfile
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint of a model: a folder, or a name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must be new or empty")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="for a joint model: write the classifier of this data set (default: the joint model)",
    )
    parser.add_argument(
        "--format",
        choices=("code", "onnx"),
        default="code",
        help="code: weights with the code of the model; onnx: a classifier as an ONNX file, compared with torch if onnxruntime is "
        "installed (default: %(default)s)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        help="pixels that the ONNX file takes: raw uint8, which it normalizes, or normalized float32 (default: uint8, or float32 if the "
        "processor resizes frames as floats, as UniFormerV2's does)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        help="data type of the weights in the ONNX file (default: float32)",
    )


def run(args: argparse.Namespace) -> None:
    from ..logging_utils import quiet_libraries
    from ..models.export import auto_class, export_checkpoint
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_new_folder(args.output)
    if args.format == "onnx":
        _export_onnx(args)
        return
    for name in ("input", "dtype"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} is for ONNX files: give --format onnx too.")
    model, processors = export_checkpoint(args.model, args.output, args.dataset)
    file = "picture.jpg" if "Image" in auto_class(model) else "clip.mp4"
    print(
        f"Wrote {args.output}: weights, processors and code. On a machine without this package:\n"
        f'  model = {auto_class(model)}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  processor = {auto_class(processors[0])}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  outputs = model(**processor("{file}", return_tensors="pt"))'
    )


def _export_onnx(args: argparse.Namespace) -> None:
    from ..models.export import export_checkpoint
    from ..models.onnx_files import FILE_NAME, export_onnx

    options = (args.output, args.input, args.dtype or "float32")
    if args.dataset is None:
        messages = export_onnx(args.model, *options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            export_checkpoint(args.model, Path(folder), args.dataset, with_code=False)
            messages = export_onnx(folder, *options)
    print(f"Wrote {args.output / FILE_NAME}, with labels and processor settings in its metadata.")
    for message in messages:
        print(message)
    print(f"Classify with it: tubevit predict --model {args.output} CLIP ...")
