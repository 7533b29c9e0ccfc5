# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Frame sampling: the frame indices of each clip of a video. NumPy only.

A clip is `num_frames` frame indices in presentation order. `uniform_clips` spreads them over the whole video;
`fixed_rate_clips` takes `fps` frames per second from given start times, as the paper does (sec. 4.1: 64 frames at 15 fps
on Kinetics, 32 at 24 fps on Something-Something). Several clips of one video are its temporal views (the paper evaluates
4). The paper does not specify the start times of clips or the padding of short videos; both are our choices.
"""

import numpy as np


PAD_MODES = ("loop", "last", "error")
MAX_FRAMES = 65_536  # of a clip

# Seconds. Containers round frame times (Matroska to 1 ms), so a frame that starts this little after the requested time counts
# as visible at it. Not a multiple of 1 ms or of 1/30 ms: requested times and times at 29.97 fps differ by such multiples, and
# a tie would be decided by floating-point rounding.
TIME_TOLERANCE = 0.97e-3


def uniform_clips(
    total_num_frames: int,
    num_frames: int,
    num_clips: int = 1,
    pad_mode: str = "loop",
    offsets: np.ndarray | None = None,
) -> np.ndarray:
    """
    Clips that span the whole video: one frame from each of `num_frames` equal segments (as in TSN).

    Without `offsets`, clip `v` takes the frame at `(v + 1/2) / num_clips` of every segment: the center for a single clip,
    interleaved frames for several. Together, the clips have the frames of a single clip of `num_clips * num_frames` frames.
    If a video has fewer than `num_frames` frames, a clip has all of them in order, followed by padding.

    num_clips: number of clips (temporal views).
    pad_mode: padding of a video shorter than the clip: "loop" restarts the video, "last" repeats its last frame, "error"
        raises `ValueError`.
    offsets: positions in [0, 1) within the segments, `(num_clips, num_frames)`; uniformly random offsets are TSN's
        sampling for training.

    Returns int64 frame indices `(num_clips, num_frames)`.

    >>> uniform_clips(10, 5).tolist()
    [[1, 3, 5, 7, 9]]
    >>> uniform_clips(12, 3, num_clips=2).tolist()
    [[1, 5, 9], [3, 7, 11]]
    >>> uniform_clips(3, 5, pad_mode="last").tolist()
    [[0, 1, 2, 2, 2]]
    """
    if total_num_frames < num_frames:
        indices = _pad(np.arange(num_frames), total_num_frames, pad_mode)
        return np.tile(indices, (num_clips, 1))
    segments = np.arange(num_frames)
    if offsets is not None:
        indices = np.floor((segments + offsets) * total_num_frames / num_frames).astype(np.int64)
        return np.minimum(indices, total_num_frames - 1)  # the product may round up to the end
    # (segment + (v + 1/2) / num_clips) * total / num_frames in integer arithmetic, which has no rounding error
    halves = 2 * (segments * num_clips + np.arange(num_clips)[:, None]) + 1
    return halves * total_num_frames // (2 * num_frames * num_clips)


def fixed_rate_clips(
    timestamps: np.ndarray,
    end: float,
    num_frames: int,
    fps: float,
    starts: np.ndarray,
    pad_mode: str = "loop",
) -> np.ndarray:
    """
    Clips of `num_frames` frames at `fps`, one per start time: frame `k` is the frame visible at `start + k / fps`.

    timestamps: presentation time of each frame in seconds, ascending from 0, `(total_num_frames,)`. The frame rate may be
        variable.
    end: end of the video in seconds (`video_end`).
    fps: frames per second of the clips.
    starts: start times in seconds, `(num_clips,)`, each before `end`.
    pad_mode: padding after the end of the video: "loop" restarts the video, "last" repeats its last frame, "error" raises
        `ValueError`.

    Returns int64 frame indices `(num_clips, num_frames)`.

    >>> times = np.arange(30) / 30
    >>> fixed_rate_clips(times, 1.0, 4, 15, np.array([0.5])).tolist()
    [[15, 17, 19, 21]]
    >>> fixed_rate_clips(times, 1.0, 4, 3, np.array([0.0])).tolist()
    [[0, 10, 20, 0]]
    """
    total_num_frames = len(timestamps)
    tolerance = min(TIME_TOLERANCE, 0.25 * end / total_num_frames)
    times = np.asarray(starts, float)[:, None] + np.arange(num_frames) / fps + tolerance
    if pad_mode == "error" and times.max() >= end + tolerance:
        raise ValueError(
            f"The video is too short: {num_frames} frames at {fps:g} fps from {max(starts):.3f} s need "
            f"{times.max() - tolerance:.3f} s, it ends at {end:.3f} s; lower num_frames or raise fps, or set pad_mode to "
            "'loop' or 'last'."
        )
    if pad_mode == "loop":
        times = times % end
    return np.searchsorted(timestamps, times, side="right") - 1


def evenly_spaced_starts(end: float, clip_seconds: float, num_clips: int) -> np.ndarray:
    """
    Start times in seconds, `(num_clips,)`, of clips of `clip_seconds` in a video of `end` seconds.

    A single clip is centered. Of several, the first starts at 0 and the last ends with the video. If the video is shorter
    than a clip, all start at 0.

    >>> evenly_spaced_starts(10.0, 4.0, 1).tolist(), evenly_spaced_starts(10.0, 4.0, 4).tolist()
    ([3.0], [0.0, 2.0, 4.0, 6.0])
    """
    slack = max(0.0, end - clip_seconds)
    return np.array([slack / 2]) if num_clips == 1 else np.linspace(0.0, slack, num_clips)


def video_end(timestamps: np.ndarray, fallback_fps: float) -> float:
    """
    End of the video in seconds: the last timestamp plus the mean frame duration.

    The duration in the file's header is not used: it may be missing, or be the duration of a longer audio track.
    `fallback_fps` is the frame rate assumed for a video of one frame.
    """
    last = float(timestamps[-1])
    return last + (last / (len(timestamps) - 1) if last > 0 else 1 / fallback_fps)


def frame_times(metadata) -> np.ndarray:
    """
    Presentation time of each frame in seconds, float64 `(total_num_frames,)`, the first at 0.

    metadata: a `TubeViTVideoMetadata` with `timestamps`, or a `VideoMetadata` of Transformers, whose frame rate determines
        the times.

    Raises `ValueError` for metadata without times, frame rate and duration.
    """
    # In Transformers' VideoMetadata `timestamps` is a property, not a field, and holds the times of the sampled frames only.
    if "timestamps" in tuple(metadata) and metadata.timestamps is not None:
        return np.asarray(metadata.timestamps, float)
    return np.arange(metadata.total_num_frames) / frame_rate(metadata)


def frame_rate(metadata) -> float:
    """Frames per second: `metadata.fps`, else frames over `metadata.duration`. Raises `ValueError` if both are missing."""
    if metadata.fps:
        return metadata.fps
    if metadata.duration:
        return metadata.total_num_frames / metadata.duration
    raise ValueError(
        "Sampling at a fixed rate needs the frame rate of the video: pass it with the frames, as in video_metadata={'fps': 25}; "
        "for frame folders use {'path': FOLDER, 'fps': 25}, or the option frame_folder_fps."
    )


def num_frames_at_rate(total_num_frames: int, video_fps: float, fps: float) -> int:
    """
    Number of frames of the whole video at `fps`, rounded down as in Transformers, and at least 1. Raises `ValueError` for more
    than `MAX_FRAMES`.

    >>> num_frames_at_rate(8, 4.0, 3.0)
    6
    """
    num_frames = total_num_frames / video_fps * fps
    if num_frames > MAX_FRAMES:
        raise ValueError(
            f"fps={fps:g} gives {num_frames:,.0f} frames of a video of {total_num_frames / video_fps:,.0f} s; lower fps to at most "
            f"{MAX_FRAMES} frames."
        )
    return max(1, int(num_frames))


def _pad(indices: np.ndarray, total_num_frames: int, pad_mode: str) -> np.ndarray:
    """Map indices past the end of the video to existing frames. Raises `ValueError` for `pad_mode="error"`."""
    if pad_mode == "loop":
        return indices % total_num_frames
    if pad_mode == "last":
        return np.minimum(indices, total_num_frames - 1)
    raise ValueError(
        f"The video is too short: it has {total_num_frames} frames and the clip {len(indices)}; lower num_frames, or set "
        "pad_mode to 'loop' or 'last'."
    )
