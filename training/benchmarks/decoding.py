# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Time from file to clip: TubeViT's video processor compared with Transformers (`load_video` with PyAV, VideoMAE's processor).

Both return the same 32 frames, from start times spread over the video as in training. The frames are consecutive, or with
`clip_fps` at a lower frame rate, for which more frames must be decoded per clip. The time per clip is the mean over the start
times. Frames of Transformers are normalized; ours are timed in uint8, which TubeViT reads, and normalized. Two cases are
timed: a DataLoader worker, which has one thread and whose CPU time limits training, and a single request, which may use every
core and whose latency counts.

The video files are generated to resemble those of Kinetics and Something-Something. Decoding time depends on frame size, key
frame distance and bitrate, so the pictures must not compress too well: a camera moves by half pixels over a cloud texture,
patches move across it, and noise is added. The bitrates are close to those of the real datasets: 0.4 to 0.8 Mbit/s at
340x256, 1.5 to 4 Mbit/s at 720p, 0.25 Mbit/s for VP9.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import VideoMAEVideoProcessor
from transformers.video_utils import load_video

from tubevit.processing import TubeViTVideoProcessor, video_decoding
from tubevit.processing.clip_assembly import DEFAULT_FRAME_RATE, FrameToRGB

from ..timing import interleave, ratios, summarize


NUM_FRAMES = 32
NUM_STARTS = 4  # clips that are decoded per video, in turn; also the number of temporal views
RAW = {"do_rescale": False, "do_normalize": False}  # uint8


