# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A training run from options to an evaluated model: `train_run`, and its steps, which the plain Accelerate loop uses too.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run_config import CORRUPT_VIDEOS_FILE, JointRun, TrainingRun


NUM_SLOWEST = 3  # files that the summary of a run names


if TYPE_CHECKING:
    from .build import JointSetup, RunSetup
    from .training_arguments import VideoTrainingArguments
    from .video_trainer import VideoTrainer


@dataclass
class TrainedRun:
    """
    Results of a training run.

    metrics: the content of `train_metrics.json` (`train_loss`, `steps`, `best_<metric>`, `best_step`). steps: optimizer steps of the
    whole run. log_history: Trainer's log entries. throughput: the result of `DataLoaderTimer.throughput`, and `slowest_files`, a mapping
    from path to seconds. exit_code: 1 if videos could not be scored in the evaluation, else 0.
    """

    folder: Path
    metrics: dict[str, Any]
    steps: int
    log_history: list[dict[str, Any]]
    throughput: dict[str, Any]
    exit_code: int = 0


def train_run(
    run: TrainingRun | JointRun, dry_run: bool = False, evaluates_views: bool = True, quiet: bool = False
) -> TrainedRun | None:
    """
    Train a model in this process with `VideoTrainer`, with `JointTrainer` on several data sets, or with `MaskedTrainer` without labels.

    dry_run: make all checks and train on one batch, without writing files; the result is `None`.
    evaluates_views: evaluate the saved model on all views of the videos of `build.scored_split`, into `evaluation/`.
    quiet: print nothing on stdout.

    Raises `ValueError`, `TypeError`, `OSError` or `ImportError` of one line for options, data or a model that cannot be used, and
    `TrainingStopped` if the loss becomes NaN or inf or stays at chance level.
    """
    is_joint = isinstance(run, JointRun)
    is_masked = not is_joint and run.is_masked
    if is_masked:
        from .masked_run import build_masked_run as build
    else:
        from .build import build_run as build
    with ExitStack() as stack:
        if quiet:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        reports = [run.report_of(name) for name in run.names] if is_joint else [CORRUPT_VIDEOS_FILE]
        with ExitStack() as claimed:
            claimed.enter_context(decoder_of(run.training))
            folder = claim_folder(run, dry_run, claimed, reports)
            setup = build(run, folder)
            check_resumed(setup)
            if setup.budgets is not None:
                claimed.enter_context(setup.budgets.enough_recompiles())
            arguments = run.training.for_trainer(setup.validation_clips is not None, setup.best_metric)
            trainer = make_trainer(setup, arguments)
            if dry_run:
                try_batches(trainer, folder)
                return None
            checkpoint = begin_or_resume(setup, folder, arguments)
            if checkpoint is None and run.model.classifier_init is not None:
                from .ridge_start import set_ridge_classifier

                set_ridge_classifier(setup, trainer.accelerator)
            result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
            trained = finish(trainer, folder, result)
        return score_and_publish(setup, trained, arguments, evaluates_views and not is_masked)


def decoder_of(training: "VideoTrainingArguments") -> AbstractContextManager:
    """The context in which the clips of a run are decoded, see `use_decoder`."""
    from ..data.torchcodec_decoding import use_decoder

    return use_decoder(training.decoder, training.dataloader_num_workers, training.dataloader_multiprocessing_context)


def score_and_publish(
    setup: "RunSetup | JointSetup",
    trained: TrainedRun,
    arguments: "VideoTrainingArguments",
    evaluates_views: bool = True,
) -> TrainedRun:
    """Evaluate the saved model, write its card with the scores, and upload it if `push_to_hub` is set."""
    from accelerate import PartialState

    from .hub_upload import make_repository, upload

    trained.exit_code = split_and_evaluate(setup, trained.folder, evaluates_views)
    if PartialState().is_main_process:
        repository = make_repository(trained.folder, arguments) if setup.run.training.push_to_hub else None
        write_cards(setup, trained.folder, trained.log_history, repository)
        if repository is not None:
            upload(trained.folder, repository, arguments, setup.run.names if isinstance(setup.run, JointRun) else ())
    return trained


