# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Options of a training run, in blocks: model, data, clips, augmentation, training. A joint run has several data sets in place of
the block data.

A joint run trains on several data sets of videos and images (section 3.5). The mapping `datasets` gives the options of each:

    datasets:
      kinetics400: {data: path/to/kinetics400, data_format: kinetics, weight: 2}
      imagenet1k: {data: path/to/imagenet, rand_augment_layers: 0}

The options of a data set are those of the block data, of `DatasetOptions`, and of the block augmentation, whose defaults are then
the run's values. On the command line: `datasets.imagenet1k.data=path/to/imagenet`.

Options that Transformers has keep its names. The defaults are for fine-tuning an image model on a few hundred clips; the paper's
values are in `recipes/`. Training from random weights needs much more data.
"""

import argparse
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..data.augmentation import AugmentationConfig
from ..data.data_config import DataConfig
from ..models.model_options import SAMPLING_OF, ClipConfig, ModelConfig
from ..option_types import AT_LEAST_1, POSITIVE, check_ranges, option
from ..options import Blocks, as_mapping, current_options, make_config, read_options


if TYPE_CHECKING:
    from .training_arguments import VideoTrainingArguments


RECIPES = Path(__file__).parents[1] / "recipes"
# The name of a data set becomes that of a folder, a part of parameter names, and a key on the command line.
DATASET_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
RESERVED_NAMES = ("evaluation", "runs")  # folders of a run; TensorBoard writes to the latter
CORRUPT_VIDEOS_FILE = "corrupt_videos.csv"  # in the folder of a run: report of the check before training


def training_blocks() -> Blocks:
    """Block name to dataclass; a function, because importing `TrainingArguments` takes seconds."""
    from .training_arguments import VideoTrainingArguments

    return {
        "model": ModelConfig,
        "data": DataConfig,
        "clips": ClipConfig,
        "augmentation": AugmentationConfig,
        "training": VideoTrainingArguments,
    }


def check_sharding(training: "VideoTrainingArguments", lora_rank: int, is_joint: bool = False) -> None:
    """Raise `ValueError` for a run that FSDP or DeepSpeed cannot train, before data and model are read."""
    engine = training.sharding
    if engine is None:
        return
    for name, value in (("ema_decay", training.ema_decay), ("lora_rank", lora_rank)):
        if value:
            raise ValueError(
                f"{name} does not work with {engine}, which shards the weights: set {name}=0, or use DDP."
            )
    if is_joint:
        raise ValueError(
            f"Joint training does not work with {engine}: a batch leaves the heads of other data sets without gradients. Use DDP."
        )
    if training.use_cpu:
        raise ValueError(
            f"{engine} needs GPUs: on CPUs, Accelerate trains with DDP in its place, and each process has all weights. Leave out "
            f"{engine.lower()}."
        )


# Options that need labels, by block, and the values that stand for none.
NEED_LABELS = {
    "model": {"head_from": None, "classifier_init": None, "ignore_mismatched_sizes": False, "lora_rank": 0},
    "data": {"multi_label": None, "num_classes": None, "class_names_file": None, "label_column": None},
    "augmentation": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "label_smoothing": 0.0},
    "training": {"class_weights": None, "sampler": "random", "token_budget_range": None},
}


def check_masked(run: "TrainingRun") -> None:
    """Raise a `ValueError` for an option that `task=masked` does not support."""
    for block, names in NEED_LABELS.items():
        for name, default in names.items():
            if (value := getattr(getattr(run, block), name)) != default:
                raise ValueError(f"{name}={value} is for classifiers, and task=masked trains none: leave it out.")
    if run.augmentation.flip == "swap_labels":
        raise ValueError("flip=swap_labels changes labels, and task=masked has none: set flip=on or off.")
    if run.training.push_to_hub:
        raise ValueError(
            "push_to_hub uploads classifiers with their code: fine-tune the model first, or upload it by its push_to_hub in Python."
        )
    if run.model.preset is not None and run.model.model_config.get("mask_target") == "features":
        raise ValueError(
            "mask_target=features predicts the features of the checkpoint that training starts from: set model_name_or_path instead of preset."
        )


@dataclass
class TrainingRun:
    """All blocks of a training run, as `options.read_config` returns them for `training_blocks()`."""

    model: ModelConfig
    data: DataConfig
    clips: ClipConfig
    augmentation: AugmentationConfig
    training: "VideoTrainingArguments"

    def __post_init__(self):
        self.training.complete_defaults(self.model.model_name_or_path is not None)
        check_sharding(self.training, self.model.lora_rank)
        if self.is_masked:
            check_masked(self)
        for name in SAMPLING_OF:
            if getattr(self.clips, name) is not None and self.augmentation.min_temporal_span is not None:
                raise ValueError(
                    f"min_temporal_span applies to clips spread over the video, and {name} is {getattr(self.clips, name)}: give one of them."
                )

    @property
    def is_masked(self) -> bool:
        """Whether the run pretrains without labels."""
        return self.model.task == "masked"

    @classmethod
    def of(cls, **options: Any) -> "TrainingRun":
        """A run with these options, by name; the other options have their defaults."""
        return cls(**make_config(options, training_blocks()))


@dataclass
class DatasetOptions:
    """Options of one data set of a joint run."""

    kind: Literal["video", "image"] | None = option(None, "media that the data set must contain (default: either)")
    weight: Annotated[float, POSITIVE] = option(1.0, "number of batches relative to the other data sets")
    loss_weight: Annotated[float, POSITIVE] = option(1.0, "factor on the data set's loss")
    per_device_train_batch_size: Annotated[int, AT_LEAST_1] | None = option(
        None, "clips or images per device and forward pass (default: the run's)"
    )
    corrupt_videos_file: str | None = option(None, "report of `tubevit data check` on the data set")

    def __post_init__(self):
        check_ranges(self)


DATASET_BLOCKS = {"data": DataConfig, "augmentation": AugmentationConfig, "options": DatasetOptions}


@dataclass
class JointConfig:
    """Several data sets, each with its own head; replaces the options of the block data."""

    datasets: dict | str | None = field(
        default=None,
        metadata={
            "help": "mapping from the name of each data set to its options (those of data and augmentation, and kind, weight, loss_weight, "
            "per_device_train_batch_size), as JSON, or one by one: datasets.NAME.data=FOLDER"
        },
    )

    def __post_init__(self):
        self.datasets = as_mapping(self.datasets, "datasets")
        for name, values in self.datasets.items():
            if not DATASET_NAME.fullmatch(str(name)) or name in RESERVED_NAMES:
                raise ValueError(
                    f"datasets: {name!r} cannot name a data set: use a letter, then letters, digits and underscores, and not "
                    f"{' or '.join(RESERVED_NAMES)}."
                )
            if not isinstance(values, dict):
                raise ValueError(f"datasets.{name} must be a mapping of options, got {values!r}.")
            self.blocks_of(name, AugmentationConfig())

    def blocks_of(self, name: str, augmentation: AugmentationConfig) -> dict[str, Any]:
        """
        The blocks of `DATASET_BLOCKS` for one data set, by name. augmentation: values of the options that the data set does not
        give.

        Raises `ValueError` or `TypeError` of one line that names data set and option.
        """
        values = self.datasets[name]
        try:
            return make_config({**vars(augmentation), **current_options(values, DATASET_BLOCKS)}, DATASET_BLOCKS)
        except (ValueError, TypeError) as error:
            hint = ""
            if not any(str(key).endswith("data") for key in values):
                names = ", ".join(map(str, self.datasets))
                hint = f" Set datasets.{name}.data; the data sets of this run are {names}."
            raise type(error)(f"datasets.{name}: {error}{hint}") from None


def joint_blocks() -> Blocks:
    """`training_blocks` of a joint run."""
    return {name: block for name, block in training_blocks().items() if name != "data"} | {"joint": JointConfig}


def all_blocks() -> Blocks:
    """The blocks of `tubevit train`, which reads both kinds of runs."""
    return {**training_blocks(), "joint": JointConfig}


@dataclass
class JointRun:
    """All blocks of a joint training run, as `options.read_config` returns them for `joint_blocks()`."""

    model: ModelConfig
    clips: ClipConfig
    augmentation: AugmentationConfig
    training: "VideoTrainingArguments"
    joint: JointConfig

    def __post_init__(self):
        self.training.complete_defaults(self.model.model_name_or_path is not None)
        if not self.joint.datasets:
            raise ValueError("datasets is empty: give each data set a name and its data.")
        if self.training.corrupt_videos_file is not None:
            raise ValueError("corrupt_videos_file belongs to one data set: set datasets.NAME.corrupt_videos_file.")
        if self.model.task == "masked":
            raise ValueError("task=masked trains on one data set without labels: give data instead of datasets.")
        if self.model.head_from is not None:
            raise ValueError(
                f"head_from={self.model.head_from} is for runs on one data set; a joint run keeps the heads of its checkpoint by name."
            )
        if self.model.classifier_init is not None:
            raise ValueError(
                f"Joint training does not support classifier_init={self.model.classifier_init}; train on one data set."
            )
        for name, default in (("class_weights", None), ("sampler", "random")):
            if getattr(self.training, name) != default:
                raise ValueError(
                    f"Joint training does not support {name}; set weight and loss_weight of the data sets."
                )
        if self.training.token_budget_range is not None:
            raise ValueError("Joint training does not support token_budget_range; train on one data set.")
        if self.model.lora_rank:
            raise ValueError("Joint training does not support lora_rank; freeze layers instead: num_frozen_layers=N.")
        check_sharding(self.training, self.model.lora_rank, is_joint=True)
        if self.training.ddp_static_graph or self.training.ddp_find_unused_parameters is False:
            raise ValueError(
                "A step of joint training leaves the heads of other data sets unused: set ddp_find_unused_parameters=true and "
                "ddp_static_graph=false."
            )
        if self.training.dataloader_drop_last or self.training.train_sampling_strategy != "random":
            raise ValueError(
                "Joint training samples full batches in random order: leave out dataloader_drop_last and "
                "train_sampling_strategy."
            )

    @classmethod
    def of(cls, **options: Any) -> "JointRun":
        """A run with these options, by name; the other options have their defaults."""
        return cls(**make_config(options, joint_blocks()))

    @property
    def names(self) -> list[str]:
        return list(self.joint.datasets)

    def options_of(self, name: str) -> DatasetOptions:
        return self.joint.blocks_of(name, self.augmentation)["options"]

    @staticmethod
    def report_of(name: str) -> str:
        """File name of the report of a data set's corrupt videos."""
        return f"corrupt_videos_{name}.csv"

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
            training=self.training.copy(
                per_device_train_batch_size=batch_size, corrupt_videos_file=options.corrupt_videos_file
            ),
        )


def read_run(args: argparse.Namespace) -> TrainingRun | JointRun:
    """The run that a command's arguments describe, for a parser with `all_blocks()`: a joint run if they give `datasets`."""
    values = read_options(args, all_blocks(), RECIPES)
    if not values.get("datasets"):
        values.pop("datasets", None)
        return TrainingRun(**make_config(values, training_blocks()))
    for each in fields(DataConfig):
        if each.name in values:
            raise ValueError(f"With datasets, set {each.name} for each data set: datasets.NAME.{each.name}.")
    return JointRun(**make_config(values, joint_blocks()))
