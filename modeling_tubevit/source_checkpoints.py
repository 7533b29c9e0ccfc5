# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Reading the checkpoint of an image model, by the library: weights, settings, and how it prepares its images."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import logging

from .image_families import ImageFamily, PoolingSpec, find_family, grid_and_patch


@dataclass
class ImageSource:
    """
    An image model as it lies in a checkpoint.

    config: of the vision tower. model_config: of the whole, with its labels.
    class_name: the class that it was loaded as. readout: how that pools.
    weights: its tensors, by the names of that class.
    unread: names of what else lies in the checkpoint, such as a text tower or another head.
    statistics: `image_mean`, `image_std` and `rescale_factor` of its images, as far as its preprocessor says.
    image_size: (height, width) of the images that its preprocessor makes, otherwise of those that its config names.
    """

    family: ImageFamily
    config: PreTrainedConfig
    model_config: PreTrainedConfig
    class_name: str
    readout: PoolingSpec
    weights: dict[str, torch.Tensor]
    unread: list[str]
    dtype: torch.dtype
    statistics: dict[str, Any]
    image_size: tuple[int, int]


def load_image_source(name: str | os.PathLike, for_classifier: bool, **kwargs) -> ImageSource:
    """
    The checkpoint of an image model, from a folder or the Hub.

    for_classifier: whether to read it with its classifier, if it is one of an image classifier.
    kwargs: as `from_pretrained` takes them, such as `revision` or `dtype`.

    Raises `ValueError` for a model of another kind, for a pickle, and for a checkpoint that lacks weights, `OSError` where
    there is none.
    """
    hub_kwargs = without_dtype(kwargs)
    model_config = AutoConfig.from_pretrained(name, **hub_kwargs)
    family = find_family(model_config.model_type)
    config = getattr(model_config, "vision_config", model_config)
    class_name, readout = family.vision_class, family.encoder
    if for_classifier:
        names = [name for name in model_config.architectures or [] if name in family.classifiers]
        if names:
            class_name, readout = names[0], family.classifiers[names[0]]
    weights, missing, unread, dtype = _load_weights(name, class_name, kwargs)
    if family.optional_pooler and class_name == family.vision_class:
        if not any(name.startswith(family.optional_pooler) for name in weights):
            readout = family.encoder_without_pooler
        elif getattr(config, "pooler_act", None):
            readout = PoolingSpec({**readout.fields, "pooler_act": config.pooler_act})
    needed = [key for key in missing if not key.startswith(family.optional_pooler or "\0") and "mask_token" not in key]
    if needed:
        raise ValueError(
            f"{name} is not a complete {class_name}: it lacks {len(needed)} of its tensors, among them {needed[0]}."
        )
    statistics, image_size = read_preprocessor(name, hub_kwargs)
    if image_size is None:
        (rows, columns), (height, width) = grid_and_patch(config)
        image_size = (rows * height, columns * width) if hasattr(config, "num_patches") else _sides(config.image_size)
    return ImageSource(
        family, config, model_config, class_name, readout, weights, unread, dtype, statistics, image_size
    )


def _load_weights(name: str | os.PathLike, class_name: str, kwargs: dict) -> tuple[dict, list[str], list[str], Any]:
    """Tensors, names of those that the file lacks and that the class lacks, and the model's dtype."""
    model_class = getattr(transformers, class_name)
    try:
        with quiet():
            model, info = model_class.from_pretrained(name, use_safetensors=True, output_loading_info=True, **kwargs)
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {name} cannot be read ({error}): the file is damaged or incomplete."
        ) from error
    except OSError as error:
        if "safetensors" not in str(error) or not _has_pickle(name):
            raise
        raise ValueError(
            f"{name} holds a pickle checkpoint alone, which can run any code when it is loaded: only safetensors is "
            f"accepted. Where you trust it, {class_name}.from_pretrained(...).save_pretrained(folder) converts it."
        ) from error
    missing = sorted(info["missing_keys"])
    weights = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    return weights, missing, sorted(info["unexpected_keys"]), model.dtype


def read_preprocessor(name: str | os.PathLike, hub_kwargs: dict) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """
    Pixel statistics and the (height, width) of images as the checkpoint's image processor makes them; nothing and `None`
    for a checkpoint without one.
    """
    processor = load_image_processor(name, **hub_kwargs)
    if processor is None:
        return {}, None
    statistics = {"rescale_factor": processor.rescale_factor if processor.do_rescale else 1.0}
    statistics["image_mean"] = list(processor.image_mean) if processor.do_normalize else 0.0
    statistics["image_std"] = list(processor.image_std) if processor.do_normalize else 1.0
    size = getattr(processor, "crop_size" if getattr(processor, "do_center_crop", False) else "size", None)
    if not size or not processor.do_resize:
        return statistics, None
    size = dict(size)
    side = size.get("shortest_edge")
    height, width = size.get("height") or side, size.get("width") or side
    return statistics, (height, width) if height and width else None


def load_image_processor(name: str | os.PathLike, **hub_kwargs) -> Any:
    """The image processor of a checkpoint; `None` where it has none that the library can load."""
    try:
        return AutoImageProcessor.from_pretrained(name, **hub_kwargs)
    except (OSError, ValueError, ImportError):
        return None


def without_dtype(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a model's `from_pretrained` as far as configs and processors know them."""
    return {key: value for key, value in kwargs.items() if key != "dtype"}


def _sides(image_size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)


def _has_pickle(name: str | os.PathLike) -> bool:
    """Whether a folder holds a pickle; a name on the Hub whose safetensors are missing has nothing else."""
    return not os.path.isdir(name) or any(file.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in os.listdir(name))


@contextmanager
def quiet():
    """Without the library's notes on tensors that a checkpoint lacks, or has in excess: the report lists each."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
