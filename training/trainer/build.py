# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
From the configuration of a run to what it trains with: checked data, a model for their classes, clips, augmentation.

Both training scripts start here. Nothing in it knows about Trainer; of several processes the first checks the files, and
the others read what it found.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import set_seed

from tubevit.processing import TubeViTVideoProcessor

from ..data.augmentation import BatchAugmentation, flipped_labels
from ..data.check_data import CorruptVideo, check_videos, drop_bad, read_report, write_report
from ..data.clip_datasets import ClipCollator, ClipDataset, StreamedClips
from ..data.clip_sampling import MultiViewReader, RandomClipReader, RandomImageReader
from ..data.video_datasets import VideoData, load_video_dataset
from ..evaluation.metrics import ClassificationMetrics
from ..models.build import RunModel, checkpoint_classes, has_same_classes, load_run_config, make_model
from .run_config import CORRUPT_VIDEOS_FILE, TrainingRun


SKIPPED_VIDEOS_FILE = "skipped_videos.csv"  # found while training
# What there is to choose a checkpoint by, with one label per video and with several.
METRICS = {
    False: ("accuracy", "top5_accuracy", "mean_class_accuracy", "loss"),
    True: ("mean_average_precision", "loss"),
}


@dataclass
class RunSetup:
    """
    What a run trains with.

    data: without the videos that cannot be read. counts: per split, how many videos are listed, cannot be read, are used.
    train_clips, validation_clips: torch data sets; the latter `None` where there are no validation videos, or
        they are streamed.
    augment: what is done to a batch of training clips, on whatever device it is.
    notes: what was decided on the way, one sentence each, for the user to read.
    """

    run: TrainingRun
    data: VideoData
    counts: dict[str, dict[str, int]]
    model: RunModel
    train_clips: ClipDataset | StreamedClips
    validation_clips: ClipDataset | None
    augment: BatchAugmentation
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        return self.data.class_names

    def collator(self, augments: bool) -> ClipCollator:
        """
        Samples to batches. With `augments` the workers augment them; otherwise batches keep their `rng`, which
        `augment` needs and removes.
        """
        return ClipCollator(self.augment if augments else None, keep_seeds=not augments)

    def evaluation_collator(self) -> ClipCollator:
        return ClipCollator()

    @property
    def compute_metrics(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.data.multi_label)

    @property
    def chance_loss(self) -> float | None:
        """The loss of the best answer that does not look at the video; `None` for streamed data, which are not counted."""
        if "label" not in self.data.splits["train"].features or isinstance(self.train_clips, StreamedClips):
            return None
        return chance_loss(
            self.data.splits["train"]["label"],
            len(self.data.class_names),
            self.data.multi_label,
            self.run.augmentation.label_smoothing,
        )


def build_run(run: TrainingRun, folder: Path) -> RunSetup:
    """
    Load and check all that a run needs.

    folder: where the report of broken videos goes; a run that is resumed takes it in place of a check.

    Raises `ValueError`, `TypeError` or `OSError` in one line for whatever cannot be trained with.
    """
    set_seed(run.training.seed)
    listed = load_video_dataset(run.data)  # first: a model may have to be downloaded
    source = load_run_config(run.model)
    listed = in_order_of(checkpoint_classes(source, listed.media), run, listed)
    check_metric(run.training.metric_for_best_model, metrics_of(listed), f"with {len(listed.class_names)} classes")
    model = make_model(run.model, run.clips, listed, source)
    check_views(run, model)
    data = without_bad_videos(run, listed, folder)  # behind all that is found at once: it may take an hour
    setup = build_run_data(run, listed, data, model, folder / SKIPPED_VIDEOS_FILE)
    if "validation" in data.splits and setup.validation_clips is None:
        setup.notes.append("The validation split is streamed: it is scored at the end and not while training.")
    return setup


def build_run_data(run: TrainingRun, listed: VideoData, data: VideoData, model: RunModel, skipped: Path) -> RunSetup:
    """
    The clips of a data set, and what is done to them.

    listed: what the annotations name. data: of it, what can be read. skipped: file for what turns out later not to be.
    """
    train_clips, validation_clips = make_clips(run, data, model, skipped)
    augment = BatchAugmentation(
        run.augmentation, len(data.class_names), data.multi_label, list(model.processor.image_mean)
    )
    counts = {split: _count(listed.splits[split], data.splits[split]) for split in data.splits}
    return RunSetup(run, data, counts, model, train_clips, validation_clips, augment, [*data.notes, *model.notes])


