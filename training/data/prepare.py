# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data prepare`: re-encodes the videos of a folder, with the same layout, so that they decode faster.

Annotations stay valid: files are found by their name with any video suffix, so only `video_root` changes. A copy keeps all frames
and their times, so time segments stay valid too. A folder of numbered pictures becomes one file. Originals are not changed. A
stopped run can be continued, and a folder never mixes copies with different settings.

By default a copy has a short side of 256 pixels and a key frame every 24 frames. Its index is at the front, and it has no
sound. All frames of the original are decoded by our own decoder: upright, with square pixels, and with their times. The encoding
is the H.264 variant that decoded fastest on 340x256 clips like those of Kinetics: x264's "fastdecode" (no CABAC, no deblocking)
saves a third of the time, and three in four frames are B-frames that no other frame refers to, so the decoder skips them when
they are not sampled. Key frames every 12 instead of 24 frames saved nothing.
"""

import argparse
import csv
import json
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command_line import whole_number
from .media_files import describe_left_out, frame_folders, kind_of, scan_folder
from .worker_processes import ItemFailed, map_in_processes


if TYPE_CHECKING:
    import torch


SETTINGS_FILE = "prepare.json"
FAILED_FILE = "failed.csv"
NUM_TIMED, ROUNDS, NUM_STARTS = 8, 5, 3  # timing: number of videos, rounds, clips per video

TIME_BASE = Fraction(1, 90_000)
SECONDS_PER_VIDEO = 6 * 3600.0  # a decoder that hangs must not keep the others waiting for ever
MAX_PART_BYTES = 192 * 2**20  # resized frames in memory; a longer video is decoded in parts
ENCODER = "libx264"
X264_OPTIONS = "scenecut=0:open-gop=0:b-pyramid=none:b-adapt=0:log-level=error"
NUM_B_FRAMES = 3  # consecutive
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class PrepareSettings:
    """
    Settings of the encoder.

    short_side: short side of the copy in pixels; smaller videos keep their size.
    gop: distance between key frames, in frames.
    crf: x264's constant rate factor, 0 (lossless) to 51; x264's default is 23, and 18 is visually close to the original.
    preset: x264's preset, one of `PRESETS`; slower presets give smaller files.
    frame_folder_fps: frame rate of videos that are folders of pictures, in frames per second.
    """

    short_side: int = 256
    gop: int = 24
    crf: int = 23
    preset: str = "veryfast"
    frame_folder_fps: float | None = None

    def __post_init__(self):
        if self.short_side < 2:
            raise ValueError(f"short_side must be at least 2, got {self.short_side}.")
        if self.gop < 1:
            raise ValueError(f"gop must be at least 1, got {self.gop}.")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must be from 0 to 51, got {self.crf}.")
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}.")
        if self.frame_folder_fps is not None and not 0 < self.frame_folder_fps < math.inf:
            raise ValueError(f"frame_folder_fps must be a finite number above 0, got {self.frame_folder_fps}.")

    def record(self) -> dict[str, Any]:
        """The content of `SETTINGS_FILE`."""
        return {name: value for name, value in vars(self).items() if value is not None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", metavar="FOLDER", help="folder of videos; its subfolders are included")
    parser.add_argument("target", nargs="?", metavar="OUT", help="folder for the copies")
    parser.add_argument(
        "--short-side",
        type=int,
        default=256,
        metavar="N",
        help="short side of the copies, in pixels; smaller videos keep their size (default: 256)",
    )
    parser.add_argument(
        "--gop", type=int, default=24, metavar="N", help="distance between key frames, in frames (default: 24)"
    )
    parser.add_argument(
        "--crf", type=int, default=23, metavar="N", help="x264's constant rate factor, 0 to 51 (default: 23)"
    )
    parser.add_argument(
        "--preset", default="veryfast", metavar="NAME", help=f"x264's preset: {', '.join(PRESETS)} (default: veryfast)"
    )
    parser.add_argument(
        "--workers", type=whole_number(1), metavar="N", help="number of processes (default: one per CPU core)"
    )
    parser.add_argument(
        "--num-frames",
        type=whole_number(1),
        default=32,
        metavar="N",
        help="frames per clip in the timing at the end (default: 32)",
    )
    parser.add_argument(
        "--frame-folder-fps",
        type=float,
        metavar="FPS",
        help="also make copies of folders of numbered pictures (V/img_00001.jpg becomes V.mp4), at this frame rate",
    )
    parser.add_argument("--no-timing", action="store_true", help="do not time the decoding of originals and copies")


def run(args: argparse.Namespace) -> int:
    """Write the copies and print their sizes and speed; the exit code is 1 if a video could not be read."""
    settings = PrepareSettings(args.short_side, args.gop, args.crf, args.preset, args.frame_folder_fps)
    if args.source is None or args.target is None:
        raise ValueError("Give a folder of videos and a folder for their copies: tubevit data prepare FOLDER OUT.")
    source, target = Path(args.source), Path(args.target)
    pairs = plan_copies(source, target, settings.frame_folder_fps)
    claim_target(target, settings.record())
    waiting = [pair for pair in pairs if needs_copy(*pair)]
    if len(waiting) < len(pairs):
        print(f"{len(pairs) - len(waiting):,} of {len(pairs):,} videos have a copy already.")
    check_disk(target, waiting)
    failed = prepare_all(waiting, settings, args.workers)
    done = [pair for pair in pairs if pair[1].exists()]
    print(f"{len(done):,} of {len(pairs):,} videos are ready in {target}, {describe_sizes(done)}.")
    if done and not args.no_timing:
        print(describe_speed(time_decoding(done, args.num_frames, settings.frame_folder_fps), args.num_frames))
    write_failed(failed, target / FAILED_FILE)
    if failed:
        path, reason = failed[0]
        print(
            f"{len(failed):,} videos could not be read; {target / FAILED_FILE} lists the reasons. The first: {path}: {reason}"
        )
    return 1 if failed else 0


def plan_copies(source: Path, target: Path, frame_folder_fps: float | None = None) -> list[tuple[Path, Path]]:
    """
    `(original, copy)` of every video in `source`. Copies have the same relative path, with the suffix .mp4. With
    `frame_folder_fps`, folders of numbered pictures are videos.

    Raises `FileNotFoundError` for a missing folder, and `ValueError` if one folder contains the other, if there are no videos,
    and if two videos would have the same copy.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source}.")
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise ValueError(
            f"{target} and {source} must not contain each other: give a folder for the copies outside of the originals."
        )
    tree = scan_folder(source)
    folders = [folder.path for folder in frame_folders(tree) if folder.path != source]
    videos = [
        (video, (target / video.relative_to(source)).with_suffix(".mp4"))
        for video in tree.files(without=set(folders), unique=False)
        if kind_of(video) == "video"
    ]
    if folders and frame_folder_fps is None:
        found = f"{len(folders):,} folders of numbered pictures ({folders[0].relative_to(source)}, ...)"
        if not videos:
            raise ValueError(f"{source} holds {found} and no videos: give their frame rate, --frame-folder-fps FPS.")
        print(f"Left out: {found}; --frame-folder-fps FPS makes copies of them too.")
    elif folders:
        named = ((path, target / path.relative_to(source)) for path in folders)
        videos += [(path, copy.with_name(f"{copy.name}.mp4")) for path, copy in named]
    elif frame_folder_fps is not None:
        print(f"--frame-folder-fps has no effect: {source} holds no folders of numbered pictures.")
    for message in describe_left_out(tree, []):
        print(message)
    if not videos:
        raise ValueError(f"{source} holds no videos.")
    by_copy = defaultdict(list)
    for video, copy in sorted(videos):
        by_copy[copy].append(video)
    for copy, originals in by_copy.items():
        if len(originals) > 1:
            names = " and ".join(str(path) for path in originals)
            raise ValueError(f"{names} would both become {copy}: rename one of them.")
    return [(originals[0], copy) for copy, originals in by_copy.items()]


