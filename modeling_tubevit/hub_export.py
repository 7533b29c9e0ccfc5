# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Saving a model together with the code that defines it, so that the Hub serves it with `trust_remote_code=True`.

The saved config then names every class of the family in `auto_map`, and the modules that define them lie beside the
weights. The library does this for classes marked by `register_for_auto_class`, for good; here it is done for one model
and one call.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from transformers import PreTrainedModel


AUTO_MAP = {
    "AutoConfig": "configuration_tubevit.TubeViTConfig",
    "AutoModel": "modeling_tubevit.TubeViTModel",
    "AutoModelForVideoClassification": "modeling_tubevit.TubeViTForVideoClassification",
    "AutoModelForImageClassification": "modeling_tubevit.TubeViTForImageClassification",
}


@contextmanager
def marked_for_export(model: PreTrainedModel) -> Iterator[None]:
    """While this lasts, saving `model` also saves its code. Raises `ValueError` for a class that the code lacks."""
    auto_class_of = {name.split(".")[1]: auto_class for auto_class, name in AUTO_MAP.items()}
    class_name = type(model).__name__
    if class_name not in auto_class_of:
        models = ", ".join(name for name, auto_class in auto_class_of.items() if auto_class != "AutoConfig")
        hint = "; export what to_classifier makes of it" if hasattr(model, "to_classifier") else ""
        raise ValueError(f"with_code=True exports the models {models}, and this is a {class_name}{hint}.")
    auto_map = getattr(model.config, "auto_map", None)
    model.config.auto_map = dict(AUTO_MAP)
    model._auto_class = auto_class_of[class_name]
    model.is_remote_code = lambda: True
    try:
        yield
    finally:
        del model._auto_class, model.is_remote_code
        if auto_map is None:
            del model.config.auto_map
        else:
            model.config.auto_map = auto_map


class ModelCodeExportMixin:
    """Adds `with_code` to `save_pretrained` and `push_to_hub` of a model."""

    def save_pretrained(self, save_directory: str | os.PathLike, *args, with_code: bool = False, **kwargs):
        """
        As in the base class.

        with_code: also write the modules of this package that the model needs, so that a machine without the package
            loads the folder with `trust_remote_code=True`.
        """
        with marked_for_export(self) if with_code else nullcontext():
            return super().save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, *args, with_code: bool = False, **kwargs):
        """As in the base class; `with_code` as in `save_pretrained`."""
        with marked_for_export(self) if with_code else nullcontext():
            return super().push_to_hub(*args, **kwargs)
