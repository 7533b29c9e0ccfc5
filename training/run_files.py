# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The folder of a run: found to be usable before any work is done, filled with what the run is, never overwritten.

`resolved_config.yaml` holds every option, `environment.json` the versions and the machine, `label_map.json` the classes,
`dataset.json` how many videos there are. A run that is resumed must agree with them.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .config_files import load_config_file, make_config, write_yaml


PACKAGES = (
    "tubevit",
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "av",
    "peft",
    "numpy",
)
CONFIG_FILE = "resolved_config.yaml"
# What a resumed run may be told anew; all else must be what it was, or the result would be neither run's.
FREE_ON_RESUME = ("run", "evaluation")
BYTES_PER_GB = 1e9


def check_output_folder(path: Path, resume: bool) -> None:
    """
    Raise an `OSError` of one line for a folder that a run cannot use: a file, not writable, not empty without `resume`.

    The folder is made where it is not there yet.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"output_dir={path} is a file; a folder is needed.")
    if not resume and path.is_dir() and any(path.iterdir()):
        raise FileExistsError(
            f"output_dir={path} is not empty: name another one, or go on with its run by resume=true."
        )
    if resume and not (path / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"There is nothing to resume: {path} has no {CONFIG_FILE}.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise type(error)(f"output_dir={path} cannot be written: {error.strerror or error}.") from None


@contextmanager
def unused_folder(path: Path) -> Iterator[Path]:
    """For a dry run: `path` is checked, and a folder that is made by it is removed; a temporary one is there to write to."""
    parents = [path, *path.parents]
    new = [folder for folder in parents if not folder.exists()]
    try:
        check_output_folder(path, resume=False)
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    finally:
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def check_disk_space(path: Path, num_parameters: int, num_trained: int, num_checkpoints: int) -> None:
    """Raise an `OSError` if checkpoints, of weights and twice as much for what is trained, will not fit beside each other."""
    needed = 4 * (num_parameters + 2 * num_trained) * num_checkpoints
    free = shutil.disk_usage(path).free
    if free < needed:
        raise OSError(
            f"output_dir={path} has {free / BYTES_PER_GB:.1f} GB free, and {num_checkpoints} checkpoints need "
            f"{needed / BYTES_PER_GB:.1f} GB: free some, or lower save_total_limit."
        )


def write_run_files(
    folder: Path, config: Mapping[str, Any], class_names: list[str], counts: Mapping[str, Any] | None = None
) -> None:
    """
    What a run is, into its folder.

    config: block name to dataclass. counts: how many videos there are, by split.
    """
    write_yaml(folder / CONFIG_FILE, config)
    write_json(folder / "environment.json", describe_environment())
    write_json(folder / "label_map.json", label_map(class_names))
    if counts is not None:
        write_json(folder / "dataset.json", counts)


def check_same_run(folder: Path, config: Mapping[str, Any], class_names: list[str], counts: Mapping[str, Any]) -> None:
    """Raise a `ValueError` that names what differs from the run whose files are in `folder`."""
    blocks = {name: type(block) for name, block in config.items()}
    path = folder / CONFIG_FILE
    before = make_config(load_config_file(str(path), blocks), blocks)
    for name in blocks:
        if name in FREE_ON_RESUME:
            continue
        for option, value in vars(before[name]).items():
            if value != getattr(config[name], option):
                raise ValueError(
                    f"The run in {folder} has {option}={value!r}, not {getattr(config[name], option)!r}: resume it with its "
                    f"own options (--config {path}), or name another output_dir."
                )
    if "run" in config and before["run"].seed != config["run"].seed:
        raise ValueError(f"The run in {folder} has seed={before['run'].seed}, not {config['run'].seed}.")
    for file, now in (("label_map.json", label_map(class_names)), ("dataset.json", counts)):
        then = json.loads((folder / file).read_text(encoding="utf-8"))
        if then != json.loads(json.dumps(now)):
            raise ValueError(
                f"The data are not those of the run in {folder}: see its {file}, and name another output_dir."
            )


def last_checkpoint(folder: Path, with_average: bool, notes: list[str]) -> Path:
    """
    The newest checkpoint in `folder` that is complete; the run may have been killed while it wrote one.

    Raises `FileNotFoundError` where there is none.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if missing := missing_from_checkpoint(path, with_average):
            notes.append(f"{path} is incomplete, it lacks {missing}; an older checkpoint is taken.")
        else:
            return path
    raise FileNotFoundError(f"There is nothing to resume: {folder} has no complete checkpoint.")


def missing_from_checkpoint(path: Path, with_average: bool) -> str | None:
    """What a checkpoint of Trainer lacks to be resumed exactly, `None` for nothing."""
    weights = (
        "model.safetensors",
        "model.safetensors.index.json",
        "adapter_model.safetensors",
        "pytorch_model_fsdp_0",
    )
    needed = [weights, ("optimizer.pt", "optimizer.bin", "optimizer_0"), ("scheduler.pt",)]
    needed += [("average.safetensors",)] if with_average else []
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


def label_map(class_names: list[str]) -> dict[str, Any]:
    """Classes by index, and a checksum by which two orders of the same classes are told apart at a glance."""
    digest = hashlib.sha256("\n".join(class_names).encode()).hexdigest()
    return {"id2label": {str(index): name for index, name in enumerate(class_names)}, "sha256": digest}


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **versions},
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": gpus,
        "num_processes": int(os.environ.get("WORLD_SIZE", 1)),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
