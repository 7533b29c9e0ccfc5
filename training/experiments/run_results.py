# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Result files of finished runs of `tubevit train`, made of what these left in their folders.

Runs that differ only in seed, folder and what else has no effect on the numbers are seeds of one row. A run that started from
the model of another run, whose folder is still there, carries that one's settings, command, steps and time as well. No absolute
path gets into a result file, so it can be passed on.
"""

import csv
import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..options import load_config_file
from ..run_folder import CONFIG_FILE, METRICS_FILE
from .data_commands import find_data_command
from .paths import as_name, portable
from .run_command import WITHOUT_EFFECT, describe_start, find_overrides, make_command, recipe_of
from .runner import Label, read_result, write_result


GROUP = "train_"  # what the names of groups of runs begin with
SCORE = "validation"
PATHS = ("data", "train_data", "validation_data", "test_data", "video_root", "class_names_file", "corrupt_videos_file")
MAX_CHANGES = 6  # that a row's title names
READING = ("num_temporal_views", "num_spatial_views", "view_aggregation", "num_frames", "sampling", "fps", "crop_size")


@dataclass(frozen=True)
class FinishedRun:
    """
    folder: of the trained classifier, with its evaluation. root: of the run, the same unless it was a joint one. part: the
    data set's name in a joint run. options: of the run by their names, with portable paths. start: the run whose model this one
    started from, if it did.
    """

    folder: Path
    root: Path
    part: str | None
    options: dict[str, Any]
    start: "FinishedRun | None" = None

    @cached_property
    def environment(self) -> dict[str, Any]:
        return _read(self, self.root / "environment.json")

    @property
    def recipe(self) -> str | None:
        return recipe_of(self.environment)

    @property
    def data(self) -> str:
        """Where the videos are from."""
        own = self.options if self.part is None else self.options["datasets"][self.part]
        return own.get("data") or own.get("train_data") or own.get("validation_data")


def add_runs(runs: Sequence[Path], folder: Path, title: str | None = None) -> list[Path]:
    """
    Write a result file below `folder` for each run, and return their paths.

    runs: folders of `tubevit train`; of a joint run those of its data sets. title: of their table (default: one for each data
    set); runs with the same title share a table.

    Raises `ValueError` or `OSError`, in one line and before anything is written, for a run that did not end or was not
    evaluated, and where the folder holds another run with the same seed and settings.
    """
    results = {}
    for result in (make_result(find_run(each), title) for each in runs):
        path = folder / result["size"] / result["group"] / f"{result['name']}-seed{result['settings']['seed']}.json"
        before = results.get(path) or (read_result(path) if path.is_file() else None)
        if before is not None and before["scores"] != result["scores"]:
            raise FileExistsError(
                f"{path} is of another run with the same seed and settings, and other scores: keep one of the two."
            )
        results[path] = result
    for path, result in results.items():
        write_result(path, result)
    return list(results)


def find_run(folder: Path) -> FinishedRun:
    """What is in a folder of `tubevit train`. Raises `OSError` or `ValueError` where it is none, or holds several data sets."""
    from ..trainer.run_config import all_blocks

    folder = folder.absolute()
    if (folder / CONFIG_FILE).is_file():
        options = load_config_file(str(folder / CONFIG_FILE), all_blocks())
        if "datasets" in options:
            names = ", ".join(str(folder / name) for name in options["datasets"])
            raise ValueError(f"{folder} is a run on several data sets: name the folder of one, {names}.")
        return FinishedRun(folder, folder, None, portable(options), find_start(options))
    if (folder.parent / CONFIG_FILE).is_file():
        options = load_config_file(str(folder.parent / CONFIG_FILE), all_blocks())
        if folder.name in options.get("datasets", {}):
            return FinishedRun(folder, folder.parent, folder.name, portable(options), find_start(options))
    raise FileNotFoundError(f"{folder} is no run of `tubevit train`: it has no {CONFIG_FILE}.")


def find_start(options: dict[str, Any]) -> FinishedRun | None:
    """The run that left the checkpoint which a run with these options started from; `None` where no run of ours did."""
    name = options["model_name_or_path"]
    if name is None:
        return None
    try:
        return find_run(Path(name))
    except (OSError, ValueError):
        return None


def make_result(run: FinishedRun, title: str | None = None) -> dict[str, Any]:
    """The content of a run's result file, see `experiments.FIELDS`."""
    evaluation = _read(run, run.folder / "evaluation" / "metrics.json")
    steps, training = count_training(run)
    evaluating = _read(run, run.folder / "evaluation" / "throughput.json")["seconds"]
    settings = describe_settings(run) | {"reading": {name: evaluation.get(name) for name in READING}}
    origin = find_origin(run)
    label = make_label(run, settings, title, "gpu" if "gpu" in origin["machine"] else "cpu")
    return {
        **asdict(label),
        **describe_model(run.folder, evaluation),
        **origin,
        "settings": settings | {"seed": run.options["seed"]},
        "scores": {SCORE: read_score(run, evaluation)},
        "steps": steps,
        "train_loss": _read(run, run.root / METRICS_FILE)["train_loss"],
        "training_seconds": round(training, 2),
        "evaluation_seconds": round(evaluating, 2),
        "seconds": round(training + evaluating, 2),
    }


