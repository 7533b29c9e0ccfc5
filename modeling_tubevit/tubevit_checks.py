# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The checks of `TubeViTConfig` that other families do not need: tubes, positions, pooling, scaling and heads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .config_checks import (
    check_activation,
    check_divides,
    check_labels,
    check_numbers,
    check_pixel_statistics,
    is_number,
)
from .tubes import Tube, select_tubes


if TYPE_CHECKING:
    from .configuration_tubevit import TubeViTConfig


MODALITIES = ("video", "image")
HEAD_KEYS = ("modality", "num_labels", "id2label", "problem_type", "loss_weight")
HEAD_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")

COUNTS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels", "num_frames"),
    *("image_size", "interpolated_kernel_size", "position_grid"),
    *("decoder_num_hidden_layers", "decoder_num_attention_heads", "decoder_intermediate_size"),
)
COUNTS_FROM_0 = ("num_register_tokens", "num_extra_layers", "num_frozen_layers", "gate_layer")
# Allowed values of fields that are numbers or lists of numbers.
RANGES = (
    (COUNTS, "at least 1", lambda value: value >= 1),
    (COUNTS_FROM_0, "at least 0", lambda value: value >= 0),
    # torch would report a larger count as an overflow.
    (COUNTS + COUNTS_FROM_0, "at most 1,000,000", lambda value: value <= 1_000_000),
    (
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "drop_path_rate"),
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
    ),
    (("initializer_range", "layer_norm_eps", "rescale_factor", "image_std"), "above 0", lambda value: value > 0),
    (("position_temperature", "rope_theta"), "above 1", lambda value: value > 1),
    (("temporal_position_scale",), "at least 0", lambda value: value >= 0),
    (("mask_ratio",), "above 0 and below 1", lambda value: 0 < value < 1),
    # The position code has groups of 6 channels.
    (("decoder_hidden_size",), "from 6 to 1,000,000", lambda value: 6 <= value <= 1_000_000),
    (("image_mean", "layerscale_value"), "finite", lambda value: True),
)


