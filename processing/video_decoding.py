# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""From a video file to frames, with PyAV: decodes what the wanted frames need, and converts only those.

Frame i is the i-th frame that decoding the whole stream gives, in the order in which frames are shown. An index of the
file (`video_index`) tells how many there are, when each is shown, and from which key frame to decode it, so decoding
starts there, ends with the last wanted frame, and leaves out the groups of pictures and the non-reference frames in
between that nobody asked for. Where the index cannot be relied on, the stream is decoded in order instead; the frames
are the same. Pictures come out as a player shows them: upright, with square pixels, in RGB by the stream's own colour
matrix and range. Transparency is dropped, as PIL's `convert("RGB")` does.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from .cpu_cores import num_cores
from .truncation import is_truncated
from .video_index import IndexMismatch, Run, VideoIndex, build_index
from .video_source import VideoDecodeError, import_av, open_container, reason, resolve_source


# FFmpeg's own limit when it chooses; each thread delays the first frame by one more and holds a few pictures.
MAX_THREADS = 16

# Decoded frames of a video without a usable index are kept up to this size; a larger video is decoded twice.
MAX_HELD_FRAME_BYTES = 256 * 2**20

# Frames are handed to `frame_transform` in groups of this size: few calls, and pixels that are still in the cache.
MAX_GROUP_BYTES = 2 * 2**20

# For a video without any usable times, which says nothing of its rate either.
DEFAULT_FRAME_RATE = 25.0

# Sample aspect ratios that count: less than one percent is what encoders leave behind when they round the size to even
# numbers, and no camera or disc has more than eight, so that is damage.
MIN_SAMPLE_ASPECT_RATIO_CHANGE = 1.01
MAX_SAMPLE_ASPECT_RATIO_CHANGE = 8


@dataclass
class TubeViTVideoMetadata(VideoMetadata):
    """What is known of a video; `width` and `height` are those of the upright picture with square pixels.

    A rotation shows only when a frame has been decoded, so both are None while `sample_indices_fn` chooses frames.
    `timestamps` holds the time in seconds at which each frame of the video is shown, float64 `(total_num_frames,)`,
    ascending from 0. (In `VideoMetadata` the name stands for the times of the sampled frames at a constant rate.)
    """

    timestamps: np.ndarray | None = field(default=None, compare=False, repr=False)


def decode_video(
    source,
    sample_indices_fn: Callable | None = None,
    *,
    frame_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    num_threads: int | None = None,
    allow_partial: bool = False,
) -> tuple[torch.Tensor, TubeViTVideoMetadata]:
    """Decode frames of a video: uint8 `(frames, 3, height, width)`, and what is known of the video.

    Args:
        source: path, http(s) URL, bytes, binary file object, or `{"path": ..., "bytes": ...}`; see `resolve_source`.
        sample_indices_fn: called as `sample_indices_fn(metadata=...)`, returns the wanted frames: integers from 0 to
            `metadata.total_num_frames - 1`, in any order and with repeats; the result follows them. None for all
            frames. If the index of the file turns out to be wrong, it is asked again with the true number of frames.
        frame_transform: applied to the distinct wanted frames as they are decoded, some at a time, uint8
            `(frames, 3, height, width)` with the channels of a pixel side by side in memory, so that a resize keeps
            full-size frames from piling up. The results are joined along their first axis.
        num_threads: threads of the decoder. By default one in a worker process of a data loader, where other workers
            use the other cores, and otherwise one per core.
        allow_partial: keep what decodes of a video that is damaged or cut off, in place of an error. The metadata
            then describes the frames that exist.

    Raises VideoDecodeError, a ValueError, where a video cannot be read and where a wanted frame does not exist;
    FileNotFoundError, IsADirectoryError or PermissionError for a path; TypeError for a source of another kind.
    """
    av = import_av()
    num_threads = _default_num_threads() if num_threads is None else num_threads
    if num_threads < 1:
        raise ValueError(f"num_threads must be 1 or more, or None for a suitable number; it is {num_threads}.")
    file, name = resolve_source(source)
    file_ends_early = is_truncated(file)  # before FFmpeg reads a file object: this moves its position
    choose = _FrameChoice(sample_indices_fn, name)
    with open_container(file, name, probe=False) as (container, stream):
        _set_threads(stream, num_threads)
        index = _build_index(container, stream, file_ends_early, name, allow_partial)
        if index.doubt is None:
            try:
                return _decode_by_index(index, container, stream, choose, frame_transform)
            except (IndexMismatch, av.FFmpegError):
                pass  # decoding in order finds out which frames there are, or what is wrong
    with open_container(file, name) as (container, stream):
        index = _build_index(container, stream, file_ends_early, name, allow_partial)
    try:
        return _decode_in_order(index, file, name, num_threads, allow_partial, choose, frame_transform)
    except av.FFmpegError as error:  # damage is dealt with there; what remains is a colour matrix like ICtCp
        raise VideoDecodeError(f"{name} cannot be converted to RGB: {reason(error)}.") from error


