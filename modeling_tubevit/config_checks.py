# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Checks of config fields that all model families share. Importing this module does not import torch."""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.utils import logging


logger = logging.get_logger(__name__)

ConfigClass = TypeVar("ConfigClass", bound=type)

PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification", "regression")
FLOAT16_MAX = 65504
JOINT_GROUP = "action"  # name of the metrics of all label groups together
Range = tuple[tuple[str, ...], str, Callable[[float], bool]]  # names of fields, allowed values in words, and the test
# Arguments of a config that are not dataclass fields: Transformers reads them, or saves them in config.json.
LIBRARY_NAMES = {
    *(
        "num_labels",
        "name_or_path",
        "torch_dtype",
        "output_attentions",
        "attn_implementation",
        "experts_implementation",
        "use_cache",  # Trainer writes it to every config
    ),
    *("auto_map", "custom_pipelines", "quantization_config", "per_layer_config", "distributed_config"),
}
# Names of other libraries, and of arguments of `from_image_checkpoint`, for a field of the config.
OTHER_NAMES = {
    "positions": "position_embedding",
    "depth": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_classes": "num_labels",
    "dropout": "hidden_dropout_prob",
    "patch_size": "tubes",
}


def is_known(config_class: Any, name: str) -> bool:
    """Whether a config takes the argument `name`. Names with an underscore belong to Transformers."""
    return name in config_class.__dataclass_fields__ or name in LIBRARY_NAMES or name.startswith("_")


def nearest_field(config_class: Any, name: str, cutoff: float = 0.6) -> str | None:
    """The field that an unknown `name` probably means; `None` if no field is as similar as `cutoff` (1: equal)."""
    known = [field for field in config_class.__dataclass_fields__ if field not in PreTrainedConfig.__annotations__]
    if OTHER_NAMES.get(name) in (*known, "num_labels"):
        return OTHER_NAMES[name]
    known += ["num_labels", "id2label", "problem_type", "label_groups"]
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def unknown_field(config_class: type, name: str) -> str:
    """The error message for an unknown field."""
    nearest = nearest_field(config_class, name)
    hint = f"; did you mean {nearest!r}?" if nearest else "; its documentation lists the fields."
    return f"{config_class.__name__} has no field {name!r}{hint}"


def with_value_errors(config_class: ConfigClass) -> ConfigClass:
    """
    Decorator above `@strict`, which raises an error of its own class on two lines for a field of a wrong type: raise
    `ValueError` of one line instead.
    """

    def with_value_error(function: Any) -> Any:
        def call(self: Any, *args: Any) -> None:
            try:
                function(self, *args)
            except StrictDataclassError as error:
                raise ValueError(str(error.__cause__ or error)) from None

        return call

    config_class.__setattr__ = with_value_error(config_class.__setattr__)  # type: ignore[method-assign]
    config_class.validate = with_value_error(config_class.validate)  # type: ignore[attr-defined]
    return config_class