def claim_target(target: Path, settings: dict[str, Any]) -> None:
    """Create `target` and write the settings to it. Raises `ValueError` if it holds other files, or copies with other settings."""
    record = target / SETTINGS_FILE
    if record.is_file():
        earlier = json.loads(record.read_text(encoding="utf-8"))
        if earlier != settings:
            changed = [f"{name}={earlier.get(name)}" for name in settings if earlier.get(name) != settings[name]]
            raise ValueError(
                f"{target} was prepared with {', '.join(changed)}: use the same settings or another folder."
            )
    elif target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty and was not written by `tubevit data prepare`: give another folder.")
    target.mkdir(parents=True, exist_ok=True)
    (target / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def needs_copy(original: Path, copy: Path) -> bool:
    """Whether there is no copy, or the original is newer than the copy."""
    return not copy.exists() or (original.exists() and copy.stat().st_mtime < original.stat().st_mtime)


def check_disk(target: Path, waiting: list[tuple[Path, Path]]) -> None:
    """Print a warning if the disk has less space than the originals take; copies are rarely larger than originals."""
    needed, free = sum(_size_of(original) for original, _ in waiting), shutil.disk_usage(target).free
    if needed > free:
        print(
            f"The originals take {_format_size(needed)} and {target} has {_format_size(free)} left: the copies may not fit. "
            "If the disk is full, the run stops and can be continued later."
        )


def prepare_all(
    pairs: list[tuple[Path, Path]], settings: PrepareSettings, num_workers: int | None
) -> list[tuple[str, str]]:
    """Write all copies. Returns `(path, reason)` of the videos that cannot be read. Raises `OSError` for a full disk."""
    failed = []
    work = partial(prepare_one, settings=settings)
    for (original, _), reason in map_in_processes(
        work, pairs, len(pairs), num_workers, "preparing videos", seconds_per_item=SECONDS_PER_VIDEO
    ):
        if isinstance(reason, ItemFailed):
            reason = str(reason)
        if reason is not None:
            failed.append((str(original), reason))
    return sorted(failed)


def prepare_one(pair: tuple[Path, Path], settings: PrepareSettings) -> str | None:
    """Write one copy. Returns the reason why the original cannot be read, or `None` if the copy was written."""
    from av import FFmpegError

    original, copy = pair
    try:
        prepare_video(original, copy, settings)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if isinstance(error, (OSError, FFmpegError)) and error.filename not in (None, str(original)):
            raise  # the copy cannot be written
        return " ".join(str(error).split()).removeprefix(f"{original} ")
    return None


def write_failed(failed: list[tuple[str, str]], path: Path) -> None:
    """Write a CSV file with a line per video that could not be read; if `failed` is empty, remove an earlier file."""
    if not failed:
        path.unlink(missing_ok=True)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows(failed)


# Timing and sizes


def time_decoding(
    pairs: list[tuple[Path, Path]], num_frames: int, frame_folder_fps: float | None = None
) -> dict[str, float]:
    """
    Median CPU time in milliseconds to read a training clip of `num_frames` frames at 15 frames per second, with one decoder
    thread. Originals and copies are timed alternately.
    """
    import statistics

    from tubevit.processing import TubeViTVideoProcessor

    from ..timing import interleave
    from .augmentation import AugmentationConfig
    from .clip_sampling import RandomClipReader

    processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=15)
    read = RandomClipReader(processor, AugmentationConfig(), mirror=False, num_threads=1)
    step = max(1, len(pairs) // NUM_TIMED)
    medians: dict[str, list[float]] = {"original": [], "copy": []}
    for original, copy in pairs[::step][:NUM_TIMED]:
        sources = {"original": _source(original, frame_folder_fps), "copy": _source(copy)}
        calls = {name: partial(_read_clips, read, source) for name, source in sources.items()}
        for name, timings in interleave(calls, ROUNDS, description="timing").items():
            medians[name].append(1e3 * statistics.median(timing.cpu for timing in timings) / NUM_STARTS)
    return {name: statistics.median(values) for name, values in medians.items()}


def _read_clips(read: Any, source: dict[str, Any]) -> None:
    for seed in range(NUM_STARTS):
        read(source, seed)


def _source(path: str | Path, frame_folder_fps: float | None = None) -> dict[str, Any]:
    return {"path": str(path), **({"fps": frame_folder_fps} if Path(path).is_dir() else {})}


def describe_speed(times: dict[str, float], num_frames: int) -> str:
    """The result of `time_decoding` in a sentence."""
    return (
        f"Reading a clip of {num_frames} frames takes {times['original']:.1f} ms from an original and {times['copy']:.1f} ms "
        f"from a copy, {times['original'] / times['copy']:.1f} times as fast (medians of up to {NUM_TIMED} videos, one thread)."
    )


def describe_sizes(pairs: list[tuple[Path, Path]]) -> str:
    """The total size of copies and originals, as "1.0 MiB from 2.0 MiB"."""
    before, after = (sum(_size_of(pair[side]) for pair in pairs) for side in (0, 1))
    return f"{_format_size(after)} from {_format_size(before)}"


def _size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a frame folder."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0  # a link may lead nowhere
    with os.scandir(path) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())


