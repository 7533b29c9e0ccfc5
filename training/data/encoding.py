# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`prepare_video`: the copy of a video that decodes fast, for `tubevit data prepare` and `tubevit data shard`.

By default a copy has a short side of 256 pixels and a key frame every 24 frames. Its index is at the front, and it has no
sound. All frames of the original are decoded by our own decoder: upright, with square pixels, and with their times. The encoding
is the H.264 variant that decoded fastest on 340x256 clips like those of Kinetics: x264's "fastdecode" (no CABAC, no deblocking)
saves a third of the time, and three in four frames are B-frames that no other frame refers to, so the decoder skips them when
they are not sampled. Key frames every 12 instead of 24 frames saved nothing.

With `--to frames` a copy is a folder of numbered pictures, which takes more space and has no times: sampling at a rate then needs
`frame_folder_fps`.
"""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple


if TYPE_CHECKING:
    import torch


TIME_BASE = Fraction(1, 90_000)
MAX_PART_BYTES = 192 * 2**20  # resized frames in memory; a longer video is decoded in parts
ENCODER = "libx264"
X264_OPTIONS = "scenecut=0:open-gop=0:b-pyramid=none:b-adapt=0:log-level=error"
NUM_B_FRAMES = 3  # consecutive
FRAME_NAME = "img_{:05d}.{}"  # number from 1, suffix
FRAME_SUFFIXES = ("jpg", "png")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class PrepareSettings:
    """
    Settings of the encoder.

    short_side: short side of the copy in pixels; smaller videos keep their size.
    gop: distance between key frames, in frames.
    crf: x264's constant rate factor, 0 (lossless) to 51; x264's default is 23, and 18 is visually close to the original.
    preset: x264's preset, one of `PRESETS`; slower presets give smaller files.
    frame_folder_fps: frame rate of videos that are folders of pictures, in frames per second.
    frames: suffix of the pictures of a copy that is a folder, "jpg" or "png" (lossless); `None` for a video. The settings of x264
        then have no effect.
    quality: of JPEG pictures, from 1 to 100.
    """

    short_side: int = 256
    gop: int = 24
    crf: int = 23
    preset: str = "veryfast"
    frame_folder_fps: float | None = None
    frames: str | None = None
    quality: int = 95

    def __post_init__(self):
        if self.short_side < 2:
            raise ValueError(f"short_side must be at least 2, got {self.short_side}.")
        if self.gop < 1:
            raise ValueError(f"gop must be at least 1, got {self.gop}.")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must be from 0 to 51, got {self.crf}.")
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}.")
        if self.frame_folder_fps is not None and not 0 < self.frame_folder_fps < math.inf:
            raise ValueError(f"frame_folder_fps must be a finite number above 0, got {self.frame_folder_fps}.")
        if self.frames not in (None, *FRAME_SUFFIXES):
            raise ValueError(f"frames must be one of {', '.join(FRAME_SUFFIXES)}, got {self.frames!r}.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, got {self.quality}.")

    def record(self) -> dict[str, Any]:
        """The content of `SETTINGS_FILE`: the settings that have an effect."""
        unused = {"frames", "quality"} if self.frames is None else {"gop", "crf", "preset"}
        unused |= {"quality"} if self.frames == "png" else set()
        return {name: value for name, value in vars(self).items() if value is not None and name not in unused}


def source_of(path: str | Path, frame_folder_fps: float | None = None) -> dict[str, Any]:
    """The source of an original or a copy for the decoder."""
    return {"path": str(path), **({"fps": frame_folder_fps} if Path(path).is_dir() else {})}


def prepare_video(source: str | Path, target: str | Path, settings: PrepareSettings) -> float | None:
    """
    Write the copy of `source` to `target`, an .mp4 or with `settings.frames` a folder, under a temporary name until it is
    complete. Returns the frame rate of `source`, `None` if it is unknown.

    Raises the errors of `decode_video` for a video that cannot be read, and `OSError` if `target` cannot be written.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        fps = (_encode if settings.frames is None else _write_frames)(source, unfinished, settings)
        if target.is_dir():  # of an original that has changed
            shutil.rmtree(target)
        os.replace(unfinished, target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)
    return fps


