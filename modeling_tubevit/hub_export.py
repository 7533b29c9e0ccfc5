# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Saving a model with the code that defines it, so that the Hub loads it with `trust_remote_code=True`.

The saved config names the classes of the model's module in `auto_map`, and the modules that define them are saved next to the
weights. In Transformers, `register_for_auto_class` enables this permanently and for all models of a class; here it is enabled
for one model during one call.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel


class ModelCodeExportMixin(PreTrainedModel):
    """
    Adds `with_code` to `save_pretrained` and `push_to_hub` of a model.

    auto_class: name of the Auto class that loads the model, set in the body of each class that can be exported.
    """

    auto_class: str | None = None

    def save_pretrained(self, save_directory: str | os.PathLike, *args, with_code: bool = False, **kwargs):
        """
        `PreTrainedModel.save_pretrained` with one more option.

        with_code: also write the modules that define the model, so that a machine without this package loads the folder
            with `trust_remote_code=True`.
        """
        with marked_for_export(self) if with_code else nullcontext():
            return super().save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, *args, with_code: bool = False, **kwargs):  # type: ignore[override]  # a decorator wraps the base's
        """`PreTrainedModel.push_to_hub`. with_code: see `save_pretrained`."""
        with marked_for_export(self) if with_code else nullcontext():
            return super().push_to_hub(*args, **kwargs)


def import_conversion(module: str) -> Any:
    """
    The module `tubevit.<module>`, which converts weights of other implementations. Raises `ImportError` without the `tubevit` package: code
    exported to the Hub does not contain the conversions.
    """
    try:
        return import_module(f"tubevit.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"This conversion needs the `tubevit` package ({error}): code exported to the Hub does not contain it. Install tubevit, "
            "convert there, and load the saved model here."
        ) from error


@contextmanager
def marked_for_export(model: ModelCodeExportMixin) -> Iterator[None]:
    """In this context, saving `model` also saves its code. Raises `ValueError` for a class without its own `auto_class`."""
    auto_map = _auto_map(type(model))
    model_class = type(model)
    if model_class.auto_class is None or "auto_class" not in vars(model_class):
        models = ", ".join(name.split(".")[1] for name in auto_map.values()) or "with an auto_class of their own"
        hint = "; export a classifier of its to_classifier instead" if hasattr(model, "to_classifier") else ""
        raise ValueError(f"with_code=True exports the models {models}, and this is a {model_class.__name__}{hint}.")
    config_class = type(model.config)
    auto_map["AutoConfig"] = f"{config_class.__module__.split('.')[-1]}.{config_class.__name__}"
    config_attributes = vars(model.config)
    saved = {"auto_map": config_attributes["auto_map"]} if "auto_map" in config_attributes else {}
    config_attributes["auto_map"] = auto_map
    # Transformers reads both attributes from the instance, so the class does not change.
    vars(model).update(_auto_class=model_class.auto_class, is_remote_code=lambda: True)
    try:
        yield
    finally:
        del vars(model)["_auto_class"], vars(model)["is_remote_code"], config_attributes["auto_map"]
        config_attributes.update(saved)


def _auto_map(model_class: type[ModelCodeExportMixin]) -> dict[str, str]:
    """`{Auto class: "module.Class"}` of every model that the nearest module with exportable models defines."""
    for base in model_class.__mro__:
        module = base.__module__
        models = [
            each
            for each in vars(sys.modules[module]).values()
            if isinstance(each, type)
            and issubclass(each, ModelCodeExportMixin)
            and each.__module__ == module
            and vars(each).get("auto_class") is not None
        ]
        if models:
            return {str(each.auto_class): f"{module.split('.')[-1]}.{each.__name__}" for each in models}
    return {}
