# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit demo`: from nothing to a fine-tuned TubeViT in a few minutes on two CPU cores, seen at work in one picture.

On moving shapes that it draws (`moving_shapes`), or on your own videos in folders named after their classes. The same
steps as with a large model and data set: processors, Trainer, `save_pretrained`, `pipeline`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.formats.class_folders import ClassFolders, LabelledClip, find_clips, take_evenly
from ..options import whole_number


if TYPE_CHECKING:
    import torch

NUM_REPORT_CLIPS = 8
MAX_BROKEN_SHOWN = 10


@dataclass
class DemoData:
    """
    Decoded clips, ready to train on.

    train_pixels, val_pixels: of each clip in `train` and `val`, uint8 `(frames, channels, height, width)`.
    labels: class names, by class index.
    evaluated_on: what `val` are, in words.
    """

    train: list[LabelledClip]
    train_pixels: list["torch.Tensor"]
    val: list[LabelledClip]
    val_pixels: list["torch.Tensor"]
    labels: list[str]
    evaluated_on: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="your videos, in FOLDER/<class>/ or FOLDER/train|val/<class>/ (default: draw moving shapes)",
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument("--steps", type=whole_number(1), default=1400, help="training steps (default: 1400)")
    parser.add_argument(
        "--clips-per-class",
        type=whole_number(1),
        default=150,
        help="moving shapes to draw for training (default: 150)",
    )
    parser.add_argument(
        "--max-clips", type=whole_number(2), default=2000, help="use at most so many of your clips (default: 2000)"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="of the drawing, the weights and the order (default: 0)"
    )


def run(args: argparse.Namespace) -> None:
    from transformers import set_seed
    from transformers.utils import logging

    from .tiny_model import count_parameters, evaluate, save, train

    start = time.monotonic()
    logging.disable_progress_bar()  # of loading weights, which takes no time here
    folders = _announce_clips(args)
    _say(2, "Decode every clip once and keep its frames in memory")
    data = load(folders)
    set_seed(args.seed)
    _say(3, f"Train a TubeViT from random weights for {args.steps} steps")
    trainer = train(data, args.steps, args.seed, args.output / "model")
    _say(4, "Evaluate, and save model and processors")
    num_right = evaluate(trainer)
    model_folder = save(trainer)
    _say(5, 'Classify clips with pipeline("video-classification") and draw the report')
    name = "moving shapes" if args.data is None else args.data.resolve().name
    report = args.output / "report.png"
    classify_and_draw(
        model_folder,
        take_evenly(data.val, NUM_REPORT_CLIPS, args.seed),
        report,
        clips_are=data.evaluated_on,
        title=f"TubeViT on {name}",
        subtitle=f"{_in_words(num_right, data)}  ·  {count_parameters(trainer.model) / 1e6:.1f} M parameters",
    )
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    print(
        f"\n{_in_words(num_right, data)}; guessing gives {1 / len(data.labels):.1%}. Took {minutes} min {seconds} s.\n"
        f"  model   {model_folder}\n"
        f"  report  {report}\n"
        f'Next:  {_command()} predict "{data.val[0].path.parent}" --model "{model_folder}"'
    )


def load(folders: ClassFolders) -> DemoData:
    """
    Decode the clips of `folders`; files that cannot be read are reported and left out.

    Raises `ValueError` if fewer than two classes are left.
    """
    from ..data.cached_clips import decode_clips
    from .tiny_model import make_processors, training_processor

    train, train_pixels, broken = decode_clips(folders.train, training_processor(), "training clips")
    labels = sorted({clip.label for clip in train})
    held_out = [clip for clip in folders.val if clip.label in labels]
    # The pixels that the pipeline will see, but uint8: the model normalises them itself.
    as_saved = make_processors(do_rescale=False, do_normalize=False).video_processor
    val, val_pixels, more_broken = decode_clips(
        held_out or train, as_saved, "held-out clips" if held_out else "training clips again"
    )
    _report_broken(broken + more_broken)
    if len(labels) < 2:
        raise ValueError("Fewer than two classes have a training video that can be read.")
    evaluated_on = "held-out clips"
    if not val and held_out:
        raise ValueError("None of the held-out videos can be read.")
    if not held_out:
        evaluated_on = "TRAINING clips"
        print("No clip can be held out, so what follows is measured on the training clips: memory, not skill.")
    return DemoData(train, train_pixels, val, val_pixels, labels, evaluated_on)


