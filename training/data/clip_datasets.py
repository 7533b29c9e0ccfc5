# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Torch data sets that read clips from the rows of `video_datasets`, and the collator of their batches.

A video that cannot be read is never replaced by another video. With `on_corrupt_video="raise"` it ends the run. With "skip"
it becomes a black clip with the label -100, which the loss ignores, so that batches have the same size on every rank.
Skipped videos are logged and counted, and the run ends if their fraction exceeds `max_corrupt_fraction`.
"""

import copy
import csv
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers.utils import logging

from .augmentation import IGNORED_LABEL, BatchAugmentation
from .check_data import ON_CORRUPT_VIDEO
from .clip_sampling import Clip
from .dataset_columns import row_source
from .rng import SharedEpoch, sample_seed
from .shards import is_in_remote_shard, read_members, readable_path, with_bytes


logger = logging.get_logger(__name__)

MAX_WORKERS = 1024  # largest number of DataLoader workers for a streamed data set
SKIPPED: dict[str, Any] = {}  # stands for a clip of a batch that is discarded
MIN_STREAMED = 100  # streamed videos that must be read before the fraction of corrupt videos is checked


class CorruptVideoError(ValueError):
    """A video, or too many videos, cannot be read. The message is one line, also if a worker process raised it."""

    def __init__(self, message: str):
        # A data loader raises the error of a worker again, with the worker's traceback in its message.
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


class CorruptVideos:
    """
    Counts and logs the videos that cannot be read, over all workers, and ends the run if there are too many.

    num_rows: number of videos; `None` for a stream. Each row has a counter, so a video counts once; for a stream each worker
        has a counter. Only one process writes to a counter, so no lock is needed.
    on_corrupt_video: "skip" or "raise".
    max_corrupt_fraction: largest allowed fraction of corrupt videos, of all rows or of those read from a stream.
    log_file: CSV file to which the lines `video_id,path,reason` of corrupt videos are appended.
    """

    def __init__(
        self,
        num_rows: int | None,
        on_corrupt_video: str,
        max_corrupt_fraction: float,
        log_file: str | Path | None,
    ):
        if on_corrupt_video not in ON_CORRUPT_VIDEO:
            raise ValueError(f"on_corrupt_video must be skip or raise, got {on_corrupt_video!r}.")
        if not 0 <= max_corrupt_fraction <= 1:
            raise ValueError(f"max_corrupt_fraction must be from 0 to 1, got {max_corrupt_fraction}.")
        self.num_rows, self.log_file = num_rows, log_file
        self.on_corrupt_video, self.max_corrupt_fraction = on_corrupt_video, max_corrupt_fraction
        num_counters = MAX_WORKERS if num_rows is None else num_rows
        self.read = torch.zeros(num_counters, dtype=torch.int64).share_memory_()
        self.corrupt = torch.zeros(num_counters, dtype=torch.int64).share_memory_()

    def count(self, counters: torch.Tensor, slot: int) -> None:
        """Count a video in `read` or `corrupt`. slot: index of the video's row; for a stream, index of the worker that reads it."""
        counters[slot] = counters[slot] + 1 if self.num_rows is None else 1

    def report(self, video_id: str, path: str | None, error: Exception) -> None:
        """Log a corrupt video, after `count`. Raises `CorruptVideoError` if the run must not continue without it."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if self.on_corrupt_video == "raise":
            raise CorruptVideoError(f"{video_id}: {reason} (on_corrupt_video=skip continues without it)") from error
        logger.warning(f"Skipped {video_id}: {reason}")
        if self.log_file is not None:
            with open(self.log_file, "a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                csv.writer(file).writerow([video_id, path or "", reason])
        num_corrupt, num_read = int(self.corrupt.sum()), int(self.read.sum())
        if self.num_rows is None and num_read < MIN_STREAMED:
            return
        total = self.num_rows or num_read
        if num_corrupt > self.max_corrupt_fraction * total:
            raise CorruptVideoError(
                f"{num_corrupt} of {total} videos cannot be read, more than max_corrupt_fraction={self.max_corrupt_fraction:g} "
                f"allows; the last one: {video_id}: {reason}"
            ) from error


class _Clips:
    """Base class of `ClipDataset` and `StreamedClips`: reads rows, encodes labels, counts epochs."""

    def __init__(
        self,
        rows: Any,
        read: Any,
        num_classes: int,
        multi_label: bool = False,
        flipped_labels: dict[int, int] | None = None,
        seed: int = 0,
        on_corrupt_video: str = "skip",
        max_corrupt_fraction: float = 0.05,
        corrupt_video_log: str | Path | None = None,
        label_groups: Mapping[str, int] | None = None,
        is_labeled: bool = True,
    ):
        num_rows = len(rows) if hasattr(rows, "__len__") else None
        if num_rows == 0:
            raise ValueError("There are no videos to read: the split is empty.")
        self.rows, self.read, self.num_classes, self.multi_label = rows, read, num_classes, multi_label
        self.label_groups, self.is_labeled = label_groups or {}, is_labeled
        self.flipped_labels, self.seed, self.epoch = flipped_labels or {}, seed, SharedEpoch()
        self.corrupt_videos = CorruptVideos(num_rows, on_corrupt_video, max_corrupt_fraction, corrupt_video_log)
        self.members: dict[str, bytes | Exception] = {}  # of the current batch, by path
        # Longest time of reading a clip of each row, in seconds, over all workers; a stream has no rows.
        self.seconds = torch.zeros(num_rows or 0).share_memory_()
        self.pixels_name = "pixel_values_videos" if read.media == "video" else "pixel_values"

    def set_epoch(self, epoch: int) -> None:
        """Use the random parameters of `epoch` in this process and in all workers, including running workers."""
        self.epoch.value = epoch

    @property
    def num_corrupt(self) -> int:
        """Number of videos that could not be read so far, over all workers of this process; a stream counts each attempt."""
        return int(self.corrupt_videos.corrupt.sum())

    def slowest_files(self, number: int) -> list[tuple[str, float]]:
        """The files whose clips took the longest time to read, in this process and its workers, each with its time in seconds; empty for a stream."""
        seconds, indices = self.seconds.topk(min(number, len(self.seconds)))
        read = [(index, time) for index, time in zip(indices.tolist(), seconds.tolist(), strict=True) if time]
        rows = [(self.rows[index], time) for index, time in read]
        return [(readable_path(row[self.read.media].get("path")) or row["video_id"], time) for row, time in rows]

    def _sample(self, row: dict[str, Any], slot: int, epoch: int, copy: int = 0) -> dict[str, Any]:
        """
        The sample of a row; black pixels with ignored labels if it cannot be read. slot: see `CorruptVideos.count`. copy: see `RowCopy`.
        """
        seed = sample_seed(self.seed, epoch, f"{row['video_id']}/copy {copy}" if copy else row["video_id"])
        self.corrupt_videos.count(self.corrupt_videos.read, slot)
        clip: Clip | None = None
        start = time.perf_counter()
        try:
            clip = self.read(with_bytes(row_source(row, self.read.media), self.members), seed)
        except (ValueError, OSError) as error:
            self.corrupt_videos.count(self.corrupt_videos.corrupt, slot)
            self.corrupt_videos.report(row["video_id"], row[self.read.media].get("path"), error)
        if len(self.seconds):
            self.seconds[slot] = max(float(self.seconds[slot]), time.perf_counter() - start)
        label = None if clip is None else row["label"] if self.is_labeled else 0
        copies = range(self.read.num_copies)
        if len(copies) == 1:
            labels, seeds = self._label(label, clip is not None and clip.is_mirrored), seed
        else:
            labels = torch.stack([self._label(label, clip is not None and clip.is_mirrored[each]) for each in copies])
            seeds = [seed, *(sample_seed(seed, number, "copy") for number in copies[1:])]
        return {
            self.pixels_name: torch.zeros(self.read.shape, dtype=self.read.dtype) if clip is None else clip.pixels,
            "labels": labels,
            "sample_seed": seeds,
            "video_id": row["video_id"],
            "is_corrupt": clip is None,
        }

    def _label(self, label: int | list[int] | None, is_mirrored: bool) -> torch.Tensor:
        if self.label_groups:
            label = [IGNORED_LABEL] * len(self.label_groups) if label is None else label
            return torch.tensor([self.flipped_labels.get(each, each) if is_mirrored else each for each in label])
        if not self.multi_label:
            if label is not None and is_mirrored:
                label = self.flipped_labels.get(label, label)
            return torch.tensor(IGNORED_LABEL if label is None else label)
        if label is None:
            return torch.full((self.num_classes,), float(IGNORED_LABEL))
        label = [self.flipped_labels.get(each, each) if is_mirrored else each for each in label]
        return torch.zeros(self.num_classes).index_fill_(0, torch.tensor(label, dtype=torch.int64), 1.0)


class RowCopy(NamedTuple):
    """A row, and a number above 0 for another clip of its video in the same epoch, which has random parameters of its own."""

    row: int
    copy: int


class ClipDataset(_Clips, Dataset):
    """
    The clips of a split, decoded when they are accessed.

    rows: a split of `VideoData`.
    read: `RandomClipReader`, `RandomImageReader` or `MultiViewReader`.
    num_classes, multi_label: number of classes, and whether labels become multi-hot vectors instead of class indices.
    label_groups: names and sizes of groups of classes; a video has one class of each group, and its labels are `(groups,)` class indices.
    is_labeled: if false, the labels of the rows are ignored; the label of a clip is 0, or -100 if the clip could not be read.
    flipped_labels: changes of labels by a horizontal flip, see `augmentation.flipped_labels`.
    seed: random parameters depend on the seed, the epoch and the video.
    on_corrupt_video, max_corrupt_fraction, corrupt_video_log: see `CorruptVideos`.

    An item is `{"pixel_values_videos" (of the reader's dtype), "labels", "sample_seed", "video_id", "is_corrupt"}`, with `pixel_values` for
    images. With several augmented copies, pixels and labels have a first axis `copies`, and `sample_seed` is a list.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_remote = is_in_remote_shard(
            self.rows[0][self.read.media].get("path")
        )  # all rows are in the same place

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | RowCopy) -> dict[str, Any]:
        row, copy = index if isinstance(index, RowCopy) else (index, 0)
        return self.read_row(row, self.epoch.value, copy)

    def __getitems__(self, indices: list[int | RowCopy]) -> list[dict[str, Any]]:
        """The items of a batch. Videos in remote shards are read at the same time, before the first is decoded."""
        self.members = {}
        if self.is_remote:
            rows = [index.row if isinstance(index, RowCopy) else index for index in indices]
            self.members = read_members(row["path"] for row in self.rows[rows][self.read.media])
        return [self[index] for index in indices]

    def read_row(self, index: int, epoch: int, copy: int = 0) -> dict[str, Any]:
        """The item of a row with the random parameters of `epoch`; `JointClips` passes an epoch per data set."""
        return self._sample(self.rows[index], index, epoch, copy)


