# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit eval`: score a video classifier on a data set, over several views of every video.

    tubevit eval --model_name_or_path runs/tubevit --data path/to/videos --output_dir runs/tubevit/evaluation
    tubevit eval --config evaluation.yaml num_temporal_views=4 num_spatial_views=3
    torchrun --nproc-per-node 8 training/evaluate_video_classification.py --config evaluation.yaml

Any model of `AutoModelForVideoClassification` will do, so that TubeViT and others are compared by one tool, and a
TubeViT for images, which are scored in one view. A number is
worth what it was measured on: `metrics.json` says how many videos were scored, missing and skipped and how views were
taken and averaged; a video that cannot be read is never replaced, and unless all were scored the exit code is 1.
"""

import argparse
import sys

from tubevit.training.evaluation.evaluator import BLOCKS, evaluate
from tubevit.training.options import add_config_arguments, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser, BLOCKS)
    parser.add_argument("--dry-run", action="store_true", help="make all checks and score one batch; write nothing")


def run(args: argparse.Namespace) -> int:
    """Evaluate; the exit code is 1 if videos could not be scored and `allow_incomplete` is not set."""
    from accelerate import PartialState

    from tubevit.training.logging_utils import quiet_libraries

    quiet_libraries()
    exit_code = evaluate(read_config(args, BLOCKS), args.dry_run)
    PartialState().destroy_process_group()
    return exit_code


if __name__ == "__main__":
    from tubevit.training.cli import main

    sys.exit(main(["eval", *sys.argv[1:]]))
