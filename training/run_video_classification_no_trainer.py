# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train-loop`: the training of `tubevit train` as a plain Accelerate loop, without Trainer, to be copied and changed.

    tubevit train-loop --config finetune-small --data path/to/class/folders --output_dir runs/mine
    tubevit train-loop --config kinetics-base data=path/to/kinetics400 --num_processes 8
    accelerate launch training/run_video_classification_no_trainer.py --config kinetics-base data=...

Read `train` from top to bottom. Options, recipes, checks, the files of a run and the loss curve are those of `tubevit train`.
Checkpoints (`step-<number>/`) are Accelerate's, so a run must be resumed by the command that started it. Options that the loop does
not implement raise.

Each random number depends on the seed, the epoch, the step and the process only. A run that is resumed within an epoch therefore
ends with exactly the weights of an uninterrupted run.
"""

import argparse
import json
import math
import random
import shutil
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubevit.training.command_line import add_config_arguments


if TYPE_CHECKING:
    from tubevit.training.trainer.run_config import JointRun, TrainingRun


PREFIX, UNFINISHED = "step-", "unfinished-checkpoint"  # names of checkpoint folders
STATE_FILE = "loop_state.json"
# Fields of TrainingArguments that the loop reads, besides those declared in VideoTrainingArguments.
SUPPORTED = {
    # Optimizer and schedule
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim_args",
    "lr_scheduler_kwargs",
    # Model and data
    "activation_checkpointing",
    "torch_compile",
    "torch_compile_backend",
    "bf16",
    "fp16",
    "data_seed",
    "dataloader_pin_memory",
    # Hub
    "hub_token",
    "hub_revision",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tubevit.training.trainer.run_config import all_blocks

    add_config_arguments(parser, all_blocks())
    parser.add_argument("--dry-run", action="store_true", help="make all checks and train on one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    from tubevit.training.logging_utils import quiet_libraries
    from tubevit.training.trainer.run_config import read_run

    quiet_libraries()
    return train(read_run(args), dry_run=args.dry_run)


@dataclass
class LoopState:
    """
    Progress of a run. A checkpoint stores it with weights, optimizer and schedule.

    global_step: optimizer steps taken. epoch: complete epochs. num_batches: batches of the current epoch that were read.
    loss_sum: sum of the losses of all steps up to `last_logged`. loss_since_log: sum of the losses of the steps after it.
    log_history: log entries, in Trainer's form. best_metric, best_step: of the evaluations so far.
    counts: clips and seconds, see `DataLoaderTimer.counts`.
    """

    global_step: int = 0
    epoch: int = 0
    num_batches: int = 0
    loss_sum: float = 0.0
    loss_since_log: float = 0.0
    last_logged: int = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_step: int | None = None
    counts: dict[str, Any] = field(default_factory=dict)


def train(run: "TrainingRun | JointRun", dry_run: bool = False) -> int:
    """Train a model. Returns the exit code. dry_run: make all checks, train on one batch and write nothing."""
    from accelerate import skip_first_batches

    from tubevit.training.trainer.build import build_run
    from tubevit.training.trainer.callbacks import check_loss, check_weights
    from tubevit.training.trainer.ema import EMA
    from tubevit.training.trainer.ridge_start import set_ridge_classifier
    from tubevit.training.trainer.run_steps import (
        begin_or_resume,
        check_resumed,
        claim_folder,
        decoder_of,
        score_and_publish,
    )
    from tubevit.training.trainer.summary import count_steps, describe_clip, start_summary

    check_supported(run)
    with ExitStack() as stack:
        # Data, model and devices. `args` has the fields of Transformers' TrainingArguments.
        stack.enter_context(decoder_of(run.training))
        folder = claim_folder(run, dry_run, stack)
        setup = build_run(run, folder)
        check_resumed(setup)
        if setup.budgets is not None:
            stack.enter_context(setup.budgets.enough_recompiles())
        args = run.training.for_trainer(setup.validation_clips is not None, setup.best_metric)
        uses_all = setup.model.family.uses_all_parameters(setup.data.media, setup.model.model.config)
        accelerator = make_accelerator(args, folder, uses_all)
        train_loader, eval_loader, timer = make_loaders(setup, args, accelerator)
        num_steps = count_steps(setup, accelerator.num_processes)[1]
        if run.model.classifier_init is not None and not (dry_run or run.training.is_resumed):
            set_ridge_classifier(setup, accelerator)
        model, optimizer, scheduler = make_optimizer(setup, args, num_steps)
        accelerator.print("\n".join(setup.messages))
        summary = start_summary(setup, accelerator.num_processes, accelerator.device.type, describe_clip(setup))
        accelerator.print(summary, flush=True)
        # The scheduler is not prepared: Accelerate would advance it once for each process.
        accelerator.register_for_checkpointing(scheduler)
        model, optimizer, train_loader = accelerator.prepare(model, optimizer, train_loader)
        plain_model = accelerator.unwrap_model(model, keep_torch_compile=False)
        ema = EMA(plain_model, args.ema_decay) if args.ema_decay else None
        if dry_run:
            loss, _ = train_step(setup, args, accelerator, model, optimizer, [next(timer(train_loader))], 0)
            if not loss.isfinite():
                raise ValueError(f"The loss of the first batch is {loss.item()}.")
            save_model(setup, accelerator, model, ema, folder, 0)  # in a temporary folder
            accelerator.print(f"Dry run: the loss of the first batch is {loss.item():.4f}; nothing was written.")
            return 0

        # A new run, or one that continues from a checkpoint.
        state = LoopState()
        if checkpoint := begin_or_resume(setup, folder, args, newest_checkpoint):
            state = load_checkpoint(checkpoint, accelerator, ema)
        first_step = state.global_step
        accelerator.init_trackers(folder.absolute().name)
        timer.begin(state.counts)
        log = TrainingLog(setup, args, accelerator, state, num_steps, train_loader, timer)

        def evaluate_and_save(at_epoch_end: bool = False) -> None:
            if is_due(args.eval_strategy, args.eval_steps, state.global_step, num_steps, at_epoch_end):
                log.add_evaluation(evaluate(setup, accelerator, model, eval_loader, ema, log.progress))
            if is_due(args.save_strategy, args.save_steps, state.global_step, num_steps, at_epoch_end):
                state.loss_since_log, state.counts = log.sum_since_entry(), timer.counts()
                check_loss(state.loss_since_log, state.global_step)
                check_weights(plain_model, state.global_step)
                save_checkpoint(folder, accelerator, state, ema, args.save_total_limit)

        # The loop. An iteration of the outer loop is an epoch, or the rest of one after a resume.
        while state.global_step < num_steps:
            setup.train_clips.set_epoch(state.epoch)
            train_loader.set_epoch(state.epoch)
            # Batches of earlier calls are skipped without decoding; the rows of a stream are read again.
            setup.skip_streamed(state.num_batches, accelerator.num_processes)
            loader = skip_first_batches(train_loader, state.num_batches) if state.num_batches else train_loader
            batches = timer(loader)
            while state.global_step < num_steps and (group := list(islice(batches, args.gradient_accumulation_steps))):
                learning_rate = optimizer.param_groups[0]["lr"]
                loss, gradient_norm = train_step(setup, args, accelerator, model, optimizer, group, state.global_step)
                if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step with too large a gradient
                    scheduler.step()
                if ema is not None:
                    ema.update()
                state.global_step += 1
                state.num_batches += len(group)
                log.add_step(loss, gradient_norm, learning_rate)
                evaluate_and_save()
            if state.global_step < num_steps:  # the epoch has no more batches
                state.epoch, state.num_batches = state.epoch + 1, 0
            evaluate_and_save(at_epoch_end=True)
        log.progress.close()

        trained = save_results(setup, model, ema, folder, log, first_step)
    return score_and_publish(setup, trained, args).exit_code


# What the loop is built from


def make_accelerator(args: Any, folder: Path, uses_all_parameters: bool) -> Any:
    """
    Devices, precision and trackers. A seedable sampler gives the same order of clips for any number of processes.

    uses_all_parameters: whether each step gives every parameter a gradient.
    """
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration

    return Accelerator(
        mixed_precision=args.mixed_precision,
        cpu=args.use_cpu,
        log_with=args.report_to or None,
        project_config=ProjectConfiguration(str(folder), logging_dir=str(folder / "runs")),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.data_seed),
        kwargs_handlers=[
            # DDP cannot search for parameters without a gradient with activation checkpointing, and warns if it finds none.
            DistributedDataParallelKwargs(
                find_unused_parameters=not (uses_all_parameters or args.activation_checkpointing)
            )
        ],
    )


def make_loaders(setup: Any, args: Any, accelerator: Any) -> tuple[Any, Any, Any]:
    """
    The loaders of training batches (not prepared) and of validation batches (prepared; `None` without validation videos), and
    the timer that iterates over them. Clips are transferred as uint8. Loader workers augment them for a CPU; for a GPU the timer
    applies `augment` there.
    """
    from torch.utils.data import DataLoader

    from tubevit.training.data.clip_datasets import StreamedClips
    from tubevit.training.data.torchcodec_decoding import worker_start_method
    from tubevit.training.throughput import DataLoaderTimer

    on_cpu = accelerator.device.type == "cpu"
    workers = {"num_workers": args.dataloader_num_workers, "pin_memory": args.dataloader_pin_memory}
    workers["multiprocessing_context"] = worker_start_method(args.dataloader_num_workers)
    order = setup.train_order(accelerator.num_processes)
    train_loader = DataLoader(
        setup.train_clips,
        batch_size=args.per_device_train_batch_size,
        sampler=order,
        shuffle=order is None and not isinstance(setup.train_clips, StreamedClips),
        collate_fn=setup.collator(augments=on_cpu),
        **workers,
    )
    eval_loader = None
    if setup.validation_clips is not None:
        eval_loader = accelerator.prepare(
            DataLoader(
                setup.validation_clips,
                batch_size=args.per_device_eval_batch_size,
                collate_fn=setup.evaluation_collator(),
                **workers,
            )
        )
    return train_loader, eval_loader, DataLoaderTimer(None if on_cpu else setup.augment)


def make_optimizer(setup: Any, args: Any, num_steps: int) -> tuple[Any, Any, Any]:
    """The model as `args` says (activation checkpointing, compiled), its optimizer with layer decay, and the schedule."""
    from transformers import Trainer, get_scheduler

    from tubevit.training.models.parameter_groups import parameter_groups

    model = setup.model.model
    if args.activation_checkpointing:
        model.activation_checkpointing_enable()
    if args.torch_compile:
        model.compile(backend=args.torch_compile_backend)  # in place: Accelerate's wrapper would rename the weights
    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)
    groups = parameter_groups(
        model, args.learning_rate, args.weight_decay, args.layer_decay, args.weight_decay_parameters
    )
    optimizer = optimizer_class(groups, **settings)
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.get_warmup_steps(num_steps),
        num_training_steps=num_steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
    return model, optimizer, scheduler


# Steps of the loop


def steps_of(interval: float, num_steps: int) -> int:
    """An interval in steps; a value below 1 is a fraction of all steps."""
    return int(interval) if interval >= 1 else math.ceil(interval * num_steps)


def is_due(strategy: str, interval: float, step: int, num_steps: int, at_epoch_end: bool) -> bool:
    """Whether an evaluation or a checkpoint is due after `step`, or at the end of an epoch."""
    if at_epoch_end or strategy != "steps":
        return at_epoch_end and strategy == "epoch"
    return step % steps_of(interval, num_steps) == 0 or step == num_steps


class TrainingLog:
    """
    Writes log entries to `state.log_history`, to the trackers and to the terminal, and stops a run whose loss is NaN, inf or at
    chance level.
    """

    def __init__(
        self, setup: Any, args: Any, accelerator: Any, state: LoopState, num_steps: int, loader: Any, timer: Any
    ):
        import torch

        from tubevit.training.data.clip_datasets import StreamedClips
        from tubevit.training.trainer.callbacks import StopAtChanceLoss, TrainingProgress

        self.args, self.accelerator, self.state, self.timer = args, accelerator, state, timer
        self.interval = steps_of(args.logging_steps, num_steps)
        self.batches_per_epoch = None if isinstance(setup.train_clips, StreamedClips) else len(loader)
        self.loss_since_entry = torch.tensor(state.loss_since_log, device=accelerator.device)  # of this process
        self.stop_at_chance_loss = StopAtChanceLoss(
            args.chance_loss_patience, setup.chance_loss, args.get_warmup_steps(num_steps)
        )
        self.progress = TrainingProgress(
            (state.global_step, num_steps),
            loss_sum=state.loss_sum + state.loss_since_log,
            num_clips=timer.num_clips,
            num_processes=accelerator.num_processes,
            shows_bar=not args.disable_tqdm,
            is_hidden=not accelerator.is_main_process,
        )

    def sum_since_entry(self) -> float:
        """Sum of the losses of the steps after the last entry, as a mean over processes."""
        return self.accelerator.reduce(self.loss_since_entry, "mean").item()

    def add_step(self, loss: Any, gradient_norm: Any, learning_rate: float) -> None:
        """Called after each step with its results; every `logging_steps` steps, an entry has their mean loss."""
        state = self.state
        self.loss_since_entry += loss
        loss_sum = state.loss_sum + self.loss_since_entry
        self.progress.update(state.global_step, loss_sum.item, learning_rate, self.timer.num_clips)
        if state.global_step % self.interval:
            return
        loss_sum = self.sum_since_entry()
        entry = {"loss": loss_sum / (state.global_step - state.last_logged)}
        entry |= {} if gradient_norm is None else {"grad_norm": float(gradient_norm)}
        wait = self.timer.slowest_wait(self.accelerator)
        self.progress.note_wait(wait)
        self._add({**entry, "learning_rate": learning_rate, **wait})
        state.loss_sum, state.last_logged = state.loss_sum + loss_sum, state.global_step
        self.loss_since_entry.zero_()

    def add_evaluation(self, metrics: dict[str, float]) -> None:
        """Called after each evaluation; keeps the best metric and its step."""
        self.progress.evaluated(metrics)
        state, sign = self.state, 1 if self.args.greater_is_better else -1
        value = metrics[f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"]
        if state.best_metric is None or sign * value > sign * state.best_metric:
            state.best_metric, state.best_step = value, state.global_step
        self._add(metrics)

    def _add(self, values: dict[str, float]) -> None:
        state = self.state
        fraction = state.num_batches / self.batches_per_epoch if self.batches_per_epoch else 0.0
        state.log_history.append({**values, "epoch": state.epoch + fraction, "step": state.global_step})
        self.accelerator.log(values, step=state.global_step)
        self.stop_at_chance_loss.on_log(None, state, None, values)  # also stops at NaN and inf


def train_step(
    setup: Any, args: Any, accelerator: Any, model: Any, optimizer: Any, group: list[dict[str, Any]], step: int
) -> tuple[Any, Any]:
    """One optimizer step on the batches of `group`. Returns the loss of this process, and the gradient's norm or `None`."""
    import torch

    from tubevit.classification import classification_loss
    from tubevit.training.data.augmentation import IGNORED_LABEL
    from tubevit.training.data.rng import sample_seed
    from tubevit.training.models.batch_norm import StatisticsOfForward
    from tubevit.training.trainer.class_balance import label_weights, weighted_loss

    seed_everything(sample_seed(args.seed, step, f"rank {accelerator.process_index}"))
    model.train()
    statistics, budgets = StatisticsOfForward(model), setup.budgets
    # The sum of the losses is divided by the number of labels in all batches of all processes, each clip counts equally; with class
    # weights by the sum of the weights.
    weights = setup.class_weights
    if weights is None:
        counts = [(batch["labels"] != IGNORED_LABEL).sum() for batch in group]
    else:
        counts = [label_weights(batch["labels"], weights).sum() for batch in group]
    num_labels = accelerator.reduce(sum(counts), "sum")
    total = torch.zeros((), device=accelerator.device)
    with nullcontext() if budgets is None else budgets.of_step(step):
        for number, batch in enumerate(group, start=1):
            # Processes exchange gradients once, after the last batch.
            with nullcontext() if number == len(group) else accelerator.no_sync(model):
                inputs = setup.model.prepare(batch)
                labels = inputs.pop("labels")
                teacher = None if budgets is None else budgets.teacher_logits(model, inputs)
                logits = model(**inputs).logits
                if weights is not None:
                    loss = weighted_loss(labels, logits, weights, num_labels)
                elif teacher is not None:
                    loss = budgets.loss(labels, logits, teacher, num_labels)
                else:
                    loss = classification_loss(labels, logits, setup.model.model.config, num_labels)
                loss = loss * accelerator.num_processes  # DDP averages the gradients over the processes
                statistics.save()
                accelerator.backward(loss)
                statistics.restore()
            total += loss.detach()
    norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm) if args.max_grad_norm else None
    optimizer.step()
    optimizer.zero_grad()
    return total, norm


