# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit experiments transfer`: from an image ViT to a classifier of clips, on a few hundred clips.

    tubevit experiments transfer --data data/fight --model facebook/dinov2-small --folds 5 --seeds 3
    tubevit experiments transfer --data data/ut --model facebook/dinov2-small --folds split --rows tubevit ridge

TubeViT from the image ViT is trained with the recipe `finetune-transfer`. Beside it, with the same training FLOPs and on the same
folds: the same model from random weights, probes of the frozen ViT, other video models from the same ViT and from random weights,
and changes of single parts (`transfer_rows`). The last weights of a run are scored once, so no clip that is scored chooses anything.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..command_line import positive_number, whole_number
from .ablations import add_run_arguments, format_table_report, given_options
from .folds import GroupedClips, load_clips, read_groups, read_split, splits_of


SPLIT = "split"
GROUP = "transfer_"  # the prefix of the groups of records
# What must stand beside the numbers of a data set, by the name of its folder.
ABOUT_DATA = {
    "fight": "The published numbers on this set (91.1 % for mc3_18, pretrained on Kinetics-400) are of another split of 45 clips, which has "
    "clips of one source on both sides: they are not comparable with the numbers here.",
}
# What must stand beside the numbers of a panel.
ABOUT_PANELS = {
    "joint training on clips and their frames": "Table 5 on these clips: the images are frames of the training clips, labelled by the column "
    "--image-labels, and scored images are frames of the scored clips. The rows read pixels of one frame beside the differences, since images "
    "have none, and their classifiers start from random weights, since joint training does not support ridge regression. Rows with images "
    "have the clips' steps of the first row, and as many on images in addition; the row with twice the steps has more FLOPs than joint "
    "training, since a clip has more tokens than an image.",
}
EMBEDDING_BATCH = 4  # clips


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="annotation file, or folder with MANIFEST.csv or class folders; clips prepared by `tubevit data prepare --short-side 128` decode "
        "fastest; required",
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="image ViT to start from: folder or Hub name; required"
    )
    parser.add_argument(
        "--folds",
        type=_folds,
        default=5,
        metavar="N",
        help="folds of cross-validation over the splits train and validation, whole groups of clips in one fold; split: train on the split "
        "train and score the split validation (default: 5)",
    )
    parser.add_argument(
        "--group-column",
        default="source",
        metavar="NAME",
        help="column of a person, camera or film in the annotation file; its clips are in one fold, and clips without a group are in "
        "the training clips of all folds (default: source)",
    )
    parser.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="N", help="runs per row and fold, at least 1 (default: 3)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="FILE",
        help="rows of the table: names of rows of the package, or YAML files of your own (default: all rows of the package)",
    )
    parser.add_argument(
        "--epochs",
        type=positive_number,
        metavar="X",
        help="epochs of TubeViT, whose FLOPs all rows have, but for rows that train on images or state more steps (default: those of the recipe finetune-transfer)",
    )
    parser.add_argument(
        "--image-labels",
        metavar="COLUMN",
        help="also compare joint training on clips and images, which are frames of the clips: the column of the annotation file with the labels "
        "of the images, such as the place where a clip was filmed; label: the classes of the clips (default: no rows of joint training)",
    )
    parser.add_argument("--keep-weights", action="store_true", help="keep the trained weights of all runs")
    add_run_arguments(parser)


def _folds(text: str) -> int | str:
    return SPLIT if text == SPLIT else whole_number(2)(text)


def run(args: argparse.Namespace) -> int:
    from ..environment import pick_device
    from ..logging_utils import quiet_libraries
    from .records import check_place
    from .runner import check_places, run_all
    from .transfer_rows import Transfer, find_rows, recipe_options

    quiet_libraries()
    rows = choose_rows(find_rows(args.rows), args)
    check_model(args.model)
    clips = read_clips(args)
    epochs = args.epochs or recipe_options()["num_train_epochs"]
    setup = Transfer(args.model, len(clips.class_names), num_train(clips), epochs)
    folds, device = make_folds_of(args), pick_device(args.device)
    framed = add_frames(folds, args.image_labels)
    label = make_label(args, device)
    trained = [row for row in rows if row.probe is None]
    runs = make_runs(setup, trained, folds, args.seeds, label, framed)
    probes = make_probes([row for row in rows if row.probe], args, folds, label)
    check_places(runs, args.output)
    for probe in probes:
        check_place(probe.path, probe.settings)
    records = score_probes(probes, args, clips, device)
    if runs:
        print(describe_budget(setup, trained), flush=True)
        records += run_all(runs, args.output, device, args.jobs, args.threads, args.keep_weights)
    records.sort(key=lambda record: record["position"])
    print(format_table_report(label["title"], records))
    print(f"Records are in {args.output}; `tubevit experiments results {args.output}` makes a report of them.")
    return 0


