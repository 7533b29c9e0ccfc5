# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Loading a TubeViT checkpoint for a command: what is missing or does not fit is an error, never random weights."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


logger = logging.getLogger(__name__)

# Where processors are saved: both in one file, or one by one.
PROCESSOR_FILE = "processor_config.json"
SINGLE_PROCESSOR_FILES = {
    "AutoImageProcessor": "preprocessor_config.json",
    "AutoVideoProcessor": "video_preprocessor_config.json",
}


def load_config(name: str) -> Any:
    """
    The `TubeViTConfig` of a folder or Hub name.

    Raises `OSError` where there is no checkpoint, before the library looks on the Hub for what is meant as a folder, and
    `ValueError` for a checkpoint of another model type.
    """
    from tubevit import TubeViTConfig

    check_model_name(name)
    try:
        with quiet_library():
            return TubeViTConfig.from_pretrained(name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_model_name(name: str) -> None:
    """Raise an `OSError` for what is meant as a folder and is none with a model, before the library asks the Hub for it."""
    path = Path(name).expanduser()
    if path.is_file():
        raise NotADirectoryError(f"{name} is a file; a model is the folder that save_pretrained wrote.")
    looks_local = name.startswith((".", "~", "/")) or name.count("/") != 1 or path.parent.is_dir()
    if not path.is_dir() and looks_local:
        raise FileNotFoundError(f"There is no model folder {name}.")
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(
            f"{name} is empty, it has no config.json: what is to write a model there has not ended yet, or was stopped."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json: it is not a folder that save_pretrained wrote.")


def load_model(name: str, model_class: type | None = None, **kwargs) -> Any:
    """
    The model of a folder or Hub name, in evaluation mode.

    model_class: the class to load; by default the one that the checkpoint's config names.
    kwargs: as `from_pretrained` takes them.

    Raises `ValueError` for another model type, a pickle, a damaged file, or a checkpoint that lacks weights of
    `model_class` or has some of other shapes than its config says, `OSError` where there is none.
    """
    import tubevit

    config = load_config(name)
    if model_class is None:
        architectures = config.architectures or ["TubeViTForVideoClassification"]
        model_class = getattr(tubevit, architectures[0], None)
        if model_class is None:
            raise ValueError(f"{name} names the class {architectures[0]!r}, which this package does not have.")
    elif config.heads and hasattr(model_class, "classify"):
        first = next(iter(config.heads))
        raise ValueError(
            f"{name} is a joint model, with heads for {', '.join(config.heads)}; a classifier for one of them is what "
            f"`tubevit export {name} NEW_FOLDER --dataset {first}` writes, and `tubevit train` to its folder {first}/."
        )
    return load_complete(model_class, name, **kwargs)


def load_complete(model_class: type, name: str, **kwargs) -> Any:
    """
    As `load_model`, for any class with `from_pretrained`, the library's Auto classes too; the config is not looked at before.
    """
    model, info = _load(model_class, name, **kwargs)
    if mismatched := sorted(info["mismatched_keys"]):
        key, saved, expected = mismatched[0]
        raise ValueError(
            f"{name} holds {len(mismatched)} weights of other shapes than its config.json says ({key} is "
            f"{tuple(saved)}, not {tuple(expected)}): the two files do not belong together."
        )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{name} lacks {len(missing)} weights of {type(model).__name__} ({missing[0]}, ...): it was saved from "
            "another class; fine-tune and save it with this one first."
        )
    if unexpected := sorted(info["unexpected_keys"]):
        logger.warning(f"{name} also holds {len(unexpected)} weights that are not used ({unexpected[0]}, ...).")
    return model.eval()


def _load(model_class: type, name: str, **kwargs) -> tuple[Any, dict[str, Any]]:
    """Model and loading info, which tells what did not fit."""
    with quiet_library():
        return model_class.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)


@contextmanager
def quiet_library() -> Iterator[None]:
    """While this lasts, the library logs no warnings: what is wrong with a checkpoint becomes one line here, not a table."""
    from transformers.utils import logging as library_logging

    verbosity = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)


def load_processors(name: str) -> list[Any]:
    """
    What prepares inputs for the model of a folder or Hub name: a `TubeViTProcessor` for images and videos, or the one
    processor that was saved alone. Raises `FileNotFoundError` for a folder without any.
    """
    import transformers

    from tubevit.processing import TubeViTProcessor

    folder = Path(name).expanduser()
    auto_classes = list(SINGLE_PROCESSOR_FILES)
    if folder.is_dir() and not (folder / PROCESSOR_FILE).is_file():
        auto_classes = [key for key, file in SINGLE_PROCESSOR_FILES.items() if (folder / file).is_file()]
    if not auto_classes:
        raise FileNotFoundError(
            f"{name} has no processor, which prepares the pixels: write one there with "
            "TubeViTProcessor(...).save_pretrained."
        )
    found = [getattr(transformers, auto_class).from_pretrained(name) for auto_class in auto_classes]
    return [TubeViTProcessor(*found)] if len(found) == 2 else found
