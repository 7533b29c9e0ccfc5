# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train`: fine-tune a classifier of videos, or of images, with Transformers' Trainer.

    tubevit train --config finetune-small --data path/to/class/folders --output_dir runs/mine
    tubevit train --config kinetics400-base data=path/to/kinetics400 dataloader_num_workers=16
    torchrun --nproc-per-node 8 training/run_video_classification.py --config kinetics400-base --data path/to/kinetics400
    tubevit train --config runs/mine/resolved_config.yaml resume_from_checkpoint=true
    tubevit train --config joint-small datasets.videos.data=path/to/videos datasets.images.data=path/to/images

The last one trains on several data sets at once, see `joint_config` and `joint_training`.
Options are those of Transformers' examples where these have them, from the command line or a YAML file. Everything that may
be wrong is found before the first step (`--dry-run` stops there), and nothing that exists is overwritten.
"""

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tubevit.training.options import add_config_arguments


if TYPE_CHECKING:
    from tubevit.training.trainer.run_config import TrainingRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tubevit.training.trainer.run_config import all_blocks

    add_config_arguments(parser, all_blocks())
    parser.add_argument("--dry-run", action="store_true", help="make all checks and train on one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    from tubevit.training.logging_utils import quiet_libraries
    from tubevit.training.trainer.run_config import JointRun, read_run

    quiet_libraries()
    run = read_run(args)
    if isinstance(run, JointRun):
        from tubevit.training.trainer.joint_training import train_jointly

        return train_jointly(run, dry_run=args.dry_run)
    return train(run, dry_run=args.dry_run)


def train(run: "TrainingRun", dry_run: bool = False) -> int:
    """Train as `run` says. With `dry_run` all is checked, and one batch goes forward and backward."""
    from accelerate import PartialState

    from tubevit.training.evaluation.metrics import ClassificationMetrics
    from tubevit.training.trainer.build import build_run
    from tubevit.training.trainer.hub import push
    from tubevit.training.trainer.model_card import write_model_card
    from tubevit.training.trainer.run_steps import begin_or_resume, claim_folder, evaluate_saved, finish, try_one_batch
    from tubevit.training.trainer.summary import describe_clip, start_summary
    from tubevit.training.trainer.video_trainer import VideoTrainer

    with ExitStack() as stack:
        folder = claim_folder(run, dry_run, stack)
        setup = build_run(run, folder)
        has_validation = setup.validation_clips is not None
        arguments = run.training.for_trainer(has_validation, ClassificationMetrics(setup.data.multi_label).best_metric)
        clip = describe_clip(setup)
        is_main = PartialState().is_main_process
        if is_main:
            print("\n".join(setup.notes))
            print(start_summary(setup, arguments.world_size, arguments.device.type, clip), flush=True)
        trainer = VideoTrainer(setup, arguments, 1e9 * clip.get("gflops", 0.0))
        if dry_run:
            try_one_batch(trainer)
            return 0
        checkpoint = begin_or_resume(setup, folder, arguments)
        result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        finish(trainer, folder, result)
    exit_code = evaluate_saved(run, folder) if "validation" in setup.data.splits else 0
    if is_main:
        write_model_card(folder, setup, trainer.state.log_history, folder / "evaluation" / "metrics.json")
        if run.training.push_to_hub:
            push(folder, arguments)
    return exit_code


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