def evaluate(setup: Any, accelerator: Any, model: Any, loader: Any, ema: Any, progress: Any) -> dict[str, float]:
    """Metrics of one view of every validation video, `eval_loss` included, with the EMA weights if there are any."""
    import torch

    from tubevit.classification import classification_loss

    model.eval()
    logits, labels = [], []
    with torch.no_grad(), nullcontext() if ema is None else ema.in_place():
        for number, batch in enumerate(loader):
            progress.within_evaluation(number)
            inputs = setup.model.prepare(batch)
            own_labels = inputs.pop("labels")
            # Processes get equal numbers of videos by repeating some; this removes the repeated ones.
            gathered = accelerator.gather_for_metrics((model(**inputs).logits, own_labels))
            logits.append(gathered[0].float().cpu())
            labels.append(gathered[1].cpu())
    logits, labels = torch.cat(logits), torch.cat(labels)
    loss = classification_loss(labels, logits, setup.model.model.config).item()
    metrics = setup.compute_metrics.compute(logits.numpy(), labels.numpy())
    return {f"eval_{name}": value for name, value in {"loss": loss, **metrics}.items()}


def save_results(setup: Any, model: Any, ema: Any, folder: Path, log: TrainingLog, first_step: int) -> Any:
    """
    Save the best or the last model with its processors, and the metrics of training. A finished run keeps its files. Returns the
    `TrainedRun`.
    """
    from tubevit.training.run_folder import write_json
    from tubevit.training.trainer.checkpointing import was_finished
    from tubevit.training.trainer.run_steps import TrainedRun, read_metrics, record

    args, accelerator, state, steps = log.args, log.accelerator, log.state, log.state.global_step
    throughput = log.timer.throughput(accelerator.num_processes, args.dataloader_num_workers)
    metrics = {"train_loss": (state.loss_sum + log.sum_since_entry()) / steps, "steps": steps}
    if state.best_metric is not None:
        metrics |= {f"best_{args.metric_for_best_model}": state.best_metric, "best_step": state.best_step}
    trained = TrainedRun(folder, metrics, steps, state.log_history, throughput)
    if was_finished(folder, steps - first_step):
        trained.metrics = read_metrics(folder)
        return trained
    best = folder / f"{PREFIX}{state.best_step}"
    if args.load_best_model_at_end and best.is_dir():
        load_checkpoint(best, accelerator, ema)
    elif args.load_best_model_at_end and state.best_step is not None:
        accelerator.print(f"{best}, the best checkpoint, does not exist: the last model is saved.")
    save_model(setup, accelerator, model, ema, folder, steps)
    if accelerator.is_main_process:
        write_json(folder / "trainer_state.json", asdict(state))
    for tracker in accelerator.trackers:  # `end_training` would also end the process group
        tracker.finish()
    return record(setup, trained)


