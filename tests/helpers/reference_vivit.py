"""ViViT's Models 1 to 4 as the paper and Scenic state them: functions of tensors under Scenic's paths."""

import torch
import torch.nn.functional as F


def logits(
    state: dict[str, torch.Tensor], clips: torch.Tensor, factorization: str, order: str = "time_space"
) -> torch.Tensor:
    """state: Scenic's parameters. clips: `(batch, frames, channels, height, width)` in [-1, 1]. Returns `(batch, classes)`."""
    kernel = state["embedding/kernel"].permute(4, 3, 0, 1, 2)
    x = F.conv3d(clips.transpose(1, 2), kernel, state["embedding/bias"], stride=kernel.shape[2:])
    x = x.flatten(3).permute(0, 2, 3, 1)  # (batch, time, places, width)
    batch, time, _, width = x.shape
    if factorization == "encoder":
        x = _encoder(state, "SpatialTransformer", x.flatten(0, 1), "cls_SpatialTransformer", _joint)
        x = x.view(batch, time, width)
        if "TemporalTransformer/encoder_norm/scale" in state:
            x = _encoder(state, "TemporalTransformer", x, "cls_TemporalTransformer", _joint)
        else:
            x = x.mean(1)
    else:
        blocks = {"spacetime": _joint, "dot_product": _split_heads(time), "self_attention": _two_axes(time, order)}
        x = _encoder(state, "Transformer", x.flatten(1, 2), "cls", blocks[factorization])
    return x @ state["output_projection/kernel"] + state["output_projection/bias"]


def _encoder(state, name, x, cls, block):
    if cls in state:
        x = torch.cat((state[cls].expand(x.shape[0], -1, -1), x), dim=1)
    x = x + state[f"{name}/posembed_input/pos_embedding"]
    for index in range(len({key.split("/")[1] for key in state if key.startswith(f"{name}/encoderblock_")})):
        x = block(state, f"{name}/encoderblock_{index}", x)
    x = _norm(state, f"{name}/encoder_norm", x)
    return x[:, 0] if cls in state else x.mean(1)


def _joint(state, name, x):
    x = x + _attention(state, f"{name}/MultiHeadDotProductAttention_0", _norm(state, f"{name}/LayerNorm_0", x))
    return x + _mlp(state, f"{name}/MlpBlock_0", _norm(state, f"{name}/LayerNorm_1", x))


def _two_axes(time, order):
    def block(state, name, x):
        for axis in order.split("_"):
            normed = _norm(state, f"{name}/LayerNorm_{axis}", x).unflatten(1, (time, -1))
            batch = normed.shape[0]
            sequences = normed.transpose(1, 2) if axis == "time" else normed
            attended = _attention(state, f"{name}/MultiHeadDotProductAttention_{axis}", sequences.flatten(0, 1))
            attended = attended.unflatten(0, (batch, -1))
            x = x + (attended.transpose(1, 2) if axis == "time" else attended).flatten(1, 2)
        return x + _mlp(state, f"{name}/MlpBlock", _norm(state, f"{name}/LayerNorm_mlp", x))

    return block


def _split_heads(time):
    def block(state, name, x):
        attention = f"{name}/MultiHeadDotProductAttention_0"
        normed = _norm(state, f"{name}/LayerNorm_0", x).unflatten(1, (time, -1))
        query, key, value = (
            torch.einsum("btsc,chd->btshd", normed, state[f"{attention}/{each}/kernel"])
            + state[f"{attention}/{each}/bias"]
            for each in ("query", "key", "value")
        )
        half = query.shape[3] // 2
        scale = query.shape[-1] ** -0.5
        over_time = torch.einsum("btshd,bushd->bshtu", query[..., :half, :], key[..., :half, :]) * scale
        over_space = torch.einsum("btshd,btuhd->bthsu", query[..., half:, :], key[..., half:, :]) * scale
        mixed = torch.cat(
            (
                torch.einsum("bshtu,bushd->btshd", over_time.softmax(-1), value[..., :half, :]),
                torch.einsum("bthsu,btuhd->btshd", over_space.softmax(-1), value[..., half:, :]),
            ),
            dim=3,
        )
        output = (
            torch.einsum("btshd,hdc->btsc", mixed, state[f"{attention}/out/kernel"]) + state[f"{attention}/out/bias"]
        )
        x = x + output.flatten(1, 2)
        return x + _mlp(state, f"{name}/MlpBlock_0", _norm(state, f"{name}/LayerNorm_1", x))

    return block


def _norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}/scale"], state[f"{name}/bias"], 1e-6)


def _attention(state, name, x):
    query, key, value = (
        torch.einsum("nlc,chd->nhld", x, state[f"{name}/{each}/kernel"]) + state[f"{name}/{each}/bias"][:, None]
        for each in ("query", "key", "value")
    )
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("nhld,hdc->nlc", weights @ value, state[f"{name}/out/kernel"]) + state[f"{name}/out/bias"]


def _mlp(state, name, x):
    x = F.gelu(x @ state[f"{name}/Dense_0/kernel"] + state[f"{name}/Dense_0/bias"], approximate="tanh")
    return x @ state[f"{name}/Dense_1/kernel"] + state[f"{name}/Dense_1/bias"]