def probe_video(source) -> TubeViTVideoMetadata:
    """What is known of a video, after decoding its first frame. Takes and raises what `decode_video` does."""
    _, metadata = decode_video(source, lambda metadata: [0])
    metadata.frames_indices = None
    return metadata


class _FrameChoice:
    """Asks `sample_indices_fn` once for each number of frames, so that a random choice outlives a second attempt."""

    def __init__(self, sample_indices_fn: Callable | None, name: str):
        self.sample_indices_fn = sample_indices_fn
        self.name = name
        self.chosen: dict[int, np.ndarray] = {}

    def __call__(self, metadata: TubeViTVideoMetadata) -> np.ndarray:
        """The wanted frames, int64 `(wanted,)`, all of which exist by `metadata`."""
        num_frames = metadata.total_num_frames
        if num_frames not in self.chosen:
            if self.sample_indices_fn is None:
                self.chosen[num_frames] = np.arange(num_frames)
            else:
                self.chosen[num_frames] = self._check(self.sample_indices_fn(metadata=metadata), num_frames)
        return self.chosen[num_frames]

    def _check(self, indices, num_frames: int) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices):
            raise VideoDecodeError(f"{self.name}: frame indices must be a list of at least one; got {indices!r}.")
        if indices.dtype.kind not in "iu":
            raise VideoDecodeError(f"{self.name}: frame indices must be integers, not {indices.dtype}; round them.")
        for index in (indices.min(), indices.max()):
            if not 0 <= index < num_frames:
                raise VideoDecodeError(
                    f"{self.name}: frame {index} does not exist; the video has frames 0 to {num_frames - 1}."
                )
        return indices.astype(np.int64)


def _default_num_threads() -> int:
    return 1 if torch.utils.data.get_worker_info() is not None else min(num_cores(), MAX_THREADS)


def _set_threads(stream, num_threads: int) -> None:
    # A frame per thread where the codec can, because most pictures are one slice. Not HEVC: after damage a frame may wait for
    # one that never comes.
    stream.codec_context.thread_type = "SLICE" if stream.codec_context.name == "hevc" else "AUTO"
    # A decoder thread that logs waits for Python's lock, which closing the file holds while it waits for the thread.
    stream.codec_context.thread_count = 1 if import_av().logging.get_level() is not None else num_threads


def _build_index(container, stream, file_ends_early: bool, name: str, allow_partial: bool) -> VideoIndex:
    try:
        index = build_index(container, stream, file_ends_early)
    except import_av().FFmpegError as error:
        raise VideoDecodeError(f"{name} cannot be read: {reason(error)}.") from error
    except IndexError as error:  # PyAV's, of a packet whose stream was not there when it opened the file
        raise VideoDecodeError(
            f"{name} begins a new stream in its middle, as files do that were joined byte by byte; write it anew with "
            "`ffmpeg -i INPUT -map 0:v:0 OUTPUT.mp4`."
        ) from error
    if not index.frame_packets:
        raise VideoDecodeError(f"{name} has a video stream without a single frame.")
    if index.is_cut_off and not allow_partial:
        raise VideoDecodeError(
            f"{name} is cut off: the file ends after frame {len(index.frame_packets) - 1}, before its announced end. "
            f"allow_partial=True decodes what is there."
        )
    return index


# Decoding by the index


def _decode_by_index(index: VideoIndex, container, stream, choose: _FrameChoice, frame_transform):
    """Raises IndexMismatch, or one of FFmpeg's errors, where the stream is not what the index says."""
    metadata = _metadata(index, [index.headers[packet].pts for packet in index.frame_packets])
    indices = choose(metadata)
    frames = _indexed_frames(index, np.unique(indices).tolist(), container, stream)
    first = next(frames)  # only now does the decoder know the shape of the pixels if the file does not state it
    aspect_ratio = index.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    convert = _ToRGB(index.width, index.height, aspect_ratio)
    return _finish(chain([first], frames), convert, frame_transform, indices, metadata)


