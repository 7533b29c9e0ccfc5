# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data prepare`: re-encodes the videos of a folder, with the same layout, so that they decode faster.

Annotations stay valid: files are found by their name with any video suffix, so only `video_root` changes. A copy keeps all frames
and their times, so time segments stay valid too. A folder of numbered pictures becomes one file. Originals are not changed. A
stopped run can be continued, and a folder never mixes copies with different settings.
"""

import argparse
import csv
import json
import os
import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from ..command_line import whole_number
from .encoding import FRAME_SUFFIXES, PRESETS, PrepareSettings, prepare_video, source_of
from .media_files import describe_left_out, frame_folders, kind_of, scan_folder
from .worker_processes import ItemFailed, map_in_processes


SETTINGS_FILE = "prepare.json"
FAILED_FILE = "failed.csv"
NUM_TIMED, ROUNDS, NUM_STARTS = 8, 5, 3  # timing: number of videos, rounds, clips per video

SECONDS_PER_VIDEO = 6 * 3600.0  # a decoder that hangs must not keep the others waiting for ever
RATES_FILE = "frame_rates.csv"
FOLDER_FPS = 25.0  # in the timing of folders of pictures, which have no rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", metavar="FOLDER", help="folder of videos; its subfolders are included")
    parser.add_argument("target", nargs="?", metavar="OUT", help="folder for the copies")
    add_encoder_arguments(parser)
    parser.add_argument(
        "--to",
        choices=("video", "frames"),
        default="video",
        help="format of a copy: a video, or a folder of numbered pictures (default: video)",
    )
    parser.add_argument(
        "--frame-format",
        choices=FRAME_SUFFIXES,
        help="format of the pictures of --to frames; png is lossless (default: jpg)",
    )
    parser.add_argument("--quality", type=int, metavar="N", help="quality of JPEG pictures, 1 to 100 (default: 95)")
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


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the encoder, which `encoder_settings` reads."""
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="N",
        help="short side of the copies, in pixels; smaller videos keep their size (default: 256)",
    )
    parser.add_argument("--gop", type=int, metavar="N", help="distance between key frames, in frames (default: 24)")
    parser.add_argument("--crf", type=int, metavar="N", help="x264's constant rate factor, 0 to 51 (default: 23)")
    parser.add_argument("--preset", metavar="NAME", help=f"x264's preset: {', '.join(PRESETS)} (default: veryfast)")


ENCODER_SETTINGS = ("short_side", "gop", "crf", "preset")


def encoder_settings(args: argparse.Namespace, **others: Any) -> PrepareSettings:
    """The settings that the options of `add_encoder_arguments` and `others` give."""
    given = {name: getattr(args, name) for name in ENCODER_SETTINGS} | others
    return PrepareSettings(**{name: value for name, value in given.items() if value is not None})


def _settings_of(args: argparse.Namespace) -> PrepareSettings:
    """The settings of a call. Raises `ValueError` for an option without effect."""
    to_frames = args.to == "frames"
    unused = ("gop", "crf", "preset") if to_frames else ("frame_format", "quality")
    if given := [f"--{name.replace('_', '-')}" for name in unused if getattr(args, name) is not None]:
        raise ValueError(f"{given[0]} has no effect with --to {args.to}: leave it out.")
    frames = (args.frame_format or FRAME_SUFFIXES[0]) if to_frames else None
    if frames == "png" and args.quality is not None:
        raise ValueError("--quality has no effect with --frame-format png, which is lossless: leave it out.")
    return encoder_settings(args, frame_folder_fps=args.frame_folder_fps, frames=frames, quality=args.quality)


def run(args: argparse.Namespace) -> int:
    """Write the copies and print their sizes and speed; the exit code is 1 if a video could not be read."""
    settings = _settings_of(args)
    if args.source is None or args.target is None:
        raise ValueError("Give a folder of videos and a folder for their copies: tubevit data prepare FOLDER OUT.")
    source, target = Path(args.source), Path(args.target)
    pairs = plan_copies(source, target, settings)
    claim_target(target, settings.record())
    waiting = [pair for pair in pairs if needs_copy(*pair)]
    if len(waiting) < len(pairs):
        print(f"{len(pairs) - len(waiting):,} of {len(pairs):,} videos have a copy already.")
    check_disk(target, waiting)
    failed, rates = prepare_all(waiting, settings, args.workers)
    done = [pair for pair in pairs if pair[1].exists()]
    print(f"{len(done):,} of {len(pairs):,} videos are ready in {target}, {describe_sizes(done)}.")
    if settings.frames is not None:
        print(describe_rates(add_rates(rates, target / RATES_FILE)))
    if done and not args.no_timing:
        print(describe_speed(time_decoding(done, args.num_frames, settings.frame_folder_fps), args.num_frames))
    write_failed(failed, target / FAILED_FILE)
    if failed:
        path, reason = failed[0]
        print(
            f"{len(failed):,} videos could not be read; {target / FAILED_FILE} lists the reasons. The first: {path}: {reason}"
        )
    return 1 if failed else 0


