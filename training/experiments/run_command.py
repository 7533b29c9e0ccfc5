# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The command that makes a run of `tubevit train` again: its recipe, and the options that differ from that."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..options import load_config_file


# What a run is told that does not change its numbers.
WITHOUT_EFFECT = (
    "output_dir",
    "resume_from_checkpoint",
    "logging_steps",
    "report_to",
    "dataloader_num_workers",
    "save_total_limit",
    "check_data",
    "push_to_hub",
    "hub_model_id",
)
NOWHERE = object()


def recipe_of(environment: Mapping[str, Any]) -> str | None:
    """The recipe that the command in an `environment.json` names; `None` for a file of the user's, and for none."""
    from ..trainer.run_config import RECIPES

    words = environment["command"]
    names = [after for word, after in pairwise(words) if word == "--config"]
    names += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    return next((name for name in names if name in {each.stem for each in RECIPES.glob("*.yaml")}), None)


def find_overrides(options: Mapping[str, Any], recipe: str | None) -> dict[str, str]:
    """
    Key to text, as `key=value` takes them, of the options that differ from the recipe's (the defaults without one), and
    decide the numbers.

    options: all of a run by their names, as `resolved_config.yaml` has them.
    """
    from ..trainer.run_config import RECIPES, all_blocks
    from ..trainer.training_arguments import default_layer_decay

    before = {each.name: _default(each) for block in all_blocks().values() for each in fields(block)}
    before |= load_config_file(recipe, all_blocks(), RECIPES) if recipe else {}
    if before["layer_decay"] is None:
        before["layer_decay"] = default_layer_decay(options["model_name_or_path"] is not None)
    changes = {}
    for name, value in options.items():
        if name not in WITHOUT_EFFECT:
            changes |= _changes(name, value, before[name])
    return changes


def make_command(environment: Mapping[str, Any], recipe: str | None, overrides: Mapping[str, str]) -> str:
    """The command line, of `torchrun` where there were several processes."""
    script, *words = environment["command"]
    is_loop = words[:1] == ["train-loop"] or "no_trainer" in script
    start = f"tubevit {'train-loop' if is_loop else 'train'}"
    if environment["num_processes"] > 1:
        name = f"run_video_classification{'_no_trainer' if is_loop else ''}.py"
        start = f"torchrun --nproc-per-node {environment['num_processes']} training/{name}"
    config = f" --config {recipe}" if recipe else ""
    return start + config + "".join(f" {shlex.quote(f'{key}={text}')}" for key, text in overrides.items())


def _default(field: Any) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()


def _changes(key: str, value: Any, before: Any) -> dict[str, str]:
    """An option's change, or those of its entries, where all that it had are still there."""
    if value == before or (value in ({}, None) and before in ({}, None)):
        return {}
    old = {} if before is NOWHERE or before is None else before
    if isinstance(value, dict) and isinstance(old, dict) and old.keys() <= value.keys() and _are_names(value):
        changes = {}
        for name, each in value.items():
            changes |= _changes(f"{key}.{name}", each, old.get(name, NOWHERE))
        return changes
    return {key: as_text(value, is_entry="." in key)}


def _are_names(mapping: dict) -> bool:
    return bool(mapping) and all(isinstance(name, str) and name.isidentifier() for name in mapping)


def as_text(value: Any, is_entry: bool) -> str:
    """
    A value as it stands behind `key=`.

    is_entry: whether the key is that of an entry of a mapping, which is read as YAML, since its type is not known.

    >>> as_text(1e-3, False), as_text(None, False), as_text("on", False), as_text("on", True), as_text({"a": [1]}, True)
    ('0.001', 'null', 'on', '"on"', '{a: [1]}')
    """
    import json

    import yaml

    if isinstance(value, str):
        return json.dumps(value) if is_entry and _reads_otherwise(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).strip()


def _reads_otherwise(text: str) -> bool:
    """Whether text without quotes would become something else."""
    import yaml

    try:
        float(text)
        return True
    except ValueError:
        pass
    try:
        return yaml.safe_load(text) != text
    except yaml.YAMLError:
        return True


def describe_start(options: Mapping[str, Any], recipe: str | None) -> str:
    """What a run began with: its recipe, or else its size or checkpoint."""
    return recipe or options["preset"] or Path(options["model_name_or_path"]).name
