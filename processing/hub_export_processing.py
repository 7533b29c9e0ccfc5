# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Save a processor with its source code, so that `trust_remote_code=True` loads it without this package.

The saved file names the class in `auto_map`, and the modules that define the class are copied next to the file. In
Transformers, `register_for_auto_class` enables this permanently and for all objects of a class; here it is enabled for one
object during one call.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import PROCESSOR_NAME


if TYPE_CHECKING:  # the mixin stands before a processor class of Transformers in a list of base classes
    from transformers.image_processing_base import ImageProcessingMixin as ProcessorBase
else:
    ProcessorBase = object


@contextmanager
def marked_for_export(*processors) -> Iterator[None]:
    """In this context, saving any of `processors` also saves its source code, for the Auto class named by `auto_class`."""
    before = [dict(processor.__dict__) for processor in processors]
    for processor in processors:
        processor._auto_class = processor.auto_class
    try:
        yield
    finally:
        for processor, attributes in zip(processors, before, strict=True):
            for name in ("_auto_class", "auto_map"):  # saving sets `auto_map`
                processor.__dict__.pop(name, None)
                if name in attributes:
                    setattr(processor, name, attributes[name])


class ProcessorCodeExportMixin(ProcessorBase):
    """Adds `with_code` to `save_pretrained` and `push_to_hub` of an image or video processor."""

    auto_class: str  # name of the Auto class that loads this processor
    combined_key: str  # key of this processor in `processor_config.json`, the file with the settings of all processors of a model

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, *, with_code: bool = False, **kwargs
    ) -> list[str]:
        """
        As in the base class. If the folder has a `processor_config.json` with settings of this processor, these are updated
        too, because they take precedence when the folder is loaded.

        with_code: also copy the modules that the processor needs, so that `trust_remote_code=True` loads the folder
            without this package.
        """
        with marked_for_export(self) if with_code else nullcontext():
            self._update_combined(Path(save_directory) / PROCESSOR_NAME)
            return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def push_to_hub(self, repo_id: str, *, with_code: bool = False, **kwargs):
        """As in the base class; `with_code` as in `save_pretrained`."""
        with marked_for_export(self) if with_code else nullcontext():
            return super().push_to_hub(repo_id, **kwargs)

    def _update_combined(self, path: Path) -> None:
        combined = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if self.combined_key in combined:
            code = {key: value for key, value in combined[self.combined_key].items() if key == "auto_map"}
            combined[self.combined_key] = {**json.loads(self.to_json_string()), **code}
            path.write_text(json.dumps(combined, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """As in the base class; `auto_map` is included only if the source code is saved too."""
        values = super().to_dict()
        values.pop("_auto_class", None)
        if self._auto_class is None:
            values.pop("auto_map", None)
        return values
