# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Logits for every view of every video of a split, in one process or several.

Each process takes every n-th video and no other, so nothing is padded to equal shares, and what is collected at the end is
checked to hold every video once. A video that cannot be read stays in the result, with the reason and without logits.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..data.clip_sampling import MultiViewReader
from ..models.loading import VideoClassifier


class VideoPrediction(NamedTuple):
    """
    What came of a video.

    index: its place in the split; `None` in a stream.
    label: class index, list of them for several labels, `None` where it is not known.
    logits: float32 `(views, classes)`, temporal-major; `None` for a video that was not scored.
    reason: why it was not; `is_missing` tells a file that is not there from one that cannot be used.
    """

    index: int | None
    video_id: str
    path: str
    label: Any
    logits: np.ndarray | None
    reason: str | None = None
    is_missing: bool = False


@dataclass
class Throughput:
    """How long scoring took. Seconds are wall time from the first request for data to the last prediction."""

    num_videos: int = 0
    num_clips: int = 0
    seconds: float = 0.0
    seconds_waiting: float = 0.0  # for data
    num_processes: int = 1

    def summary(self) -> dict[str, float | int]:
        seconds = max(self.seconds, 1e-9)
        return {
            "seconds": round(self.seconds, 3),
            "videos_per_second": round(self.num_videos / seconds, 3),
            "clips_per_second": round(self.num_clips / seconds, 3),
            "share_of_time_waiting_for_data": round(self.seconds_waiting / seconds, 4),
            "num_processes": self.num_processes,
        }


def predict_multi_view(
    classifier: VideoClassifier,
    rows: Any,
    accelerator: Any,
    batch_size: int = 16,
    num_workers: int = 0,
    max_batches: int | None = None,
) -> tuple[list[VideoPrediction], Throughput]:
    """
    A prediction for each row of a split, in their order; the same on every process.

    classifier: its model is on the accelerator's device.
    rows: a split of `VideoData`.
    batch_size: clips, that is views, per forward pass.
    num_workers: processes that decode, for each process that computes.
    max_batches: stop after so many, for a trial.
    """
    from accelerate.utils import gather_object
    from tqdm.auto import tqdm

    loader = _make_loader(classifier, rows, accelerator, batch_size, num_workers)
    predictions: list[VideoPrediction] = []
    start, waited = time.perf_counter(), 0.0
    total = len(loader.dataset) if isinstance(loader.dataset, Dataset) and not _is_stream(rows) else None
    hidden = None if accelerator.is_main_process else True  # None: shown on a terminal only
    with tqdm(desc="scoring", total=total, unit="video", disable=hidden, dynamic_ncols=True) as progress:
        for number, (items, seconds) in enumerate(_timed(loader)):
            if max_batches is not None and number >= max_batches:
                break
            waited += seconds
            predictions += _predict(items, classifier, accelerator.device, batch_size)
            progress.update(len(items))
    own_times = [(time.perf_counter() - start, waited)]
    predictions, times = gather_object(predictions), gather_object(own_times)
    if not _is_stream(rows):
        predictions.sort(key=lambda prediction: prediction.index)
        if max_batches is None and [each.index for each in predictions] != list(range(len(rows))):
            raise RuntimeError(f"{len(predictions)} predictions came back for {len(rows)} videos.")
    scored = [each for each in predictions if each.logits is not None]
    return predictions, Throughput(
        num_videos=len(scored),
        num_clips=sum(len(each.logits) for each in scored),
        seconds=max(seconds for seconds, _ in times),
        seconds_waiting=sum(waiting for _, waiting in times) / len(times),
        num_processes=len(times),
    )


class _Item(NamedTuple):
    """A video as a loader's worker gives it: without logits, with pixels uint8 `(views, frames, channels, height, width)`."""

    prediction: VideoPrediction
    pixels: torch.Tensor | None


class _Reader:
    """Reads a row into an `_Item`; a video that cannot be read becomes one without pixels."""

    def __init__(self, classifier: VideoClassifier):
        self.read, self.num_views = MultiViewReader(classifier.processor), classifier.num_views

    def __call__(self, row: dict[str, Any], index: int | None) -> _Item:
        video = row[self.read.media]
        found = VideoPrediction(index, row["video_id"], video.get("path") or "", row["label"], None)
        try:
            pixels = self.read(video).pixels
        except (ValueError, OSError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = " ".join(text.split()).removeprefix(f"{found.path} ") or type(error).__name__
            return _Item(found._replace(reason=reason, is_missing=isinstance(error, FileNotFoundError)), None)
        return _Item(found, pixels if self.num_views > 1 else pixels[None])


class _Videos(Dataset):
    """Every `step`-th row from `first` on."""

    def __init__(self, rows: Any, reader: _Reader, first: int, step: int):
        self.rows, self.reader, self.indices = rows, reader, range(first, len(rows), step)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> _Item:
        index = self.indices[position]
        return self.reader(self.rows[index], index)


class _VideoStream(IterableDataset):
    def __init__(self, rows: Any, reader: _Reader):
        self.rows, self.reader = rows, reader

    def __iter__(self) -> Iterator[_Item]:
        for row in self.rows:
            yield self.reader(row, None)


def _is_stream(rows: Any) -> bool:
    return not hasattr(rows, "__len__")


def _make_loader(classifier, rows, accelerator, batch_size, num_workers) -> DataLoader:
    rank, world, reader = accelerator.process_index, accelerator.num_processes, _Reader(classifier)
    if _is_stream(rows):
        from datasets.distributed import split_dataset_by_node

        videos: Any = _VideoStream(split_dataset_by_node(rows, rank, world), reader)
    else:
        videos = _Videos(rows, reader, rank, world)
    return DataLoader(
        videos,
        batch_size=max(1, batch_size // classifier.num_views),
        num_workers=num_workers,
        collate_fn=list,  # videos that cannot be read make batches uneven
        pin_memory=accelerator.device.type == "cuda",
    )


def _timed(loader: DataLoader) -> Iterator[tuple[list[_Item], float]]:
    """The batches of a loader, each with the seconds that it was waited for."""
    batches = iter(loader)
    while True:
        start = time.perf_counter()
        items = next(batches, None)
        if items is None:
            return
        yield items, time.perf_counter() - start


def _predict(items: list[_Item], classifier: VideoClassifier, device: Any, batch_size: int) -> list[VideoPrediction]:
    read = [item.pixels.to(device, non_blocking=True) for item in items if item.pixels is not None]
    if not read:
        return [item.prediction for item in items]
    chunks = torch.cat(read).split(batch_size)
    logits = torch.cat([classifier(clips) for clips in chunks]).unflatten(0, (len(read), -1)).cpu().numpy()
    of_video = iter(logits)
    return [item.prediction if item.pixels is None else _scored(item.prediction, next(of_video)) for item in items]


def _scored(prediction: VideoPrediction, logits: np.ndarray) -> VideoPrediction:
    if not np.isfinite(logits).all():
        return prediction._replace(reason="the model's output is not finite")
    return prediction._replace(logits=logits)
