# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit probe`: score the embeddings of `tubevit embed` by classifiers that are trained on them, while the encoder stays frozen.

    tubevit probe embeddings.parquet
    tubevit probe frames.parquet --pooling mean_difference --folds 5 --group-column group --json scores.json

With the splits "train" and "validation" in the file, the probes are trained on the first and scored on the second. Otherwise, or with
`--folds`, each fold is scored once by probes that are trained on the other folds. Videos of one file or group are in one fold.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..command_line import whole_number
from ..environment import pick_device


PROBES = ("ridge", "knn", "attentive")
DEFAULT_FOLDS = 5


class Examples(NamedTuple):
    """float32 vectors `(videos, *shape)`, class indices, groups that stay together, and the split of each video."""

    vectors: Any
    labels: Any
    groups: list
    splits: list
    class_names: list[str]


class Round(NamedTuple):
    """Indices of the training and of the scored videos. fold: "validation" for a split."""

    seed: int
    fold: int | str
    train: Any
    scored: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("embeddings", metavar="FILE", type=Path, help="file of embeddings, .parquet or .npy")
    parser.add_argument(
        "--probe",
        nargs="+",
        choices=PROBES,
        help="ridge: ridge regression; knn: k-nearest neighbors by cosine similarity; attentive: attention over the vectors of a video "
        "and a linear layer (default: each that the embeddings allow)",
    )
    parser.add_argument(
        "--folds",
        type=whole_number(2),
        metavar="N",
        help="number of folds of cross-validation over all videos (default: train on the split train and score the split validation "
        f"if the file has both, else {DEFAULT_FOLDS})",
    )
    parser.add_argument(
        "--seeds",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="number of seeds, each with its own folds (default: 3)",
    )
    parser.add_argument(
        "--group-column",
        metavar="NAME",
        help="column whose equal values stay in one fold (default: group, if the file has groups)",
    )
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        help="regular expression with a capture group that matches the group in video_id, such as '_(g\\d+)_'",
    )
    parser.add_argument("--label-column", default="label", metavar="NAME", help="column of labels (default: label)")
    parser.add_argument(
        "--pooling",
        choices=("mean", "mean_difference", "concatenate"),
        default="mean",
        help="one vector for ridge and knn from several per video: their mean; mean and mean absolute difference of successive frames; or "
        "all (default: mean)",
    )
    parser.add_argument(
        "--num-neighbors", type=whole_number(1), default=5, metavar="K", help="neighbors that vote in knn (default: 5)"
    )
    parser.add_argument(
        "--epochs", type=whole_number(1), default=100, metavar="N", help="epochs of the attentive probe (default: 100)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device of the attentive probe (default: auto, the GPU if there is one)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write settings, summary and the score of each fold")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the score of each fold as a table")


def run(args: argparse.Namespace) -> None:
    """Print the scores and write the files of the options."""
    from ..evaluation.embeddings import read_embeddings
    from ..evaluation.results import write_csv
    from ..run_folder import write_json

    for option, path in (("--json", args.json), ("--csv", args.csv)):
        if path is not None and path.exists():
            raise FileExistsError(f"{option} {path} exists: name another file.")
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}.")
    embeddings = read_embeddings(args.embeddings)
    examples, messages = select_examples(embeddings, args)
    probes = choose_probes(args, examples.vectors, embeddings.settings)
    rounds, message = make_rounds(examples, args)
    for text in (*messages, message):
        print(text)
    scores = [row for each in rounds for row in score_round(each, examples, probes, args)]
    summary = summarize(scores)
    print(format_summary(summary, scores))
    if args.csv:
        write_csv(args.csv, scores)
    if args.json:
        options = {name: value for name, value in vars(args).items() if name not in ("json", "csv", "traceback")}
        settings = json.loads(json.dumps(options, default=str)) | {"embeddings_settings": embeddings.settings}
        write_json(args.json, {"settings": settings, "summary": summary, "scores": scores})


def select_examples(embeddings: Any, args: argparse.Namespace) -> tuple[Examples, list[str]]:
    """
    The videos with a label, and messages for the user.

    Raises `ValueError` for a column that the file lacks, several labels per video, or fewer than two classes.
    """
    import numpy as np

    columns, name = embeddings.columns, args.embeddings
    labels = [
        None if _is_missing(label) else label for label in _column(columns, args.label_column, "label_column", name)
    ]
    if any(isinstance(label, (list, tuple)) for label in labels):
        raise ValueError(f"{name} has several labels per video; tubevit probe needs one.")
    used = [index for index, label in enumerate(labels) if label is not None]
    messages = [f"{len(labels) - len(used)} of {len(labels)} videos have no label and are left out."]
    class_names = sorted({str(labels[index]) for index in used})
    if len(class_names) < 2:
        raise ValueError(
            f"{name} has {len(class_names)} classes in the column {args.label_column!r}; a probe needs two."
        )
    groups, described = find_groups(columns, args)
    messages = [*(messages if len(used) < len(labels) else []), described]
    codes = {each: index for index, each in enumerate(class_names)}
    splits = columns.get("split", ["train"] * len(labels))
    examples = Examples(
        embeddings.vectors[used],
        np.array([codes[str(labels[index])] for index in used]),
        [groups[index] for index in used],
        [splits[index] for index in used],
        class_names,
    )
    return examples, messages


