# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
From the options of a run to its data and model: checked files, a model for their classes, clips, augmentation.

Both training scripts start here, independent of Trainer. The first process checks the files; the others receive its result.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import set_seed

from tubevit.processing import TubeViTVideoProcessor

from ..data.augmentation import BatchAugmentation, flipped_labels
from ..data.check_data import (
    CorruptVideo,
    ReadableFiles,
    check_videos,
    drop_corrupt,
    find_earlier_check,
    read_report,
    remember_check,
    write_report,
    writes_cache,
)
from ..data.class_names import describe_classes
from ..data.clip_datasets import ClipCollator, ClipDataset, StreamedClips
from ..data.clip_sampling import MultiViewReader, RandomClipReader, RandomImageReader
from ..data.dataset_columns import check_frame_rates, count_labels, fingerprint_rows
from ..data.joint_datasets import JointBatches, JointClips, JointCollator, NamedClips, count_batches
from ..data.shard_order import ShardOrder
from ..data.video_datasets import VideoData, load_video_dataset
from ..errors import with_name
from ..evaluation.metrics import ClassificationMetrics, group_accuracies
from ..launch import gather_on_cpu
from ..models.batch_norm import synchronize_batch_norms
from ..models.build import (
    RunModel,
    check_joint_family,
    checkpoint_classes,
    has_same_classes,
    head_classes,
    load_run_config,
    make_joint_model,
    make_model,
)
from ..models.clip_processors import measure_pixels
from .class_balance import BalancedOrder, balance_of, chance_loss, class_probabilities, label_array
from .ridge_start import check_ridge_start
from .run_config import CORRUPT_VIDEOS_FILE, JointRun, TrainingRun
from .token_budgets import TokenBudgets, budgets_of


SKIPPED_VIDEOS_FILE = "skipped_videos.csv"  # corrupt videos that are found while training
# Metrics of a validation split, by `multi_label`.
METRICS = {
    False: ("accuracy", "top5_accuracy", "mean_class_accuracy", "loss"),
    True: ("mean_average_precision", "loss"),
}


MEAN_SCORE = "mean_score"  # mean over data sets of their best metrics, see `ClassificationMetrics.best_metric`


@dataclass
class RunSetup:
    """
    Model and data of a run.

    data: without the corrupt videos. counts: for each split, the numbers of videos listed, unreadable and used.
    train_clips, validation_clips: torch data sets. `validation_clips` is `None` if there are no validation videos, or if they
        are streamed.
    augment: the augmentation of a batch of training clips, on the device of the batch.
    messages: decisions to show to the user, one sentence each.
    label_counts: training videos of each class, and training videos with a label; `None` for a stream.
    class_weights: weight of each class in the training loss, float32 `(classes,)`; `None` for equal weights.
    budgets: token budgets of the steps; `None` for all tokens in each step.
    loading_rate: clips per second that one loader worker feeds, measured for the start summary; `None` if it was not measured.
    """

    run: TrainingRun
    data: VideoData
    counts: dict[str, dict[str, int]]
    model: RunModel
    train_clips: ClipDataset | StreamedClips
    validation_clips: ClipDataset | None
    augment: BatchAugmentation
    messages: list[str] = field(default_factory=list)
    label_counts: tuple[np.ndarray, int] | None = None
    class_weights: torch.Tensor | None = None
    budgets: TokenBudgets | None = None
    loading_rate: float | None = None

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

    def train_order(self, world_size: int) -> ShardOrder | BalancedOrder | None:
        """
        The order of the training clips with `streaming=true`, for clips in shards, or with a `sampler` by class; `None` for the order
        of the loader.
        """
        run = self.run
        if run.training.sampler != "random":
            labels = label_array(self.data.splits["train"])
            return BalancedOrder(self.train_clips, labels, run.training.sampler, run.training.data_seed)
        in_order = run.training.train_sampling_strategy == "sequential"
        if not run.data.streaming or in_order or isinstance(self.train_clips, StreamedClips):
            return None
        size, buffer_size = run.training.per_device_train_batch_size, run.data.shuffle_buffer_size
        return ShardOrder(self.train_clips, size, world_size, buffer_size, run.training.data_seed)

    def skip_streamed(self, num_batches: int, world_size: int) -> None:
        """Do not decode the clips of a stream that a resumed run discards. num_batches: on each process."""
        if isinstance(self.train_clips, StreamedClips):  # the first process reads the batches of all
            self.train_clips.skip(num_batches * world_size, self.run.training.per_device_train_batch_size)

    @property
    def best_metric(self) -> str:
        """The metric of the best checkpoint, if `metric_for_best_model` is not given."""
        return self.compute_metrics.best_metric

    @property
    def compute_metrics(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.data.multi_label, self.data.label_groups)

    def count_batches(self, world_size: int) -> int:
        """Batches of an epoch on each process; for streamed data, which have no epochs, those of the whole run."""
        training = self.run.training
        if isinstance(self.train_clips, StreamedClips):
            return training.max_steps * training.gradient_accumulation_steps
        return training.count_batches(len(self.train_clips), world_size)

    def describe_task(self) -> dict[str, str]:
        """Lines of the summary: title to text."""
        return {"classes": describe_classes(self.class_names, self.data.label_groups)}

    @property
    def chance_loss(self) -> float | None:
        """Training loss of predicting the class frequencies, in nats; `None` for streamed data, whose labels are not counted."""
        if self.label_counts is None:
            return None
        counts, num_known = self.label_counts
        weights = None if self.class_weights is None else self.class_weights.double().numpy()
        if self.run.training.sampler != "random":
            counts, num_known = class_probabilities(self.run.training.sampler, counts), 1
        smoothing, groups = self.run.augmentation.label_smoothing, self.data.label_groups
        return chance_loss(counts, num_known, self.data.multi_label, smoothing, weights, groups)