def save_model(setup: Any, accelerator: Any, model: Any, ema: Any, folder: Path, step: int) -> None:
    """Save weights and config for `from_pretrained`: the EMA weights if there are any, LoRA adapters merged."""
    from tubevit.training.trainer.callbacks import check_weights

    if ema is not None:
        ema.copy_to_model()
    plain_model = accelerator.unwrap_model(model, keep_torch_compile=False)
    check_weights(plain_model, step)
    weights = accelerator.get_state_dict(model)
    if setup.run.model.lora_rank:
        plain_model = plain_model.merge_and_unload()
        weights = plain_model.state_dict()
    if accelerator.is_main_process:
        plain_model.save_pretrained(folder, state_dict=weights)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch. `torch.manual_seed` would queue a call for an unused GPU at every step."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


# Checkpoints


def save_checkpoint(folder: Path, accelerator: Any, state: LoopState, ema: Any, total_limit: int | None) -> None:
    """
    Write `step-<number>/`; called on all processes. The folder gets this name when it is complete, so a killed run leaves no
    incomplete checkpoint.

    total_limit: number of newest checkpoints to keep, besides the best; `None` keeps all.
    """
    from tubevit.training.run_folder import write_json

    unfinished = folder / UNFINISHED
    if accelerator.is_main_process and unfinished.exists():
        shutil.rmtree(unfinished)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if ema is not None:
            ema.save(unfinished)
        write_json(unfinished / STATE_FILE, asdict(state))
        target = folder / f"{PREFIX}{state.global_step}"
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
        steps = list(find_checkpoints(folder))
        for step in steps[:-total_limit] if total_limit else []:
            if step != state.best_step:
                shutil.rmtree(folder / f"{PREFIX}{step}")
    accelerator.wait_for_everyone()