class CheckedConfig(PreTrainedConfig):
    """
    A config that accepts its own fields only, and the field `label_groups` of every family. A wrong field raises `ValueError` of one line with its name, its value and the allowed
    values; unknown arguments, which the base class keeps as attributes without effect, raise with the nearest name.

    Only a saved config may have fields that this version does not know, because newer code may have written it.
    """

    label_groups: list | tuple | dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if unknown := [name for name in kwargs if not is_known(type(self), name)]:
            raise ValueError(" ".join(unknown_field(type(self), name) for name in unknown))
        if self.label_groups is not None:
            self.label_groups = complete_label_groups(self.label_groups)
            if self.id2label is None:
                names = [f"{group}: {index}" for group, size in self.label_groups for index in range(size)]
                self.id2label, self.label2id = (
                    dict(enumerate(names)),
                    {name: index for index, name in enumerate(names)},
                )
        if self.id2label is None and self.label2id:
            self.id2label = cast(dict[int, str], {index: name for name, index in self.label2id.items()})
        num_labels = kwargs.get("num_labels")
        if num_labels is not None and (not is_number(num_labels) or num_labels != int(num_labels) or num_labels < 0):
            raise ValueError(f"num_labels must be an integer of at least 0, got {num_labels!r}.")
        if num_labels is not None and self.id2label is not None and len(self.id2label) != num_labels:
            raise ValueError(f"num_labels={num_labels}, but id2label names {len(self.id2label)} classes.")
        self.complete_fields()
        super().__post_init__(**kwargs)

    def complete_fields(self) -> None:
        """
        Bring the fields into the form that they have in JSON, then check all of them; raises `ValueError`. Called at construction,
        and again when a model is built, because fields may be set in between.
        """
        self.validate_architecture()

    @classmethod
    def known_part(cls, saved: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The part of a saved config that this version knows, and the names of the other fields."""
        known = {name: value for name, value in saved.items() if is_known(cls, name)}
        return known, [name for name in saved if name not in known]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """
        As in the base class, with three differences. A config of another model type raises `ValueError` instead of a warning.
        Fields that this version does not know are ignored, and one warning names them. Overrides in `kwargs` are fields of the
        new config before it is checked, so that all checks apply to them; `num_labels`, `id2label` and `label2id` replace the saved
        labels, and another number of them the saved `label_groups`.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(f"This is a checkpoint of a {model_type!r} model, not of {cls.model_type!r}.")
        saved, ignored = cls.known_part(config_dict)
        if ignored:
            hints = {name: nearest_field(cls, name) for name in ignored}
            shown = [f"{name} (the nearest known name is {hint})" if hint else name for name, hint in hints.items()]
            logger.warning_once(
                f"The saved config has fields that this version of {cls.__name__} does not know; they are ignored: {', '.join(shown)}."
            )
        if not kwargs.get("return_unused_kwargs", False):  # otherwise the model's class refuses unknown names
            for name in kwargs:  # Auto classes pass arguments of processors too
                if not is_known(cls, name) and nearest_field(cls, name, cutoff=0.88) is not None:
                    raise ValueError(unknown_field(cls, name))
        fields = [name for name in kwargs if name in cls.__dataclass_fields__ and name != "dtype"]
        overrides = {name: kwargs.pop(name) for name in fields}
        num_labels = len(saved.get("id2label") or ())
        replaces_labels = kwargs.get("num_labels") not in (None, num_labels)
        given_labels = overrides.get("id2label") or overrides.get("label2id")
        if replaces_labels or len(given_labels or range(num_labels)) != num_labels:
            saved = {name: value for name, value in saved.items() if name != "label_groups"}
        if given_labels or "id2label" in overrides or replaces_labels:
            saved = {name: value for name, value in saved.items() if name not in ("id2label", "label2id")}
        return super().from_dict(saved | overrides, **kwargs)


def check_numbers(config: PreTrainedConfig, ranges: Iterable[Range]) -> None:
    """Raise `ValueError` for a number, or a number in a list, out of the range of its field. `None` passes."""
    for names, allowed, is_allowed in ranges:
        for name in names:
            value = getattr(config, name)
            values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
            if not all(is_number(v) and is_allowed(v) for v in values):
                raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def check_divides(config: PreTrainedConfig, heads: str, width: str = "hidden_size") -> None:
    """Raise `ValueError` if the number of heads in the field `heads` does not divide that in the field `width`."""
    if getattr(config, width) % getattr(config, heads):
        raise ValueError(
            f"{width} must be a multiple of {heads}, got {getattr(config, width)} and {getattr(config, heads)}."
        )


def per_channel(config: PreTrainedConfig, name: str) -> list[float]:
    """The field `name` as a list with one value per channel. Raises `ValueError` for another number of values."""
    value = getattr(config, name)
    values = [value] * config.num_channels if isinstance(value, (int, float)) else list(value)
    if len(values) != config.num_channels:
        raise ValueError(f"{name} must hold one value per channel, that is {config.num_channels}, got {value!r}.")
    return values


def check_activation(config: PreTrainedConfig, name: str = "hidden_act") -> None:
    """Raise `ValueError` unless the field `name` is an activation of Transformers."""
    from transformers.activations import ACT2FN  # imported here, so that reading a config does not import torch

    value = getattr(config, name)
    if value not in ACT2FN:
        raise ValueError(f"{name} must be one of {', '.join(sorted(ACT2FN))}, got {value!r}.")


def complete_label_groups(label_groups: Any) -> list[list[Any]]:
    """
    `label_groups` as pairs of a name and a number of labels: JSON sorts the keys of a dictionary, and the order counts.

    Raises `ValueError` for other values, fewer than two groups, and repeated names.
    """
    pairs = list(label_groups.items()) if isinstance(label_groups, dict) else list(label_groups)
    is_pair = [isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs]
    if not all(is_pair) or not all(isinstance(name, str) and name and _is_size(size) for name, size in pairs):
        raise ValueError(
            f"label_groups must be pairs of a name and a number of labels, as [['noun', 300], ['verb', 97]], got {label_groups!r}."
        )
    names = [name for name, _ in pairs]
    if len(pairs) < 2 or len(set(names)) != len(names) or JOINT_GROUP in names:
        raise ValueError(
            f"label_groups must be two or more groups with different names other than {JOINT_GROUP!r}, which is the class of all groups "
            f"together, got {label_groups!r}."
        )
    return [[name, size] for name, size in pairs]


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1


def check_labels(config: CheckedConfig) -> None:
    """
    Raise `ValueError` for an unknown problem type, for class numbers in `id2label` with a gap, and for label groups that do not fit the
    labels or the problem type.
    """
    if config.problem_type not in PROBLEM_TYPES:
        raise ValueError(
            f"problem_type must be one of {', '.join(map(str, PROBLEM_TYPES))}, got {config.problem_type!r}."
        )
    if config.id2label is not None and sorted(map(int, config.id2label)) != list(range(len(config.id2label))):
        raise ValueError(f"id2label must name the classes 0, 1, ... without a gap, got {config.id2label!r}.")
    if config.label_groups is None:
        return
    num_labels = sum(size for _, size in complete_label_groups(config.label_groups))
    if config.id2label is not None and len(config.id2label) != num_labels:
        raise ValueError(
            f"label_groups={config.label_groups!r} has {num_labels} labels, but id2label names {len(config.id2label)}."
        )
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"label_groups needs problem_type='single_label_classification', got {config.problem_type!r}."
        )


