# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Trainer for clips: what Transformers' Trainer needs so that a run on video can be trusted, resumed and measured.

- Clips travel as uint8. Loader workers augment them for a CPU; for a GPU this is done there.
- One loss for every model, which takes the soft labels of mixup and counts videos over all ranks and accumulation steps.
- A checkpoint is read as `from_pretrained` reads it, for the library saves some models under other names than they have. One
  that does not hold exactly the weights of the model stops the run. Trainer would warn and go on.
- Weights that are no numbers are never written to a checkpoint.
- Waiting for clips is timed. A run that is resumed has the times and the mean loss of all its steps, and the patience of early
  stopping, which Trainer begins anew.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from tubevit.classification import classification_loss

from ..models.loading import quiet_library
from ..models.model_size import FLOPS_PER_TRAINING_STEP
from ..models.parameter_groups import parameter_groups
from ..throughput import DataLoaderTimer
from .build import RunSetup
from .callbacks import SetEpoch, StopAtChanceLoss, check_loss, check_weights
from .ema import EMA
from .model_card import write_model_card
from .training_arguments import VideoTrainingArguments


class VideoTrainer(Trainer):
    """
    setup: what is trained, and on what.
    flops_per_clip: of a forward pass, for the log; 0 where it is not known.
    """

    def __init__(self, setup: RunSetup, args: VideoTrainingArguments, flops_per_clip: float = 0.0):
        self.setup, self.flops_per_clip = setup, flops_per_clip
        self.model_config = setup.model.model.config
        augments_batches = args.device.type != "cpu"
        self.batches = DataLoaderTimer(setup.augment if augments_batches else None)
        self.average: EMA | None = None
        self.first_step, self.losses_before = 0, 0.0  # of this call, and the sum of the losses before it
        model, training = setup.model, setup.run.training
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
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            for name, value in (("ema_decay", training.ema_decay), ("lora_rank", setup.run.model.lora_rank)):
                if value:
                    raise ValueError(
                        f"{name} does not work with weights that are split over GPUs; set {name}=0 or use DDP."
                    )
        self.model_accepts_loss_kwargs = False  # the loss is computed here, for every model alike

    def _callbacks(self) -> list[TrainerCallback]:
        training = self.setup.run.training
        callbacks = [SetEpoch(self._follows_epochs()), Progress(self)]
        callbacks.append(StopAtChanceLoss(training.chance_loss_patience, self.setup.chance_loss))
        if training.ema_decay:
            callbacks.append(_UpdateAverage(self))
        if training.early_stopping_patience and self.setup.validation_clips is not None:
            callbacks.append(EarlyStoppingCallback(training.early_stopping_patience))
        return callbacks

    def _follows_epochs(self) -> Any:
        """What has to know which epoch it is, by its `set_epoch`."""
        return self.setup.train_clips

    # The loss

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None):
        logits = outputs["logits"].reshape(len(labels), -1)  # VideoPrism has (clips, 1, classes)
        return classification_loss(labels, logits, self.model_config, num_items_in_batch)

    # Batches

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.setup.model.prepare(super()._prepare_inputs(inputs))

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        # Labels are counted after mixing, which turns each into as many numbers as there are classes.
        return super().get_batch_samples(self.batches(epoch_iterator), num_batches, device)

    def first_batches(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """For a dry run: the first batch, and how to name it."""
        yield "", next(iter(self.get_train_dataloader()))

    def throughput(self) -> dict[str, float | int]:
        """As `DataLoaderTimer.throughput`."""
        return self.batches.throughput(self.args.world_size, self.args.dataloader_num_workers)

    def mean_loss(self, loss: float) -> float:
        """Over all steps of the run; of those of this call it is `loss`."""
        num_steps = self.state.global_step - self.first_step
        return (self.losses_before + loss * num_steps) / self.state.global_step

    def get_eval_dataloader(self, eval_dataset: Any = None):
        augmenting, self.data_collator = self.data_collator, self.setup.evaluation_collator()
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = augmenting

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        return FLOPS_PER_TRAINING_STEP * self.flops_per_clip * len(inputs["labels"])

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
            )
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:  # an error is said on a line of its own, not behind a progress bar
            for callback in self.callback_handler.callbacks:
                if getattr(callback, "training_bar", None) is not None:
                    callback.training_bar.close()

    def evaluation_loop(self, *args, **kwargs):
        with self.average.in_place() if self.average is not None else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    def use_average(self) -> None:
        """Give the model the averaged weights for good: those of the best checkpoint, if that one was loaded."""
        if self.average is None:
            return
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self.average.load(self.state.best_model_checkpoint)
        self.average.copy_to_model()
        self.average = None

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        check_loss(float(self._tr_loss), self.state.global_step)
        super()._save_checkpoint(model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        check_weights(self.model, self.state.global_step)
        # Before the rest, because the file that makes a checkpoint complete is written last.
        if self.average is not None and self.args.should_save and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            self.average.save(output_dir)
        super().save_model(output_dir, _internal_call)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args
    ) -> tuple[int, int]:
        """
        Epochs and batches that are done: all of them where the checkpoint is the last, or early stopping's patience was at its
        end; Trainer would go on.
        """
        done = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args)
        before = self.state.stateful_callbacks.setdefault(Progress.__name__, {}).get("attributes", {})
        self.first_step, self.losses_before = self.state.global_step, before.get("sum_of_losses", 0.0)
        self.batches.begin(before)
        is_over = self.state.global_step >= max_steps or self._has_stopped_improving()
        return (num_train_epochs, 0) if is_over else done

    def _has_stopped_improving(self) -> bool:
        """Whether early stopping would have ended a run that is resumed; gives it the evaluations that it had counted."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                saved = self.state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
                callback.early_stopping_patience_counter = saved["early_stopping_patience_counter"]
                return callback.early_stopping_patience_counter >= callback.early_stopping_patience
        return False

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._saves_whole_model():
            load_weights(self.model, resume_from_checkpoint)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.setup.run.model.lora_rank:
            check_adapters(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self._saves_whole_model():
            load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _saves_whole_model(self) -> bool:
        """Whether a checkpoint is what `save_pretrained` writes: no adapters alone, no weights split over GPUs."""
        return not (self.setup.run.model.lora_rank or self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def create_model_card(self, **kwargs) -> None:
        if self.is_world_process_zero():
            write_model_card(Path(self.args.output_dir), self.setup, self.state.log_history)


def _logits_alone(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Logits `(clips, classes)` out of all that a model returns."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.reshape(len(logits), -1)


class Progress(TrainerCallback, ExportableState):
    """Leaves in each checkpoint what the steps so far had for losses, clips and seconds."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        trainer = self.trainer
        in_this_call = getattr(trainer, "_total_loss_scalar", 0.0) + float(getattr(trainer, "_tr_loss", 0.0))
        counts = {"sum_of_losses": trainer.losses_before + in_this_call, **trainer.batches.counts()}
        return {"args": {}, "attributes": counts}


