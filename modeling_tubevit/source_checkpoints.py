# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Loads the checkpoint of an image model with Transformers: weights, config, and the settings of its image processor."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import logging

from .image_families import ImageFamily, PoolingSpec, find_family, grid_and_patch, pair
from .safetensors_only import has_only_pickles


logger = logging.get_logger(__name__)


@dataclass
class ImageSource:
    """
    An image model's checkpoint.

    config: config of the vision tower. model_config: config of the whole model, with its labels.
    class_name: class that loaded the checkpoint. pooling: pooling of that class.
    weights: tensors by their names in that class.
    unread: names of the other tensors in the checkpoint, such as a text tower or another head.
    statistics: `image_mean`, `image_std` and `rescale_factor` of its image processor; empty without a processor.
    image_size: (height, width) of its preprocessed images, or of its config without a processor.
    """

    family: ImageFamily
    config: PreTrainedConfig
    model_config: PreTrainedConfig
    class_name: str
    pooling: PoolingSpec
    weights: dict[str, torch.Tensor]
    unread: list[str]
    dtype: torch.dtype
    statistics: dict[str, Any]
    image_size: tuple[int, int]


def load_image_source(name: str | os.PathLike, for_classifier: bool, **kwargs) -> ImageSource:
    """
    Load an image model from a folder or the Hub.

    for_classifier: whether to load the classifier too, if the checkpoint has one.
    kwargs: arguments of `from_pretrained`, such as `revision` or `dtype`.

    Raises `ValueError` for an unsupported model type, a pickle checkpoint or missing weights, and `OSError` if there is no
    checkpoint.
    """
    hub_kwargs = without_dtype(kwargs)
    model_config = AutoConfig.from_pretrained(name, **hub_kwargs)
    family = find_family(model_config.model_type)
    config = getattr(model_config, "vision_config", model_config)
    class_name = family.vision_class
    pooling: PoolingSpec | None = family.encoder
    if for_classifier:
        names = [name for name in model_config.architectures or [] if name in family.classifiers]
        if names:
            class_name, pooling = names[0], family.classifiers[names[0]]
    weights, missing, unread, dtype = _load_weights(name, class_name, kwargs)
    if family.optional_pooler and class_name == family.vision_class:
        if not any(name.startswith(family.optional_pooler) for name in weights):
            pooling = family.encoder_without_pooler
        elif getattr(config, "pooler_act", None):
            pooling = PoolingSpec({**family.encoder.fields, "pooler_act": config.pooler_act})
    assert pooling is not None  # every family with an optional_pooler has an encoder_without_pooler
    needed = [key for key in missing if not key.startswith(family.optional_pooler or "\0") and "mask_token" not in key]
    if needed:
        raise ValueError(
            f"{name} is not a complete {class_name}: {len(needed)} of its tensors are missing, such as {needed[0]}."
        )
    statistics, image_size = read_preprocessor(name, hub_kwargs)
    if image_size is None:
        (rows, columns), (height, width) = grid_and_patch(config)
        image_size = (rows * height, columns * width) if hasattr(config, "num_patches") else pair(config.image_size)
    return ImageSource(
        family, config, model_config, class_name, pooling, weights, unread, dtype, statistics, image_size
    )


def _load_weights(name: str | os.PathLike, class_name: str, kwargs: dict) -> tuple[dict, list[str], list[str], Any]:
    """The tensors, the names of missing and of unexpected tensors, and the model's dtype."""
    model_class = getattr(transformers, class_name)
    try:
        with without_warnings():
            model, info = model_class.from_pretrained(name, use_safetensors=True, output_loading_info=True, **kwargs)
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {name} cannot be read ({error}): the file is damaged or incomplete."
        ) from error
    except OSError as error:
        if "safetensors" not in str(error) or (os.path.isdir(name) and not has_only_pickles(name)):
            raise
        raise ValueError(
            f"{name} holds only a pickle checkpoint, which can run any code when it is loaded: only safetensors is "
            f"accepted. If you trust it, {class_name}.from_pretrained(...).save_pretrained(folder) converts it."
        ) from error
    missing = sorted(info["missing_keys"])
    weights = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    return weights, missing, sorted(info["unexpected_keys"]), model.dtype


def read_preprocessor(name: str | os.PathLike, hub_kwargs: dict) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """
    Pixel statistics of the checkpoint's image processor, and (height, width) of the images that it returns.

    Without an image processor, logs a warning and returns an empty dictionary and `None`.
    """
    processor = load_image_processor(name, **hub_kwargs)
    if processor is None:
        logger.warning(
            f"No image processor could be loaded from {name}: the pixel statistics are the defaults of TubeViTConfig, and the "
            "image size is that of the model's config."
        )
        return {}, None
    statistics: dict[str, Any] = {"rescale_factor": processor.rescale_factor if processor.do_rescale else 1.0}
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
    """The image processor of a checkpoint; `None` if it has none that Transformers can load."""
    try:
        return AutoImageProcessor.from_pretrained(name, **hub_kwargs)
    except (OSError, ValueError, ImportError):
        return None


def without_dtype(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a model's `from_pretrained` without `dtype`, which configs and processors do not take."""
    return {key: value for key, value in kwargs.items() if key != "dtype"}


@contextmanager
def without_warnings():
    """Silence Transformers' warnings on missing and unexpected tensors, which the conversion report lists."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