def _indexed_frames(index: VideoIndex, wanted: list[int], container, stream) -> Iterator:
    """Decode the frames `wanted` (ascending), one by one, and make sure that they are what the index promises."""
    for run in index.runs(wanted):
        missing = {index.headers[packet].pts for packet in run.wanted}
        key_time, latest = index.headers[run.first].pts, None
        for frame in _decode_run(index, run, container, stream):
            if frame.pts is None or (latest is not None and frame.pts <= latest):
                raise IndexMismatch("frames come out in another order than that of their times")
            latest = frame.pts
            if run.first and frame.pts == key_time and not frame.key_frame:
                raise IndexMismatch("the file calls a frame a key frame that is none")
            if frame.pts not in missing:
                continue
            missing.remove(frame.pts)
            if (
                frame.is_corrupt
                or frame.interlaced_frame
                or (frame.width, frame.height) != (index.width, index.height)
            ):
                # Damage depends on where decoding begins, the two fields of a frame may be two packets, and frames of
                # several sizes are brought to the size of the first.
                raise IndexMismatch("a frame is damaged, interlaced or of another size")
            yield frame
        if missing:
            raise IndexMismatch("a packet gives no frame")


def _decode_run(index: VideoIndex, run: Run, container, stream) -> Iterator:
    codec = stream.codec_context
    codec.open(strict=False)  # before the first skip_frame: the AV1 decoder reads it only then, and for good
    if run.first:
        codec.flush_buffers()  # ends the drained state and forgets the frames before the gap
    for position, packet in index.read(run, container, stream):
        # Frames that no other frame refers to need not be decoded to get the wanted ones.
        codec.skip_frame = "DEFAULT" if position in run.wanted else "NONREF"
        yield from codec.decode(packet)
    yield from codec.decode(None)


# Decoding in order


def _decode_in_order(index: VideoIndex, file, name, num_threads, allow_partial, choose: _FrameChoice, frame_transform):
    """Decode the whole stream to learn which frames it has, and then, unless they are still in memory, once more."""
    pts, held, num_held_bytes, error, first_damaged, is_interlaced = [], [], 0, None, None, False
    try:
        for frame in _all_frames(index, file, name, num_threads):
            if not pts:
                convert = _ToRGB(frame.width, frame.height, index.sample_aspect_ratio)
            if frame.is_corrupt and first_damaged is None:
                first_damaged = len(pts)
            is_interlaced |= frame.interlaced_frame
            pts.append(frame.pts)
            if held is not None:
                held.append(frame)
                num_held_bytes += sum(plane.buffer_size for plane in frame.planes)
                held = held if num_held_bytes <= MAX_HELD_FRAME_BYTES else None
    except import_av().FFmpegError as caught:
        error = caught
    # Not of interlaced video, where a packet may be a field, half a frame; and a decoder may wait for where it can begin.
    can_tell = pts and pts[0] is not None and not is_interlaced
    num_sure = sum(time >= pts[0] for time in index.sure_times()) if can_tell else 0
    _check_decoded(index, name, len(pts), num_sure, error, first_damaged, allow_partial)
    metadata = _metadata(index, pts)
    indices = choose(metadata)
    wanted = set(indices.tolist())
    if held is not None:
        return _finish((held[i] for i in sorted(wanted)), convert, frame_transform, indices, metadata)
    with closing(_all_frames(index, file, name, num_threads)) as frames:
        kept = (frame for i, frame in zip(range(max(wanted) + 1), frames, strict=False) if i in wanted)
        return _finish(kept, convert, frame_transform, indices, metadata)


def _all_frames(index: VideoIndex, file, name: str, num_threads: int) -> Iterator:
    with open_container(file, name) as (container, stream):
        _set_threads(stream, num_threads)
        for packet in container.demux(stream):
            if not (index.is_cut_off and packet.is_corrupt):  # half a packet, which would give half a picture
                yield from packet.decode()


def _check_decoded(
    index: VideoIndex,
    name: str,
    num_decoded: int,
    num_sure: int,
    error: Exception | None,
    first_damaged: int | None,
    allow_partial: bool,
):
    promised = len(index.frame_packets)
    if not num_decoded:
        why = reason(error) if error else "the decoder returns nothing"
        raise VideoDecodeError(f"{name} is damaged: none of its {promised} frames can be decoded ({why}).")
    if error and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: decoding stops after {num_decoded} of {promised} frames ({reason(error)}). "
            f"allow_partial=True keeps these."
        )
    if num_decoded < num_sure and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: only {num_decoded} of {promised} frames can be decoded. allow_partial=True keeps these."
        )
    if first_damaged is not None and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: FFmpeg had to fill in parts of frame {first_damaged}. allow_partial=True takes such frames "
            "as they come out."
        )


# What both ways share


