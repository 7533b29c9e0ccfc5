# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The encoder blocks of image ViTs, for any model family: pre-norm blocks `y = MSA(LN(z)) + z`, `z' = MLP(LN(y)) + y` (eqs. 1
and 2 of the TubeViT paper).

Any config works that has the fields `hidden_size`, `num_attention_heads`, `intermediate_size`, `hidden_act`,
`layer_norm_eps`, `qkv_bias`, `hidden_dropout_prob` and `attention_probs_dropout_prob`; `layerscale_value` is read only by
LayerScale's initialization. Parameter names are those of Transformers' ViT, so image checkpoints map one to one. LayerScale,
gated MLPs and rotary positions carry the names of Transformers' DINOv2 and DINOv3.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs


Rotary = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, each (tokens, head_dim)
BACKENDS_WITH_BIAS = ("eager", "sdpa")


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
    Plain attention, which also returns its weights. The other backends are in `ALL_ATTENTION_FUNCTIONS` of Transformers.

    query: `(batch, heads, queries, head_dim)`. key and value: `(batch, heads, tokens, head_dim)`.

    Returns the output `(batch, queries, heads, head_dim)` and the weights `(batch, heads, queries, tokens)`.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    # Softmax in float32 (float64 for a float64 model): half-precision sums over hundreds of tokens are inaccurate.
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    weights = nn.functional.dropout(weights.to(query.dtype), p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def rotate(states: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """
    Rotary positions: rotate channel `c` of the first half of a head and channel `c` of the second half by the same angle.

    states: `(batch, heads, tokens, head_dim)`. rotary: cosine and sine of the angles, each `(tokens, head_dim)`; cosine 1
    and sine 0 leave a token unchanged.

    Returns `(batch, heads, tokens, head_dim)`.
    """
    cos, sin = rotary
    first, second = states.chunk(2, dim=-1)
    rotated = states * cos + torch.cat((-second, first), dim=-1) * sin
    return rotated.to(states.dtype)  # under autocast the states are in half precision and the angles are not


class VisionMultiHeadAttention(nn.Module):
    """
    Multi-head attention of queries to tokens, by the attention backend that the config names.

    num_heads: number of heads, `config.num_attention_heads` by default. It divides `config.hidden_size`.
    """

    def __init__(self, config: PreTrainedConfig, num_heads: int | None = None):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // (config.num_attention_heads if num_heads is None else num_heads)
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
        rotary: Rotary | None = None,
        attention_bias: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        queries: `(batch, queries, hidden_size)`. tokens: `(batch, tokens, hidden_size)`. rotary: rotary positions that
        `rotate` applies to the queries and the keys; `None` to omit them. attention_bias: `(1, heads, queries, tokens)`, added
        to the scores before the softmax; `None` for no bias.

        Returns the output `(batch, queries, hidden_size)` and the attention weights `(batch, heads, queries, tokens)`, which
        are `None` unless the backend is "eager". Raises `ValueError` for a bias with a backend that does not accept a bias per head.
        """
        backend = self.config._attn_implementation
        if attention_bias is not None and backend not in BACKENDS_WITH_BIAS:
            raise ValueError(
                f"position_embedding='relative' needs attn_implementation {' or '.join(BACKENDS_WITH_BIAS)}, got {backend}."
            )

        def split_heads(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        query, key = split_heads(self.q_proj(queries)), split_heads(self.k_proj(tokens))
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        if attention_bias is not None:
            attention_bias = attention_bias.to(query.dtype)  # under autocast the queries are in half precision
        output, weights = attention_interface(
            self,
            query,
            key,
            split_heads(self.v_proj(tokens)),
            attention_bias,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(output.flatten(2)), weights


class VisionAttention(VisionMultiHeadAttention):
    """Self-attention over all tokens."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary: Rotary | None = None,
        attention_bias: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: `(batch, tokens, hidden_size)`. The results are those of `attend`."""
        return self.attend(hidden_states, hidden_states, rotary, attention_bias, **kwargs)


class VisionCrossAttention(VisionMultiHeadAttention):
    """Cross-attention of queries to tokens."""

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Arguments and results are those of `attend`."""
        return self.attend(queries, tokens, **kwargs)


class LinearOfActivation(torch.autograd.Function):
    """
    A linear layer of `activated = activation(hidden)` that does not keep `activated` for the backward pass, which computes it again from
    `hidden`. The activation keeps `hidden` anyway. Gradients are the same, also second derivatives. `activated` and
    `hidden` are `(rows, channels)`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        activated: torch.Tensor,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: Callable,
    ) -> torch.Tensor:
        return nn.functional.linear(activated, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        _, hidden, weight, _, ctx.activation = inputs
        ctx.save_for_backward(hidden, weight)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        activated = ctx.activation(hidden).to(grad.dtype)  # under autocast, `grad` is in half precision
        grad_activated = grad @ weight.to(grad.dtype) if ctx.needs_input_grad[0] else None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[3] else None
        return grad_activated, None, grad.t() @ activated, grad_bias, None


def _has_hooks(module: nn.Module) -> bool:
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(own) or nn.modules.module._has_any_global_hook()


def activate_and_project(hidden: torch.Tensor, activation: Callable, linear: nn.Module) -> torch.Tensor:
    """
    `linear(activation(hidden))`, in training with less memory (`LinearOfActivation`). `torch.compile` saves this memory by itself. The
    layer is called as usual if it is no plain linear layer (LoRA, quantized weights), has hooks (DeepSpeed ZeRO-3) or is frozen, and for
    forward-mode derivatives.
    """
    activated = activation(hidden)
    if (
        linear.training
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(linear) is nn.Linear
        and type(linear.weight) is nn.Parameter
        and linear.weight.requires_grad
        and not _has_hooks(linear)
        and "forward" not in vars(linear)
        and torch.autograd.forward_ad.unpack_dual(hidden).tangent is None
    ):
        # Reshaped outside of the function: an output that is a view made inside it could not be changed in place.
        rows = [each.reshape(-1, hidden.shape[-1]) for each in (activated, hidden)]
        outputs = LinearOfActivation.apply(*rows, linear.weight, linear.bias, activation)
        return outputs.reshape(*hidden.shape[:-1], outputs.shape[-1])
    return linear(activated)


class VisionMLP(nn.Module):
    """
    Two linear layers with an activation between them.

    intermediate_size: width between the two layers, `config.intermediate_size` by default.
    """

    def __init__(self, config: PreTrainedConfig, intermediate_size: int | None = None):
        super().__init__()
        width = config.intermediate_size if intermediate_size is None else intermediate_size
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, width)
        self.fc2 = nn.Linear(width, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` to the same shape."""
        return activate_and_project(self.fc1(hidden_states), self.activation_fn, self.fc2)


class VisionGatedMLP(nn.Module):
    """
    Two linear layers, where an activated gate multiplies the output of the first one: SwiGLU if the activation is SiLU.

    intermediate_size: width between the two layers, `config.intermediate_size` by default.
    """

    def __init__(self, config: PreTrainedConfig, intermediate_size: int | None = None):
        super().__init__()
        width = config.intermediate_size if intermediate_size is None else intermediate_size
        self.activation_fn = ACT2FN[config.hidden_act]
        self.gate_proj = nn.Linear(config.hidden_size, width)
        self.up_proj = nn.Linear(config.hidden_size, width)
        self.down_proj = nn.Linear(width, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` to the same shape."""
        return self.down_proj(self.activation_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))


class VisionLayerScale(nn.Module):
    """A learned factor per channel on the output of a residual branch, initialized to `config.layerscale_value`."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` to the same shape."""
        return hidden_states * self.lambda1


class VisionDropPath(nn.Module):
    """
    Stochastic depth: in training, drop a residual branch for a sample with probability `rate` and scale it by
    `1 / (1 - rate)` for the other samples, which keeps its expected value.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        if not self.training or self.rate == 0.0:
            return hidden_states
        mask = hidden_states.new_empty(hidden_states.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return hidden_states * (mask / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class VisionLayer(GradientCheckpointingLayer):
    """
    One pre-norm encoder block: `(batch, tokens, hidden_size)` to the same shape.

    attention_class: class of the self-attention, built with the config and `num_heads`. mlp_class: class of the MLP, built
    with the config and `intermediate_size`. num_heads, intermediate_size: as in `VisionAttention` and `VisionMLP`.
    use_layer_scale: whether each branch has a `VisionLayerScale`. drop_path: stochastic depth rate of both branches.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        *,
        attention_class: type[nn.Module] = VisionAttention,
        mlp_class: type[nn.Module] = VisionMLP,
        num_heads: int | None = None,
        intermediate_size: int | None = None,
        use_layer_scale: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = attention_class(config, num_heads)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = mlp_class(config, intermediate_size)
        self.layer_scale1 = VisionLayerScale(config) if use_layer_scale else nn.Identity()
        self.layer_scale2 = VisionLayerScale(config) if use_layer_scale else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = VisionDropPath(drop_path)

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary: Rotary | None = None,
        attention_bias: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        attention_output, _ = self.attention(self.layernorm_before(hidden_states), rotary, attention_bias, **kwargs)
        hidden_states = hidden_states + self.drop_path(self.dropout(self.layer_scale1(attention_output)))
        mlp_output = self.mlp(self.layernorm_after(hidden_states))
        return hidden_states + self.drop_path(self.dropout(self.layer_scale2(mlp_output)))


def drop_path_rates(max_rate: float, num_layers: int) -> list[float]:
    """Stochastic depth rates of the layers: linear from 0 in the first layer to `max_rate` in the last one."""
    return [max_rate * index / max(1, num_layers - 1) for index in range(num_layers)]