def choose_rows(rows: Sequence[Any], args: argparse.Namespace) -> list[Any]:
    """
    The rows to run: without `--image-labels`, all but those that train on images and the other rows of their panel.

    Raises `ValueError` for rows of `--rows` that need images, and for `--image-labels` without a row that trains on images.
    """
    with_images = [row for row in rows if row.images]
    names, column = ", ".join(row.name for row in with_images), args.image_labels
    if column is not None and not with_images:
        raise ValueError(
            f"--image-labels {column} has no effect: none of the rows {', '.join(row.name for row in rows)} trains on images."
        )
    if column is not None or not with_images:
        return list(rows)
    if args.rows:
        raise ValueError(
            f"--rows: {names} train on images: add --image-labels COLUMN, a column of the annotation file, or --image-labels label."
        )
    panels = {row.panel for row in with_images}
    print(f"Left out: the rows of {'; '.join(sorted(panels))}, which need images (--image-labels COLUMN).")
    return [row for row in rows if row.panel not in panels]


def check_model(name: str) -> None:
    """Raise a `ValueError` for a checkpoint that is not an image ViT that TubeViT starts from, an `OSError` if there is none."""
    from ..models.families import TUBEVIT, resolve
    from ..models.loading import load_config

    config = load_config(name)
    if not TUBEVIT.converts(config.model_type):
        raise ValueError(
            f"--model {name} is a {config.model_type} model, not an image ViT; TubeViT starts from one of "
            f"{', '.join(resolve(TUBEVIT.image_sources))}."
        )


def read_clips(args: argparse.Namespace) -> GroupedClips:
    """
    The clips with their folds; of a split, fold 0.

    Raises `ValueError` for data without groups or with fewer groups than folds, and for data without a validation split.
    """
    if args.folds == SPLIT:
        return read_split(args.data)
    return read_groups(args.data, args.group_column, args.folds, 0)


def num_train(clips: GroupedClips) -> int:
    """Training clips of a run, the mean over folds."""
    folds = [fold for fold in clips.folds if fold is not None]
    return len(clips.folds) - round(len(folds) / len(set(folds)))


def make_folds_of(args: argparse.Namespace) -> list[Any]:
    """The data of the experiments: one for each fold, or one of the splits."""
    from .settings import Data, Fold
    from .transfer_rows import recipe_options

    if args.folds == SPLIT:
        options = recipe_options()
        return [Data.of_files(args.data, None, options["num_frames"], options["image_size"])]
    return [Fold(args.data, args.group_column, args.folds, fold) for fold in range(args.folds)]


def add_frames(folds: Sequence[Any], column: str | None) -> list[Any]:
    """
    The folds with frames of their clips, or without a column the folds alone. Prints where the labels come from, and what is left out.

    Raises `ValueError` for a column that gives no labels.
    """
    from .clip_frames import with_frames
    from .transfer_rows import recipe_options

    if column is None:
        return list(folds)
    framed = [with_frames(data, column, recipe_options()["image_size"]) for data in folds]
    labels = [data.frame_labels() for data in framed]
    print(framed[0].describe_labels())
    for line in dict.fromkeys(message for each in labels for message in each.messages):
        print(line)
    for data, each in zip(framed, labels, strict=True):
        print(each.describe(data.name), flush=True)
    return framed


def make_label(args: argparse.Namespace, device: str) -> dict[str, str]:
    """The fields of `records.Label` that all records have in common. device: "cpu" or "cuda"."""
    path = Path(args.data).resolve()
    name = path.parent.name if path.is_file() else path.name
    is_split = args.folds == SPLIT
    where = "the splits of the data" if is_split else f"{args.folds} folds by {args.group_column}"
    command = f"tubevit experiments transfer{given_options(args, ('data', 'model', 'folds'))}"
    if not is_split and args.group_column != "source":
        command += given_options(args, ("group_column",))
    command += f" --seeds {args.seeds}{given_options(args, ('epochs', 'image_labels'))}"
    about = (
        f"From {Path(args.model).name}. The recipe finetune-transfer, {where}, the last weights scored once. All trained rows have the same "
        "training FLOPs; probes compute the features of each clip once. A score is over the clips of all folds of a seed, and training "
        "seconds are those of all folds."
    )
    return {
        "group": f"{GROUP}{name}_{'split' if is_split else f'{args.folds}folds'}",
        "title": f"From an image ViT to {name}",
        "size": "gpu" if device == "cuda" else "cpu",
        "command": command,
        "about": " ".join(filter(None, [about, ABOUT_DATA.get(name)])),
    }


