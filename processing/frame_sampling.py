# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Which frames of a video make up its clips: index arithmetic, numpy only.

A clip is `num_frames` frame indices in presentation order. `uniform_clips` spreads them over the whole video;
`fixed_rate_clips` takes them at `fps` frames per second from given start times, as the paper does (sec. 4.1: 64 frames
at 15 fps on Kinetics, 32 at 24 fps on Something-Something). Several clips of one video are its temporal views (the paper
evaluates 4). The paper leaves open how clips are placed and what happens to short videos; those choices are ours.
"""

import numpy as np


PAD_MODES = ("loop", "last", "error")

# Containers round frame times (Matroska to 1 ms): a frame that starts this little after the wanted time is shown at it. Not a
# whole number of ms or of thirtieths of one, by which wanted times and those of 29.97 frames per second differ.
TIME_TOLERANCE = 0.97e-3


def uniform_clips(
    total_num_frames: int,
    num_frames: int,
    num_clips: int = 1,
    pad_mode: str = "loop",
    offsets: np.ndarray | None = None,
) -> np.ndarray:
    """
    Clips that span the whole video: one frame from each of `num_frames` equal segments (TSN's rule).

    Without `offsets`, clip `v` takes the frame at `(v + 1/2) / num_clips` of every segment: the centre for a single clip,
    and for several clips interleaved frames, which together are the single clip of `num_clips * num_frames` frames.
    A video with fewer than `num_frames` frames gives all of them in order and is then padded by `pad_mode`.

    offsets: positions in [0, 1) within the segments, `(num_clips, num_frames)`; drawn at random they are TSN's
        training rule.

    Returns indices `(num_clips, num_frames)`.

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
    # (segment + (v + 1/2) / num_clips) * total / num_frames, kept in integers: a float would miss whole numbers
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
    Clips of `num_frames` frames at `fps`, one for each start time: the frame on screen at `start + k / fps`.

    timestamps: time of each frame in seconds, ascending from 0, `(total_num_frames,)`. Any spacing: a video of variable
        frame rate gives the frames that a viewer sees at the wanted times.
    end: when the last frame leaves the screen, in seconds (`video_end`).
    starts: start times in seconds, `(num_clips,)`, each before `end`.
    pad_mode: what follows the end of the video: "loop" starts it over, "last" holds its last frame, "error" refuses.

    Returns indices `(num_clips, num_frames)`.

    >>> times = np.arange(30) / 30
    >>> fixed_rate_clips(times, 1.0, 4, 15, np.array([0.5])).tolist()
    [[15, 17, 19, 21]]
    >>> fixed_rate_clips(times, 1.0, 4, 3, np.array([0.0])).tolist()
    [[0, 10, 20, 0]]
    """
    total_num_frames = len(timestamps)
    tolerance = min(TIME_TOLERANCE, 0.25 * end / total_num_frames)
    wanted = np.asarray(starts, float)[:, None] + np.arange(num_frames) / fps + tolerance
    if pad_mode == "error" and wanted.max() >= end + tolerance:
        raise ValueError(
            f"The video is too short: {num_frames} frames at {fps:g} fps from {max(starts):.3f} s need "
            f"{wanted.max() - tolerance:.3f} s, it ends at {end:.3f} s; lower num_frames or raise fps, or set pad_mode to "
            "'loop' or 'last'."
        )
    if pad_mode == "loop":
        wanted = wanted % end
    return np.searchsorted(timestamps, wanted, side="right") - 1


def evenly_spaced_starts(end: float, clip_seconds: float, num_clips: int) -> np.ndarray:
    """
    Start times of `num_clips` clips of `clip_seconds` in a video of `end` seconds, `(num_clips,)`.

    One clip lies in the middle; of several, the first starts at 0 and the last ends with the video. In a video shorter
    than a clip all start at 0.

    >>> evenly_spaced_starts(10.0, 4.0, 1).tolist(), evenly_spaced_starts(10.0, 4.0, 4).tolist()
    ([3.0], [0.0, 2.0, 4.0, 6.0])
    """
    slack = max(0.0, end - clip_seconds)
    return np.array([slack / 2]) if num_clips == 1 else np.linspace(0.0, slack, num_clips)


def video_end(timestamps: np.ndarray, fallback_fps: float) -> float:
    """
    When the last frame leaves the screen, in seconds: it is taken to stay for the mean frame time of the video.

    The duration in a file's header is not used: it may be missing, or that of a longer sound track. `fallback_fps` serves
    a video of one frame.
    """
    last = float(timestamps[-1])
    return last + (last / (len(timestamps) - 1) if last > 0 else 1 / fallback_fps)


def frame_times(metadata) -> np.ndarray:
    """
    Time of each frame of a video in seconds from the first: as its file says (`timestamps`), or by its frame rate.

    metadata: a `VideoMetadata` of the library or of `decode_video`.
    """
    # The library's VideoMetadata has `timestamps` of another meaning (the sampled frames'), as a property, not a field.
    if "timestamps" in tuple(metadata) and metadata.timestamps is not None:
        return np.asarray(metadata.timestamps, float)
    return np.arange(metadata.total_num_frames) / frame_rate(metadata)


def frame_rate(metadata) -> float:
    """Frames per second of a video, by its metadata."""
    if metadata.fps:
        return metadata.fps
    if metadata.duration:
        return metadata.total_num_frames / metadata.duration
    raise ValueError(
        "Sampling at a rate needs the frame rate of the video; pass it with the frames, as video_metadata={'fps': 25}."
    )


def num_frames_at_rate(total_num_frames: int, video_fps: float, fps: float) -> int:
    """
    How many frames a whole video has at `fps`, at least one (rounded down, as the library does).

    >>> num_frames_at_rate(8, 4.0, 3.0)
    6
    """
    return max(1, int(total_num_frames / video_fps * fps))


def _pad(indices: np.ndarray, total_num_frames: int, pad_mode: str) -> np.ndarray:
    """Bring indices that run past the end of a video back into it."""
    if pad_mode == "loop":
        return indices % total_num_frames
    if pad_mode == "last":
        return np.minimum(indices, total_num_frames - 1)
    raise ValueError(
        f"The video is too short: it has {total_num_frames} frames and the clip {len(indices)}; lower num_frames, or set "
        "pad_mode to 'loop' or 'last'."
    )
