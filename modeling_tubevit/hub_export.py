# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Saving a model together with the code that defines it, so that the Hub serves it with `trust_remote_code=True`."""

import os


AUTO_MAP = {
    "AutoConfig": "configuration_tubevit.TubeViTConfig",
    "AutoModel": "modeling_tubevit.TubeViTModel",
    "AutoModelForVideoClassification": "modeling_tubevit.TubeViTForVideoClassification",
    "AutoModelForImageClassification": "modeling_tubevit.TubeViTForImageClassification",
}


class CodeExportMixin:
    """
    Adds `with_code` to `save_pretrained` and `push_to_hub` of a model.

    With it the config names every auto class of the family, and the modules that define them lie beside the weights.
    """

    _exports_code = False

    def save_pretrained(self, save_directory: str | os.PathLike, *args, with_code: bool | None = None, **kwargs):
        """
        As in the base class.

        with_code: also write the modules of this package that the model needs, so that a machine without the package
            loads the folder with `trust_remote_code=True`.
        """
        if not (self._exports_code if with_code is None else with_code):
            return super().save_pretrained(save_directory, *args, **kwargs)
        # What `register_for_auto_class` would do for the class and for good, done for this object and this call.
        auto_class = next(key for key, name in AUTO_MAP.items() if name.endswith("." + type(self).__name__))
        had_auto_map = getattr(self.config, "auto_map", None)
        self._auto_class, self.is_remote_code = auto_class, lambda: True
        self.config.auto_map = dict(AUTO_MAP)
        try:
            return super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            del self._auto_class, self.is_remote_code
            if had_auto_map is None:
                del self.config.auto_map
            else:
                self.config.auto_map = had_auto_map

    def push_to_hub(self, *args, with_code: bool = False, **kwargs):
        """As in the base class; `with_code` as in `save_pretrained`."""
        self._exports_code = with_code
        try:
            return super().push_to_hub(*args, **kwargs)
        finally:
            del self._exports_code