def _format_size(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


# One video


def prepare_video(source: str | Path, target: str | Path, settings: PrepareSettings) -> None:
    """
    Write the copy of `source` to `target`, an .mp4, under a temporary name until it is complete.

    Raises the errors of `decode_video` for a video that cannot be read, and `OSError` if `target` cannot be written.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        _encode(source, unfinished, settings)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _encode(source: str | Path, path: Path, settings: PrepareSettings) -> None:
    import av
    import numpy as np

    options = {"crf": str(settings.crf), "preset": settings.preset, "tune": "fastdecode", "x264-params": X264_OPTIONS}
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        stream = None
        for frames, times, aspect_ratio in _decode_in_parts(
            _source(source, settings.frame_folder_fps), settings.short_side
        ):
            if stream is None:
                stream = container.add_stream(ENCODER, options=options)
                stream.height, stream.width, stream.pix_fmt = *frames.shape[-2:], "yuv420p"
                # Even sides change the aspect ratio of small frames by more than 1 %; the decoder undoes this.
                pixel = aspect_ratio * stream.height / stream.width
                stream.codec_context.sample_aspect_ratio = pixel.limit_denominator(1000)
                stream.time_base = stream.codec_context.time_base = TIME_BASE
                stream.codec_context.gop_size, stream.codec_context.max_b_frames = settings.gop, NUM_B_FRAMES
                stream.codec_context.thread_count = 1
            for picture, seconds in zip(frames.permute(0, 2, 3, 1).numpy(), times, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = round(seconds / TIME_BASE), TIME_BASE
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _decode_in_parts(
    source: dict[str, Any], short_side: int
) -> Iterator[tuple["torch.Tensor", list[float], Fraction]]:
    """
    The frames of a video, resized, uint8 `(frames, 3, height, width)`, their times in seconds, and width over height of the video
    before, part by part.
    """
    from tubevit.processing import decode_video

    first, total, per_part = 0, 1, 1
    while first < total:
        found = {}

        def select(metadata, first=first, per_part=per_part, found=found):
            found["metadata"] = metadata
            return range(first, min(first + per_part, metadata.total_num_frames))

        frames, metadata = decode_video(
            source, select, frame_transform=lambda frames: resize_short_side(frames, short_side), num_threads=1
        )
        total, per_part = metadata.total_num_frames, max(1, MAX_PART_BYTES // frames[0].numel())
        times = found["metadata"].timestamps[first : first + len(frames)].tolist()
        yield frames, times, Fraction(metadata.width, metadata.height)
        first += len(frames)


def resize_short_side(frames: "torch.Tensor", short_side: int) -> "torch.Tensor":
    """
    Resize frames `(frames, channels, height, width)` to a short side of at most `short_side` pixels. Sides become even, as
    H.264 requires.

    >>> import torch
    >>> resize_short_side(torch.zeros(1, 3, 241, 321, dtype=torch.uint8), 256).shape[-2:]
    torch.Size([240, 320])
    """
    from torchvision.transforms import v2

    height, width = frames.shape[-2:]
    scale = min(1.0, short_side / min(height, width))
    size = [max(2, 2 * int(side * scale / 2)) for side in (height, width)]
    return frames if size == [height, width] else v2.functional.resize(frames, size, antialias=True)