def _metadata(index: VideoIndex, pts: list[int | None]) -> TubeViTVideoMetadata:
    """What is known before a frame is looked at, from the presentation times of all frames."""
    rate = float(index.frame_rate) if index.frame_rate else None
    if None in pts or len(set(pts)) < len(pts):  # the times are of no use: assume a constant rate
        timestamps = np.arange(len(pts)) / (rate or DEFAULT_FRAME_RATE)
    else:  # a packet's time may end up on its neighbour where frames are reordered (AVI), so sort them
        first, ticks, seconds = min(pts), index.time_base.denominator, index.time_base.numerator
        timestamps = np.array([(time - first) * seconds / ticks for time in sorted(pts)])
        if rate is not None:
            # Times of a constant rate may be rounded to the file's clock, if that is finer than the frames. Taken exactly, as
            # they would be for decoded frames, they choose the same frames.
            constant, tick = np.arange(len(pts)) / rate, seconds / ticks
            if np.abs(timestamps - constant).max() <= (tick if tick < 0.25 / rate else 1e-9):
                timestamps = constant
    if timestamps[-1] > 0:
        measured = (len(pts) - 1) / timestamps[-1]
        # Times are rounded to the file's clock, the stated rate is not; but it may be a guess.
        rate = rate if rate and abs(measured / rate - 1) < 0.02 else measured
    last_frame = float(index.last_duration * index.time_base) or (1 / rate if rate else 0.0)
    return TubeViTVideoMetadata(
        total_num_frames=len(pts),
        fps=rate,
        duration=float(timestamps[-1]) + last_frame,
        video_backend="pyav",
        timestamps=timestamps,
    )


def _finish(frames: Iterator, convert: "_ToRGB", frame_transform, indices: np.ndarray, metadata: TubeViTVideoMetadata):
    """Convert `frames`, those of the distinct `indices` in ascending order, and lay them out as `indices` asks."""
    distinct, places = np.unique(indices, return_inverse=True)
    if frame_transform is None:
        (clip,) = _groups(frames, convert, len(distinct), len(distinct))
    else:
        clip, filled = None, 0
        for group in map(frame_transform, _groups(frames, convert, len(distinct))):
            if clip is None:
                clip = group.new_empty((len(distinct), *group.shape[1:]))
            _copy(group, clip[filled : filled + len(group)])
            filled += len(group)
    if len(distinct) != len(indices) or (np.diff(indices) < 0).any():
        clip = clip[torch.from_numpy(places)]
    metadata.height, metadata.width = convert.shown_size
    metadata.frames_indices = indices.tolist()
    return clip, metadata


def _groups(
    frames: Iterator, convert: "_ToRGB", num_frames: int, group_size: int | None = None
) -> Iterator[torch.Tensor]:
    """The pictures of `num_frames` frames in groups, uint8 `(group_size, 3, height, width)`, the last one may be smaller.

    By default a group takes up to `MAX_GROUP_BYTES`, and at least one picture. The channels of a pixel lie side by side
    in memory, as decoded: torch resizes such pictures fastest. NumPy copies them: torch would start its threads for each.
    """
    group, filled = None, 0
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
    if filled:
        yield _channels_first(group[:filled])


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Fill `target`; NumPy brings bytes that lie channel by channel into planes in half of torch's time."""
    if source.device.type == "cpu":
        np.copyto(target.numpy(), source.numpy())
    else:
        target.copy_(source)


def _channels_first(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class _ToRGB:
    """Decoded frame to uint8 `(height, width, 3)`: RGB, square pixels, upright, in the size of the first frame.

    The width is multiplied by the sample aspect ratio and rounded to the nearest pixel, the height stays. Pixels that
    are square within one percent are taken as they are.
    """

    def __init__(self, width: int, height: int, sample_aspect_ratio: Fraction | None):
        ratio = sample_aspect_ratio or 1
        if not MIN_SAMPLE_ASPECT_RATIO_CHANGE <= max(ratio, 1 / ratio) <= MAX_SAMPLE_ASPECT_RATIO_CHANGE:
            ratio = 1
        self.size = {"width": max(1, math.floor(width * ratio + Fraction(1, 2))), "height": height}
        # One for all frames: it keeps its tables, which `VideoFrame.to_ndarray` builds anew for each frame.
        self.reformatter = import_av().video.reformatter.VideoReformatter()
        self.shown_size = None  # (height, width) after turning, known with the first frame

    def __call__(self, frame) -> np.ndarray:
        rgb = self.reformatter.reformat(frame, **self.size, format="rgb24", threads=1)
        plane = rgb.planes[0]
        shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)  # rows may be padded
        picture = _upright(np.ndarray(shape, np.uint8, plane, strides=strides), frame)
        self.shown_size = picture.shape[:2]
        return picture


def _upright(picture: np.ndarray, frame) -> np.ndarray:
    """Turn and mirror `(height, width, 3)` as the frame's display matrix says."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    # A stored pixel (x, y) is shown at (a x + c y, b x + d y), up to scale; y points down.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn: rows become columns
        picture, a, d = picture.swapaxes(0, 1), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
