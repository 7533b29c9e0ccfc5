# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Write a checkpoint with the code of its model, so that it loads on machines without this package."""

from pathlib import Path
from typing import Any

from .families import ModelFamily, family_of
from .loading import load_config, load_model, load_processors


def export_checkpoint(
    name: str, folder: Path, data_set: str | None = None, with_code: bool = True
) -> tuple[Any, list[Any]]:
    """
    Write weights, processors and code of a checkpoint to `folder`. Returns the model and its processors.

    data_set: for a joint model, write the classifier of this data set. with_code: write the code too.

    Raises `ValueError` for a `data_set` that the model does not have, and for a joint model `with_code` without `data_set`.
    """
    from transformers import ProcessorMixin

    family = family_of(load_config(name), name)
    model, processors = load_model(name), load_processors(name, family)
    if data_set is not None:
        if family.joint_class is None or not isinstance(model, family.get("joint_class")):
            raise ValueError(f"--dataset is for joint models, and {name} is a {type(model).__name__}.")
        model = model.to_classifier(data_set)
    if with_code and family.pretraining_class is not None and type(model) is family.get("pretraining_class"):
        raise ValueError(
            f"{name} is a pretrained {type(model).__name__}, which classifies nothing: fine-tune it by `tubevit train model={name}`, then export that."
        )
    combined = [each for each in processors if isinstance(each, ProcessorMixin)]
    single = [part for each in combined for part in (each.image_processor, each.video_processor)]
    for part in (*single, *processors, model):
        if with_code:
            _save_with_code(part, folder, family)
        else:
            part.save_pretrained(folder)
    return model, processors


def _save_with_code(part: Any, folder: Path, family: ModelFamily) -> None:
    """Save a model or a processor with the modules that define it. Classes of Transformers are saved without code."""
    from transformers import PreTrainedModel

    if family.exports_code:
        part.save_pretrained(folder, with_code=True)
        return
    if not type(part).__module__.startswith("transformers."):
        type(part).register_for_auto_class(auto_class(part))
        if isinstance(part, PreTrainedModel):
            type(part.config).register_for_auto_class()
    part.save_pretrained(folder)


def auto_class(part: Any) -> str:
    """The Auto class that loads a model or a processor."""
    from transformers import PreTrainedModel
    from transformers.image_processing_utils import ImageProcessingMixin
    from transformers.video_processing_utils import BaseVideoProcessor

    if not isinstance(part, PreTrainedModel):
        kinds = {"AutoVideoProcessor": BaseVideoProcessor, "AutoImageProcessor": ImageProcessingMixin}
        return next((name for name, kind in kinds.items() if isinstance(part, kind)), "AutoProcessor")
    for name in ("AutoModelForVideoClassification", "AutoModelForImageClassification"):
        if type(part).__name__.endswith(name.removeprefix("AutoModel")):
            return name
    return "AutoModel"
