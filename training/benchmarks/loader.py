# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
CPU time of a DataLoader worker per training clip, time that training waits for data, and memory of a worker over time.

Reading a clip from the original file, reading it from its `tubevit data prepare` copy, and RandAugment are timed on one
thread, as in a worker. RandAugment is also timed on the GPU if there is one, because `BatchAugmentation` can run on either.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor

from ..data.augmentation import AugmentationConfig, BatchAugmentation, ClipAugmentation
from ..data.clip_datasets import ClipCollator, ClipDataset
from ..data.clip_sampling import RandomClipReader
from ..data.prepare import PrepareSettings, prepare_video
from ..logging_utils import progress_bar
from ..tables import format_table
from ..throughput import DataLoaderTimer
from ..timing import interleave, summarize


FPS = 15.0  # the paper's, on Kinetics
CLIPS_PER_ROUND = 14  # the number of operations of RandAugment, whose times differ much
STATUS = Path("/proc/self/status")


def measure_loader(files: list[tuple[str, Path]], num_frames: int, device: str, rounds: int) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: milliseconds per clip, as returned by `summarize`, of `"original"` and `"prepared"`
    (decode, random crop and resize), `"augment"` (RandAugment) and, with a GPU, `"augment_gpu"`.
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
    return {"title": title, "num_frames": len(clip), **sizes, **times}


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


def format_loader(report: list[dict[str, Any]]) -> str:
    """The result of `measure_loader` as a text table."""
    has_gpu = any("augment_gpu" in video for video in report)
    columns = ["", "original ms", "clips/s", "prepared ms", "clips/s", "faster", "RandAugment ms", "fraction"]
    rows = []
    for video in report:
        original, prepared, augment = (video[name]["cpu_ms"] for name in ("original", "prepared", "augment"))
        row = [video["title"], original, 1e3 / original, prepared, 1e3 / prepared, original / prepared]
        row += [augment, augment / (augment + prepared)]
        rows.append(row + ([video["augment_gpu"]["median_ms"]] if has_gpu else []))
    table = format_table(columns + (["on the GPU ms"] if has_gpu else []), rows)
    return (
        f"Training clip of {report[0]['num_frames']} frames in a DataLoader worker: CPU time of its thread\n"
        f"{table}\nReading includes the random crop. fraction: RandAugment's part of the time that a worker needs to read and "
        "augment a prepared clip."
    )


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
        f"{report['num_workers']} DataLoader workers that read and augment) wait for data {report['original']:.0%} of the time with "
        f"the original and {report['prepared']:.0%} with the prepared copy ({report['steps']} steps)."
    )
