# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Frame folders: videos that are stored as one folder of numbered pictures each, such as `v_001/img_00001.jpg`.

Frames are in the order of the last number in their names. Missing numbers are gaps: the frames after a gap keep their times.
"""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .video_source import VideoDecodeError


FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<rest>\D*)")
OPTICAL_FLOW = re.compile(r"(flow|[xyuv])\b", re.IGNORECASE)  # flow_x_00001.jpg, x_00001.jpg: stored beside the frames


class FrameNames(NamedTuple):
    """
    The frames among the files of a folder.

    names: in the order of their numbers.
    positions: of each frame, from 0, in units of the distance between frames; ascending, with jumps at gaps.
    left_out: names of pictures that are not frames: without a number, or of an optical flow.
    """

    names: list[str]
    positions: list[int]
    left_out: list[str]

    @property
    def num_missing(self) -> int:
        """Number of missing frames between the first and the last."""
        return self.positions[-1] + 1 - len(self.positions)


def find_frames(names: Iterable[str], folder: str | Path) -> FrameNames | None:
    """
    The frames among the names of files in a folder, `None` if no picture has a number.

    Raises `VideoDecodeError` if several series of numbered pictures could be the frames, or two pictures have one number.

    >>> find_frames(["img_10.jpg", "img_9.jpg", "flow_x_9.jpg", "flow_x_10.jpg", "cover.jpg"], "v")[:2]
    (['img_9.jpg', 'img_10.jpg'], [0, 1])
    """
    series: dict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
    left_out = []
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in FRAME_SUFFIXES or name.startswith("."):
            continue
        match = NUMBERED.fullmatch(stem)
        if match is None:
            left_out.append(name)
            continue
        numbered = series[match["prefix"], match["rest"], suffix.lower()]
        other = numbered.setdefault(int(match["number"]), name)
        if other != name:
            raise VideoDecodeError(f"{folder} holds two pictures for one frame: {other} and {name}.")
    pictures = [numbered for key, numbered in series.items() if not OPTICAL_FLOW.match(key[0].replace("_", " "))]
    pictures = pictures or list(series.values())
    several = [numbered for numbered in pictures if len(numbered) > 1]
    if len(several) > 1:
        first, second = (min(numbered.values()) for numbered in several[:2])
        raise VideoDecodeError(
            f"{folder} holds several series of numbered pictures ({first} and {second}): a frame folder holds one."
        )
    if not several and len(pictures) != 1:
        return None
    (frames,) = several or pictures
    left_out += [name for numbered in series.values() if numbered is not frames for name in numbered.values()]
    numbers = sorted(frames)
    step = math.gcd(*(number - numbers[0] for number in numbers)) or 1
    positions = [(number - numbers[0]) // step for number in numbers]
    return FrameNames([frames[number] for number in numbers], positions, left_out)


def list_frames(folder: str | Path) -> FrameNames:
    """The frames in a folder. Raises `IsADirectoryError` without numbered pictures, and the errors of `find_frames`."""
    with os.scandir(folder) as entries:
        frames = find_frames((entry.name for entry in entries if not entry.is_dir()), folder)
    if frames is None:
        raise IsADirectoryError(f"{folder} is a folder without frames: a frame folder holds numbered pictures.")
    return frames


class FrameReader:
    """
    Reads a frame: the path of a picture to its pixels, RGB, uint8 `(height, width, 3)`, upright.

    display_size: (height, width) of the frames that were read.

    Raises `VideoDecodeError` for a picture that cannot be read, and for a picture of another size than the first.
    """

    def __init__(self):
        self.display_size = (0, 0)
        self.first: str | None = None

    def __call__(self, path: str) -> np.ndarray:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as opened:
                picture = _to_rgb(ImageOps.exif_transpose(opened))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoDecodeError(f"{path} cannot be read as a frame: {' '.join(str(error).split())}.") from error
        if self.first is None:
            self.first, self.display_size = path, (picture.shape[0], picture.shape[1])
        elif picture.shape[:2] != self.display_size:
            sizes = "{1}x{0} and {3}x{2}".format(*self.display_size, *picture.shape[:2])
            raise VideoDecodeError(f"The frames of a video must have one size, got {sizes} ({self.first} and {path}).")
        return picture


def _to_rgb(image) -> np.ndarray:
    """Pixels `(height, width, 3)`. Raises `ValueError` for pixels of an unknown range."""
    if image.mode.startswith("I;16"):  # `convert` would clip these at 255
        return np.repeat((np.array(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of PIL's mode {image.mode}, whose range is not known")
    return np.array(image.convert("RGB"))
