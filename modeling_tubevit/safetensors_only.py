# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Checks when a model is built and loaded: a valid config, safetensors files only, because a pickle can run any code, and no NaN or inf.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from .config_checks import CheckedConfig


PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pyth", ".ckpt")


class SafetensorsOnlyMixin(PreTrainedModel):
    """Makes a model refuse a wrong config, pickles, damaged files and weights with NaN or inf, each in one line."""

    def __init__(self, config: CheckedConfig, *args, **kwargs):
        config.complete_fields()  # fields may have changed since the construction of the config
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """
        As in the base class, from safetensors files only.

        Raises `ValueError` for `use_safetensors=False`, for a folder with nothing but pickles, for a damaged file, and for weights
        that contain NaN or inf.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                f"use_safetensors=False was given, but {cls.__name__} loads no pickle checkpoints: convert to safetensors."
            )
        kwargs["use_safetensors"] = True
        if pretrained_model_name_or_path is not None:
            path = str(pretrained_model_name_or_path)
            _check_no_pickle(path, kwargs.get("subfolder", ""), cls)
            if os.path.isfile(path) and (kwargs.get("config") is None or not path.endswith(".safetensors")):
                raise ValueError(
                    f"{path} is a file, and from_pretrained loads a folder: name its folder{_readers(cls)}."
                )
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} cannot be read ({error}): the file is damaged or "
                "incomplete, download it again."
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_finite(model.state_dict().items(), pretrained_model_name_or_path or "The given state_dict")
        return loaded


def check_finite(weights: Iterable[tuple[str, torch.Tensor]], name: str | os.PathLike) -> None:
    """Raise `ValueError` with the names of tensors that contain NaN or inf. name: of the checkpoint, for the error."""
    wrong = []
    for key, tensor in weights:
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # this process's part of a DTensor
        has_values = local.is_floating_point() and local.device.type != "meta" and local.element_size() > 1
        if has_values and not torch.isfinite(local).all():
            wrong.append(key)
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        raise ValueError(
            f"{name}: {len(wrong)} tensors contain NaN or inf ({shown}): the file is damaged, its training diverged, or the values "
            "are too large for the dtype in which it is loaded."
        )


def has_only_pickles(folder: str | os.PathLike) -> bool:
    """Whether a local folder has pickle checkpoints and no safetensors file."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return _first_pickle(names) is not None


def _first_pickle(names: list[str]) -> str | None:
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return None
    return next((name for name in sorted(names) if name.endswith(PICKLE_SUFFIXES)), None)


def _readers(model_class: Any) -> str:
    """The methods of a class that read files of other codes, as the end of a sentence."""
    names = [name for name in ("from_reference", "from_scenic") if hasattr(model_class, name)]
    return "".join(
        f", or use {model_class.__name__}.{name} for a checkpoint file of the authors' code" for name in names
    )


def _check_no_pickle(path: str, subfolder: str, model_class: Any) -> None:
    """Raise `ValueError` for a pickle file or a folder with pickles alone; the library would only report a missing file."""
    path = os.path.join(path, subfolder) if subfolder else path
    names = os.listdir(path) if os.path.isdir(path) else [path] if os.path.isfile(path) else []
    if (pickle := _first_pickle(names)) is not None:
        raise ValueError(
            f"{path} holds a pickle checkpoint ({os.path.basename(pickle)}), which can run any code when it is loaded: "
            "only safetensors is accepted. If you trust it, convert it with save_pretrained"
            f"{_readers(model_class)}."
        )
