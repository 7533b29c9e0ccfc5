# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Trains experiments with `VideoTrainer` and writes their records. An experiment whose record exists with the same settings is not
trained again, and a record with other settings is never overwritten.

Each experiment is an ordinary run of `tubevit train` in `runs/<key>` beside the records, with its resolved options, environment,
checkpoint and evaluation.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..data.worker_processes import context_of_processes
from ..environment import describe_machine, provenance
from ..run_folder import EVALUATION
from .initialization import initial_checkpoint
from .records import Label, check_place, read_json, read_record, write_record
from .run_records import LOOP, measure_folder, read_score, read_training, trained_part
from .settings import INITIAL, MOTION, VIDEO, WORKING_FOLDERS, Experiment


# Imported once for all processes that train on the CPU.
TRAINING_MODULES = (
    "transformers.trainer",
    "tubevit.training.trainer.run_config",
    "tubevit.training.trainer.run_steps",
)
FEWER_TOKENS = ("token_budget", "random_tokens")  # options of `tubevit eval`


@dataclass(frozen=True)
class Run:
    """An experiment and the place of its record."""

    experiment: Experiment
    label: Label

    def path(self, folder: Path) -> Path:
        return (
            self.label.folder(folder)
            / f"{self.label.name}-seed{self.experiment.seed}{self.experiment.data.suffix}.json"
        )


def run_all(
    runs: Sequence[Run],
    folder: Path,
    device: str,
    jobs: int,
    threads: int | None = None,
    keep_weights: bool = True,
) -> list[dict[str, Any]]:
    """
    The records of `runs`. Runs without a record in `folder` are trained, `jobs` at a time, each in its own process; a record is written
    when its run is finished.

    threads: number of torch's threads in each process (default: `threads_per_run`). keep_weights: whether to keep the weights
        of a run with a record; those that a run without a record starts from are always kept until then.

    Raises `FileExistsError` before any training if the file of a run's record holds a record with other settings.
    """
    from ..logging_utils import progress_bar

    check_places(runs, folder)
    threads = threads or threads_per_run(jobs)
    missing = _without_known(runs, folder)
    _forget_without_weights([run.experiment for run in missing], folder)
    waves = _waves([run.experiment for run in missing], folder)
    total = sum(map(len, waves))
    if total:
        print(f"{total} runs to train. Records are in {folder}; a run with a record is not repeated.", flush=True)
        data = {(each.data, kind) for wave in waves for each in wave for kind in each.kinds}
        for each, kind in sorted(data, key=str):
            each.write(kind, folder)

    def write_finished() -> None:
        for run in [each for each in missing if _finished_file(each.experiment, folder).is_file()]:
            missing.remove(run)
            write_record(run.path(folder), asdict(run.label) | _numbers(run.experiment, folder))
            if not keep_weights:
                needed = {key for other in missing for key in _with_prerequisites(other.experiment)}
                for key, each in _with_prerequisites(run.experiment).items():
                    if key not in needed:
                        _remove_weights(each, folder)

    write_finished()
    with progress_bar(description="runs", total=total, unit="run") as progress:
        for wave in waves:
            for _ in _in_processes([(each, folder, device, threads) for each in wave], jobs):
                progress.update()
                write_finished()
    return [read_record(run.path(folder)) for run in runs]


