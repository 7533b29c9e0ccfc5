"""UniFormerV2 as the authors' code states it: functions of tensors in its layout, with convolutions on permuted clips."""

import torch
import torch.nn.functional as F


def logits(
    state: dict[str, torch.Tensor], clips: torch.Tensor, heads: int, global_heads: int, taps: list[int]
) -> torch.Tensor:
    """state: weights without the prefix. clips: normalized `(batch, frames, channels, height, width)`. Returns `(batch, classes)`."""
    return forward(state, clips, heads, global_heads, taps)["logits"]


def forward(state, clips, heads, global_heads, taps) -> dict[str, torch.Tensor]:
    kernel = state["conv1.weight"]
    is_strided = kernel.shape[2] == 3
    patch = kernel.shape[-1]
    x = F.conv3d(clips.transpose(1, 2), kernel, None, (2 if is_strided else 1, patch, patch), (int(is_strided), 0, 0))
    batch, width, frames, rows, _ = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(batch * frames, rows * rows, width)
    x = (
        torch.cat((state["class_embedding"].expand(batch * frames, 1, width), x), dim=1)
        + state["positional_embedding"]
    )
    x = _norm(state, "ln_pre", x)
    stem = x
    video_token, video_tokens = state["transformer.temporal_cls_token"].expand(batch, 1, width), []
    num_layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("transformer.resblocks."))
    for index in range(num_layers):
        name = f"transformer.resblocks.{index}"
        x = _local(state, f"{name}.lmhra1", x, frames, rows)
        normed = _norm(state, f"{name}.ln_1", x)
        x = x + _attention(state, f"{name}.attn", normed, normed, heads)
        x = _local(state, f"{name}.lmhra2", x, frames, rows)
        x = x + _mlp(state, f"{name}.mlp", _norm(state, f"{name}.ln_2", x))
        if index in taps:
            tap = taps.index(index)
            tokens, block = x.clone(), f"transformer.dec.{tap}"
            grid = _to_grid(tokens[:, 1:], frames, rows)
            weight, bias = state[f"transformer.dpe.{tap}.weight"], state[f"transformer.dpe.{tap}.bias"]
            grid = F.conv3d(grid, weight, bias, padding=1, groups=width)
            tokens[:, 1:] += _from_grid(grid)
            context = _norm(state, f"{block}.ln_3", tokens.reshape(batch, frames * (rows * rows + 1), width))
            query = _norm(state, f"{block}.ln_1", video_token)
            video_token = video_token + _attention(state, f"{block}.attn", query, context, global_heads)
            video_token = video_token + _mlp(state, f"{block}.mlp", _norm(state, f"{block}.ln_2", video_token))
            video_tokens.append(video_token[:, 0])
    pooled = video_token[:, 0]
    if "transformer.balance" in state:
        gate = state["transformer.balance"].sigmoid()
        pooled = (1 - gate) * pooled + gate * x[:, 0].view(batch, frames, width).mean(1)
    pooled = _norm(state, "transformer.proj.0", pooled)
    return {
        "stem": stem,
        "trunk": x,
        "video_tokens": video_tokens,
        "logits": F.linear(pooled, state["transformer.proj.2.weight"], state["transformer.proj.2.bias"]),
    }


def _norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def _attention(state, name, query, context, heads):
    to_query, to_key, to_value = (
        F.linear(tokens, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
        for tokens, weight, bias in zip(
            (query, context, context),
            state[f"{name}.in_proj_weight"].chunk(3),
            state[f"{name}.in_proj_bias"].chunk(3),
            strict=True,
        )
    )
    weights = (to_query @ to_key.transpose(-1, -2) * to_query.shape[-1] ** -0.5).softmax(-1)
    mixed = (weights @ to_value).transpose(1, 2).flatten(2)
    return F.linear(mixed, state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"])


def _mlp(state, name, x):
    x = F.linear(x, state[f"{name}.c_fc.weight"], state[f"{name}.c_fc.bias"])
    return F.linear(x * (1.702 * x).sigmoid(), state[f"{name}.c_proj.weight"], state[f"{name}.c_proj.bias"])


def _local(state, name, x, frames, rows):
    if f"{name}.pos_embed.0.weight" not in state:
        return x
    grid = _to_grid(x[:, 1:], frames, rows)
    mean, variance, weight, bias = (
        state[f"{name}.pos_embed.0.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
    )
    y = F.batch_norm(grid, mean, variance, weight, bias, training=False, eps=1e-5)
    for index, options in ((1, {}), (2, {"padding": (1, 0, 0)}), (3, {})):
        kernel = state[f"{name}.pos_embed.{index}.weight"]
        groups = kernel.shape[0] if index == 2 else 1
        y = F.conv3d(y, kernel, state[f"{name}.pos_embed.{index}.bias"], groups=groups, **options)
    return torch.cat((x[:, :1], x[:, 1:] + _from_grid(y)), dim=1)


def _to_grid(patches, frames, rows):
    return patches.unflatten(0, (-1, frames)).unflatten(2, (rows, rows)).permute(0, 4, 1, 2, 3)


def _from_grid(grid):
    return grid.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
