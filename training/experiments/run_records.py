# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The numbers that finished runs of `tubevit train` leave in their folders, for records."""

import csv
import datetime
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any

from ..options import load_config_file
from ..run_folder import CONFIG_FILE, EVALUATION, METRICS_FILE
from ..trainer.run_config import all_blocks
from .records import Label, digest, read_record, write_record
from .settings import IMAGE, VIDEO


ABSOLUTE_PATH = re.compile(r"""(?<![\w.:/~-])(file://)?/[^\s"',}\]]+""")  # in a word of a command line
LOOP = "VideoTrainer"  # the training loop that made a record; records without one are of a loop that no longer exists
GROUP = "train_"  # the prefix of the groups of runs
SCORE = "validation"
# Options that do not change the numbers of a run.
WITHOUT_EFFECT = {
    "output_dir",
    "resume",
    "resume_from_checkpoint",
    "logging_steps",
    "report_to",
    "dataloader_num_workers",
    "save_total_limit",
    "check_data",
    "push_to_hub",
    "hub_model_id",
}


def measure_classifier(
    config: Any,
    kind: str,
    token_budget: int | None = None,
    random_tokens: int | None = None,
    num_frozen_layers: int = 0,
    lora_rank: int = 0,
    lora_target_modules: str = "all-linear",
) -> dict[str, Any]:
    """
    `{"tokens", "gflops", "parameters", "trained_parameters"}` of the classifier of clips or images that a config describes.
    token_budget, random_tokens: of a TubeViT that reads clips, as for `tubevit eval`. num_frozen_layers: of the run, for families
    whose config does not hold it. lora_rank, lora_target_modules: of the run; the adapters are trained parameters, and not parameters of
    the classifier, whose weights they are merged into.
    """
    import torch

    from ..models.families import family_of
    from ..models.lora import count_trained
    from ..models.model_size import count_parameters, describe, describe_image
    from ..models.parameter_groups import freeze_layers
    from ..models.random_tokens import random_gflops

    family = family_of(config)
    if token_budget is not None:
        config = config.with_token_budget(token_budget)
    clip = describe_image(config) if kind == IMAGE else describe(config, [family.num_frames(config)])["clips"][0]
    if random_tokens is not None:
        clip |= {"tokens": random_tokens, "gflops": random_gflops(config, random_tokens)}
    with torch.device("meta"):
        model = family.classifier(kind)(config)
    if not family.freezes_layers:
        freeze_layers(model, num_frozen_layers)
    total, trained = count_parameters(model, only_used=True)
    if lora_rank:
        trained = count_trained(model, family, lora_rank, lora_target_modules)
    sizes = {"tokens": clip["tokens"], "gflops": clip["gflops"]}
    return sizes | {"parameters": total, "trained_parameters": trained}


