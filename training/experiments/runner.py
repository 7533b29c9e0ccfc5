# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Experiments that are run once, and their result files.

A result file is JSON: the settings that decide its numbers, the numbers, and the machine, commit, command and day that
they come from. A run whose file is there with the same settings is not run again; a file with other settings is never
overwritten.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..environment import provenance
from .settings import Experiment


# What every result file must have for RESULTS.md, and of which type.
FIELDS = {
    "group": str,
    "name": str,
    "title": str,
    "size": str,
    "rows": list,
    "settings": dict,
    "command": str,
    "position": int,
    "commit": str,
    "dirty": bool,
    "machine": dict,
    "date": str,
    "seconds": (int, float),
    "scores": dict,
}
STARTS = "starts"  # folder of the trained models that others are made of


@dataclass(frozen=True)
class Label:
    """
    Where a result belongs in the report.

    group: the table, such as "table_7a". title: of the table. size: "cpu", "gpu" or what else tells apart what is not
    to be compared. name: of the run in its table. position: likewise.
    rows: what the run's scores are called there, each with "name", "title", "score" (which of the scores), and where
    there is one "paper" and "panel".
    about: how the table was carried over, and what else to know. command: what makes the table again.
    """

    group: str
    title: str
    size: str
    name: str
    rows: list[dict[str, Any]]
    command: str
    position: int
    about: str = ""

    def folder(self, parent: Path) -> Path:
        return parent / self.size / self.group


@dataclass(frozen=True)
class Run:
    """An experiment with its label."""

    experiment: Experiment
    label: Label

    def path(self, folder: Path) -> Path:
        return self.label.folder(folder) / f"{self.label.name}-seed{self.experiment.seed}.json"


