# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Initialize one of ViViT's Models 1 to 4 from an image ViT, of Transformers or of Scenic (paper, section 3.4, and Scenic's code).

The classifier, both class tokens of Model 2 and its temporal encoder are new. Model 3's temporal attention is a copy of the
image model's attention, with a layer norm of its own at the default values.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint_files import describe_state, load_state
from .configuration_factorized_vivit import FactorizedViViTConfig
from .source_checkpoints import load_complete, without_warnings
from .state_mapping import check_overrides, check_tensors


KERNEL_INITS = ("central", "average")
POSITION_INITS = ("tile", "resize", "resize_tile")
TEMPORAL_ATTENTION_INITS = ("copy", "zero_output", "new")
FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps"),
    *("num_channels", "qkv_bias"),
)


def load_vit(
    model_class: Any,
    source: Any,
    *,
    kernel_init: str = "central",
    position_init: str = "tile",
    temporal_attention_init: str = "copy",
    tubelet_frames: int = 2,
    source_kwargs: Mapping[str, Any] | None = None,
    **config_overrides: Any,
) -> Any:
    """
    A ViViT initialized from an image ViT, in evaluation mode.

    source: a `ViTModel` or `ViTForImageClassification` of Transformers, its folder or its name on the Hub; or a Flax file of Scenic's ViT, or
        its arrays as tensors by their paths (then give `num_attention_heads` unless the arrays have it).
    kernel_init: `"central"`, the 2D kernel at the central frame of the tubelet and zeros at the others; or `"average"`, the kernel divided
        by the number of frames at every frame.
    position_init: `"tile"` repeats the source's positions over time; `"resize"` resizes the grid to all tokens of the clip at once, whose
        number must be a square; `"resize_tile"` resizes it to a frame and repeats it. Resizing is bilinear with aligned corners.
    temporal_attention_init: of Model 3; `"copy"` of the image model's attention, `"zero_output"`, the copy with a zero output projection (it
        adds nothing at first), or `"new"` weights.
    tubelet_frames: frames of a token; `tubelet_size` in `config_overrides` replaces it.
    source_kwargs: for `from_pretrained` of the source.
    config_overrides: fields of `FactorizedViViTConfig`, such as `factorization` and `num_labels`.

    Returns the model. Raises `ValueError` for another source, an unknown choice, an override that contradicts the source, and positions that
    do not fit.
    """
    for name, value, allowed in (
        ("kernel_init", kernel_init, KERNEL_INITS),
        ("position_init", position_init, POSITION_INITS),
        ("temporal_attention_init", temporal_attention_init, TEMPORAL_ATTENTION_INITS),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    state, fields = read_vit(source, source_kwargs or {})
    check_overrides(config_overrides, fields)
    rows, columns = state["patch.weight"].shape[2:]
    fields |= {"tubelet_size": [tubelet_frames, rows, columns]}
    config = FactorizedViViTConfig(**fields | config_overrides)
    if tuple(config.tubelet_size[1:]) != (rows, columns):
        raise ValueError(f"The source has patches of {rows}x{columns}, and tubelet_size is {config.tubelet_size}.")
    with torch.device("meta"):
        targets = model_class(config).state_dict()
    prefix = "" if hasattr(model_class, "frozen_modules") else f"{model_class.base_model_prefix}."
    weights = {
        f"{prefix}{name}": value
        for name, value in _weights(state, config, kernel_init, position_init, temporal_attention_init).items()
    }
    wrong = [name for name, value in weights.items() if name not in targets or targets[name].shape != value.shape]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors of the source do not fit the model, such as {wrong[0]}.")
    with without_warnings():
        return model_class.from_pretrained(None, config=config, state_dict=weights).eval()


def _weights(
    state: Mapping[str, torch.Tensor],
    config: FactorizedViViTConfig,
    kernel_init: str,
    position_init: str,
    temporal_attention_init: str,
) -> dict[str, torch.Tensor]:
    """The weights of the backbone that come from the source, by our names."""
    time, rows, columns = config.grid()
    is_encoder = config.factorization == "encoder"
    frames, kernel = config.tubelet_size[0], state["patch.weight"]
    if kernel_init == "central":
        inflated = torch.zeros(*kernel.shape[:2], frames, *kernel.shape[2:])
        inflated[:, :, frames // 2] = kernel
    else:
        inflated = (kernel / frames)[:, :, None].repeat(1, 1, frames, 1, 1)
    grid = (1 if is_encoder else time, rows, columns)
    stack = "spatial_" if is_encoder else ""
    weights = {
        "embeddings.patch_embedding.weight": inflated,
        "embeddings.patch_embedding.bias": state["patch.bias"],
        "positions.table": _positions(state, config.has_cls_token, grid, position_init),
    }
    if config.has_cls_token and not is_encoder and "cls" in state:
        weights["cls_token"] = state["cls"].reshape(1, 1, -1)
    for name, value in state.items():
        if name.startswith("norm."):
            weights[f"{stack}layernorm.{name.removeprefix('norm.')}"] = value
        if not name.startswith("layers."):
            continue
        weights[stack + name] = value
        if config.factorization == "self_attention" and ".attention." in name and temporal_attention_init != "new":
            is_zero = temporal_attention_init == "zero_output" and ".o_proj." in name
            weights[name.replace(".attention.", ".temporal_attention.")] = (
                torch.zeros_like(value) if is_zero else value.clone()
            )
    return weights


def _positions(state: Mapping[str, torch.Tensor], has_cls: bool, grid: tuple[int, int, int], how: str) -> torch.Tensor:
    table = state["positions"].reshape(-1, state["positions"].shape[-1])
    source_has_cls = "cls" in state
    prefix, table = table[: int(source_has_cls)], table[int(source_has_cls) :]
    side = round(len(table) ** 0.5)
    if side**2 != len(table):
        raise ValueError(f"The source has {len(table)} positions, which do not form a square grid.")
    time, rows, columns = grid
    if how == "resize":
        total = math.prod(grid)
        new_side = round(total**0.5)
        if new_side**2 != total:
            raise ValueError(
                f"position_init='resize' needs a square number of tokens, and the clip has {time}x{rows}x{columns} = {total}: use "
                "'resize_tile'."
            )
        table = _resize(table, side, (new_side, new_side))
    else:
        if (rows, columns) != (side, side):
            if how == "tile":
                raise ValueError(
                    f"position_init='tile' needs the source's grid of {side}x{side} patches, and the frames have {rows}x{columns}: use "
                    "'resize_tile'."
                )
            table = _resize(table, side, (rows, columns))
        table = table.repeat(time, 1)
    if has_cls:
        table = torch.cat((prefix if source_has_cls else torch.zeros_like(table[:1]), table))
    return table[None].clone()


def _resize(table: torch.Tensor, side: int, size: tuple[int, int]) -> torch.Tensor:
    if size == (side, side):
        return table
    grid = table.T.reshape(1, -1, side, side)
    return nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=True).flatten(2)[0].T


def read_vit(source: Any, source_kwargs: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """
    The tensors of an image ViT: `patch.weight`, `patch.bias`, `cls`, `positions`, `norm.*` and `layers.*` with our names of a layer; and
    the fields of the config that they determine. source: as in `load_vit`.
    """
    is_file = isinstance(source, (str, os.PathLike)) and (
        Path(source).is_file() or (Path(source) / "checkpoint").is_file()
    )
    if is_file or isinstance(source, Mapping):
        return _from_scenic(load_state(source))
    from transformers import ViTForImageClassification, ViTModel

    if isinstance(source, (str, os.PathLike)):
        settings = {"dtype": torch.float32, "add_pooling_layer": False, **source_kwargs}
        source = load_complete(ViTModel, source, ("vit",), may_lack=r"pooler\.|mask_token", **settings)
    model = source.vit if isinstance(source, ViTForImageClassification) else source
    if not isinstance(model, ViTModel):
        raise ValueError(f"ViViT starts from a ViT, and this is a {type(source).__name__}.")
    tensors = {name: value.float() for name, value in model.state_dict().items()}
    check_tensors(tensors)
    state = {
        "cls": tensors.pop("embeddings.cls_token"),
        "positions": tensors.pop("embeddings.position_embeddings"),
        "patch.weight": tensors.pop("embeddings.patch_embeddings.projection.weight"),
        "patch.bias": tensors.pop("embeddings.patch_embeddings.projection.bias"),
    }
    for name, value in tensors.items():
        if name.startswith("layernorm."):
            state[name.replace("layernorm", "norm")] = value
        elif name.startswith("layers."):
            state[name] = value
        elif not name.startswith(("pooler.", "embeddings.mask_token")):
            raise ValueError(f"The ViT has a tensor {name} that is not known.")
    return state, {name: getattr(model.config, name) for name in FIELDS} | {"image_size": model.config.image_size}


def _from_scenic(arrays: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """As `read_vit`, from the arrays of Scenic's ViT, whose blocks are those of Model 1."""
    from .vivit_conversion import PATCHES, PROJECTIONS, ScenicMapping, scenic_names

    names = scenic_names(arrays)
    if names is None or PATCHES not in names or arrays[names[PATCHES]].dim() != 4:
        raise ValueError(f"This is not a Scenic ViT, which has a 2D patch kernel {PATCHES}: {describe_state(arrays)}.")
    tensors = {name: arrays[key] for name, key in names.items()}
    check_tensors(tensors, names)
    tensors = {name: value.float() for name, value in tensors.items()}
    state = {
        "patch.weight": tensors["embedding/kernel"].permute(3, 2, 0, 1),
        "patch.bias": tensors["embedding/bias"],
        "positions": tensors["Transformer/posembed_input/pos_embedding"],
        "norm.weight": tensors["Transformer/encoder_norm/scale"],
        "norm.bias": tensors["Transformer/encoder_norm/bias"],
    }
    if "cls" in tensors:
        state["cls"] = tensors["cls"]
    query = tensors["Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"]
    width, heads, _ = query.shape
    layers = {int(match[1]) for key in tensors if (match := re.match(r"Transformer/encoderblock_(\d+)/", key))}
    mlp = tensors["Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel"].shape[1]
    side = round((state["positions"].shape[1] - ("cls" in state)) ** 0.5)
    fields = {
        **{
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": len(layers),
            "intermediate_size": mlp,
        },
        **{"num_channels": state["patch.weight"].shape[1], "image_size": side * state["patch.weight"].shape[2]},
    }
    mapping = ScenicMapping(FactorizedViViTConfig(**{**fields, "factorization": "spacetime", "num_frames": 2}))
    shapes = {"weight": (width, width), "bias": (width,)}
    for index in layers:
        expected: dict[str, tuple[int, ...]] = {
            f"attention.{each}.{kind}": shapes[kind] for each in PROJECTIONS for kind in shapes
        }
        expected |= {f"{norm}.{kind}": (width,) for norm in ("layernorm_before", "layernorm_after") for kind in shapes}
        expected |= {"mlp.fc1.weight": (mlp, width), "mlp.fc1.bias": (mlp,)}
        expected |= {"mlp.fc2.weight": (width, mlp), "mlp.fc2.bias": (width,)}
        for name, shape in expected.items():
            path, _ = mapping.source_name(f"layers.{index}.{name}")
            if path not in tensors:
                raise ValueError(f"This is not a complete Scenic ViT: the array {path} is missing.")
            state[f"layers.{index}.{name}"] = mapping.from_source(path, tensors[path], torch.Size(shape))
    return state, fields