def find_groups(columns: dict[str, list], args: argparse.Namespace) -> tuple[list, str]:
    """
    The group of each video, joined with its file, and a sentence on them.

    Raises `ValueError` if groups are asked for and the file has none.
    """
    from ..data.holding_out import GroupPattern, join_groups

    number, name = len(next(iter(columns.values()))), args.embeddings
    if args.group_pattern is not None and args.group_column is not None:
        raise ValueError("Give group_column or group_pattern, not both.")
    messages: list[str] = []
    if args.group_pattern is not None:
        names = _column(columns, "video_id", "group_pattern", name)
        groups = GroupPattern(args.group_pattern).of_all([str(each) for each in names], messages)
    elif args.group_column is not None:
        groups = _column(columns, args.group_column, "group_column", name)
        if all(_is_missing(group) for group in groups):
            raise ValueError(
                f"The column {args.group_column!r} of {name} is empty: give group_column or group_pattern to tubevit embed, or "
                "group_pattern here."
            )
    else:
        groups = columns.get("group", [None] * number)
    groups = [None if _is_missing(group) else group for group in groups]
    if several := [group for group in groups if not isinstance(group, Hashable)]:
        column = args.group_column or "group"
        raise ValueError(f"The column {column!r} of {name} has values such as {several[0]!r}; a group needs one name.")
    joined = join_groups([path or None for path in columns.get("path", [None] * number)], groups)
    kind = "files" if all(group is None for group in groups) else "groups"
    found = {
        "files": "no groups: only videos of one file stay together",
        "groups": "videos of one group stay together",
    }
    return joined, " ".join([*messages, f"{len(set(joined)):,} {kind} of {number:,} videos; {found[kind]}."])


def _is_missing(value: Any) -> bool:
    """Whether a label or group is unknown: null, empty, or the NaN of a table of floats."""
    return value in (None, "") or value != value


def _column(columns: dict[str, list], name: str, option: str, file: Path) -> list:
    if name not in columns:
        raise ValueError(f"{file} has no column {name!r} ({option}); it has: {', '.join(columns)}.")
    return columns[name]


def choose_probes(args: argparse.Namespace, vectors: Any, settings: dict[str, Any]) -> list[str]:
    """
    The probes to train. Raises `ValueError` for a probe or pooling that needs several vectors per video if there is one, and for
    differences of vectors that are not frames.
    """
    has_tokens = vectors.ndim == 3
    level = settings.get("level")
    if vectors.ndim not in (2, 3):
        raise ValueError(
            f"The embeddings have the shape {vectors.shape}; a probe needs (videos, features) or (videos, tokens, features)."
        )
    if not has_tokens and (args.pooling != "mean" or "attentive" in (args.probe or ())):
        wanted = "--probe attentive" if "attentive" in (args.probe or ()) else f"--pooling {args.pooling}"
        raise ValueError(
            f"{wanted} needs several vectors per video, and {args.embeddings} has one: write it with level=tube, frame or token."
        )
    if args.pooling == "mean_difference" and (level not in ("frame", None) or vectors.shape[1] < 2):
        raise ValueError(
            f"--pooling mean_difference needs the vectors of two or more frames in order (level=frame), and {args.embeddings} has "
            f"{vectors.shape[1]} vectors per video of level={level}."
        )
    return list(dict.fromkeys(args.probe or (PROBES if has_tokens else PROBES[:2])))


