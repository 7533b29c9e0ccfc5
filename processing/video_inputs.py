# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Input types of the video processor, and frame sampling for videos that are already decoded.

Encoded videos: a path, URL, bytes, binary file object, `{"path": ..., "bytes": ...}` (a row of `datasets.Video(decode=False)`),
also with a segment (`video_segments`), a frame folder (`frame_folders`), or a torchcodec `VideoDecoder` (a row of
`datasets.Video()`). Decoded videos: an array or tensor `(frames, height, width, channels)` or
`(frames, channels, height, width)`, or a list of frames (PIL images, arrays or tensors). Batches: lists of these, nested
or flat, and arrays with a leading batch axis.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from .clip_assembly import TubeViTVideoMetadata
from .decoded_frames import FrameSequence
from .processor_settings import is_number


MAX_SECONDS = 10_000_000  # of a video, and frames per second


def flatten_videos(videos: Any) -> list:
    """
    Flattens nested lists and batches of videos to one list, in order.

    An entry is an encoded video, a 4-dimensional array or tensor, a list of frames, or a list of paths of image files. As
    in Transformers, paths in lists of three levels are frames of videos; paths in fewer levels are videos. The videos of a
    `datasets` column, `dataset["video"]`, are read undecoded.

    Raises `ValueError` or `TypeError` for an empty list or batch and for other types and shapes.
    """
    if hasattr(videos, "column_name") and hasattr(videos.features, "decode"):  # a column of a data set in memory
        undecoded = replace(videos.features, decode=False)
        videos = list(videos.source.cast_column(videos.column_name, undecoded)[videos.column_name])
    if _holds_frame_files(videos):
        return [frame_files for batch in videos for frame_files in batch]
    if is_encoded(videos) or is_torchcodec_decoder(videos):
        return [videos]
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        if videos.ndim == 5 and not len(videos):
            raise ValueError(f"Got an empty batch of videos, of shape {tuple(videos.shape)}.")
        if videos.ndim == 5:
            return list(videos)
        if videos.ndim == 4:
            return [videos]
        raise ValueError(
            "Decoded videos are (frames, height, width, channels) or (frames, channels, height, width), with a leading batch "
            f"axis for several, got shape {tuple(videos.shape)}; for images use the image processor."
        )
    if not isinstance(videos, Sequence):
        raise TypeError(
            "A video is a path, URL, bytes, file object, array, tensor, list of frames, or a list of these, got "
            f"{type(videos).__name__}."
        )
    if not videos:
        raise ValueError("Got an empty list instead of videos or frames.")
    if all(_is_frame(item) for item in videos):
        return [videos]
    return [video for item in videos for video in flatten_videos(item)]


def is_encoded(video: Any) -> bool:
    """Whether `video` is of a type that `decode_video` reads."""
    return isinstance(video, (str, os.PathLike, bytes, bytearray, memoryview, dict)) or hasattr(video, "read")


def with_frame_rate(video: Any, given: dict | VideoMetadata | None) -> Any:
    """`video`, with the frame rate in the metadata `given` if it is a frame folder without one."""
    row = video if isinstance(video, dict) else {"path": video}
    fps = given.get("fps") if isinstance(given, dict) else None if given is None else given.fps
    if fps is None or row.get("fps") is not None or row.get("bytes") is not None:
        return video
    path = row.get("path")
    return {**row, "fps": fps} if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else video


def is_torchcodec_decoder(video: Any) -> bool:
    """Whether `video` has the methods of a torchcodec `VideoDecoder`; torchcodec need not be installed."""
    return hasattr(video, "get_frames_at") and hasattr(video, "metadata")


def is_frame_files(video: Any) -> bool:
    """Whether `video` is a list of paths of image files, one per frame."""
    return isinstance(video, (list, tuple)) and isinstance(video[0], (str, os.PathLike))


def encoded_source(decoder: Any) -> dict | None:
    """
    The encoded video of a torchcodec decoder created by `datasets`; `None` if neither its bytes nor its file are available.

    `decode_video` then reads it, so that the pixels equal those from any other source of the same video.
    """
    # `datasets` sets `_hf_encoded` on the decoders that it creates; torchcodec's own decoders have no such attribute.
    source = decoder._hf_encoded if hasattr(decoder, "_hf_encoded") else None
    if source is None:
        return None
    path = source.get("path")
    if source.get("bytes") is not None or (path is not None and os.path.isfile(path)):
        return source
    return None


def flatten_metadata(video_metadata: Any, num_videos: int) -> list:
    """One entry (`VideoMetadata`, dictionary or `None`) per video, from one entry or a flat or nested list.

    Raises `ValueError` for another number of entries.
    """
    if video_metadata is None:
        return [None] * num_videos
    entries = [video_metadata] if isinstance(video_metadata, (dict, VideoMetadata)) else list(video_metadata)
    if entries and isinstance(entries[0], (list, tuple)):
        entries = [entry for group in entries for entry in group]
    if len(entries) != num_videos:
        raise ValueError(
            f"Got {num_videos} videos and {len(entries)} entries of video_metadata; pass one for each video."
        )
    return entries


