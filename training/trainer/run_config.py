# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What a training run is told: model, data, clips, augmentation, training, evaluation, and the run itself.

Names are those of Transformers where it has the option. Defaults are ours, for a few hundred clips and an image model to
start from; the paper's values are in `recipes/`. A TubeViT from scratch needs much more data than that.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..data.augmentation import AugmentationConfig
from ..data.check_data import ON_CORRUPT_VIDEO
from ..data.video_datasets import DataConfig
from ..models.model_options import ClipConfig, ModelConfig
from ..options import as_mapping, check_at_least, make_config, option


RECIPES = Path(__file__).parents[1] / "recipes"
MIXED_PRECISION = ("no", "bf16", "fp16")
AGGREGATIONS = ("probs", "logits", "max")
STRATEGIES = ("no", "steps", "epoch")
LAYER_DECAY = 0.75  # from a checkpoint
CORRUPT_VIDEOS_FILE = "corrupt_videos.csv"  # in the folder of a run, what the check before training found


@dataclass
class TrainingConfig:
    """Optimisation."""

    num_train_epochs: float = option(30.0, "passes over the training videos")
    max_steps: int = option(-1, "optimizer steps, in place of num_train_epochs; -1 for that")
    per_device_train_batch_size: int = option(8, "clips per device and forward pass")
    gradient_accumulation_steps: int = option(1, "forward passes per optimizer step")
    learning_rate: float = option(1e-4, "of the classifier, and of all layers without layer_decay")
    layer_decay: float | None = option(
        None,
        "factor on the learning rate from each layer to the one before it; 1 for none (default: 0.75 from a checkpoint, "
        "1 from random weights)",
    )
    weight_decay: float = option(0.05, "of weight matrices; biases, norms and embeddings have none")
    optim: str = option("adamw_torch", "an optimizer of Transformers' Trainer")
    adam_beta1: float = option(0.9, "of Adam")
    adam_beta2: float = option(0.999, "of Adam")
    adam_epsilon: float = option(1e-8, "of Adam")
    lr_scheduler_type: str = option("cosine", "a schedule of Transformers")
    warmup_steps: float = option(0.1, "steps of linear warm-up; below 1 a share of all steps")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; 0 for not")
    mixed_precision: Literal["no", "bf16", "fp16"] = option("no", "arithmetic of the forward pass")
    gradient_checkpointing: bool = option(False, "compute activations twice instead of storing them")
    torch_compile: bool = option(False, "compile the model")
    ema_decay: float = option(
        0.0, "average the weights, keeping this share at each step, and evaluate that; 0 for not"
    )
    early_stopping_patience: int = option(0, "evaluations without a better metric that end training; 0 for no end")
    chance_loss_patience: int = option(2000, "steps without learning anything that end training; 0 for no end")

    def __post_init__(self):
        check_at_least(self, 1, "per_device_train_batch_size", "gradient_accumulation_steps")
        check_at_least(self, 0, "early_stopping_patience", "chance_loss_patience", "warmup_steps", "weight_decay")
        check_at_least(self, 0, "max_grad_norm")
        if self.max_steps != -1 and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, or -1 for num_train_epochs, got {self.max_steps}.")
        if self.max_steps == -1 and self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs must be above 0, got {self.num_train_epochs}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}.")

    def count_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.max_steps > 0:
            return self.max_steps
        return math.ceil(
            self.num_train_epochs * max(1, math.ceil(batches_per_epoch / self.gradient_accumulation_steps))
        )


@dataclass
class EvaluationConfig:
    """Evaluation: of one view per video while training, of all views at the end."""

    eval_strategy: Literal["no", "steps", "epoch"] = option("epoch", "when the validation videos are scored")
    eval_steps: int = option(500, "steps between evaluations with eval_strategy=steps")
    per_device_eval_batch_size: int = option(8, "videos per device and forward pass")
    metric_for_best_model: str | None = option(
        None, "default: accuracy, of several labels per video mean_average_precision"
    )
    load_best_model_at_end: bool = option(True, "save the best model instead of the last")
    num_temporal_views: int = option(4, "clips per video in the evaluation at the end")
    num_spatial_views: int = option(3, "crops per clip, likewise")
    view_aggregation: Literal["probs", "logits", "max"] = option(
        "probs", "what is averaged over views, or max: the largest probability"
    )

    def __post_init__(self):
        check_at_least(self, 1, "eval_steps", "per_device_eval_batch_size", "num_temporal_views", "num_spatial_views")


