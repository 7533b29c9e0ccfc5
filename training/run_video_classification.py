# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train`: fine-tune a classifier of videos or images with `VideoTrainer`, a Transformers Trainer.

    tubevit train --config finetune-small --data path/to/class/folders --output_dir runs/mine
    tubevit train --config kinetics-base data=path/to/kinetics400 --num_processes 8
    tubevit train --config runs/mine/resolved_config.yaml resume_from_checkpoint=true
    tubevit train --config joint-small datasets.videos.data=path/to/videos datasets.images.data=path/to/images

The last command trains one model on several data sets of videos and images (section 3.5), see `trainer/run_config.py`. Each batch
comes from one data set, which is sampled by weight. The run saves the joint model, and for each data set a folder with a classifier
and its evaluation.

Each field of Transformers' `TrainingArguments` is an option, on the command line or in a YAML file. Options, data and model are
checked before the first step. `--dry-run` makes these checks and trains on one batch. Existing files are never overwritten.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from tubevit.training.command_line import add_config_arguments


if TYPE_CHECKING:
    from tubevit.training.trainer.run_config import JointRun, TrainingRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tubevit.training.trainer.run_config import all_blocks

    add_config_arguments(parser, all_blocks())
    parser.add_argument("--dry-run", action="store_true", help="make all checks and train on one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    from tubevit.training.logging_utils import quiet_libraries
    from tubevit.training.trainer.run_config import read_run

    quiet_libraries()
    return train(read_run(args), dry_run=args.dry_run)


def train(run: "TrainingRun | JointRun", dry_run: bool = False) -> int:
    """Train and evaluate a model. Returns the exit code. dry_run: make all checks, train on one batch and write nothing."""
    from tubevit.training.trainer.run_steps import train_run

    trained = train_run(run, dry_run)
    return trained.exit_code if trained is not None else 0


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