def describe_settings(run: FinishedRun) -> dict[str, Any]:
    """All that decides what a run learns but its seed; the run that it started from in place of that one's folder."""
    settings = {
        "config": {name: value for name, value in run.options.items() if name not in (*WITHOUT_EFFECT, "seed")},
        "data_set": run.part,
        "num_videos": _read(run, run.root / "dataset.json"),
        "num_processes": run.environment["num_processes"],
    }
    if run.start is not None:
        del settings["config"]["model_name_or_path"]
        settings["start"] = describe_settings(run.start)
        if run.start.options["seed"] != run.options["seed"]:
            settings["start"]["seed"] = run.start.options["seed"]
    return settings


def count_training(run: FinishedRun) -> tuple[int, float]:
    """Steps and seconds of a run's training, with those of the run that it started from."""
    steps, seconds = count_training(run.start) if run.start is not None else (0, 0.0)
    own = _read(run, run.root / METRICS_FILE)["steps"], _read(run, run.root / "throughput.json")["seconds"]
    return steps + own[0], seconds + own[1]


def find_command(run: FinishedRun) -> str:
    """What makes a run again, and before it the run that it started from."""
    own = {"seed": str(run.options["seed"]), "output_dir": run.options["output_dir"]}
    command = make_command(run.environment, run.recipe, find_overrides(run.options, run.recipe) | own)
    return command if run.start is None else f"{find_command(run.start)} && {command}"


def make_label(run: FinishedRun, settings: dict[str, Any], title: str | None, size: str) -> Label:
    """
    settings: all that decides the numbers but the seed; the name has a digest of them. size: "gpu" or "cpu", what the run was
    trained on.
    """
    overrides = find_overrides(run.options, run.recipe)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    start, about = describe_chain(run), ""
    if run.start is not None:
        overrides.pop("model_name_or_path", None)
        about = "Steps and minutes are those of all runs of a row."
    elif run.options["model_name_or_path"] is not None:
        about = "Steps and minutes of what the runs started from are not counted."
    if commands := find_data_commands(run):
        about = f"{about} The data were made by {' and '.join(f'`{each}`' for each in commands)}.".lstrip()
    name = as_name("-".join(filter(None, [start, run.part, digest])))
    title = title or f"`tubevit train` on {Path(run.data).name}"
    row = {"name": name, "title": describe_row(start, overrides), "score": SCORE}
    if run.part is not None:
        row["panel"] = f"data set {run.part} of a joint run"
    return Label(GROUP + as_name(title), title, size, name, [row], find_command(run), position=0, about=about)


def find_data_commands(run: FinishedRun) -> list[str]:
    """What made the data of a run, as far as that is known, and before it those of the run that it started from."""
    before = find_data_commands(run.start) if run.start is not None else []
    own = find_data_command(run.data)
    return before if own is None or own in before else [*before, own]


def describe_chain(run: FinishedRun) -> str:
    """What a run began with; after another run, its recipe and what that one began with."""
    if run.start is None:
        return describe_start(run.options, run.recipe)
    return f"{run.recipe or ''} after {describe_chain(run.start)}".lstrip()


