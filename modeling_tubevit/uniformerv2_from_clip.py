# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Initialize a UniFormerV2 from a CLIP image encoder: of Transformers, or a file in OpenAI's layout, which the authors' and
MMAction2's extracted encoders have too.

The trunk is the encoder. Everything else is new, and zero where it would change the encoder's function.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint_files import describe_state, load_state
from .configuration_uniformerv2 import UniFormerV2Config
from .source_checkpoints import load_complete, without_warnings
from .state_mapping import check_overrides, check_tensors
from .uniformerv2_conversion import HEAD_DIM, UniFormerV2Mapping


# Fields of the two designs of the paper besides the layers with a global block.
DESIGNS: dict[str, dict[str, Any]] = {
    "global": {},
    "full": {
        **{"temporal_downsampling": True, "num_local_blocks": 2, "num_frames": 16},
        **{"drop_path_rate": 0.2, "global_drop_path_rate": 0.4},
    },
}
# Names in Transformers' CLIP, without the prefix of the tower, to OpenAI's. Query, key and value are packed there.
CLIP_RULES = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"pre_layrnorm\.(\w+)", r"ln_pre.\1"),
    (r"encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.(\w+)", r"transformer.resblocks.\1.attn.in_proj_\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(\w+)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(\w+)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)
CLIP_TYPES = ("clip_vision_model", "clip")
NOT_IN_TRUNK = re.compile(r"ln_post\.\w+|proj|post_layernorm\.\w+|visual_projection\.\w+|embeddings\.position_ids")


def load_clip(
    model_class: Any,
    source: Any,
    *,
    design: str = "global",
    frozen: bool = False,
    image_size: int | None = None,
    source_kwargs: Mapping[str, Any] | None = None,
    **config_overrides: Any,
) -> Any:
    """
    A UniFormerV2 initialized from a CLIP image encoder, in evaluation mode.

    source: a CLIP of Transformers with an image encoder (`CLIPModel`, `CLIPVisionModel`, `CLIPVisionModelWithProjection`,
        `CLIPForImageClassification`, of which only the encoder is taken), its folder or its name on the Hub; or a file in OpenAI's layout, or its content,
        tensors or arrays by name.
    design: `"global"`, global blocks after the last four layers (Kinetics); or `"full"`, global blocks after the last two thirds of the
        layers, local blocks and temporal stride 2 (Something-Something).
    frozen: train only the global blocks and the head, without the gate, as in the paper's frozen models.
    image_size: height and width of the frames; positions are interpolated bicubically for another size than the source's.
    source_kwargs: for `from_pretrained` of the source, such as `{"revision": "main"}`.
    config_overrides: fields of `UniFormerV2Config`, such as `num_labels`.

    Returns the model. Raises `ValueError` for another source, for missing tensors or ones that are not finite, for an unknown design, and for
    an override that contradicts the source.
    """
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(DESIGNS)}, got {design!r}.")
    state, fields = read_clip(source, source_kwargs or {}, config_overrides.get("num_attention_heads"))
    check_overrides(config_overrides, fields)
    num_layers = fields["num_hidden_layers"]
    first = num_layers // 3 if design == "full" else max(0, num_layers - 4)
    values = {**fields, **DESIGNS[design], "global_layers": list(range(first, num_layers))}
    if frozen:
        values |= {"num_frozen_layers": num_layers, "use_gate": False}
    if image_size is not None:
        values["image_size"] = image_size
    config = UniFormerV2Config(**values | config_overrides)
    with torch.device("meta"):
        targets = model_class(config).state_dict()
    weights = _trunk_weights(targets, state)
    with without_warnings():
        return model_class.from_pretrained(None, config=config, state_dict=weights).eval()


