# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit demo --quick`: the shipped weights of a `tubevit demo` on newly generated clips, a label within seconds.

`demo_weights/` holds the model of a demo with int8 kernels and matrices, at most 2 MB. Before rounding it is right for 97 % of 300 held-out clips.
To write it anew:

    tubevit demo
    python -m tubevit.training.commands.quick_demo demo/model
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..data.demo_clips import LabeledClip, take_evenly
from .demo_steps import classify_and_draw, command_name, print_step


SHIPPED = Path(__file__).with_name("demo_weights")
FILES = ("config.json", "video_preprocessor_config.json", "preprocessor_config.json")
WEIGHTS = "model.safetensors"
INT8_WEIGHTS = "int8.safetensors"
SCALE = ".scale"  # ends the name of the scales of an int8 tensor
LEAST_INT8 = 1024  # smaller tensors stay float32


def pack_weights(model_folder: Path, target: Path) -> None:
    """Write the model of `model_folder` to `target`: matrices as int8 with a scale for each row, other tensors as they are."""
    import torch
    from safetensors.torch import load_file, save_file

    target.mkdir(exist_ok=True)
    packed = {}
    for name, tensor in load_file(model_folder / WEIGHTS).items():
        if tensor.ndim < 2 or tensor.numel() < LEAST_INT8:
            packed[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-12) / 127
        packed[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(tensor.shape)
        packed[name + SCALE] = scale
    save_file(packed, target / INT8_WEIGHTS)
    for name in FILES:
        shutil.copy(model_folder / name, target / name)


def unpack_weights(model_folder: Path, source: Path = SHIPPED) -> None:
    """Write the model of `source` to `model_folder` as `save_pretrained` does, in float32."""
    import torch
    from safetensors.torch import load_file, save_file

    packed = load_file(source / INT8_WEIGHTS)
    weights = {}
    for name, tensor in packed.items():
        if tensor.dtype == torch.int8:
            scale = packed[name + SCALE]
            tensor = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        if not name.endswith(SCALE):
            weights[name] = tensor
    model_folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, model_folder / WEIGHTS, metadata={"format": "pt"})
    for name in FILES:
        shutil.copy(source / name, model_folder / name)


def prepare(output: Path, seed: int) -> tuple[list[LabeledClip], Path]:
    """
    One drawn clip of each class in `output`/videos, or the held-out clips of an earlier demo there, and the shipped model in
    `output`/model. Raises `FileExistsError` if another model, or files of another kind, are there.
    """
    from ..synthetic.moving_shapes import MANIFEST_NAME, labels, write_dataset

    videos, model_folder = output / "videos", output / "model"
    if model_folder.is_dir() and {path.name for path in model_folder.iterdir()} - {*FILES, WEIGHTS}:
        raise FileExistsError(
            f"{model_folder} holds another model, or other files: remove it, or name another --output."
        )
    if not (videos / MANIFEST_NAME).is_file():
        write_dataset(videos, 0, 1, seed)
    unpack_weights(model_folder)
    clips = [LabeledClip(path, path.parent.name) for path in sorted((videos / "val").glob("*/*.mp4"))]
    return take_evenly(clips, len(labels()), seed), model_folder


def run_quick(output: Path, seed: int) -> int:
    """Write clips, the shipped model and a report to `output`, and print the label of each clip. Returns the exit code."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    start = time.monotonic()
    print_step(1, "Draw a clip of each class of moving shapes, and write the shipped weights", 2)
    clips, model_folder = prepare(output, seed)
    print_step(2, 'Classify the clips with pipeline("video-classification") and draw the report', 2)

    def show(clip: LabeledClip, best: tuple[str, float]) -> None:
        mark = "correct" if best[0] == clip.label else f"wrong: {clip.label}"
        print(f"{time.monotonic() - start:5.1f} s  {clip.path}: {best[0]} ({100 * best[1]:.0f} %), {mark}", flush=True)

    report = output / "report.png"
    num_correct = classify_and_draw(
        model_folder,
        clips,
        report,
        show,
        clips_are="held-out clips",
        title="TubeViT on moving shapes",
        subtitle="shipped weights, int8",
    )
    print(
        f"\n{num_correct} of {len(clips)} held-out clips correct. Took {time.monotonic() - start:.0f} s.\n"
        f"  model   {model_folder}\n"
        f"  report  {report}\n"
        f'Next:  {command_name()} predict "{clips[0].path.parent}" --model "{model_folder}"'
    )
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Replace the shipped weights by those of a demo's model."""
    (model_folder,) = sys.argv[1:] if argv is None else argv
    pack_weights(Path(model_folder), SHIPPED)
    print(f"{SHIPPED / INT8_WEIGHTS}: {(SHIPPED / INT8_WEIGHTS).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