class _UpdateAverage(TrainerCallback):
    """Averages the weights after each step; takes up the average of the checkpoint where a run is resumed."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.average = EMA(self.trainer.model, self.trainer.setup.run.training.ema_decay)
        if state.global_step:
            self.trainer.average.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.average.update()


def load_weights(model: Any, checkpoint: str | Path) -> None:
    """
    Give a model the weights of a folder that `save_pretrained` wrote, by the names that `from_pretrained` finds them under.

    Raises `ValueError` unless the folder holds exactly the weights of the model; this is then as it was.
    """
    with quiet_library():
        saved, info = type(model).from_pretrained(
            checkpoint,
            config=model.config,
            dtype=model.dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    lost = sorted([*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    extra = sorted(info["unexpected_keys"])
    if lost or extra:
        raise ValueError(
            f"{checkpoint} does not hold the weights of this model: {len(lost)} are missing or of another shape, "
            f"{len(extra)} are not the model's, among them {(lost or extra)[0]}."
        )
    model.load_state_dict(saved.state_dict())


def check_adapters(model: Any, checkpoint: Path) -> None:
    """Raise a `ValueError` unless the adapters of a PEFT model are those of a checkpoint, number by number."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    saved, loaded = load_file(checkpoint / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    wrong = sorted(set(saved) ^ set(loaded)) or [
        key for key in saved if not torch.equal(saved[key], loaded[key].cpu())
    ]
    if wrong:
        raise ValueError(
            f"{len(wrong)} weights of the adapters in {checkpoint} were not loaded, among them {wrong[0]}."
        )
