# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit export`: write a checkpoint with the code of its model, as an ONNX file, or as a web page, for machines without this package."""

import argparse
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


FORMAT_OF = {  # option to the format that has it
    "input": ("onnx", "ONNX files"),
    "dtype": ("onnx", "ONNX files"),
    "quantize": ("onnx", "ONNX files"),
    "calibration": ("onnx", "ONNX files"),
    "web_weights": ("web", "web pages"),
    "npm_packages": ("web", "web pages"),
}


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
        choices=("code", "onnx", "web"),
        default="code",
        help="code: weights with the code of the model; onnx: a classifier as an ONNX file, compared with torch if onnxruntime is "
        "installed; web: a static page that classifies videos and the camera in the browser (default: %(default)s)",
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
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="compute matrix products of the ONNX file in int8; sizes, differences and top-1 agreement with torch are printed (default: off)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="with --quantize: folder of clips, on which the ranges of activations are measured (static quantization) and labels are "
        "compared (default: dynamic quantization, compared on random pixels)",
    )
    parser.add_argument(
        "--web-weights",
        choices=("auto", "int8", "float32"),
        help="weights of the model in the web page (default: auto, int8 if it changes no label of some synthetic clips)",
    )
    parser.add_argument(
        "--npm-packages",
        type=Path,
        metavar="FOLDER",
        help="for the web page without a network: folder with the archives of `npm pack` (default: the cache, filled by npm)",
    )


def run(args: argparse.Namespace) -> None:
    from ..logging_utils import quiet_libraries
    from ..models.export import auto_class, export_checkpoint
    from ..run_folder import check_new_folder

    quiet_libraries()
    check_new_folder(args.output)
    for option, (format_name, purpose) in FORMAT_OF.items():
        if getattr(args, option) is not None and args.format != format_name:
            raise ValueError(f"--{option.replace('_', '-')} is for {purpose}: give --format {format_name} too.")
    if args.format != "code":
        with tempfile.TemporaryDirectory() as folder:
            if args.dataset is not None:
                export_checkpoint(args.model, Path(folder), args.dataset, with_code=False)
            export = _export_onnx if args.format == "onnx" else _export_web
            existed = args.output.exists()
            try:
                export(args, args.model if args.dataset is None else folder)
            except BaseException:
                # An incomplete export is useless and would block the next one. The folder was new or empty, and may be a link.
                with suppress(OSError):
                    _remove_files(args.output)
                    if not existed:
                        args.output.rmdir()
                raise
        return
    model, processors = export_checkpoint(args.model, args.output, args.dataset)
    file = "picture.jpg" if "Image" in auto_class(model) else "clip.mp4"
    print(
        f"Wrote {args.output}: weights, processors and code. On a machine without this package:\n"
        f'  model = {auto_class(model)}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  processor = {auto_class(processors[0])}.from_pretrained("{args.output}", trust_remote_code=True)\n'
        f'  outputs = model(**processor("{file}", return_tensors="pt"))'
    )


def _remove_files(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _export_onnx(args: argparse.Namespace, model: str) -> None:
    from ..models.onnx_files import ONNX_FILE, export_onnx

    messages = export_onnx(model, args.output, args.input, args.dtype or "float32", args.quantize, args.calibration)
    print(f"Wrote {args.output / ONNX_FILE}, with labels and processor settings in its metadata.")
    for message in messages:
        print(message)
    print(f"Classify with it: tubevit predict --model {args.output} CLIP ...")


def _export_web(args: argparse.Namespace, model: str) -> None:
    from ..web.web_page import export_web

    title = args.dataset or Path(args.model).name
    messages = export_web(model, args.output, args.web_weights or "auto", args.npm_packages, title)
    print(f"Wrote {args.output / 'index.html'} and the files that it loads; a browser asks no other host.")
    for message in messages:
        print(message)
    print(
        f"Open it: python -m http.server --directory {args.output}, then http://localhost:8000 (as file:// it does not work)."
    )