def threads_per_run(jobs: int) -> int:
    """Threads of torch of each of `jobs` runs at the same time: those of `OMP_NUM_THREADS` if it is set, else the cores divided by `jobs`."""
    import torch

    from tubevit.processing.cpu_cores import num_cores

    return torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else max(1, num_cores() // jobs)


def _with_prerequisites(experiment: Experiment) -> dict[str, Experiment]:
    return {each.key: each for each in (*experiment.prerequisites(), experiment)}


def _forget_without_weights(experiments: Sequence[Experiment], folder: Path) -> None:
    """Remove the folders of finished runs without weights from which a run starts that will be trained, so that they are trained again."""
    for experiment in experiments:
        if _finished_file(experiment, folder).is_file():
            continue
        for start in experiment.init_from.values():
            run_folder = start.run_folder(folder)
            if _finished_file(start, folder).is_file() and not any(run_folder.glob("**/*.safetensors")):
                print(f"{run_folder} is trained again: its weights were removed, and another run starts from them.")
                shutil.rmtree(run_folder)
            _forget_without_weights([start], folder)


def _remove_weights(experiment: Experiment, folder: Path) -> None:
    """Remove the weights that a run started from and ended with. Configs, logs and evaluations stay."""
    for path in [folder / INITIAL / experiment.key, experiment.run_folder(folder)]:
        for weights in path.glob("**/*.safetensors"):
            weights.unlink()


def check_places(runs: Sequence[Run], folder: Path) -> None:
    """Raise `FileExistsError` where a record with other settings would be overwritten."""
    for run in runs:
        check_place(run.path(folder), run.experiment.settings())


def record_paths(folder: Path) -> list[Path]:
    """The JSON files below a folder, without those of the runs themselves."""
    return sorted(
        path for path in folder.glob("**/*.json") if path.relative_to(folder).parts[0] not in WORKING_FOLDERS
    )


def _without_known(runs: Sequence[Run], folder: Path) -> list[Run]:
    """The runs without a record. A run whose settings another record already has gets a record with the same numbers."""
    labels = {each.name for each in fields(Label)}
    known = {}
    for record in map(read_json, record_paths(folder)):
        if "settings" in record:
            numbers = {name: value for name, value in record.items() if name not in labels}
            known[_canonical(record["settings"])] = numbers
    missing = []
    for run in runs:
        path, numbers = run.path(folder), known.get(_canonical(run.experiment.settings()))
        if numbers is None:
            missing.append(run)
            continue
        saved = read_json(path) if path.is_file() else numbers
        if (current := saved | asdict(run.label)) != saved:
            write_record(path, current)
    return missing


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _waves(experiments: Sequence[Experiment], folder: Path) -> list[list[Experiment]]:
    """The experiments and their prerequisites that have to be trained, in groups, each of which needs only the groups before it."""
    needed = {each.key: each for one in experiments for each in one.prerequisites()}
    needed |= {each.key: each for each in experiments}  # these have the additional evaluations
    depths = {key: _depth(each) for key, each in needed.items()}
    needed = {key: each for key, each in needed.items() if not _finished_file(each, folder).is_file()}
    return [
        [each for key, each in needed.items() if depths[key] == depth]
        for depth in sorted({depths[key] for key in needed})
    ]


def _depth(experiment: Experiment) -> int:
    return max((1 + _depth(start) for start in experiment.init_from.values()), default=0)


def _finished_file(experiment: Experiment, folder: Path) -> Path:
    """The last file that a run with its evaluations writes; its name depends on the evaluations."""
    names = "-".join(experiment.evaluations)
    return experiment.run_folder(folder) / f"finished{names and '-' + names}.json"


def _in_processes(calls: list[tuple], jobs: int):
    if jobs == 1 or len(calls) < 2:
        yield from (train_experiment(*call) for call in calls)
        return
    (device,) = {device for _, _, device, _ in calls}
    # A forked process cannot use a GPU that its parent's imports have looked for.
    context = context_of_processes(*TRAINING_MODULES) if device == "cpu" else get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(calls)), mp_context=context) as pool:
        yield from pool.map(_call, calls)


def _call(call: tuple) -> None:
    train_experiment(*call)


def train_experiment(experiment: Experiment, folder: Path, device: str, threads: int) -> None:
    """Train and evaluate an experiment in its run folder. Its output is written to `<run folder>.log`."""
    import torch

    from ..logging_utils import quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()
    begin = time.perf_counter()
    run_folder = experiment.run_folder(folder)
    log = run_folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as file, redirect_stdout(file):
        scores = [
            experiment.classifier_folder(kind, folder) / EVALUATION / "metrics.json" for kind in experiment.kinds
        ]
        if not all(path.is_file() for path in scores):
            shutil.rmtree(run_folder, ignore_errors=True)  # left by an interrupted run
            _train(experiment, run_folder, run_options(experiment, folder) | {"use_cpu": device == "cpu"})
        for name, changes in experiment.evaluations.items():
            _evaluate(experiment, folder, name, changes, device)
    origin = provenance(describe_machine(device)) | {"seconds": round(time.perf_counter() - begin, 2)}
    write_record(_finished_file(experiment, folder), origin)