@dataclass
class RunConfig:
    """The run: where its files go, how it is logged, what it does about broken videos."""

    output_dir: str = option("runs/tubevit", "folder of everything that the run writes")
    resume: bool = option(False, "go on from the last checkpoint in output_dir")
    seed: int = option(42, "of weights, order and augmentation")
    save_strategy: Literal["no", "steps", "epoch"] = option("epoch", "when checkpoints are written")
    save_steps: int = option(500, "steps between checkpoints with save_strategy=steps")
    save_total_limit: int | None = option(2, "checkpoints that are kept, the newest, and the best; none for all")
    logging_steps: int = option(10, "steps between lines of the log")
    report_to: str = option("none", "none, tensorboard, trackio, wandb, ..., separated by commas")
    dataloader_num_workers: int = option(0, "processes that read clips, per device")
    use_cpu: bool = option(False, "do not use a GPU")
    check_data: bool = option(True, "try every file before training; false where that was done")
    corrupt_videos_file: str | None = option(
        None, "what `tubevit check-data` wrote: its files are left out without a check"
    )
    on_corrupt_video: str = option("skip", "skip or raise")
    max_corrupt_fraction: float = option(0.05, "share of broken videos above which the run ends")
    push_to_hub: bool = option(False, "upload the model at the end")
    hub_model_id: str | None = option(None, "its name there (default: that of output_dir)")
    trainer: dict | str | None = field(
        default=None, metadata={"help": "further fields of TrainingArguments, as a mapping or JSON"}
    )

    def __post_init__(self):
        check_at_least(self, 1, "save_steps", "logging_steps", "save_total_limit")
        check_at_least(self, 0, "dataloader_num_workers")
        if self.on_corrupt_video not in ON_CORRUPT_VIDEO:
            raise ValueError(f"on_corrupt_video must be skip or raise, got {self.on_corrupt_video!r}.")
        if not 0 <= self.max_corrupt_fraction <= 1:
            raise ValueError(f"max_corrupt_fraction must be from 0 to 1, got {self.max_corrupt_fraction}.")
        self.trainer = as_mapping(self.trainer, "trainer")


BLOCKS = {
    "model": ModelConfig,
    "data": DataConfig,
    "clips": ClipConfig,
    "augmentation": AugmentationConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "run": RunConfig,
}


@dataclass
class TrainingRun:
    """All blocks of a training run, as `options` reads them for `BLOCKS`."""

    model: ModelConfig
    data: DataConfig
    clips: ClipConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    run: RunConfig

    def __post_init__(self):
        check_strategies(self.training, self.evaluation, self.run)
        complete_layer_decay(self.model, self.training)
        if self.clips.fps is not None and self.augmentation.min_temporal_span is not None:
            raise ValueError(
                f"min_temporal_span is for clips spread over the video, and fps is {self.clips.fps}: leave out one of them."
            )

    @classmethod
    def of(cls, **options: Any) -> "TrainingRun":
        """From options by their names; the others have their defaults."""
        return cls(**make_config(options, BLOCKS))


def complete_layer_decay(model: ModelConfig, training: TrainingConfig) -> None:
    """Where it is not given: the first of twelve layers of a checkpoint learns at 3 % of the rate, of random weights like all."""
    if training.layer_decay is None:
        training.layer_decay = 1.0 if model.model_name_or_path is None else LAYER_DECAY


def check_strategies(training: TrainingConfig, evaluation: EvaluationConfig, options: RunConfig) -> None:
    """Raise a `ValueError` where evaluations or checkpoints are missing that other options need."""
    if evaluation.eval_strategy == "no":
        if training.early_stopping_patience:
            raise ValueError("early_stopping_patience needs evaluations: set eval_strategy=epoch or steps.")
    elif evaluation.load_best_model_at_end:
        same = evaluation.eval_strategy == options.save_strategy
        if not same or (options.save_strategy == "steps" and options.save_steps % evaluation.eval_steps):
            raise ValueError(
                "load_best_model_at_end needs a checkpoint where there is an evaluation: set save_strategy="
                f"{evaluation.eval_strategy}, save_steps a multiple of eval_steps={evaluation.eval_steps}, or "
                "load_best_model_at_end=false."
            )
