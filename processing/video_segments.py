# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Time segments: the part of a video that is a clip of its own, such as one row of an annotation file with start and end times.

A segment is part of the source of a video: `{"path": "film.mp4", "start": 3.0, "end": 7.5}` in seconds from the first frame, or
`{"path": ..., "start_frame": 75, "end_frame": 188}` in frames, counted from 0, `end_frame` excluded. Sampling, views and
metadata then see a video that begins with the first and ends with the last frame of the segment.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .frame_sampling import TIME_TOLERANCE, video_end
from .video_source import VideoDecodeError


# Annotations round times: an end that is up to 10 % of the segment, and up to 1 s, after the end of the video means its end.
MAX_OVERRUN_FRACTION = 0.1
MAX_OVERRUN_SECONDS = 1.0


class VideoSegment(NamedTuple):
    """
    A part of a video, in seconds or in frames. `None` stands for the start or the end of the video.

    start, end: seconds from the first frame.
    start_frame, end_frame: frame indices, counted from 0; `end_frame` is the index after the last frame.
    may_be_cut: whether the file may hold the segment only, as files that are named after a YouTube id do. It does if it ends
        before `end` and its length is nearer to the length of the segment than to `end`. It is then read whole.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    may_be_cut: bool = False

    @classmethod
    def of_source(cls, source: Any) -> "VideoSegment | None":
        """
        The segment of a source, `None` for a whole video.

        Raises `ValueError` for a negative or infinite time, for an end that is not after the start, and for seconds and frames
        in one segment.
        """
        if not isinstance(source, dict):
            return None
        segment = cls(**{name: source[name] for name in cls._fields if source.get(name) is not None})
        if segment[:4] == (None, None, None, None):
            return None
        segment._check()
        return segment

    def __str__(self) -> str:
        is_in_frames = self.start_frame is not None or self.end_frame is not None
        first, last = (self.start_frame or 0, self.end_frame) if is_in_frames else (self.start or 0, self.end)
        text = f"{first:g} to {'the end' if last is None else f'{last:g}'}"
        return f"frames {text}" if is_in_frames else f"{text} s"

    def frame_range(self, metadata: Any, name: str, allow_partial: bool = False) -> tuple[int, int]:
        """
        Index of the first frame of the segment and the index after its last frame. The first frame is the one that is visible
        at `start`.

        metadata: of the whole video. name: of the video, for errors.
        allow_partial: whether the segment may end after the last frame, because the file is damaged.

        Raises `VideoDecodeError` for a segment outside of the video.
        """
        total = metadata.total_num_frames
        if self.start_frame is not None or self.end_frame is not None:
            first, last = self.start_frame or 0, total if self.end_frame is None else self.end_frame
            if first >= total or (last > total and not allow_partial):
                raise VideoDecodeError(f"{name} has {total} frames; the segment {self} is outside of the video.")
            return first, min(last, total)
        if metadata.timestamps is None:
            raise VideoDecodeError(
                f"{name} has no frame rate, which the segment {self} needs: set fps, as in {{'path': FOLDER, 'fps': 25}}, or the "
                "option frame_folder_fps."
            )
        times = np.asarray(metadata.timestamps, float)
        duration = video_end(times, metadata.fps or 1.0)
        start, end = self.start or 0.0, duration if self.end is None else self.end
        length = end - start
        if self.may_be_cut and duration < end and abs(duration - length) <= abs(duration - end):
            return 0, total
        overrun = max(min(MAX_OVERRUN_FRACTION * length, MAX_OVERRUN_SECONDS), duration / total) + TIME_TOLERANCE
        if start >= duration - TIME_TOLERANCE or (end > duration + overrun and not allow_partial):
            raise VideoDecodeError(f"{name} lasts {duration:.3f} s; the segment {self} is outside of the video.")
        first = int(np.searchsorted(times, start + TIME_TOLERANCE, side="right")) - 1
        return first, max(first + 1, int(np.searchsorted(times, end - TIME_TOLERANCE, side="left")))

    def _check(self) -> None:
        is_in_seconds, is_in_frames = self[:2] != (None, None), self[2:4] != (None, None)
        if is_in_seconds and is_in_frames:
            raise ValueError(
                "A segment is given in seconds (start, end) or in frames (start_frame, end_frame), not both."
            )
        for name, value in zip(self._fields[:4], self[:4], strict=True):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise ValueError(f"{name} of a segment must be a number, got {value!r}.")
            if not math.isfinite(value) or value < 0 or (name.endswith("frame") and value != int(value)):
                kind = "an integer" if name.endswith("frame") else "a finite number"
                raise ValueError(f"{name} of a segment must be {kind} of at least 0, got {value!r}.")
        start, end = (self.start_frame, self.end_frame) if is_in_frames else (self.start, self.end)
        if end is not None and end <= (start or 0):
            raise ValueError(f"The segment {self} ends before it starts; its end must be after its start.")


class SegmentSampler:
    """
    `sample_indices_fn` of a whole video that calls `sample_indices_fn` for a segment of it.

    sample_indices_fn: as in `decode_video`; it gets the metadata of the segment and returns indices from its first frame.
    """

    def __init__(
        self, segment: VideoSegment, sample_indices_fn: Callable | None, name: str, allow_partial: bool = False
    ):
        self.segment, self.sample_indices_fn = segment, sample_indices_fn
        self.name, self.allow_partial = name, allow_partial

    def __call__(self, metadata: Any) -> np.ndarray:
        first, last = self.segment.frame_range(metadata, self.name, self.allow_partial)
        if self.sample_indices_fn is None:
            return np.arange(first, last)
        indices = np.asarray(self.sample_indices_fn(metadata=self.cut(metadata)))
        if indices.size and not (indices.min() >= 0 and indices.max() < last - first):
            raise VideoDecodeError(
                f"{self.name}: frame indices must be from 0 to {last - first - 1}, the frames of the segment {self.segment}, "
                f"got {indices.min()} to {indices.max()}."
            )
        return indices + first

    def cut(self, metadata: Any) -> Any:
        """Metadata of the segment, with `frames_indices` and `timestamps` from its first frame."""
        first, last = self.segment.frame_range(metadata, self.name, self.allow_partial)
        values: dict[str, Any] = {"total_num_frames": last - first, "duration": None}
        if metadata.frames_indices is not None:
            values["frames_indices"] = [index - first for index in metadata.frames_indices]
        if metadata.timestamps is not None:
            times = np.asarray(metadata.timestamps[first:last], float) - metadata.timestamps[first]
            if len(times) > 1 and metadata.fps:
                measured = (len(times) - 1) / times[-1]  # the rate of the segment, if the rate of the video varies
                values["fps"] = metadata.fps if abs(measured / metadata.fps - 1) < 0.02 else measured
            values |= {"timestamps": times, "duration": video_end(times, metadata.fps or 1.0)}
        return replace(metadata, **values)
