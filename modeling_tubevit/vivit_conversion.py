# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Weights of ViViT's Models 1 to 4 between Scenic's layout and ours, exactly in both directions.

Scenic's Model 4 has the names and shapes of its Model 1 without a class token, so the file does not tell the two apart.
"""

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch

from .checkpoint_files import describe_state, load_state
from .configuration_factorized_vivit import FactorizedViViTConfig
from .source_checkpoints import load_complete
from .state_mapping import StateMapping, check_tensors, load_converted


# Our names of a stack of layers with its positions, norm and class token, and Scenic's name of the encoder.
ENCODERS = {
    "": ("Transformer", "cls"),
    "spatial_": ("SpatialTransformer", "cls_SpatialTransformer"),
    "temporal_": ("TemporalTransformer", "cls_TemporalTransformer"),
}
PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "out"}
NORMS = {"layernorm_before": "LayerNorm_0", "layernorm_after": "LayerNorm_1"}
TWO_ATTENTIONS_NORMS = {
    "layernorm_before": "LayerNorm_space",
    "layernorm_temporal": "LayerNorm_time",
    "layernorm_after": "LayerNorm_mlp",
}
PATCHES = "embedding/kernel"
# Parts of the paths of the optimizer's state in files of Scenic's `TrainState`, and where the parameters are.
OPTIMIZER_STATE = frozenset(("opt_state", "param_states", "trace", "mu", "nu", "momentum", "grad_ema", "grad_sq_ema"))
PREFERRED_PREFIXES = ("optimizer/target/", "params/", "")


class ScenicMapping(StateMapping):
    """Our names and shapes to those of Scenic's parameters, whose paths are written with slashes."""

    def __init__(self, config: FactorizedViViTConfig):
        self.config = config
        self.has_two_attentions = config.factorization == "self_attention"
        self.first = "spatial_" if config.factorization == "encoder" else ""

    def source_name(self, name: str) -> tuple[str, int | None]:
        name = name.removeprefix("factorized_vivit.")
        if name in ("cls_token", "temporal_cls_token"):
            return ENCODERS["temporal_" if name.startswith("temporal_") else self.first][1], None
        if match := re.fullmatch(r"(temporal_)?positions\.table", name):
            return f"{ENCODERS[match[1] or self.first][0]}/posembed_input/pos_embedding", None
        if match := re.fullmatch(r"embeddings\.patch_embedding\.(\w+)", name):
            return f"embedding/{_kind(match[1])}", None
        if match := re.fullmatch(r"classifier\.(\w+)", name):
            return f"output_projection/{_kind(match[1])}", None
        if match := re.fullmatch(r"((?:spatial_|temporal_)?)layernorm\.(\w+)", name):
            return f"{ENCODERS[match[1]][0]}/encoder_norm/{_kind(match[2], 'scale')}", None
        if match := re.fullmatch(r"((?:spatial_|temporal_)?)layers\.(\d+)\.(.+)", name):
            return f"{ENCODERS[match[1]][0]}/encoderblock_{match[2]}/{self._in_layer(match[3])}", None
        raise KeyError(name)

    def _in_layer(self, name: str) -> str:
        module, *middle, kind = name.split(".")
        if module.startswith("layernorm"):
            norms = TWO_ATTENTIONS_NORMS if self.has_two_attentions else NORMS
            return f"{norms[module]}/{_kind(kind, 'scale')}"
        if module == "mlp":
            block = "MlpBlock" if self.has_two_attentions else "MlpBlock_0"
            return f"{block}/Dense_{int(middle[0][-1]) - 1}/{_kind(kind)}"
        axis = "time" if module == "temporal_attention" else "space"
        suffix = axis if self.has_two_attentions else "0"
        return f"MultiHeadDotProductAttention_{suffix}/{PROJECTIONS[middle[0]]}/{_kind(kind)}"

    def _num_heads(self, source: str) -> int:
        is_temporal = source.startswith("TemporalTransformer")
        heads = self.config.temporal_num_attention_heads if is_temporal else self.config.num_attention_heads
        assert heads is not None  # the config fills it in
        return heads

    def source_shape(self, source: str, shape: torch.Size) -> tuple[int, ...]:
        if source == PATCHES:
            outputs, channels, *size = shape
            return (*size, channels, outputs)
        if match := re.search(r"/(query|key|value|out)/(kernel|bias)$", source):
            heads = self._num_heads(source)
            if match[2] == "bias":
                return tuple(shape) if match[1] == "out" else (heads, shape[0] // heads)
            outputs, inputs = shape
            is_out = match[1] == "out"
            return (heads, inputs // heads, outputs) if is_out else (inputs, heads, outputs // heads)
        return tuple(reversed(shape)) if source.endswith("/kernel") else tuple(shape)

    def from_source(self, source: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if source == PATCHES:
            return tensor.permute(4, 3, 0, 1, 2)
        if not source.endswith("/kernel"):
            return tensor.reshape(shape)
        matrix = tensor.flatten(0, 1) if source.endswith("/out/kernel") else tensor.flatten(1)
        return matrix.T

    def to_source(self, source: str, tensor: torch.Tensor) -> torch.Tensor:
        if source == PATCHES:
            return tensor.permute(2, 3, 4, 1, 0).contiguous()
        shape = self.source_shape(source, tensor.shape)
        return (tensor.T if source.endswith("/kernel") else tensor).reshape(shape).contiguous()


def _kind(name: str, weight: str = "kernel") -> str:
    return weight if name == "weight" else name


def is_scenic_state(state: Mapping[str, Any]) -> bool:
    """Whether the names of a file are the paths of a Scenic ViViT."""
    return bool(_prefixes(state))


def scenic_names(state: Mapping[str, Any]) -> dict[str, str] | None:
    """
    The names of a file by the paths of the parameters, without a prefix such as `optimizer/target/` and without the optimizer's state;
    `None` if the file has no encoder blocks.

    Raises `ValueError` if the file has the parameters of several models.
    """
    prefixes = _prefixes(state)
    if not prefixes:
        return None
    prefix = next((each for each in PREFERRED_PREFIXES if each in prefixes), prefixes[0])
    if len(prefixes) > 1 and prefix not in PREFERRED_PREFIXES:
        raise ValueError(
            f"The file holds the parameters of several models, under {', '.join(prefixes)}: give the tensors of one of them."
        )
    return {key.removeprefix(prefix): key for key in state if key.startswith(prefix) and not _is_of_optimizer(key)}


def _prefixes(state: Mapping[str, Any]) -> list[str]:
    """The prefix of the parameter paths of each model in the file; models with a patch kernel come first."""
    kernels = [key for key in state if f"/{key}".endswith(f"/{PATCHES}") and not _is_of_optimizer(key)]
    blocks = [
        re.split(r"(?:Spatial|Temporal)?Transformer/encoderblock_0/", key)
        for key in state
        if not _is_of_optimizer(key)
    ]
    encoders = {parts[0] for parts in blocks if len(parts) > 1}
    complete = [prefix for key in kernels if (prefix := key.removesuffix(PATCHES)) in encoders]
    return complete or sorted(encoders)


def _is_of_optimizer(key: str) -> bool:
    """Whether an array is of the optimizer's state, whose moments have the paths and shapes of the parameters."""
    return not OPTIMIZER_STATE.isdisjoint(key.split("/"))


def infer_config(state: Mapping[str, torch.Tensor], **overrides: Any) -> FactorizedViViTConfig:
    """
    The config of a Scenic model. overrides: fields that the arrays do not hold.

    These are `image_size` if frames are not square; for Models 1, 3 and 4 also one of `num_frames` and `image_size`; the
    `attention_order` of Model 3; and `factorization` for a model without a class token that may be Model 1 or Model 4.

    Raises `ValueError` that names a field that must be given, or a missing array.
    """
    shape, count = partial(_shape, state), partial(_count_blocks, state)
    *tubelet, channels, hidden_size = shape(PATCHES, 5)
    is_encoder = count("SpatialTransformer") > 0
    name = "SpatialTransformer" if is_encoder else "Transformer"
    first, has_cls = f"{name}/encoderblock_0", any(key in state for _, key in ENCODERS.values())
    has_two = f"{first}/LayerNorm_time/scale" in state
    fields: dict[str, Any] = {
        "factorization": "encoder" if is_encoder else "self_attention" if has_two else "spacetime",
        "pooling": "cls" if has_cls else "mean",
        "hidden_size": hidden_size,
        "num_hidden_layers": count(name),
        "num_attention_heads": shape(
            f"{first}/MultiHeadDotProductAttention_{'space' if has_two else '0'}/query/kernel", 3
        )[1],
        "intermediate_size": shape(f"{first}/{'MlpBlock' if has_two else 'MlpBlock_0'}/Dense_0/kernel", 2)[1],
        "tubelet_size": list(tubelet),
        "num_channels": channels,
        "num_labels": shape("output_projection/kernel", 2)[1],
    }
    is_ambiguous = not (is_encoder or has_two or has_cls)
    _check_given(overrides, ("spacetime", "dot_product") if is_ambiguous else (fields["factorization"],))
    if is_encoder:
        temporal = "TemporalTransformer/encoderblock_0"
        fields["temporal_num_hidden_layers"] = count("TemporalTransformer")
        if fields["temporal_num_hidden_layers"]:
            fields["temporal_num_attention_heads"] = shape(
                f"{temporal}/MultiHeadDotProductAttention_0/query/kernel", 3
            )[1]
            fields["temporal_intermediate_size"] = shape(f"{temporal}/MlpBlock_0/Dense_0/kernel", 2)[1]
            time = shape("TemporalTransformer/posembed_input/pos_embedding", 3)[1] - has_cls
            fields["num_frames"] = time * tubelet[0]
    fields |= {key: value for key, value in overrides.items() if value is not None}
    positions = shape(f"{name}/posembed_input/pos_embedding", 3)[1] - has_cls
    return FactorizedViViTConfig(**_complete_sizes(fields, positions))


def _check_given(overrides: Mapping[str, Any], fitting: tuple[str, ...]) -> None:
    """Raise a `ValueError` for a given factorization or order of attentions that does not fit the arrays, and for one that is missing."""
    given = overrides.get("factorization")
    if len(fitting) > 1 and given is None:
        raise ValueError(
            "The arrays are those of Model 1 without a class token, or of Model 4: give factorization='spacetime' or "
            "'dot_product' (--factorization)."
        )
    if given is not None and given not in fitting:
        raise ValueError(
            f"factorization={given!r} does not fit the arrays, which are those of {' or '.join(map(repr, fitting))}."
        )
    has_two = fitting == ("self_attention",)
    if not has_two and overrides.get("attention_order") is not None:
        raise ValueError(
            f"attention_order={overrides['attention_order']!r} has no effect: the arrays are not those of Model 3, which has two attentions."
        )
    if has_two and "attention_order" not in overrides:
        raise ValueError(
            "The arrays do not hold the order of Model 3's attentions: give attention_order (--attention-order)."
        )


def _shape(state: Mapping[str, torch.Tensor], name: str, rank: int) -> torch.Size:
    """The shape of an array. Raises `ValueError` if it is missing, or has another number of dimensions than `rank`."""
    if name not in state:
        raise ValueError(f"This is not a complete ViViT: the array {name} is missing.")
    if name == PATCHES and state[name].dim() == 4:
        raise ValueError(
            f"{PATCHES} is a 2D kernel, so this is an image ViT: FactorizedViViTForVideoClassification.from_image_checkpoint reads it."
        )
    if state[name].dim() != rank:
        raise ValueError(f"{name} must have {rank} dimensions, got the shape {tuple(state[name].shape)}.")
    return state[name].shape


def _count_blocks(state: Mapping[str, torch.Tensor], encoder: str) -> int:
    """The number of layers of an encoder."""
    pattern = re.compile(rf"{encoder}/encoderblock_(\d+)/")
    return len({match[1] for key in state if (match := pattern.match(key))})


def _complete_sizes(fields: dict[str, Any], positions: int) -> dict[str, Any]:
    """Add `num_frames` or `image_size` if the number of positions and the other one determine it. Raises `ValueError` if not."""
    time_unit, row_unit, column_unit = fields["tubelet_size"]
    is_encoder = fields["factorization"] == "encoder"
    if not is_encoder and "num_frames" not in fields and "image_size" not in fields:
        raise ValueError(
            f"The arrays hold {positions} positions, and not their grid: give num_frames or image_size (--num-frames, --image-size)."
        )
    frames = _whole_tubelets("num_frames", fields["num_frames"], time_unit) if "num_frames" in fields else None
    if "image_size" in fields:
        size = fields["image_size"]
        sides = [size, size] if isinstance(size, int) else size
        if not isinstance(sides, (list, tuple)) or len(sides) != 2:
            raise ValueError(f"image_size must be one integer or (height, width), got {size!r}.")
        height, width = (
            _whole_tubelets("image_size", side, unit)
            for side, unit in zip(sides, (row_unit, column_unit), strict=True)
        )
        per_index = (height // row_unit) * (width // column_unit)
        if not is_encoder and frames is None:
            fields["num_frames"] = frames = max(1, positions // per_index) * time_unit
    else:
        per_index = positions if is_encoder else positions // (cast(int, frames) // time_unit)
        rows = round(per_index**0.5)
        if rows**2 != per_index or row_unit != column_unit:
            raise ValueError(
                f"The arrays hold {per_index} positions per frame, which do not form a square grid: give image_size (--image-size)."
            )
        height = width = rows * row_unit
        fields["image_size"] = height
    time = 1 if is_encoder else cast(int, frames) // time_unit
    expected = time * (height // row_unit) * (width // column_unit)
    if expected != positions:
        raise ValueError(
            f"The arrays hold {positions} positions; num_frames={fields.get('num_frames')} and image_size={fields['image_size']} "
            f"with tubelets of {fields['tubelet_size']} make {expected}."
        )
    return fields


def _whole_tubelets(name: str, size: Any, unit: int) -> int:
    """A given size, which must be a multiple of the tubelet's."""
    if not isinstance(size, int) or size < unit or size % unit:
        nearest = f": use {max(1, round(size / unit)) * unit}" if isinstance(size, int) else ""
        raise ValueError(
            f"{name} must be a multiple of {unit}, the size of the file's tubelets, got {size!r}{nearest}."
        )
    return size


def load_scenic(model_class: Any, source: Any, report: Any = None, **overrides: Any) -> Any:
    """
    A model with the weights of a Scenic ViViT, in evaluation mode.

    source: a file of Flax, or its tree: nested dictionaries, or paths with slashes, of tensors or arrays. overrides: as in `infer_config`. report: a
    `ConversionReport` to fill.

    Raises `ValueError` for a file that is not a checkpoint, is damaged or holds another model, and for missing, additional, non-finite or
    wrongly shaped arrays.
    """
    dtype = overrides.pop("dtype", torch.float32)
    state = load_state(source)
    names = scenic_names(state)
    if names is None:
        raise ValueError(
            f"{source if isinstance(source, (str, os.PathLike)) else 'The state'} is not a ViViT of Scenic, which has arrays "
            f"Transformer/encoderblock_0/ or SpatialTransformer/encoderblock_0/: {describe_state(state)}."
        )
    tensors = {name: state[key] for name, key in names.items()}
    check_tensors(tensors, names)
    tensors = _unreplicate(tensors, names)
    config = infer_config(tensors, **overrides)
    return load_converted(
        model_class, config, tensors, ScenicMapping(config), dtype, names, report, "output_projection/", state
    )


def _unreplicate(tensors: dict[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """
    The arrays of one device, if the state was saved with those of all devices along a first axis, as JAX's `pmap` holds it. names: of the
    arrays in the file. Raises `ValueError` for devices whose arrays differ.
    """
    kernel = tensors.get(PATCHES)
    if kernel is None or kernel.dim() != 6:
        return tensors
    for name, value in tensors.items():
        if value.shape[:1] != kernel.shape[:1] or not torch.equal(value, value[:1].expand_as(value)):
            raise ValueError(
                f"The arrays have a first axis of {len(kernel)} devices, but those of {names[name]} differ: give the arrays of one device."
            )
    return {name: value[0] for name, value in tensors.items()}


def to_scenic(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a model by the paths and with the shapes of Scenic's parameters."""
    return ScenicMapping(model.config).invert(model.state_dict())


class LibraryMapping(StateMapping):
    """Our names of Model 1 to those of Transformers' `VivitForVideoClassification`, as it has them in memory."""

    NAMES = (
        (r"cls_token", "vivit.embeddings.cls_token"),
        (r"positions\.table", "vivit.embeddings.position_embeddings"),
        (r"embeddings\.patch_embedding\.(\w+)", r"vivit.embeddings.patch_embeddings.projection.\1"),
        (r"layers\.(\d+)\.(.+)", r"vivit.layers.\1.\2"),
        (r"layernorm\.(\w+)", r"vivit.layernorm.\1"),
        (r"classifier\.(\w+)", r"classifier.\1"),
    )

    def source_name(self, name: str) -> tuple[str, int | None]:
        name = name.removeprefix("factorized_vivit.")
        for pattern, replacement in self.NAMES:
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement), None
        raise KeyError(name)


def load_library_vivit(model_class: Any, source: Any, report: Any = None, **overrides: Any) -> Any:
    """
    Model 1 with the weights of Transformers' `VivitForVideoClassification`, in evaluation mode: the same function.

    source: the model, its folder or its name on the Hub. overrides: fields of `FactorizedViViTConfig`. report: a
    `ConversionReport` to fill.

    Raises `ValueError` for a checkpoint of another model type, and for missing or non-finite tensors.
    """
    from transformers import VivitForVideoClassification

    dtype = overrides.pop("dtype", torch.float32)
    has_head = not hasattr(model_class, "frozen_modules")  # only the backbone class has this attribute
    if not isinstance(source, VivitForVideoClassification):
        may_lack = r"pooler\." if has_head else r"pooler\.|classifier\."
        source = load_complete(VivitForVideoClassification, source, ("vivit",), may_lack=may_lack, dtype=dtype)
    theirs = source.config
    same = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "layer_norm_eps",
    )
    others = (
        "image_size",
        "num_frames",
        "num_channels",
        "tubelet_size",
        "qkv_bias",
        "id2label",
        "label2id",
        "problem_type",
    )
    fields = {name: getattr(theirs, name) for name in same + others} | {"factorization": "spacetime", "pooling": "cls"}
    if fields["hidden_act"] == "gelu_fast":
        fields["hidden_act"] = "gelu_pytorch_tanh"  # the same function without the rounded constant, six times as fast
    config = FactorizedViViTConfig(**fields | overrides)
    dropped = ("vivit.pooler.",) if has_head else ("vivit.pooler.", "classifier.")
    tensors = {name: value for name, value in source.state_dict().items() if not name.startswith(dropped)}
    check_tensors(tensors)
    return load_converted(model_class, config, tensors, LibraryMapping(), dtype, report=report)