def make_trainer(setup: "RunSetup | JointSetup", arguments: "VideoTrainingArguments") -> "VideoTrainer":
    """The Trainer of a run. The first process prints a summary of the run."""
    from accelerate import PartialState

    from .joint_trainer import JointTrainer
    from .masked_run import MaskedSetup, MaskedTrainer
    from .summary import describe_clip, describe_inputs, joint_summary, start_summary
    from .video_trainer import VideoTrainer

    is_joint = isinstance(setup.run, JointRun)
    clip = describe_inputs(setup) if is_joint else describe_clip(setup)
    if PartialState().is_main_process:
        summary = joint_summary if is_joint else start_summary
        print("\n".join(setup.messages))
        print(summary(setup, arguments.world_size, arguments.device.type, clip), flush=True)
    if is_joint:
        return JointTrainer(setup, arguments, {name: 1e9 * each["gflops"] for name, each in clip.items()})
    trainer_class = MaskedTrainer if isinstance(setup, MaskedSetup) else VideoTrainer
    return trainer_class(setup, arguments, 1e9 * clip.get("gflops", 0.0))


def claim_folder(
    run: TrainingRun | JointRun, dry_run: bool, stack: ExitStack, reports: Sequence[str] = (CORRUPT_VIDEOS_FILE,)
) -> Path:
    """
    The folder to write to, after checks; for a dry run a temporary folder, which exists until `stack` closes.

    reports: names of the reports of corrupt videos. A run that stopped because of too many corrupt videos leaves them behind.
    """
    from accelerate import PartialState

    from ..run_folder import ensure_writable_dir
    from .checkpointing import check_output_folder, check_same_options

    folder, resume = Path(run.training.output_dir), run.training.is_resumed
    state = PartialState()
    if state.is_main_process or dry_run:
        check_output_folder(folder, resume, may_hold=reports)
        if resume:
            check_same_options(folder, vars(run), before_data=True)
    if dry_run:
        stack.enter_context(ensure_writable_dir(folder))
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if state.is_main_process:
        stack.enter_context(ensure_writable_dir(folder))
        if not resume:
            for name in reports:
                (folder / name).unlink(missing_ok=True)
    state.wait_for_everyone()
    return folder


def check_resumed(setup: "RunSetup | JointSetup") -> None:
    """Raise a `ValueError` that names what differs from a run that is resumed. Called before anything of the run is printed."""
    from .checkpointing import check_same_run

    training = setup.run.training
    if training.is_resumed:
        check_same_run(Path(training.output_dir), vars(setup.run), setup.class_names, setup.counts)


def begin_or_resume(
    setup: "RunSetup | JointSetup",
    folder: Path,
    arguments: "VideoTrainingArguments",
    find_checkpoint: Callable | None = None,
) -> Path | None:
    """
    Write the files that describe a new run, or return the checkpoint of a resumed one. With `push_to_hub`, create the repository.

    find_checkpoint: replaces `checkpointing.last_checkpoint`, for checkpoints that Trainer did not write.
    """
    from accelerate import PartialState

    from ..data.worker_processes import gpu_messages, worker_messages
    from ..models.model_size import count_parameters
    from ..run_folder import write_run_files
    from .checkpointing import check_disk_space, count_checkpoints, last_checkpoint
    from .hub_upload import make_repository

    run = setup.run
    messages = [*worker_messages(run.training.dataloader_num_workers), *gpu_messages(run.training.use_cpu)]
    config = vars(run)
    total, trained = count_parameters(setup.model.model)
    checkpoint = None
    if run.training.is_resumed:
        find = find_checkpoint or last_checkpoint
        checkpoint = find(folder, run.training.ema_decay > 0, messages, run.training.checkpoint_to_resume)
        messages.append(f"Resuming from {checkpoint}.")
    if run.training.save_strategy != "no":
        num_copies = len(setup.class_names) if isinstance(run, JointRun) else 0  # a classifier for each data set
        num_existing = sum(1 for pattern in ("checkpoint-*", "step-*") for _ in folder.glob(pattern))
        num_checkpoints = count_checkpoints(arguments, setup.count_batches(arguments.world_size)) - num_existing
        check_disk_space(
            folder, total, trained, max(1, num_checkpoints), num_copies, has_average=run.training.ema_decay > 0
        )
    state = PartialState()
    if state.is_main_process:
        if run.training.push_to_hub:
            make_repository(folder, arguments)
        if checkpoint is None:
            write_run_files(folder, config, setup.class_names, setup.counts)
        for message in messages:
            print(message, flush=True)
    state.wait_for_everyone()
    return checkpoint