def classify_and_draw(model_folder: Path, clips: Sequence[LabelledClip], path: Path, **texts: str) -> None:
    """
    Classify video files by the stock pipeline, from the saved model alone, and write the report.

    texts: `title`, `subtitle` and `clips_are` of `draw_report`.
    """
    import torch
    from tqdm.auto import tqdm
    from transformers import pipeline

    from ..visualization.tube_masks import read_mask
    from .demo_report import ReportClip, draw_report
    from .tiny_model import report_processor

    classifier = pipeline(
        "video-classification", model=str(model_folder), device="cuda" if torch.cuda.is_available() else "cpu"
    )
    processor, report_clips = report_processor(), []
    for clip in tqdm(clips, desc="classifying", unit="clip", dynamic_ncols=True):
        predictions = [(entry["label"], entry["score"]) for entry in classifier(str(clip.path), top_k=3)]
        frames = processor(str(clip.path), return_tensors="pt").pixel_values_videos[0]
        report_clips.append(ReportClip(frames.permute(0, 2, 3, 1).numpy(), clip.label, predictions))
    config = classifier.model.config
    size, tubes = (config.num_frames, *config.image_height_width), config.get_tubes()
    share = read_mask(tubes, size).mean()
    texts["subtitle"] += f"  ·  {config.num_tokens()} tokens per clip, which read {share:.0%} of its pixels"
    draw_report(path, report_clips, tubes, size, **texts)


def _announce_clips(args: argparse.Namespace) -> ClassFolders:
    if args.data is None:
        from ..synthetic.moving_shapes import labels, write_dataset

        _say(1, f"Draw moving shapes as mp4 files: {len(labels())} classes, which no single frame tells apart")
        folder = write_dataset(
            args.output / "videos", args.clips_per_class, max(1, args.clips_per_class // 6), args.seed
        )
        return find_clips(folder)
    _say(1, f"Look for videos in {args.data}")
    folders = find_clips(args.data, seed=args.seed)
    num_found = len(folders.train) + len(folders.val)
    if num_found > args.max_clips:
        share = args.max_clips / num_found
        folders.train = take_evenly(folders.train, max(2, int(len(folders.train) * share)), args.seed)
        folders.val = take_evenly(folders.val, max(1, int(len(folders.val) * share)), args.seed)
        folders.notes.append(
            f"Of {num_found} clips {args.max_clips} are used, evenly over the classes; see --max-clips."
        )
    num_classes = len({clip.label for clip in folders.train})
    print(f"{num_classes} classes, {len(folders.train)} clips to train on, {len(folders.val)} to evaluate on.")
    for note in folders.notes:
        print(note)
    return folders


def _report_broken(broken: list[tuple[LabelledClip, str]]) -> None:
    for clip, reason in broken[:MAX_BROKEN_SHOWN]:
        print(f"left out: {clip.path}: {reason}", file=sys.stderr)
    if len(broken) > MAX_BROKEN_SHOWN:
        print(f"left out: {len(broken) - MAX_BROKEN_SHOWN} more", file=sys.stderr)


def _in_words(num_right: int, data: DemoData) -> str:
    return f"{num_right / len(data.val):.1%} of {len(data.val)} {data.evaluated_on} right"


def _command() -> str:
    """How the user calls this command from here."""
    path = Path(sys.argv[0])
    if path.name != "tubevit" or not path.is_file():
        return "tubevit"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(step: int, what: str) -> None:
    print(f"\n[{step}/5] {what}", flush=True)