def make_clips(run: TrainingRun, data: VideoData, model: RunModel, skipped: Path) -> tuple[Any, Any]:
    """Training clips (or images), and validation clips of one view per video; `skipped` as in `build_run_data`."""
    flips = flipped_labels(run.augmentation.flip, data.class_names)
    shared = {
        "num_classes": len(data.class_names),
        "multi_label": data.multi_label,
        "seed": run.training.seed,
        "on_corrupt_video": run.training.on_corrupt_video,
        "max_corrupt_fraction": run.training.max_corrupt_fraction,
        "corrupt_video_log": skipped,
    }
    read_training = RandomClipReader if data.media == "video" else RandomImageReader
    processor = model.processor_of(data.media)
    read = read_training(processor, run.augmentation, mirror=flips is not None)
    train = data.splits["train"]
    if hasattr(train, "__len__"):
        train_clips = ClipDataset(train, read, flipped_labels=flips, **shared)
    else:
        if run.training.max_steps < 0 or run.training.save_strategy == "epoch":
            raise ValueError(
                "A streamed data set has no length and no epochs: set max_steps, and save_strategy and eval_strategy to "
                "steps or no."
            )
        train = train.shuffle(seed=run.training.seed, buffer_size=run.data.shuffle_buffer_size)
        train_clips = StreamedClips(train, read, flipped_labels=flips, is_endless=True, **shared)
    validation = data.splits.get("validation")
    if not hasattr(validation, "__len__"):  # a stream is scored at the end alone
        return train_clips, None
    return train_clips, ClipDataset(validation, MultiViewReader(processor), **shared)


def chance_loss(labels: list, num_classes: int, multi_label: bool, smoothing: float = 0.0) -> float:
    """
    The training loss of always answering with the share that each class has of the videos, in nats.

    >>> round(chance_loss([0, 1, 2, 3], 4, False) / math.log(4), 6)
    1.0
    """
    counts = Counter(
        each for label in labels for each in (label or [] if multi_label else [label]) if each is not None
    )
    known = max(1, sum(label is not None for label in labels))
    shares = [counts[index] / known for index in range(num_classes)]
    if multi_label:
        shares = [share * (1 - smoothing) + smoothing / 2 for share in shares]
        return sum(_entropy(share) + _entropy(1 - share) for share in shares) / num_classes
    return sum(_entropy(share * (1 - smoothing) + smoothing / num_classes) for share in shares)


def metrics_of(data: VideoData) -> list[str]:
    """What a checkpoint can be chosen by."""
    return [name for name in METRICS[data.multi_label] if name != "top5_accuracy" or len(data.class_names) > 5]


def check_metric(metric: str | None, known: list[str], where: str) -> None:
    """Raise a `ValueError` for a metric that there is not `where`. Trainer would find out at the first evaluation."""
    if metric is not None and metric.removeprefix("eval_") not in known:
        raise ValueError(f"metric_for_best_model must be one of {', '.join(known)} {where}, got {metric!r}.")


def check_views(run: TrainingRun, model: RunModel) -> None:
    # The evaluation at the end makes them; by then it would be too late.
    views = {name: getattr(run.training, name) for name in ("num_temporal_views", "num_spatial_views")}
    TubeViTVideoProcessor.from_dict({**model.processor.to_dict(), **views})


def in_order_of(theirs: list[str] | None, run: TrainingRun, data: VideoData) -> VideoData:
    """`data`, read anew if a checkpoint has their classes in another order. Raises `ValueError` without a training split."""
    if theirs != data.class_names and has_same_classes(data.class_names, theirs):
        data = load_video_dataset(run.data, class_names=theirs)
        data.notes.append("Classes are in the checkpoint's order.")
    if "train" not in data.splits:
        raise ValueError("The data have no training split.")
    return data


def without_bad_videos(
    run: TrainingRun, data: VideoData, folder: Path, file_name: str = CORRUPT_VIDEOS_FILE
) -> VideoData:
    """
    `data` without what cannot be read, which a file in `folder` names.

    Raises `ValueError` if that is too much, or all.
    """
    if run.data.streaming:  # what a stream holds is found out while it is read
        return data
    found = [_find_bad_videos(run, data, folder, file_name) if PartialState().is_main_process else None]
    (bad,) = broadcast_object_list(found)  # what the first process found
    return drop_bad(data, bad, run.training.on_corrupt_video, run.training.max_corrupt_fraction)


def _find_bad_videos(run: TrainingRun, data: VideoData, folder: Path, file_name: str) -> list[CorruptVideo]:
    """By a check, whose report is there for the user and for a resumed run if there are any."""
    if run.training.is_resumed:
        report = Path(run.training.output_dir) / file_name
        return read_report(report) if report.is_file() else []
    bad = _check_files(run, data)
    if bad:
        write_report(bad, folder / file_name)
    return bad


def _check_files(run: TrainingRun, data: VideoData) -> list[CorruptVideo]:
    if run.training.corrupt_videos_file is not None:
        return read_report(run.training.corrupt_videos_file)
    if not run.training.check_data:
        return []
    return check_videos(data)[0]


def _count(listed: Any, used: Any) -> dict[str, int]:
    if not hasattr(listed, "__len__"):
        return {}
    return {"listed": len(listed), "cannot_be_read": len(listed) - len(used), "used": len(used)}


def _entropy(share: float) -> float:
    return -share * math.log(share) if share > 0 else 0.0