def plan_copies(source: Path, target: Path, settings: PrepareSettings) -> list[tuple[Path, Path]]:
    """
    `(original, copy)` of every video in `source`. Copies have the same relative path, with the suffix .mp4, or without a suffix if
    they are folders of pictures. With `frame_folder_fps`, folders of numbered pictures are videos.

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
    tree, frame_folder_fps = scan_folder(source), settings.frame_folder_fps
    suffix = ".mp4" if settings.frames is None else ""
    folders = [folder.path for folder in frame_folders(tree) if folder.path != source]
    videos = [
        (video, (target / video.relative_to(source)).with_suffix(suffix))
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
        videos += [(path, copy.with_name(f"{copy.name}{suffix}")) for path, copy in named]
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
) -> tuple[list[tuple[str, str]], dict[str, float | None]]:
    """
    Write all copies. Returns `(path, reason)` of the videos that cannot be read, and the path of each other video to its frame rate.
    Raises `OSError` for a full disk.
    """
    failed, rates = [], {}
    work = partial(prepare_one, settings=settings)
    for (original, _), result in map_in_processes(
        work, pairs, len(pairs), num_workers, "preparing videos", seconds_per_item=SECONDS_PER_VIDEO
    ):
        if isinstance(result, (ItemFailed, str)):
            failed.append((str(original), str(result)))
        else:
            rates[str(original)] = result
    return sorted(failed), rates


def prepare_one(pair: tuple[Path, Path], settings: PrepareSettings) -> float | str | None:
    """Write one copy. Returns the frame rate of the original (`None` if unknown), or the reason why it cannot be read."""
    from av import FFmpegError

    original, copy = pair
    try:
        return prepare_video(original, copy, settings)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if isinstance(error, (OSError, FFmpegError)) and error.filename not in (None, str(original)):
            raise  # the copy cannot be written
        return " ".join(str(error).split()).removeprefix(f"{original} ")


def add_rates(rates: dict[str, float | None], path: Path) -> list[float]:
    """Add the frame rates of originals to a CSV file, and return all that it holds."""
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerows([["path", "fps"]] if is_new else [])
        writer.writerows((original, "" if fps is None else f"{fps:.6g}") for original, fps in rates.items())
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [float(row["fps"]) for row in csv.DictReader(file) if row["fps"]]


def describe_rates(rates: list[float]) -> str:
    """The frame rates of the originals in a sentence, because folders of pictures have none."""
    found = sorted(set(rates))
    if not found:
        return "The frame rates of the originals are unknown: sampling at a rate (fps) needs frame_folder_fps."
    if len(found) == 1:
        return f"Folders of pictures have no frame rate: set frame_folder_fps={found[0]:g}, that of all originals."
    return (
        f"Folders of pictures have no frame rate, and the originals have {len(found)} rates from {found[0]:g} to {found[-1]:g} "
        f"({RATES_FILE}): sampling=uniform needs none; fps is exact only for those whose rate frame_folder_fps states."
    )


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
        # The number of frames read from a folder does not depend on this rate.
        sources = {
            "original": source_of(original, frame_folder_fps),
            "copy": source_of(copy, frame_folder_fps or FOLDER_FPS),
        }
        calls = {name: partial(_read_clips, read, source) for name, source in sources.items()}
        for name, timings in interleave(calls, ROUNDS, description="timing").items():
            medians[name].append(1e3 * statistics.median(timing.cpu for timing in timings) / NUM_STARTS)
    return {name: statistics.median(values) for name, values in medians.items()}


def _read_clips(read: Any, source: dict[str, Any]) -> None:
    for seed in range(NUM_STARTS):
        read(source, seed)


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
