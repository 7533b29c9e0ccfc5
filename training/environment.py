# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Package versions, machine, device and commit of the source code, on which results depend."""

import argparse
import datetime
import functools
import logging
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4


REQUIRED = (
    "tubevit",
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "av",
    "numpy",
    "matplotlib",
)
OPTIONAL = ("peft", "tensorboard", "trackio")


def installed_versions() -> dict[str, str | None]:
    """Package name to version, or to `None` if the package is not installed."""
    return {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}


@functools.cache  # reading the metadata of all packages takes 0.1 s of CPU time
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe_machine(device: str) -> dict[str, Any]:
    """The machine and torch settings of a measurement; `load` is the load average of the last minute."""
    import torch

    from tubevit.processing.cpu_cores import num_cores

    machine = {
        "cpu": _cpu_name(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cache_folder() -> Path:
    """TUBEVIT_CACHE, or if that is not set, `tubevit/` in the cache folder of Hugging Face (HF_HOME)."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("TUBEVIT_CACHE") or Path(HF_HOME) / "tubevit")


def cache_id() -> str:
    """
    A name of the cache folder that is the same on all machines that see it: the content of its file `id`, which the first process
    creates. The name of this machine if the folder cannot be written.
    """
    file, new = cache_folder() / "id", cache_folder() / f"id-{uuid4().hex}"
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(uuid4().hex, encoding="utf-8")
            with suppress(FileExistsError):  # another process was faster
                os.link(new, file)
        return file.read_text(encoding="utf-8")
    except OSError:
        return platform.node()
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


MATMUL_PRECISIONS = ("highest", "high", "medium")
MATMUL_PRECISION_HELP = (
    "precision inside float32 matrix products; high and medium may round their inputs to TF32 and bfloat16, and are faster on some "
    "processors and GPUs, which `tubevit doctor` measures (default: torch's, highest)"
)
COMPILE_HELP = (
    "compile the model with torch.compile: the first clip takes a minute, later clips less time (default: off)"
)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """`--device`, `--dtype`, `--matmul-precision` and `--compile` of a command that runs a checkpoint; see `pick_device`, `prepare_model`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device to run on (default: auto, the GPU if there is one)",
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="data type of the weights (default: auto, the checkpoint's)",
    )

    parser.add_argument("--matmul-precision", choices=MATMUL_PRECISIONS, help=MATMUL_PRECISION_HELP)
    parser.add_argument("--compile", action="store_true", help=COMPILE_HELP)


def prepare_model(model: Any, matmul_precision: str | None, compiles: bool) -> None:
    """
    Apply `--matmul-precision` and `--compile` to a loaded model, on its device.

    matmul_precision: of torch's float32 matrix products; `None` keeps it. Raises `ValueError` for weights of another type than float32.
    """
    import torch

    if matmul_precision is not None:
        if model.dtype != torch.float32:
            dtype = str(model.dtype).removeprefix("torch.")
            raise ValueError(
                f"--matmul-precision {matmul_precision} has no effect on {dtype} weights: leave it out, or give --dtype float32."
            )
        torch.set_float32_matmul_precision(matmul_precision)
    if compiles:
        compile_model(model)


def compile_model(model: Any) -> None:
    """
    Compile the calls of a model in place; its weights keep their names. The number of clips per call may vary. Raises `ValueError` without
    a C++ compiler, which torch needs on a CPU.
    """
    import torch

    # Its import warns where CUDA's tools are installed and there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.cpp_extension import get_cxx_compiler

    compiler = get_cxx_compiler()
    if torch.device(model.device).type == "cpu" and shutil.which(compiler) is None:
        raise ValueError(
            f"--compile needs a C++ compiler, and there is no {compiler}: install one, or name it in the variable CXX."
        )
    model.compile()


def pick_device(name: str) -> str:
    """`cuda` or `cpu`; `auto` selects the GPU if torch sees one. Raises `ValueError` for `cuda` without a GPU."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU; `tubevit doctor` shows torch's CUDA version.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def provenance(machine: dict[str, Any]) -> dict[str, Any]:
    """
    Commit of the package's source code ("unknown" outside its repository), whether files differ from the commit, date, and
    the machine with the version of Transformers.
    """
    machine = machine | {"transformers": installed_versions()["transformers"]}
    here = Path(__file__).name
    # An installed copy may be inside another project's repository.
    is_tracked = _git("ls-files", "--error-unmatch", here) is not None
    changes = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results", ":(exclude,top)*.md"
    )
    return {
        "commit": _git("rev-parse", "HEAD") if is_tracked else "unknown",
        "dirty": is_tracked and bool(changes),
        "machine": {key: value for key, value in machine.items() if value is not None},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the folder of this package, `None` outside a repository or without git."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe_environment() -> dict[str, Any]:
    """Versions, machine, command, commit of the source code and date; runs save it as `environment.json`."""
    import torch

    versions = {name: version for name, version in installed_versions().items() if version is not None}
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **versions},
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": gpus,
        "num_processes": num_processes(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **provenance(describe_machine("cpu")),  # GPUs have their own entry
    }


def num_processes() -> int:
    """Number of processes of a run, from torchrun's `WORLD_SIZE`; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))
