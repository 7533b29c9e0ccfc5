# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit prepare`: copies of all videos in a folder that decode faster, in another folder of the same layout.

Annotations need no change: files are found by their name whatever their suffix is, so `--video-root` is all that moves.
Originals are only read. A run that was stopped goes on where it was; copies made with other settings are not mixed.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from ..option_files import add_option_file
from ..options import whole_number
from ..run_folder import dry_run_dir
from .formats.samples import VIDEO_SUFFIXES, list_files
from .worker_processes import ProcessDied, map_in_processes


SETTINGS_FILE = "prepare.json"
FAILED_FILE = "failed.csv"
NUM_TIMED, ROUNDS, NUM_STARTS = 8, 5, 3  # videos on which reading is timed, how often each, and clips of each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    parser.add_argument("source", nargs="?", metavar="FOLDER", help="folder of videos, searched with all below it")
    parser.add_argument("target", nargs="?", metavar="OUT", help="folder for the copies")
    parser.add_argument(
        "--short-side", type=int, default=256, metavar="N", help="pixels, never enlarged (default: 256)"
    )
    parser.add_argument("--gop", type=int, default=24, metavar="N", help="frames between key frames (default: 24)")
    parser.add_argument("--crf", type=int, default=23, metavar="N", help="x264's quality, 0 to 51 (default: 23)")
    parser.add_argument("--preset", default="veryfast", metavar="NAME", help="x264's preset (default: veryfast)")
    parser.add_argument("--workers", type=whole_number(1), metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--num-frames", type=whole_number(1), default=32, metavar="N", help="of the clips that are timed at the end"
    )
    parser.add_argument("--no-timing", action="store_true", help="do not measure how much faster decoding became")
    parser.add_argument("--dry-run", action="store_true", help="make all checks and copy one video; leave nothing")


def run(args: argparse.Namespace) -> int:
    """Write the copies and print what was gained; the exit code is 1 if a video could not be read."""
    from .prepare_video import PrepareSettings

    settings = PrepareSettings(args.short_side, args.gop, args.crf, args.preset)
    if args.source is None or args.target is None:
        raise ValueError("Give a folder of videos and a folder for their copies: tubevit prepare FOLDER OUT.")
    source, target = Path(args.source), Path(args.target)
    pairs = plan_copies(source, target)
    if args.dry_run:
        return dry_run(pairs, target, settings)
    claim_target(target, vars(settings))
    waiting = [pair for pair in pairs if is_stale(*pair)]
    if len(waiting) < len(pairs):
        print(f"{len(pairs) - len(waiting):,} of {len(pairs):,} videos are there already.")
    check_disk(target, waiting)
    failed = prepare_all(waiting, settings, args.workers)
    done = [pair for pair in pairs if pair[1].exists()]
    print(f"{len(done):,} of {len(pairs):,} videos are ready in {target}, {describe_sizes(done)}.")
    if done and not args.no_timing:
        print(describe_speed(time_decoding(done, args.num_frames), args.num_frames))
    write_failed(failed, target / FAILED_FILE)
    if failed:
        path, reason = failed[0]
        print(f"{len(failed):,} could not be read; {target / FAILED_FILE} says why. The first: {path}: {reason}")
    return 1 if failed else 0