def load_checkpoint(path: Path, accelerator: Any, ema: Any) -> LoopState:
    """Load a checkpoint on all processes. Raises `ValueError` unless it holds exactly the weights of the model."""
    try:
        accelerator.load_state(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of this model: {' '.join(str(error).split())}") from error
    if ema is not None:
        ema.load(path)
    return LoopState(**json.loads((path / STATE_FILE).read_text(encoding="utf-8")))


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Step to checkpoint, oldest first."""
    found = {path.name.removeprefix(PREFIX): path for path in folder.glob(f"{PREFIX}*") if path.is_dir()}
    return {int(step): found[step] for step in sorted((each for each in found if each.isdecimal()), key=int)}


def newest_checkpoint(folder: Path, with_average: bool, messages: list[str], named: Path | None = None) -> Path:
    """The newest checkpoint of the loop, or the `named` one. Raises `FileNotFoundError` if there is none."""
    from tubevit.training.trainer.checkpointing import check_named

    if named is not None:
        check_named(named, folder)
        return named
    found = find_checkpoints(folder)
    if not found:
        by_trainer = (
            " of this script; its checkpoints are from `tubevit train`" if any(folder.glob("checkpoint-*")) else ""
        )
        raise FileNotFoundError(f"There is nothing to resume: {folder} has no checkpoint{by_trainer}.")
    return found[max(found)]


def check_supported(run: "TrainingRun | JointRun") -> None:
    """Raise a `ValueError` for an option of `tubevit train` that the loop does not support."""
    from tubevit.training.trainer.run_config import JointRun

    if isinstance(run, JointRun):
        raise ValueError("train-loop trains on one data set; use `tubevit train` for datasets.")
    if run.is_masked:
        raise ValueError("train-loop trains classifiers; use `tubevit train` for task=masked.")
    training = run.training
    refused = {
        "early_stopping_patience": bool(training.early_stopping_patience),
        "save_strategy": training.save_strategy == "best",
        "lr_scheduler_type": training.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"),
    }
    own = type(training).__annotations__
    refused |= {name: True for name in training.to_options() if name not in own and name not in SUPPORTED}
    for name, is_refused in refused.items():
        if is_refused:
            raise ValueError(f"train-loop does not support {name}={training.given[name]}; use `tubevit train`.")


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["train-loop", *sys.argv[1:]]))
