# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video files to time a decoder on, made on the spot: what Kinetics and Something-Something are stored as.

What a decoder costs depends on the size, on the distance of key frames and on the bitrate, so the pictures must not be too easy
to compress: a camera wanders in half pixels over a cloudy texture, other patches move across it, and the sensor is noisy.
The bitrates come out like those of the real sets: 0.4 to 0.8 Mbit/s at 340x256, 1.5 to 4 at 720p, 0.25 for VP9.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ClipKind:
    """How a file is made: its name and what to call it; size and rate; codec and distance of key frames in frames."""

    file_name: str
    title: str
    height: int
    width: int
    num_frames: int
    fps: int
    codec: str
    gop: int
    options: tuple[tuple[str, str], ...]


_X264 = (("preset", "veryfast"), ("crf", "25"))  # this preset has B-frames, as files from the web do
_VP9 = (("deadline", "realtime"), ("cpu-used", "6"), ("crf", "40"), ("b", "0"))

CLIP_KINDS = (
    ClipKind("340_gop250.mp4", "340x256 H.264, 10 s, GOP 250", 256, 340, 300, 30, "libx264", 250, _X264),
    ClipKind("340_gop12.mp4", "340x256 H.264, 10 s, GOP 12", 256, 340, 300, 30, "libx264", 12, _X264),
    ClipKind("720p_gop250.mp4", "1280x720 H.264, 10 s, GOP 250", 720, 1280, 300, 30, "libx264", 250, _X264),
    ClipKind("720p_gop12.mp4", "1280x720 H.264, 10 s, GOP 12", 720, 1280, 300, 30, "libx264", 12, _X264),
    ClipKind("ssv2_vp9.webm", "427x240 VP9 webm, 4 s", 240, 427, 48, 12, "libvpx-vp9", 128, _VP9),
)


def write_clips(folder: Path, kinds: Sequence[ClipKind] = CLIP_KINDS) -> list[tuple[str, Path]]:
    """Write a file of each kind into `folder`; returns `(title, path)` of each. Shows a progress bar."""
    from tqdm.auto import tqdm

    clips = []
    with tqdm(
        total=sum(kind.num_frames for kind in kinds), desc="making clips", unit="frame", disable=None
    ) as progress:
        for kind in kinds:
            path = folder / kind.file_name
            _write_clip(path, kind, progress)
            clips.append((kind.title, path))
    return clips


def _write_clip(path: Path, kind: ClipKind, progress) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=kind.fps, options=dict(kind.options))
        stream.height, stream.width, stream.pix_fmt = kind.height, kind.width, "yuv420p"
        stream.codec_context.gop_size = kind.gop
        for frame in moving_texture(kind.num_frames, kind.height, kind.width, kind.fps):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            progress.update()
        container.mux(stream.encode(None))


def moving_texture(num_frames: int, height: int, width: int, fps: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames uint8 `(height, width, 3)`: a camera that wanders over a texture, patches that cross it, and noise."""
    rng = np.random.default_rng(seed)
    margin = height // 2
    # Drawn at twice the resolution, so that a step of one is half a pixel of the frame.
    ground = _texture(2 * (height + 2 * margin), 2 * (width + 2 * margin), rng)
    side = height // 3
    patches = [_texture(2 * side, 2 * side, rng) for _ in range(3)]
    phases = rng.uniform(0, 2 * np.pi, (4, 2))
    noise = rng.integers(0, 3, (height + 32, width + 32, 1), dtype=np.uint8)
    for number in range(num_frames):
        seconds = number / fps
        top, left = (margin * (1 + 0.9 * np.sin(0.5 * seconds + phases[0])) * 2).astype(int)
        frame = ground[top : top + 2 * height : 2, left : left + 2 * width : 2].copy()
        for patch, phase in zip(patches, phases[1:], strict=True):
            y, x = ((0.5 + 0.5 * np.sin(1.3 * seconds + phase)) * (height - side, width - side)).astype(int)
            frame[y : y + side, x : x + side] = patch[::2, ::2]
        shift_y, shift_x = rng.integers(0, 32, 2)
        frame += noise[shift_y : shift_y + height, shift_x : shift_x + width]
        yield frame


def _texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 `(height, width, 3)`, clouds whose amplitude falls with the frequency as in a photograph slightly out of focus."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    channels = []
    shared = rng.standard_normal((height, width))
    for _ in range(3):
        white = shared + 0.5 * rng.standard_normal((height, width))  # channels that resemble each other
        channel = np.fft.irfft2(np.fft.rfft2(white) / frequency**1.3, s=(height, width))
        channels.append(128 + 45 * channel / channel.std())
    return np.stack(channels, axis=-1).clip(0, 250).astype(np.uint8)