class StreamedClips(_Clips, IterableDataset):
    """
    `ClipDataset` for a `datasets.IterableDataset`, whose shards are divided among the workers.

    Corrupt videos are skipped; their fraction is relative to the videos read so far. With `is_endless`, the stream is read
    again and again, each time in a new order if it is shuffled. A batch then depends only on its index. A resumed run reads the
    rows of the first run without decoding them (`skip`), discards these batches, and continues with the same next batch.
    """

    def __init__(self, *args, is_endless: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_endless = is_endless
        self.num_skipped = torch.zeros(2, dtype=torch.int64).share_memory_()  # batches, and clips of a batch

    def skip(self, num_batches: int, batch_size: int) -> None:
        """Do not decode the first `num_batches` batches of a loader: its caller discards them."""
        self.num_skipped.copy_(torch.tensor([num_batches, batch_size]))

    def _count_skipped(self) -> int:
        """The number of clips that this worker does not decode: workers take turns with batches."""
        worker, (num_batches, batch_size) = get_worker_info(), self.num_skipped.tolist()
        number, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return len(range(number, num_batches, step)) * batch_size

    def _corrupt_before(self) -> set[str]:
        """The ids of the videos that the run could not read before it was stopped."""
        log = self.corrupt_videos.log_file
        if log is None or not Path(log).is_file():
            return set()
        with open(log, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return {video_id for video_id, *_ in csv.reader(file)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, first = get_worker_info(), self.epoch.value
        num_left, slot = self._count_skipped(), worker.id if worker else 0
        corrupt = self._corrupt_before() if num_left else set()
        # `datasets` shares the epoch of a stream over processes, but a worker may be a pass ahead of another one.
        rows = copy.deepcopy(self.rows) if worker else self.rows
        for epoch in count(first) if self.is_endless else [first]:
            rows.set_epoch(epoch)
            is_empty = True
            for row in rows:
                if num_left:
                    self.corrupt_videos.count(self.corrupt_videos.read, slot)
                    if row["video_id"] in corrupt:
                        self.corrupt_videos.count(self.corrupt_videos.corrupt, slot)
                        continue
                    num_left, is_empty = num_left - 1, False
                    yield SKIPPED
                    continue
                sample = self._sample(row, slot, epoch)
                if not sample["is_corrupt"]:
                    is_empty = False
                    yield sample
            if is_empty:  # the worker has no shard, or none of its videos can be read
                return


class ClipCollator:
    """
    Collates samples to a batch for the model: `{"pixel_values_videos" or "pixel_values", "labels"}`. The copies of repeated
    augmentation are clips of the batch: the first copy of each sample, then the second ones.

    augment: applied to the batch on the CPU; `None` for evaluation and for augmentation on the GPU.
    keep_seeds: add `sample_seeds` to the batch; `BatchAugmentation` on the GPU needs and removes them.
    """

    def __init__(self, augment: BatchAugmentation | None = None, keep_seeds: bool = False):
        self.augment, self.keep_seeds = augment, keep_seeds

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        if SKIPPED in samples:
            return {"labels": torch.zeros(len(samples))}
        name = "pixel_values_videos" if "pixel_values_videos" in samples[0] else "pixel_values"
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in (name, "labels")}
        batch["sample_seeds"] = torch.tensor([sample["sample_seed"] for sample in samples])
        if batch["sample_seeds"].ndim == 2:  # copy by copy, so that mixup mixes different clips
            batch = {key: value.transpose(0, 1).flatten(0, 1) for key, value in batch.items()}
        if self.augment is None and not self.keep_seeds:
            del batch["sample_seeds"]
        if self.augment is not None:
            batch = self.augment(batch)
        return batch
