# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Loading a TubeViT checkpoint for a command: what is missing or does not fit is an error, never random weights."""

from pathlib import Path
from typing import Any


def check_model_name(name: str) -> None:
    """
    Raise for a model name that cannot be meant for the Hub and is no folder here, before the library looks it up there.
    """
    path = Path(name).expanduser()
    if path.is_file():
        raise NotADirectoryError(f"{name} is a file; --model takes the folder that save_pretrained wrote.")
    looks_local = name.startswith((".", "~", "/")) or name.count("/") != 1 or path.parent.is_dir()
    if not path.is_dir() and looks_local:
        raise FileNotFoundError(f"There is no model folder {name}.")
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json: it is not a folder that save_pretrained wrote.")


def load_model(name: str, model_class: type | None = None, **kwargs) -> Any:
    """
    The model of a folder or Hub name, in evaluation mode.

    model_class: the class to load; by default the one that the checkpoint's config names.
    kwargs: as `from_pretrained` takes them.

    Raises `ValueError` for another model type, a pickle, or a checkpoint that lacks weights of `model_class`, `OSError`
    where there is none.
    """
    import tubevit

    check_model_name(name)
    config = tubevit.TubeViTConfig.from_pretrained(name)
    if model_class is None:
        architectures = config.architectures or ["TubeViTForVideoClassification"]
        model_class = getattr(tubevit, architectures[0], None)
        if model_class is None:
            raise ValueError(f"{name} names the class {architectures[0]!r}, which this package does not have.")
    model, info = model_class.from_pretrained(name, output_loading_info=True, **kwargs)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{name} lacks {len(missing)} weights of {model_class.__name__} ({missing[0]}, ...): it was saved from "
            "another class; fine-tune and save it with this one first."
        )
    return model.eval()


def load_processor(name: str) -> Any:
    """The `TubeViTProcessor` of a folder or Hub name, whether its parts were saved together or one by one."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    from tubevit.processing import TubeViTProcessor

    return TubeViTProcessor(AutoImageProcessor.from_pretrained(name), AutoVideoProcessor.from_pretrained(name))
