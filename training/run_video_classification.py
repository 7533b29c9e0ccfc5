# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train`: fine-tune a classifier of videos or images with `VideoTrainer`, a Transformers Trainer.

    tubevit train --config finetune-small --data path/to/class/folders --output_dir runs/mine
    tubevit train --config kinetics-base data=path/to/kinetics400 dataloader_num_workers=16
    torchrun --nproc-per-node 8 training/run_video_classification.py --config kinetics-base --data path/to/kinetics400
    tubevit train --config runs/mine/resolved_config.yaml resume_from_checkpoint=true
    tubevit train --config joint-small datasets.videos.data=path/to/videos datasets.images.data=path/to/images

The last command trains one model on several data sets, videos and images (section 3.5), see `trainer/run_config.py`: each batch
is of one data set, sampled by weight. It saves the joint model, and a classifier with its evaluation in a folder for each data set.

Each field of Transformers' `TrainingArguments` is an option, on the command line or in a YAML file. Options, data and model are
checked before the first step (`--dry-run` stops there). Existing files are never overwritten.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from tubevit.training.options import add_config_arguments


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
    """Train a model and score it. `dry_run`: make all checks and train on one batch, without writing files."""
    from tubevit.training.trainer.run_steps import train_run

    trained = train_run(run, dry_run)
    return trained.exit_code if trained is not None else 0


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
