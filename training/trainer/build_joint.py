# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""From the configuration of a joint run to what it trains with: each data set as in a run of its own, and one model for all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import set_seed

from ..data.joint_datasets import JointBatches, JointClips, JointCollator, NamedClips, count_batches
from ..data.video_datasets import VideoData, load_video_dataset
from ..evaluation.metrics import ClassificationMetrics
from ..models.build import RunModel, head_classes, load_run_config, make_joint_model, with_name
from .build import RunSetup, build_run_data, check_metric, check_views, in_order_of, metrics_of, without_bad_videos
from .run_config import JointRun


MEAN_SCORE = "mean_score"  # over data sets: of accuracy, or where there are several labels of mean average precision


@dataclass
class JointSetup:
    """
    What a joint run trains with; read like a `RunSetup`.

    parts: for each data set what a run on it alone would train with, with the joint model.
    """

    run: JointRun
    model: RunModel
    parts: dict[str, RunSetup]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.train_clips = JointClips({name: part.train_clips for name, part in self.parts.items()})
        scored = {name: part for name, part in self.parts.items() if part.validation_clips is not None}
        named = {name: NamedClips(name, part.validation_clips) for name, part in scored.items()}
        self.validation_clips = named or None
        self.metrics = {name: ClassificationMetrics(part.data.multi_label) for name, part in self.parts.items()}

    @property
    def compute_metrics(self) -> ClassificationMetrics:
        """Of the first data set; the others have their own in `metrics`."""
        return next(iter(self.metrics.values()))

    @property
    def class_names(self) -> dict[str, list[str]]:
        return {name: part.class_names for name, part in self.parts.items()}

    @property
    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """For each data set and split, how many videos or images are listed, cannot be read, are used."""
        return {name: part.counts for name, part in self.parts.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Of all batches, how many a data set has on average."""
        weights = {name: self.run.options_of(name).weight for name in self.parts}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Clips or images per device and forward pass."""
        return {name: part.run.training.per_device_train_batch_size for name, part in self.parts.items()}

    @property
    def chance_loss(self) -> float:
        """The mean loss of the best answers that do not look at videos and images."""
        weights = {name: self.run.options_of(name).loss_weight for name in self.parts}
        return sum(self.shares[name] * weights[name] * part.chance_loss for name, part in self.parts.items())

    def collator(self, augments: bool) -> JointCollator:
        """As `RunSetup.collator`."""
        augment = {name: part.augment for name, part in self.parts.items()}
        return JointCollator(augment if augments else None, keep_seeds=not augments)

    def evaluation_collator(self) -> JointCollator:
        return JointCollator()

    def augment(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.parts[batch["head"]].augment(batch)

    def batches(self, world_size: int) -> JointBatches:
        """Which samples make up each batch."""
        weights = {name: self.run.options_of(name).weight for name in self.parts}
        return JointBatches(self.num_train, self.batch_sizes, weights, self.run.training.seed, world_size)

    @property
    def num_train(self) -> dict[str, int]:
        return {name: len(part.train_clips) for name, part in self.parts.items()}

    def count_steps(self, world_size: int) -> int:
        """Optimizer steps of the whole run."""
        return self.run.training.count_steps(count_batches(self.num_train, self.batch_sizes, world_size))


def build_joint_run(run: JointRun, folder: Path) -> JointSetup:
    """As `build.build_run`; what is wrong with one data set says which one it is."""
    set_seed(run.training.seed)
    runs = {name: run.run_of(name) for name in run.names}
    listed = {
        name: with_name(name, _load_data, run, name) for name in runs
    }  # first: a model may have to be downloaded
    source = load_run_config(run.model)
    for name, data in listed.items():
        listed[name] = with_name(name, in_order_of, head_classes(source, name), runs[name], data)
    _check_metric(run, listed)
    loss_weights = {name: run.options_of(name).loss_weight for name in runs}
    model = make_joint_model(run.model, run.clips, listed, loss_weights, source)
    if any(each.media == "image" for each in listed.values()):
        model.model.config.num_image_tokens()  # raises where no tube fits an image
    check_views(run, model)
    parts, notes = {}, list(model.notes)
    for name, own_run in runs.items():
        data = with_name(name, without_bad_videos, own_run, listed[name], folder, run.report_of(name))
        parts[name] = build_run_data(own_run, listed[name], data, model, folder / f"skipped_videos_{name}.csv")
        notes += [f"{name}: {note}" for note in data.notes]
    return JointSetup(run, model, parts, notes)


def _load_data(run: JointRun, name: str) -> VideoData:
    own_run, kind = run.run_of(name), run.options_of(name).kind
    if own_run.data.streaming:
        raise ValueError("streaming=true cannot be drawn from at a given place; download it, with streaming=false.")
    data = load_video_dataset(own_run.data)
    if kind not in (None, data.media):
        raise ValueError(f"kind={kind}, but the data are {data.media}s.")
    return data


def _check_metric(run: JointRun, data: Mapping[str, VideoData]) -> None:
    scored = {name: each for name, each in data.items() if "validation" in each.splits}
    known = [MEAN_SCORE, *(f"{name}_{metric}" for name, each in scored.items() for metric in metrics_of(each))]
    check_metric(run.training.metric_for_best_model, known, "with these data sets")
