# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
File to clip: our processor against the library's own route, `load_video` with PyAV and VideoMAE's video processor.

Both give the same 32 frames, at 15 frames per second (or the video's rate where that is lower) from starts spread over the
video, as training draws them. What a clip costs is the mean over the starts. The library's frames come out normalised;
ours in uint8, as TubeViT takes them, and normalised. Two situations are timed: a worker of a data loader, which has one thread
and whose processor time is what limits training, and a single request, which waits and may use every core.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import VideoMAEVideoProcessor
from transformers.video_utils import load_video

from tubevit.processing import TubeViTVideoProcessor, video_decoding

from .bench_timing import interleave, ratios, summarize


NUM_FRAMES, CLIP_FPS = 32, 15.0
NUM_STARTS = 4  # clips that are decoded per video, one after the other; also the number of temporal views
RAW = {"do_rescale": False, "do_normalize": False}  # uint8


class VideoClips:
    """A file, the times in seconds at which its clips start, and their frames, `NUM_STARTS` arrays of indices."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        metadata = video_decoding.probe_video(self.path)
        self.fps = min(CLIP_FPS, metadata.fps or CLIP_FPS)
        self.processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=NUM_FRAMES, fps=self.fps)
        slack = max(0.0, metadata.duration - NUM_FRAMES / self.fps)
        self.starts = np.linspace(0.0, slack, NUM_STARTS).tolist() if slack else [0.0]
        self.indices = [self.processor.sample_frames(metadata, clip_start=start) for start in self.starts]

    def ours(self, **settings) -> list[torch.Tensor]:
        """Each clip through our processor, pixels `(1, frames, channels, height, width)`."""
        call = {"return_tensors": "pt", **settings}
        return [self.processor(self.path, clip_start=start, **call).pixel_values_videos for start in self.starts]

    def our_views(self) -> torch.Tensor:
        """All clips as the temporal views of one video, uint8, the file decoded once."""
        views = {"num_temporal_views": len(self.starts), "return_tensors": "pt", **RAW}
        return self.processor(self.path, **views).pixel_values_videos

    def library(self) -> list[torch.Tensor]:
        """Each clip through the library, pixels `(1, frames, channels, height, width)`."""
        processor = VideoMAEVideoProcessor()
        return [processor(clip, return_tensors="pt").pixel_values for clip in self.library_frames()]

    def library_frames(self) -> Iterator[np.ndarray]:
        """The frames of each clip as `load_video` decodes them, uint8 `(frames, height, width, channels)`."""
        for indices in self.indices:
            # The library decodes each frame once and in order; a clip that loops has repeats, which then cost it nothing.
            wanted = np.unique(indices)
            yield load_video(self.path, backend="pyav", sample_indices_fn=lambda metadata, wanted=wanted: wanted)[0]

    def drain_library_frames(self) -> None:
        """Decode each clip with `load_video` and drop it."""
        for _ in self.library_frames():
            pass


def measure_decoding(files: list[tuple[str, Path]], rounds: int) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: `"worker"` and `"request"` as `compare_routes` gives them, the first on one thread, and
    `"stages"` as `measure_stages` does. All times are in milliseconds per clip.
    """
    reports = []
    for title, path in files:
        clips = VideoClips(path)
        with _one_thread():
            worker = compare_routes(clips, rounds, title)
            stages = measure_stages(clips, rounds)
        request = compare_routes(clips, rounds, title)
        report = {"title": title, "num_clips": len(clips.starts), "clip_fps": clips.fps}
        reports.append(report | {"worker": worker, "request": request, "stages": stages})
    return reports


def compare_routes(clips: VideoClips, rounds: int, title: str) -> dict[str, dict[str, float]]:
    """
    `"library"`, `"load_video"`, `"uint8"`, `"float"`, and `"views"` for all clips of the video at once, as `summarize`
    gives them, per clip. "uint8" and "float" hold our time as a share of the library's too, "views" as a share of
    separate `load_video` calls (although it goes on to resized and cropped pixels).
    """
    calls: dict[str, Callable[[], Any]] = {
        "library": clips.library,
        "load_video": clips.drain_library_frames,
        "uint8": lambda: clips.ours(**RAW),
        "float": clips.ours,
        "views": clips.our_views,
    }
    times = {name: summarize(each) for name, each in interleave(calls, rounds, description=title).items()}
    for values in times.values():
        values.update({name: value / len(clips.starts) for name, value in values.items()})
    for name, against in (("uint8", "library"), ("float", "library"), ("views", "load_video")):
        times[name] |= ratios(times[name], times[against])
    return times


def measure_stages(clips: VideoClips, rounds: int) -> dict[str, float]:
    """
    Milliseconds per clip of `"decode"`, `"convert"` (to RGB), `"resize"` (and crop) and `"normalize"` in our processor, medians.

    To be called where there is one thread, on which stages do not overlap.
    """
    spent: dict[str, list[float]] = {name: [] for name in ("decode", "convert", "resize", "normalize")}
    for _ in range(rounds):
        with _stopwatches() as seconds:
            start = time.thread_time()
            clips.ours()
            seconds["decode"] = time.thread_time() - start - sum(seconds.values())
        for name, values in spent.items():
            values.append(1e3 * seconds[name] / len(clips.starts))
    return {name: float(np.median(values)) for name, values in spent.items()}


@contextmanager
def _stopwatches() -> Iterator[dict[str, float]]:
    """Seconds spent in the stages of our processor that can be told apart, while the context lasts."""
    seconds = {"convert": 0.0, "resize": 0.0, "normalize": 0.0}

    def timed(name: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.thread_time() - start

        return call

    stages = (
        ("convert", video_decoding._ToRGB, "__call__"),
        ("resize", TubeViTVideoProcessor, "_prepare_frame"),
        ("normalize", TubeViTVideoProcessor, "rescale_and_normalize"),
    )
    with ExitStack() as stack:
        for name, owner, method in stages:
            stack.enter_context(patch.object(owner, method, timed(name, getattr(owner, method))))
        yield seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and one for the decoder."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with patch.object(video_decoding, "_default_num_threads", lambda: 1):
            yield
    finally:
        torch.set_num_threads(num_threads)
