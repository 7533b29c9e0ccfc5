# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Animated WebP as a video, read with Pillow: FFmpeg decodes the first frame only. (It decodes GIF, APNG and AVIF animations.)"""

import numpy as np

from .video_source import DecodeLimits, VideoDecodeError


NUM_HEADER_BYTES = 21
ANIMATION_FLAG = 0x02  # in the flags of the VP8X chunk
DEFAULT_MILLISECONDS = 100  # duration of a frame that states 0, as in browsers


class WebPAnimation:
    """
    The frames of an animated WebP file. Call it with the index of a frame for its pixels, RGB, uint8 `(height, width, 3)`.

    file: result of `resolve_source`.
    name: name of the file in messages.
    limits: largest size, checked before a frame is decoded, and duration, checked while the frames are timed.

    Attributes: `timestamps` (of each frame, in seconds from 0, float64 `(frames,)`), `duration` (in seconds), and `display_size`
    ((height, width) of the frames).

    Raises `VideoDecodeError` for a file that cannot be read.
    """

    def __init__(self, file, name: str, limits: DecodeLimits | None = None):
        from PIL import Image

        self.name = name
        if not isinstance(file, str):
            file.seek(0)
        try:
            self.image = Image.open(file.removeprefix("file:") if isinstance(file, str) else file, formats=["WEBP"])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self._error(error) from error
        self.display_size = (self.image.height, self.image.width)
        if limits is not None:
            limits.check_size(name, *self.display_size)
        durations: list[float] = []
        for index in range(self.image.n_frames):  # type: ignore[attr-defined]  # of animations
            durations.append(self._load(index).info.get("duration") or DEFAULT_MILLISECONDS)
            if limits is not None:
                limits.check_duration(name, sum(durations) / 1000)
        ends = np.cumsum(durations) / 1000
        self.timestamps = np.concatenate([[0.0], ends[:-1]])
        self.duration = float(ends[-1])

    def __call__(self, index: int) -> np.ndarray:
        return np.array(self._load(index).convert("RGB"))

    def _load(self, index: int):
        try:
            self.image.seek(index)
            self.image.load()
        except (OSError, EOFError, SyntaxError, ValueError) as error:
            raise self._error(error) from error
        return self.image

    def _error(self, error: Exception) -> VideoDecodeError:
        return VideoDecodeError(f"{self.name} cannot be read as an animation: {' '.join(str(error).split())}.")


def is_animated_webp(file) -> bool:
    """Whether a result of `resolve_source` is an animated WebP file. A file object is read from its start."""
    if isinstance(file, str):
        with open(file.removeprefix("file:"), "rb") as opened:
            head = opened.read(NUM_HEADER_BYTES)
    else:
        file.seek(0)
        head = file.read(NUM_HEADER_BYTES)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:] and head[20] & ANIMATION_FLAG)
