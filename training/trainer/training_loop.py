# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A training loop on plain Accelerate: what Trainer does with the same setup, to be read, and to be changed.

Everything random depends on the seed, the epoch, the step and the rank, and on nothing that went before. So a run that is
resumed in mid-epoch goes on as if it had never been killed, and evaluating more or less often does not change it.
"""

import random
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, get_scheduler

from tubevit.classification import classification_loss

from ..data.augmentation import IGNORED_LABEL
from ..data.clip_datasets import ClipCollator, StreamedClips
from ..data.rng import sample_seed
from ..evaluation.metrics import ClassificationMetrics
from ..models.parameter_groups import parameter_groups
from ..throughput import DataLoaderTimer
from .accelerate_checkpoints import LoopState, find_checkpoints, load_checkpoint, save_checkpoint
from .build import RunSetup
from .callbacks import StopAtChanceLoss, check_loss, check_weights
from .ema import EMA
from .summary import count_steps


class TrainingLoop:
    """
    setup: what is trained, and on what.
    arguments: of Trainer, for the same run.
    folder: where checkpoints go.
    """

    def __init__(self, setup: RunSetup, arguments: TrainingArguments, folder: Path):
        self.setup, self.arguments, self.folder = setup, arguments, folder
        self.training, self.options = setup.run.training, setup.run.training
        self.accelerator = make_accelerator(arguments, folder)
        self.augments_batches = self.accelerator.device.type != "cpu"
        self.batches = DataLoaderTimer(setup.augment if self.augments_batches else None)
        self.num_steps = count_steps(setup, self.accelerator.num_processes)[1]
        self.config = setup.model.model.config
        self._prepare()
        self.average = EMA(self.plain_model, self.training.ema_decay) if self.training.ema_decay else None
        self.stop_at_chance_loss = StopAtChanceLoss(self.training.chance_loss_patience, setup.chance_loss)
        self.metrics = ClassificationMetrics(setup.data.multi_label)
        self.state, self.first_step = LoopState(), 0
        self.loss_since_log = torch.zeros((), device=self.accelerator.device)

    def _prepare(self) -> None:
        """Loaders, optimizer and schedule, as Trainer makes them."""
        setup, arguments, model = self.setup, self.arguments, self.setup.model.model
        if self.training.activation_checkpointing:
            model.activation_checkpointing_enable()
        if arguments.torch_compile:
            # In place, because Accelerate's wrapper would rename the weights.
            model.compile(backend=arguments.torch_compile_backend)
        optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        groups = parameter_groups(
            model,
            self.training.learning_rate,
            self.training.weight_decay,
            self.training.layer_decay,
        )
        optimizer = optimizer_class(groups, **settings)
        # Not prepared by Accelerate, which would take a step of the schedule for each process.
        self.scheduler = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=arguments.get_warmup_steps(self.num_steps),
            num_training_steps=self.num_steps,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
        self.accelerator.register_for_checkpointing(self.scheduler)
        loader = self._make_loader(setup.train_clips, self.training.per_device_train_batch_size, is_training=True)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.validation_loader = None
        if setup.validation_clips is not None:
            batch_size = setup.run.training.per_device_eval_batch_size
            loader = self._make_loader(setup.validation_clips, batch_size, is_training=False)
            self.validation_loader = self.accelerator.prepare(loader)

    def _make_loader(self, clips: Any, batch_size: int, is_training: bool) -> DataLoader:
        return DataLoader(
            clips,
            batch_size=batch_size,
            shuffle=is_training and not isinstance(clips, StreamedClips),
            num_workers=self.options.dataloader_num_workers,
            collate_fn=self.setup.collator(augments=not self.augments_batches) if is_training else ClipCollator(),
            pin_memory=self.arguments.dataloader_pin_memory,
        )

    @property
    def plain_model(self) -> Any:
        """The model without what Accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises `ValueError` if it is another model's."""
        self.state = load_checkpoint(checkpoint, self.accelerator, self.average)
        self.first_step = self.state.global_step
        self.loss_since_log.fill_(self.state.loss_since_log)

    def run(self) -> None:
        """Train to the end."""
        from tqdm.auto import tqdm

        self.batches.begin(self.state.counts)
        hidden = None if self.accelerator.is_main_process else True  # None: shown on a terminal only
        with tqdm(total=self.num_steps, initial=self.state.global_step, disable=hidden, unit="step") as progress:
            while self.state.global_step < self.num_steps and not self._has_stopped_improving():
                self._run_epoch(progress)

    def _run_epoch(self, progress: Any) -> None:
        state = self.state
        self.setup.train_clips.set_epoch(state.epoch)
        self.loader.set_epoch(state.epoch)
        # What was seen before a resume is skipped: in the order of the videos, none of which is decoded, or of a stream.
        loader = skip_first_batches(self.loader, state.num_batches) if state.num_batches else self.loader
        batches = self.batches(loader)
        while state.global_step < self.num_steps and not self._has_stopped_improving():
            group = list(islice(batches, self.training.gradient_accumulation_steps))
            if not group:
                state.epoch, state.num_batches = state.epoch + 1, 0
                break
            learning_rate = self.optimizer.param_groups[0]["lr"]
            loss, gradient_norm = self.step(group)
            self.loss_since_log += loss
            state.global_step += 1
            state.num_batches += len(group)
            progress.update()
            if state.global_step % self.options.logging_steps == 0:
                self._log_training(gradient_norm, learning_rate)
            self._evaluate_and_save("steps")
        self._evaluate_and_save("epoch")

    def step(self, group: list[dict[str, Any]]) -> tuple[torch.Tensor, Any]:
        """One step of the optimizer on the clips of several batches. Returns this rank's loss, and the norm of the gradient."""
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        seed_everything(sample_seed(self.options.seed, self.state.global_step, f"rank {rank}"))
        self.model.train()
        # The loss is a sum over labels, divided by how many there are in all batches on all ranks: each clip counts alike.
        num_labels = self.accelerator.reduce(sum((batch["labels"] != IGNORED_LABEL).sum() for batch in group), "sum")
        total = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(group, start=1):
            # Gradients are exchanged between ranks once, behind the last batch.
            with nullcontext() if number == len(group) else self.accelerator.no_sync(self.model):
                labels, inputs = split_labels(self.setup.model.prepare(batch))
                loss = classification_loss(labels, self.model(**inputs).logits, self.config, num_labels)
                loss = loss * num_ranks  # whose mean the exchange takes
                self.accelerator.backward(loss)
            total += loss.detach()
        gradient_norm = None
        if self.training.max_grad_norm:
            gradient_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.training.max_grad_norm)
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16, where a gradient was too large for it
            self.scheduler.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()
        return total, gradient_norm

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Metrics of one view of every validation video, `eval_loss` among them, with the averaged weights if there are such."""
        self.model.eval()
        logits, labels = [], []
        with self.average.in_place() if self.average is not None else nullcontext():
            for batch in self.validation_loader:
                own_labels, inputs = split_labels(self.setup.model.prepare(batch))
                # Ranks are given equal shares by repeating videos; this leaves the repeats out.
                gathered = self.accelerator.gather_for_metrics((self.model(**inputs).logits, own_labels))
                logits.append(gathered[0].float().cpu())
                labels.append(gathered[1].cpu())
        logits, labels = torch.cat(logits), torch.cat(labels)
        loss = classification_loss(labels, logits, self.config).item()
        metrics = self.metrics.compute(logits.numpy(), labels.numpy())
        return {f"eval_{name}": value for name, value in {"loss": loss, **metrics}.items()}

    def _evaluate_and_save(self, moment: str) -> None:
        """What is due behind a step ("steps") or an epoch ("epoch")."""
        step, arguments = self.state.global_step, self.arguments

        def is_due(strategy: str, num_steps: float) -> bool:
            return strategy == moment and (moment == "epoch" or step % num_steps == 0 or step == self.num_steps)

        if is_due(arguments.eval_strategy, arguments.eval_steps):
            self._note_metrics(self.evaluate())
        if is_due(arguments.save_strategy, arguments.save_steps):
            self.state.loss_since_log = self.accelerator.reduce(self.loss_since_log, "mean").item()
            check_loss(self.state.loss_since_log, step)
            check_weights(self.plain_model, step)
            self.state.counts = self.batches.counts()
            save_checkpoint(self.folder, self.accelerator, self.state, self.average, self.options.save_total_limit)

    def _note_metrics(self, metrics: dict[str, float]) -> None:
        name = self.arguments.metric_for_best_model
        value = metrics[name if name.startswith("eval_") else f"eval_{name}"]
        best = self.state.best_metric
        if best is None or (value > best if self.arguments.greater_is_better else value < best):
            self.state.best_metric, self.state.best_step = value, self.state.global_step
            self.state.num_without_progress = 0
        else:
            self.state.num_without_progress += 1
        self._log(metrics)

    def _has_stopped_improving(self) -> bool:
        patience = self.training.early_stopping_patience
        return 0 < patience <= self.state.num_without_progress

    def _log_training(self, gradient_norm: Any, learning_rate: float) -> None:
        num_steps = self.state.global_step - self.state.last_logged
        loss = self.accelerator.reduce(self.loss_since_log, "mean").item()
        self.state.logged_loss += loss
        entry = {"loss": loss / num_steps}
        if gradient_norm is not None:
            entry["grad_norm"] = float(gradient_norm)
        self._log({**entry, "learning_rate": learning_rate})
        self.loss_since_log.zero_()
        self.state.last_logged = self.state.global_step

    def _log(self, values: dict[str, float]) -> None:
        from tqdm.auto import tqdm

        step = self.state.global_step
        self.state.log_history.append({**values, "epoch": self._epochs_done(), "step": step})
        self.accelerator.log(values, step=step)
        if self.accelerator.is_main_process:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            tqdm.write(f"step {step} of {self.num_steps}: {shown}")
        self.stop_at_chance_loss.on_log(None, self.state, None, values)

    def _epochs_done(self) -> float:
        num_batches = 0 if isinstance(self.setup.train_clips, StreamedClips) else len(self.loader)
        return self.state.epoch + (self.state.num_batches / num_batches if num_batches else 0.0)

    def use_best(self) -> None:
        """Give the model the weights to be saved: the best ones if that is asked for and they were kept, averaged if they are."""
        best = find_checkpoints(self.folder).get(self.state.best_step)
        if self.arguments.load_best_model_at_end and best is not None:
            load_checkpoint(best, self.accelerator, self.average)
        if self.average is not None:
            self.average.copy_to_model()

    def save_model(self) -> None:
        """Weights and config, in the way of `from_pretrained`; adapters are merged, so that nobody needs PEFT."""
        weights, model = self.accelerator.get_state_dict(self.model), self.plain_model
        check_weights(model, self.state.global_step)
        if self.setup.run.model.lora_rank:
            model = model.merge_and_unload()
            weights = model.state_dict()
        if self.accelerator.is_main_process:
            model.save_pretrained(self.folder, state_dict=weights)

    def mean_loss(self) -> float:
        """Over all steps; called on all ranks."""
        rest = self.accelerator.reduce(self.loss_since_log, "mean").item()
        return (self.state.logged_loss + rest) / self.state.global_step

    def throughput(self) -> dict[str, float | int]:
        """As `DataLoaderTimer.throughput`."""
        return self.batches.throughput(self.accelerator.num_processes, self.options.dataloader_num_workers)


def make_accelerator(arguments: TrainingArguments, folder: Path) -> Accelerator:
    """Devices, precision and trackers by the arguments of Trainer."""
    precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "no"
    return Accelerator(
        mixed_precision=precision,
        cpu=arguments.use_cpu,
        log_with=arguments.report_to or None,
        project_config=ProjectConfiguration(str(folder), logging_dir=str(folder / "runs")),
        # The same order of videos for any number of ranks, and a new one in each epoch.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=arguments.data_seed),
        # Peers have weights that their classifier does not use; with checkpointing torch cannot look for such.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not arguments.activation_checkpointing)],
    )


def split_labels(batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    """The labels of a batch, and what the model takes."""
    return batch["labels"], {name: value for name, value in batch.items() if name != "labels"}


def seed_everything(seed: int) -> None:
    """Python, numpy and torch, and the GPU if it is in use: torch.manual_seed would remember each call for a GPU that is not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
