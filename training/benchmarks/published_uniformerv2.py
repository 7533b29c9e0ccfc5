# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
UniFormerV2 in the published formulation, for `tubevit bench --families`: functions of the weights by their published names.

Tokens are `(tokens, batch * frames, width)`. Local blocks and position encodings are 3D convolutions on permuted copies of the
clips, the video token attends to projected keys and values, and quick GELU is a product with a sigmoid. The logits equal those of
`UniFormerV2ForVideoClassification` up to rounding. There is no dropout and no stochastic depth.
"""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F


State = Mapping[str, torch.Tensor]


def published_logits(
    state: State, clips: torch.Tensor, num_heads: int, taps: Sequence[int], training: bool = False
) -> torch.Tensor:
    """
    Logits `(batch, classes)`.

    state: weights by their published names, without the prefix `backbone.`. clips: normalized, `(batch, frames, channels, height,
    width)`. num_heads: of the layers and of the global blocks. taps: the layers that a global block follows. training: whether batch
    norms use the statistics of the batch.
    """
    kernel = state["conv1.weight"]
    stride, patch = kernel.shape[2] // 2 + 1, kernel.shape[-1]
    x = F.conv3d(clips.transpose(1, 2), kernel, None, (stride, patch, patch), (stride - 1, 0, 0))
    batch, width, frames, rows, _ = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(batch * frames, rows**2, width)
    x = torch.cat((state["class_embedding"].expand(batch * frames, 1, width), x), dim=1)
    x = _norm(state, "ln_pre", x + state["positional_embedding"]).permute(1, 0, 2)
    video_token = state["transformer.temporal_cls_token"].expand(1, batch, width)
    for index in range(1 + max(int(name.split(".")[2]) for name in state if ".resblocks." in name)):
        name = f"transformer.resblocks.{index}"
        x = _local_block(state, f"{name}.lmhra1", x, batch, training)
        x = x + _attention(state, f"{name}.attn", _norm(state, f"{name}.ln_1", x), num_heads)
        x = _local_block(state, f"{name}.lmhra2", x, batch, training)
        x = x + _mlp(state, f"{name}.mlp", _norm(state, f"{name}.ln_2", x))
        if index in taps:
            video_token = _global_block(state, list(taps).index(index), video_token, x, batch, num_heads)
    gate = state["transformer.balance"].sigmoid()
    pooled = (1 - gate) * video_token[0] + gate * x[0].view(batch, frames, width).mean(1)
    pooled = _norm(state, "transformer.proj.0", pooled)
    return F.linear(pooled, state["transformer.proj.2.weight"], state["transformer.proj.2.bias"])


def _local_block(state: State, name: str, x: torch.Tensor, batch: int, training: bool) -> torch.Tensor:
    if f"{name}.pos_embed.0.weight" not in state:
        return x
    grid = _to_grid(x[1:], batch)
    norm = (state[f"{name}.pos_embed.0.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
    y = F.batch_norm(grid, *norm, training=training, eps=1e-5)
    for index, options in (
        (1, {}),
        (2, {"padding": (1, 0, 0), "groups": state[f"{name}.pos_embed.2.bias"].numel()}),
        (3, {}),
    ):
        y = F.conv3d(y, state[f"{name}.pos_embed.{index}.weight"], state[f"{name}.pos_embed.{index}.bias"], **options)
    return torch.cat((x[:1], _from_grid(grid + y)), dim=0)


def _global_block(
    state: State, tap: int, video_token: torch.Tensor, x: torch.Tensor, batch: int, num_heads: int
) -> torch.Tensor:
    name, width = f"transformer.dec.{tap}", x.shape[-1]
    encoding = state[f"transformer.dpe.{tap}.weight"], state[f"transformer.dpe.{tap}.bias"]
    patches = x[1:] + _from_grid(F.conv3d(_to_grid(x[1:], batch), *encoding, padding=1, groups=width))
    tokens = torch.cat((x[:1], patches)).unflatten(1, (batch, -1)).permute(0, 2, 1, 3).flatten(0, 1)
    query, context = _norm(state, f"{name}.ln_1", video_token), _norm(state, f"{name}.ln_3", tokens)
    weights, biases = state[f"{name}.attn.in_proj_weight"].chunk(3), state[f"{name}.attn.in_proj_bias"].chunk(3)
    query, key, value = (
        F.linear(states, weight, bias).unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)
        for states, weight, bias in zip((query, context, context), weights, biases, strict=True)
    )  # (batch, heads, tokens, width / heads)
    scores = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    mixed = (scores @ value).permute(2, 0, 1, 3).flatten(2)
    video_token = video_token + F.linear(
        mixed, state[f"{name}.attn.out_proj.weight"], state[f"{name}.attn.out_proj.bias"]
    )
    return video_token + _mlp(state, f"{name}.mlp", _norm(state, f"{name}.ln_2", video_token))


def _to_grid(patches: torch.Tensor, batch: int) -> torch.Tensor:
    """Patches `(patches, batch * frames, width)` to a copy `(batch, width, frames, rows, columns)`."""
    rows = round(patches.shape[0] ** 0.5)
    return patches.unflatten(1, (batch, -1)).unflatten(0, (rows, rows)).permute(2, 4, 3, 0, 1).contiguous()


def _from_grid(grid: torch.Tensor) -> torch.Tensor:
    return grid.flatten(3).permute(3, 0, 2, 1).flatten(1, 2)


def _norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def _attention(state: State, name: str, x: torch.Tensor, num_heads: int) -> torch.Tensor:
    projection = state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"]
    output = state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"]
    return F.multi_head_attention_forward(
        *(x, x, x, x.shape[-1], num_heads, *projection, None, None, False, 0.0, *output), need_weights=False
    )[0]


def _mlp(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    x = F.linear(x, state[f"{name}.c_fc.weight"], state[f"{name}.c_fc.bias"])
    return F.linear(x * torch.sigmoid(1.702 * x), state[f"{name}.c_proj.weight"], state[f"{name}.c_proj.bias"])
