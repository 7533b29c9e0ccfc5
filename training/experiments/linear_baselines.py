# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments baselines`: the accuracy of linear classifiers of small grayscale frames, without a video model.

- One frame: the middle frame, which shows appearance alone.
- Frames without order: mean, minimum and maximum of each pixel over time.
- Motion energy: mean absolute difference of successive frames in three parts of the clip: where and when something moves,
  not in which direction.

A video model that is no better than motion energy has not been shown to see more than that something moves.
"""

import argparse
import json
import shlex
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ..command_line import add_config_arguments, whole_number
from ..data.video_datasets import DataConfig, load_video_dataset
from ..options import option_values, read_config
from ..synthetic.motion_scenes import LEVELS, MIN_IMAGE_SIZE
from ..synthetic.synthesize import TASK_NAMES
from .records import Label, check_place, write_numbers
from .run_records import as_name, portable


BLOCKS = {"data": DataConfig}
FRAMES_OF_FILES, FRAMES_OF_SYNTHETIC = 32, 16
SIDE = 24  # of the grayscale frames, in pixels
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
NUM_TIME_BINS = 3


class Clips(NamedTuple):
    """Grayscale frames `(clips, frames, side, side)` and class indices `(clips,)`, as arrays."""

    frames: Any
    labels: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [DATA] [OPTION=VALUE ...] [options], or %(prog)s --synthetic [options]"
    add_config_arguments(parser, BLOCKS)
    parser.add_argument(
        "--num-frames",
        type=whole_number(2),
        metavar="N",
        help="frames per clip, spread over the video, at least 2 (default: 32; synthetic clips: 16)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to this file")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write records there, for `tubevit experiments results FOLDER`"
    )
    group = parser.add_argument_group("synthetic data", "The sets of `tubevit data synthesize`, generated in memory.")
    group.add_argument(
        "--synthetic",
        "--made",
        action="store_true",
        help="score synthetic sets instead of DATA (--made is the old name)",
    )
    group.add_argument(
        "--task", nargs="+", choices=TASK_NAMES, default=list(TASK_NAMES), help="tasks to score (default: each)"
    )
    group.add_argument(
        "--level",
        nargs="+",
        type=int,
        choices=tuple(LEVELS),
        default=list(LEVELS),
        help="levels of difficulty to score (default: each)",
    )
    group.add_argument(
        "--num-train", type=whole_number(2), default=1000, metavar="N", help="training clips (default: 1000)"
    )
    group.add_argument(
        "--num-validation", type=whole_number(1), default=300, metavar="N", help="validation clips (default: 300)"
    )
    group.add_argument(
        "--image-size",
        type=whole_number(MIN_IMAGE_SIZE),
        default=64,
        metavar="N",
        help="height and width in pixels (default: 64)",
    )
    group.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="N", help="sets per task and level (default: 3)"
    )


def run(args: argparse.Namespace) -> int:
    """Print a table and write the files of the options."""
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise FileNotFoundError(f"--json {args.json}: there is no folder {Path(args.json).parent}.")
    if args.synthetic and (given := _data_options(args)):
        raise ValueError(f"Give {given[0]!r} or --synthetic, not both.")
    args.task, args.level = list(dict.fromkeys(args.task)), list(dict.fromkeys(args.level))
    if args.output:
        check_files(args.output, args)
    results = score_synthetic(args) if args.synthetic else [score_files(args)]
    print(format_table(results))
    if args.output:
        print("\n".join(f"Wrote {path}." for path in write_baselines(results, args.output, args)))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _data_options(args: argparse.Namespace) -> list[str]:
    """The given arguments that name a data set."""
    names = {each.name for each in fields(DataConfig)}
    options = [f"--{name}" for name in vars(args) if name in names]  # those that are not given are absent
    return [*args.overrides, *filter(None, [args.config]), *options]


def read_data_config(args: argparse.Namespace) -> DataConfig:
    """The options of the data set."""
    return read_config(args, BLOCKS)["data"]


def score_files(args: argparse.Namespace) -> dict[str, Any]:
    """`score` on the training and validation split of a data set, with the sizes of both."""
    begin = time.perf_counter()
    config = read_data_config(args)
    if config.streaming:
        raise ValueError("Baselines need all videos at once: leave out streaming=true.")
    data = load_video_dataset(config)
    if data.media != "video" or data.multi_label or data.label_groups:
        raise ValueError("Baselines need videos with one label each.")
    if missing := [split for split in ("train", "validation") if split not in data.splits]:
        raise ValueError(f"The data has no {missing[0]} split; there are: {', '.join(data.splits)}.")
    for message in data.messages:
        print(message)
    num_frames = args.num_frames or FRAMES_OF_FILES
    splits = [Clips(*read_clips(data.splits[name], num_frames, name)) for name in ("train", "validation")]
    about = {"data": config.data or config.train_data, "num_classes": len(data.class_names), "num_frames": num_frames}
    about |= _sizes(*splits) | {"accuracies": [score(*splits)]}
    return about | {"seconds": round(time.perf_counter() - begin, 2)}


def score_synthetic(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A result per task and level, with the accuracies of each seed."""
    from ..synthetic.motion_set import MotionSet

    results, num_frames = [], args.num_frames or FRAMES_OF_SYNTHETIC
    for task in args.task:
        for level in args.level:
            begin, accuracies = time.perf_counter(), []
            for seed in range(args.seeds):
                common = {"num_frames": num_frames, "image_size": args.image_size, "seed": seed}
                train = MotionSet(task, level, "train", args.num_train, **common)
                validation = MotionSet(task, level, "validation", args.num_validation, **common)
                splits = Clips(*synthetic_clips(train)), Clips(*synthetic_clips(validation))
                accuracies.append(score(*splits))
            about = {"data": f"synthetic, {task}, level {level}", "num_classes": len(train.class_names)}
            about |= {"num_frames": num_frames, **_sizes(*splits), "accuracies": accuracies}
            results.append(about | {"seconds": round(time.perf_counter() - begin, 2)})
    return results


