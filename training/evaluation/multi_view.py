# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Load the videos of an evaluation and predict logits for every view of every video, in one process or several.

Labels are matched by class name, because checkpoints and copies of a data set may order their classes differently.

Each of `n` processes reads every `n`-th video. No video is repeated for equal counts, and a check makes sure that the gathered
predictions contain every video once. A video that cannot be read stays in the result without logits, with the reason.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..data.class_names import LabelEncoder
from ..data.clip_sampling import MultiViewReader
from ..data.dataset_columns import check_frame_rates, row_source, segment_of
from ..data.segments import Segment
from ..data.torchcodec_decoding import worker_start_method
from ..data.video_datasets import DataConfig, VideoData, load_video_dataset
from ..models.loading import ClipModel, VideoClassifier


SPLITS = ("validation", "test")  # the first of these that the data have is the default


@dataclass
class EvaluationData:
    """
    A split to evaluate.

    rows: `datasets.Dataset` or `IterableDataset`, as in `VideoData`. split: its name.
    class_names: the classifier's classes, in the order of its logits.
    to_class: the index of the classifier's class for each label index in `rows`; `None` if the indices are the same.
    messages: decisions to show to the user, one sentence each.
    """

    rows: Any
    split: str
    class_names: list[str]
    to_class: list[int] | None = None
    messages: list[str] = field(default_factory=list)

    def label_of(self, label: int | Sequence[int] | None) -> int | list[int] | None:
        """The index of the classifier's class for the label of a row, or a list of indices for several labels."""
        if label is None or self.to_class is None:
            return label
        return self.to_class[label] if isinstance(label, int) else sorted(self.to_class[each] for each in label)


def load_evaluation_data(config: DataConfig, classifier: VideoClassifier, split: str | None = None) -> EvaluationData:
    """
    Read the annotations in `config`.

    split: name of the split (default: validation if there is one, else test).

    Raises `ValueError` if the data and the classifier have different classes, media or numbers of labels per video.
    """
    names = classifier.class_names
    if names is not None and config.class_names_file is None:
        data = load_video_dataset(config, names)
        to_class = None
    else:
        data = load_video_dataset(config)
        to_class = _match_classes(data, names, classifier.model.config.num_labels)
    rows, split = _pick_split(data, split)
    if data.media != classifier.media:
        raise ValueError(
            f"The data are {data.media}s; a classifier of {classifier.media}s is evaluated on {classifier.media}s."
        )
    if data.media == "video":
        check_frame_rates(rows, classifier.processor.sampling)
    kinds = [_kind_of_labels(each) for each in (data, classifier)]
    if _any_label(rows) and kinds[0] != kinds[1]:
        raise ValueError(
            f"The data have {kinds[0]}, the checkpoint was trained on {kinds[1]} "
            f"(problem_type={classifier.model.config.problem_type!r})."
        )
    if names is None:
        data.messages.append(
            "The checkpoint has no class names: its classes are assumed to have the order of the data, "
            f"{', '.join(data.class_names[:3])}{', ...' if len(data.class_names) > 3 else ''}."
        )
    return EvaluationData(rows, split, names or data.class_names, to_class, data.messages)


def _kind_of_labels(data: VideoData | VideoClassifier) -> str:
    if data.label_groups:
        return f"one label of each of {', '.join(f'{size} {name}s' for name, size in sorted(data.label_groups.items()))} per video"
    return "several labels per video" if data.multi_label else "one label per video"


def _match_classes(data: VideoData, names: list[str] | None, num_labels: int) -> list[int] | None:
    if names is None:
        if len(data.class_names) != num_labels:
            raise ValueError(
                f"The data have {len(data.class_names)} classes and the checkpoint {num_labels}, without names: list the "
                "names in the checkpoint's order in a file, and give class_names_file."
            )
        return None
    index_of = LabelEncoder(names)
    try:
        return [index_of(name) for name in data.class_names]
    except ValueError as error:
        raise ValueError(f"The data have a class that the checkpoint does not have: {error}") from None


