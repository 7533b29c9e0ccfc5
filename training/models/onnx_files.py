# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Classifiers as ONNX files: the graph from raw or normalized pixels to logits, with class names and the settings of the processor as
metadata; and such a file as a classifier that runs in onnxruntime.
"""

import dataclasses
import importlib.util
import json
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.clip_sampling import UINT8
from ..data.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, frame_folders, scan_folder
from ..options import one_line
from .clip_processors import ClipProcessors, choose_num_frames, clip_processors, complete_sampling
from .families import family_of
from .loading import (
    ONNX_FILE,
    VideoClassifier,
    has_weights,
    image_clip_processors,
    load_config,
    load_processor,
    load_video_classifier,
    media_of,
)
from .onnx_clips import clip_shape, describe_clips
from .onnx_frames import any_num_frames, fixed_frames_reason, least_num_frames
from .onnx_quantization import quantize as quantize_file


SCRIPT_NAME = "classify.py"  # a copy of this file:
SCRIPT = Path(__file__).with_name("onnx_classify.py")
SAME_START = 150  # bytes at the start of the script that are the same in each release: copyright and purpose
SETTINGS_FILES = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
OPSET = 18
INPUT_DTYPES = ("uint8", "float32")
PROVIDERS = {"cpu": "CPUExecutionProvider", "openvino": "OpenVINOExecutionProvider"}  # of onnxruntime
INPUT_NAMES = {"video": "pixel_values_videos", "image": "pixel_values"}
NUM_CALIBRATION_CLIPS = 64
NUM_RANDOM_CLIPS = 16
MAX_FILE_BYTES = 1.5e9  # a larger model has its weights in a file beside the graph: protobuf has a limit of 2 GB
# Largest difference of logits between onnxruntime and torch that rounding explains, as a fraction of the largest logit.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2}


class PixelsToLogits(nn.Module):
    """
    The graph that is exported: clips `(batch, frames, channels, height, width)`, or images `(batch, channels, height, width)`, to
    float32 logits `(batch, classes)`.

    processors: of the classifier. Their normalization of uint8 pixels is a part of the graph. shape: of a clip or image, without the
        batch.
    """

    def __init__(self, model: Any, processors: ClipProcessors, shape: tuple[int, ...]):
        super().__init__()
        self.model, self.input_name = model, model.main_input_name
        self.has_normalization = processors.normalizer is not None
        if self.has_normalization:
            # Measured, because processors differ in their settings: Transformers' ViViT also has an offset.
            black, white = (_normalized_color(value, processors, shape) for value in (0, 255))
            self.scale, self.shift = nn.Buffer(((white - black) / 255).float()), nn.Buffer(black.float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.has_normalization and pixels.dtype == torch.uint8:
            pixels = (pixels.float() * self.scale + self.shift).to(self.model.dtype)
        return (
            self.model(**{self.input_name: pixels}).logits.float().flatten(1)
        )  # VideoPrism returns (batch, 1, classes)


def _normalized_color(value: int, processors: ClipProcessors, shape: tuple[int, ...]) -> torch.Tensor:
    """The normalized pixels of a clip or image whose pixels are all `value`: float64 `(channels, 1, 1)`."""
    (pixels,) = processors.prepare(torch.full((1, *shape), value, dtype=torch.uint8), torch.float64).values()
    return pixels.flatten(0, -4)[0, :, :1, :1]


def _normalization(classifier: VideoClassifier, shape: tuple[int, ...], input_dtype: str) -> dict[str, list[float]]:
    """`scale` and `shift` per channel that normalize raw pixels for a file that takes normalized ones; empty for raw pixels."""
    if input_dtype == "uint8":
        return {}
    processors = dataclasses.replace(classifier.processors, normalizer=classifier.processors.own)
    black, white = (_normalized_color(value, processors, shape).flatten() for value in (0, 255))
    return {"scale": ((white - black) / 255).tolist(), "shift": black.tolist()}


class ProviderError(ValueError):
    """A provider of onnxruntime cannot run a file. reason: the message without the name of the argument."""

    def __init__(self, provider: str, reason: str):
        super().__init__(f"provider={provider!r}: {reason}")
        self.reason = reason


class OnnxModel:
    """
    A file of `export_onnx` in onnxruntime on the CPU, as a model that `VideoClassifier` calls. provider: a key of `PROVIDERS`.

    Raises `ImportError` without onnxruntime, `ProviderError` for a provider that is unknown, or that onnxruntime lacks or cannot start, and
    `ValueError` for a damaged file or one of another origin.
    """

    dtype = torch.float32

    def __init__(self, path: Path, config: Any, provider: str = "cpu"):
        _require("onnxruntime")
        import onnxruntime

        if provider not in PROVIDERS:
            raise ProviderError(provider, f"use {' or '.join(PROVIDERS)}.")
        self.config, name = config, PROVIDERS[provider]
        available = onnxruntime.get_available_providers()
        if name not in available:
            raise ProviderError(
                provider,
                f"onnxruntime {onnxruntime.__version__} has no {name}, only {', '.join(available)}; the package "
                f"onnxruntime-{provider}, in an environment without onnxruntime, has it.",
            )
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=[name], enable_fallback=0)
        except Exception as error:  # onnxruntime has an exception class for each cause, without a common one
            raise ValueError(
                f"{path} cannot be loaded in {name} ({one_line(error)}): if the file is damaged, export it again."
            ) from error
        if name not in (running := self.session.get_providers()):  # onnxruntime takes the CPU then, and does not raise
            raise ProviderError(
                provider,
                f"onnxruntime could not start {name} and would run {path} in {', '.join(running)}: look for its message "
                "above, or use cpu.",
            )
        self.input_dtype = self.session.get_modelmeta().custom_metadata_map.get("input_dtype")
        if self.input_dtype not in INPUT_DTYPES:
            raise ValueError(
                f"{path} was not written by `tubevit export --format onnx`: its metadata do not state the type of the input pixels."
            )

    def __call__(self, **inputs: torch.Tensor) -> SimpleNamespace:
        (pixels,) = inputs.values()
        (name,) = (each.name for each in self.session.get_inputs())
        (logits,) = self.session.run(None, {name: pixels.numpy()})
        return SimpleNamespace(logits=torch.from_numpy(logits))

    def to(self, device: Any) -> "OnnxModel":
        """The model itself. Raises `ValueError` for another device than the CPU."""
        if torch.device(device).type != "cpu":
            raise ValueError(f"ONNX files run on the CPU here, got device {device}: use cpu.")
        return self


def export_onnx(
    name: str,
    folder: Path,
    input_dtype: str | None = None,
    dtype: str = "float32",
    quantize: str | None = None,
    calibration: Path | None = None,
    for_program: bool = False,
) -> list[str]:
    """
    Write `model.onnx`, the config and the processor of a classifier of any family to `folder`, and compare the file with torch. For videos
    also `classify.py`, which runs the file without torch and Transformers. The files of an earlier export to the folder are removed. The
    folder may be that of the checkpoint.

    input_dtype: "uint8", raw pixels that the graph normalizes, or "float32", normalized pixels; by default the pixels that the
        checkpoint's processor does not round. dtype: of the weights, "float32" or "float16".
    quantize: "int8" for matrix products in int8 (`onnx_quantization.quantize`): dynamic, or static with the clips of the folder
        `calibration`, whose subfolders may have any names. A float32 file is compared with torch before.
    for_program: whether a program with clips of its own runs the file: they have the processor's number of frames, and `classify.py` is
        not mentioned. Otherwise clips of a TubeViT may have any number of frames, where its positions allow it (`fixed_frames_reason`).

    Returns sentences for the user. Raises `ImportError` without onnx and onnxscript; `ValueError` for a processor that gives raw pixels
    with `input_dtype="float32"`, if onnxruntime and torch disagree, and for options of quantization that contradict each other;
    `FileExistsError` for a folder with another checkpoint, whose config would be replaced.
    """
    for package in ("onnx", "onnxscript", *(["onnxruntime"] if quantize else [])):
        _require(package)
    if has_weights(folder) and folder.resolve() != Path(name).expanduser().resolve():
        raise FileExistsError(f"{folder} holds another checkpoint, whose config would be replaced: name a new folder.")
    if quantize is None and calibration is not None:
        raise ValueError("--calibration is for int8: give --quantize int8 too.")
    if quantize is not None and dtype != "float32":
        raise ValueError(f"--quantize {quantize} starts from float32 weights, got --dtype {dtype}: give one of them.")
    classifier = load_video_classifier(name, {}, dtype)
    files = ([], []) if calibration is None else calibration_files(calibration, classifier.media)
    num_bytes = sum(parameter.nbytes for parameter in classifier.model.parameters())
    if quantize is not None and num_bytes > MAX_FILE_BYTES:
        raise ValueError(
            f"--quantize {quantize} is for models below {MAX_FILE_BYTES / 1e9:g} GB of weights, {name} has {num_bytes / 1e9:.1f} GB."
        )
    input_dtype, messages = _choose_input_dtype(classifier, input_dtype, name)
    shape, reason = clip_shape(classifier), fixed_frames_reason(classifier.model)
    if quantize is not None and reason is None:
        reason = "the tokenizer for any number of frames has convolutions, which stay float32 in int8 files"
    least_frames = None
    if not for_program and classifier.media == "video":
        if reason is None:
            least_frames = least_num_frames(classifier.model)
            about = f"Clips may have {least_frames} frames or more; the processor's have {shape[0]}."
        else:
            about = f"The number of frames is fixed: {reason}."
        messages.insert(0, about)
    axes = ["batch", *shape] if least_frames is None else ["batch", "frames", *shape[1:]]
    program = _make_graph(classifier, shape, input_dtype, least_frames)
    program.model.metadata_props.update(metadata(classifier, axes, name, input_dtype))
    about_script = [_write_folder(program, classifier, folder, name, shape, input_dtype)]
    if for_program:
        about_script = []
    sizes = ", ".join(map(str, axes))
    pixels = "raw pixels, 0 to 255" if input_dtype == "uint8" else "normalized pixels"
    messages.insert(
        0,
        f"Input {INPUT_NAMES[classifier.media]}: {input_dtype} ({sizes}), {pixels}. Output logits: float32 (batch, {classifier.model.config.num_labels}).",
    )
    if importlib.util.find_spec("onnxruntime") is None:
        return [*messages, "The file was not compared with torch: onnxruntime is not installed.", *about_script]
    other_shape = shape if least_frames is None else (2 * shape[0] + 1, *shape[1:])
    messages.append(compare(classifier, folder, (shape, other_shape)))
    if quantize is not None:
        messages += _quantize(classifier, folder, shape, *files)
    return [*messages, *about_script]


def _choose_input_dtype(classifier: VideoClassifier, input_dtype: str | None, name: str) -> tuple[str, list[str]]:
    """The type of the input pixels, and sentences on what it changes. Raises `ValueError` for normalized pixels of a processor of raw ones."""
    own = classifier.processors.own
    resizes_as_float = getattr(classifier.processor, "resizes_as_float", False)  # images and clips of Transformers: no
    input_dtype = input_dtype or ("float32" if resizes_as_float else "uint8")
    if input_dtype == "float32" and not (own.do_rescale or own.do_normalize):
        raise ValueError(f"The processor of {name} gives raw pixels, which the model normalizes: use --input uint8.")
    if resizes_as_float and input_dtype == "uint8":
        return input_dtype, [
            "The processor resizes frames as floats: as uint8, resized pixels are rounded to whole gray levels."
        ]
    return input_dtype, []


def _make_graph(
    classifier: VideoClassifier, shape: tuple[int, ...], input_dtype: str, least_frames: int | None
) -> Any:
    """The ONNX program of a classifier, for any batch, and for any number of frames from `least_frames` on unless it is `None`."""
    logging.getLogger("onnxscript").setLevel(
        logging.ERROR
    )  # it warns of each operation whose constants it does not fold
    dims = {0: torch.export.Dim("batch")}
    if least_frames is not None:
        dims[1] = torch.export.Dim("frames", min=least_frames)
    graph = PixelsToLogits(classifier.model, classifier.processors, shape).eval()
    with nullcontext() if least_frames is None else any_num_frames(classifier.model):
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, *shape, dtype=getattr(torch, input_dtype)),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAMES[classifier.media]],
            output_names=["logits"],
            dynamic_shapes=(dims,),
            verbose=False,
        )
    assert program is not None  # it is None without dynamo only
    return program


def _write_folder(
    program: Any, classifier: VideoClassifier, folder: Path, name: str, shape: tuple[int, ...], input_dtype: str
) -> str:
    """Write the graph, the config, the processor and, if it can prepare the clips, the script. Returns a sentence on the script."""
    try:
        clips = describe_clips(classifier, name) | _normalization(classifier, shape, input_dtype)
    except ValueError as error:
        about_script = f"No {SCRIPT_NAME} is written, because it could not prepare the input: {error}"
    else:
        program.model.metadata_props["clip"] = json.dumps(clips)
        about_script = f"Without torch and Transformers: python {folder / SCRIPT_NAME} CLIP ... (needs numpy, av and onnxruntime)."
    folder.mkdir(parents=True, exist_ok=True)
    remove_export(folder)
    num_bytes = sum(parameter.nbytes for parameter in classifier.model.parameters())
    program.save(folder / ONNX_FILE, external_data=num_bytes > MAX_FILE_BYTES)
    classifier.model.config.save_pretrained(folder)
    classifier.processors.own.save_pretrained(folder)
    if "clip" in program.model.metadata_props:
        if (folder / SCRIPT_NAME).exists():
            return f"No {SCRIPT_NAME} is written: the folder has another file of this name, which stays."
        shutil.copyfile(SCRIPT, folder / SCRIPT_NAME)
    return about_script


def _quantize(
    classifier: VideoClassifier, folder: Path, shape: tuple[int, ...], files: list[str], others: list[str]
) -> list[str]:
    """
    Replace the float32 file of an export by one in int8, static with `files`, and compare it with torch on `others`, or on `files` if there
    are no others. Returns sentences for the user.
    """
    path, media = folder / ONNX_FILE, classifier.media
    exported, messages = load_onnx_classifier(path, {}), []
    if files:
        clips, messages = _read_clips(exported, files)
        if not clips:
            raise ValueError(messages[0])
        of_graph = [next(iter(exported.processors.prepare(clip[None], torch.float32).values())) for clip in clips]
        messages.append(quantize_file(path, [each.numpy() for each in of_graph]))
        source = (
            f"the {media}s of the calibration (other {media}s may differ several times as much: a folder of more than "
            f"{NUM_CALIBRATION_CLIPS} gives better ranges, and the others are compared)"
        )
        other_clips, unread = _read_clips(exported, others)
        messages += unread
        if other_clips:
            clips, source = other_clips, f"other {media}s of the calibration folder"
    else:
        generator = torch.Generator().manual_seed(0)
        clips = list(torch.randint(0, 256, (NUM_RANDOM_CLIPS, *shape), dtype=torch.uint8, generator=generator))
        messages.append(quantize_file(path))
        source = f"{media}s of random pixels, which say little of real ones: give --calibration FOLDER"
    exported = load_onnx_classifier(path, {})
    ours, theirs = (torch.cat([model(clip[None]) for clip in clips]) for model in (exported, classifier))
    difference = (ours - theirs).abs().max().item()
    if not np.isfinite(difference):
        remove_export(folder)
        raise ValueError("The int8 file gives logits that are not finite, and is deleted: leave out --quantize.")
    num_same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    return [
        *messages,
        f"int8 against torch in float32: top-1 agreement {num_same} of {len(clips)} ({100 * num_same / len(clips):.1f} %), the largest difference "
        f"between logits is {difference:.1e} (largest logit: {theirs.abs().max().item():.3g}), on {source}.",
    ]


def calibration_files(folder: Path, media: str) -> tuple[list[str], list[str]]:
    """
    At most `NUM_CALIBRATION_CLIPS` videos or images of a folder and its subfolders, evenly spread, and as many of the others. Raises
    `FileNotFoundError` without the folder, `ValueError` without videos or images in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--calibration {folder}: there is no such folder.")
    tree = scan_folder(folder)
    of_frames = [each.path for each in frame_folders(tree)] if media == "video" else []
    suffixes = VIDEO_SUFFIXES if media == "video" else IMAGE_SUFFIXES
    files = sorted(map(str, [*tree.files(suffixes, without=set(of_frames)), *of_frames]))
    if not files:
        raise ValueError(
            f"--calibration {folder} holds no {media}s; give a folder with {media}s that the model is for."
        )
    chosen = _evenly(files, NUM_CALIBRATION_CLIPS)
    return chosen, _evenly(sorted({*files} - {*chosen}), NUM_CALIBRATION_CLIPS)


