# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A classifier of videos of any family as a static web page: model.onnx, its settings, the page in `page/`, and the packages that it runs.

The page samples, resizes and crops frames as the processor does, with the settings in model.json (`page_settings`). A processor whose
frames the page cannot prepare is refused here, not in the browser.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..models.loading import VideoClassifier, load_video_classifier
from ..models.onnx_clips import describe_clips, drawn_clips
from ..models.onnx_files import INPUT_NAMES, ONNX_FILE, export_onnx, load_onnx_classifier
from ..models.onnx_quantization import quantize_weights
from ..visualization.canvas import dimensions, tube_colors
from ..visualization.tube_masks import applied_tubes
from .npm_packages import copy_packages


PAGE = Path(__file__).parent / "page"
SETTINGS_FILE = "model.json"
WEIGHTS = ("auto", "int8", "float32")
MAX_MODEL_BYTES = 1e9  # WebAssembly addresses 4 GB; the file, the model and its activations must fit
NUM_COMPARED = 24  # synthetic clips on which int8 and float32 weights are compared


def export_web(
    name: str, folder: Path, weights: str = "auto", npm_packages: Path | None = None, title: str | None = None
) -> list[str]:
    """
    Write the page of a classifier to a new or empty `folder`.

    weights: "int8", "float32", or "auto", int8 if all `NUM_COMPARED` synthetic clips keep their label. npm_packages: a folder with the archives
        of `npm_packages.PACKAGES`. title: name of the model in the page (default: the last part of `name`).

    Returns sentences for the user. Raises `ImportError` without the packages of the extra onnx; `ValueError` for a classifier that the
    page cannot run; `OSError` without the npm packages.
    """
    classifier = load_video_classifier(name, {}, "float32")
    settings = page_settings(classifier, title or Path(name).name)
    folder.mkdir(parents=True, exist_ok=True)
    messages = copy_packages(folder, npm_packages)
    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary) / "float32"
        messages = [*export_onnx(name, exported, "uint8", for_program=True), *messages]
        chosen, weights, reason = _choose_weights(classifier, exported, weights)
        num_bytes = [_copy_lean(each / ONNX_FILE, folder / ONNX_FILE) for each in (exported, chosen)]
        smaller = "" if weights == "float32" else f" instead of {num_bytes[0] / 1e6:.1f} MB in float32"
        messages.append(f"{ONNX_FILE} has {weights} weights, {num_bytes[1] / 1e6:.1f} MB{smaller}{reason}.")
    for path in PAGE.iterdir():
        shutil.copyfile(path, folder / path.name)
    settings |= {"weights": weights, "model_bytes": num_bytes[1]}
    text = json.dumps(settings, ensure_ascii=False, indent=1)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
    reader = classifier.processor
    if classifier.num_views > 1:
        messages.append(
            f"The page classifies one view of a video, the center of one clip; the processor has {reader.num_temporal_views} x "
            f"{reader.num_spatial_views} views."
        )
    return messages


def page_settings(classifier: VideoClassifier, name: str) -> dict[str, Any]:
    """
    What the page knows of the classifier: labels, sampling, sizes, and the tubes of a TubeViT. JSON values.

    Raises `ValueError` for a classifier that the page cannot run, as `describe_clips`, and for one that is too large.
    """
    config, clips = classifier.model.config, describe_clips(classifier, name)
    if sum(parameter.numel() * 4 for parameter in classifier.model.parameters()) > MAX_MODEL_BYTES:
        raise ValueError(
            f"{name} has more than {MAX_MODEL_BYTES / 1e9:g} GB of float32 weights, too many for a browser."
        )
    size = (clips["num_frames"], clips["height"], clips["width"])
    return {
        "name": name,
        "labels": [str(config.id2label[index]) for index in range(config.num_labels)],
        "label_groups": [list(each) for each in classifier.label_groups.items()],
        "multi_label": classifier.multi_label,
        "input": INPUT_NAMES["video"],
        **clips,
        "tubes": _tubes(config, size) if hasattr(config, "get_tubes") else [],
    }


def _tubes(config: Any, size: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Name, color, kernel and places of each tube: `starts` has the first frames, rows and columns of its kernel."""
    tubes = applied_tubes(config, size)
    return [
        {
            "name": dimensions(tube.kernel_size),
            "color": color,
            "num_tokens": tube.num_tokens(size),
            "kernel": list(tube.kernel_size),
            "starts": [
                [offset + stride * index for index in range(count)]
                for offset, stride, count in zip(tube.offset, tube.kernel_stride, tube.kernel_grid(size), strict=True)
            ],
        }
        for tube, color in zip(tubes.values(), tube_colors(list(tubes)), strict=True)
    ]


def _choose_weights(classifier: VideoClassifier, exported: Path, weights: str) -> tuple[Path, str, str]:
    """The folder of the ONNX file to use, its weights, and the reason in words. exported: the folder of the float32 file."""
    if weights == "float32":
        return exported, weights, ""
    quantized, clips = quantize_weights(exported), drawn_clips(classifier, NUM_COMPARED)
    ours, theirs = load_onnx_classifier(quantized / ONNX_FILE, {})(clips), classifier(clips)
    num_same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    if weights == "auto" and num_same < len(clips):
        return (
            exported,
            "float32",
            f"; with int8 weights only {num_same} of {len(clips)} synthetic clips keep their label",
        )
    return quantized, "int8", f"; {num_same} of {len(clips)} synthetic clips keep their label"


def _copy_lean(source: Path, target: Path) -> int:
    """Copy an ONNX file without the metadata of its nodes (traces of the export, 0.5 MB). Returns the number of bytes."""
    import onnx

    model = onnx.load(source)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.save(model, target)
    return target.stat().st_size