def run_options(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """All options of the run of `tubevit train` that are not the defaults."""
    data, run_folder = experiment.data, experiment.run_folder(folder)
    options = {"seed": experiment.seed, "output_dir": str(run_folder), "check_data": data.source != MOTION}
    if experiment.initial is not None:
        options |= {
            "model_name_or_path": str(initial_checkpoint(experiment, folder)),
            "ignore_mismatched_sizes": True,  # the classifier is new
        }
    if len(experiment.kinds) == 1:
        return experiment.options | options | data.options(experiment.kinds[0], folder)
    return experiment.options | options | {"datasets": {kind: data.options(kind, folder) for kind in experiment.kinds}}


def _train(experiment: Experiment, run_folder: Path, options: dict[str, Any]) -> None:
    from ..trainer.run_config import JointRun, TrainingRun
    from ..trainer.run_steps import train_run

    run = JointRun.of(**options) if len(experiment.kinds) > 1 else TrainingRun.of(**options)
    if train_run(run).exit_code:
        raise ValueError(
            f"Not all validation examples of {run_folder} could be scored, see its evaluation/metrics.json."
        )


def _evaluate(experiment: Experiment, folder: Path, name: str, changes: dict[str, Any], device: str) -> None:
    """An additional evaluation of the clips, in `evaluation-<name>`: with other tubes, other views, or fewer tokens."""
    from ..data.data_config import DataConfig
    from ..evaluation.evaluator import EvaluatedModel, EvaluationRun, ViewConfig, evaluate

    views = {"num_temporal_views": 1, "num_spatial_views": 1, **changes}
    classifier = experiment.classifier_folder(VIDEO, folder)
    output = classifier / f"{EVALUATION}-{name}"
    shutil.rmtree(output, ignore_errors=True)
    if "tubes" in views:
        classifier = _with_tubes(classifier, name, views.pop("tubes"))
    tokens = {option: views.pop(option) for option in FEWER_TOKENS if option in views}
    evaluate(
        {
            "model": EvaluatedModel(str(classifier), "float32", **tokens),
            "data": DataConfig(**experiment.data.options(VIDEO, folder)),
            "views": ViewConfig(**views),
            "run": EvaluationRun(str(output), split="validation", use_cpu=device == "cpu"),
        }
    )


def _with_tubes(classifier: Path, name: str, tubes: list[dict[str, Any]]) -> Path:
    """A copy of a classifier with other tubes and the same weights (table 7d)."""
    from tubevit import TubeViTForVideoClassification

    target = classifier / f"tubes-{name}"
    model = TubeViTForVideoClassification.from_pretrained(classifier)
    model.set_tubes(tubes)
    model.save_pretrained(target)
    for path in classifier.glob("*processor_config.json"):
        shutil.copy(path, target)
    return target


def _numbers(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """The numbers of the record of a trained experiment."""
    run_folder, scores = experiment.run_folder(folder), {}
    part = trained_part(experiment.options)
    sizes = {
        kind: measure_folder(experiment.classifier_folder(kind, folder), kind, **part) for kind in experiment.kinds
    }
    for kind in experiment.kinds:
        scores[kind] = read_score(experiment.classifier_folder(kind, folder) / EVALUATION)
        if kind != VIDEO:
            scores[kind] |= {name: sizes[kind][name] for name in ("tokens", "gflops")}
    for name, changes in experiment.evaluations.items():
        classifier = experiment.classifier_folder(VIDEO, folder)
        own = sizes[VIDEO]
        if "tubes" in changes:
            own = measure_folder(classifier / f"tubes-{name}", VIDEO)
        elif tokens := {option: changes[option] for option in FEWER_TOKENS if option in changes}:
            own = measure_folder(classifier, VIDEO, **tokens)
        num_views = changes.get("num_temporal_views", 1) * changes.get("num_spatial_views", 1)
        about = {"tokens": own["tokens"], "gflops": round(num_views * own["gflops"], 4)}
        scores[name] = read_score(classifier / f"{EVALUATION}-{name}") | about
    training = read_training(run_folder)
    return {
        **sizes[experiment.kinds[0]],
        **training,
        **read_json(_finished_file(experiment, folder)),
        "loop": LOOP,
        "settings": experiment.settings(),
        "scores": scores,
    }
