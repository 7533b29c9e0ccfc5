# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train-loop`: what `tubevit train` does, without Trainer, by a loop on plain Accelerate that is there to be changed.

    tubevit train-loop --config finetune-small --data path/to/class/folders --output_dir runs/mine
    torchrun --nproc-per-node 8 training/run_video_classification_no_trainer.py --config kinetics400-base data=...
    accelerate launch training/run_video_classification_no_trainer.py --config kinetics400-base data=...

Options, recipes, checks and what ends up in the folder are the same, and so is the loss curve. Only checkpoints differ, so
a run is resumed by the script that began it.
"""

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tubevit.training.options import add_config_arguments


if TYPE_CHECKING:
    from tubevit.training.trainer.run_config import TrainingRun
    from tubevit.training.trainer.training_loop import TrainingLoop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tubevit.training.trainer.run_config import all_blocks

    add_config_arguments(parser, all_blocks())
    parser.add_argument("--dry-run", action="store_true", help="make all checks and train on one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    from accelerate import PartialState

    from tubevit.training.logging_utils import quiet_libraries
    from tubevit.training.trainer.run_config import JointRun, read_run

    quiet_libraries()
    run = read_run(args)
    if isinstance(run, JointRun):
        raise ValueError("train-loop trains on one data set; use `tubevit train` for several.")
    exit_code = train(run, dry_run=args.dry_run)
    PartialState().destroy_process_group()
    return exit_code


def train(run: "TrainingRun", dry_run: bool = False) -> int:
    """Train as `run` says. With `dry_run` all is checked, and one batch goes forward and backward."""
    from tubevit.training.evaluation.metrics import ClassificationMetrics
    from tubevit.training.trainer.accelerate_checkpoints import newest_checkpoint
    from tubevit.training.trainer.build import build_run
    from tubevit.training.trainer.hub import push
    from tubevit.training.trainer.model_card import write_model_card
    from tubevit.training.trainer.run_steps import begin_or_resume, claim_folder, evaluate_saved
    from tubevit.training.trainer.summary import describe_clip, start_summary
    from tubevit.training.trainer.training_loop import TrainingLoop

    if run.training.lr_scheduler_type == "reduce_lr_on_plateau":
        raise ValueError(
            "lr_scheduler_type=reduce_lr_on_plateau follows evaluations, as Trainer's do; use `tubevit train`."
        )
    with ExitStack() as stack:
        folder = claim_folder(run, dry_run, stack)
        setup = build_run(run, folder)
        has_validation = setup.validation_clips is not None
        best_metric = ClassificationMetrics(setup.data.multi_label).best_metric
        loop = TrainingLoop(setup, run.training.for_trainer(has_validation, best_metric), folder)
        say, num_processes = loop.accelerator.print, loop.accelerator.num_processes
        say("\n".join(setup.notes))
        say(start_summary(setup, num_processes, loop.accelerator.device.type, describe_clip(setup)), flush=True)
        if dry_run:
            try_one_batch(loop)
            return 0
        if checkpoint := begin_or_resume(setup, folder, loop.arguments, newest_checkpoint):
            loop.resume(checkpoint)
        loop.accelerator.init_trackers(folder.absolute().name)
        loop.run()
        finish(loop)
    exit_code = evaluate_saved(run, folder) if "validation" in setup.data.splits else 0
    if loop.accelerator.is_main_process:
        write_model_card(folder, setup, loop.state.log_history, folder / "evaluation" / "metrics.json")
        if run.training.push_to_hub:
            push(folder, loop.arguments)
    return exit_code


def try_one_batch(loop: "TrainingLoop") -> None:
    """The first batch, forward and backward."""
    import torch

    loss, _ = loop.step([next(loop.batches(loop.loader))])
    if not torch.isfinite(loss):
        raise ValueError(f"The loss of the first batch is {loss.item()}.")
    loop.accelerator.print(f"Dry run: the loss of the first batch is {loss.item():.4f}; nothing was written.")


def finish(loop: "TrainingLoop") -> None:
    """Save the model that is best, or last, what prepares its clips, and how training went."""
    from tubevit.training.run_folder import METRICS_FILE, write_json
    from tubevit.training.trainer.checkpointing import was_finished
    from tubevit.training.trainer.model_card import write_model_card
    from tubevit.training.trainer.summary import end_summary

    state, folder = loop.state, loop.folder
    throughput = loop.throughput()
    if was_finished(folder, state.global_step - loop.first_step):
        return
    loop.use_best()
    loop.save_model()
    for tracker in loop.accelerator.trackers:  # not end_training: the evaluation still needs the other ranks
        tracker.finish()
    metrics = {"train_loss": loop.mean_loss(), "steps": state.global_step}
    if state.best_metric is not None:
        metrics[f"best_{loop.arguments.metric_for_best_model}"] = state.best_metric
        metrics["best_step"] = state.best_step
    if loop.accelerator.is_main_process:
        loop.setup.model.save_processors(str(folder))
        write_json(folder / "trainer_state.json", vars(state))
        write_json(folder / METRICS_FILE, metrics)
        write_json(folder / "throughput.json", throughput)
        write_model_card(folder, loop.setup, state.log_history)
        print(end_summary(metrics, throughput, folder), flush=True)
    loop.accelerator.wait_for_everyone()


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["train-loop", *sys.argv[1:]]))
