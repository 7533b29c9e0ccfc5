# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Initialize a TubeViT from an image model's checkpoint: every tensor is copied, transformed, or unused for a stated reason.

`image_families` describes the supported models, `source_checkpoints` reads a checkpoint, `weight_conversion` converts its
tensors, `kernel_inflation` computes the kernels of 3D tubes, and `conversion_report` lists what happened to every tensor.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from .config_checks import is_known, nearest_field, unknown_field
from .configuration_tubevit import TubeViTConfig
from .conversion_report import ConversionReport
from .image_families import grid_and_patch
from .kernel_inflation import TUBE_INITS
from .pooling import POOLING_CLASSES
from .source_checkpoints import ImageSource, load_image_source, without_warnings
from .tubes import MAIN_TUBES
from .weight_conversion import WeightConverter


POSITIONS = ("transfer", "fixed")
# Config fields that the checkpoint determines: other values would need other weights.
DETERMINED_BY_SOURCE = (
    *("hidden_size", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps"),
    *("qkv_bias", "num_channels", "use_pre_layernorm", "use_gated_mlp", "num_register_tokens", "rope_theta"),
    *("position_grid", "position_interpolation", "pooler_act", "use_cls_token", "final_layernorm", "layerscale_value"),
)


@dataclass(frozen=True)
class ConversionChoices:
    """The choices of a conversion, see `convert_image_checkpoint`. Raises `ValueError` for an unknown choice."""

    positions: str
    tube_init: str
    tubes: list[dict] | None
    add_patch_tube: bool
    num_frames: int
    pooling: str
    image_size: int | tuple[int, int] | None

    def __post_init__(self):
        poolings = ("source", *POOLING_CLASSES)
        for name, allowed in (("positions", POSITIONS), ("tube_init", TUBE_INITS), ("pooling", poolings)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")


def convert_image_checkpoint(
    model_class: type[PreTrainedModel],
    name_or_path: str | os.PathLike,
    *,
    positions: str | None = None,
    tube_init: str = "central",
    tubes: list[dict] | None = None,
    add_patch_tube: bool = True,
    num_frames: int = 32,
    pooling: str = "source",
    image_size: int | tuple[int, int] | None = None,
    output_report: bool = False,
    source_kwargs: Mapping[str, Any] | None = None,
    **config_overrides,
) -> Any:
    """
    A TubeViT initialized from an image model of Transformers: ViT, DeiT, DINOv2 (with or without registers), DINOv3 ViT, or
    the vision tower of SigLIP, SigLIP 2 or CLIP. `TubeViTModel.from_image_checkpoint` and its subclasses call this function.

    With the defaults an image gives the source's features, pooled vector and logits up to rounding. The kernels of the 3D
    tubes are initialized from its patch kernel.

    model_class: class of the TubeViT.
    name_or_path: folder of the image model, or its name on the Hub; the weights must be safetensors.
    positions: `"transfer"`, the source's spatial positions at the tubes' centers plus the fixed temporal code minus its value
        at t = 0, times the config field `temporal_position_scale` (`position_embedding="transfer"`); or `"fixed"`, the paper's
        position embedding. By default "transfer"; "fixed" if the config field `position_embedding="fixed"` is given.
    tube_init: initialization of 3D kernels: `"central"`, the patch kernel at the central frame and zeros at the others;
        `"average"`, the patch kernel divided by the number of frames at every frame; or `"random"`. The patch kernel is
        resized to the tube's rows and columns.
    tubes: the tubes; by default the 3D tubes of the main configuration.
    add_patch_tube: add the source's patch as the 2D tube unless `tubes` has it. Without a 2D tube the model takes no images.
    num_frames: number of frames of the configured clip.
    pooling: `"source"`, the pooling of the source (of its classifier if the model has one), or any `config.pooling`;
        `"attention"` uses SigLIP's pooling head if the source has it.
    image_size: side or (height, width) of the clips; by default the size of the source's preprocessed images.
    output_report: also return the `ConversionReport`, which lists every tensor of both models.
    source_kwargs: for `from_pretrained` of the source, such as `{"revision": "main"}`.
    config_overrides: fields of `TubeViTConfig`. With `num_labels` or `id2label` the classifier is newly initialized;
        otherwise a classification model gets the classifier and the labels of the source, if the source has them and the
        pooling is that of the source. `num_hidden_layers=N` takes the first N layers of the source, with its last layer norm, and a
        new classifier. `use_cls_token=False` leaves out the source's CLS token, for a pooling that does not read it.

    The weights are float32 also for a source in half precision, because the new parts must be trained; `source_kwargs={"dtype": ...}`
    chooses another dtype. Without an image processor, the pixel statistics are those with which the source's family was trained.

    Returns the model in evaluation mode, or `(model, report)`. Raises `ValueError` for a source that cannot be converted
    exactly, and `OSError` if there is no checkpoint.
    """
    if positions is None:
        positions = "fixed" if config_overrides.get("position_embedding") == "fixed" else "transfer"
    choices = ConversionChoices(positions, tube_init, tubes, add_patch_tube, num_frames, pooling, image_size)
    source = load_image_source(name_or_path, hasattr(model_class, "classify"), **source_kwargs or {})
    _refuse_unknown(config_overrides)
    keeps_labels = bool(source.pooling.classifiers) and not {"num_labels", "id2label"} & set(config_overrides)
    config = make_config(source, choices, keeps_labels, config_overrides)
    is_whole = config.num_hidden_layers == source.config.num_hidden_layers
    keeps_classifier = keeps_labels and is_whole and config.pooling == source.pooling.fields["pooling"]
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in model_class(config).state_dict().items()}
    report = ConversionReport(str(name_or_path), source.class_name, model_class.__name__)
    report.assumed |= source.assumed
    weights = WeightConverter(source, config, shapes, report, tube_init, keeps_classifier).convert_weights()
    with without_warnings():
        model = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=source.dtype)
    return (model, report) if output_report else model


