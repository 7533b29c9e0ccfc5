# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit eval`: evaluate a video classifier on a data set, with several views of every video.

    tubevit eval --model_name_or_path runs/tubevit --data path/to/videos --output_dir runs/tubevit/evaluation
    tubevit eval --config evaluation.yaml num_temporal_views=4 num_spatial_views=3
    tubevit eval --config evaluation.yaml --num_processes 8

The classifier is any model of `AutoModelForVideoClassification`, so one tool compares TubeViT with other models; or a TubeViT for
images, which have one view. `metrics.json` holds the numbers of videos scored, missing and skipped, and how views were sampled and
averaged. A video that cannot be read is never replaced by another, and the exit code is 1 unless all videos were scored.
"""

import argparse
import sys

from tubevit.training.command_line import add_config_arguments
from tubevit.training.evaluation.evaluator import BLOCKS, evaluate
from tubevit.training.options import read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser, BLOCKS)
    parser.add_argument("--dry-run", action="store_true", help="make all checks and score one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    """Evaluate; the exit code is 1 if videos could not be scored and `allow_incomplete` is not set."""
    from tubevit.training.logging_utils import quiet_libraries

    quiet_libraries()
    return evaluate(read_config(args, BLOCKS), args.dry_run)


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["eval", *sys.argv[1:]]))
