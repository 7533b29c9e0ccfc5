# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A video classifier in torch and in onnxruntime on the CPU: time of raw pixels to logits, size of the file, and difference of the logits.

The ONNX files are those of `tubevit export --format onnx`: float32, and int8 with dynamic and with static quantization. Static quantization is
calibrated on synthetic clips, and logits are compared on other synthetic clips; neither represents real videos.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor

from ..models.loading import load_video_classifier
from ..models.onnx_clips import drawn_clips
from ..models.onnx_files import ONNX_FILE, PROVIDERS, export_onnx
from ..models.onnx_quantization import quantize
from ..timing import interleave, ratios, summarize


NUM_LABELS = 400
NUM_CALIBRATED = NUM_COMPARED = 8  # clips
OPENVINO = PROVIDERS["openvino"]


def measure_runtimes(
    checkpoint: str | None, preset: str, num_frames: int, image_size: int, batch_size: int, rounds: int
) -> dict[str, Any]:
    """
    `{"title", "batch_size", "rows": {name: times in ms, "megabytes", "difference", "same_label"}, "notes": sentences}` with the names of
    `tables.RUNTIME_TITLES`. Ratios are a runtime's time divided by that of torch; "difference" is the largest between logits, "same_label" the fraction
    of synthetic clips that keep their label.

    checkpoint: a video classifier of any family; by default a TubeViT of `preset` with random weights, for clips of `num_frames` frames
        of `image_size`.

    Raises `ImportError` without the packages of the extra onnx.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name, title = checkpoint, Path(checkpoint or "").name
        if name is None:
            name, title = random_model(folder / "model", preset, num_frames, image_size), f"TubeViT {preset}"
        classifier = load_video_classifier(name, {}, "float32")
        if classifier.media != "video":
            raise ValueError(f"{name} classifies images; --runtime measures a classifier of videos.")
        clips = drawn_clips(classifier, max(batch_size, NUM_CALIBRATED + NUM_COMPARED))
        batch, compared = clips[:batch_size], clips[-NUM_COMPARED:]
        files = _write_files(name, folder, clips[:NUM_CALIBRATED])
        calls, notes = _calls(classifier, files)
        logits = {key: np.concatenate([call(clip[None]) for clip in compared]) for key, call in calls.items()}
        timings = interleave(
            {key: lambda call=call: call(batch) for key, call in calls.items()}, rounds, "cpu", "runtimes"
        )
        rows = {key: summarize(each) for key, each in timings.items()}
        for key, row in rows.items():
            if key in files:
                row["megabytes"] = sum(each.stat().st_size for each in files[key].parent.glob(f"{ONNX_FILE}*")) / 1e6
            if key != "torch":
                row |= ratios(row, rows["torch"])
                row["difference"] = float(np.abs(logits[key] - logits["torch"]).max())
                row["same_label"] = float((logits[key].argmax(1) == logits["torch"].argmax(1)).mean())
        weights = sum(each.nbytes for each in classifier.model.parameters())
        rows["torch"]["megabytes"] = weights / 1e6
    return {"title": title, "batch_size": batch_size, "shape": list(batch.shape[1:]), "rows": rows, "notes": notes}


def random_model(folder: Path, preset: str, num_frames: int, image_size: int) -> str:
    """A folder with a TubeViT with random weights and its processor."""
    torch.manual_seed(0)
    config = preset_config(preset, num_frames=num_frames, image_size=image_size, num_labels=NUM_LABELS)
    TubeViTForVideoClassification(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": image_size}, "crop_size": {"height": image_size, "width": image_size}}
    TubeViTVideoProcessor(num_frames=num_frames, **size).save_pretrained(folder)
    return str(folder)


def _write_files(name: str, folder: Path, calibration: torch.Tensor) -> dict[str, Path]:
    """The ONNX files of a classifier, which take raw pixels, by the names of `RUNTIME_TITLES`."""
    files = {key: folder / key / ONNX_FILE for key in ("float32", "int8_dynamic", "int8_static")}
    export_onnx(name, files["float32"].parent, "uint8", for_program=True)
    for key in ("int8_dynamic", "int8_static"):
        shutil.copytree(files["float32"].parent, files[key].parent)
    with contextlib.redirect_stdout(io.StringIO()):  # the quantizer's advice
        quantize(files["int8_dynamic"])
        quantize(files["int8_static"], [clip[None].numpy() for clip in calibration])
    return files


def _calls(
    classifier: Any, files: dict[str, Path]
) -> tuple[dict[str, Callable[[torch.Tensor], np.ndarray]], list[str]]:
    """Functions from raw pixels to logits, by the names of `RUNTIME_TITLES`, and sentences on what is not measured."""
    import onnxruntime

    def in_onnxruntime(path: Path, provider: str) -> Callable[[torch.Tensor], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        name = session.get_inputs()[0].name
        return lambda clips: session.run(None, {name: clips.numpy()})[0]

    calls = {"torch": lambda clips: classifier(clips).numpy()}
    calls |= {key: in_onnxruntime(path, PROVIDERS["cpu"]) for key, path in files.items()}
    if OPENVINO in onnxruntime.get_available_providers():
        return calls | {"openvino": in_onnxruntime(files["float32"], OPENVINO)}, []
    return calls, [f"OpenVINO is not measured: this onnxruntime has no {OPENVINO} (pip install onnxruntime-openvino)."]
