# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Decode selected frames of a video file with PyAV.

Frame i is the i-th frame, in presentation order, of a decode of the whole stream. An index of the file (`video_index`) gives
the number of frames, their times, and the key frame from which each frame is decoded. Decoding starts at that key frame, ends
with the last selected frame, and skips groups of pictures and non-reference frames that are not needed. If the index is not
reliable, or the decoded frames differ from it, the stream is decoded in order: the frames and their numbers are the same, or there is
an error. `decoder_setup` prepares the decoder to report damage, and `clip_assembly` makes a clip of its frames.
"""

import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain

import numpy as np
import torch

from .animated_webp import WebPAnimation, is_animated_webp
from .clip_assembly import (
    DEFAULT_FRAME_RATE,
    FrameSelector,
    FrameToRGB,
    TubeViTVideoMetadata,
    assemble_clip,
    frame_metadata,
)
from .decoder_setup import configure_decoder, default_num_threads, delay_output, finish_threads, prepare_mpeg4
from .frame_folders import FrameReader, list_frames
from .truncation import Mp4Fault, find_matroska_damage, find_mp4_fault, is_truncated
from .video_index import IndexMismatch, Run, VideoIndex, build_index, has_format, is_disposable, jpeg_is_complete
from .video_segments import SegmentSampler, VideoSegment
from .video_source import DecodeLimits, VideoDecodeError, import_av, open_container, reason, resolve_source


# Without a reliable index, decoded frames stay in memory up to this size; a larger video is decoded twice.
MAX_CACHED_FRAME_BYTES = 256 * 2**20

# Decodes the frames of a reliable index in place of PyAV: called as `other_decoder(file, index, frame, aspect_ratio, indices,
# frame_transform)` with the first frame of the video and distinct indices. Returns the frames and the (height, width) of a
# picture, or None to let PyAV decode.
other_decoder: Callable | None = None


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
    select = FrameSelector(sample_indices_fn, name)
    # If the frames differ from the index, or may be damaged, one thread decides by the same packets, and if they differ again,
    # decoding in order, which finds the actual frames or reports the damage.
    for max_threads in (num_threads, 1):
        with open_container(file, name, probe=False) as (container, stream):
            configure_decoder(stream, max_threads, limits=limits)
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
                f"{name} is damaged: {mp4_fault.text}.",
                "allow_partial=True decodes its frames, whose times may be wrong.",
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
            f"{name} is cut off: the file ends after frame {len(index.frame_packets) - 1} and is shorter than it states.",
            "allow_partial=True decodes the frames that exist.",
        )
    if index.corrupt_packets:
        raise VideoDecodeError(
            f"{name} is damaged: {len(index.corrupt_packets)} of its {len(index.headers)} packets, the first of them packet "
            f"{index.corrupt_packets[0]}, are marked as corrupt; if the file was joined from parts, `ffmpeg -i INPUT -c copy OUTPUT.mp4` mends it.",
            "allow_partial=True decodes them all the same.",
        )
    if index.num_lost > 0:
        raise VideoDecodeError(
            f"{name} is damaged: {index.num_lost} of the {index.num_lost + len(index.headers)} packets that its index lists are "
            "not in the file.",
            "allow_partial=True decodes the others.",
        )
    duration = None if container.duration is None else container.duration / import_av().time_base
    if has_format(container, "matroska") and index.has_gaps(
        duration
    ):  # rarely, because it reads the headers of all blocks
        position = find_matroska_damage(file)
        if position is not None:
            raise VideoDecodeError(
                f"{name} is damaged at byte {position}, and frames after it are lost.",
                "allow_partial=True decodes the others.",
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
    indices = FrameSelector(sample_indices_fn, folder)(metadata)
    paths = (os.path.join(folder, frames.names[index]) for index in np.unique(indices).tolist())
    return assemble_clip(paths, FrameReader(), frame_transform, indices, metadata)


def _decode_animation(animation: WebPAnimation, sample_indices_fn: Callable | None, frame_transform):
    num_frames = len(animation.timestamps)
    metadata = TubeViTVideoMetadata(
        total_num_frames=num_frames,
        fps=num_frames / animation.duration,
        duration=animation.duration,
        video_backend="pil",
        timestamps=animation.timestamps,
    )
    indices = FrameSelector(sample_indices_fn, animation.name)(metadata)
    return assemble_clip(iter(np.unique(indices).tolist()), animation, frame_transform, indices, metadata)


# Decoding by the index


def _decode_by_index(index: VideoIndex, container, stream, select: FrameSelector, frame_transform, file):
    """Decode the selected frames only. Raises IndexMismatch, or an error of FFmpeg, if the stream differs from the index."""
    metadata = frame_metadata(index, index.frame_pts)
    indices = select(metadata)
    delay_output(index, stream.codec_context)
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
    return assemble_clip(chain([first], frames), convert, frame_transform, indices, metadata)


def _indexed_frames(index: VideoIndex, selected: list[int], container, stream) -> Generator:
    """Decode the frames `selected` (ascending), one by one. Raises IndexMismatch if they differ from the index."""
    runs = index.runs(selected)
    if stream.codec_context.name == "mpeg4" and runs[0].first:
        prepare_mpeg4(index, container, stream)
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
        yield from finish_threads(codec)
    yield from codec.decode(None)


# Decoding in order


def _decode_in_order(index: VideoIndex, file, name, allow_partial, select: FrameSelector, frame_transform, limits):
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
    times = index.frame_pts if is_indexed else pts
    number_of = {time: number for number, time in enumerate(times)}
    numbers = [number_of[time] for time in pts] if is_indexed else list(range(len(pts)))
    metadata = frame_metadata(index, times)
    indices = select(metadata, numbers)
    selected = set(indices.tolist())
    if cached is not None:
        frames = iter(cached)
        return assemble_clip(_of_numbers(frames, numbers, selected), convert, frame_transform, indices, metadata)
    with closing(_all_frames(index, file, name, allow_partial, limits)) as frames:
        return assemble_clip(_of_numbers(frames, numbers, selected), convert, frame_transform, indices, metadata)


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
        configure_decoder(stream, num_threads=1, is_strict=not allow_partial, limits=limits)
        delay_output(index, stream.codec_context)
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
            f"{name} is damaged: decoding stops after {num_decoded} of {num_expected} frames ({reason(error)}).",
            "allow_partial=True returns these.",
        )
    decoded = set(pts)
    if is_indexed and index.guaranteed_times(range(len(index.headers))) - decoded:
        raise VideoDecodeError(
            f"{name} is damaged: only {num_decoded} of {num_expected} frames can be decoded.",
            "allow_partial=True returns these.",
        )
    if is_indexed and pts != [time for time in index.frame_pts if time in decoded]:
        raise VideoDecodeError(
            f"{name} is damaged: its frames have other times, or another order, than its index states.",
            "allow_partial=True returns them in the order in which they are decoded.",
        )
    if first_damaged is not None and not allow_partial:
        raise VideoDecodeError(
            f"{name} is damaged: FFmpeg had to conceal missing parts of frame {first_damaged}.",
            "allow_partial=True returns such frames.",
        )