def try_batches(trainer: "VideoTrainer", folder: Path) -> None:
    """
    Train twice on the first batch, of a joint run on the first batch of each data set, without an optimizer step; then save the model and
    its processors in the temporary `folder`, because a config that cannot be saved would stop the run at its first checkpoint.
    """
    import torch
    from accelerate import PartialState

    from ..throughput import ModelClock
    from .callbacks import compare_rates

    state = PartialState()
    model = trainer.prepare_step()
    trainer.current_gradient_accumulation_steps = 1
    for name, batch in trainer.first_batches():
        batches, num_items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
        trainer.clock = ModelClock(trainer.args.device.type != "cpu", num_warmup=1, num_timed=1)
        loss, _ = (trainer.training_step(model, batches[0], num_items) for _ in range(2))
        if not torch.isfinite(loss):
            raise ValueError(f"The loss of the first batch{name} is {loss.item()}.")
        state.print(f"Dry run: the loss of the first batch{name} is {loss.item():.4f}.")
        if trainer.setup.loading_rate is not None:
            workers = trainer.args.dataloader_num_workers
            state.print("Dry run: " + compare_rates(trainer.clock.pop_rate(), trainer.setup.loading_rate, workers))
    trainer.save_model(str(folder))
    trainer.setup.model.save_processors(str(folder))
    state.print("Dry run: the model was saved in a temporary folder. Nothing was written.")


def finish(trainer: "VideoTrainer", folder: Path, result: Any) -> TrainedRun:
    """Save the best or the last model, its processors, and the training metrics. A run that was already finished keeps its files."""
    from .checkpointing import was_finished

    setup, state, throughput = trainer.setup, trainer.state, trainer.throughput()
    trainer.use_average()
    if setup.run.model.lora_rank:
        trainer.model = trainer.model.merge_and_unload()  # a plain model, which needs no PEFT
    metrics = {"train_loss": trainer.mean_loss(), "steps": state.global_step}
    if state.best_metric is not None:
        metrics[f"best_{trainer.args.metric_for_best_model}"] = state.best_metric
        metrics["best_step"] = state.best_global_step
    if was_finished(folder, state.global_step - trainer.first_step):
        return TrainedRun(folder, read_metrics(folder), state.global_step, state.log_history, throughput)
    metrics |= trainer.final_metrics()
    trainer.save_model()
    trainer.save_state()
    return record(setup, TrainedRun(folder, metrics, state.global_step, state.log_history, throughput))


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of training of a finished run."""
    from ..run_folder import METRICS_FILE

    return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))


def record(setup: "RunSetup | JointSetup", trained: TrainedRun) -> TrainedRun:
    """Write processors, metrics, throughput and a model card beside a saved model, on the first process."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from ..run_folder import METRICS_FILE, write_json
    from .callbacks import loss_warning
    from .model_card import write_joint_card, write_model_card
    from .summary import end_summary

    state, folder = PartialState(), trained.folder
    found = gather_object(setup.train_clips.slowest_files(NUM_SLOWEST))
    longest = dict(sorted(found, key=lambda each: each[1]))  # of a file that several processes read
    trained.throughput["slowest_files"] = dict(list(longest.items())[::-1][:NUM_SLOWEST])
    if state.is_main_process:
        setup.model.save_processors(str(folder))
        trained.metrics |= _trivial_scores(trained.log_history)
        write_json(folder / METRICS_FILE, trained.metrics)
        write_json(folder / "throughput.json", trained.throughput)
        if isinstance(setup.run, JointRun):
            write_joint_card(folder, setup)
        else:
            write_model_card(folder, setup, trained.log_history)
        print(end_summary(trained.metrics, trained.throughput, folder), flush=True)
        if (warning := loss_warning(trained.log_history, setup.chance_loss, trained.steps)) is not None:
            print(warning, flush=True)
    state.wait_for_everyone()
    return trained