def check_pixel_statistics(config: PreTrainedConfig) -> None:
    """Raise `ValueError` unless `image_mean` and `image_std` have a value per channel and pass `check_pixel_range`."""
    check_pixel_range(per_channel(config, "image_mean"), per_channel(config, "image_std"), config.rescale_factor)


def check_pixel_range(
    image_mean: Sequence[float], image_std: Sequence[float], rescale_factor: float, largest: float = 1e19
) -> None:
    """
    Raise `ValueError` if the normalized pixels `(pixel * rescale_factor - image_mean) / image_std` exceed `largest`. Layer norms square
    their inputs, and squares of numbers above the default, 1e19, are infinite in float32. Models in float16 check the limit of that
    type, `FLOAT16_MAX`, when they normalize pixels.
    """
    pixels = [
        abs(pixel * rescale_factor - mean) / std
        for mean, std in zip(image_mean, image_std, strict=True)
        for pixel in (0, 255)
    ]
    if max(pixels) > largest:
        raise ValueError(
            f"image_mean={list(image_mean)}, image_std={list(image_std)} and rescale_factor={rescale_factor!r} give normalized pixels "
            f"of {max(pixels):.3g}, above {largest:g} (the limit of float16 is {FLOAT16_MAX}); usual values are 0.5, 0.5 and 1/255."
        )


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number; `True` and `False` are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # math.isfinite raises OverflowError for an integer beyond the range of a float.
    return abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)