def make_runs(
    setup: Any, rows: Sequence[Any], folds: Sequence[Any], num_seeds: int, label: dict, framed: Sequence[Any] = ()
) -> list[Any]:
    """
    A run per seed, fold and row. framed: the data of `folds` with images, for the rows that train on images; a row with its own
    `image_size` has images of its own size.
    """
    from .clip_frames import frame_side
    from .runner import Run

    def data_of(row: Any) -> Sequence[Any]:
        if not row.images:
            return folds
        side = frame_side(max(setup.tubevit_config(row).image_height_width))
        return [replace(data, frame_side=side) for data in framed]

    return [
        Run(setup.experiment(row, data, seed), row_label(label, row))
        for seed in range(num_seeds)
        for row in rows
        for data in data_of(row)
    ]


def row_label(label: dict[str, str], row: Any) -> Any:
    from .records import Label
    from .settings import IMAGE, VIDEO
    from .transfer_rows import IMAGES

    rows = []
    for kind in IMAGES.get(row.images, (VIDEO,)):
        panel = ": ".join(filter(None, [row.panel, "scores of images" if kind == IMAGE else ""]))
        rows.append({"name": row.name, "title": row.title, "score": kind, **({"panel": panel} if panel else {})})
    about = " ".join(filter(None, [label["about"], ABOUT_PANELS.get(row.panel)]))
    return Label(**label | {"about": about}, name=row.name, rows=rows, position=row.position)


def describe_budget(setup: Any, rows: Sequence[Any]) -> str:
    """A line per row: tokens are in the report, here are the steps, their GFLOPs on one clip, and the TFLOPs of the whole training."""
    from ..tables import format_table
    from .settings import IMAGE, VIDEO

    cells = []
    for row in rows:
        steps, batch_size = setup.steps(row), setup.options(row)["per_device_train_batch_size"]
        gflops = {kind: setup.training_gflops(row, kind) for kind in (VIDEO, IMAGE) if kind == VIDEO or steps[kind]}
        total = batch_size * sum(steps[kind] * each for kind, each in gflops.items()) / 1000
        cells.append([row.title, f"{gflops[VIDEO]:.1f}", steps[VIDEO], steps[IMAGE], f"{total:.2f}"])
    columns = ["", "GFLOP per clip and training step", "steps on clips", "steps on images", "training TFLOP"]
    return format_table(columns, cells)


# Probes


class Probe(NamedTuple):
    """A probe of one row, seed and fold. label: fields of the record. path: of the record. settings: what decides its numbers."""

    row: Any
    seed: int
    fold: int
    label: Any
    path: Path
    settings: dict[str, Any]


def make_probes(
    rows: Sequence[Any], args: argparse.Namespace, folds: Sequence[Any], label: dict[str, str]
) -> list[Probe]:
    """A probe for each row, seed and fold."""
    probes = []
    for row, seed, (fold, data) in product(rows, range(args.seeds), enumerate(folds)):
        own = row_label(label, row)
        path = own.folder(args.output) / f"{row.name}-seed{seed}{data.suffix}.json"
        probes.append(Probe(row, seed, fold, own, path, probe_settings(row, args.model, data, seed)))
    return probes


def score_probes(
    probes: Sequence[Probe], args: argparse.Namespace, clips: GroupedClips, device: str
) -> list[dict[str, Any]]:
    """
    The records of probes. The features of all clips are computed once, if a record is missing, and their time is divided among the probes
    that use them.
    """
    from ..environment import describe_machine, provenance
    from .records import read_record, write_record
    from .settings import VIDEO

    features: dict[int, FrameFeatures] = {}
    num_users = Counter(probe.row.frames for probe in probes if not probe.path.is_file())
    for row, seed, fold, label, path, settings in probes:
        if path.is_file():
            continue
        if row.frames not in features:
            features[row.frames] = embed_frames(args, row.frames, device)
        embedded, begin = features[row.frames], time.perf_counter()
        score = score_probe(row.probe, embedded.vectors, clips, fold, seed, device)
        seconds = time.perf_counter() - begin
        numbers = {
            "settings": settings,
            "loop": "probe",  # a record without a loop is of an old one
            "scores": {VIDEO: score},
            "gflops": embedded.gflops,
            "training_seconds": round(seconds, 2),
            "seconds": round(seconds + embedded.seconds / num_users[row.frames], 2),
        }
        write_record(path, asdict(label) | numbers | provenance(describe_machine(device)))
    return [read_record(probe.path) for probe in probes]


