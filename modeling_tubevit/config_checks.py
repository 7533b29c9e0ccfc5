# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Checks of config fields that all model families share. Importing this module does not import torch."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import PreTrainedConfig


PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification", "regression")
Range = tuple[tuple[str, ...], str, Callable[[float], bool]]  # names of fields, allowed values in words, and the test


def check_names(config: PreTrainedConfig, unknown: Mapping[str, Any]) -> None:
    """
    Raise `ValueError` for a misspelled field among the arguments that are not fields. The base class keeps unknown arguments as
    attributes, so `num_frame=16` would silently leave `num_frames` at its default.
    """
    own = [name for name in type(config).__annotations__ if name not in PreTrainedConfig.__annotations__]
    for key in unknown:
        if close := difflib.get_close_matches(key, own, n=1, cutoff=0.88):
            raise ValueError(f"{type(config).__name__} has no field {key!r}; did you mean {close[0]!r}?")


def check_model_type(config_class: type[PreTrainedConfig], config_dict: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a saved config is that of another model type."""
    model_type = config_dict.get("model_type", config_class.model_type)
    if model_type != config_class.model_type:
        raise ValueError(f"This is a checkpoint of a {model_type!r} model, not of {config_class.model_type!r}.")


def check_numbers(config: PreTrainedConfig, ranges: Iterable[Range]) -> None:
    """Raise `ValueError` for a number, or a number in a list, out of the range of its field. `None` passes."""
    for names, allowed, is_allowed in ranges:
        for name in names:
            value = getattr(config, name)
            values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
            if not all(math.isfinite(v) and not isinstance(v, bool) and is_allowed(v) for v in values):
                raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def check_divides(config: PreTrainedConfig, heads: str) -> None:
    """Raise `ValueError` if the number of heads in the field `heads` does not divide `hidden_size`."""
    if config.hidden_size % getattr(config, heads):
        raise ValueError(
            f"hidden_size must be a multiple of {heads}, got {config.hidden_size} and {getattr(config, heads)}."
        )


def per_channel(config: PreTrainedConfig, name: str) -> list[float]:
    """The field `name` as a list with one value per channel. Raises `ValueError` for another number of values."""
    value = getattr(config, name)
    values = [value] * config.num_channels if isinstance(value, (int, float)) else list(value)
    if len(values) != config.num_channels:
        raise ValueError(f"{name} must hold one value per channel, that is {config.num_channels}, got {value!r}.")
    return values


def check_activation(config: PreTrainedConfig, name: str = "hidden_act") -> None:
    """Raise `ValueError` unless the field `name` is an activation of Transformers."""
    from transformers.activations import ACT2FN  # imported here, so that reading a config does not import torch

    value = getattr(config, name)
    if value not in ACT2FN:
        raise ValueError(f"{name} must be one of {', '.join(sorted(ACT2FN))}, got {value!r}.")


def check_problem_type(config: PreTrainedConfig) -> None:
    """Raise `ValueError` for an unknown problem type: the base class declares the field but does not check it."""
    if config.problem_type not in PROBLEM_TYPES:
        raise ValueError(
            f"problem_type must be one of {', '.join(map(str, PROBLEM_TYPES))}, got {config.problem_type!r}."
        )
