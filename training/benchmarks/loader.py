# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
CPU time of a DataLoader worker per training clip and per stage, the slowest files, time that training waits for data, and memory
of a worker over time.

Reading a clip from the original file, reading it from its `tubevit data prepare` copy, and RandAugment are timed on one
thread, as in a worker. RandAugment is also timed on the GPU if there is one, because `BatchAugmentation` can run on either.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor, video_decoding

from ..data.augmentation import AugmentationConfig, BatchAugmentation, ClipAugmentation
from ..data.clip_datasets import ClipCollator, ClipDataset
from ..data.clip_sampling import RandomClipReader, SameCrop
from ..data.prepare import PrepareSettings, prepare_video
from ..logging_utils import progress_bar
from ..tables import format_table
from ..throughput import DataLoaderTimer
from ..timing import interleave, summarize


FPS = 15.0  # the paper's, on Kinetics
CLIPS_PER_ROUND = 14  # the number of operations of RandAugment, whose times differ much
STATUS = Path("/proc/self/status")
STAGES = ("open", "decode", "crop and resize", "augment", "collate", "copy")  # of a clip, in this order
NUM_SLOWEST = 3  # files that are named


def measure_loader(files: list[tuple[str, Path]], num_frames: int, device: str, rounds: int) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: milliseconds per clip, as returned by `summarize`, of `"original"` and `"prepared"`
    (decode, random crop and resize), `"augment"` (RandAugment) and, with a GPU, `"augment_gpu"`; and `"stages"` of
    `"original"` and `"prepared"`, as returned by `measure_stages`.
    """
    processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=FPS)
    read = RandomClipReader(processor, AugmentationConfig(), mirror=True, num_threads=1)
    augment = ClipAugmentation(AugmentationConfig(), [round(255 * mean) for mean in processor.image_mean])
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return [_measure_file(title, path, Path(folder), read, augment, device, rounds) for title, path in files]
    finally:
        torch.set_num_threads(num_threads)


def _measure_file(title: str, path: Path, folder: Path, read, augment, device: str, rounds: int) -> dict[str, Any]:
    copy = folder / f"{path.stem}.mp4"
    prepare_video(path, copy, PrepareSettings())
    clip = read({"path": str(path)}, 0).pixels
    calls = {
        "original": partial(_read_clips, read, path),
        "prepared": partial(_read_clips, read, copy),
        "augment": partial(_augment_clip, augment, clip),
    }
    times = {name: summarize(each) for name, each in interleave(calls, rounds, description=title).items()}
    if device == "cuda":
        on_gpu = interleave({"augment_gpu": partial(_augment_clip, augment, clip.to(device))}, rounds, device)
        times["augment_gpu"] = summarize(on_gpu["augment_gpu"])
    for values in times.values():
        values.update({name: value / CLIPS_PER_ROUND for name, value in values.items()})
    sizes = {"bytes": path.stat().st_size, "prepared_bytes": copy.stat().st_size}
    stages = {
        name: measure_stages(each, read, augment, device, rounds)
        for name, each in (("original", path), ("prepared", copy))
    }
    return {"title": title, "num_frames": len(clip), **sizes, **times, "stages": stages}


def measure_stages(
    path: Path, read: RandomClipReader, augment: ClipAugmentation, device: str, rounds: int
) -> dict[str, float]:
    """
    Median CPU milliseconds per clip of each of `STAGES`. "open" reads the index of the file, "decode" converts to RGB too, "copy"
    is the time until the clip is on the GPU (0 without one).
    """
    spent: dict[str, list[float]] = {name: [] for name in STAGES}
    for _ in range(rounds):
        seconds = dict.fromkeys(STAGES, 0.0)
        start = time.thread_time()
        with _timed_reading(seconds):
            clips = [read({"path": str(path), "bytes": None}, seed).pixels for seed in range(CLIPS_PER_ROUND)]
        seconds["decode"] = time.thread_time() - start - sum(seconds.values())
        clips = [_timed(seconds, "augment", augment, clip, seed) for seed, clip in enumerate(clips)]
        label = torch.tensor(0)
        samples = [{"pixel_values_videos": clip, "labels": label, "sample_seed": 0} for clip in clips]
        batch = _timed(seconds, "collate", ClipCollator(), samples)
        if device != "cpu":
            torch.accelerator.synchronize()
            start = time.perf_counter()
            batch["pixel_values_videos"].to(device)
            torch.accelerator.synchronize()
            seconds["copy"] = time.perf_counter() - start
        for name, values in spent.items():
            values.append(1e3 * seconds[name] / CLIPS_PER_ROUND)
    return {name: float(np.median(values)) for name, values in spent.items()}


@contextmanager
def _timed_reading(seconds: dict[str, float]) -> Iterator[None]:
    """Add up the CPU time of the stages "open" and "crop and resize" of clips that are read in this context."""
    open_container, build_index, crop = video_decoding.open_container, video_decoding._build_index, SameCrop.__call__

    @contextmanager
    def timed_open(*args, **kwargs):
        with ExitStack() as stack:
            yield _timed(seconds, "open", stack.enter_context, open_container(*args, **kwargs))

    with (
        mock.patch.object(video_decoding, "open_container", timed_open),
        mock.patch.object(video_decoding, "_build_index", lambda *args: _timed(seconds, "open", build_index, *args)),
        mock.patch.object(SameCrop, "__call__", lambda *args: _timed(seconds, "crop and resize", crop, *args)),
    ):
        yield


def _timed(seconds: dict[str, float], name: str, function: Callable, *args: Any) -> Any:
    start = time.thread_time()
    try:
        return function(*args)
    finally:
        seconds[name] += time.thread_time() - start


def _read_clips(read: RandomClipReader, path: Path) -> None:
    for seed in range(CLIPS_PER_ROUND):
        read({"path": str(path), "bytes": None}, seed)


def _augment_clip(augment: ClipAugmentation, clip: torch.Tensor) -> None:
    for seed in range(CLIPS_PER_ROUND):
        augment(clip, seed)


def measure_growth(path: Path, num_clips: int) -> list[tuple[int, float]]:
    """
    Resident memory of a DataLoader worker while it reads `num_clips` clips of `path`: ten pairs `(clips read, MiB)`.

    Raises `OSError` on a system without `/proc`.
    """
    if not STATUS.is_file():
        raise OSError(f"{STATUS} does not exist: the memory of a process can be measured on Linux only.")
    every = max(1, num_clips // 10)
    loader = DataLoader(_MemoryProbe(path, num_clips), num_workers=1, batch_size=None)
    progress = progress_bar(loader, "reading clips", num_clips, unit="clip", leave=False)
    return [(number, mib) for number, mib in enumerate(progress, start=1) if number % every == 0]


class _MemoryProbe(Dataset):
    """Each item reads and augments a small clip, and returns the resident memory of the reading process in MiB."""

    def __init__(self, path: Path, num_clips: int):
        pixels = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
        processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=8, fps=FPS, **pixels)
        self.read = RandomClipReader(processor, AugmentationConfig(), mirror=True)
        self.augment = ClipAugmentation(AugmentationConfig(), [0, 0, 0])
        self.path, self.num_clips = str(path), num_clips

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> float:
        self.augment(self.read({"path": self.path, "bytes": None}, index).pixels, index)
        (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 2**10


def format_growth(memory: list[tuple[int, float]]) -> str:
    """The result of `measure_growth` in a line, with the growth per clip in the second half, after buffers are allocated."""
    points = ", ".join(f"{mib:,.0f} after {number:,}" for number, mib in memory)
    (first, start), (last, end) = memory[len(memory) // 2], memory[-1]
    growth = f"; {1024 * (end - start) / (last - first):+.2f} KiB per clip in the second half" if last > first else ""
    return f"Memory of a worker in MiB: {points} clips{growth}."


def format_loader(report: list[dict[str, Any]], clock: str = "cpu_ms") -> str:
    """
    The result of `measure_loader` as a text table. clock: "cpu_ms", or "median_ms" for the elapsed time, where a GPU decodes.
    """
    has_gpu = any("augment_gpu" in video for video in report)
    columns = [
        "",
        "original ms",
        "clips/s",
        "prepared ms",
        "clips/s",
        "original / prepared",
        "RandAugment ms",
        "RandAugment / all",
    ]
    rows = []
    for video in report:
        original, prepared, augment = (video[name][clock] for name in ("original", "prepared", "augment"))
        row = [video["title"], original, 1e3 / original, prepared, 1e3 / prepared, original / prepared]
        row += [augment, augment / (augment + prepared)]
        rows.append(row + ([video["augment_gpu"]["median_ms"]] if has_gpu else []))
    table = format_table(columns + (["on the GPU ms"] if has_gpu else []), rows)
    return (
        f"Training clip of {report[0]['num_frames']} frames in a DataLoader worker: "
        f"{'CPU time of its thread' if clock == 'cpu_ms' else 'elapsed time'}\n"
        f"{table}\nReading includes the random crop. RandAugment / all: the fraction of the time that a worker needs to read and "
        "augment a prepared clip."
    )


def format_stages(report: list[dict[str, Any]]) -> str:
    """The stages of `measure_loader` as a text table, with the slowest files."""
    rows = []
    for video in report:
        for name, stages in video["stages"].items():
            total = sum(stages.values())
            rows.append([f"{video['title']}, {name}", *stages.values(), total, 1e3 / total])
    table = format_table(["", *(f"{name} ms" for name in STAGES), "all ms", "clips/s"], rows)
    text = f"Stages of a training clip in a DataLoader worker, and the clips that one worker can feed\n{table}"
    if len(report) > NUM_SLOWEST:
        times = {video["title"]: sum(video["stages"]["original"].values()) for video in report}
        slowest = sorted(times, key=lambda title: -times[title])[:NUM_SLOWEST]
        text += "\nSlowest files: " + ", ".join(f"{title} ({times[title]:.0f} ms)" for title in slowest) + "."
    return text


STEPS_PER_ROUND = 2


def measure_waiting(
    path: Path, preset: str, num_frames: int, device: str, batch_size: int, num_workers: int, rounds: int
) -> dict[str, Any]:
    """
    Fraction of the time of training steps (without the optimizer) that is spent waiting for the next batch, for clips of one
    video: `"original"` and `"prepared"`. Workers read the clips and, on a CPU, augment them; on a GPU the batch is augmented
    there, as in training. The first `num_workers + 1` steps are warm-up, because all workers deliver their first batch at
    once.
    """
    model = TubeViTForVideoClassification(preset_config(preset, num_frames=num_frames, num_labels=2)).to(device)
    num_steps, num_warmup_steps = rounds * STEPS_PER_ROUND, 1 + num_workers
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.mp4"
        prepare_video(path, copy, PrepareSettings())
        fractions = {
            name: _fraction_waiting(
                model,
                _make_clips(each, num_frames, batch_size * (num_warmup_steps + num_steps)),
                batch_size,
                num_workers,
                num_warmup_steps,
            )
            for name, each in (("original", path), ("prepared", copy))
        }
    settings = {"preset": preset, "batch_size": batch_size, "num_workers": num_workers, "steps": num_steps}
    return {**settings, **fractions}


def _make_clips(path: Path, num_frames: int, number: int) -> ClipDataset:
    processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=15)
    video = {"path": str(path), "bytes": None}
    rows = [{"video": video, "label": 0, "video_id": str(index)} for index in range(number)]
    return ClipDataset(rows, RandomClipReader(processor, AugmentationConfig(), mirror=True), num_classes=2)


def _fraction_waiting(
    model: Any, clips: ClipDataset, batch_size: int, num_workers: int, num_warmup_steps: int
) -> float:
    augment = BatchAugmentation(AugmentationConfig(), 2, False, list(clips.read.processor.image_mean))
    on_device = model.device.type != "cpu"
    collate = ClipCollator(None if on_device else augment, keep_seeds=on_device)
    loader = DataLoader(clips, batch_size, num_workers=num_workers, collate_fn=collate)

    def to_device(batch: dict[str, Any]) -> dict[str, Any]:
        batch = {name: each.to(model.device) for name, each in batch.items()}
        return augment(batch) if on_device else batch

    timed, start = DataLoaderTimer(to_device), 0.0
    for number, batch in enumerate(timed(loader), 1):
        model(**batch).loss.backward()
        if on_device:
            torch.accelerator.synchronize()
        if number == num_warmup_steps:
            timed.seconds_waiting, start = 0.0, time.perf_counter()
    return timed.seconds_waiting / (time.perf_counter() - start)


def format_waiting(report: dict[str, Any]) -> str:
    """The result of `measure_waiting` as a sentence."""
    return (
        f"Training steps of TubeViT {report['preset']} ({report['batch_size']} clips of the first video, "
        f"{report['num_workers']} DataLoader workers that read and augment) wait for data {100 * report['original']:.0f} % of the time with "
        f"the original and {100 * report['prepared']:.0f} % with the prepared copy ({report['steps']} steps)."
    )