@dataclass
class JointSetup:
    """
    Model and data of a joint run, with the attributes of `RunSetup`.

    parts: for each data set the `RunSetup` of a run on it alone, with the joint model.
    loading_rate: `None`, because the data sets differ in the time that a clip takes.
    """

    run: JointRun
    model: RunModel
    parts: dict[str, RunSetup]
    messages: list[str] = field(default_factory=list)
    loading_rate: float | None = None

    def __post_init__(self):
        self.train_clips = JointClips({name: part.train_clips for name, part in self.parts.items()})
        scored = {name: part for name, part in self.parts.items() if part.validation_clips is not None}
        named = {name: NamedClips(name, part.validation_clips) for name, part in scored.items()}
        self.validation_clips = named or None
        self.metrics = {name: ClassificationMetrics(part.data.multi_label) for name, part in self.parts.items()}

    @property
    def compute_metrics(self) -> ClassificationMetrics:
        """Metrics of the first data set; `metrics` has those of each."""
        return next(iter(self.metrics.values()))

    best_metric = MEAN_SCORE
    class_weights = budgets = None  # refused in joint runs

    def skip_streamed(self, num_batches: int, world_size: int) -> None:
        """As `RunSetup.skip_streamed`; a joint run has no streams."""

    @property
    def class_names(self) -> dict[str, list[str]]:
        return {name: part.class_names for name, part in self.parts.items()}

    @property
    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """For each data set and split: the numbers of videos or images listed, unreadable and used."""
        return {name: part.counts for name, part in self.parts.items()}

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of all batches that each data set has on average."""
        weights = {name: self.run.options_of(name).weight for name in self.parts}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Clips or images per device and forward pass."""
        return {name: part.run.training.per_device_train_batch_size for name, part in self.parts.items()}

    @property
    def chance_loss(self) -> float:
        """Mean training loss of predicting the class frequencies of each data set, in nats."""
        weights = {name: self.run.options_of(name).loss_weight for name in self.parts}
        return sum(self.fractions[name] * weights[name] * part.chance_loss for name, part in self.parts.items())

    def collator(self, augments: bool) -> JointCollator:
        """As `RunSetup.collator`."""
        augment = {name: part.augment for name, part in self.parts.items()}
        return JointCollator(augment if augments else None, keep_seeds=not augments)

    def evaluation_collator(self) -> JointCollator:
        return JointCollator()

    def augment(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.parts[batch["head"]].augment(batch)

    def batches(self, world_size: int) -> JointBatches:
        """The batch sampler: data set and samples of each batch."""
        weights = {name: self.run.options_of(name).weight for name in self.parts}
        return JointBatches(self.num_train, self.batch_sizes, weights, self.run.training.data_seed, world_size)

    @property
    def num_train(self) -> dict[str, int]:
        return {name: len(part.train_clips) for name, part in self.parts.items()}

    def count_batches(self, world_size: int) -> int:
        """Batches of an epoch on each process."""
        return count_batches(self.num_train, self.batch_sizes, world_size)

    def count_steps(self, world_size: int) -> int:
        """Optimizer steps of the whole run."""
        return self.run.training.count_steps(self.count_batches(world_size))


def build_run(run: TrainingRun | JointRun, folder: Path) -> RunSetup | JointSetup:
    """
    Load and check the data and the model of a run.

    folder: for the report of corrupt videos. A resumed run reads the report there instead of checking the files again.

    Raises `ValueError`, `TypeError` or `OSError` in one line for data, a model or options that cannot be used.
    """
    set_seed(run.training.seed)
    return add_notes(_build_joint(run, folder) if isinstance(run, JointRun) else _build_single(run, folder))


def add_notes(setup: Any) -> Any:
    """`setup` with messages on options without effect and on the evaluation."""
    run = setup.run
    setup.messages += run.training.without_effect()
    if run.training.eval_strategy != "no" and setup.validation_clips is None:
        setup.messages.append("There are no validation videos to evaluate while training: the last model is saved.")
    elif run.training.load_best_model_at_end and run.training.save_strategy != "no":
        setup.messages.append(
            "The best checkpoint on the validation videos is kept and then scored on the same videos, so its score is "
            "optimistic; load_best_model_at_end=false keeps the last one."
        )
    return setup


def _build_single(run: TrainingRun, folder: Path) -> RunSetup:
    listed = check_same_rows(load_video_dataset(run.data))  # before a model is downloaded
    source = load_run_config(run.model)
    listed = in_order_of(checkpoint_classes(source, listed.media), run, listed)
    check_metric(run.training.metric_for_best_model, metrics_of(listed), f"with {len(listed.class_names)} classes")
    balance_of(run.training, run.data.streaming, listed)  # for its errors
    measured = measure_pixels(run.model, [listed])
    model = make_model(run.model, run.clips, listed, source)
    model.messages += measured
    if run.training.sync_batch_norm and run.training.world_size > 1:
        synchronize_batch_norms(model.model, run.training.device.type)
    check_views(run, model)
    budgets = budgets_of(run.training, model, listed.media)
    check_ridge_start(run, listed, model)
    data = without_corrupt_videos(run, listed, folder)  # last: it may take an hour
    setup = build_run_data(run, listed, data, model, folder / SKIPPED_VIDEOS_FILE)
    setup.budgets = budgets
    if "validation" in data.splits and setup.validation_clips is None:
        setup.messages.append("The validation split is streamed: it is evaluated after training only.")
    return setup


def _build_joint(run: JointRun, folder: Path) -> JointSetup:
    """As `build_run`; an error in one data set names the data set."""
    source = load_run_config(run.model)
    check_joint_family(run.model, source)
    runs = {name: run.run_of(name) for name in run.names}
    listed = {name: with_name(name, _load_data, run, name) for name in runs}  # before weights are downloaded
    for name, data in listed.items():
        listed[name] = with_name(name, in_order_of, head_classes(source, name), runs[name], data)
    _check_joint_metric(run, listed)
    loss_weights = {name: run.options_of(name).loss_weight for name in runs}
    measured = measure_pixels(run.model, list(listed.values()))
    model = make_joint_model(run.model, run.clips, listed, loss_weights, source)
    if any(each.media == "image" for each in listed.values()):
        model.model.config.num_image_tokens()  # raises if no tube fits an image
    check_views(run, model)
    parts, messages = {}, [*model.messages, *measured]
    for name, own_run in runs.items():
        data = with_name(name, without_corrupt_videos, own_run, listed[name], folder, run.report_of(name))
        parts[name] = build_run_data(own_run, listed[name], data, model, folder / f"skipped_videos_{name}.csv")
        messages += [f"{name}: {message}" for message in data.messages]
    return JointSetup(run, model, parts, messages)


def _load_data(run: JointRun, name: str) -> VideoData:
    own_run, kind = run.run_of(name), run.options_of(name).kind
    if own_run.data.streaming:
        raise ValueError(
            "streaming=true gives no access to single samples, which joint training needs; set streaming=false."
        )
    data = check_same_rows(load_video_dataset(own_run.data))
    if kind not in (None, data.media):
        raise ValueError(f"kind={kind}, but the data are {data.media}s.")
    if data.label_groups:
        raise ValueError(
            f"A video has one label of each of {', '.join(data.label_groups)}, and a head of a joint model has one group of labels: "
            "train on this data set alone."
        )
    return data


def _check_joint_metric(run: JointRun, data: Mapping[str, VideoData]) -> None:
    scored = {name: each for name, each in data.items() if "validation" in each.splits}
    known = [MEAN_SCORE, *(f"{name}_{metric}" for name, each in scored.items() for metric in metrics_of(each))]
    check_metric(run.training.metric_for_best_model, known, "with these data sets")


def build_run_data(run: TrainingRun, listed: VideoData, data: VideoData, model: RunModel, skipped: Path) -> RunSetup:
    """
    Clips and augmentation of a data set.

    listed: all rows of the annotations. data: the rows whose files can be read. skipped: file to list the
    videos that cannot be decoded while training.
    """
    train_clips, validation_clips = make_clips(run, data, model, skipped)
    augment = BatchAugmentation(
        run.augmentation,
        len(data.class_names),
        data.multi_label,
        list(model.processor.image_mean),
        data.label_groups,
    )
    counts = {split: count_videos(listed.splits[split], data.splits[split]) for split in data.splits}
    label_counts, weights = balance_of(run.training, run.data.streaming, data)
    messages = [*data.messages, *model.messages, *_unscored(data)]
    if run.data.streaming and isinstance(train_clips, ClipDataset):
        messages.append(
            "The training clips are read one shard after the other, shuffled within buffers of "
            f"{run.data.shuffle_buffer_size:,} clips of a rank; corrupt videos are found while training (streaming=true)."
        )
    elif run.training.is_resumed and isinstance(train_clips, StreamedClips):
        messages.append(
            "The rows of the stream are read again up to the place of the checkpoint, without decoding them: the state that `datasets` "
            "saves of a stream lacks the rows in its shuffle buffer, which would be lost. Shards of `tubevit data shard` are continued "
            "at once."
        )
    return RunSetup(run, data, counts, model, train_clips, validation_clips, augment, messages, label_counts, weights)


def scored_split(data: VideoData) -> str | None:
    """
    The split that is scored after training: validation, which may have been held out of the training split, else a test split
    with labels. `None` if there is neither.
    """
    if "validation" in data.splits:
        return "validation"
    return "test" if _has_labels(data.splits.get("test")) else None


def _has_labels(rows: Any) -> bool:
    """Whether a split has labels; a streamed split is assumed to have them."""
    if rows is None:
        return False
    return not hasattr(rows, "__len__") or count_labels(rows, 0)[1] > 0


def _unscored(data: VideoData) -> list[str]:
    if scored_split(data) != "validation" or not _has_labels(data.splits.get("test")):
        return []
    return [
        "The validation split is scored, not the test split: score that by `tubevit eval` with split=test. If the data have no "
        "validation split, validation_fraction=0 trains on all training videos and scores the test split."
    ]


def make_clips(run: TrainingRun, data: VideoData, model: RunModel, skipped: Path) -> tuple[Any, Any]:
    """Training clips (or images), and validation clips of one view per video; `skipped` as in `build_run_data`."""
    flips = flipped_labels(run.augmentation.flip, data.class_names)
    shared = {
        "num_classes": len(data.class_names),
        "multi_label": data.multi_label,
        "label_groups": data.label_groups,
        "is_labeled": not run.is_masked,
        "seed": run.training.seed,
        "on_corrupt_video": run.training.on_corrupt_video,
        "max_corrupt_fraction": run.training.max_corrupt_fraction,
        "corrupt_video_log": skipped,
    }
    read_training = RandomClipReader if data.media == "video" else RandomImageReader
    processor = model.processor_of(data.media)
    read = read_training(processor, run.augmentation, mirror=flips is not None)
    train = data.splits["train"]
    if data.media == "video":
        check_frame_rates(train, processor.sampling)
    if hasattr(train, "__len__"):
        train_clips = ClipDataset(train, read, flipped_labels=flips, **shared)
    else:
        if run.training.max_steps < 0 or run.training.save_strategy == "epoch":
            raise ValueError(
                "A streamed data set has no length and no epochs: set max_steps, and set save_strategy and eval_strategy "
                "to steps or no."
            )
        train = train.shuffle(seed=run.training.data_seed, buffer_size=run.data.shuffle_buffer_size)
        train_clips = StreamedClips(train, read, flipped_labels=flips, is_endless=True, **shared)
    validation = data.splits.get("validation")
    if not hasattr(validation, "__len__"):  # a stream is evaluated after training only
        return train_clips, None
    return train_clips, ClipDataset(validation, MultiViewReader(processor), **shared)


def metrics_of(data: VideoData) -> list[str]:
    """Names that `metric_for_best_model` accepts."""
    if data.label_groups:
        first = np.cumsum([0, *data.label_groups.values()])[None, :-1]
        return [*group_accuracies(np.zeros((1, len(data.class_names))), first, data.label_groups), "loss"]
    return [name for name in METRICS[data.multi_label] if name != "top5_accuracy" or len(data.class_names) > 5]


def check_metric(metric: str | None, known: list[str], where: str) -> None:
    """Raise a `ValueError` for an unknown metric. Trainer would raise at the first evaluation."""
    if metric is not None and metric.removeprefix("eval_") not in known:
        raise ValueError(f"metric_for_best_model must be one of {', '.join(known)} {where}, got {metric!r}.")


def check_views(run: TrainingRun, model: RunModel) -> None:
    """Raise an error if the processor cannot make the views of the evaluation after training."""
    views = {name: getattr(run.training, name) for name in ("num_temporal_views", "num_spatial_views")}
    own = model.own_processor  # another family's own settings are not checked here
    reader_class = type(own) if isinstance(own, TubeViTVideoProcessor) else TubeViTVideoProcessor
    reader_class.from_dict({**model.processor.to_dict(), **views})


def in_order_of(theirs: list[str] | None, run: TrainingRun, data: VideoData) -> VideoData:
    """`data` with classes in the order of a checkpoint with the same classes. Raises `ValueError` without a training split."""
    if theirs != data.class_names and has_same_classes(data.class_names, theirs):
        data = check_same_rows(load_video_dataset(run.data, class_names=theirs))
        data.messages.append("Classes are in the checkpoint's order.")
    if "train" not in data.splits:
        raise ValueError("The data have no training split.")
    return data


def without_corrupt_videos(
    run: TrainingRun, data: VideoData, folder: Path, file_name: str = CORRUPT_VIDEOS_FILE
) -> VideoData:
    """
    `data` without the corrupt videos, which a report in `folder` lists.

    Raises `ValueError` if more than `max_corrupt_fraction` of a split, or all of it, is corrupt.
    """
    if run.data.streaming:  # corrupt videos of a stream are found while it is read
        return data
    is_checked = run.training.check_data and not run.training.is_resumed and run.training.corrupt_videos_file is None
    if is_checked:
        corrupt = _check_files(data)  # by all processes
    else:
        corrupt = gather_on_cpu(_read_earlier_report(run, file_name) if PartialState().is_main_process else None)[0]
    if corrupt and not run.training.is_resumed and PartialState().is_main_process:
        write_report(corrupt, folder / file_name)
    return drop_corrupt(data, corrupt, run.training.on_corrupt_video, run.training.max_corrupt_fraction)


def _check_files(data: VideoData) -> list[CorruptVideo]:
    """
    Corrupt videos by a check of all files but those that an earlier run could read, which a message counts; of an index that was checked,
    by that check.
    """
    earlier = gather_on_cpu(find_earlier_check(data) if PartialState().is_main_process else None)[0]
    if earlier is not None:
        corrupt, when = earlier
        data.messages.append(
            f"The {data.media}s of the index were checked on {time.strftime('%Y-%m-%d %H:%M', time.localtime(when))} and are not opened "
            "again; `tubevit data check` opens them all."
        )
        return corrupt
    is_writer = writes_cache()
    readable_files = ReadableFiles(is_writer=is_writer)
    corrupt, _ = check_videos(data, readable_files=readable_files, is_shared=True)
    num_used = sum(gather_on_cpu(readable_files.num_used))
    if num_used:
        total = sum(len(rows) for rows in data.splits.values())
        data.messages.append(
            f"{num_used:,} of {total:,} {data.media}s are unchanged since an earlier check and were not opened again "
            f"({readable_files.path})."
        )
    if readable_files.error:
        data.messages.append(readable_files.error)
    if is_writer:
        data.messages += remember_check(data, corrupt)
    return corrupt


def check_same_rows(data: VideoData) -> VideoData:
    """`data`. Raises `ValueError` if processes of the run have different rows or classes: their numbers of steps could differ."""
    if PartialState().num_processes > 1 and len(set(gather_on_cpu(fingerprint_rows(data)))) > 1:
        raise ValueError(
            "The processes of the run read different annotations: the data changed while they were read, or the machines have "
            "different copies. Start the run again when all machines see the same annotations."
        )
    return data


def _read_earlier_report(run: TrainingRun, file_name: str) -> list[CorruptVideo]:
    """Corrupt videos by the report of an earlier check: of the resumed run, or `corrupt_videos_file`. Empty if there is none."""
    if run.training.is_resumed:
        report = Path(run.training.output_dir) / file_name
        return read_report(report) if report.is_file() else []
    return [] if run.training.corrupt_videos_file is None else read_report(run.training.corrupt_videos_file)


def count_videos(listed: Any, used: Any) -> dict[str, int]:
    if not hasattr(listed, "__len__"):
        return {}
    return {"listed": len(listed), "cannot_be_read": len(listed) - len(used), "used": len(used)}