def describe_row(start: str, overrides: dict[str, str]) -> str:
    """What a run began with and what it has otherwise, but for where its data lie.

    >>> describe_row("joint-small", {"datasets.videos.data": "ut", "max_steps": "7000"})
    'joint-small, max_steps=7000'
    """
    changes = [f"{key}={text}" for key, text in overrides.items() if key.rpartition(".")[2] not in (*PATHS, "seed")]
    changes = [each for each in changes if each != f"preset={start}"]
    more = [f"and {len(changes) - MAX_CHANGES} more options"] if len(changes) > MAX_CHANGES else []
    return ", ".join([start, *changes[:MAX_CHANGES], *more])


def read_score(run: FinishedRun, evaluation: dict[str, Any]) -> dict[str, Any]:
    """
    `{"accuracy", "correct", "number", "listed", "chance"}` of the evaluation: of how many videos it is, how many there are, and
    the share of the most frequent class.
    """
    if evaluation.get("accuracy") is None:
        raise ValueError(f"{run.folder} was not scored by accuracy: results are of videos that have one label each.")
    number = evaluation["num_scored"] - evaluation["num_without_label"]
    path = run.folder / "evaluation" / "per_class.csv"
    with open(path, newline="", encoding="utf-8") as file:
        videos = [int(row["num_videos"]) for row in csv.DictReader(file)]
    return {
        "accuracy": evaluation["accuracy"],
        "correct": round(evaluation["accuracy"] * number),
        "number": number,
        "listed": evaluation["num_videos"],
        "chance": max(videos) / sum(videos),
    }


def describe_model(folder: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """
    `{"parameters", "views", "tokens", "gflops"}` of the classifier in a folder: tokens of a clip (or image), GFLOPs over all views.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForVideoClassification

    from ..models.loading import quiet_library
    from ..models.model_size import count_parameters, describe, describe_image

    with quiet_library():
        config = AutoConfig.from_pretrained(folder)
    is_image = "num_frames" not in evaluation
    kind = AutoModelForImageClassification if is_image else AutoModelForVideoClassification
    with quiet_library(), torch.device("meta"):
        parameters, _ = count_parameters(kind.from_config(config), only_used=True)
    views = (evaluation["num_temporal_views"], evaluation["num_spatial_views"])
    about = {"parameters": parameters, "views": " x ".join(map(str, views))}
    clip = describe_image(config) if is_image else describe(config, [evaluation["num_frames"]])["clips"][0]
    return about | {"tokens": clip["tokens"], "gflops": round(views[0] * views[1] * clip["gflops"], 4)}


def find_origin(run: FinishedRun) -> dict[str, Any]:
    """
    `{"commit", "dirty", "machine", "date"}` as `experiments.provenance` has them, from a run's `environment.json`. Runs of older
    versions did not write commit, processor and day: the first two are unknown, and the day is that of the evaluation's file.
    A run that started from one of another commit counts as dirty.
    """
    environment, evaluated = run.environment, (run.folder / "evaluation" / "metrics.json").stat().st_mtime
    commit, dirty = environment.get("commit", "unknown"), environment.get("dirty", False)
    if run.start is not None:
        before = find_origin(run.start)
        dirty = dirty or before["dirty"] or before["commit"] != commit
    versions = {name: environment["versions"][name] for name in ("torch", "transformers")}
    machine = environment.get("machine", versions)
    if environment["gpus"] and not run.options["use_cpu"]:
        machine = machine | {"gpu": environment["gpus"][0]}
    return {
        "commit": commit,
        "dirty": dirty,
        "machine": machine,
        "date": environment.get(
            "date", datetime.datetime.fromtimestamp(evaluated, datetime.timezone.utc).date().isoformat()
        ),
    }


def _read(run: FinishedRun, path: Path) -> dict[str, Any]:
    if not path.is_file():
        is_evaluation = path.parent.name == "evaluation"
        missing = "was not evaluated" if is_evaluation else "did not end"
        hint = "validation videos are needed, and the whole run" if is_evaluation else "let it end, or resume it"
        raise FileNotFoundError(f"{run.folder} {missing}, there is no {path}: {hint}.")
    return json.loads(path.read_text(encoding="utf-8"))