def _trivial_scores(history: list[dict[str, Any]]) -> dict[str, float]:
    """The scores of `metrics.trivial_score` in log entries."""
    return {
        name.removeprefix("eval_"): value
        for entry in history
        for name, value in entry.items()
        if name.endswith(("majority_class_rate", "majority_action_rate", "mean_prevalence"))
    }


def evaluate_saved(run: TrainingRun, folder: Path, split: str = "validation", shown: Sequence[str] = ()) -> int:
    """
    `tubevit eval` of the saved model on all views of the videos of `split`, into `evaluation/`. Returns the exit code. With
    `on_corrupt_video=skip`, videos that could not be scored do not change it; `metrics.json` counts them. shown: as in `evaluate`.
    """
    from accelerate import PartialState

    from ..evaluation.evaluator import INCOMPLETE, EvaluatedModel, EvaluationRun, ViewConfig, evaluate
    from ..run_folder import EVALUATION

    output = folder / EVALUATION
    state = PartialState()
    if state.is_main_process and output.is_dir() and not (output / "metrics.json").is_file():
        shutil.rmtree(output)  # left by a run that was killed during its evaluation
    state.wait_for_everyone()
    is_done = output.is_dir()
    state.wait_for_everyone()  # before the first process creates the folder
    may_skip = run.training.on_corrupt_video == "skip"
    if is_done:
        is_complete = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["is_complete"]
        return 0 if is_complete or may_skip else INCOMPLETE
    views = run.training
    config = {
        "model": EvaluatedModel(str(folder), "float32"),
        "data": run.data,
        "views": ViewConfig(
            num_temporal_views=views.num_temporal_views,
            num_spatial_views=views.num_spatial_views,
            view_aggregation=views.view_aggregation,
        ),
        "run": EvaluationRun(
            str(output),
            split=split,
            batch_size=views.per_device_eval_batch_size,
            dataloader_num_workers=run.training.dataloader_num_workers,
            decoder=run.training.decoder,
            use_cpu=run.training.use_cpu,
            allow_incomplete=may_skip,
        ),
    }
    return evaluate(config, shown=shown)


def split_and_evaluate(setup: "RunSetup | JointSetup", folder: Path, evaluates_views: bool = True) -> int:
    """
    Split a joint model into a classifier for each data set, and evaluate each saved classifier. Returns the first exit code that
    is not 0; after an incomplete evaluation the other data sets are still evaluated.
    """
    from accelerate import PartialState

    from ..models.build import save_classifiers
    from .build import scored_split

    state, parts = PartialState(), {"": setup}
    if isinstance(setup.run, JointRun):
        parts = setup.parts
        if state.is_main_process:
            save_classifiers(setup.model, folder)
        state.wait_for_everyone()
    exit_code = 0
    for name, part in parts.items():
        split = scored_split(part.data)
        if evaluates_views and split is not None:
            if name:
                state.print(f"Evaluating {name}:", flush=True)
            own_code = evaluate_saved(part.run, folder / name, split, part.data.messages)
            exit_code = exit_code or own_code
    return exit_code


def write_cards(
    setup: "RunSetup | JointSetup", folder: Path, history: list[dict[str, Any]], repository: str | None = None
) -> None:
    """
    Write the model card of a finished run; of a joint run also those of its classifiers. repository: on the Hub, if the run is
    uploaded.
    """
    from ..run_folder import EVALUATION
    from .model_card import write_joint_card, write_model_card

    if isinstance(setup.run, JointRun):
        write_joint_card(folder, setup, history, repository)
    else:
        write_model_card(folder, setup, history, folder / EVALUATION / "metrics.json", repository)
