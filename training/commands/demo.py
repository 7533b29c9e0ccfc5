# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit demo`: train a tiny TubeViT in a few minutes on two CPU cores, and draw a report of its tubes and predictions.

The demo trains the recipe `demo` as `tubevit train` does, on synthetic clips of moving shapes (`moving_shapes`) or on your own videos
in folders named after their classes. Then it classifies clips with Transformers' `pipeline`. `--quick` does not train: the package ships
the weights of one demo (`demo_weights`). `--gradio` serves a page that classifies uploaded videos.
"""

import argparse
import csv
import json
import shutil
import sys
import time
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from ..command_line import whole_number
from ..data.demo_clips import ClassFolders, find_clips, take_evenly
from ..options import load_config_file
from ..run_folder import CONFIG_FILE, EVALUATION
from .demo_steps import classify_and_draw, command_name, print_step


RECIPE = "demo"
CLIP_LIST = "clips.csv"
NUM_EVALUATIONS = 4  # while training
NUM_REPORT_CLIPS = 8
PORT = 7860  # Gradio's
MAX_CORRUPT_SHOWN = 10
TRAINING_DEFAULTS = {"steps": 1400, "clips_per_class": 150, "max_clips": 2000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="your videos, in FOLDER/<class>/ or FOLDER/train|val/<class>/ (default: synthetic moving shapes)",
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="do not train: classify a few synthetic clips with the weights that the package ships",
    )
    parser.add_argument("--steps", type=whole_number(1), help="optimizer steps (default: 1400)")
    parser.add_argument(
        "--clips-per-class",
        type=whole_number(1),
        help="number of synthetic training clips per class (default: 150)",
    )
    parser.add_argument(
        "--max-clips", type=whole_number(2), help="maximum number of your clips to use (default: 2000)"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="random seed of clips, weights and training order (default: 0)"
    )
    page = parser.add_argument_group("page", "A Gradio app on this machine that classifies uploaded videos.")
    page.add_argument(
        "--gradio",
        action="store_true",
        help="serve the page for the model in --output, or for the weights in the package if there is none; needs the extra gradio",
    )
    page.add_argument(
        "--model",
        metavar="MODEL",
        help="with --gradio: checkpoint of a video classifier, a folder or a name on the Hub",
    )
    page.add_argument(
        "--port", type=whole_number(1), metavar="N", help=f"with --gradio: port of the page (default: {PORT})"
    )


def run(args: argparse.Namespace) -> int:
    _check_options(args)
    if args.gradio:
        from .demo_page import serve_page

        return serve_page(args.model, args.output, args.seed, args.port or PORT)
    if args.quick:
        from .quick_demo import run_quick

        return run_quick(args.output, args.seed)
    return _run_training(args)


def _check_options(args: argparse.Namespace) -> None:
    """Fill in the defaults of the training options. Raises `ValueError` for options without effect."""
    mode = "--gradio" if args.gradio else "--quick" if args.quick else None
    if args.gradio and args.quick:
        raise ValueError(
            "--quick has no effect with --gradio, which takes the shipped weights if --output has no model."
        )
    if mode is not None:
        given = [name for name in ("data", *TRAINING_DEFAULTS) if vars(args)[name] is not None]
        if given:
            raise ValueError(
                f"--{given[0].replace('_', '-')} has no effect with {mode}, which does not train: leave it out."
            )
    if not args.gradio and (given := [name for name in ("model", "port") if vars(args)[name] is not None]):
        raise ValueError(f"--{given[0]} has no effect without --gradio: leave it out.")
    for name, value in TRAINING_DEFAULTS.items():
        if vars(args)[name] is None:
            setattr(args, name, value)


def _run_training(args: argparse.Namespace) -> int:
    from transformers.utils import logging

    from ..evaluation.metrics import chance_warning

    start = time.monotonic()
    logging.disable_progress_bar()  # this model loads at once
    folders = _find_demo_clips(args)
    print_step(2, "Check that all files can be read")
    clip_list = args.output / CLIP_LIST
    evaluated_on = _leave_out_corrupt(folders, clip_list)
    print_step(3, f"Train a TubeViT from random weights for {args.steps} steps")
    model_folder = args.output / "model"
    _remove_model(model_folder)
    training_run = _make_run(args, clip_list, model_folder)
    num_parameters = _train(training_run, model_folder)
    print_step(4, "Evaluate the saved model")
    metrics = _evaluate(training_run, model_folder)
    print_step(5, 'Classify clips with pipeline("video-classification") and draw the report')
    name = "moving shapes" if args.data is None else args.data.resolve().name
    report, summary = (
        args.output / "report.png",
        f"{100 * metrics['accuracy']:.1f} % of {len(folders.val)} {evaluated_on} correct",
    )
    classify_and_draw(
        model_folder,
        take_evenly(folders.val, NUM_REPORT_CLIPS, args.seed),
        report,
        clips_are=evaluated_on,
        title=f"TubeViT on {name}",
        subtitle=f"{summary}  ·  {num_parameters / 1e6:.1f} M parameters",
    )
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    if (warning := chance_warning(metrics, metrics["num_scored"])) is not None:
        print(f"\n{warning}")
    print(
        f"\n{summary}; always predicting the most frequent class: {100 * metrics['majority_class_rate']:.1f} %. Took {minutes} min "
        f"{seconds} s.\n"
        f"  model   {model_folder}\n"
        f"  report  {report}\n"
        f'Next:  {command_name()} predict "{folders.val[0].path.parent}" --model "{model_folder}"'
    )
    return 0


def _find_demo_clips(args: argparse.Namespace) -> ClassFolders:
    if args.data is None:
        from ..synthetic.moving_shapes import labels, write_dataset

        num_val = max(1, args.clips_per_class // 6)
        print_step(1, f"Write moving shapes as mp4 files: {len(labels())} classes that a single frame does not show")
        return find_clips(write_dataset(args.output / "videos", args.clips_per_class, num_val, args.seed))
    print_step(1, f"Look for videos in {args.data}")
    folders = find_clips(args.data, seed=args.seed)
    num_found = len(folders.train) + len(folders.val)
    if num_found > args.max_clips:
        fraction = args.max_clips / num_found
        folders.train = take_evenly(folders.train, max(2, int(len(folders.train) * fraction)), args.seed)
        folders.val = take_evenly(folders.val, max(1, int(len(folders.val) * fraction)), args.seed)
        folders.messages.append(
            f"{args.max_clips} of {num_found} clips are used, spread evenly over the classes; see --max-clips."
        )
    num_classes = len({clip.label for clip in folders.train})
    print(f"{num_classes} classes, {len(folders.train)} training clips, {len(folders.val)} evaluation clips.")
    for message in folders.messages:
        print(message)
    return folders


def _leave_out_corrupt(folders: ClassFolders, clip_list: Path) -> str:
    """
    Remove the clips that cannot be read from `folders`, print their names, and write the list of the others for `tubevit train`.
    Without held-out clips, the training clips replace `folders.val`. Returns the kind of clips to evaluate on.

    Raises `ValueError` if fewer than two classes are left.
    """
    from ..data.check_data import check_videos
    from ..data.video_datasets import DataConfig, load_video_dataset

    has_held_out = bool(folders.val)
    _write_clip_list(clip_list, folders)
    found, _ = check_videos(load_video_dataset(DataConfig(data=str(clip_list))))
    corrupt = {Path(each.path) for each in found}
    for each in found[:MAX_CORRUPT_SHOWN]:
        print(f"left out: {each.path}: {each.reason}", file=sys.stderr)
    if len(found) > MAX_CORRUPT_SHOWN:
        print(f"left out: {len(found) - MAX_CORRUPT_SHOWN} more", file=sys.stderr)
    folders.train = [clip for clip in folders.train if clip.path.absolute() not in corrupt]
    classes = {clip.label for clip in folders.train}
    folders.val = [clip for clip in folders.val if clip.path.absolute() not in corrupt and clip.label in classes]
    if len(classes) < 2:
        raise ValueError("Fewer than two classes have a training video that can be read.")
    if has_held_out and not folders.val:
        raise ValueError("None of the held-out videos can be read.")
    if not has_held_out:
        print(
            "Too few clips to hold some out: the model is evaluated on its training clips, which does not measure generalization."
        )
        folders.val = list(folders.train)
    _write_clip_list(clip_list, folders)
    return "held-out clips" if has_held_out else "TRAINING clips"


def _write_clip_list(path: Path, folders: ClassFolders) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for split, clips in (("train", folders.train), ("validation", folders.val)):
            writer.writerows([clip.path.absolute(), clip.label, split] for clip in clips)


def _remove_model(folder: Path) -> None:
    """Remove the model of an earlier demo, finished or not. Raises `FileExistsError` for a folder with other files."""
    if folder.is_dir() and any(folder.iterdir()):
        if not any((folder / name).is_file() for name in (CONFIG_FILE, "config.json", "corrupt_videos.csv")):
            raise FileExistsError(f"{folder} holds files that are not a model: empty it or name another --output.")
        print(f"Replacing the model of an earlier demo in {folder}.")
        shutil.rmtree(folder)


def _make_run(args: argparse.Namespace, clip_list: Path, model_folder: Path) -> Any:
    """The run of `tubevit train` with the recipe of the demo."""
    from ..trainer.run_config import RECIPES, TrainingRun, all_blocks

    options = load_config_file(RECIPE, all_blocks(), RECIPES)
    interval = -(-args.steps // NUM_EVALUATIONS)
    options |= {"data": str(clip_list), "check_data": False, "output_dir": str(model_folder), "seed": args.seed}
    return TrainingRun.of(**options | {"max_steps": args.steps, "eval_steps": interval, "logging_steps": interval})


def _train(run: Any, folder: Path) -> int:
    """Train with `VideoTrainer` and save model and processors. Returns the number of parameters."""
    from ..trainer.build import build_run
    from ..trainer.run_steps import begin_or_resume, claim_folder, finish, make_trainer

    with ExitStack() as stack:
        claim_folder(run, False, stack)
        setup = build_run(run, folder)
        arguments = run.training.for_trainer(True, "accuracy")
        trainer = make_trainer(setup, arguments)
        begin_or_resume(setup, folder, arguments)
        result = trainer.train()
        with redirect_stdout(StringIO()):  # the demo has its own summary
            finish(trainer, folder, result)
        return trainer.model.num_parameters()


def _evaluate(run: Any, folder: Path) -> dict[str, Any]:
    """The `metrics.json` of `tubevit eval` on the saved model."""
    from ..trainer.run_steps import evaluate_saved

    with redirect_stdout(StringIO()):
        evaluate_saved(run, folder)
    return json.loads((folder / EVALUATION / "metrics.json").read_text(encoding="utf-8"))
