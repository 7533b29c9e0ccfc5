# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
File to clip: our processor against the library's own route, `load_video` with PyAV and VideoMAE's video processor.

Both give the same 32 frames from starts spread over the video, as training draws them: one after the other, or at a lower
rate than the video's, which spreads a clip over more frames that have to be decoded. What a clip costs is the mean over the
starts. The library's frames come out normalised; ours in uint8, as TubeViT takes them, and normalised. Two situations are
timed: a worker of a data loader, which has one thread and whose processor time is what limits training, and a single request,
which waits and may use every core.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import VideoMAEVideoProcessor
from transformers.video_utils import load_video

from tubevit.processing import TubeViTVideoProcessor, video_decoding

from ..timing import interleave, ratios, summarize


NUM_FRAMES = 32
NUM_STARTS = 4  # clips that are decoded per video, one after the other; also the number of temporal views
RAW = {"do_rescale": False, "do_normalize": False}  # uint8


class VideoClips:
    """
    A file, the times in seconds at which its clips start, and the frames of these clips, arrays of indices.

    clip_fps: frames of a clip per second; by default, and at most, as many as the video has.
    """

    def __init__(self, path: str | Path, clip_fps: float | None = None):
        self.path = str(path)
        metadata = video_decoding.probe_video(self.path)
        video_fps = metadata.fps or video_decoding.DEFAULT_FRAME_RATE
        self.fps = min(clip_fps or video_fps, video_fps)
        self.processor = _WatchedProcessor(sampling="fixed_rate", num_frames=NUM_FRAMES, fps=self.fps)
        slack = max(0.0, metadata.duration - NUM_FRAMES / self.fps)
        self.starts = np.linspace(0.0, slack, NUM_STARTS).tolist() if slack else [0.0]
        self.indices = [self.processor.sample_frames(metadata, clip_start=start) for start in self.starts]
        views = self.processor.sample_frames(metadata, sampling="uniform", num_temporal_views=len(self.starts))
        self.uniform_indices = list(views.reshape(len(self.starts), NUM_FRAMES))

    def ours(self, **settings) -> list[torch.Tensor]:
        """Each clip through our processor, pixels `(1, frames, channels, height, width)`."""
        call = {"return_tensors": "pt", **settings}
        return [self.processor(self.path, clip_start=start, **call).pixel_values_videos for start in self.starts]

    def our_views(self, **sampling) -> torch.Tensor:
        """As many clips as there are starts, as temporal views of one video, uint8; the file is decoded once."""
        views = {"num_temporal_views": len(self.starts), "return_tensors": "pt", **RAW, **sampling}
        return self.processor(self.path, **views).pixel_values_videos

    def library(self, indices: list[np.ndarray]) -> list[torch.Tensor]:
        """Each clip through the library, pixels `(1, frames, channels, height, width)`."""
        processor = VideoMAEVideoProcessor()
        return [processor(clip, return_tensors="pt").pixel_values for clip in self.load(indices)]

    def load(self, clips: list[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames of each clip as the library's `load_video` decodes them, uint8 `(frames, height, width, channels)`."""
        for indices in clips:
            # The library decodes each frame once and in order; a clip that loops has repeats, which then cost it nothing.
            wanted = np.unique(indices)
            yield load_video(self.path, backend="pyav", sample_indices_fn=lambda metadata, wanted=wanted: wanted)[0]


def measure_decoding(
    files: list[tuple[str, Path]], rounds: int, clip_fps: float | None = None
) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: `"worker"` and `"request"` as `compare_routes` gives them, the first on one thread, and
    `"stages"` as `measure_stages` does. All times are in milliseconds per clip.
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
    Times of the ways from file to pixels by name, as `summarize` gives them, per clip; ours with their share of the library's.

    "library" stands against "uint8" and "float", clip by clip, and against "views", the same clips as views of one video, which
    is decoded once. "library_uniform" and "uniform_views" are likewise, but each clip is spread over the whole video.
    "load_video" is the first part of "library", to frames of full size.
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
    Milliseconds per clip of `"decode"`, `"convert"` (to RGB), `"resize"` (and crop) and `"normalize"` in our processor, medians.

    To be called where there is one thread, on which stages do not overlap.
    """
    spent: dict[str, list[float]] = {name: [] for name in ("decode", "convert", "resize", "normalize")}
    convert = video_decoding._ToRGB.__call__
    for _ in range(rounds):
        seconds = clips.processor.seconds = dict.fromkeys(spent, 0.0)
        with patch.object(
            video_decoding._ToRGB, "__call__", lambda *args, spent=seconds: _timed(spent, "convert", convert, *args)
        ):
            start = time.thread_time()
            clips.ours()
            seconds["decode"] = time.thread_time() - start - sum(seconds.values())
        for name, values in spent.items():
            values.append(1e3 * seconds[name] / len(clips.starts))
    clips.processor.seconds = None
    return {name: float(np.median(values)) for name, values in spent.items()}


class _WatchedProcessor(TubeViTVideoProcessor):
    """Our processor with stopwatches on its stages: seconds of the calling thread."""

    seconds = None  # a dictionary while stages are measured

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
    """One thread for torch and one for our decoder; the library leaves the number of its decoder's threads to FFmpeg."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clips.processor.num_decoder_threads = 1
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        clips.processor.num_decoder_threads = None
