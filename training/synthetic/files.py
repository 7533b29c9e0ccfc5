# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Writes synthetic sets as files: `train|validation/<class>/<number>.mp4` and a `list.csv`, both of which `tubevit train` reads.

Every frame is a key frame of constant quality. Otherwise the compression loss of a frame would depend on the frames before it, and
a single frame of a fast clip would differ from one of a slow clip (see `motion_scenes`).
"""

import csv
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tubevit.processing.cpu_cores import num_cores

from .figure_scenes import FigureSet
from .motion_set import SPLITS, DrawnSet, MotionSet, ShapeImages, check_choice
from .moving_shapes import MAX_THREADS, write_clip


CODECS = {
    "mp4": ("libx264", {"qp": "16", "g": "1", "preset": "veryfast"}),
    "webm": (
        "libvpx-vp9",
        {"crf": "16", "b": "0", "g": "1", "auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "5"},
    ),
}
MANIFEST_NAME, LIST_NAME = "motion_set.json", "list.csv"
GENERATOR_VERSION = 1  # raise when the drawing changes, so that old and new clips are not mixed in one folder
FIGURES_VERSION = 3  # the same for simulated people


def write_motion_set(
    folder: str | Path,
    task: str = "all",
    level: int = 1,
    num_train: int = 1000,
    num_validation: int = 300,
    num_frames: int = 16,
    image_size: int = 64,
    seed: int = 0,
    container: str = "mp4",
    images: bool = False,
) -> Path:
    """
    Write the clips of a `MotionSet`, 16 frames per second, or with `images` the `ShapeImages` as png; returns `folder`.

    A call that was interrupted is continued by the same call, and one with larger numbers adds to what is there.

    container: "mp4" (H.264) or "webm" (VP9); the size must be even, since both store colors at half of it.

    Raises `ValueError` for unknown settings and for settings that differ from those of the set in `folder`, and
    `FileExistsError` if `folder` holds other files.
    """
    common = {"level": level, "image_size": image_size, "seed": seed}
    numbers = dict(zip(SPLITS, (num_train, num_validation), strict=True))
    if images:
        sets = [ShapeImages(split=split, num_images=number, **common) for split, number in numbers.items()]
        return write_drawn_sets(folder, sets, {"kind": "images", **common})
    common |= {"task": task, "num_frames": num_frames}
    sets = [MotionSet(split=split, num_clips=number, **common) for split, number in numbers.items()]
    return write_drawn_sets(folder, sets, {"kind": "clips", **common}, container)


def write_figure_set(
    folder: str | Path,
    num_train: int = 1000,
    num_validation: int = 300,
    num_frames: int = 28,
    image_size: int = 72,
    seed: int = 0,
    container: str = "mp4",
) -> Path:
    """Write the clips of a `FigureSet`; otherwise as `write_motion_set`."""
    common = {"num_frames": num_frames, "image_size": image_size, "seed": seed}
    numbers = dict(zip(SPLITS, (num_train, num_validation), strict=True))
    sets = [FigureSet(split=split, num_clips=number, **common) for split, number in numbers.items()]
    return write_drawn_sets(folder, sets, {"kind": "figures", "version": FIGURES_VERSION, **common}, container)


def write_drawn_sets(
    folder: str | Path, sets: Sequence[DrawnSet], settings: dict[str, Any], container: str | None = None
) -> Path:
    """
    Write a set per split, with the same classes: clips in a `container`, or images if it is `None`. Returns `folder`.

    settings: all that decides the examples, except their numbers. Otherwise as `write_motion_set`.
    """
    from ..logging_utils import progress_bar

    if container is not None:
        check_choice("container", container, CODECS)
        settings = {**settings, "container": container}
        if sets[0].image_size % 2:
            size = sets[0].image_size
            raise ValueError(f"image_size must be even, so that it can be encoded as {container}, got {size}.")
    suffix = ".png" if container is None else f".{container}"
    numbers = {drawn.split: len(drawn) for drawn in sets}
    folder = Path(folder)
    _claim(folder, {"version": GENERATOR_VERSION, **settings}, numbers)
    jobs = [(drawn, index, path) for drawn in sets for index, path in _files(drawn, suffix)]
    for path in {(folder / path).parent for _, _, path in jobs}:
        path.mkdir(parents=True, exist_ok=True)
    missing = [(drawn, index, folder / path) for drawn, index, path in jobs if not (folder / path).exists()]
    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        written = pool.map(_write, missing)
        for _ in progress_bar(written, "writing", len(missing), unit=sets[0].unit):
            pass
    with open(folder / LIST_NAME, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        writer.writerows([path, sets[0].class_names[drawn.labels[index]], drawn.split] for drawn, index, path in jobs)
    return folder


def _files(drawn: DrawnSet, suffix: str) -> Iterator[tuple[int, str]]:
    """Index and path of each example; both stay the same when the set grows."""
    for index, label in enumerate(drawn.labels):
        yield index, f"{drawn.split}/{drawn.class_names[label]}/{index // len(drawn.class_names):04d}{suffix}"


def _write(job: tuple[DrawnSet, int, Path]) -> None:
    drawn, index, path = job
    part = path.with_name(f".{path.name}")  # readers skip hidden files
    pixels = np.moveaxis(drawn.draw(index), -3, -1)  # not cached: a set on disk may be larger than the memory
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(pixels).save(part)
    else:
        write_clip(part, pixels, 16, *CODECS[path.suffix[1:]])
    part.replace(path)


def _claim(folder: Path, settings: dict[str, Any], numbers: dict[str, int]) -> None:
    """Write the manifest of a set into `folder`. Raises if the folder holds a set with other settings or more examples."""
    manifest = folder / MANIFEST_NAME
    if manifest.is_file():
        earlier = json.loads(manifest.read_text(encoding="utf-8"))
        if changed := [name for name in settings if earlier["settings"].get(name) != settings[name]]:
            was = ", ".join(f"{name}={earlier['settings'].get(name)}" for name in changed)
            raise ValueError(f"{folder} holds a set with {was}: use the same, or another folder.")
        if any(numbers[split] < earlier["numbers"][split] for split in SPLITS):
            was = ", ".join(f"{number} for {split}" for split, number in earlier["numbers"].items())
            raise ValueError(f"{folder} holds a larger set already ({was}): use another folder for a smaller one.")
    elif folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files that are not a synthetic set: empty it or name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"settings": settings, "numbers": numbers}, indent=1) + "\n", encoding="utf-8")
