# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What a data loader takes clips from: torch data sets over the rows of `video_datasets`, and the collator of their batches.

A video that cannot be read is never replaced by another one. With `on_corrupt_video="raise"` it ends the run; with "skip" its
place in the batch is taken by a black clip whose label, -100, the loss leaves out, so that batches keep their size on
every rank. It is counted, named in the log, and ends the run too when it is one too many.
"""

import csv
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers.utils import logging

from .augmentation import IGNORED_LABEL, BatchAugmentation
from .clip_sampling import Clip
from .rng import SharedEpoch, sample_seed


logger = logging.get_logger(__name__)

ON_CORRUPT_VIDEO = ("skip", "raise")
MAX_WORKERS = 1024
MIN_STREAMED = 100  # videos of a stream, after which the share of bad ones means something


class CorruptVideoError(ValueError):
    """A video that cannot be read, or too many of them; one line even from a worker process."""

    def __init__(self, message: str):
        # A data loader raises a worker's error again with its traceback for a message.
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


class CorruptVideos:
    """
    Decides what a video that cannot be read means, and counts them over all workers.

    num_rows: how many videos there are, `None` for a stream. There is a counter per row, which counts it once, or one per
        worker of a stream. Each is written by one process only, so no lock is needed.
    on_corrupt_video: "skip" or "raise".
    max_share: the share of bad videos, of all rows or of those read from a stream, above which skipping ends with a
        `CorruptVideoError`.
    log_file: a CSV file to which bad videos are added, `video_id,path,reason`.
    """

    def __init__(self, num_rows: int | None, on_corrupt_video: str, max_share: float, log_file: str | Path | None):
        if on_corrupt_video not in ON_CORRUPT_VIDEO:
            raise ValueError(f"on_corrupt_video must be skip or raise, got {on_corrupt_video!r}.")
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_corrupt_fraction must be from 0 to 1, got {max_share}.")
        self.num_rows, self.on_corrupt_video, self.max_share, self.log_file = (
            num_rows,
            on_corrupt_video,
            max_share,
            log_file,
        )
        num_counters = MAX_WORKERS if num_rows is None else num_rows
        self.read = torch.zeros(num_counters, dtype=torch.int64).share_memory_()
        self.bad = torch.zeros(num_counters, dtype=torch.int64).share_memory_()

    def count(self, counters: torch.Tensor, slot: int) -> None:
        """Count a video in `read` or `bad`, under the index of its row or of the worker."""
        counters[slot] = counters[slot] + 1 if self.num_rows is None else 1

    def report(self, video_id: str, path: str | None, error: Exception) -> None:
        """Log a bad video, which was counted already. Raises `CorruptVideoError` if it may not be skipped."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if self.on_corrupt_video == "raise":
            raise CorruptVideoError(f"{video_id}: {reason} (on_corrupt_video=skip goes on without it)") from error
        logger.warning(f"Skipped {video_id}: {reason}")
        if self.log_file is not None:
            with open(self.log_file, "a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                csv.writer(file).writerow([video_id, path or "", reason])
        num_bad, num_read = int(self.bad.sum()), int(self.read.sum())
        if self.num_rows is None and num_read < MIN_STREAMED:
            return
        total = self.num_rows or num_read
        if num_bad > self.max_share * total:
            raise CorruptVideoError(
                f"{num_bad} of {total} videos cannot be read, more than max_corrupt_fraction={self.max_share:g} allows; "
                f"the last one: {video_id}: {reason}"
            ) from error


class _Clips:
    """What map-style and streamed clips share: reading a row, labels, epochs. Parameters are those of `ClipDataset`."""

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
    ):
        num_rows = len(rows) if hasattr(rows, "__len__") else None
        if num_rows == 0:
            raise ValueError("There are no videos to read: the split is empty.")
        self.rows, self.read, self.num_classes, self.multi_label = rows, read, num_classes, multi_label
        self.flipped_labels, self.seed, self.epoch = flipped_labels or {}, seed, SharedEpoch()
        self.bad_videos = CorruptVideos(num_rows, on_corrupt_video, max_corrupt_fraction, corrupt_video_log)
        self.pixels_name = "pixel_values_videos" if read.media == "video" else "pixel_values"

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: in this process and in the workers, those that are running too."""
        self.epoch.value = epoch

    @property
    def num_bad(self) -> int:
        """Videos that could not be read so far, over all workers of this process; those of a stream each time."""
        return int(self.bad_videos.bad.sum())

    def _sample(self, row: dict[str, Any], slot: int, epoch: int) -> dict[str, Any]:
        """The sample of a row, black pixels without a label where it cannot be read. slot: see `CorruptVideos.count`."""
        seed = sample_seed(self.seed, epoch, row["video_id"])
        self.bad_videos.count(self.bad_videos.read, slot)
        clip: Clip | None = None
        try:
            clip = self.read(row[self.read.media], seed)
        except (ValueError, OSError) as error:
            self.bad_videos.count(self.bad_videos.bad, slot)
            self.bad_videos.report(row["video_id"], row[self.read.media].get("path"), error)
        return {
            self.pixels_name: torch.zeros(self.read.shape, dtype=torch.uint8) if clip is None else clip.pixels,
            "labels": self._label(None if clip is None else row["label"], clip is not None and clip.is_mirrored),
            "sample_seed": seed,
            "video_id": row["video_id"],
            "is_bad": clip is None,
        }

    def _label(self, label: int | list[int] | None, is_mirrored: bool) -> torch.Tensor:
        if not self.multi_label:
            if label is not None and is_mirrored:
                label = self.flipped_labels.get(label, label)
            return torch.tensor(IGNORED_LABEL if label is None else label)
        if label is None:
            return torch.full((self.num_classes,), float(IGNORED_LABEL))
        label = [self.flipped_labels.get(each, each) if is_mirrored else each for each in label]
        return torch.zeros(self.num_classes).index_fill_(0, torch.tensor(label, dtype=torch.int64), 1.0)


class ClipDataset(_Clips, Dataset):
    """
    The clips of a split, decoded when they are asked for.

    rows: a split of `VideoData`.
    read: `RandomClipReader`, `RandomImageReader` or `MultiViewReader`.
    num_classes, multi_label: of the `VideoData`; labels are indices, or multi-hot vectors.
    flipped_labels: what becomes of a label when a clip is mirrored, see `augmentation.flipped_labels`.
    seed: of all draws, together with epoch and video.
    on_corrupt_video, max_corrupt_fraction, corrupt_video_log: see `CorruptVideos`.

    An item is `{"pixel_values_videos": uint8, "labels", "sample_seed", "video_id", "is_bad"}`.
    """

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.read_row(index, self.epoch.value)

    def read_row(self, index: int, epoch: int) -> dict[str, Any]:
        """An item as it is in an epoch, whichever the current one is."""
        return self._sample(self.rows[index], index, epoch)


class StreamedClips(_Clips, IterableDataset):
    """
    As `ClipDataset` over a `datasets.IterableDataset`, whose shards are divided among the workers.

    Bad videos are left out, and are a share of what was read. With `is_endless` one pass follows another, each in its own order
    where the stream is shuffled, so that batches depend on their number alone: a run that is resumed reads what it has seen
    once more and goes on exactly.
    """

    def __init__(self, *args, is_endless: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_endless = is_endless

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, first = get_worker_info(), self.epoch.value
        for epoch in count(first) if self.is_endless else [first]:
            self.rows.set_epoch(epoch)
            is_empty = True
            for row in self.rows:
                sample = self._sample(row, worker.id if worker else 0, epoch)
                if not sample["is_bad"]:
                    is_empty = False
                    yield sample
            if is_empty:  # of a worker without a shard, or where nothing can be read
                return


class ClipCollator:
    """
    Samples to a batch for the model: `{"pixel_values_videos" or "pixel_values", "labels"}`.

    augment: applied to the batch, on the CPU. `None` for evaluation, or where it is done on the GPU.
    keep_seeds: leave `rng` in the batch, which `BatchAugmentation` needs on the GPU and takes out.
    keep_ids: leave `video_ids` (list) and `is_bad` (bool tensor) in it, to write down predictions by video.
    """

    def __init__(self, augment: BatchAugmentation | None = None, keep_seeds: bool = False, keep_ids: bool = False):
        self.augment, self.keep_seeds, self.keep_ids = augment, keep_seeds, keep_ids

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        name = "pixel_values_videos" if "pixel_values_videos" in samples[0] else "pixel_values"
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in (name, "labels")}
        if self.augment is not None or self.keep_seeds:
            batch["sample_seeds"] = torch.tensor([sample["sample_seed"] for sample in samples])
        if self.augment is not None:
            batch = self.augment(batch)
        if self.keep_ids:
            batch["video_ids"] = [sample["video_id"] for sample in samples]
            batch["is_bad"] = torch.tensor([sample["is_bad"] for sample in samples])
        return batch