def _sizes(train: Clips, validation: Clips) -> dict[str, int]:
    return {"num_train": len(train.labels), "num_validation": len(validation.labels)}


def score(train: Clips, validation: Clips) -> dict[str, float]:
    """
    Accuracy on the validation clips, as a fraction: of the most frequent class of the training clips (`"chance"`), and of a linear
    classifier of each kind of features, in the order of `FEATURES`.
    """
    import numpy as np

    from ..evaluation.probes import ridge_probe

    most_frequent = np.bincount(train.labels).argmax()
    accuracies = {"chance": float(np.mean(validation.labels == most_frequent))}
    for name, features in FEATURES.items():
        predicted = ridge_probe(features(train.frames), train.labels, features(validation.frames)).predicted
        accuracies[name] = float(np.mean(predicted == validation.labels))
    return accuracies


def middle_frame(frames):
    """`(clips, frames, side, side)` to `(clips, side * side)`."""
    return frames[:, frames.shape[1] // 2].reshape(len(frames), -1)


def unordered_frames(frames):
    """Mean, minimum and maximum over time, `(clips, 3 * side * side)`: the same for all orders of the frames."""
    import numpy as np

    return np.stack([frames.mean(1), frames.min(1), frames.max(1)], axis=1).reshape(len(frames), -1)


def motion_energy(frames):
    """Mean absolute difference of successive frames in each part of the clip, `(clips, NUM_TIME_BINS * side * side)`."""
    import numpy as np

    changes = np.abs(np.diff(frames, axis=1))
    bins = np.array_split(changes, min(NUM_TIME_BINS, changes.shape[1]), axis=1)
    return np.stack([part.mean(1) for part in bins], axis=1).reshape(len(frames), -1)


FEATURES = {"one frame": middle_frame, "frames without order": unordered_frames, "motion energy": motion_energy}


def format_table(results: list[dict[str, Any]]) -> str:
    """A line per data set, in %, with mean and standard deviation over several seeds."""
    import numpy as np

    columns = ["chance", *FEATURES]
    width = max(len(result["data"]) for result in results)
    lines = [" " * width + "".join(f"{name:>24}" for name in columns)]
    for result in results:
        cells = []
        for name in columns:
            accuracies = 100 * np.array([each[name] for each in result["accuracies"]])
            spread = f" ± {accuracies.std(ddof=1):.1f}" if len(accuracies) > 1 else ""
            cells.append(f"{f'{accuracies.mean():.1f}{spread} %':>24}")
        lines.append(f"{result['data']:<{width}}" + "".join(cells))
    first = results[0]
    lines.append(
        f"{first['num_train']:,} training clips, {first['num_validation']:,} validation clips, {first['num_frames']} frames"
    )
    return "\n".join(lines)


GROUP = "baselines"
TITLE = "Linear classifiers of small grayscale frames"
ABOUT = (
    "Accuracy without a video model: chance is the most frequent class of the training clips, one frame is the middle frame, frames "
    "without order are mean, minimum and maximum over time, and motion energy is where and when something moves, not in which "
    "direction. ± is the sample standard deviation over synthetic sets of different seeds, each with its own clips."
)
SIZES = ("image_size", "num_train", "num_validation")


def describe_settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings of each line of the table by the name of its record, in order."""
    if not args.synthetic:
        options = portable(option_values(read_data_config(args)))
        name = as_name(Path(options.get("data") or options.get("train_data") or "data").name)
        return {f"files-{name}": {"options": options, "num_frames": args.num_frames or FRAMES_OF_FILES}}
    common = {name: getattr(args, name) for name in SIZES} | {"num_frames": args.num_frames or FRAMES_OF_SYNTHETIC}
    return {
        f"synthetic-{task}-level{level}": {"task": task, "level": level, **common, "seeds": list(range(args.seeds))}
        for task in args.task
        for level in args.level
    }


def check_files(folder: Path, args: argparse.Namespace) -> None:
    """Raise `FileExistsError` where a record with other settings would be overwritten."""
    for name, settings in describe_settings(args).items():
        check_place(make_label(name, settings, args).folder(folder) / f"{name}.json", settings)


def write_baselines(results: Sequence[dict[str, Any]], folder: Path, args: argparse.Namespace) -> list[Path]:
    """
    Write a record for each of `results`, and return their paths.

    results: as `linear_baselines.score_synthetic` or `score_files` gives them for these arguments, in the same order.
    """
    settings = describe_settings(args)
    return [
        write_numbers(
            make_label(name, settings[name], args),
            folder,
            "cpu",
            settings=settings[name],
            seconds=result.get("seconds", 0),
            table={"columns": list(columns := make_cells(result)), "rows": [list(columns.values())]},
            accuracies=result["accuracies"],
        )
        for name, result in zip(settings, results, strict=True)
    ]


def make_label(name: str, settings: dict[str, Any], args: argparse.Namespace) -> Label:
    """Data of files come first, then synthetic data in the order of `tubevit data synthesize`."""
    place = (
        TASK_NAMES.index(settings["task"]) * len(LEVELS) + list(LEVELS).index(settings["level"])
        if args.synthetic
        else -1
    )
    return Label(GROUP, TITLE, "cpu", name, [], make_command(args), 1 + place, ABOUT)


def make_command(args: argparse.Namespace) -> str:
    """The command that reproduces the results."""
    first = next(iter(describe_settings(args).values()))
    if not args.synthetic:
        pairs = [
            shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
            for name, value in first["options"].items()
        ]
        return " ".join(["tubevit experiments baselines", *pairs, f"--num-frames {first['num_frames']}"])
    words = []
    if args.task != list(TASK_NAMES):
        words.append(f"--task {' '.join(args.task)}")
    if args.level != list(LEVELS):
        words.append(f"--level {' '.join(map(str, args.level))}")
    words += [f"--{name.replace('_', '-')} {first[name]}" for name in ("num_frames", *SIZES)]
    return " ".join(["tubevit experiments baselines --synthetic", *words, f"--seeds {args.seeds}"])


def make_cells(result: dict[str, Any]) -> dict[str, str]:
    """Column to text of one line of the report, accuracies in %."""
    columns = {
        f"{name}, %": format_accuracy([each[name] for each in result["accuracies"]])
        for name in result["accuracies"][0]
    }
    return {
        "": portable(result["data"]),
        **columns,
        "seeds": str(len(result["accuracies"])),
        "training clips": f"{result['num_train']:,}",
        "validation clips": f"{result['num_validation']:,}",
        "frames": str(result["num_frames"]),
    }


def format_accuracy(accuracies: Sequence[float]) -> str:
    """In %, mean and standard deviation over seeds.

    >>> format_accuracy([0.24, 0.26]), format_accuracy([0.5])
    ('25.0 ± 1.4', '50.0')
    """
    spread = f" ± {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{100 * statistics.fmean(accuracies):.1f}{spread}"


def to_grayscale(frames: Any, side: int = SIDE) -> Any:
    """uint8 `(frames, 3, height, width)` to float32 `(frames, side, side)` in [0, 1]: means over areas of each frame."""
    import torch

    frames = torch.einsum("nchw,c->nhw", frames.float() / 255, torch.tensor(LUMA))
    return torch.nn.functional.interpolate(frames[:, None], (side, side), mode="area")[:, 0]


def synthetic_clips(drawn: Any) -> tuple[Any, Any]:
    """The clips of a drawn set, `(clips, frames, side, side)`, and their labels. Its pixels are not cached."""
    import numpy as np
    import torch

    from tubevit.processing.cpu_cores import num_cores

    from ..synthetic.moving_shapes import MAX_THREADS

    def one(index: int) -> Any:
        return to_grayscale(torch.from_numpy(drawn.draw(index)))

    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        return torch.stack(list(pool.map(one, range(len(drawn))))).numpy(), np.array(drawn.labels)


def read_clips(rows: Any, num_frames: int, description: str) -> tuple[Any, Any]:
    """
    The same for the rows of a split of `load_video_dataset`: `num_frames` frames spread over each video, looped if it has
    fewer. Raises `ValueError` for the first video that cannot be decoded or has no label.
    """
    import numpy as np
    import torch

    from tubevit.processing import decode_video
    from tubevit.processing.cpu_cores import num_cores
    from tubevit.processing.frame_sampling import uniform_clips

    from ..data.clip_sampling import video_source
    from ..data.dataset_columns import row_source
    from ..logging_utils import progress_bar
    from ..synthetic.moving_shapes import MAX_THREADS

    def choose(metadata: Any) -> Any:
        return uniform_clips(metadata.total_num_frames, num_frames)[0]

    def one(row: dict[str, Any]) -> Any:
        if row["label"] is None:
            raise ValueError(f"{row['video_id']} has no label.")
        return decode_video(
            video_source(row_source(row, "video")), choose, frame_transform=to_grayscale, num_threads=1
        )[0]

    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        frames = progress_bar(pool.map(one, rows), description, len(rows), unit="video")
        return torch.stack(list(frames)).numpy(), np.array(rows["label"])
