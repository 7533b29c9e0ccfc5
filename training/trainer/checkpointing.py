# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The folder of a run: checked before any work is done, never overwritten, and resumed exactly.

`resolved_config.yaml` holds every option, `environment.json` the versions, the commit and the machine, `label_map.json` the classes,
`dataset.json` the numbers of videos. A resumed run must match these files.
"""

import json
import math
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..environment import num_processes
from ..options import as_options, convert_options, load_config_file
from ..run_folder import CONFIG_FILE, EVALUATION, METRICS_FILE, ClassNames, check_new_folder, label_map


# Options that may change when a run is resumed. A change of any other option would change the result.
FREE_ON_RESUME = {
    # Output and Hub
    "output_dir",
    "resume_from_checkpoint",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "hub_license",
    "hub_revision",
    "run_name",
    # Evaluation
    "eval_strategy",
    "eval_steps",
    "eval_delay",
    "eval_on_start",
    "per_device_eval_batch_size",
    "eval_accumulation_steps",
    "metric_for_best_model",
    "load_best_model_at_end",
    "greater_is_better",
    "view_aggregation",
    "num_temporal_views",
    "num_spatial_views",
    # Checkpoints and logging
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "save_on_each_node",
    "logging_strategy",
    "logging_steps",
    "logging_first_step",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "report_to",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "disable_tqdm",
    # Devices and data loading
    "use_cpu",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context",
    "dataloader_in_order",
    "skip_memory_metrics",
    "ddp_timeout",
    "ddp_backend",
    "check_data",
    "corrupt_videos_file",
    "on_corrupt_video",
    "max_corrupt_fraction",
}
# Values that may replace each other: the frames of torchcodec-cpu equal PyAV's bit by bit, in videos without damage.
EQUAL_ON_RESUME = {"decoder": {"av", "torchcodec-cpu"}}
MEASURED = ("image_mean", "image_std")  # entries of `model_config` that `measure_pixels` sets
BYTES_PER_GB = 1e9


def check_output_folder(path: Path, resume: bool, may_hold: Collection[str] = ()) -> None:
    """
    Raise an `OSError` of one line if a run cannot begin, or with `resume` continue, in a folder.

    may_hold: names of files that the folder may contain before the run begins.
    """
    if not resume:
        check_new_folder(path, "name another output_dir, or resume its run with resume_from_checkpoint=true", may_hold)
    elif not (path / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"There is nothing to resume: {path} has no {CONFIG_FILE}.")


def count_checkpoints(training: Any, batches_per_epoch: int) -> int:
    """
    The largest number of checkpoints that a run has on the disk at one time: one more than `save_total_limit`, because the next one
    is written before an old one is removed, and at most one for each time that the run saves.

    training: `VideoTrainingArguments`. batches_per_epoch: on each process.
    """
    num_steps = training.count_steps(batches_per_epoch)
    strategy, interval = training.save_strategy, training.save_steps
    if strategy == "best":  # at most after each evaluation
        strategy, interval = training.eval_strategy, training.eval_steps
    if strategy == "epoch":
        interval = max(1, math.ceil(batches_per_epoch / training.gradient_accumulation_steps))
    elif interval < 1:
        interval = math.ceil(interval * num_steps)
    num_saves = math.ceil(num_steps / interval)
    return num_saves if training.save_total_limit is None else min(num_saves, training.save_total_limit + 1)


def check_disk_space(
    path: Path,
    num_parameters: int,
    num_trained: int,
    num_checkpoints: int,
    num_copies: int = 0,
    has_average: bool = False,
) -> None:
    """
    Raise an `OSError` if the disk has no room for `num_checkpoints` checkpoints (weights, two optimizer states and the EMA of each
    trained weight, in float32) and `num_copies` of the weights.
    """
    per_checkpoint = num_parameters + (3 if has_average else 2) * num_trained
    needed = 4 * (per_checkpoint * num_checkpoints + num_parameters * num_copies)
    free = shutil.disk_usage(path).free
    if free < needed:
        raise OSError(
            f"output_dir={path} has {free / BYTES_PER_GB:.1f} GB free, and {num_checkpoints} checkpoints need "
            f"{needed / BYTES_PER_GB:.1f} GB: free some, or lower save_total_limit."
        )


def check_same_run(
    folder: Path, config: Mapping[str, Any], class_names: ClassNames, counts: Mapping[str, Any]
) -> None:
    """Raise a `ValueError` that names what differs from the run whose files are in `folder`."""
    # First, because options may depend on the data: the pixel statistics of a preset.
    for file, content in (("label_map.json", label_map(class_names)), ("dataset.json", counts)):
        if _read_json(folder / file) != json.loads(json.dumps(content)):
            raise ValueError(
                f"The data differ from those of the run in {folder}, see its {file}: resume it with the same data, or name another "
                "output_dir."
            )
    check_same_options(folder, config)


def check_same_options(folder: Path, config: Mapping[str, Any], before_data: bool = False) -> None:
    """
    Raise a `ValueError` for an option, or a number of processes, that differs from that of the run whose files are in `folder`.

    before_data: `config` is without the entries of `model_config` that are measured on the data.
    """
    blocks = {name: type(block) for name, block in config.items()}
    path = folder / CONFIG_FILE
    options = convert_options(load_config_file(str(path), blocks), blocks)
    current = {name: value for block in config.values() for name, value in as_options(block).items()}
    current = convert_options(current, blocks)
    if before_data:
        measured = {name: options["model_config"][name] for name in MEASURED if name in options["model_config"]}
        current["model_config"] = {**measured, **current["model_config"]}
    is_stream = _read_json(folder / "dataset.json").get("train") == {}  # `datasets` divides a stream among the workers
    free = FREE_ON_RESUME - ({"dataloader_num_workers"} if is_stream else set())
    for name in sorted(options.keys() - free):
        saved, now = options[name], current[name]
        if name in EQUAL_ON_RESUME and {saved, now} <= EQUAL_ON_RESUME[name]:
            continue
        # The order of the data sets decides the sampling of batches and the order of parameters.
        if saved != now or (name == "datasets" and list(saved) != list(now)):
            raise ValueError(
                f"The run in {folder} has {name}={saved!r}, not {now!r}: resume it with its "
                f"own options (--config {path}), or name another output_dir."
            )
    saved, current = _read_json(folder / "environment.json")["num_processes"], num_processes()
    if saved != current:
        raise ValueError(
            f"The run in {folder} was started with {saved} processes; with {current} the batches would differ: resume it with "
            f"{saved}."
        )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def last_checkpoint(folder: Path, with_average: bool, messages: list[str], named: Path | None = None) -> Path:
    """
    The newest complete checkpoint in `folder`, or the `named` one. A killed run may leave an incomplete checkpoint.

    Raises `FileNotFoundError` if there is none, and `ValueError` if the named one is incomplete or belongs to another run.
    """
    if named is not None:
        check_named(named, folder)
        if missing := missing_from_checkpoint(named, with_average):
            raise ValueError(f"resume_from_checkpoint={named} is incomplete, it lacks {missing}.")
        return named
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if missing := missing_from_checkpoint(path, with_average):
            messages.append(f"{path} is incomplete, it lacks {missing}; an older checkpoint is used.")
        else:
            return path
    raise FileNotFoundError(f"There is nothing to resume: {folder} has no complete checkpoint.")


def check_named(checkpoint: Path, folder: Path) -> None:
    """Raise an error unless `checkpoint` is a folder in `folder`, the folder of the run."""
    if not checkpoint.is_dir():
        raise FileNotFoundError(f"resume_from_checkpoint={checkpoint}: there is no such folder.")
    if checkpoint.resolve().parent != folder.resolve():
        raise ValueError(
            f"resume_from_checkpoint={checkpoint} is not in output_dir={folder}: set output_dir={checkpoint.parent}."
        )


def missing_from_checkpoint(path: Path, with_average: bool) -> str | None:
    """The first file that an exact resume needs and a checkpoint of Trainer lacks; `None` for a complete one."""
    weights = (
        "model.safetensors",
        "model.safetensors.index.json",
        "adapter_model.safetensors",
        "pytorch_model_fsdp_0",
    )
    needed = [weights, ("optimizer.pt", "optimizer.bin", "optimizer_0"), ("scheduler.pt",)]
    needed += [("ema.safetensors",)] if with_average else []
    if not any(path.glob("global_step*")):  # DeepSpeed has its own files
        for names in needed:
            if not any((path / name).exists() for name in names):
                return names[0]
    if not any(path.glob("rng_state*.pth")):
        return "rng_state.pth"
    try:
        json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))  # the last file that is written
    except (OSError, ValueError):
        return "trainer_state.json"
    return None


def was_finished(folder: Path, num_steps: int) -> bool:
    """
    Whether a resumed run had nothing left to train. If so, prints a message and leaves the files of the run as they are.
    Otherwise removes the evaluations of earlier calls, which evaluated another model.

    num_steps: number of steps that this call trained.
    """
    state = PartialState()
    is_done = num_steps == 0 and (folder / METRICS_FILE).is_file()
    state.wait_for_everyone()  # before the first process writes the file
    if not is_done:
        if state.is_main_process:
            for evaluation in (folder / EVALUATION, *folder.glob(f"*/{EVALUATION}")):
                shutil.rmtree(evaluation, ignore_errors=True)
        return False
    state.print(f"{folder} holds a finished run: nothing is left to train.", flush=True)
    return True
