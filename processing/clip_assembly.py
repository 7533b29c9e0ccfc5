# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
From decoded frames to a clip: the selection of frames, their times, and their pixels.

Frames look as in a video player: upright, with square pixels, in RGB by the color matrix and range of the stream. Transparency is
dropped, as by PIL's `convert("RGB")`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from .animated_webp import WebPAnimation
from .frame_folders import FrameReader
from .video_index import VideoIndex
from .video_source import VideoDecodeError, import_av


# Frames are passed to `frame_transform` in groups of this size: few calls, and pixels that are still in the CPU cache.
MAX_GROUP_BYTES = 2 * 2**20

# Frames per second of a video that states neither frame times nor a rate.
DEFAULT_FRAME_RATE = 25.0

# Sample aspect ratios outside of this range are ignored: below 1 % they come from encoders that round the size to even
# numbers, above 8 from damaged files (no camera or disc has such pixels).
MIN_SAMPLE_ASPECT_RATIO_CHANGE = 1.01
MAX_SAMPLE_ASPECT_RATIO_CHANGE = 8


@dataclass
class TubeViTVideoMetadata(VideoMetadata):
    """Metadata of a video file; `width` and `height` are those of the upright picture with square pixels.

    Both are None in `sample_indices_fn`, because a rotation is known only after a frame was decoded. `timestamps` holds
    the presentation time of each frame of the video in seconds, float64 `(total_num_frames,)`, ascending from 0. (In
    `VideoMetadata` this name means the times of the sampled frames at a constant rate.)
    """

    timestamps: np.ndarray | None = field(  # type: ignore[assignment]  # a property of VideoMetadata, see above
        default=None, compare=False, repr=False
    )


class FrameSelector:
    """Calls `sample_indices_fn` once per number of frames, so that a second decoding pass selects the same random frames."""

    def __init__(self, sample_indices_fn: Callable | None, name: str):
        self.sample_indices_fn = sample_indices_fn
        self.name = name
        self.selected: dict[int, np.ndarray] = {}

    def __call__(self, metadata: TubeViTVideoMetadata, decoded: Sequence[int] | None = None) -> np.ndarray:
        """
        Indices of the selected frames, int64 `(frames,)`. Raises `VideoDecodeError` if one does not exist.

        decoded: indices of the frames that can be decoded (ascending); `None` for all.
        """
        num_frames = metadata.total_num_frames
        if num_frames not in self.selected:
            if self.sample_indices_fn is None:
                self.selected[num_frames] = np.arange(num_frames)
            else:
                self.selected[num_frames] = self._check(self.sample_indices_fn(metadata=metadata), num_frames)
        selected = self.selected[num_frames]
        if decoded is None or len(decoded) == num_frames:
            return selected
        if self.sample_indices_fn is None:
            return np.array(decoded)
        if lost := sorted(set(selected.tolist()) - set(decoded)):
            raise VideoDecodeError(
                f"{self.name}: frame {lost[0]} cannot be decoded, because it is predicted from pictures that are not in the file, as after "
                f"joining videos without encoding them, or because it is damaged.",
                f"allow_partial=True counts the {len(decoded)} other frames only.",
            )
        return selected

    def _check(self, indices, num_frames: int) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices):
            raise VideoDecodeError(
                f"{self.name}: frame indices must be a list of at least one index, got {indices!r}."
            )
        if indices.dtype.kind not in "iu":
            raise VideoDecodeError(f"{self.name}: frame indices must be integers, not {indices.dtype}; round them.")
        for index in (indices.min(), indices.max()):
            if not 0 <= index < num_frames:
                raise VideoDecodeError(
                    f"{self.name}: frame {index} does not exist; the video has frames 0 to {num_frames - 1}."
                )
        return indices.astype(np.int64)


def frame_metadata(index: VideoIndex, pts: list[int | None]) -> TubeViTVideoMetadata:
    """Metadata from the presentation times of all frames; the picture size is not known yet."""
    rate = float(index.frame_rate) if index.frame_rate else None
    # Sorted, because AVI with reordered frames may swap the times of neighboring packets.
    times = sorted({time for time in pts if time is not None})
    if len(times) < len(pts):  # times are missing or repeated: assume a constant rate
        timestamps = np.arange(len(pts)) / (rate or DEFAULT_FRAME_RATE)
    else:
        ticks, seconds = index.time_base.denominator, index.time_base.numerator
        timestamps = np.array([(time - times[0]) * seconds / ticks for time in times])
        if rate is not None:
            # Files round times to their clock. Times within one tick of a constant rate are replaced by the exact ones, so that
            # a file and its decoded frames are sampled at the same indices. A tick of a quarter frame or more is too coarse to
            # tell.
            constant, tick = np.arange(len(pts)) / rate, seconds / ticks
            if np.abs(timestamps - constant).max() <= (tick if tick < 0.25 / rate else 1e-9):
                timestamps = constant
    if timestamps[-1] > 0:
        measured = (len(pts) - 1) / timestamps[-1]
        # The stated rate is more exact than rounded times, but may be a wrong guess: use it if both agree within 2 %.
        rate = rate if rate and abs(measured / rate - 1) < 0.02 else measured
    last_frame = float(index.last_duration * index.time_base) or (1 / rate if rate else 0.0)
    return TubeViTVideoMetadata(
        total_num_frames=len(pts),
        fps=rate,
        duration=float(timestamps[-1]) + last_frame,
        video_backend="pyav",
        timestamps=timestamps,
    )


