# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The encoder of an image ViT: pre-norm blocks `y = MSA(LN(z)) + z`, `z' = MLP(LN(y)) + y` (eqs. 1 and 2).

Nothing in it knows about video. Parameters are named as in Transformers' ViT, so that image checkpoints map one to one;
what later image models added to the block (LayerScale, gated MLPs, rotary positions) is there for their checkpoints,
under the names of Transformers' DINOv2 and DINOv3, and absent by default.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_tubevit import TubeViTConfig


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Plain attention, which also returns its weights; the other backends are `ALL_ATTENTION_FUNCTIONS` of Transformers.

    query: `(batch, heads, queries, head_dim)`. key and value: `(batch, heads, tokens, head_dim)`.

    Returns the output `(batch, queries, heads, head_dim)` and the weights `(batch, heads, queries, tokens)`.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    # Softmax in float32, or float64 for a float64 model: half precision sums over hundreds of tokens lose digits.
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    weights = nn.functional.dropout(weights.to(query.dtype), p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def rotate(states: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """
    Rotary positions: channel `c` of the first half of a head and channel `c` of the second half turn by one angle.

    states: `(batch, heads, tokens, head_dim)`. rotary: cosine and sine of the angles, each `(tokens, head_dim)`; a cosine
    of 1 and a sine of 0 leave a token as it is.

    Returns `(batch, heads, tokens, head_dim)`.
    """
    cos, sin = rotary
    first, second = states.chunk(2, dim=-1)
    turned = states * cos + torch.cat((-second, first), dim=-1) * sin
    return turned.to(states.dtype)  # under autocast the states are in half precision and the angles are not


class TubeViTMultiHeadAttention(nn.Module):
    """Multi-head attention of queries to tokens, through the attention backend that the config names."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def attend(
        self,
        queries: torch.Tensor,
        tokens: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        queries: `(batch, queries, hidden_size)`. tokens: `(batch, tokens, hidden_size)`. rotary: the positions of both,
        as `rotate` takes them, where the model has such.

        Returns the output `(batch, queries, hidden_size)` and, from the eager backend alone, the weights.
        """

        def split_heads(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        query, key = split_heads(self.q_proj(queries)), split_heads(self.k_proj(tokens))
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        output, weights = attention_interface(
            self,
            query,
            key,
            split_heads(self.v_proj(tokens)),
            None,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(output.flatten(2)), weights


class TubeViTAttention(TubeViTMultiHeadAttention):
    """Full self-attention over all tokens of a clip: nothing is factorised over space and time (section 3.1)."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.attend(hidden_states, hidden_states, rotary=rotary, **kwargs)


class TubeViTMLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(hidden_states)))


class TubeViTGatedMLP(nn.Module):
    """Two linear layers, the first one's output multiplied by an activated gate: SwiGLU where the activation is SiLU."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.activation_fn = ACT2FN[config.hidden_act]
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.activation_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))


class TubeViTLayerScale(nn.Module):
    """A learned factor per channel on what a branch adds to the residual stream."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.lambda1


class TubeViTDropPath(nn.Module):
    """
    Stochastic depth: in training a branch is 0 for a sample with probability `rate`, and scaled by `1 / (1 - rate)` for the
    others, so that its mean stays what it was.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0.0:
            return hidden_states
        kept = hidden_states.new_empty(hidden_states.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return hidden_states * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class TubeViTLayer(GradientCheckpointingLayer):
    """
    One encoder block: `(batch, tokens, hidden_size)` to the same shape.

    drop_path: probability of leaving out a branch for a sample in training.
    """

    def __init__(self, config: TubeViTConfig, drop_path: float = 0.0):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = TubeViTAttention(config)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = TubeViTGatedMLP(config) if config.use_gated_mlp else TubeViTMLP(config)
        has_scale = config.layerscale_value is not None
        self.layer_scale1 = TubeViTLayerScale(config) if has_scale else nn.Identity()
        self.layer_scale2 = TubeViTLayerScale(config) if has_scale else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = TubeViTDropPath(drop_path)

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        attended, _ = self.attention(self.layernorm_before(hidden_states), rotary=rotary, **kwargs)
        hidden_states = hidden_states + self.drop_path(self.dropout(self.layer_scale1(attended)))
        branch = self.mlp(self.layernorm_after(hidden_states))
        return hidden_states + self.drop_path(self.dropout(self.layer_scale2(branch)))


class TubeViTExtraAttention(GradientCheckpointingLayer):
    """A further self-attention layer, `MSA(LN(z)) + z`, that no image checkpoint knows (the ablation of table 8)."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = TubeViTAttention(config)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        attended, _ = self.attention(self.layernorm(hidden_states), **kwargs)
        return hidden_states + attended


class TubeViTGate(nn.Module):
    """
    The gated connection of image-to-video scaling, `z + tanh(alpha) z_0` (eq. 8): closed while the learned `alpha` is 0.

    z_0 is the encoder's input, tokens with their positions.
    """

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))

    def forward(self, hidden_states: torch.Tensor, encoder_input: torch.Tensor) -> torch.Tensor:
        """Both `(batch, tokens, hidden_size)`, as the result."""
        return hidden_states + self.alpha.tanh() * encoder_input