def _write_frames(source: str | Path, folder: Path, settings: PrepareSettings) -> float | None:
    from PIL import Image

    folder.mkdir()
    number, fps = 0, None
    options = {"quality": settings.quality} if settings.frames == "jpg" else {}
    for part in _decode_in_parts(source_of(source, settings.frame_folder_fps), settings.short_side):
        fps = part.fps
        for picture in part.frames.permute(0, 2, 3, 1).contiguous().numpy():
            number += 1
            Image.fromarray(picture).save(folder / FRAME_NAME.format(number, settings.frames), **options)
    return fps


def _encode(source: str | Path, path: Path, settings: PrepareSettings) -> float | None:
    import av
    import numpy as np

    options = {"crf": str(settings.crf), "preset": settings.preset, "tune": "fastdecode", "x264-params": X264_OPTIONS}
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        stream, fps = None, None
        for frames, times, aspect_ratio, fps in _decode_in_parts(  # noqa: B007
            source_of(source, settings.frame_folder_fps), settings.short_side
        ):
            if stream is None:
                stream = container.add_stream(ENCODER, options=options)
                stream.height, stream.width, stream.pix_fmt = *frames.shape[-2:], "yuv420p"
                # Even sides change the aspect ratio of small frames by more than 1 %; the decoder undoes this.
                pixel = aspect_ratio * stream.height / stream.width
                stream.codec_context.sample_aspect_ratio = pixel.limit_denominator(1000)
                stream.time_base = stream.codec_context.time_base = TIME_BASE
                stream.codec_context.gop_size, stream.codec_context.max_b_frames = settings.gop, NUM_B_FRAMES
                stream.codec_context.thread_count = 1
            for picture, seconds in zip(frames.permute(0, 2, 3, 1).numpy(), times, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = round(seconds / TIME_BASE), TIME_BASE
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return fps


class _Part(NamedTuple):
    """
    A part of a video: frames, resized, uint8 `(frames, 3, height, width)`, their times in seconds, width over height of the video
    before, and its frame rate, `None` if unknown.
    """

    frames: "torch.Tensor"
    times: list[float]
    aspect_ratio: Fraction
    fps: float | None


def _decode_in_parts(source: dict[str, Any], short_side: int) -> Iterator[_Part]:
    """The parts of a video that fit into `MAX_PART_BYTES`, in order."""
    from tubevit.processing import decode_video

    first, total, per_part = 0, 1, 1
    while first < total:
        found = {}

        def select(metadata, first=first, per_part=per_part, found=found):
            found["metadata"] = metadata
            return range(first, min(first + per_part, metadata.total_num_frames))

        frames, metadata = decode_video(
            source, select, frame_transform=lambda frames: resize_short_side(frames, short_side), num_threads=1
        )
        total, per_part = metadata.total_num_frames, max(1, MAX_PART_BYTES // frames[0].numel())
        times = found["metadata"].timestamps[first : first + len(frames)].tolist()
        yield _Part(frames, times, Fraction(metadata.width, metadata.height), metadata.fps)
        first += len(frames)


def resize_short_side(frames: "torch.Tensor", short_side: int) -> "torch.Tensor":
    """
    Resize frames `(frames, channels, height, width)` to a short side of at most `short_side` pixels. Sides become even, as
    H.264 requires.

    >>> import torch
    >>> resize_short_side(torch.zeros(1, 3, 241, 321, dtype=torch.uint8), 256).shape[-2:]
    torch.Size([240, 320])
    """
    from torchvision.transforms import v2

    height, width = frames.shape[-2:]
    scale = min(1.0, short_side / min(height, width))
    size = [max(2, 2 * int(side * scale / 2)) for side in (height, width)]
    return frames if size == [height, width] else v2.functional.resize(frames, size, antialias=True)
