# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Decode selected frames of a video file with PyAV.

Frame i is the i-th frame, in presentation order, of a decode of the whole stream. An index of the file (`video_index`) gives
the number of frames, their times, and the key frame from which each frame is decoded. Decoding starts at that key frame, ends
with the last selected frame, and skips groups of pictures and non-reference frames that are not needed. If the index is not
reliable, the stream is decoded in order; the frames are the same. Frames look as in a video player: upright, with square
pixels, in RGB by the color matrix and range of the stream. Transparency is dropped, as by PIL's `convert("RGB")`.
"""

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from .animated_webp import WebPAnimation, is_animated_webp
from .cpu_cores import num_cores
from .frame_folders import FrameReader, list_frames
from .truncation import Mp4Fault, find_matroska_damage, find_mp4_fault, is_truncated
from .video_index import (
    IndexMismatch,
    Run,
    VideoIndex,
    build_index,
    has_format,
    is_disposable,
    jpeg_is_complete,
    length_bytes,
)
from .video_segments import SegmentSampler, VideoSegment
from .video_source import DecodeLimits, VideoDecodeError, import_av, open_container, reason, resolve_source


# Codecs whose decoders raise an error for some damage if told to (`err_detect=explode`), and otherwise conceal it without a flag.
# Not HEVC, which then also raises for pictures whose references were cut off.
STRICT_CODECS = {"mjpeg", "mpeg1video", "mpeg2video"}

# Codecs of which several threads notice all damage, though not by FFmpeg's flags: these may come after the frame, if a thread still
# decodes a frame before it. For a damaged packet, these codecs raise an error with `err_detect=explode`, or return no frame. Not
# HEVC: its frame threads may wait forever for a frame that is lost, and its threads within a frame decode damage in another way.
THREADED_CODECS = {"h264", "vp8", "vp9", "libdav1d", "mjpeg", "png", "ffv1", "prores"}

# Pictures by which FFmpeg's H.264 decoder can delay its output at most.
MAX_OUTPUT_DELAY = 15
ACCESS_UNIT_DELIMITER = bytes([9, 0xF0])  # a unit of H.264 without a picture

# Pictures after which FFmpeg's MPEG-4 decoder knows whether the encoder pads pictures rightly.
NUM_MPEG4_PICTURES = 3

# FFmpeg's own default limit: each thread delays the first frame by one frame and buffers a few pictures.
MAX_THREADS = 16

# Without a reliable index, decoded frames stay in memory up to this size; a larger video is decoded twice.
MAX_CACHED_FRAME_BYTES = 256 * 2**20

# Frames are passed to `frame_transform` in groups of this size: few calls, and pixels that are still in the CPU cache.
MAX_GROUP_BYTES = 2 * 2**20

# Frames per second of a video that states neither frame times nor a rate.
DEFAULT_FRAME_RATE = 25.0

# Decodes the frames of a reliable index in place of PyAV: called as `other_decoder(file, index, frame, aspect_ratio, indices,
# frame_transform)` with the first frame of the video and distinct indices. Returns the frames and the (height, width) of a
# picture, or None to let PyAV decode.
other_decoder: Callable | None = None

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


def decode_video(
    source,
    sample_indices_fn: Callable | None = None,
    *,
    frame_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    num_threads: int | None = None,
    allow_partial: bool = False,
    limits: DecodeLimits | None = None,
) -> tuple[torch.Tensor, TubeViTVideoMetadata]:
    """Decode frames of a video: `(frames, metadata)` with uint8 frames `(frames, 3, height, width)`.

    Args:
        source: path, http(s) URL, bytes, binary file object, or `{"path": ..., "bytes": ...}`; see `resolve_source`. A
            dictionary may also hold a segment (`video_segments`), in seconds or frames; the result is that of a video that
            consists of the segment. The path of a folder of numbered pictures is a video with these frames
            (`frame_folders`); `"fps"` in the dictionary is their rate, without which they have no times.
        sample_indices_fn: called as `sample_indices_fn(metadata=...)`, returns the indices of the frames to decode:
            integers from 0 to `metadata.total_num_frames - 1`, in any order, repeats allowed. The frames are returned in
            this order. None for all frames. If the index of the file proves wrong, the function is called again with the
            true number of frames.
        frame_transform: applied to the distinct selected frames in small groups as they are decoded, uint8
            `(frames, 3, height, width)` in channels-last memory format. With a resize, full-size frames do not
            accumulate in memory. The results are concatenated along the first axis.
        num_threads: largest number of threads of the decoder. Defaults to 1 in a DataLoader worker, else to the number of
            CPU cores (at most 16). One thread decodes videos without a reliable index, and codecs of which several threads
            would miss damage (HEVC, MPEG-1, 2 and 4, and rare ones).
        allow_partial: return the frames that can be decoded from a damaged or truncated video instead of raising. The
            metadata then describes these frames.
        limits: largest size and duration of a file, checked before its first frame is decoded. A folder of pictures has none.

    Raises VideoDecodeError (a ValueError) for a video that cannot be read or exceeds `limits`, and for a frame that does not exist;
    FileNotFoundError, IsADirectoryError or PermissionError for a path; TypeError for a source of another type.
    """
    segment = VideoSegment.of_source(source)
    if segment is not None:
        rest = {key: value for key, value in source.items() if key not in VideoSegment._fields}
        sample = SegmentSampler(segment, sample_indices_fn, str(source.get("path") or "<bytes>"), allow_partial)
        frames, metadata = decode_video(
            rest,
            sample,
            frame_transform=frame_transform,
            num_threads=num_threads,
            allow_partial=allow_partial,
            limits=limits,
        )
        return frames, sample.cut(metadata)
    folder = _frame_folder(source)
    if folder is not None:
        return _decode_folder(folder, source, sample_indices_fn, frame_transform)
    av = import_av()
    num_threads = default_num_threads() if num_threads is None else num_threads
    if num_threads < 1:
        raise ValueError(f"num_threads must be 1 or more, or None for the default, got {num_threads}.")
    file, name = resolve_source(source)
    if is_animated_webp(file):
        return _decode_animation(WebPAnimation(file, name, limits), sample_indices_fn, frame_transform)
    # Before FFmpeg reads a file object, whose position these change.
    file_is_truncated, mp4_fault = is_truncated(file), find_mp4_fault(file)
    select = _FrameSelector(sample_indices_fn, name)
    # If the frames differ from the index, or may be damaged, one thread decides by the same packets, and if they differ again,
    # decoding in order, which finds the actual frames or reports the damage.
    for max_threads in (num_threads, 1):
        with open_container(file, name, probe=False) as (container, stream):
            _configure_decoder(stream, max_threads, limits=limits)
            index = _build_index(container, stream, file, file_is_truncated, mp4_fault, name, allow_partial, limits)
            if index.unreliable_reason is not None:
                break
            with suppress(IndexMismatch, av.FFmpegError):
                return _decode_by_index(index, container, stream, select, frame_transform, file)
            if stream.codec_context.thread_count == 1:
                break
    with open_container(file, name) as (container, stream):
        index = _build_index(container, stream, file, file_is_truncated, mp4_fault, name, allow_partial, limits)
    try:
        return _decode_in_order(index, file, name, allow_partial, select, frame_transform, limits)
    except av.FFmpegError as error:  # not damage, but an unsupported color matrix such as ICtCp
        raise VideoDecodeError(f"{name} cannot be converted to RGB: {reason(error)}.") from error


def probe_video(source) -> TubeViTVideoMetadata:
    """Metadata of a video; decodes its first frame. `source` and errors are as in `decode_video`."""
    _, metadata = decode_video(source, lambda metadata: [0])
    metadata.frames_indices = None
    return metadata


class _FrameSelector:
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
                f"joining videos without encoding them, or because it is damaged. allow_partial=True counts the {len(decoded)} other "
                "frames only."
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


def default_num_threads() -> int:
    return 1 if torch.utils.data.get_worker_info() is not None else min(num_cores(), MAX_THREADS)


def set_decoder_threads(codec, num_threads: int) -> None:
    """
    Let the codec context `codec` decode with at most `num_threads` threads, where threads are safe.

    With FFmpeg's logging on (torchvision 0.25 turns it on), closing the file can deadlock: it waits for the decoder threads while it holds
    Python's GIL, which a thread needs to log. One thread is used then, and for codecs whose threads wait for lost frames.
    """
    codec.thread_type = "AUTO"  # prefers one frame per thread, because most pictures have a single slice
    is_safe = codec.name in THREADED_CODECS and import_av().logging.get_level() is None
    codec.thread_count = num_threads if is_safe else 1


def _configure_decoder(stream, num_threads: int, is_strict: bool = True, limits: DecodeLimits | None = None) -> None:
    """Prepare the decoder of `stream` to report all damage, with at most `num_threads` threads, and to refuse larger frames."""
    codec = stream.codec_context
    set_decoder_threads(codec, num_threads)
    # A stream may change its size. FFmpeg counts the pixels of its buffers, whose sides are padded, so its limit is looser.
    options = {} if limits is None else {"max_pixels": str(2 * limits.pixels + 2**16)}
    if is_strict and (codec.name in STRICT_CODECS or codec.thread_count > 1):
        options["err_detect"] = "explode"
    if options:
        codec.options = options


def _build_index(
    container,
    stream,
    file,
    file_is_truncated: bool,
    mp4_fault: Mp4Fault | None,
    name: str,
    allow_partial: bool,
    limits: DecodeLimits | None,
) -> VideoIndex:
    try:
        index = build_index(container, stream, file_is_truncated)
    except import_av().FFmpegError as error:
        raise VideoDecodeError(f"{name} cannot be read: {reason(error)}.") from error
    except IndexError as error:  # PyAV's, for a packet of a stream that did not exist when the file was opened
        raise VideoDecodeError(
            f"{name} starts another stream in its middle, as concatenated files do; re-encode it with "
            "`ffmpeg -i INPUT -map 0:v:0 OUTPUT.mp4`."
        ) from error
    if not index.frame_packets:
        raise VideoDecodeError(f"{name} has a video stream without frames.")
    if limits is not None:
        limits.check_size(name, index.height, index.width)
        limits.check_duration(name, _duration_of_packets(index))
    if not allow_partial:
        _check_container(index, container, file, name)
        if mp4_fault is not None and mp4_fault.is_damage:
            raise VideoDecodeError(
                f"{name} is damaged: {mp4_fault.text}. allow_partial=True decodes its frames, whose times may be wrong."
            )
    return index if mp4_fault is None else replace(index, unreliable_reason=mp4_fault.text)


def _duration_of_packets(index: VideoIndex) -> float:
    """Seconds from the first to the end of the last frame, by the times of the packets; the frames over the rate if they have none."""
    times = [header.pts for header in index.headers if header.pts is not None]
    if len(times) < 2:
        return len(index.frame_packets) / float(index.frame_rate or DEFAULT_FRAME_RATE)
    return float((max(times) - min(times) + index.last_duration) * index.time_base)


def _check_container(index: VideoIndex, container, file, name: str) -> None:
    """Raise `VideoDecodeError` if packets are lost or marked as corrupt. Such a file is damaged, whichever frames are selected."""
    if index.is_truncated:
        raise VideoDecodeError(
            f"{name} is cut off: the file ends after frame {len(index.frame_packets) - 1} and is shorter than it states. "
            f"allow_partial=True decodes the frames that exist."
        )
    if index.corrupt_packets:
        raise VideoDecodeError(
            f"{name} is damaged: {len(index.corrupt_packets)} of its {len(index.headers)} packets, the first of them packet "
            f"{index.corrupt_packets[0]}, are marked as corrupt. allow_partial=True decodes them all the same; if the file was joined "
            "from parts, `ffmpeg -i INPUT -c copy OUTPUT.mp4` mends it."
        )
    if index.num_lost > 0:
        raise VideoDecodeError(
            f"{name} is damaged: {index.num_lost} of the {index.num_lost + len(index.headers)} packets that its index lists are "
            "not in the file. allow_partial=True decodes the others."
        )
    duration = None if container.duration is None else container.duration / import_av().time_base
    if has_format(container, "matroska") and index.has_gaps(
        duration
    ):  # rarely, because it reads the headers of all blocks
        position = find_matroska_damage(file)
        if position is not None:
            raise VideoDecodeError(
                f"{name} is damaged at byte {position}, and frames after it are lost. allow_partial=True decodes the others."
            )


# Frame folders


def _frame_folder(source) -> str | None:
    """The path of a frame folder, `None` for other sources."""
    is_row = isinstance(source, dict)
    path = source.get("path") if is_row else source
    if (is_row and source.get("bytes") is not None) or not isinstance(path, (str, os.PathLike)):
        return None
    return os.fsdecode(path) if os.path.isdir(path) else None


def _decode_folder(folder: str, source, sample_indices_fn: Callable | None, frame_transform):
    fps = source.get("fps") if isinstance(source, dict) else None
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps of a frame folder must be a finite number above 0, got {fps!r}.")
    frames = list_frames(folder)
    times = None if fps is None else np.array(frames.positions) / fps
    metadata = TubeViTVideoMetadata(
        total_num_frames=len(frames.names),
        fps=fps,
        duration=None if fps is None else (frames.positions[-1] + 1) / fps,
        video_backend="pil",
        timestamps=times,
    )
    indices = _FrameSelector(sample_indices_fn, folder)(metadata)
    paths = (os.path.join(folder, frames.names[index]) for index in np.unique(indices).tolist())
    return _assemble_clip(paths, FrameReader(), frame_transform, indices, metadata)


def _decode_animation(animation: WebPAnimation, sample_indices_fn: Callable | None, frame_transform):
    num_frames = len(animation.timestamps)
    metadata = TubeViTVideoMetadata(
        total_num_frames=num_frames,
        fps=num_frames / animation.duration,
        duration=animation.duration,
        video_backend="pil",
        timestamps=animation.timestamps,
    )
    indices = _FrameSelector(sample_indices_fn, animation.name)(metadata)
    return _assemble_clip(iter(np.unique(indices).tolist()), animation, frame_transform, indices, metadata)


# Decoding by the index


def _decode_by_index(index: VideoIndex, container, stream, select: _FrameSelector, frame_transform, file):
    """Decode the selected frames only. Raises IndexMismatch, or an error of FFmpeg, if the stream differs from the index."""
    metadata = _metadata(index, [index.headers[packet].pts for packet in index.frame_packets])
    indices = select(metadata)
    _delay_output(index, stream.codec_context)
    if other_decoder is not None:
        with closing(_indexed_frames(index, [0], container, stream)) as frames:
            first = next(frames)
        ratio = index.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        distinct, inverse = np.unique(indices, return_inverse=True)
        if (decoded := other_decoder(file, index, first, ratio, distinct, frame_transform)) is not None:
            clip, (metadata.height, metadata.width) = decoded
            metadata.frames_indices = indices.tolist()
            return clip[torch.from_numpy(inverse)], metadata
        stream.codec_context.flush_buffers()
    frames = _indexed_frames(index, np.unique(indices).tolist(), container, stream)
    first = next(frames)  # before it, the decoder may not know the sample aspect ratio
    aspect_ratio = index.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    convert = FrameToRGB(index.width, index.height, aspect_ratio)
    return _assemble_clip(chain([first], frames), convert, frame_transform, indices, metadata)


def _indexed_frames(index: VideoIndex, selected: list[int], container, stream) -> Generator:
    """Decode the frames `selected` (ascending), one by one. Raises IndexMismatch if they differ from the index."""
    runs = index.runs(selected)
    if stream.codec_context.name == "mpeg4" and runs[0].first:
        _prepare_mpeg4(index, container, stream)
    for run in runs:
        selected_times = {index.headers[packet].pts for packet in run.selected}
        key_time, latest = index.headers[run.first].time, None
        decoded: list[int] = []
        returned = set()
        for frame in _decode_run(index, run, container, stream, decoded):
            if frame.pts is None or (latest is not None and frame.pts <= latest):
                raise IndexMismatch("the decoder returns frames in another order than that of their times")
            latest = frame.pts
            if run.first and frame.pts < key_time:
                continue  # a leading picture: it refers to frames before the run, and no selected frame refers to it
            if run.first and frame.pts == key_time and not frame.key_frame:
                raise IndexMismatch("the file marks a frame as a key frame that is not one")
            if frame.is_corrupt:  # selected or not: selected frames may be predicted from it
                raise IndexMismatch("a frame is damaged, or its references are before the run")
            returned.add(frame.pts)
            if frame.pts not in selected_times:
                continue
            if frame.interlaced_frame or (frame.width, frame.height) != (index.width, index.height):
                # An interlaced frame may have two packets, one per field. Frames of several sizes are scaled to the size of the
                # first frame, which is not known here.
                raise IndexMismatch("a frame is interlaced or of another size")
            yield frame
        if not selected_times | index.guaranteed_times(decoded) <= returned:
            raise IndexMismatch("a packet gives no frame")


def _delay_output(index: VideoIndex, codec) -> None:
    """
    Let an H.264 decoder output a picture when that is safe. By default FFmpeg guesses the delay if the stream does not state it, and
    drops frames until the guess is right. With several threads, a frame gets the flags that its picture has at that moment, while
    another thread may still decode the picture: not if it is output later by the number of threads.
    """
    if codec.name == "h264" and index.unreliable_reason is None:
        codec.thread_count = max(1, min(codec.thread_count, MAX_OUTPUT_DELAY - index.reorder_depth))
        delay = index.reorder_depth + (codec.thread_count if codec.thread_count > 1 else 0)
        codec.reorder_depth = max(codec.reorder_depth, delay)


def _finish_threads(codec) -> list:
    """
    Wait until the threads of an H.264 decoder have decoded all packets, so that the pictures that it still holds have their flags: each
    thread takes a packet without a picture, after the one that it decodes. Returns the frames that the decoder outputs meanwhile.
    """
    codec.skip_frame = "NONREF"  # allows a packet without a picture
    num_bytes = length_bytes(codec)
    start = len(ACCESS_UNIT_DELIMITER).to_bytes(num_bytes, "big") if num_bytes else b"\0\0\0\1"
    # Not `Packet(bytes)`: a thread that frees it needs Python's GIL, which is held while a codec waits for its threads to be closed.
    packet = import_av().Packet(len(start) + len(ACCESS_UNIT_DELIMITER))
    packet.update(start + ACCESS_UNIT_DELIMITER)
    return [frame for _ in range(codec.thread_count) for frame in codec.decode(packet)]


def _prepare_mpeg4(index: VideoIndex, container, stream) -> None:
    """
    Let FFmpeg's MPEG-4 decoder learn from the first key frame whether the encoder pads its pictures rightly. Until it has seen a few
    pictures it takes damage for wrong padding, and flags no frame. The pictures after the key frame would do as well, but more of them
    may be damaged themselves.
    """
    codec = stream.codec_context
    codec.open(strict=False)
    with suppress(import_av().FFmpegError):  # far from the selected frames
        for _, packet in index.read(Run(0, 0, set()), container, stream):
            for _ in range(NUM_MPEG4_PICTURES):
                codec.decode(packet)


def _decode_run(index: VideoIndex, run: Run, container, stream, decoded: list[int]) -> Iterator:
    """Decode the packets of a run. Appends the positions of those that must give a frame to `decoded`."""
    codec = stream.codec_context
    codec.open(strict=False)  # before skip_frame is set: the AV1 decoder reads it once, when it is opened
    if run.first:
        codec.flush_buffers()  # leaves the drained state and drops the reference frames of the previous run
    latest = index.headers[run.first].time
    for position, packet in index.read(run, container, stream):
        if codec.name == "mjpeg" and position in run.selected:
            first_packet = packet if index.packets is None else index.packets[0]
            if not jpeg_is_complete(packet, first_packet):
                raise IndexMismatch("a picture uses tables of the pictures before it")
        # Pictures from which no other is predicted need not be decoded unless selected. Encoders place them before a picture that is
        # decoded earlier; damage may claim it of others.
        time = index.headers[position].time
        is_decoded = position in run.selected or time > latest or not is_disposable(packet, codec)
        latest = max(latest, time)
        codec.skip_frame = "DEFAULT" if is_decoded else "NONREF"
        if is_decoded:
            decoded.append(position)
        yield from codec.decode(packet)
    if codec.name == "h264" and codec.thread_count > 1:
        yield from _finish_threads(codec)
    yield from codec.decode(None)


# Decoding in order


def _decode_in_order(index: VideoIndex, file, name, allow_partial, select: _FrameSelector, frame_transform, limits):
    """Decode the whole stream to find its frames; decode it again if they do not fit into MAX_CACHED_FRAME_BYTES."""
    pts: list[int | None] = []
    cached: list | None = []
    num_cached_bytes, error, first_damaged, is_interlaced = 0, None, None, False
    try:
        for frame in _all_frames(index, file, name, allow_partial, limits):
            if not pts:
                convert = FrameToRGB(frame.width, frame.height, index.sample_aspect_ratio)
            if frame.is_corrupt and first_damaged is None:
                first_damaged = len(pts)
            is_interlaced |= frame.interlaced_frame
            pts.append(frame.pts)
            if cached is not None:
                cached.append(frame)
                num_cached_bytes += sum(plane.buffer_size for plane in frame.planes)
                cached = cached if num_cached_bytes <= MAX_CACHED_FRAME_BYTES else None
    except import_av().FFmpegError as caught:
        error = caught
    # An interlaced frame may have two packets, one per field.
    is_indexed = index.unreliable_reason is None and not is_interlaced and not allow_partial and None not in pts
    _check_decoded(index, name, pts, is_indexed, error, first_damaged, allow_partial)
    # The frames have the numbers of the index, because other selections are decoded by it, also if the decoder drops some of them.
    times = [index.headers[packet].pts for packet in index.frame_packets] if is_indexed else pts
    number_of = {time: number for number, time in enumerate(times)}
    numbers = [number_of[time] for time in pts] if is_indexed else list(range(len(pts)))
    metadata = _metadata(index, times)
    indices = select(metadata, numbers)
    selected = set(indices.tolist())
    if cached is not None:
        frames = iter(cached)
        return _assemble_clip(_of_numbers(frames, numbers, selected), convert, frame_transform, indices, metadata)
    with closing(_all_frames(index, file, name, allow_partial, limits)) as frames:
        return _assemble_clip(_of_numbers(frames, numbers, selected), convert, frame_transform, indices, metadata)


def _of_numbers(frames: Iterator, numbers: list[int], selected: set[int]) -> Iterator:
    """Those of the `frames` with `numbers` (ascending) that are selected."""
    last = max(selected)
    for number, frame in zip(numbers, frames, strict=False):
        if number in selected:
            yield frame
        if number == last:
            return


def _all_frames(index: VideoIndex, file, name: str, allow_partial: bool, limits: DecodeLimits | None) -> Generator:
    with open_container(file, name) as (container, stream):
        # The flags of one thread decide what is damaged. Where damage is allowed, it is concealed.
        _configure_decoder(stream, num_threads=1, is_strict=not allow_partial, limits=limits)
        _delay_output(index, stream.codec_context)
        for packet in container.demux(stream):
            # A corrupt packet of a truncated file is incomplete and would decode to part of a picture.
            if not (index.is_truncated and packet.is_corrupt):
                yield from packet.decode()


def _check_decoded(
    index: VideoIndex,
    name: str,
    pts: list[int | None],
    is_indexed: bool,
    error: Exception | None,
    first_damaged: int | None,
    allow_partial: bool,
) -> None:
    """
    Raise `VideoDecodeError` if frames are missing or damaged, unless `allow_partial`.

    pts: times of the decoded frames. is_indexed: each of them must be a frame of the index.
    """
    num_decoded, num_expected = len(pts), len(index.frame_packets)
    if not num_decoded:
        why = reason(error) if error else "the decoder returns nothing"
        raise VideoDecodeError(f"{name} is damaged: none of its {num_expected} frames can be decoded ({why}).")
    if error and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: decoding stops after {num_decoded} of {num_expected} frames ({reason(error)}). "
            f"allow_partial=True returns these."
        )
    if is_indexed and index.guaranteed_times(range(len(index.headers))) - set(pts):
        raise VideoDecodeError(
            f"{name} is damaged: only {num_decoded} of {num_expected} frames can be decoded. allow_partial=True returns these."
        )
    if is_indexed and (
        pts != sorted(set(pts)) or not set(pts) <= {index.headers[packet].pts for packet in index.frame_packets}
    ):
        raise VideoDecodeError(
            f"{name} is damaged: its frames have other times, or another order, than its index states. allow_partial=True returns them "
            "in the order in which they are decoded."
        )
    if first_damaged is not None and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: FFmpeg had to conceal missing parts of frame {first_damaged}. allow_partial=True returns "
            "such frames."
        )


# Used by both ways of decoding


def _metadata(index: VideoIndex, pts: list[int | None]) -> TubeViTVideoMetadata:
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


def _assemble_clip(
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
