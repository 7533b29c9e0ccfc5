# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Weights of UniFormerV2 between the layout of the authors' code and ours, in both directions without a loss.

MMAction2 has the same layout but for the names of the head. Files may have the prefix `backbone.`, `module.` or none.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from .checkpoint_files import describe_state, load_state
from .configuration_uniformerv2 import UniFormerV2Config
from .state_mapping import StateMapping, check_tensors, load_converted


PREFIX = "backbone."
HEAD_DIM = 64  # of every published trunk
# Regular expression for our names, and the name in the authors' layout. Each {name} of the right side is a group of the left.
RULES = (
    (r"embeddings\.cls_token", "class_embedding"),
    (r"embeddings\.position_embeddings", "positional_embedding"),
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"pre_layernorm\.(\w+)", r"ln_pre.\1"),
    (r"layers\.(\d+)\.local_block(\d)\.batch_norm\.(\w+)", r"transformer.resblocks.\1.lmhra\2.pos_embed.0.\3"),
    (r"layers\.(\d+)\.local_block(\d)\.reduce\.(\w+)", r"transformer.resblocks.\1.lmhra\2.pos_embed.1.\3"),
    (r"layers\.(\d+)\.local_block(\d)\.conv\.(\w+)", r"transformer.resblocks.\1.lmhra\2.pos_embed.2.\3"),
    (r"layers\.(\d+)\.local_block(\d)\.expand\.(\w+)", r"transformer.resblocks.\1.lmhra\2.pos_embed.3.\3"),
    (r"layers\.(\d+)\.attention\.[qkv]_proj\.(\w+)", r"transformer.resblocks.\1.attn.in_proj_\2"),
    (r"layers\.(\d+)\.attention\.o_proj\.(\w+)", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (r"layers\.(\d+)\.layernorm_before\.(\w+)", r"transformer.resblocks.\1.ln_1.\2"),
    (r"layers\.(\d+)\.layernorm_after\.(\w+)", r"transformer.resblocks.\1.ln_2.\2"),
    (r"layers\.(\d+)\.mlp\.fc1\.(\w+)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"layers\.(\d+)\.mlp\.fc2\.(\w+)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
    (r"video_token", "transformer.temporal_cls_token"),
    (r"gate", "transformer.balance"),
    (r"global_blocks\.(\d+)\.dpe\.(\w+)", r"transformer.dpe.\1.\2"),
    (r"global_blocks\.(\d+)\.attention\.(in_proj_\w+|out_proj\.\w+)", r"transformer.dec.\1.attn.\2"),
    (r"global_blocks\.(\d+)\.layernorm_query\.(\w+)", r"transformer.dec.\1.ln_1.\2"),
    (r"global_blocks\.(\d+)\.layernorm_after\.(\w+)", r"transformer.dec.\1.ln_2.\2"),
    (r"global_blocks\.(\d+)\.layernorm_context\.(\w+)", r"transformer.dec.\1.ln_3.\2"),
    (r"global_blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"transformer.dec.\1.mlp.c_fc.\2"),
    (r"global_blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"transformer.dec.\1.mlp.c_proj.\2"),
    (r"layernorm\.(\w+)", r"transformer.proj.0.\1"),
    (r"classifier\.(\w+)", r"transformer.proj.2.\1"),
)
MMACTION_HEAD = {"transformer.norm.": "transformer.proj.0.", "cls_head.fc_cls.": "transformer.proj.2."}
PACKED = ("q_proj", "k_proj", "v_proj")
# Tensors of other layouts that hold no weights of the model.
NOT_WEIGHTS = re.compile(r"data_preprocessor\.(mean|std)$")


# What torch.compile, FSDP and activation checkpointing put into names.
WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class UniFormerV2Mapping(StateMapping):
    """Our names and shapes to those of the authors' code."""

    def source_name(self, name: str) -> tuple[str, int | None]:
        name = name.removeprefix("uniformerv2.")
        for pattern, replacement in RULES:
            if match := re.fullmatch(pattern, name):
                part = next((index for index, each in enumerate(PACKED) if f".{each}." in name), None)
                return match.expand(replacement), part
        raise KeyError(name)

    def source_shape(self, source: str, shape: torch.Size) -> tuple[int, ...]:
        if source == "class_embedding":
            return (shape[-1],)
        if source == "positional_embedding":
            return tuple(shape[1:])
        if source.endswith((".pos_embed.1.weight", ".pos_embed.3.weight")):
            return (*shape, 1, 1, 1)
        if source.endswith(".pos_embed.2.weight"):
            return (shape[0], 1, 3, 1, 1)
        return tuple(shape)


def normalize_reference(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """
    The tensors of a file by the names of the authors' code, without a prefix.

    Returns the tensors by these names, and the names in the file by these names. Raises `ValueError` if two tensors of the file have
    the same name.
    """
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}
    for key, value in state.items():
        name = re.sub(r"^(module\.|backbone\.|model\.)+", "", WRAPPERS.sub("", key))
        if NOT_WEIGHTS.fullmatch(name):
            continue
        for prefix, replacement in MMACTION_HEAD.items():
            if name.startswith(prefix):
                name = replacement + name.removeprefix(prefix)
        if name in tensors:
            raise ValueError(f"The file holds {name} twice, as {names[name]} and as {key}.")
        tensors[name], names[name] = value, key
    return tensors, names


def is_reference_state(state: Mapping[str, Any]) -> bool:
    """Whether the names of a file are those of a UniFormerV2 in the layout of the authors' code or of MMAction2."""
    return any(re.search(r"\btransformer\.(temporal_cls_token$|dec\.0\.)", WRAPPERS.sub("", key)) for key in state)


def is_mmaction_state(state: Mapping[str, Any]) -> bool:
    """Whether a UniFormerV2 state has MMAction2's names of the head."""
    return any(WRAPPERS.sub("", key).endswith("cls_head.fc_cls.weight") for key in state)


def infer_config(state: Mapping[str, torch.Tensor], **overrides: Any) -> UniFormerV2Config:
    """
    The config of a model in the authors' layout. overrides: fields that the tensors do not hold, such as `num_frames`, or
    that differ from the published models: `global_layers` (default: as many of the last layers as there are global blocks),
    `num_attention_heads` and `num_global_attention_heads` (default: heads of width 64).

    Raises `ValueError` for a missing tensor, and for a field that must be given.
    """

    def shape(name: str, rank: int = 2) -> torch.Size:
        return _check_rank(state, name, rank)

    def count(blocks: str, pattern: str = r"\.(\d+)\.", first: int = 0) -> int:
        indices = {int(match[1]) for key in state if (match := re.match(re.escape(blocks) + pattern, key))}
        expected = range(first, first + len(indices))
        if absent := sorted(set(expected) - indices):
            raise ValueError(
                f"The numbers of {blocks} have a gap: there is a {max(indices)}, and the tensors of {absent[0]} are missing."
            )
        return len(indices)

    _, _, kernel_frames, patch_size, _ = shape("conv1.weight", 5)
    tokens, hidden_size = shape("positional_embedding")
    grid_size = round(max(0, tokens - 1) ** 0.5)
    if grid_size**2 != tokens - 1 or grid_size == 0:
        raise ValueError(
            f"positional_embedding has {tokens} positions, which are not a class token and a square grid."
        )
    num_layers, num_blocks = count("transformer.resblocks"), count("transformer.dec")
    num_local = count("transformer.resblocks.0.lmhra", r"(\d+)\.", first=1)
    fields: dict[str, Any] = {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_layers,
        "intermediate_size": shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        "image_size": grid_size * patch_size,
        "patch_size": patch_size,
        "temporal_downsampling": kernel_frames == 3,
        "num_local_blocks": num_local,
        "global_layers": list(range(num_layers - num_blocks, num_layers)),
        "global_mlp_ratio": shape("transformer.dec.0.mlp.c_fc.weight")[0] / hidden_size,
        "num_labels": shape("transformer.proj.2.weight")[0],
        "use_gate": "transformer.balance" in state,
        "num_frames": 16 if kernel_frames == 3 else 8,
    }
    if not fields["use_gate"]:  # a frozen model: only the global blocks and the head were trained
        fields["num_frozen_layers"] = num_layers
    if num_local:
        local_size = shape("transformer.resblocks.0.lmhra1.pos_embed.1.weight", 5)[0]
        reductions = (1.5, max(1.0, hidden_size / (local_size + 0.5)))  # the second one rounds down to local_size
        fitting = [each for each in reductions if int(hidden_size // each) == local_size]
        if not fitting:
            raise ValueError(
                f"transformer.resblocks.0.lmhra1.pos_embed.1.weight has {local_size} outputs, more than the width {hidden_size}."
            )
        fields["local_reduction"] = fitting[0]
        fields |= {"drop_path_rate": 0.2, "global_drop_path_rate": 0.4}
    for name in ("num_attention_heads", "num_global_attention_heads"):
        if hidden_size % HEAD_DIM == 0:
            fields[name] = hidden_size // HEAD_DIM
        elif name not in overrides:
            raise ValueError(
                f"The tensors do not hold the number of heads, and their width {hidden_size} is not a multiple of {HEAD_DIM}, the "
                f"width of the published models' heads: give {name} (--num-heads)."
            )
    return UniFormerV2Config(**fields | overrides)


def load_reference(model_class: Any, source: Any, report: Any = None, **overrides: Any) -> Any:
    """
    A model with the weights of the authors' code or of MMAction2, in evaluation mode.

    source: a file, or its content: tensors or arrays by name, also under a key such as `model_state`. overrides: as in `infer_config`. report: a `ConversionReport` to fill.

    Raises `ValueError` for a file that is not a checkpoint, is damaged or holds another model, and for missing, additional, non-finite or
    wrongly shaped tensors.
    """
    dtype = overrides.pop("dtype", torch.float32)
    state = load_state(source)
    if not is_reference_state(state):
        raise ValueError(
            f"{source if isinstance(source, (str, os.PathLike)) else 'The state'} is not a UniFormerV2 in the layout of the "
            f"authors' code, which has tensors transformer.dec.*: {describe_state(state)}."
        )
    tensors, names = normalize_reference(state)
    check_tensors(tensors, names)
    config = infer_config(tensors, **overrides)
    return load_converted(
        model_class, config, tensors, UniFormerV2Mapping(), dtype, names, report, "transformer.proj.2.", state
    )


def to_reference(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model by the names and with the shapes of the authors' code, prefix `backbone.` included."""
    tensors = UniFormerV2Mapping().invert(model.state_dict())
    return {PREFIX + name: value for name, value in tensors.items()}


def _check_rank(state: Mapping[str, torch.Tensor], name: str, rank: int) -> torch.Size:
    if name not in state:
        raise ValueError(f"This is not a complete UniFormerV2: the tensor {name} is missing.")
    if state[name].dim() != rank:
        raise ValueError(f"{name} must have {rank} dimensions, got the shape {tuple(state[name].shape)}.")
    return state[name].shape
