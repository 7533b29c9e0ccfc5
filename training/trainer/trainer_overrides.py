# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
All overrides of Trainer's internals: private methods, and `get_batch_samples`, which is public but undocumented. The docstring of
each gives its reason and the upstream issue. `test_trainer_overrides.py` fails if the Trainer of the installed Transformers no
longer needs an override.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import StateDictType
from transformers import EarlyStoppingCallback, Trainer

from ..models.loading import quiet_library


class TrainerOverrides(Trainer):
    """
    Trainer with exact resumes, and augmentation on the GPU.

    A subclass sets `saves_adapters`, whether checkpoints hold LoRA adapters only, and implements `prepare_batches` and
    `resume_progress`.
    """

    saves_adapters: bool

    def prepare_batches(self, batches: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Batches of the loader, prepared for the model and the loss."""
        raise NotImplementedError

    def complete_batches(self, batches: list[dict[str, Any]], num_items: Any) -> tuple[list, Any]:
        """The batches of an optimizer step and the number of their labels, with what the loss needs besides."""
        return batches, num_items

    def resume_progress(self) -> None:
        """Called before the first step; `state` is new, or was loaded from a checkpoint."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """
        Augment batches before Trainer counts their labels: mixup and CutMix turn a class index into a vector over the classes.

        There is no hook between the loader and the count. No upstream issue found.
        """
        batches, num_items = super().get_batch_samples(self.prepare_batches(epoch_iterator), num_batches, device)
        return self.complete_batches(batches, num_items)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args: Any
    ) -> tuple[int, int]:
        """
        Take no step if the run had ended, and restore the patience of early stopping. Trainer takes one more step if the checkpoint
        at `max_steps` is in the middle of an epoch, or if early stopping had ended the run, and it resets the patience.

        Upstream: huggingface/transformers#10290, #28544. `restore_callback_states_from_checkpoint` restores the patience, but
        does not end the run.
        """
        progress = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args)
        self.resume_progress()
        is_over = self.state.global_step >= max_steps or self._restore_early_stopping()
        return (num_train_epochs, 0) if is_over else progress

    def _restore_early_stopping(self) -> bool:
        """Whether early stopping had ended the run; restores its count of evaluations without a better metric."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                saved = self.state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
                callback.early_stopping_patience_counter = saved["early_stopping_patience_counter"]
                return callback.early_stopping_patience_counter >= callback.early_stopping_patience
        return False

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """
        Load weights as `from_pretrained` does: Trainer loads the names on disk, which differ from those in memory for models with
        a conversion mapping (VideoMAE, ViViT), and only warns about missing and unexpected keys.

        Upstream: huggingface/transformers#43701.
        """
        if self._saves_whole_model():
            load_weights(self.model, resume_from_checkpoint)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.saves_adapters:
            check_adapters(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """As `_load_from_checkpoint`, for `load_best_model_at_end`. Upstream: huggingface/transformers#43701."""
        if self._saves_whole_model():
            load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        Save the weights after training also if FSDP shards the checkpoints (`state_dict_type=SHARDED_STATE_DICT`), for which Trainer
        saves no weights and no config. No upstream issue found.
        """
        super().save_model(output_dir, _internal_call)
        is_sharded = self.is_fsdp_enabled and (
            self.accelerator.state.fsdp_plugin.state_dict_type != StateDictType.FULL_STATE_DICT
        )
        if is_sharded and not _internal_call:
            self._save(output_dir, state_dict=self.accelerator.get_state_dict(self.model))

    def prepare_step(self) -> torch.nn.Module:
        """The model for `training_step`, prepared for its devices as `train` prepares it: FSDP needs the optimizer too."""
        model, _ = self._prepare_for_training(1, None, None)
        return model

    def _saves_whole_model(self) -> bool:
        """Whether checkpoints are written by `save_pretrained`: not for adapters, and not for weights that are sharded over GPUs."""
        return not (self.saves_adapters or self.is_fsdp_enabled or self.is_deepspeed_enabled)


def load_weights(model: Any, checkpoint: str | Path) -> None:
    """
    Load the weights of a folder that `save_pretrained` wrote into a model. Keys are converted as `from_pretrained` does.

    Raises `ValueError`, and leaves the model unchanged, unless the folder holds exactly the weights of the model.
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
            f"{len(extra)} are unexpected, among them {(lost or extra)[0]}."
        )
    model.load_state_dict(saved.state_dict())


def check_adapters(model: Any, checkpoint: Path) -> None:
    """Raise a `ValueError` unless the adapters of a PEFT model equal those of a checkpoint exactly."""
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
