# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What share of a training step is spent waiting for clips, from original files and from their `tubevit data prepare` copies."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor

from ..data.augmentation import AugmentationConfig, BatchAugmentation
from ..data.clip_datasets import ClipCollator, ClipDataset
from ..data.clip_sampling import RandomClipReader
from ..data.prepare import PrepareSettings, prepare_video
from ..throughput import DataLoaderTimer


STEPS_PER_ROUND = 2


def measure_waiting(
    path: Path, preset: str, num_frames: int, device: str, batch_size: int, num_workers: int, rounds: int
) -> dict[str, Any]:
    """
    Share of the time of training steps without the optimizer's part, on clips of one video, that is spent waiting for the next
    batch, under `"original"` and `"prepared"`. Workers read and, for a CPU, augment; for a GPU that is done there, as in
    training. As many steps as workers, and one, are not counted: at the start all workers bring their first batch at once.
    """
    model = TubeViTForVideoClassification(preset_config(preset, num_frames=num_frames, num_labels=2)).to(device)
    num_steps, num_uncounted = rounds * STEPS_PER_ROUND, 1 + num_workers
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.mp4"
        prepare_video(path, copy, PrepareSettings())
        shares = {
            name: _share_waiting(
                model,
                _make_clips(each, num_frames, batch_size * (num_uncounted + num_steps)),
                batch_size,
                num_workers,
                num_uncounted,
            )
            for name, each in (("original", path), ("prepared", copy))
        }
    settings = {"preset": preset, "batch_size": batch_size, "num_workers": num_workers, "steps": num_steps}
    return {**settings, **shares}


def _make_clips(path: Path, num_frames: int, number: int) -> ClipDataset:
    processor = TubeViTVideoProcessor(sampling="fixed_rate", num_frames=num_frames, fps=15)
    video = {"path": str(path), "bytes": None}
    rows = [{"video": video, "label": 0, "video_id": str(index)} for index in range(number)]
    return ClipDataset(rows, RandomClipReader(processor, AugmentationConfig(), mirror=True), num_classes=2)


def _share_waiting(model: Any, clips: ClipDataset, batch_size: int, num_workers: int, num_uncounted: int) -> float:
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
        if number == num_uncounted:
            timed.seconds_waiting, start = 0.0, time.perf_counter()
    return timed.seconds_waiting / (time.perf_counter() - start)


def format_waiting(report: dict[str, Any]) -> str:
    """What `measure_waiting` found, in a sentence."""
    return (
        f"Of a training step of TubeViT {report['preset']}, {report['batch_size']} clips of the first of these videos, "
        f"{report['original']:.0%} is spent waiting for clips from the original and {report['prepared']:.0%} from the prepared "
        f"copy, with {report['num_workers']} loader workers that read and augment ({report['steps']} steps)."
    )