def assemble_clip(
    frames: Iterator,
    convert: "FrameToRGB | FrameReader | WebPAnimation",
    frame_transform,
    indices: np.ndarray,
    metadata: TubeViTVideoMetadata,
) -> tuple[torch.Tensor, TubeViTVideoMetadata]:
    """Convert and transform `frames` (of the distinct `indices`, ascending), and return them in the order of `indices`."""
    distinct, inverse = np.unique(indices, return_inverse=True)
    clip: torch.Tensor | None = None
    if frame_transform is None:
        (clip,) = _groups(frames, convert, len(distinct), len(distinct))
    else:
        filled = 0
        for group in map(frame_transform, _groups(frames, convert, len(distinct))):
            if clip is None:
                clip = group.new_empty((len(distinct), *group.shape[1:]))
            _copy(group, clip[filled : filled + len(group)])
            filled += len(group)
    assert clip is not None  # there is at least one index
    if len(distinct) != len(indices) or (np.diff(indices) < 0).any():
        clip = clip[torch.from_numpy(inverse)]
    metadata.height, metadata.width = convert.display_size
    metadata.frames_indices = indices.tolist()
    return clip, metadata


def _groups(
    frames: Iterator,
    convert: "FrameToRGB | FrameReader | WebPAnimation",
    num_frames: int,
    group_size: int | None = None,
) -> Iterator[torch.Tensor]:
    """`num_frames` frames as RGB in groups, uint8 `(group_size, 3, height, width)`; the last group may be smaller.

    By default a group has up to `MAX_GROUP_BYTES`, and at least one picture. The memory format is channels-last, as
    decoded, which torch resizes fastest. NumPy copies the pictures, because torch would start its threads for each copy.
    """
    group: np.ndarray | None = None
    filled = 0
    for frame in frames:
        picture = convert(frame)
        if group is None:
            size = group_size or min(num_frames, max(1, MAX_GROUP_BYTES // picture.size))
            group = np.empty((size, *picture.shape), np.uint8)
        if len(group) == 1:
            yield _channels_first(picture[np.newaxis])
            continue
        group[filled] = picture
        filled += 1
        if filled == len(group):
            yield _channels_first(group)
            group, filled = None, 0
    if group is not None and filled:
        yield _channels_first(group[:filled])


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy `source` to `target`; for channels-last to channels-first, NumPy takes half the time of torch."""
    if source.device.type == "cpu":
        np.copyto(target.numpy(), source.numpy())
    else:
        target.copy_(source)


def _channels_first(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class FrameToRGB:
    """Decoded frame to an RGB picture, uint8 `(height, width, 3)`: upright, with square pixels, of the first frame's size.

    The width is multiplied by the sample aspect ratio and rounded to the nearest pixel; the height is unchanged. Ratios
    within 1 % of 1 are ignored.
    """

    def __init__(self, width: int, height: int, sample_aspect_ratio: Fraction | None):
        ratio = sample_aspect_ratio if sample_aspect_ratio and is_stretched(sample_aspect_ratio) else 1
        self.size = {"width": max(1, math.floor(width * ratio + Fraction(1, 2))), "height": height}
        # One reformatter for all frames caches its conversion tables; `VideoFrame.to_ndarray` computes them for each frame.
        self.reformatter = import_av().video.reformatter.VideoReformatter()
        self.display_size = (0, 0)  # (height, width) after rotation, set by the first frame

    def __call__(self, frame) -> np.ndarray:
        rgb = self.reformatter.reformat(frame, **self.size, format="rgb24", threads=1)
        plane = rgb.planes[0]
        shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)  # rows may be padded
        picture = _upright(np.ndarray(shape, np.uint8, plane, strides=strides), frame)
        self.display_size = (picture.shape[0], picture.shape[1])
        return picture


def is_stretched(sample_aspect_ratio: Fraction) -> bool:
    """Whether pixels of this width over height are shown as such; other ratios are ignored."""
    change = max(sample_aspect_ratio, 1 / sample_aspect_ratio) if sample_aspect_ratio else 1
    return MIN_SAMPLE_ASPECT_RATIO_CHANGE <= change <= MAX_SAMPLE_ASPECT_RATIO_CHANGE


def _upright(picture: np.ndarray, frame) -> np.ndarray:
    """Rotate and flip a picture `(height, width, 3)` by the display matrix of the frame."""
    is_transposed, is_flipped, is_mirrored = upright_steps(frame)
    if not (is_transposed or is_flipped or is_mirrored):
        return picture
    picture = picture.swapaxes(0, 1) if is_transposed else picture
    return np.ascontiguousarray(picture[:: -1 if is_flipped else 1, :: -1 if is_mirrored else 1])


def upright_steps(frame) -> tuple[bool, bool, bool]:
    """By the display matrix of a frame: whether its rows become columns, and whether then rows and columns are reversed."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    # A stored pixel (x, y) is displayed at (a x + c y, b x + d y), up to scale; y points down.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    is_transposed = abs(b) + abs(c) > abs(a) + abs(d)  # a rotation by 90 degrees
    if is_transposed:
        a, d = c, b
    return is_transposed, d < 0, a < 0