def trained_part(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a run that say which parameters it trains, for `measure_classifier`."""
    names = ("num_frozen_layers", "lora_rank", "lora_target_modules")
    return {name: options[name] for name in names if options.get(name)}


def measure_folder(folder: Path, kind: str, **options: Any) -> dict[str, Any]:
    """As `measure_classifier`, of a saved classifier, for records. options: of `measure_classifier`."""
    from transformers import AutoConfig

    from ..models.loading import quiet_library

    with quiet_library():
        sizes = measure_classifier(AutoConfig.from_pretrained(folder), kind, **options)
    return sizes | {"gflops": round(sizes["gflops"], 4)}


def read_training(folder: Path) -> dict[str, Any]:
    """`{"steps", "training_seconds", "losses"}` of a run. Raises `FileNotFoundError` for a run that is not finished."""
    metrics = read_file(folder / METRICS_FILE, f"{folder} is not finished: let the run finish, or resume it.")
    log = read_file(folder / "trainer_state.json", f"{folder} is not a run of `tubevit train`.")["log_history"]
    seconds = read_file(folder / "throughput.json", f"{folder} is not finished.")["seconds"]
    losses = [{"step": each["step"], "loss": round(each["loss"], 5)} for each in log if "loss" in each]
    return {"steps": metrics["steps"], "training_seconds": round(seconds, 2), "losses": losses}


def read_score(evaluation: Path) -> dict[str, Any]:
    """
    `{"accuracy", "correct", "number", "listed", "chance", "seconds"}` of a folder of `tubevit eval`: number of scored videos, number
    of videos in the data, fraction of the most frequent class.

    Raises `FileNotFoundError` for a run that was not evaluated, and `ValueError` for videos with several labels.
    """
    hint = "the run needs validation videos and has to finish"
    metrics = read_file(
        evaluation / "metrics.json", f"{evaluation.parent} was not evaluated, there is no {evaluation}: {hint}."
    )
    if metrics.get("accuracy") is None:
        raise ValueError(f"{evaluation} has no accuracy: records are of videos with one label each.")
    number = metrics["num_scored"] - metrics["num_without_label"]
    with open(evaluation / "per_class.csv", newline="", encoding="utf-8") as file:
        videos = [int(row["num_videos"]) for row in csv.DictReader(file)]
    return {
        "accuracy": metrics["accuracy"],
        "correct": round(metrics["accuracy"] * number),
        "number": number,
        "listed": metrics["num_videos"],
        "chance": max(videos) / sum(videos),
    }


def read_file(path: Path, message: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(message)
    return json.loads(path.read_text(encoding="utf-8"))


# Records of finished runs of the user


def add_runs(runs: Sequence[Path], folder: Path, title: str | None = None) -> list[Path]:
    """
    Write a record below `folder` for each run, and return their paths.

    runs: folders of `tubevit train`; of a joint run the folders of its data sets. title: of their table (default: one for each data
    set); runs with the same title share a table. Runs whose options differ only in the seed are seeds of one row.

    Raises `ValueError` or `OSError`, in one line and before anything is written, for a run that is not finished or not evaluated,
    and where the folder holds other scores of the same seed and options.
    """
    records = {}
    for record in (record_run(each, title) for each in runs):
        path = folder / record["size"] / record["group"] / f"{record['name']}-seed{record['settings']['seed']}.json"
        earlier = records.get(path) or (read_record(path) if path.is_file() else None)
        if earlier is not None and earlier["scores"] != record["scores"]:
            raise FileExistsError(
                f"{path} is of another run with the same seed and options, and other scores: keep one of the two."
            )
        records[path] = record
    for path, record in records.items():
        write_record(path, record)
    return list(records)


def record_run(folder: Path, title: str | None = None) -> dict[str, Any]:
    """The record of a run in a folder of `tubevit train`, or of a data set of a joint run."""
    folder = folder.absolute()
    root = run_root(folder)
    if root is None:
        raise FileNotFoundError(f"{folder} is not a run of `tubevit train`: it has no {CONFIG_FILE}.")
    chain = describe_chain(root)
    options = chain["options"]
    datasets = options.get("datasets") or {}
    if root == folder and datasets:
        names = ", ".join(str(folder / name) for name in datasets)
        raise ValueError(f"{folder} is a run on several data sets: name the folder of one of them, {names}.")
    part = None if root == folder else folder.name
    evaluation = folder / EVALUATION
    score, throughput = (
        read_score(evaluation),
        json.loads((evaluation / "throughput.json").read_text(encoding="utf-8")),
    )
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    kind = VIDEO if "num_frames" in metrics else IMAGE
    model = measure_folder(folder, kind, **trained_part(options))
    views = (metrics["num_temporal_views"], metrics["num_spatial_views"])
    is_gpu = "gpu" in chain["machine"]
    own = datasets[part] if part else options
    title = title or f"`tubevit train` on {Path(own.get('data') or own.get('train_data')).name}"
    name = as_name("-".join(filter(None, [chain["title"], part, digest(without_seeds(chain["settings"]))[:8]])))
    row = {"name": name, "title": chain["title"], "score": SCORE}
    row |= {"panel": f"data set {part} of a joint run"} if part else {}
    about = ""
    if "init_from" in chain["settings"]:
        about = "Steps and minutes are those of all runs of a row."
    elif options["model_name_or_path"] is not None:
        about = "The training of the checkpoint that the runs start from is not counted."
    label = Label(GROUP + as_name(title), title, "gpu" if is_gpu else "cpu", name, [row], chain["command"], 0, about)
    return {
        **asdict(label),
        **model,
        **{name: chain[name] for name in ("settings", "steps", "training_seconds", "losses")},
        **{name: chain[name] for name in ("commit", "dirty", "machine", "date")},
        "gflops": round(views[0] * views[1] * model["gflops"], 4),
        "views": " x ".join(map(str, views)),
        "scores": {SCORE: score},
        "loop": LOOP,
        "evaluation_seconds": throughput["seconds"],
        "seconds": round(chain["training_seconds"] + throughput["seconds"], 2),
    }


def run_root(folder: Path) -> Path | None:
    """The folder of the run that a classifier's folder belongs to: that of the joint run for one of its data sets."""
    if (folder / CONFIG_FILE).is_file():
        return folder
    if (folder.parent / CONFIG_FILE).is_file():
        options = load_config_file(str(folder.parent / CONFIG_FILE), all_blocks())
        return folder.parent if folder.name in (options.get("datasets") or {}) else None
    return None


def describe_chain(root: Path) -> dict[str, Any]:
    """
    The options, settings, command, steps, seconds and origin of a run. If it started from the model of another run whose folder
    exists, these include those of that run.
    """
    raw = load_config_file(str(root / CONFIG_FILE), all_blocks())
    options = portable(raw)
    environment = read_file(root / "environment.json", f"{root} is not a run of `tubevit train`.")
    machine = environment.get("machine") or {key: environment["versions"][key] for key in ("torch", "transformers")}
    is_gpu = bool(environment["gpus"]) and not options["use_cpu"]
    finished = datetime.datetime.fromtimestamp((root / CONFIG_FILE).stat().st_mtime, datetime.UTC)
    words = environment["command"][1:]
    recipe = next((after for word, after in pairwise(words) if word == "--config"), None)
    name = options["model_name_or_path"]
    title = Path(recipe or options["preset"] or name).stem
    chain = {
        **read_training(root),
        "options": options,
        "settings": {name: value for name, value in options.items() if name not in WITHOUT_EFFECT},
        "title": title,
        "command": shlex.join(
            ["tubevit", *(ABSOLUTE_PATH.sub(lambda path: portable(path[0]), each) for each in words)]
        ),
        "commit": environment.get("commit", "unknown"),
        "dirty": environment.get("dirty", False),
        "machine": machine | ({"gpu": environment["gpus"][0]} if is_gpu else {}),
        "date": environment.get("date", finished.date().isoformat()),
    }
    start_root = None if name is None else run_root(Path(raw["model_name_or_path"]).absolute())
    if start_root is not None:
        start = describe_chain(start_root)
        del chain["settings"]["model_name_or_path"]  # it may differ between seeds
        chain["settings"]["init_from"] = {"weights": start["settings"]}
        chain["title"] = f"{title} after {start['title']}" if recipe else f"after {start['title']}"
        chain["command"] = f"{start['command']} && {chain['command']}"
        chain["dirty"] = chain["dirty"] or start["dirty"] or chain["commit"] != start["commit"]
        for name in ("steps", "training_seconds"):
            chain[name] += start[name]
    return chain


def without_seeds(settings: dict[str, Any]) -> dict[str, Any]:
    """
    Settings without the seed of the run and of the runs that it starts from, and without the fold of cross-validation. The seed of the
    data stays.
    """
    starts = settings.get("init_from") or settings.get("starts") or {}
    others = {name: value for name, value in settings.items() if name not in ("seed", "init_from", "starts")}
    if isinstance(data := others.get("data"), dict):
        others["data"] = {name: value for name, value in data.items() if name != "fold"}
    return others | {"init_from": {role: without_seeds(start) for role, start in starts.items()}}


def portable(value: Any) -> Any:
    """
    `value` with every absolute path shortened: to the path below the working folder, or else to its last part. Mappings and lists
    are searched; relative paths, names on the Hub and all other text stay.

    >>> portable({"data": "/home/somebody/clips", "labels": ["../labels.csv", 3]})
    {'data': 'clips', 'labels': ['../labels.csv', 3]}
    """
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(each) for each in value]
    if not isinstance(value, str):
        return value
    path, here = Path(os.path.expanduser(value.removeprefix("file://"))), Path.cwd()
    if path.is_absolute():
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name or "."
    return PureWindowsPath(value).name if PureWindowsPath(value).is_absolute() else value


def as_name(text: str) -> str:
    """Text as part of a file name.

    >>> as_name("`tubevit train` on UT-Interaction")
    'tubevit_train_on_ut-interaction'
    """
    return re.sub(r"[^\w.-]+", "_", text.lower()).strip("_.")