def _evenly(files: list[str], number: int) -> list[str]:
    number = min(len(files), number)
    return [files[index * len(files) // number] for index in range(number)]


def _read_clips(classifier: VideoClassifier, files: list[str]) -> tuple[list[torch.Tensor], list[str]]:
    """One view of each file that can be read, and a sentence on the other files."""
    views = {"num_temporal_views": 1, "num_spatial_views": 1} if classifier.media == "video" else {}
    clips, errors = [], []
    for file in files:
        try:
            source = file if classifier.media == "video" else Image.open(file).convert("RGB")
            (pixels,) = classifier.processor(source, return_tensors="pt", **views).values()
        except (OSError, ValueError) as error:
            errors.append(f"{file}: {str(error).splitlines()[0]}")
        else:
            clips.append(pixels[0])
    skipped = (
        [f"{len(errors)} of {len(files)} calibration files cannot be read; the first: {errors[0]}"] if errors else []
    )
    return clips, skipped


def load_onnx_classifier(path: Path, settings: dict[str, Any], provider: str = "cpu") -> VideoClassifier:
    """
    The classifier of a file that `export_onnx` wrote, beside its config and its processor.

    settings: as in `load_video_classifier`. provider: a key of `PROVIDERS`.

    Raises `ImportError` without onnxruntime, `OSError` or `ValueError` for a file of another origin, and `ProviderError` as
    `OnnxModel` does.
    """
    name = str(path.parent)
    if not (path.parent / "config.json").is_file():
        raise FileNotFoundError(
            f"{path} has no config.json beside it: keep the files of `tubevit export --format onnx` in one folder."
        )
    config = load_config(name)
    family = family_of(config, name)
    own, model = load_processor(name, family, media_of(family, config)), OnnxModel(path, config, provider)
    if media_of(family, config) == "image":
        processors = image_clip_processors(own, family, config)
    else:
        settings = complete_sampling(settings)
        num_frames = choose_num_frames(settings, own, family, config, name)
        reading = UINT8 if model.input_dtype == "uint8" else None
        processors = clip_processors(own, settings, num_frames, family, config, reading)
    normalizer = None if model.input_dtype == "uint8" else processors.own
    return VideoClassifier(model, dataclasses.replace(processors, normalizer=normalizer))


def remove_export(folder: Path) -> None:
    """
    Remove what `export_onnx` wrote to a folder: graph, weights, script, config and processor. Other files stay, also a `classify.py`
    of another origin, and the config and processor of a checkpoint that has its own weights in the folder.
    """
    names, script = [ONNX_FILE, f"{ONNX_FILE}.data"], folder / SCRIPT_NAME
    if script.is_file() and script.read_bytes().startswith(SCRIPT.read_bytes()[:SAME_START]):
        names.append(SCRIPT_NAME)
    if (folder / ONNX_FILE).is_file() and not has_weights(folder):
        names += SETTINGS_FILES
    for name in names:
        (folder / name).unlink(missing_ok=True)


def find_onnx_file(name: str) -> Path | None:
    """The ONNX file that a name stands for: a file, or a folder with one and without other weights. `None` for any other name."""
    path = Path(name).expanduser()
    if path.suffix == ".onnx":
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {name}.")
        return path
    return path / ONNX_FILE if (path / ONNX_FILE).is_file() and not has_weights(path) else None


def metadata(classifier: VideoClassifier, axes: list[str | int], name: str, input_dtype: str) -> dict[str, str]:
    """The metadata of a file whose input has these axes. Lists and settings are JSON."""
    own, config = classifier.processors.own, classifier.model.config
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    return {
        "model": Path(name).name,
        "model_type": config.model_type,
        "labels": json.dumps(labels, ensure_ascii=False),
        "label_groups": json.dumps(classifier.label_groups),
        "problem_type": config.problem_type or "single_label_classification",
        "input_dtype": input_dtype,
        "input_shape": json.dumps(axes),
        "processor": own.to_json_string(),  # sampling, sizes, crop, views and normalization
    }


def compare(classifier: VideoClassifier, folder: Path, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> str:
    """
    A sentence on the largest difference between onnxruntime and torch on random pixels, for one clip of the first of `shapes`, and for two
    clips of the second. Raises `ValueError` if it is more than rounding.
    """
    import onnxruntime

    exported, generator = load_onnx_classifier(folder / ONNX_FILE, {}), torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for batch, shape in enumerate(shapes, 1):
        clips = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        expected = classifier(clips)
        difference = max(difference, (exported(clips) - expected).abs().max().item())
        largest = max(largest, expected.abs().max().item())
    result = (
        f"the largest difference between the logits of onnxruntime {onnxruntime.__version__} and torch is {difference:.1e} (largest "
        f"logit: {largest:.3g})."
    )
    if not difference <= TOLERANCES[classifier.model.dtype] * largest:
        remove_export(folder)
        raise ValueError(f"The ONNX file was wrong, and is deleted: on random pixels, {result}")
    return f"Compared on random pixels: {result}"


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(f'ONNX files need {package}: pip install "tubevit[onnx]", or pip install {package}.')
