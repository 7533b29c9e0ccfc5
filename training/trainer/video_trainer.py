# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`VideoTrainer`: Transformers' Trainer for clips.

- Clips are transferred as uint8. They are augmented on the GPU, or without a GPU by the loader workers.
- All models have the same loss. It accepts the soft labels of mixup, and is a mean over the videos of all processes and accumulated
  batches.
- Each step may have its own token budget, see `token_budgets`.
- Checkpoints with NaN or inf in the weights or the loss are never written.
- The time spent waiting for clips is measured. A resumed run reports times and mean loss over all its steps.

Overrides of Trainer's internals are in `trainer_overrides.py`.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from tubevit.classification import classification_loss

from ..models.batch_norm import StatisticsOfForward
from ..models.model_size import FLOPS_PER_TRAINING_STEP
from ..models.parameter_groups import parameter_groups
from ..throughput import DataLoaderTimer, ModelClock
from .build import RunSetup
from .callbacks import SetEpoch, ShowProgress, StopAtChanceLoss, check_loss, check_weights
from .class_balance import label_weights, weighted_loss
from .ema import EMA
from .model_card import write_model_card
from .trainer_overrides import TrainerOverrides
from .training_arguments import VideoTrainingArguments


class VideoTrainer(TrainerOverrides):
    """
    setup: model, data and options.
    flops_per_clip: FLOPs of a forward pass on one clip, for the log; 0 if unknown.
    """

    def __init__(self, setup: RunSetup, args: VideoTrainingArguments, flops_per_clip: float = 0.0):
        self.setup, self.flops_per_clip = setup, flops_per_clip
        self.class_weights = None if setup.class_weights is None else setup.class_weights.to(args.device)
        self.model_config = setup.model.model.config
        augments_batches = args.device.type != "cpu"
        self.batches = DataLoaderTimer(setup.augment if augments_batches else None)
        self.clock = ModelClock(augments_batches)
        self.average: EMA | None = None
        self.teacher_logits: torch.Tensor | None = None  # of the current batch
        self.first_step, self.losses_before = 0, 0.0  # step and sum of losses at the start of this call
        self.loss_sum = torch.zeros((), device=args.device)  # of this call, on this process
        self.saved_loss_sum = 0.0  # of the whole run, mean over processes, at the last checkpoint
        self.saves_adapters = bool(setup.run.model.lora_rank)
        model = setup.model
        if args.ddp_find_unused_parameters is None and model.family.uses_all_parameters(
            setup.data.media, model.model.config
        ):
            args.ddp_find_unused_parameters = False  # Trainer's True searches in each step, and warns if it finds none
        self.statistics = StatisticsOfForward(model.model)
        has_cache = hasattr(model.model.config, "use_cache")
        super().__init__(
            model=model.model,
            args=args,
            train_dataset=setup.train_clips,
            eval_dataset=setup.validation_clips,
            data_collator=setup.collator(augments=not augments_batches),
            processing_class=model.own_processor,
            compute_loss_func=self.loss,
            compute_metrics=setup.compute_metrics,
            preprocess_logits_for_metrics=_logits_alone,
            callbacks=self._callbacks(),
        )
        if not has_cache:  # Trainer adds the field to each config, and it would be saved
            del model.model.config.use_cache
        for callback in (PrinterCallback, ProgressCallback):  # `ShowProgress` replaces their dictionaries
            self.remove_callback(callback)
        self.model_accepts_loss_kwargs = False  # `loss` computes the loss of every model

    def _callbacks(self) -> list[TrainerCallback]:
        training = self.setup.run.training
        self.progress = ShowProgress(self)
        callbacks = [SetEpoch(self._follows_epochs()), Progress(self), self.progress]
        callbacks.append(StopAtChanceLoss(training.chance_loss_patience, self.setup.chance_loss))
        if training.ema_decay:
            callbacks.append(_UpdateAverage(self))
        if training.early_stopping_patience and self.setup.validation_clips is not None:
            callbacks.append(EarlyStoppingCallback(training.early_stopping_patience))
        return callbacks

    def _follows_epochs(self) -> Any:
        """The object whose `set_epoch` is called at the start of each epoch."""
        return self.setup.train_clips

    # The loss

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None):
        logits = outputs["logits"].reshape(len(labels), -1)  # VideoPrism has (clips, 1, classes)
        if self.class_weights is not None and self.model.training:
            return weighted_loss(labels, logits, self.class_weights, num_items_in_batch)
        if self.teacher_logits is not None:
            return self.setup.budgets.loss(labels, logits, self.teacher_logits, num_items_in_batch)
        return classification_loss(labels, logits, self.model_config, num_items_in_batch)

    # Batches

    def prepare_batches(self, batches: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        return self.batches(batches)

    def complete_batches(self, batches: list[dict[str, Any]], num_items: Any) -> tuple[list, Any]:
        if self.class_weights is None:
            return batches, num_items
        total = sum(label_weights(batch["labels"], self.class_weights).sum() for batch in batches)
        return batches, self.accelerator.reduce(total.to(self.args.device), "sum")

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        inputs, budgets = self.setup.model.prepare(inputs), self.setup.budgets
        if budgets is not None and self.model.training:
            self.teacher_logits = budgets.teacher_logits(model, inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.teacher_logits = None
        self.statistics.save()
        return loss

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        budgets = self.setup.budgets
        budget = nullcontext() if budgets is None else budgets.of_step(self.state.global_step)
        # The device waits for the clock, so it runs only where its result is shown.
        clock = nullcontext() if self.setup.loading_rate is None else self.clock.measure(len(inputs["labels"]))
        with budget, clock:
            loss = super().training_step(model, inputs, *args, **kwargs)
        self.statistics.restore()
        self.loss_sum += loss.detach()
        return loss

    def first_batches(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """For a dry run: the first batch, after a suffix for its name in messages."""
        yield "", next(iter(self.get_train_dataloader()))

    def throughput(self) -> dict[str, float | int]:
        """As `DataLoaderTimer.throughput`."""
        return self.batches.throughput(self.args.world_size, self.args.dataloader_num_workers)

    def total_loss(self) -> float:
        """Sum of the losses of all steps of the run, mean over processes; called on all processes."""
        return self.losses_before + self.accelerator.reduce(self.loss_sum, "mean").item()

    def mean_loss(self) -> float:
        """Mean loss over all steps of the run; called on all processes."""
        return self.total_loss() / self.state.global_step

    def loader_options(self) -> dict[str, Any]:
        """Arguments of a DataLoader of training batches, besides its data set and its order."""
        args = self.args
        return {
            "collate_fn": self.data_collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            "in_order": args.dataloader_in_order,
        }

    def get_train_dataloader(self) -> DataLoader:
        order = self.setup.train_order(self.args.world_size)
        if order is None:
            return super().get_train_dataloader()
        batches = {"batch_size": self.args.train_batch_size, "drop_last": self.args.dataloader_drop_last}
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, sampler=order, **batches, **self.loader_options())
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            wait = self.batches.slowest_wait(self.accelerator)
            logs |= wait
            self.progress.note_wait(wait)
        super().log(logs, start_time)

    def get_eval_dataloader(self, eval_dataset: Any = None):
        augmenting, self.data_collator = self.data_collator, self.setup.evaluation_collator()
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False  # for training only
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator, self.args.dataloader_drop_last = augmenting, drop_last

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        budgets = self.setup.budgets
        flops = FLOPS_PER_TRAINING_STEP * self.flops_per_clip if budgets is None else budgets.step_flops()
        return flops * len(inputs["labels"])

    # Optimizer and weights

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = parameter_groups(
                model,
                self.args.learning_rate,
                self.args.weight_decay,
                self.setup.run.training.layer_decay,
                self.setup.run.training.weight_decay_parameters,
            )
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:  # an error message must begin on a new line
            self.progress.close()

    def evaluation_loop(self, *args, **kwargs):
        with self.average.in_place() if self.average is not None else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    def use_average(self) -> None:
        """Replace the model's weights by the EMA permanently; by the EMA of the best checkpoint if that checkpoint was loaded."""
        if self.average is None:
            return
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self.average.load(self.state.best_model_checkpoint)
        self.average.copy_to_model()
        self.average = None

    def final_metrics(self) -> dict[str, float]:
        """Metrics of the trained model besides those of the evaluation on all views."""
        return {}

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.saved_loss_sum = self.total_loss()
        check_loss(self.saved_loss_sum, self.state.global_step)
        check_weights(self.model, self.state.global_step)
        # First, because the last file that Trainer writes marks a checkpoint as complete.
        if self.average is not None and self.args.should_save and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            self.average.save(output_dir)
        super().save_model(output_dir, _internal_call)

    def resume_progress(self) -> None:
        before = self.state.stateful_callbacks.setdefault(Progress.__name__, {}).get("attributes", {})
        self.first_step, self.losses_before = self.state.global_step, before.get("sum_of_losses", 0.0)
        self.loss_sum.zero_()
        self.batches.begin(before)
        self.setup.skip_streamed(self.first_step * self.args.gradient_accumulation_steps, self.args.world_size)

    def create_model_card(self, **kwargs) -> None:
        if self.is_world_process_zero():
            write_model_card(Path(self.args.output_dir), self.setup, self.state.log_history)


def _logits_alone(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """The logits `(clips, classes)` among the outputs of a model."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.reshape(len(logits), -1)


class Progress(TrainerCallback, ExportableState):
    """Stores in each checkpoint the sum of losses, the number of clips and the seconds of all steps so far."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        # `save_model` has set `saved_loss_sum`: Trainer calls it before this method.
        counts = {"sum_of_losses": self.trainer.saved_loss_sum, **self.trainer.batches.counts()}
        return {"args": {}, "attributes": counts}


class _UpdateAverage(TrainerCallback):
    """Updates the EMA after each step; a resumed run loads the EMA of its checkpoint."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.average = EMA(self.trainer.model, self.trainer.setup.run.training.ema_decay)
        if state.global_step:
            self.trainer.average.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.average.update()