class VideoClips:
    """
    A video file, the start times of its clips in seconds, and the frame indices of each clip.

    clip_fps: frames per second of the clips; at most, and by default, the frame rate of the video.
    """

    def __init__(self, path: str | Path, clip_fps: float | None = None):
        self.path = str(path)
        metadata = video_decoding.probe_video(self.path)
        video_fps = metadata.fps or DEFAULT_FRAME_RATE
        self.fps = min(clip_fps or video_fps, video_fps)
        self.processor = _TimedProcessor(sampling="fixed_rate", num_frames=NUM_FRAMES, fps=self.fps)
        slack = max(0.0, metadata.duration - NUM_FRAMES / self.fps)
        self.starts = np.linspace(0.0, slack, NUM_STARTS).tolist() if slack else [0.0]
        self.indices = [self.processor.sample_frames(metadata, clip_start=start) for start in self.starts]
        views = self.processor.sample_frames(metadata, sampling="uniform", num_temporal_views=len(self.starts))
        self.uniform_indices = list(views.reshape(len(self.starts), NUM_FRAMES))

    def ours(self, **settings) -> list[torch.Tensor]:
        """Each clip by our processor, pixels `(1, frames, channels, height, width)`."""
        call = {"return_tensors": "pt", **settings}
        return [self.processor(self.path, clip_start=start, **call).pixel_values_videos for start in self.starts]

    def our_views(self, **sampling) -> torch.Tensor:
        """All clips as temporal views of one video, uint8 `(1, views, frames, channels, height, width)`; one decoding pass."""
        views = {"num_temporal_views": len(self.starts), "return_tensors": "pt", **RAW, **sampling}
        return self.processor(self.path, **views).pixel_values_videos

    def library(self, indices: list[np.ndarray]) -> list[torch.Tensor]:
        """Each clip by Transformers, pixels `(1, frames, channels, height, width)`."""
        processor = VideoMAEVideoProcessor()
        return [processor(clip, return_tensors="pt").pixel_values for clip in self.load(indices)]

    def load(self, clips: list[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames of each clip by Transformers' `load_video`, uint8 `(frames, height, width, channels)`."""
        for indices in clips:
            # Transformers decodes each distinct frame once, in order; the repeated frames of a looping clip are not timed.
            distinct = np.unique(indices)
            yield load_video(self.path, backend="pyav", sample_indices_fn=lambda metadata, frames=distinct: frames)[0]


def measure_decoding(
    files: list[tuple[str, Path]], rounds: int, clip_fps: float | None = None
) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: `"worker"` (one thread) and `"request"` (all threads) as returned by
    `compare_routes`, and `"stages"` as returned by `measure_stages`. Times are in milliseconds per clip.
    """
    reports = []
    for title, path in files:
        clips = VideoClips(path, clip_fps)
        with _one_thread(clips):
            worker = compare_routes(clips, rounds, title)
            stages = measure_stages(clips, rounds)
        request = compare_routes(clips, rounds, title)
        report = {"title": title, "num_clips": len(clips.starts), "clip_fps": clips.fps}
        reports.append(report | {"worker": worker, "request": request, "stages": stages})
    return reports


def compare_routes(clips: VideoClips, rounds: int, title: str) -> dict[str, dict[str, float]]:
    """
    Times per clip of each route from file to pixels, as returned by `summarize`; ours with ratios to Transformers.

    "uint8" and "float" decode clip by clip, "views" decodes all clips in one pass as views of one video; all three are
    compared with "library" (Transformers). "uniform_views" is compared with "library_uniform": each clip is spread over the
    whole video. "load_video" is the first part of "library": decoding to full-size frames.
    """
    calls: dict[str, Callable[[], Any]] = {
        "library": lambda: clips.library(clips.indices),
        "load_video": lambda: list(clips.load(clips.indices)),
        "uint8": lambda: clips.ours(**RAW),
        "float": clips.ours,
        "views": clips.our_views,
        "library_uniform": lambda: clips.library(clips.uniform_indices),
        "uniform_views": lambda: clips.our_views(sampling="uniform"),
    }
    times = {name: summarize(each) for name, each in interleave(calls, rounds, description=title).items()}
    for values in times.values():
        values.update({name: value / len(clips.starts) for name, value in values.items()})
    pairs = {"uint8": "library", "float": "library", "views": "library", "uniform_views": "library_uniform"}
    for name, against in pairs.items():
        times[name] |= ratios(times[name], times[against])
    return times


def measure_stages(clips: VideoClips, rounds: int) -> dict[str, float]:
    """
    Median milliseconds per clip of our processor's stages `"decode"`, `"convert"` (to RGB), `"resize"` and `"normalize"`.

    Valid with one thread only, on which stages do not overlap.
    """
    spent: dict[str, list[float]] = {name: [] for name in ("decode", "convert", "resize", "normalize")}
    convert = FrameToRGB.__call__
    for _ in range(rounds):
        seconds = clips.processor.seconds = dict.fromkeys(spent, 0.0)
        with mock.patch.object(
            FrameToRGB,
            "__call__",
            lambda *args, spent=seconds: _timed(spent, "convert", convert, *args),
        ):
            start = time.thread_time()
            clips.ours()
            seconds["decode"] = time.thread_time() - start - sum(seconds.values())
        for name, values in spent.items():
            values.append(1e3 * seconds[name] / len(clips.starts))
    clips.processor.seconds = None
    return {name: float(np.median(values)) for name, values in spent.items()}


class _TimedProcessor(TubeViTVideoProcessor):
    """Our video processor, which adds up the thread time of its stages in seconds."""

    seconds = None  # stage to seconds while stages are measured

    def resize(self, *args, **kwargs):
        return _timed(self.seconds, "resize", super().resize, *args, **kwargs)

    def rescale_and_normalize(self, *args, **kwargs):
        return _timed(self.seconds, "normalize", super().rescale_and_normalize, *args, **kwargs)


def _timed(seconds: dict[str, float] | None, name: str, function: Callable, *args, **kwargs) -> Any:
    if seconds is None:
        return function(*args, **kwargs)
    start = time.thread_time()
    try:
        return function(*args, **kwargs)
    finally:
        seconds[name] += time.thread_time() - start


@contextmanager
def _one_thread(clips: VideoClips) -> Iterator[None]:
    """One thread for torch and one for our decoder; Transformers leaves the thread count of its decoder to FFmpeg."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clips.processor.num_decoder_threads = 1
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        clips.processor.num_decoder_threads = None


@dataclass(frozen=True)
class ClipKind:
    """Settings of a generated video file; `gop` is the distance of key frames in frames, `title` its name in tables."""

    file_name: str
    title: str
    height: int
    width: int
    num_frames: int
    fps: int
    codec: str
    gop: int
    options: tuple[tuple[str, str], ...]


_X264 = (("preset", "veryfast"), ("crf", "25"))  # this preset has B-frames, as web videos have


_VP9 = (("deadline", "realtime"), ("cpu-used", "6"), ("crf", "40"), ("b", "0"))


CLIP_KINDS = (
    ClipKind("340_gop250.mp4", "340x256 H.264, 10 s, GOP 250", 256, 340, 300, 30, "libx264", 250, _X264),
    ClipKind("340_gop12.mp4", "340x256 H.264, 10 s, GOP 12", 256, 340, 300, 30, "libx264", 12, _X264),
    ClipKind("720p_gop250.mp4", "1280x720 H.264, 10 s, GOP 250", 720, 1280, 300, 30, "libx264", 250, _X264),
    ClipKind("720p_gop12.mp4", "1280x720 H.264, 10 s, GOP 12", 720, 1280, 300, 30, "libx264", 12, _X264),
    ClipKind("ssv2_vp9.webm", "427x240 VP9 webm, 4 s", 240, 427, 48, 12, "libvpx-vp9", 128, _VP9),
)


def write_clips(folder: Path, kinds: Sequence[ClipKind] = CLIP_KINDS) -> list[tuple[str, Path]]:
    """Write a video file of each kind to `folder`, with a progress bar. Returns `(title, path)` of each."""
    from ..logging_utils import progress_bar

    clips = []
    with progress_bar(
        description="writing clips", total=sum(kind.num_frames for kind in kinds), unit="frame"
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
    """Frames uint8 `(height, width, 3)`: a camera moves over a texture, patches move across it, and noise is added."""
    rng = np.random.default_rng(seed)
    margin = height // 2
    # Twice the resolution of the frames, so that a step of one is half a pixel.
    background = _texture(2 * (height + 2 * margin), 2 * (width + 2 * margin), rng)
    side = height // 3
    patches = [_texture(2 * side, 2 * side, rng) for _ in range(3)]
    phases = rng.uniform(0, 2 * np.pi, (4, 2))
    noise = rng.integers(0, 3, (height + 32, width + 32, 1), dtype=np.uint8)
    for number in range(num_frames):
        seconds = number / fps
        top, left = (margin * (1 + 0.9 * np.sin(0.5 * seconds + phases[0])) * 2).astype(int)
        frame = background[top : top + 2 * height : 2, left : left + 2 * width : 2].copy()
        for patch, phase in zip(patches, phases[1:], strict=True):
            y, x = ((0.5 + 0.5 * np.sin(1.3 * seconds + phase)) * (height - side, width - side)).astype(int)
            frame[y : y + side, x : x + side] = patch[::2, ::2]
        shift_y, shift_x = rng.integers(0, 32, 2)
        frame += noise[shift_y : shift_y + height, shift_x : shift_x + width]
        yield frame


def _texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Cloud texture uint8 `(height, width, 3)`: amplitudes fall with the frequency, as in a slightly blurred photograph."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    channels = []
    common = rng.standard_normal((height, width))
    for _ in range(3):
        white = common + 0.5 * rng.standard_normal((height, width))  # correlated color channels
        channel = np.fft.irfft2(np.fft.rfft2(white) / frequency**1.3, s=(height, width))
        channels.append(128 + 45 * channel / channel.std())
    return np.stack(channels, axis=-1).clip(0, 250).astype(np.uint8)
