# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What a training clip costs a worker of the data loader: from the original file, from its `tubevit data prepare` copy, and for
RandAugment; and whether workers that read thousands of clips keep memory.

Everything is timed on one thread, as a worker runs. RandAugment is also timed on the GPU if there is one: `BatchAugmentation`
does it in either place, and the numbers say which.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from tubevit.processing import TubeViTVideoProcessor

from ..data.augmentation import AugmentationConfig, ClipAugmentation
from ..data.clip_sampling import RandomClipReader
from ..data.prepare import PrepareSettings, prepare_video
from ..tables import format_table
from ..timing import interleave, summarize


FPS = 15.0  # the paper's, on Kinetics
NUM_DRAWS = 14  # clips per round: RandAugment has as many operations, of very different cost
STATUS = Path("/proc/self/status")


def measure_loader(files: list[tuple[str, Path]], num_frames: int, device: str, rounds: int) -> list[dict[str, Any]]:
    """
    A dictionary per `(title, path)`: milliseconds per clip for `"original"`, `"prepared"` (with crop and resize)
    and `"augment"` (RandAugment), as `summarize` gives them, and `"augment_gpu"` on a GPU.
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
        values.update({name: value / NUM_DRAWS for name, value in values.items()})
    sizes = {"bytes": path.stat().st_size, "prepared_bytes": copy.stat().st_size}
    return {"title": title, "num_frames": len(clip), **sizes, **times}


def _read_clips(read: RandomClipReader, path: Path) -> None:
    for seed in range(NUM_DRAWS):
        read({"path": str(path), "bytes": None}, seed)


def _augment_clip(augment: ClipAugmentation, clip: torch.Tensor) -> None:
    for seed in range(NUM_DRAWS):
        augment(clip, seed)


def measure_growth(path: Path, num_clips: int) -> list[tuple[int, float]]:
    """
    Resident memory of a data loader's worker in MiB after so many clips of `path`: `(clips, MiB)`, ten times on the way.

    Raises `OSError` where the kernel does not tell (`/proc`).
    """
    if not STATUS.is_file():
        raise OSError(f"There is no {STATUS} here, which says how much memory a process takes.")
    every = max(1, num_clips // 10)
    loader = DataLoader(_MemoryProbe(path, num_clips), num_workers=1, batch_size=None)
    progress = tqdm(loader, desc="reading clips", unit="clip", disable=None, leave=False)
    return [(number, mib) for number, mib in enumerate(progress, start=1) if number % every == 0]


class _MemoryProbe(Dataset):
    """Reads a small clip for every item and gives the memory of the process that did, in MiB."""

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
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 2**10


def format_growth(memory: list[tuple[int, float]]) -> str:
    """What `measure_growth` found, in a line, with what a clip adds once all buffers are there."""
    points = ", ".join(f"{mib:,.0f} after {number:,}" for number, mib in memory)
    (first, start), (last, end) = memory[len(memory) // 2], memory[-1]
    growth = f"; {1024 * (end - start) / (last - first):+.2f} KiB per clip in the second half" if last > first else ""
    return f"Memory of a worker in MiB: {points} clips{growth}."


def format_loader(report: list[dict[str, Any]]) -> str:
    """What `measure_loader` found, as a table for a terminal."""
    has_gpu = any("augment_gpu" in video for video in report)
    columns = ["", "original ms", "clips/s", "prepared ms", "clips/s", "faster", "RandAugment ms", "share"]
    rows = []
    for video in report:
        original, prepared, augment = (video[name]["cpu_ms"] for name in ("original", "prepared", "augment"))
        row = [video["title"], original, 1e3 / original, prepared, 1e3 / prepared, original / prepared]
        row += [augment, augment / (augment + prepared)]
        rows.append(row + ([video["augment_gpu"]["median_ms"]] if has_gpu else []))
    table = format_table(columns + (["on the GPU ms"] if has_gpu else []), rows)
    return (
        f"A training clip of {report[0]['num_frames']} frames in a worker of the data loader: processor time of its thread\n"
        f"{table}\nReading includes the random crop. The share is RandAugment's of a prepared clip, where a worker does both."
    )