def known_part(saved: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """
    The saved fields `tubes` and `heads` with the keys that this version knows, and the names of the other keys, such as
    `"tubes[0].new_key"` and `"heads[kinetics].new_key"`.
    """
    known: dict[str, Any] = {}
    ignored: list[str] = []
    for name, keys in (("tubes", list(Tube.__dataclass_fields__)), ("heads", HEAD_KEYS)):
        entries = saved.get(name)
        if not isinstance(entries, (list, tuple, dict)):
            continue
        items = list(entries.items() if isinstance(entries, dict) else enumerate(entries))
        for index, values in items:
            if isinstance(values, dict):
                ignored += [f"{name}[{index}].{key}" for key in values if key not in keys]
        parts = {index: _part(values, keys) for index, values in items}
        known[name] = parts if isinstance(entries, dict) else list(parts.values())
    return known, ignored


def _part(values: Any, keys: Sequence[str]) -> Any:
    return {key: value for key, value in values.items() if key in keys} if isinstance(values, dict) else values


def check_architecture(config: "TubeViTConfig") -> None:
    """Raise `ValueError` for a field with a wrong value, and for fields that do not fit together."""
    check_numbers(config, RANGES)
    _check_sizes(config)
    check_pixel_statistics(config)
    check_divides(config, "num_attention_heads")
    check_divides(config, "decoder_num_attention_heads", "decoder_hidden_size")
    if config.hidden_size < 6:
        raise ValueError(
            f"hidden_size must be at least 6 (the position code has groups of 6), got {config.hidden_size}."
        )
    check_labels(config)
    check_activation(config)
    if config.pooler_act is not None:
        check_activation(config, "pooler_act")
    _check_kernels(config)
    _check_frame_differences(config)
    _check_positions(config)
    _check_pooling(config)
    _check_scaling(config)
    height, width = config.image_height_width
    select_tubes(config.get_tubes(), (config.num_frames, height, width), config.allow_missing_tubes)
    if config.get_image_tubes() and not any(tube.fits((1, height, width)) for tube in config.get_image_tubes()):
        raise ValueError(f"No tube fits an image of image_size {height}x{width}.")


def _check_sizes(config: "TubeViTConfig") -> None:
    if not isinstance(config.image_size, int) and len(config.image_size) != 2:
        raise ValueError(f"image_size must be one integer or (height, width), got {config.image_size!r}.")


def _check_kernels(config: "TubeViTConfig") -> None:
    if len(config.interpolated_kernel_size) != 3:
        raise ValueError(
            f"interpolated_kernel_size must be three integers (time, height, width), got "
            f"{config.interpolated_kernel_size!r}."
        )
    for index, tube in enumerate(config.get_tubes()):
        if config.hidden_size % tube.num_merged:
            raise ValueError(
                f"tubes[{index}] merges {tube.num_merged} outputs into a token by space_to_depth "
                f"{list(tube.space_to_depth)}, which does not divide hidden_size {config.hidden_size}."
            )


def _check_positions(config: "TubeViTConfig") -> None:
    if config.position_grid is not None and len(config.position_grid) != 2:
        raise ValueError(f"position_grid must be two integers (rows, columns), got {config.position_grid!r}.")
    if config.position_embedding == "transfer" and (config.position_grid is None) == (config.rope_theta is None):
        raise ValueError(
            "position_embedding='transfer' needs either position_grid, for learned positions, or rope_theta, for rotary "
            f"positions, got {config.position_grid!r} and {config.rope_theta!r}."
        )
    if config.position_embedding != "transfer" and config.temporal_position_scale != 1:
        raise ValueError(
            f"temporal_position_scale={config.temporal_position_scale!r} needs position_embedding='transfer', got {config.position_embedding!r}."
        )
    head_dim = config.hidden_size // config.num_attention_heads
    if config.rope_theta is not None and head_dim % 4:
        raise ValueError(
            "rope_theta needs a head dimension that is a multiple of 4 (sine and cosine of two axes), got hidden_size / "
            f"num_attention_heads = {head_dim}."
        )


def _check_frame_differences(config: "TubeViTConfig") -> None:
    if config.frame_difference_type == "absolute":
        return
    if not config.use_frame_differences:
        raise ValueError(f"frame_difference_type={config.frame_difference_type!r} needs use_frame_differences=True.")
    if config.kernel_initialization == "temporal_difference":
        raise ValueError(
            "kernel_initialization='temporal_difference' makes kernels whose frames add up to 0, and frame_difference_type='rms' uses "
            "only this sum: use 'normal' or 'fan_in'."
        )


def check_pooling_grid(pooling: str, grid: Sequence[int] | None) -> None:
    """Raise `ValueError` for a grid without `pooling="grid"`, for that pooling without a grid, and for a grid of wrong numbers."""
    if (pooling == "grid") != (grid is not None):
        raise ValueError(
            "pooling='grid' and pooling_grid need each other, such as pooling_grid=[4, 3, 3], got "
            f"pooling={pooling!r} and pooling_grid={grid!r}."
        )
    if grid is not None and (len(grid) != 3 or min(grid) < 1):
        raise ValueError(f"pooling_grid must be three integers of at least 1 (time, height, width), got {grid!r}.")


def _check_pooling(config: "TubeViTConfig") -> None:
    if config.pooling.startswith("cls") and not config.has_cls_token:
        raise ValueError(f"pooling={config.pooling!r} needs the CLS token, which use_cls_token=False removes.")
    check_pooling_grid(config.pooling, config.pooling_grid)
    if config.pooler_act is not None and config.pooling != "cls":
        raise ValueError(f"pooler_act needs pooling='cls', got {config.pooling!r}.")
    if config.final_layernorm == "pooled" and (
        config.pooled_size != config.hidden_size or config.pooler_act is not None
    ):
        raise ValueError(
            "final_layernorm='pooled' needs a pooled vector as wide as a token and no pooler_act, got "
            f"pooling={config.pooling!r} and pooler_act={config.pooler_act!r}."
        )


def _check_scaling(config: "TubeViTConfig") -> None:
    num_frozen, num_layers = config.num_frozen_layers, config.num_hidden_layers
    if num_frozen > num_layers:
        raise ValueError(f"num_frozen_layers must be at most num_hidden_layers, {num_layers}, got {num_frozen}.")
    if num_frozen and config.num_extra_layers:
        raise ValueError(
            f"num_extra_layers={config.num_extra_layers} adds new layers that need training among the layers that "
            f"num_frozen_layers={num_frozen} freezes: use one of the two."
        )
    if config.gate_layer is not None and not num_frozen <= config.gate_layer < num_layers:
        raise ValueError(
            "gate_layer must be a trained layer, from num_frozen_layers to num_hidden_layers - 1, that is "
            f"{num_frozen} to {num_layers - 1}, got {config.gate_layer}."
        )


def complete_heads(heads: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """
    `TubeViTConfig.heads`, the data sets of joint training (section 3.5), with a value for every key. Defaults: labels `LABEL_0`,
    ... for a given `num_labels`, `problem_type="single_label_classification"`, and `loss_weight=1.0`. The keys of `id2label`
    become strings, as in JSON.

    Raises `ValueError` with the data set, the key and the allowed values.
    """
    if not isinstance(heads, dict) or not heads:
        raise ValueError(f"heads must be a dict of at least one data set, got {heads!r}.")
    return {str(name): _complete_head(str(name), values) for name, values in heads.items()}


def _complete_head(name: str, values: dict[str, Any]) -> dict[str, Any]:
    # The name becomes a part of parameter names, which use dots as separators.
    if not name or "." in name:
        raise ValueError(f"heads: {name!r} cannot name a data set: it must not be empty or contain a dot.")
    if not isinstance(values, dict):
        raise ValueError(f"heads[{name!r}] must be a dict with the keys {', '.join(HEAD_KEYS)}, got {values!r}.")
    if unknown := sorted(map(str, set(values) - set(HEAD_KEYS))):
        raise ValueError(
            f"heads[{name!r}] has the unknown key {unknown[0]!r}; allowed keys are {', '.join(HEAD_KEYS)}."
        )
    modality = values.get("modality")
    if modality not in MODALITIES:
        raise ValueError(f"heads[{name!r}] needs modality as 'video' or 'image', got {modality!r}.")
    problem_type = values.get("problem_type") or HEAD_PROBLEM_TYPES[0]
    if problem_type not in HEAD_PROBLEM_TYPES:
        raise ValueError(
            f"heads[{name!r}]: problem_type must be one of {', '.join(HEAD_PROBLEM_TYPES)}, got {problem_type!r}."
        )
    weight = values.get("loss_weight", 1.0)
    if not is_number(weight) or weight < 0:
        raise ValueError(f"heads[{name!r}]: loss_weight must be a number of at least 0, got {weight!r}.")
    id2label = _head_labels(name, values.get("num_labels"), values.get("id2label"))
    return {
        "modality": modality,
        "num_labels": len(id2label),
        "id2label": id2label,
        "problem_type": problem_type,
        "loss_weight": weight,
    }


def _head_labels(name: str, num_labels: int | None, id2label: dict | None) -> dict[str, str]:
    if id2label is None:
        if isinstance(num_labels, bool) or not isinstance(num_labels, int) or num_labels < 1:
            raise ValueError(f"heads[{name!r}] needs id2label, or num_labels of at least 1, got {num_labels!r}.")
        return {str(index): f"LABEL_{index}" for index in range(num_labels)}
    labels = {str(index): label for index, label in id2label.items()} if isinstance(id2label, dict) else {}
    if not labels or set(labels) != {str(index) for index in range(len(labels))}:
        raise ValueError(f"heads[{name!r}]: id2label must name the classes 0, 1, ... without a gap, got {id2label!r}.")
    if num_labels not in (None, len(labels)):
        raise ValueError(f"heads[{name!r}] has num_labels={num_labels}, but id2label names {len(labels)} classes.")
    return {str(index): labels[str(index)] for index in range(len(labels))}