def _pick_split(data: VideoData, split: str | None) -> tuple[Any, str]:
    existing = ", ".join(data.splits)
    if split is None:
        split = next((name for name in SPLITS if name in data.splits), None)
        if split is None:
            raise ValueError(f"The data have no validation or test split; set split to one of: {existing}.")
    if split not in data.splits:
        raise ValueError(f"There is no split {split!r}; the data have: {existing}.")
    rows = data.splits[split]
    if hasattr(rows, "__len__") and not len(rows):
        raise ValueError(f"The {split} split is empty.")
    return rows, split


def _any_label(rows: Any) -> bool:
    """Whether the first row has a label."""
    return next(iter(rows), {"label": None})["label"] is not None


class VideoPrediction(NamedTuple):
    """
    The logits of one video, or the reason why it has none.

    index: position of the video in the split; `None` in a stream.
    label: class index, a list of indices for several labels, `None` if unknown.
    logits: float32 `(views, classes)`, with the spatial views of a clip next to each other; `None` for a video that was not scored. Of a
        `VideoEncoder`, the embeddings `(views, *shape)`.
    reason: why the video was not scored. is_missing: whether the file does not exist.
    segment: the part of the video that was scored; `None` for the whole video.
    """

    index: int | None
    video_id: str
    path: str
    label: Any
    logits: np.ndarray | None
    reason: str | None = None
    is_missing: bool = False
    segment: Segment | None = None


@dataclass
class Throughput:
    """Counts and times of an evaluation. seconds: wall time from the first request for data to the last prediction."""

    num_videos: int = 0
    num_clips: int = 0
    seconds: float = 0.0
    seconds_waiting: float = 0.0  # for data
    num_processes: int = 1

    def summary(self) -> dict[str, float | int]:
        """The content of `throughput.json`."""
        seconds = max(self.seconds, 1e-9)
        return {
            "seconds": round(self.seconds, 3),
            "videos_per_second": round(self.num_videos / seconds, 3),
            "clips_per_second": round(self.num_clips / seconds, 3),
            "share_of_time_waiting_for_data": round(self.seconds_waiting / seconds, 4),
            "num_processes": self.num_processes,
        }


def predict_multi_view(
    classifier: ClipModel,
    rows: Any,
    accelerator: Any,
    batch_size: int = 16,
    num_workers: int = 0,
    max_batches: int | None = None,
    description: str = "scoring",
) -> tuple[list[VideoPrediction], Throughput]:
    """
    A prediction for each row of a split, in the order of the rows. Every process returns all predictions.

    classifier: with its model on the accelerator's device.
    rows: a split of `VideoData`.
    batch_size: clips (views) per forward pass.
    num_workers: decoding processes per device.
    max_batches: stop after this number of batches, for a dry run.
    description: of the progress bar.
    """
    from accelerate.utils import gather_object

    predictions: list[VideoPrediction] = []
    start, waited = time.perf_counter(), 0.0
    batches = iterate_predictions(classifier, rows, accelerator, batch_size, num_workers, description)
    with closing(batches):
        for scored, seconds in islice(batches, max_batches):
            waited += seconds
            predictions += scored
    own_times = [(time.perf_counter() - start, waited)]
    predictions, times = gather_object(predictions), gather_object(own_times)
    if not _is_stream(rows):
        predictions.sort(key=lambda prediction: prediction.index)
        if max_batches is None and [each.index for each in predictions] != list(range(len(rows))):
            raise RuntimeError(f"The processes returned {len(predictions)} predictions for {len(rows)} videos.")
    scored = [each for each in predictions if each.logits is not None]
    return predictions, Throughput(
        num_videos=len(scored),
        num_clips=sum(len(each.logits) for each in scored),
        seconds=max(seconds for seconds, _ in times),
        seconds_waiting=sum(waiting for _, waiting in times) / len(times),
        num_processes=len(times),
    )


