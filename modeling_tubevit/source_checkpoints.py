# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Loads the checkpoint of an image model with Transformers: weights, config, and the settings of its image processor."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import cached_file, logging

from .config_checks import is_number
from .image_families import ImageFamily, PoolingSpec, find_family, grid_and_patch, pair
from .safetensors_only import check_finite, has_only_pickles


logger = logging.get_logger(__name__)


@dataclass
class ImageSource:
    """
    An image model's checkpoint.

    config: config of the vision tower. model_config: config of the whole model, with its labels.
    class_name: class that loaded the checkpoint. pooling: pooling of that class.
    weights: tensors by their names in that class.
    unread: names of the other tensors in the checkpoint, such as a text tower or another head.
    statistics: `image_mean`, `image_std` and `rescale_factor` of its image processor; without a processor those of the family.
    assumed: statistics that no file of the checkpoint names, each with its origin.
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
    assumed: dict[str, str]


def load_image_source(name: str | os.PathLike, for_classifier: bool, **kwargs) -> ImageSource:
    """
    Load an image model from a folder or the Hub.

    for_classifier: whether to load the classifier too, if the checkpoint has one.
    kwargs: arguments of `from_pretrained`, such as `revision` or `dtype`. Without `dtype`, weights in half precision are converted
        to float32.

    Raises `ValueError` for an unsupported model type, a pickle checkpoint, missing weights, weights with NaN or inf, or a damaged
    file of the image processor, and `OSError` if there is no checkpoint.
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
    statistics, image_size, assumed = read_preprocessor(name, family, hub_kwargs)
    if image_size is None:
        (rows, columns), (height, width) = grid_and_patch(config)
        image_size = (rows * height, columns * width) if hasattr(config, "num_patches") else pair(config.image_size)
    return ImageSource(
        family, config, model_config, class_name, pooling, weights, unread, dtype, statistics, image_size, assumed
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
    if "dtype" not in kwargs and model.dtype in (torch.float16, torch.bfloat16):
        model = model.float()
    missing = sorted(info["missing_keys"])
    weights = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    check_finite(weights.items(), name)
    return weights, missing, sorted(info["unexpected_keys"]), model.dtype


def read_preprocessor(
    name: str | os.PathLike, family: ImageFamily, hub_kwargs: dict
) -> tuple[dict[str, Any], tuple[int, int] | None, dict[str, str]]:
    """
    Pixel statistics of the checkpoint's image processor, (height, width) of the images that it returns, and the statistics that are
    assumed because no file names them, each with its origin. The size is `None` without an image processor.

    Statistics without a value in the file are those with which the family was trained, and a warning says so. Raises `ValueError` for
    a damaged file, and for statistics that are not numbers.
    """
    processor = load_image_processor(name, **hub_kwargs)
    saved = {} if processor is None else _read_processor_file(name, hub_kwargs) or {}
    statistics: dict[str, Any] = {}
    assumed = {}
    if processor is not None:
        statistics["rescale_factor"] = processor.rescale_factor if processor.do_rescale else 1.0
    for key, neutral in (("image_mean", 0.0), ("image_std", 1.0)):
        if processor is not None and not processor.do_normalize:
            statistics[key] = neutral
        elif (
            saved.get(key) is not None
        ):  # otherwise the processor has the default of its class, which other families share
            value = getattr(processor, key)
            statistics[key] = list(value) if isinstance(value, (list, tuple)) else value
        else:
            statistics[key] = list(getattr(family, key))
            assumed[key] = f"{statistics[key]}, as in the training of {family.vision_class}"
    if assumed:
        reason = (
            "has no image processor" if processor is None else "has an image processor whose file does not name them"
        )
        shown = ", ".join(f"{key}={value}" for key, value in assumed.items())
        note = "; the image size is that of the model's config" if processor is None else ""
        logger.warning(f"{name} {reason}: {shown} is assumed{note}.")
    if processor is None:
        return statistics, None, assumed
    values = [statistics["rescale_factor"]]
    for key in ("image_mean", "image_std"):
        values += statistics[key] if isinstance(statistics[key], list) else [statistics[key]]
    if not all(map(is_number, values)):
        raise ValueError(
            f"The image processor of {name} is damaged: its pixel statistics {statistics} are not all numbers."
        )
    size = getattr(processor, "crop_size" if getattr(processor, "do_center_crop", False) else "size", None)
    if not size or not processor.do_resize:
        return statistics, None, assumed
    size = dict(size)
    side = size.get("shortest_edge")
    height, width = size.get("height") or side, size.get("width") or side
    return statistics, (height, width) if height and width else None, assumed


def load_image_processor(name: str | os.PathLike, **hub_kwargs) -> Any:
    """
    The image processor of a checkpoint; `None` if the checkpoint has none. Raises `ValueError` for a file that cannot be read: other
    pixel statistics than the model's would give wrong answers without a sign.
    """
    try:
        saved = _read_processor_file(name, hub_kwargs)
        return None if saved is None else AutoImageProcessor.from_pretrained(name, **hub_kwargs)
    except ImportError:
        raise
    except Exception as error:  # a damaged file can raise anything in Transformers
        raise ValueError(
            f"The file of the image processor of {name} cannot be read ({' '.join(str(error).split())}): repair it, or delete it to use "
            "the pixel statistics with which the model's family was trained."
        ) from error


def _read_processor_file(name: str | os.PathLike, hub_kwargs: dict) -> dict[str, Any] | None:
    """The settings in the file of a checkpoint's image processor; `None` if there is no file."""
    location = ("revision", "token", "subfolder", "cache_dir", "local_files_only")
    options = {key: hub_kwargs[key] for key in location if key in hub_kwargs}
    for file in ("processor_config.json", "preprocessor_config.json"):
        path = cached_file(
            name,
            file,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **options,
        )
        if path is None:
            continue
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(saved, dict):
            raise ValueError(f"{file} must hold a mapping, got {type(saved).__name__}")
        saved = saved.get("image_processor") if file.startswith("processor") else saved
        if saved:
            return saved
        if file.startswith("pre"):
            raise ValueError(f"{file} is empty")
    return None


def load_complete(
    model_class: Any, name: str | os.PathLike, model_types: Sequence[str], may_lack: str = "\0", **kwargs: Any
) -> Any:
    """
    A model of Transformers whose weights are all in its checkpoint.

    name: folder or Hub name. model_types: the accepted `model_type` of its config. may_lack: regular expression for names of tensors that
        need not be in the checkpoint. kwargs: arguments of `from_pretrained`.

    Raises `ValueError` for a checkpoint of another model type, and for one without some of the tensors: Transformers would give them
    random values.
    """
    config, _ = PreTrainedConfig.get_config_dict(name, **without_dtype(kwargs))
    model_type = config.get("model_type")
    if model_type not in model_types:
        expected = " or ".join(map(repr, model_types))
        raise ValueError(f"{name} has model_type {model_type!r}, and a checkpoint of model_type {expected} is needed.")
    with without_warnings():
        model, info = model_class.from_pretrained(name, output_loading_info=True, **kwargs)
    missing = sorted(key for key in info["missing_keys"] if not re.search(may_lack, key))
    if missing:
        raise ValueError(
            f"{name} is not a complete {model_class.__name__}: {len(missing)} of its tensors are missing, such as {missing[0]}."
        )
    return model


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
