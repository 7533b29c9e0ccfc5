# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Loading weights from safetensors files only: a pickle can run any code when it is loaded."""

import os

from safetensors import SafetensorError
from transformers import PreTrainedModel


PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")


class SafetensorsOnlyMixin(PreTrainedModel):
    """Makes `from_pretrained` of a model reject pickle checkpoints and report a damaged file in one line."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """
        As in the base class, from safetensors files only.

        Raises `ValueError` for `use_safetensors=False`, for a folder with nothing but pickles, and for a damaged file.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                f"use_safetensors=False was given, but {cls.__name__} loads no pickle checkpoints: convert to safetensors."
            )
        kwargs["use_safetensors"] = True
        if pretrained_model_name_or_path is not None:
            _check_no_pickle(str(pretrained_model_name_or_path), kwargs.get("subfolder", ""))
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} cannot be read ({error}): the file is damaged or "
                "incomplete, download it again."
            ) from error


def has_only_pickles(folder: str | os.PathLike) -> bool:
    """Whether a local folder has pickle checkpoints and no safetensors file."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return _first_pickle(names) is not None


def _first_pickle(names: list[str]) -> str | None:
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return None
    return next((name for name in sorted(names) if name.endswith(PICKLE_SUFFIXES)), None)


def _check_no_pickle(path: str, subfolder: str) -> None:
    """Raise `ValueError` for a pickle file or a folder with pickles alone; the library would only report a missing file."""
    path = os.path.join(path, subfolder) if subfolder else path
    names = os.listdir(path) if os.path.isdir(path) else [path] if os.path.isfile(path) else []
    if (pickle := _first_pickle(names)) is not None:
        raise ValueError(
            f"{path} holds a pickle checkpoint ({os.path.basename(pickle)}), which can run any code when it is loaded: "
            "only safetensors is accepted. If you trust it, convert it with save_pretrained."
        )