def decoded_metadata(given: dict | VideoMetadata | None, num_frames: int) -> VideoMetadata:
    """
    Metadata of decoded frames: a copy of `given`, with the number of frames added if it is missing.

    Raises `ValueError` for an unknown entry, and for a rate, duration or times that no video has.
    """
    if given is None:
        return VideoMetadata(total_num_frames=num_frames, frames_indices=list(range(num_frames)))
    if isinstance(given, dict):
        known = TubeViTVideoMetadata.__dataclass_fields__
        if unknown := set(given) - set(known):
            raise ValueError(f"video_metadata has no entry {min(unknown)!r}; it has: {', '.join(known)}.")
        given = TubeViTVideoMetadata(**{"total_num_frames": num_frames, **given})
    for name, value in (("fps", given.fps), ("duration", given.duration)):
        if value and not (is_number(value) and 0 < value <= MAX_SECONDS):
            raise ValueError(
                f"video_metadata: {name} must be a number above 0 and at most {MAX_SECONDS:,}, got {value!r}."
            )
    if "timestamps" in tuple(given) and given.timestamps is not None:  # not the property of `VideoMetadata`
        times = np.asarray(given.timestamps, float)
        if times.shape != (given.total_num_frames,) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(
                f"video_metadata: timestamps must be {given.total_num_frames} ascending times in seconds, one per frame, got shape "
                f"{times.shape}: {np.array2string(times.ravel()[:4], separator=', ')} ..."
            )
        return replace(given, timestamps=times - times[0])  # type: ignore[call-arg]  # a field of TubeViTVideoMetadata
    return replace(given)


def take_frames(
    frames: FrameSequence,
    metadata: VideoMetadata,
    sample_indices_fn: Callable | None,
    frame_transform: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, VideoMetadata]:
    """
    Sample decoded frames; all of them if `sample_indices_fn` is `None`.

    `frame_transform` is called once per distinct sampled frame, with `(1, channels, height, width)`. Returns the frames in
    the order of the indices, `(frames, channels, height, width)`, and the metadata with `frames_indices`. Without
    `sample_indices_fn`, `metadata.frames_indices` is unchanged, or if it is `None`, set to all indices, unless
    `metadata.total_num_frames` is another number.

    Raises `ValueError` if `metadata.total_num_frames` is not the number of frames to sample from, or for frames of several
    sizes.
    """
    if sample_indices_fn is None:
        indices = np.arange(len(frames))
        if metadata.frames_indices is None and metadata.total_num_frames == len(frames):
            metadata.frames_indices = indices.tolist()
    elif metadata.total_num_frames != len(frames):
        raise ValueError(
            f"video_metadata has total_num_frames={metadata.total_num_frames}, the video has {len(frames)} frames; pass "
            "all frames, or do_sample_frames=False for frames that are already sampled."
        )
    else:
        indices = np.asarray(sample_indices_fn(metadata=metadata))
        metadata.frames_indices = indices.tolist()
    transformed, sizes = {}, set()
    for index in np.unique(indices).tolist():
        frame = frames[index]
        sizes.add(tuple(frame.shape))
        transformed[index] = frame_transform(frame.unsqueeze(0))
    if len(sizes) > 1:
        raise ValueError(f"The frames of a video must have one size, got {', '.join(map(str, sorted(sizes)))}.")
    return torch.cat([transformed[index] for index in indices.tolist()]), metadata


def take_from_torchcodec(
    decoder: Any, sample_indices_fn: Callable | None, frame_transform: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, VideoMetadata]:
    """`take_frames` for a torchcodec decoder, which decodes only the sampled frames. Frame times assume its average rate."""
    info = decoder.metadata
    metadata = VideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.average_fps,
        width=info.width,
        height=info.height,
        duration=info.duration_seconds,
        video_backend="torchcodec",
    )
    all_indices = range(metadata.total_num_frames)
    indices = np.asarray(all_indices if sample_indices_fn is None else sample_indices_fn(metadata=metadata))
    metadata.frames_indices = indices.tolist()
    distinct, inverse = np.unique(indices, return_inverse=True)
    frames, _ = take_frames(
        FrameSequence(decoder.get_frames_at(distinct.tolist()).data),
        VideoMetadata(len(distinct)),
        None,
        frame_transform,
    )
    return frames[torch.from_numpy(inverse)], metadata


def _is_frame(item: Any) -> bool:
    """Whether `item` is a single frame: a PIL image, or an array or tensor of 3 dimensions."""
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim == 3)


def _holds_frame_files(videos: Any) -> bool:
    """Whether `videos` has paths at the third level of lists, which are frames."""
    for _ in range(2):
        if not isinstance(videos, (list, tuple)) or not videos:
            return False
        videos = videos[0]
    return isinstance(videos, (list, tuple)) and bool(videos) and is_frame_files(videos)