def make_rounds(examples: Examples, args: argparse.Namespace) -> tuple[list[Round], str]:
    """The rounds of training and scoring, and a sentence on them. Raises `ValueError` for more folds than groups."""
    import numpy as np

    from ..data.holding_out import make_folds, overlap_messages

    splits = np.array(examples.splits, dtype=object)
    classes = f"{len(examples.labels):,} videos of {len(examples.class_names)} classes"
    if args.folds is None and {"train", "validation"} <= set(examples.splits):
        train, scored = (np.flatnonzero(splits == split) for split in ("train", "validation"))
        sides = {
            split: [examples.groups[i] for i in rows] for split, rows in (("train", train), ("validation", scored))
        }
        overlap = " ".join(overlap_messages(sides, "file or group"))
        unused = len(splits) - len(train) - len(scored)
        left_out = f", {unused:,} of other splits are left out" if unused else ""
        message = f"{classes}: trained on {len(train):,} of the split train, scored on {len(scored):,} of the split validation{left_out}."
        rounds = [Round(seed, "validation", train, scored) for seed in range(args.seeds)]
        return rounds, " ".join([message, *filter(None, [overlap]), *_unseen_classes(rounds[:1], examples)])
    number, rounds = args.folds or DEFAULT_FOLDS, []
    for seed in range(args.seeds):
        folds = np.array(make_folds(examples.labels.tolist(), examples.groups, number, seed))
        rounds += [
            Round(seed, fold, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(number)
        ]
    return rounds, " ".join([f"{classes}: {number} folds, {args.seeds} seeds.", *_unseen_classes(rounds, examples)])


def _unseen_classes(rounds: list[Round], examples: Examples) -> list[str]:
    """A sentence if videos are scored in a round whose training videos have none of their class."""
    from ..data.media_files import shorten

    labels, number, names = examples.labels, 0, set()
    for each in rounds:
        unseen = set(labels[each.scored]) - set(labels[each.train])
        number += sum(label in unseen for label in labels[each.scored])
        names |= {examples.class_names[label] for label in unseen}
    total = sum(len(each.scored) for each in rounds)
    return [
        f"{number:,} of {total:,} scores count as errors, because the training videos of their round lack the class: "
        f"{shorten(sorted(names))}."
    ] * (number > 0)


def score_round(
    round_: Round, examples: Examples, probes: Sequence[str], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row per probe. Probes without randomness are scored once on a split, with seed 0."""
    import numpy as np

    from ..evaluation.probes import attentive_probe, nearest_neighbors, pool, ridge_probe

    train, scored, labels = round_.train, round_.scored, examples.labels
    majority = np.bincount(labels[train]).argmax()
    pooled = pool(examples.vectors, args.pooling)
    for probe in probes:
        if round_.fold == "validation" and round_.seed and probe != "attentive":
            continue
        penalty = None
        if probe == "ridge":
            groups = [examples.groups[index] for index in train]
            predicted, penalty = ridge_probe(pooled[train], labels[train], pooled[scored], groups)
        elif probe == "knn":
            predicted = nearest_neighbors(pooled[train], labels[train], pooled[scored], args.num_neighbors)
        else:
            vectors = examples.vectors
            predicted = attentive_probe(
                vectors[train],
                labels[train],
                vectors[scored],
                round_.seed,
                args.epochs,
                device=pick_device(args.device),
            )
        yield {
            "probe": probe,
            "seed": round_.seed,
            "fold": round_.fold,
            "num_train": len(train),
            "num_scored": len(scored),
            "accuracy": round(float(np.mean(predicted == labels[scored])), 6),
            "majority": round(float(np.mean(labels[scored] == majority)), 6),
            "penalty": penalty,
        }


def summarize(scores: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """
    Per probe and for the most frequent class of the training videos ("majority"): `accuracy`, the mean over seeds of the fraction of
    videos that are right, and the sample standard deviations over seeds and over all folds; `None` for one seed or fold.
    """
    first = scores[0]["probe"]
    rows = [("majority", {**row, "accuracy": row["majority"]}) for row in scores if row["probe"] == first]
    rows += [(row["probe"], row) for row in scores]
    by_probe: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, row in rows:
        by_probe[name].append(row)
    return {name: _summarize_one(each) for name, each in by_probe.items()}


def _summarize_one(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_seed: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(row)
    of_seeds = [
        sum(row["accuracy"] * row["num_scored"] for row in each) / sum(row["num_scored"] for row in each)
        for each in by_seed.values()
    ]
    of_folds = [row["accuracy"] for row in rows]
    num_folds = len(rows) // len(by_seed)
    return {
        "accuracy": round(statistics.fmean(of_seeds), 6),
        "std_over_seeds": round(statistics.stdev(of_seeds), 6) if len(of_seeds) > 1 else None,
        "std_over_folds": round(statistics.stdev(of_folds), 6) if num_folds > 1 else None,
        "num_seeds": len(by_seed),
        "num_folds": num_folds,
    }


def format_summary(summary: dict[str, dict[str, Any]], scores: Sequence[dict[str, Any]]) -> str:
    """A line per probe in %, and below it the accuracies of its folds, a line per seed."""
    lines = [f"{'accuracy, %':<12}{'mean':>8}{'± seeds':>10}{'± folds':>10}"]
    for name, each in summary.items():
        spreads = [each["std_over_seeds"], each["std_over_folds"]]
        cells = ["-" if value is None else f"{100 * value:.1f}" for value in spreads]
        lines.append(f"{name:<12}{100 * each['accuracy']:>8.1f}{cells[0]:>10}{cells[1]:>10}")
        of_seeds: dict[int, list[str]] = defaultdict(list)
        for row in scores:
            if row["probe"] == name:
                of_seeds[row["seed"]].append(f"{100 * row['accuracy']:.1f}")
        if each["num_folds"] > 1:
            lines += [f"  seed {seed}, folds: {'  '.join(values)}" for seed, values in of_seeds.items()]
    return "\n".join(lines)