def probe_settings(row: Any, model: str, data: Any, seed: int) -> dict[str, Any]:
    """What decides the numbers of a probe, as JSON holds it."""
    from .transfer_rows import recipe_options

    pixels = {name: recipe_options().get(name) for name in ("image_size", "short_side", "resize_mode")}
    settings = {"probe": row.probe, "frames": row.frames, "model": model, **pixels, "data": asdict(data), "seed": seed}
    return json.loads(json.dumps(settings))


class FrameFeatures(NamedTuple):
    """
    vectors: the class token of each frame, `(clips, frames, width)`, clips in the order of `GroupedClips`. seconds: of computing them.
    gflops: of the forward passes of one clip.
    """

    vectors: Any
    seconds: float
    gflops: float


def embed_frames(args: argparse.Namespace, num_frames: int, device: str) -> FrameFeatures:
    """
    The features of all clips by the frozen ViT. Frames are resized and cropped as those of TubeViT.

    Raises `ValueError` for a clip that cannot be read.
    """
    import numpy as np
    import torch
    from accelerate import Accelerator

    from ..evaluation.multi_view import iterate_predictions
    from ..models.clip_processors import crop_sizes
    from ..models.encoders import load_encoder
    from ..models.model_size import count_flops
    from .transfer_rows import recipe_options

    begin, options = time.perf_counter(), recipe_options()
    data = load_clips(args.data, None if args.folds == SPLIT else args.group_column)
    side = options["image_size"]
    settings = {"num_frames": num_frames, "sampling": "uniform", "num_temporal_views": 1, "num_spatial_views": 1}
    settings |= crop_sizes(side, side, options.get("short_side"), options.get("resize_mode") == "stretch")
    encoder = load_encoder(args.model, "video", "frame", {**settings, "do_center_crop": True})
    accelerator = Accelerator(cpu=device == "cpu")
    encoder.model.to(accelerator.device)
    vectors = []
    for split in splits_of(data):
        batches = iterate_predictions(
            encoder, data.splits[split], accelerator, EMBEDDING_BATCH, 0, f"features of {split}"
        )
        for each in (prediction for batch, _ in batches for prediction in batch):
            if each.logits is None:
                raise ValueError(f"{each.path or each.video_id} cannot be read: {each.reason}")
            vectors.append(each.logits.mean(0))
    flops = count_flops(encoder.model, pixel_values=torch.empty(num_frames, 3, side, side, device="meta"))
    return FrameFeatures(np.stack(vectors), time.perf_counter() - begin, round(flops / 1e9, 4))


def score_probe(
    probe: str, vectors: Any, clips: GroupedClips, fold: int, seed: int, device: str
) -> dict[str, int | float]:
    """The score of a probe on one fold. Ridge regression takes the mean and mean absolute difference of frames; both have the same clips."""
    import numpy as np

    from ..evaluation.probes import attentive_probe, pool, ridge_probe

    labels = np.array([clips.class_names.index(label) for label in clips.labels])
    is_scored = np.array([each == fold for each in clips.folds])
    if probe == "ridge":
        pooled = pool(vectors, "mean_difference")
        groups = [group for group, scored in zip(clips.groups, is_scored, strict=True) if not scored]
        predicted = ridge_probe(pooled[~is_scored], labels[~is_scored], pooled[is_scored], groups).predicted
    else:
        changes = np.abs(np.diff(vectors, axis=1, prepend=vectors[:, :1]))
        tokens = np.concatenate([vectors, changes], axis=2)
        predicted = attentive_probe(tokens[~is_scored], labels[~is_scored], tokens[is_scored], seed, device=device)
    right, number = int((predicted == labels[is_scored]).sum()), int(is_scored.sum())
    most_frequent = np.bincount(labels[is_scored]).max()
    return {
        "accuracy": right / number,
        "correct": right,
        "number": number,
        "listed": number,
        "chance": float(most_frequent / number),
    }