def make_config(
    source: ImageSource, choices: ConversionChoices, keeps_labels: bool, overrides: Mapping[str, Any]
) -> TubeViTConfig:
    """The config of the TubeViT. Raises `ValueError` for an override that contradicts the checkpoint."""
    _check_widths(source)
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
            f"position_embedding={overrides['position_embedding']!r} contradicts positions={choices.positions!r}; every "
            "position_embedding except 'transfer' needs positions='fixed'."
        )
    for key in set(overrides) & set(DETERMINED_BY_SOURCE):
        leaves_out_cls = key == "use_cls_token" and overrides[key] is False
        if overrides[key] != values.get(key) and not leaves_out_cls:
            raise ValueError(
                f"{key}={overrides[key]!r} was given, but the checkpoint determines it: {values.get(key)!r}."
            )
    num_layers = overrides.get("num_hidden_layers")
    if isinstance(num_layers, int) and num_layers > config.num_hidden_layers:  # the config refuses other types
        raise ValueError(
            f"num_hidden_layers={num_layers} was given, and the checkpoint has {config.num_hidden_layers} layers: give at most that."
        )
    return _with_patch_tube(values | dict(overrides), choices.tubes, patch, choices.add_patch_tube)


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an override that is not a config field, such as an argument of `from_pretrained`."""
    for name in overrides:
        if is_known(TubeViTConfig, name) and name not in ("dtype", "torch_dtype"):
            continue
        if nearest_field(TubeViTConfig, name) is not None:
            raise ValueError(unknown_field(TubeViTConfig, name))
        raise ValueError(
            f"{name} is not a field of TubeViTConfig; arguments for loading the source belong in source_kwargs, such as "
            f"source_kwargs={{{name!r}: {overrides[name]!r}}}."
        )


def _pooling_fields(source: ImageSource, pooling: str) -> dict[str, str]:
    own = source.pooling.fields
    # A pooling other than the source's reads normalized tokens, as the paper's does.
    return dict(own) if pooling in ("source", own["pooling"]) else {"pooling": pooling}


def _with_patch_tube(
    values: dict[str, Any], tubes: list[dict] | None, patch: tuple[int, int], is_added: bool
) -> TubeViTConfig:
    """
    The config with `tubes`, by default the 3D tubes of the main configuration. With `is_added`, the image model's patch is appended as
    the 2D tube if `tubes` has no 2D tube. Raises `ValueError` if `tubes` has another 2D tube.
    """
    patch_tube = {"kernel_size": [1, *patch], "stride": [32, *patch]}
    if tubes is None:
        tubes = [*(tube for tube in MAIN_TUBES if tube["kernel_size"][0] > 1), *([patch_tube] if is_added else [])]
    config = TubeViTConfig(**values, tubes=tubes)
    if is_added and not config.get_image_tubes():
        return TubeViTConfig(**values, tubes=[*tubes, patch_tube])
    for tube in config.get_image_tubes():
        if tube.kernel_size[1:] != patch or tube.stride[1:] != patch or tube.num_merged > 1 or any(tube.offset):
            raise ValueError(
                f"The 2D tube of this checkpoint is its patch, kernel and stride {patch[0]}x{patch[1]} without an offset; "
                f"tubes has one with {tube} and stride {list(tube.stride)}."
            )
    return config


def _check_widths(source: ImageSource) -> None:
    """Raise `ValueError` for attention or a pooler that is not as wide as the tokens."""
    config = source.config
    width, num_heads = config.hidden_size, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or width // num_heads
    if head_dim * num_heads != width:
        raise ValueError(
            f"Attention with {num_heads} heads of {head_dim} channels in a model of width {width} cannot be converted: "
            "their product must be the width."
        )
    pooler_width = getattr(config, "pooler_output_size", width)
    if "pooler_act" in source.pooling.fields and pooler_width != width:
        raise ValueError(
            f"A pooler of {pooler_width} channels in a model of width {width} cannot be converted: they must be equal."
        )
