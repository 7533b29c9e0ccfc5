# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A TubeViT out of an image model's checkpoint: every tensor is copied, transformed, or left behind for a stated reason.

`image_families` says what the families are, `source_checkpoints` reads a checkpoint, `kernel_inflation` makes the kernels of 3D
tubes, and `conversion_report` holds the account.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from .configuration_tubevit import TubeViTConfig
from .conversion_report import ConversionReport
from .image_families import grid_and_patch
from .kernel_inflation import TUBE_INITS
from .pooling import POOLING_CLASSES
from .source_checkpoints import ImageSource, load_image_source, quiet
from .tubes import MAIN_TUBES
from .weight_conversion import ImageMapping


POSITIONS = ("transfer", "fixed")
# What of the configuration is the checkpoint's to say: other values would need other weights.
DECIDED_BY_SOURCE = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps"),
    *("qkv_bias", "num_channels", "use_pre_layernorm", "use_gated_mlp", "num_register_tokens", "rope_theta"),
    *("position_grid", "position_interpolation", "pooler_act", "use_cls_token", "final_layernorm", "layerscale_value"),
)


@dataclass(frozen=True)
class ConversionChoices:
    """What `from_image_checkpoint` leaves to choose, which explains it. Raises `ValueError` for a choice there is not."""

    positions: str = "transfer"
    tube_init: str = "central"
    tubes: list[dict] | None = None
    num_frames: int = 32
    pooling: str = "source"
    image_size: int | tuple[int, int] | None = None

    def __post_init__(self):
        poolings = ("source", *POOLING_CLASSES)
        for name, allowed in (("positions", POSITIONS), ("tube_init", TUBE_INITS), ("pooling", poolings)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")


def convert_image_checkpoint(
    model_class: type,
    name: str | os.PathLike,
    choices: ConversionChoices,
    has_classifier: bool,
    source_kwargs: Mapping[str, Any],
    config_overrides: Mapping[str, Any],
) -> tuple[Any, ConversionReport]:
    """
    Load an image model and carry it over.

    model_class: class of the TubeViT. has_classifier: whether that has one, in place of the source's.
    source_kwargs: for the library's `from_pretrained`. config_overrides: fields of `TubeViTConfig`.

    Returns the model in evaluation mode, and the report. Raises `ValueError` for what cannot be carried over exactly.
    """
    source = load_image_source(name, has_classifier, **source_kwargs)
    keeps_labels = bool(source.readout.classifiers) and not {"num_labels", "id2label"} & set(config_overrides)
    config = make_config(source, choices, keeps_labels, config_overrides)
    keeps_classifier = keeps_labels and config.pooling == source.readout.fields["pooling"]
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in model_class(config).state_dict().items()}
    report = ConversionReport(str(name), source.class_name, model_class.__name__)
    weights = ImageMapping(source, config, shapes, report, choices.tube_init, keeps_classifier).convert_weights()
    with quiet():
        model = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=source.dtype)
    return model, report


def make_config(
    source: ImageSource, choices: ConversionChoices, keeps_labels: bool, overrides: Mapping[str, Any]
) -> TubeViTConfig:
    """The configuration of the TubeViT. Raises `ValueError` for an override that contradicts the checkpoint."""
    _refuse_other_widths(source)
    config, family = source.config, source.family
    grid, patch = grid_and_patch(config)
    shared = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "layer_norm_eps",
        "num_channels",
    )
    values = {key: getattr(config, key) for key in shared} | {
        "initializer_range": getattr(config, "initializer_range", 0.02),
        "use_cls_token": True if family.cls else None,
        "num_frames": choices.num_frames,
        "image_size": list(source.image_size) if choices.image_size is None else choices.image_size,
        "position_embedding": choices.positions,
        **family.fields(config),
        **source.statistics,
        **_pooling_fields(source, choices.pooling),
    }
    if choices.positions == "fixed":
        values["rope_theta"] = None
    elif family.positions is not None:
        values |= {"position_grid": list(grid), "position_interpolation": family.position_interpolation}
    if keeps_labels:
        labels = source.model_config
        values |= {"id2label": labels.id2label, "label2id": labels.label2id, "problem_type": labels.problem_type}
    if overrides.get("position_embedding", choices.positions) != choices.positions and "transfer" in (
        choices.positions,
        overrides["position_embedding"],
    ):
        raise ValueError(
            f"position_embedding={overrides['position_embedding']!r} contradicts positions={choices.positions!r}; the kinds other "
            "than 'transfer' go with positions='fixed'."
        )
    for key in set(overrides) & set(DECIDED_BY_SOURCE):
        if overrides[key] != values.get(key):
            raise ValueError(
                f"{key}={overrides[key]!r} was given, but the checkpoint decides it: {values.get(key)!r}."
            )
    made = _with_patch_tube(values | dict(overrides), choices.tubes, patch)
    _refuse_unknown(overrides)
    return made


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for what is no field of the configuration, such as an argument of `from_pretrained`."""
    known = {*TubeViTConfig.__annotations__, *PreTrainedConfig.__annotations__, "num_labels"} - {"dtype"}
    for name in overrides:
        if name not in known:
            raise ValueError(
                f"{name} is no field of TubeViTConfig; arguments for loading the source go into source_kwargs, such as "
                f"source_kwargs={{{name!r}: {overrides[name]!r}}}."
            )


def _pooling_fields(source: ImageSource, pooling: str) -> dict[str, str]:
    own = source.readout.fields
    # A pooling that is not the source's own reads normalised tokens, as the paper's does.
    return dict(own) if pooling in ("source", own["pooling"]) else {"pooling": pooling}


def _with_patch_tube(values: dict[str, Any], tubes: list[dict] | None, patch: tuple[int, int]) -> TubeViTConfig:
    """
    The configuration with `tubes`, by default the 3D ones of the main configuration, and the image model's patch as the 2D
    tube, which is added to the end if `tubes` has none. Raises `ValueError` if it has another one.
    """
    own = {"kernel_size": [1, *patch], "stride": [32, *patch]}
    if tubes is None:
        tubes = [*(tube for tube in MAIN_TUBES if tube["kernel_size"][0] > 1), own]
    config = TubeViTConfig(**values, tubes=tubes)
    if not config.get_image_tubes():
        return TubeViTConfig(**values, tubes=[*tubes, own])
    for tube in config.get_image_tubes():
        if tube.kernel_size[1:] != patch or tube.stride[1:] != patch or tube.num_merged > 1 or any(tube.offset):
            raise ValueError(
                f"The 2D tube of this checkpoint is its patch, kernel and stride {patch[0]}x{patch[1]} without an offset; "
                f"tubes has one with {tube} and stride {list(tube.stride)}."
            )
    return config


def _refuse_other_widths(source: ImageSource) -> None:
    config = source.config
    width, num_heads = config.hidden_size, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or width // num_heads
    if head_dim * num_heads != width:
        raise ValueError(
            f"Attention with {num_heads} heads of {head_dim} channels in a model of width {width} cannot be carried over: "
            "their product must be the width."
        )
    pooler_width = getattr(config, "pooler_output_size", width)
    if "pooler_act" in source.readout.fields and pooler_width != width:
        raise ValueError(
            f"A pooler of {pooler_width} channels in a model of width {width} cannot be carried over: they must be equal."
        )