def read_clip(
    source: Any, source_kwargs: Mapping[str, Any], num_heads: int | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """
    The tensors of a CLIP image encoder by OpenAI's names, without those that UniFormerV2 drops, and the fields of the config that they
    determine. source: as in `load_clip`. num_heads: attention heads of a file, which does not hold them (default: heads of width 64).
    """
    fields: dict[str, Any] = {}
    is_file = isinstance(source, (str, os.PathLike)) and Path(source).is_file()
    if is_file or isinstance(source, Mapping):
        state = load_state(source)
        visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
        state = _drop_head(visual or state)
    else:
        state, fields = _from_library(source, source_kwargs)
    check_tensors(state)
    for name in ("class_embedding", "positional_embedding", "conv1.weight", "transformer.resblocks.0.mlp.c_fc.weight"):
        if name not in state:
            raise ValueError(
                f"This is not a CLIP image encoder: the tensor {name} is missing; {describe_state(state)}."
            )
    for name, ranks in (("class_embedding", (1,)), ("positional_embedding", (2,)), ("conv1.weight", (4, 5))):
        if state[name].dim() not in ranks:
            raise ValueError(
                f"{name} must have {' or '.join(map(str, ranks))} dimensions, got the shape {tuple(state[name].shape)}."
            )
    width, patch = state["class_embedding"].numel(), state["conv1.weight"].shape[-1]
    positions = state["positional_embedding"].shape[0] - 1
    grid = round(max(0, positions) ** 0.5)
    if grid**2 != positions or grid == 0:
        raise ValueError(
            f"positional_embedding has {positions + 1} positions, which are not a class token and a square grid."
        )
    layers = {int(match[1]) for key in state if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
    if "num_attention_heads" not in fields and num_heads is None and width % HEAD_DIM:
        raise ValueError(
            f"The file does not hold the number of heads, and its width {width} is not a multiple of {HEAD_DIM}, the width of CLIP's "
            "heads: give num_attention_heads."
        )
    inferred = {
        **{"hidden_size": width, "num_hidden_layers": len(layers), "patch_size": patch, "image_size": grid * patch},
        **{
            "num_attention_heads": num_heads or max(1, width // HEAD_DIM),
            "num_channels": state["conv1.weight"].shape[1],
        },
        "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    }
    return {name: value.float() for name, value in state.items()}, inferred | fields


def _from_library(source: Any, source_kwargs: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from transformers import CLIPForImageClassification, CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection

    if isinstance(source, (str, os.PathLike)):
        source = load_complete(
            CLIPVisionModel, source, CLIP_TYPES, may_lack="position_ids", **{"dtype": torch.float32, **source_kwargs}
        )
    whole = (CLIPModel, CLIPVisionModelWithProjection, CLIPForImageClassification)
    tower = source.vision_model if isinstance(source, whole) else source
    if not (hasattr(tower, "config") and tower.config.model_type in CLIP_TYPES):
        raise ValueError(f"UniFormerV2 starts from a CLIP image encoder, and this is a {type(source).__name__}.")
    config = tower.config
    tensors = {name.removeprefix("vision_model."): value for name, value in tower.state_dict().items()}
    state: dict[str, torch.Tensor] = {}
    packed: dict[str, list[torch.Tensor]] = {}
    for name, value in _drop_head(tensors).items():
        rule = next(((match, new) for old, new in CLIP_RULES if (match := re.fullmatch(old, name))), None)
        if rule is None:
            raise ValueError(f"The CLIP image encoder has a tensor {name} that is not known.")
        new_name = rule[0].expand(rule[1])
        if re.search(r"\.[qkv]_proj\.", name):
            parts = packed.setdefault(new_name, [value] * 3)
            parts["qkv".index(name.split("_proj.")[0][-1])] = value
        else:
            state[new_name] = value
    state |= {name: torch.cat(parts) for name, parts in packed.items()}
    fields = {
        "num_attention_heads": config.num_attention_heads,
        "hidden_act": config.hidden_act,
        "layer_norm_eps": config.layer_norm_eps,
    }
    return state, fields


def _drop_head(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not NOT_IN_TRUNK.fullmatch(name)}


def _trunk_weights(targets: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the trunk by our names. Raises `ValueError` for a tensor that is missing or has no place."""
    mapping, weights, used = UniFormerV2Mapping(), {}, set()
    for name, target in targets.items():
        source, part = mapping.source_name(name)
        is_trunk = not source.startswith("transformer.") or re.match(r"transformer\.resblocks\.\d+\.(?!lmhra)", source)
        if not is_trunk:
            continue
        if source not in state:
            raise ValueError(f"This is not a complete CLIP image encoder: the tensor {source} is missing.")
        used.add(source)
        tensor = state[source] if part is None else state[source].chunk(3)[part]
        if (
            source == "conv1.weight" and tensor.dim() == 4 and tensor.shape[:2] == target.shape[:2]
        ):  # the 2D kernel in the central frame
            kernel = torch.zeros(target.shape)
            kernel[:, :, target.shape[2] // 2] = tensor
            tensor = kernel
        elif source == "positional_embedding":
            tensor = _resize_positions(tensor, target.shape[1])
        expected = mapping.source_shape(source, target.shape)
        if tuple(tensor.shape) != tuple(expected):
            whole = expected if part is None else (3 * expected[0], *expected[1:])
            raise ValueError(
                f"The tensor {source} of the source has the shape {tuple(state[source].shape)}, and the model needs {tuple(whole)}."
            )
        weights[name] = tensor.reshape(target.shape).clone()
    if unused := sorted(set(state) - used):
        raise ValueError(f"{len(unused)} tensors of the source have no place in a UniFormerV2, such as {unused[0]}.")
    return weights


def _resize_positions(table: torch.Tensor, num_tokens: int) -> torch.Tensor:
    if len(table) == num_tokens:
        return table
    old, new = round((len(table) - 1) ** 0.5), round((num_tokens - 1) ** 0.5)
    grid = table[1:].T.reshape(1, -1, old, old)
    grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((table[:1], grid.flatten(2)[0].T))