def iterate_predictions(
    model: ClipModel, rows: Any, accelerator: Any, batch_size: int, num_workers: int, description: str
) -> Iterator[tuple[list[VideoPrediction], float]]:
    """
    The predictions for each batch of the rows of this process, which are every `num_processes`-th row, and the seconds of waiting for
    the batch.

    model, and the other arguments: as for `predict_multi_view`. description: of the progress bar.
    """
    from ..logging_utils import progress_bar

    loader = _make_loader(model, rows, accelerator, batch_size, num_workers)
    total = len(loader.dataset) if isinstance(loader.dataset, Dataset) and not _is_stream(rows) else None
    hidden = not accelerator.is_main_process
    with progress_bar(description=description, total=total, unit="video", is_hidden=hidden) as progress:
        for items, seconds in _timed(loader):
            yield _predict(items, model, accelerator.device, batch_size), seconds
            progress.update(len(items))


class _Item(NamedTuple):
    """A video before its forward pass: a prediction without logits, and pixels `(views, frames, channels, height, width)`."""

    prediction: VideoPrediction
    pixels: torch.Tensor | None


class _Reader:
    """Reads a row into an `_Item`; the item of a video that cannot be read has no pixels."""

    def __init__(self, model: ClipModel):
        self.read, self.num_views = MultiViewReader(model.processor), model.num_views

    def __call__(self, row: dict[str, Any], index: int | None) -> _Item:
        video = row_source(row, self.read.media)
        path = video.get("path") or ""
        found = VideoPrediction(index, row["video_id"], path, row["label"], None, segment=segment_of(row))
        try:
            pixels = self.read(video).pixels
        except (ValueError, OSError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = " ".join(text.split()).removeprefix(f"{found.path} ") or type(error).__name__
            return _Item(found._replace(reason=reason, is_missing=isinstance(error, FileNotFoundError)), None)
        return _Item(found, pixels if self.num_views > 1 else pixels[None])


class _Videos(Dataset):
    """Every `step`-th row, starting at row `first`."""

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


def _make_loader(model: ClipModel, rows: Any, accelerator: Any, batch_size: int, num_workers: int) -> DataLoader:
    rank, world, reader = accelerator.process_index, accelerator.num_processes, _Reader(model)
    if _is_stream(rows):
        from datasets.distributed import split_dataset_by_node

        videos: Any = _VideoStream(split_dataset_by_node(rows, rank, world), reader)
    else:
        videos = _Videos(rows, reader, rank, world)
    return DataLoader(
        videos,
        batch_size=max(1, batch_size // model.num_views),
        num_workers=num_workers,
        multiprocessing_context=worker_start_method(num_workers),
        collate_fn=list,  # videos that cannot be read make batches uneven
        pin_memory=accelerator.device.type == "cuda",
    )


def _timed(loader: DataLoader) -> Iterator[tuple[list[_Item], float]]:
    """The batches of a loader, each with the seconds spent waiting for it."""
    batches = iter(loader)
    while True:
        start = time.perf_counter()
        items = next(batches, None)
        if items is None:
            return
        yield items, time.perf_counter() - start


def _predict(items: list[_Item], model: ClipModel, device: Any, batch_size: int) -> list[VideoPrediction]:
    outputs_of_videos: list[np.ndarray] = []
    read = [item.pixels for item in items if item.pixels is not None]
    for shape, videos in groupby(
        read, key=lambda pixels: pixels.shape
    ):  # frames that are not cropped have several sizes
        chunks = torch.cat([each.to(device, non_blocking=True) for each in videos]).split(batch_size)
        outputs_of_videos.extend(
            torch.cat([model(clips) for clips in chunks]).unflatten(0, (-1, shape[0])).cpu().numpy()
        )
    outputs = iter(outputs_of_videos)
    return [item.prediction if item.pixels is None else _scored(item.prediction, next(outputs)) for item in items]


def _scored(prediction: VideoPrediction, outputs: np.ndarray) -> VideoPrediction:
    if not np.isfinite(outputs).all():
        return prediction._replace(reason="the model's output is NaN or inf")
    return prediction._replace(logits=outputs)