def run_all(
    runs: Sequence[Run], folder: Path, device: str, jobs: int, threads: int | None = None
) -> list[dict[str, Any]]:
    """
    The results of `runs`, of which those are run that `folder` does not hold; `jobs` at a time, each in a process of
    its own.

    threads: of torch in each process; the cores are shared evenly by default. Experiments that others start from come
    first.

    Raises `FileExistsError`, before anything is run, where a result with other settings has a run's place.
    """
    from tqdm.auto import tqdm

    from tubevit.processing.cpu_cores import num_cores

    check_places(runs, folder)
    threads = threads or max(1, num_cores() // jobs)
    missing = _without_known(runs, folder)
    waves = _waves_of_starts([run.experiment for run in missing], folder)
    trained = {start.key for wave in waves for start in wave}
    total = len(trained) + sum(run.experiment.key not in trained for run in missing)
    if total:
        print(f"{total} runs to do, results in {folder}; one that is done is not done again.", flush=True)
    with tqdm(total=total, desc="runs", unit="run", disable=None) as progress:
        for wave in waves:
            for _ in _in_processes([(each, folder, device, threads) for each in wave], jobs):
                progress.update()
        # Once more, because a start may be a row of the table as well.
        rest = _without_known(missing, folder)
        for _ in _in_processes([(each, folder, device, threads) for each in rest], jobs):
            progress.update()
    return [read_result(run.path(folder)) for run in runs]


def check_places(runs: Sequence[Run], folder: Path) -> None:
    """Raise `FileExistsError` where a result with other settings would be overwritten."""
    for path, experiment in ((run.path(folder), run.experiment) for run in runs):
        if path.is_file() and _read(path).get("settings") != experiment.settings():
            raise FileExistsError(f"{path} is of a run with other settings: name another --output, or move it away.")


def _without_known(runs: Sequence[Run], folder: Path) -> list[Run]:
    """
    The runs whose numbers are not in `folder`. Where they are, of this or of another table, the run's file gets the label
    that it has now.
    """
    known = _known_numbers(folder)
    missing = []
    for run in runs:
        path, numbers = run.path(folder), known.get(_canonical(run.experiment.settings()))
        if numbers is None:
            missing.append(run)
            continue
        before = _read(path) if path.is_file() else numbers
        if (now := before | asdict(run.label)) != before:
            write_result(path, now)
    return missing


def _known_numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """The numbers of all results in a folder, without their labels, by their settings."""
    labels = {each.name for each in fields(Label)}
    results = [_read(path) for path in sorted(folder.glob("**/*.json"))]
    return {
        _canonical(each["settings"]): {name: value for name, value in each.items() if name not in labels}
        for each in results
        if "settings" in each
    }


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _waves_of_starts(experiments: list[Experiment], folder: Path) -> list[list[Experiment]]:
    """Starts that are not there yet, by how many others have to be done before them."""
    starts = {start.key: start for each in experiments for start in each.all_starts()}
    needed = [each for key, each in starts.items() if not _weights_path(folder, key).is_file()]
    depths = sorted({len(each.all_starts()) for each in needed})
    return [[each for each in needed if len(each.all_starts()) == depth] for depth in depths]


def _in_processes(calls: list[tuple], jobs: int):
    if jobs == 1 or len(calls) < 2:
        yield from (_run_one(call) for call in calls)
        return
    # Spawned, because a forked process cannot use a GPU or torch's threads.
    with ProcessPoolExecutor(min(jobs, len(calls)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_run_one, calls)


def _run_one(call: tuple[Run | Experiment, Path, str, int]) -> None:
    """Do a run and write its result, or train a start."""
    import torch

    from ..logging_utils import quiet_libraries

    work, folder, device, threads = call
    torch.set_num_threads(threads)
    quiet_libraries()
    if isinstance(work, Run):
        _, numbers = _run(work.experiment, folder, device)
        write_result(work.path(folder), asdict(work.label) | numbers)
    else:
        _train_start(work, folder, device)


def _run(experiment: Experiment, folder: Path, device: str) -> tuple[Any, dict[str, Any]]:
    """The model after training, and the numbers of the result. The experiments that it starts from must have been run."""
    import torch

    from ..data.rng import sample_seed
    from ..environment import describe_machine
    from ..models.model_size import count_parameters
    from .models import count_gflops, count_tokens
    from .training import evaluate, train

    begin = time.perf_counter()
    data, recipe = experiment.data, experiment.recipe
    model, pixels = _build(experiment, folder)
    total, trained = count_parameters(model, only_used=True)
    kind = "video" if "video" in recipe.mix else "image"
    about = {
        "tokens": count_tokens(model, data, kind),
        "gflops": round(count_gflops(model, data, kind), 4),
        "parameters": total,
        "trained_parameters": trained,
    }
    if not data.jitter:  # which is computed on the CPU
        pixels = pixels.to(device)
    torch.manual_seed(sample_seed(experiment.seed, 0, "training"))  # not the draws that the weights are made of
    training = train(model.to(device), pixels, experiment, device)
    if total == trained:  # what frozen layers save is not counted
        about["gflops_per_second"] = round(_gflops_of_training(model, experiment) / training["seconds"], 1)
    scores = evaluate(model, pixels, experiment, device)
    result = {
        "settings": experiment.settings(),
        **about,
        "steps": recipe.steps,
        "losses": training["losses"],
        "training_seconds": round(training["seconds"], 2),
        "seconds": round(time.perf_counter() - begin, 2),
        "scores": scores,
        **provenance(describe_machine(device)),
    }
    return model, result


def _gflops_of_training(model: Any, experiment: Experiment) -> float:
    from .models import count_gflops
    from .training import training_gflops

    mix = experiment.recipe.mix
    per_sample = sum(share * count_gflops(model, experiment.data, kind) for kind, share in mix.items()) / sum(
        mix.values()
    )
    return training_gflops(experiment.recipe, per_sample)


def _build(experiment: Experiment, folder: Path) -> tuple[Any, Any]:
    """The model before training, and the pixels."""
    import torch

    from .data import load_pixels
    from .models import Setting, build_model

    starts = {part: _trained(start, folder) for part, start in experiment.starts.items()}
    pixels = load_pixels(experiment.data, needs_images(experiment))
    setting = Setting(experiment.data, pixels.num_classes, *pixels.statistics())
    torch.manual_seed(experiment.seed)
    return build_model(experiment.model, setting, starts), pixels


def needs_images(experiment: Experiment) -> bool:
    return "image" in experiment.recipe.mix or bool(experiment.model.get("joint"))


def _train_start(experiment: Experiment, folder: Path, device: str) -> None:
    """Train a model that others start from, and keep its weights with its result."""
    from safetensors.torch import save_file

    path = _weights_path(folder, experiment.key)
    model, result = _run(experiment, folder, device)
    write_result(path.with_suffix(".json"), result)
    part = path.with_suffix(".part")
    save_file({name: each.cpu().contiguous() for name, each in model.state_dict().items()}, part)
    part.replace(path)


def _trained(experiment: Experiment, folder: Path) -> Any:
    from safetensors.torch import load_file

    path = _weights_path(folder, experiment.key)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run that this one starts from was not done.")
    model, _ = _build(experiment, folder)
    model.load_state_dict(load_file(path))
    return model


def _weights_path(folder: Path, key: str) -> Path:
    return folder / STARTS / f"{key}.safetensors"


def write_numbers(label: Label, folder: Path, device: str, **numbers: Any) -> Path:
    """
    Write a result file of something else than training runs: `numbers` with "settings" and "seconds", and what the report
    shows of them, such as "table", which holds "columns" and "rows" of text. Returns its path.
    """
    from ..environment import describe_machine

    path = label.folder(folder) / f"{label.name}.json"
    write_result(path, asdict(label) | {"scores": {}} | numbers | provenance(describe_machine(device)))
    return path


def read_result(path: Path) -> dict[str, Any]:
    """
    A result file with all its fields. Raises `ValueError`, in one line, for one that lacks some.
    """
    result = _read(path)
    lacking = [name for name, kind in FIELDS.items() if not isinstance(result.get(name), kind)]
    if lacking:
        raise ValueError(f"{path} is no result file: {', '.join(lacking)} missing or of the wrong type.")
    for row in result["rows"]:
        if not {"name", "title", "score"} <= set(row) or "accuracy" not in result["scores"].get(row["score"], {}):
            raise ValueError(f"{path}: a row needs name, title and the score that it shows, got {row}.")
    return result


def write_result(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)  # a file that is there is whole


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no result file: it holds a {type(content).__name__}.")
    return content
