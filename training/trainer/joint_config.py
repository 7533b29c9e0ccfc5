# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What a run is told that trains on several data sets, videos and images (section 3.5): `datasets`, a mapping from their names.

    datasets:
      kinetics400: {data: path/to/kinetics400, data_format: kinetics, weight: 2}
      imagenet1k: {data: path/to/imagenet, rand_augment_layers: 0}

A data set has the options of the block data, those of the block augmentation where they differ from the run's, and those
of `DatasetOptions`. On the command line they are `datasets.imagenet1k.data=path/to/imagenet`.
"""

import argparse
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..data.augmentation import AugmentationConfig
from ..data.video_datasets import DataConfig
from ..models.model_options import ClipConfig, ModelConfig
from ..options import as_mapping, make_config, option, read_options
from .run_config import (
    BLOCKS,
    RECIPES,
    EvaluationConfig,
    RunConfig,
    TrainingConfig,
    TrainingRun,
    check_strategies,
    complete_layer_decay,
)


# A name becomes that of a folder, a part of parameter names, and of keys on the command line.
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
RESERVED = ("evaluation", "runs")  # folders of a run; TensorBoard's files are in the latter


@dataclass
class DatasetOptions:
    """One of several data sets: its share of the run."""

    kind: Literal["video", "image"] | None = option(None, "what it must hold (default: what it does)")
    weight: float = option(1.0, "its batches are drawn in proportion to this")
    loss_weight: float = option(1.0, "factor on its loss")
    per_device_train_batch_size: int | None = option(None, "of its batches (default: the run's)")
    corrupt_videos_file: str | None = option(None, "what `tubevit check-data` wrote about it")

    def __post_init__(self):
        for name in ("weight", "loss_weight"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.per_device_train_batch_size is not None and self.per_device_train_batch_size < 1:
            raise ValueError(
                f"per_device_train_batch_size must be at least 1, got {self.per_device_train_batch_size}."
            )


DATASET_BLOCKS = {"data": DataConfig, "augmentation": AugmentationConfig, "options": DatasetOptions}


@dataclass
class JointConfig:
    """Several data sets in one run, each with a head of its own, in place of the block data."""

    datasets: dict | str | None = field(
        default=None,
        metadata={
            "help": "name to options of a data set: those of data and augmentation, kind, weight, loss_weight, "
            "per_device_train_batch_size; as a mapping or JSON, or one by one: datasets.NAME.data=FOLDER"
        },
    )

    def __post_init__(self):
        self.datasets = as_mapping(self.datasets, "datasets")
        for name, values in self.datasets.items():
            if not NAME.fullmatch(str(name)) or name in RESERVED:
                raise ValueError(
                    f"datasets: {name!r} cannot name a data set: a letter, then letters, digits and underscores can, but for "
                    f"{', '.join(RESERVED)}."
                )
            if not isinstance(values, dict):
                raise ValueError(f"datasets.{name} must be a mapping of options, got {values!r}.")
            self.blocks_of(name, AugmentationConfig())

    def blocks_of(self, name: str, augmentation: AugmentationConfig) -> dict[str, Any]:
        """
        Block name to dataclass, those of `DATASET_BLOCKS`, for one data set; `augmentation` holds where it does not say.

        Raises `ValueError` or `TypeError` of one line that names data set and option.
        """
        values = self.datasets[name]
        try:
            return make_config({**vars(augmentation), **values}, DATASET_BLOCKS)
        except (ValueError, TypeError) as error:
            hint = ""
            if not any(str(key).endswith("data") for key in values):
                names = ", ".join(map(str, self.datasets))
                hint = f" Set datasets.{name}.data; the data sets of this run are {names}."
            raise type(error)(f"datasets.{name}: {error}{hint}") from None


JOINT_BLOCKS = {name: block for name, block in BLOCKS.items() if name != "data"} | {"joint": JointConfig}
ALL_BLOCKS = {**BLOCKS, "joint": JointConfig}


@dataclass
class JointRun:
    """All blocks of a joint training run, as `options` reads them for `JOINT_BLOCKS`."""

    model: ModelConfig
    clips: ClipConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    run: RunConfig
    joint: JointConfig

    def __post_init__(self):
        check_strategies(self.training, self.evaluation, self.run)
        complete_layer_decay(self.model, self.training)
        if not self.joint.datasets:
            raise ValueError("datasets is empty: give each data set a name and its data.")
        if self.run.corrupt_videos_file is not None:
            raise ValueError("corrupt_videos_file is one data set's: set datasets.NAME.corrupt_videos_file.")
        if self.model.lora_rank:
            raise ValueError("lora_rank is for one data set; freeze layers instead, num_frozen_layers=N.")
        trainer = self.run.trainer
        if trainer.get("ddp_static_graph") or trainer.get("ddp_find_unused_parameters") is False:
            raise ValueError(
                "A step of joint training leaves other data sets' heads unused: trainer needs "
                "ddp_find_unused_parameters=true and no ddp_static_graph."
            )

    @classmethod
    def of(cls, **options: Any) -> "JointRun":
        """From options by their names; the others have their defaults."""
        return cls(**make_config(options, JOINT_BLOCKS))

    @property
    def names(self) -> list[str]:
        return list(self.joint.datasets)

    def options_of(self, name: str) -> DatasetOptions:
        return self.joint.blocks_of(name, self.augmentation)["options"]

    @staticmethod
    def report_of(name: str) -> str:
        """The file that says what of a data set cannot be read."""
        return f"bad_videos_{name}.csv"

    def run_of(self, name: str) -> TrainingRun:
        """The run on one data set alone, with the same model, clips and training."""
        blocks = self.joint.blocks_of(name, self.augmentation)
        options = blocks["options"]
        batch_size = options.per_device_train_batch_size or self.training.per_device_train_batch_size
        return TrainingRun(
            model=self.model,
            data=blocks["data"],
            clips=self.clips,
            augmentation=blocks["augmentation"],
            training=replace(self.training, per_device_train_batch_size=batch_size),
            evaluation=self.evaluation,
            run=replace(self.run, corrupt_videos_file=options.corrupt_videos_file),
        )


def read_run(args: argparse.Namespace) -> TrainingRun | JointRun:
    """The run that a command was told, whose parser has the arguments of `ALL_BLOCKS`: a joint one if it names `datasets`."""
    values = read_options(args, ALL_BLOCKS, RECIPES)
    if not values.get("datasets"):
        values.pop("datasets", None)
        return TrainingRun(**make_config(values, BLOCKS))
    for each in fields(DataConfig):
        if each.name in values:
            raise ValueError(
                f"{each.name} belongs to one of the datasets: set datasets.NAME.{each.name}, with the name of one."
            )
    return JointRun(**make_config(values, JOINT_BLOCKS))