def plan_copies(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """
    `(original, copy)` of every video in `source`; copies keep their place and name, with the suffix .mp4.

    Raises `FileNotFoundError` without such a folder, and `ValueError` if one folder lies in the other, if there are no
    videos, and if two would have the same copy.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source}.")
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise ValueError(f"{target} and {source} must not lie in each other: copies have a folder of their own.")
    videos = list_files(source, VIDEO_SUFFIXES)
    if not videos:
        raise ValueError(f"{source} holds no videos.")
    by_copy = defaultdict(list)
    for video in videos:
        by_copy[(target / video.relative_to(source)).with_suffix(".mp4")].append(video)
    for copy, originals in by_copy.items():
        if len(originals) > 1:
            names = " and ".join(str(path) for path in originals)
            raise ValueError(f"{names} would both become {copy}: rename one of them.")
    return [(originals[0], copy) for copy, originals in by_copy.items()]


def dry_run(pairs: list[tuple[Path, Path]], target: Path, settings: Any) -> int:
    """Make all checks and copy the first video to a folder that is removed; the exit code is 1 if it cannot be read."""
    check_target(target, vars(settings))
    waiting = [pair for pair in pairs if is_stale(*pair)]
    with dry_run_dir(target) as temporary:
        check_disk(target, waiting)
        print(f"{len(waiting):,} of {len(pairs):,} videos are to be copied to {target}.")
        original, copy = pairs[0][0], temporary / pairs[0][1].name
        reason = prepare_one((original, copy), settings)
        sizes = describe_sizes([(original, copy)]) if reason is None else f"cannot be read: {reason}"
    print(f"Dry run: {original}: {sizes}; nothing was left behind.")
    return 0 if reason is None else 1


def check_target(target: Path, settings: dict[str, Any]) -> None:
    """Raise a `ValueError` if `target` holds copies that were made with other settings, or something else."""
    record = target / SETTINGS_FILE
    if record.is_file():
        earlier = json.loads(record.read_text())
        if earlier != settings:
            changed = [f"{name}={earlier.get(name)}" for name in settings if earlier.get(name) != settings[name]]
            raise ValueError(f"{target} was prepared with {', '.join(changed)}: use the same, or another folder.")
    elif target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty and was not made by `tubevit prepare`: give another folder.")


def claim_target(target: Path, settings: dict[str, Any]) -> None:
    """Create `target` and note the settings in it. Raises `ValueError` as `check_target`."""
    check_target(target, settings)
    target.mkdir(parents=True, exist_ok=True)
    (target / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")


def is_stale(original: Path, copy: Path) -> bool:
    """Whether there is no copy, or the original has changed since it was made."""
    return not copy.exists() or copy.stat().st_mtime < original.stat().st_mtime


def check_disk(target: Path, waiting: list[tuple[Path, Path]]) -> None:
    """Warn if the copies may not fit: they are rarely larger than the originals."""
    needed, free = sum(original.stat().st_size for original, _ in waiting), shutil.disk_usage(target).free
    if needed > free:
        print(
            f"The originals take {_size(needed)} and {target} has {_size(free)} left: the copies may not fit. A run that "
            "stops for this can be continued."
        )


def prepare_all(pairs: list[tuple[Path, Path]], settings: Any, num_workers: int | None) -> list[tuple[str, str]]:
    """Write all copies; returns `(path, reason)` of the videos that could not be read. Raises `OSError` if the disk is full."""
    failed = []
    work = partial(prepare_one, settings=settings)
    for (original, _), reason in map_in_processes(work, pairs, len(pairs), num_workers, "preparing videos"):
        if isinstance(reason, ProcessDied):
            reason = "the process that decoded it died"
        if reason is not None:
            failed.append((str(original), reason))
    return sorted(failed)


def prepare_one(pair: tuple[Path, Path], settings: Any) -> str | None:
    """Write one copy. Returns why the original could not be read, `None` if all went well."""
    from .prepare_video import prepare_video

    original, copy = pair
    try:
        prepare_video(original, copy, settings)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if getattr(error, "filename", None) not in (None, str(original)):
            raise  # the copy cannot be written
        return " ".join(str(error).split()).removeprefix(f"{original} ")
    return None


def write_failed(failed: list[tuple[str, str]], path: Path) -> None:
    """A CSV file with a line per video that could not be read; none, and none left from an earlier run, if all could."""
    if not failed:
        path.unlink(missing_ok=True)
        return
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows(failed)


def time_decoding(pairs: list[tuple[Path, Path]], num_frames: int) -> dict[str, float]:
    """
    Median milliseconds of processor time for a training clip of `num_frames` frames at 15 per second, from originals and
    copies in turn, with one thread of the decoder.
    """
    import statistics

    from tubevit.processing import TubeViTVideoProcessor

    from ..timing import interleave
    from .augmentation_config import AugmentationConfig
    from .clip_sampling import RandomClipReader

    processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=15)
    read = RandomClipReader(processor, AugmentationConfig(), mirror=False, num_threads=1)
    step = max(1, len(pairs) // NUM_TIMED)
    medians: dict[str, list[float]] = {"original": [], "copy": []}
    for original, copy in pairs[::step][:NUM_TIMED]:
        calls = {"original": partial(_read_clips, read, original), "copy": partial(_read_clips, read, copy)}
        for name, timings in interleave(calls, ROUNDS, description="timing").items():
            medians[name].append(1e3 * statistics.median(timing.cpu for timing in timings) / NUM_STARTS)
    return {name: statistics.median(values) for name, values in medians.items()}


def _read_clips(read: Any, path: Path) -> None:
    for seed in range(NUM_STARTS):
        read({"path": str(path), "bytes": None}, seed)


def describe_speed(times: dict[str, float], num_frames: int) -> str:
    """What `time_decoding` measured, in a sentence."""
    return (
        f"Reading a clip of {num_frames} frames took {times['original']:.1f} ms and takes {times['copy']:.1f} ms, "
        f"{times['original'] / times['copy']:.1f} times as fast (medians of up to {NUM_TIMED} videos, one thread)."
    )


def describe_sizes(pairs: list[tuple[Path, Path]]) -> str:
    """How large originals and copies are."""
    before, after = (sum(pair[side].stat().st_size for pair in pairs) for side in (0, 1))
    return f"{_size(after)} from {_size(before)}"


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
