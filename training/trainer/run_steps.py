# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The steps of a training run that `tubevit train`, joint training and the plain loop share.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run_config import CORRUPT_VIDEOS_FILE, JointRun, TrainingRun


if TYPE_CHECKING:
    from transformers import TrainingArguments

    from .build import RunSetup
    from .build_joint import JointSetup
    from .video_trainer import VideoTrainer


def claim_folder(
    run: TrainingRun | JointRun, dry_run: bool, stack: ExitStack, reports: Sequence[str] = (CORRUPT_VIDEOS_FILE,)
) -> Path:
    """
    The folder to write to: the run's, found to be usable; for a dry run one that goes with `stack`.

    reports: names of files that a run leaves behind which ends because too much cannot be read.
    """
    from accelerate import PartialState

    from ..run_folder import dry_run_dir, ensure_writable_dir
    from .checkpointing import check_output_folder

    folder, resume = Path(run.training.output_dir), run.training.is_resumed
    state = PartialState()
    if state.is_main_process or dry_run:
        check_output_folder(folder, resume, may_hold=reports)
    if dry_run:
        return stack.enter_context(dry_run_dir(folder))
    if state.is_main_process:
        stack.enter_context(ensure_writable_dir(folder))
        if not resume:
            for name in reports:
                (folder / name).unlink(missing_ok=True)
    state.wait_for_everyone()
    return folder


def begin_or_resume(
    setup: "RunSetup | JointSetup",
    folder: Path,
    arguments: "TrainingArguments",
    find_checkpoint: Callable | None = None,
) -> Path | None:
    """
    Write what the run is, or find the checkpoint that it goes on from; and make a place on the Hub if it is to go there.

    find_checkpoint: as `checkpointing.last_checkpoint`, for checkpoints that are not Trainer's.
    """
    from accelerate import PartialState

    from ..data.worker_processes import note_on_gpus, note_on_workers
    from ..models.model_size import count_parameters
    from ..run_folder import write_run_files
    from .checkpointing import check_disk_space, check_same_run, last_checkpoint
    from .hub import make_repository

    run = setup.run
    notes = [*note_on_workers(run.training.dataloader_num_workers), *note_on_gpus(run.training.use_cpu)]
    config = vars(run)
    total, trained = count_parameters(setup.model.model)
    checkpoint = None
    if run.training.is_resumed:
        check_same_run(folder, config, setup.class_names, setup.counts)
        find = find_checkpoint or last_checkpoint
        checkpoint = find(folder, run.training.ema_decay > 0, notes, run.training.checkpoint_to_resume)
        notes.append(f"Going on from {checkpoint}.")
    if run.training.save_strategy != "no":
        num_copies = len(setup.class_names) if isinstance(run, JointRun) else 0  # a classifier for each data set
        num_checkpoints = 1 + (run.training.save_total_limit or 2)
        check_disk_space(folder, total, trained, num_checkpoints, num_copies, has_average=run.training.ema_decay > 0)
    state = PartialState()
    if state.is_main_process:
        if run.training.push_to_hub:
            make_repository(folder, arguments)
        if checkpoint is None:
            write_run_files(folder, config, setup.class_names, setup.counts)
        for note in notes:
            print(note, flush=True)
    state.wait_for_everyone()
    return checkpoint


def try_one_batch(trainer: "VideoTrainer") -> None:
    """The first batch, forward and backward."""
    import torch

    trainer.create_optimizer()
    batches, num_items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.accelerator.prepare(trainer.model)
    loss = trainer.training_step(model, batches[0], num_items)
    if not torch.isfinite(loss):
        raise ValueError(f"The loss of the first batch is {loss.item()}.")
    print(f"Dry run: the loss of the first batch is {loss.item():.4f}; nothing was written.")


def finish(trainer: "VideoTrainer", folder: Path, result: Any) -> None:
    """Save the model that is best, or last, what prepares its clips, and how training went."""
    from ..run_folder import METRICS_FILE, write_json
    from .checkpointing import was_finished
    from .summary import end_summary

    setup, throughput = trainer.setup, trainer.throughput()
    trainer.use_average()
    if setup.run.model.lora_rank:
        trainer.model = trainer.model.merge_and_unload()  # a plain model, which needs no PEFT
    if was_finished(folder, trainer.state.global_step - trainer.first_step):
        return
    trainer.save_model()
    trainer.save_state()
    metrics = {"train_loss": trainer.mean_loss(result.training_loss), "steps": trainer.state.global_step}
    if trainer.state.best_metric is not None:
        metrics[f"best_{trainer.args.metric_for_best_model}"] = trainer.state.best_metric
        metrics["best_step"] = trainer.state.best_global_step
    if trainer.is_world_process_zero():
        setup.model.save_processors(str(folder))
        write_json(folder / METRICS_FILE, metrics)
        write_json(folder / "throughput.json", throughput)
        trainer.create_model_card()
        print(end_summary(metrics, throughput, folder), flush=True)


def evaluate_saved(run: TrainingRun, folder: Path) -> int:
    """
    `tubevit eval` of the saved model, on all views of the validation videos, into `evaluation/`. Returns its exit code:
    videos that were to be skipped do not make it fail, `metrics.json` counts them.
    """
    from accelerate import PartialState

    from ..evaluation.evaluator import INCOMPLETE, EvaluatedModel, EvaluationRun, ViewConfig, evaluate
    from ..run_folder import EVALUATION

    output = folder / EVALUATION
    state = PartialState()
    if state.is_main_process and output.is_dir() and not (output / "metrics.json").is_file():
        shutil.rmtree(output)  # of a run that was killed there
    state.wait_for_everyone()
    is_done = output.is_dir()
    state.wait_for_everyone()  # all have looked before the first makes the folder
    may_skip = run.training.on_corrupt_video == "skip"
    if is_done:
        is_complete = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["is_complete"]
        return 0 if is_complete or may_skip else INCOMPLETE
    views = run.training
    config = {
        "model": EvaluatedModel(str(folder), "float32"),
        "data": run.data,
        "views": ViewConfig(views.num_temporal_views, views.num_spatial_views, views.view_aggregation),
        "run": EvaluationRun(
            str(output),
            split="validation",
            batch_size=views.per_device_eval_batch_size,
            dataloader_num_workers=run.training.dataloader_num_workers,
            use_cpu=run.training.use_cpu,
            allow_incomplete=may_skip,
        ),
    }
    return evaluate(config)
