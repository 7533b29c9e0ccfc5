# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
LoRA adapters on a model (Hu et al., 2021), by PEFT. Only linear layers that are trained have adapters: an adapter on a frozen or unused
layer would receive no gradient.
"""

import importlib
import re
from importlib.metadata import version
from typing import Any

from packaging.version import Version
from torch import nn

from ..options import parse_names
from .batch_norm import fix_batch_norms
from .families import ModelFamily
from .model_options import ModelConfig


MIN_PEFT = "0.18"  # the oldest with which the tests of lora_rank pass; the extra `lora` asks for the same


def with_adapters(config: ModelConfig, model: Any, family: ModelFamily, messages: list[str]) -> Any:
    """
    The model with LoRA adapters on its trained linear layers, as a `PeftModel`. Its classifier is trained in full. Adds to `messages`.

    Raises `ImportError` without PEFT, and `ValueError` for `lora_target_modules` that select no trained layer.
    """
    peft = _import_peft()
    layers = _linear_layers(model, family)
    targets = _target_layers(config.lora_target_modules, layers, model)
    if num_skipped := len(layers) - sum(layers.values()):
        messages.append(
            f"LoRA: {len(targets)} linear layers have adapters; {num_skipped} that are frozen or unused have none."
        )
    if num_fixed := fix_batch_norms(model):
        messages.append(f"LoRA: the {num_fixed} batch norms keep the checkpoint's statistics.")
    alpha = config.lora_alpha or 2.0 * config.lora_rank
    adapters = peft.LoraConfig(
        r=config.lora_rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["classifier"]
    )
    return peft.get_peft_model(model, adapters)


def count_trained(model: Any, family: ModelFamily, rank: int, target_modules: str) -> int:
    """
    Number of parameters that a run with LoRA trains: those of the adapters and of the classifier. model: without adapters. rank,
    target_modules: options of the run.

    Raises `ValueError` as `with_adapters` does.
    """
    targets = map(model.get_submodule, _target_layers(target_modules, _linear_layers(model, family), model))
    num_adapters = sum(rank * (layer.in_features + layer.out_features) for layer in targets)
    return num_adapters + sum(each.numel() for each in model.classifier.parameters())


def _linear_layers(model: Any, family: ModelFamily) -> dict[str, bool]:
    """Name of each linear layer outside of the classifier to whether it is trained."""
    return {
        name: module.weight.requires_grad and not re.search(family.unused_parameters or "$^", f"{name}.weight")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("classifier")
    }


def _target_layers(given: str, layers: dict[str, bool], model: Any) -> list[str]:
    """
    Names of the trained layers that `lora_target_modules` selects. layers: of `_linear_layers`.

    Raises `ValueError` for a name that selects no trained layer.
    """
    by_name: dict[str, list[str]] = {"all-linear": []}
    for name, is_trained in layers.items():
        for key in ("all-linear", name.rsplit(".", 1)[-1]):
            by_name.setdefault(key, []).extend([name] if is_trained else [])
    selected = []
    for key in parse_names(given):
        if not by_name.get(key):
            trained = ", ".join(each for each, names in by_name.items() if names)
            reason = "selects frozen layers only" if key in by_name else "names no linear layer"
            choice = f"use {trained}" if trained else "lower num_frozen_layers, or leave out lora_rank"
            raise ValueError(f"lora_target_modules={given!r}: {key!r} {reason} of {type(model).__name__}: {choice}.")
        selected += by_name[key]
    if not selected:
        raise ValueError("lora_target_modules is empty: name layers, or use all-linear.")
    return list(dict.fromkeys(selected))


def _import_peft() -> Any:
    """PEFT. Raises an `ImportError` of one line if it is missing or older than `MIN_PEFT`."""
    try:
        installed = version("peft")
        if Version(installed) < Version(MIN_PEFT):  # first, because an old one may not import with a new Transformers
            raise ImportError(f"{installed} is installed")
        return importlib.import_module("peft")
    except ImportError as error:
        raise ImportError(
            f'lora_rank needs PEFT {MIN_PEFT} or newer: pip install "peft>={MIN_PEFT}" ({error}).'
        ) from error
