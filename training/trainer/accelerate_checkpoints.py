# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Checkpoints of a training loop on Accelerate, `step-<number>/` in the folder of the run.

A checkpoint is written under another name and renamed when it is complete, so one that has its name can be resumed,
whenever the run was killed.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..run_folder import write_json
from .checkpointing import check_named
from .ema import EMA


PREFIX, UNFINISHED = "step-", "unfinished-checkpoint"
STATE_FILE = "loop_state.json"


@dataclass
class LoopState:
    """
    How far a run is; all that a checkpoint holds beside weights, optimizer and schedule.

    global_step: optimizer steps taken. epoch: passes over the data that are complete. num_batches: of the current pass, seen.
    log_history: what was logged, as Trainer keeps it.
    logged_loss: sum of the losses up to the step at which one was logged, `last_logged`. loss_since_log: and since then.
    best_metric, best_step: of the evaluations so far. num_without_progress: evaluations since then.
    counts: clips and seconds, see `DataLoaderTimer.counts`.
    """

    global_step: int = 0
    epoch: int = 0
    num_batches: int = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    logged_loss: float = 0.0
    loss_since_log: float = 0.0
    last_logged: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    num_without_progress: int = 0
    counts: dict[str, Any] = field(default_factory=dict)


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Step to checkpoint, oldest first."""
    found = {path.name.removeprefix(PREFIX): path for path in folder.glob(f"{PREFIX}*") if path.is_dir()}
    return {int(step): found[step] for step in sorted((each for each in found if each.isdecimal()), key=int)}


def newest_checkpoint(folder: Path, with_average: bool, notes: list[str], named: Path | None = None) -> Path:
    """As `checkpointing.last_checkpoint`, which finds those of Trainer. Raises `FileNotFoundError` where there is none."""
    if named is not None:
        check_named(named, folder)
        return named
    found = find_checkpoints(folder)
    if not found:
        by_trainer = " of this script; `tubevit train` wrote those there" if any(folder.glob("checkpoint-*")) else ""
        raise FileNotFoundError(f"There is nothing to resume: {folder} has no checkpoint{by_trainer}.")
    return found[max(found)]


def save_checkpoint(
    folder: Path, accelerator: Any, state: LoopState, average: EMA | None, total_limit: int | None
) -> None:
    """
    Write `step-<number>`; called on all ranks.

    total_limit: how many of the newest are kept, beside the best; `None` for all.
    """
    unfinished = folder / UNFINISHED
    if accelerator.is_main_process and unfinished.exists():
        shutil.rmtree(unfinished)  # of a run that was killed
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if average is not None:
            average.save(unfinished)
        write_json(unfinished / STATE_FILE, asdict(state))
        target = folder / f"{PREFIX}{state.global_step}"
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
        _remove_old(folder, total_limit, state.best_step)
    accelerator.wait_for_everyone()


def load_checkpoint(path: Path, accelerator: Any, average: EMA | None) -> LoopState:
    """Load everything from a checkpoint; called on all ranks. Raises `ValueError` unless it holds exactly this model's weights."""
    try:
        accelerator.load_state(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of this model: {' '.join(str(error).split())}") from error
    if average is not None:
        average.load(path)
    return LoopState(**json.loads((path / STATE_FILE).read_text(encoding="utf-8")))


def _remove_old(folder: Path, total_limit: int | None, best_step: int | None) -> None:
    steps = list(find_checkpoints(folder))
    for step in steps[:-total_limit] if total_limit else []:
        if step != best_step:
            shutil.rmtree(folder / f"{PREFIX}{step}")
