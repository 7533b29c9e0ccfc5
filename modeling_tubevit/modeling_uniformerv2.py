# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
UniFormerV2 ("Spatiotemporal Learning by Arming Image ViTs with Video UniFormer", ICCV 2023): a CLIP image encoder on every
frame, optional local blocks that mix neighboring frames, and global blocks that gather the tokens of all frames.

The function is that of the authors' code (OpenGVLab/UniFormerV2); the formulation is ours where it is faster: the local blocks
are matrix products on the last dimension, and the one query of a global block attends to the tokens without projecting them
to keys and values. Stochastic depth drops a branch for a clip; the authors' code drops token positions of the trunk for the
whole batch, and global blocks for the whole batch.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .classification import classification_loss, classify_views, settle_problem_type
from .configuration_uniformerv2 import UniFormerV2Config
from .frozen_layers import FrozenLayersMixin
from .hub_export import ModelCodeExportMixin, import_conversion
from .pixel_normalization import check_clips, normalize_pixels
from .safetensors_only import SafetensorsOnlyMixin
from .saved_processor import SavedProcessorMixin
from .vit_layers import (
    VisionAttention,
    VisionDropPath,
    VisionLayer,
    VisionMLP,
    drop_path_rates,
    eager_attention_forward,
)


@dataclass
@auto_docstring(custom_intro="Output of [`UniFormerV2Model`].")
class UniFormerV2ModelOutput(ModelOutput):
    r"""
    last_hidden_state (`torch.Tensor` of shape `(batch_size, num_tokens, hidden_size)`):
        Tokens after the last layer, frame by frame, each frame's class token first.
    pooler_output (`torch.Tensor` of shape `(batch_size, hidden_size)`):
        The video token, mixed with the mean of the class tokens if the model has a gate, after the last layer norm.
    cross_attentions (`tuple(torch.Tensor)`, *optional*):
        Attention of the video token to all tokens in each global block, `(batch_size, num_heads, 1, num_tokens)`.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
@auto_docstring(custom_intro="Output of [`UniFormerV2ForVideoClassification`].")
class UniFormerV2ClassifierOutput(ImageClassifierOutput):
    r"""
    loss (`torch.Tensor` of shape `(1,)`, *optional*):
        Classification or regression loss, if labels are given.
    logits (`torch.Tensor` of shape `(batch_size, num_labels)`):
        Scores before the softmax.
    cross_attentions (`tuple(torch.Tensor)`, *optional*):
        Attention of the video token to all tokens in each global block, `(batch_size, num_heads, 1, num_tokens)`.
    """

    cross_attentions: tuple[torch.Tensor, ...] | None = None


QUICK_GELU_SCALE = 1.702


class QuickGELU(nn.Module):
    """`x * sigmoid(1.702 x)`, written so that training stores one tensor for it instead of two."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(QUICK_GELU_SCALE * hidden_states) / QUICK_GELU_SCALE


class DefaultLinear(nn.Linear):
    """A linear layer with PyTorch's default initialization."""


class XavierLinear(nn.Linear):
    """A linear layer with a Xavier-uniform weight and PyTorch's default bias."""


class ZeroLinear(nn.Linear):
    """A linear layer that is zero at first: the last layer of an added branch."""


class ScaledLinear(nn.Linear):
    """A linear layer whose product and bias may be scaled as part of the matrix product, which costs no pass over the output."""

    def forward(self, inputs: torch.Tensor, scale: float = 1.0, bias_scale: float = 1.0) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        is_plain = type(self.weight) is nn.Parameter or torch.compiler.is_exporting()  # whose weights are stand-ins
        if not is_plain:  # quantized weights ignore the scales of `addmm`
            return nn.functional.linear(scale * inputs, self.weight, bias_scale * self.bias)
        rows = torch.addmm(self.bias, inputs.flatten(0, -2), self.weight.t(), beta=bias_scale, alpha=scale)
        return rows.unflatten(0, inputs.shape[:-1])


class UniFormerV2MLP(VisionMLP):
    """The MLP of the layers, with the activation of the config."""

    def __init__(self, config: UniFormerV2Config, intermediate_size: int | None = None):
        super().__init__(config, intermediate_size)
        self.fc1 = ScaledLinear(config.hidden_size, self.fc1.out_features)
        self.fc2 = ScaledLinear(self.fc1.out_features, config.hidden_size)
        self.activation_fn = activation(config)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` to the same shape. The products apply the scales of quick GELU, unless an adapter wraps them."""
        is_scalable = isinstance(self.fc1, ScaledLinear) and isinstance(self.fc2, ScaledLinear)
        if not (is_scalable and isinstance(self.activation_fn, QuickGELU)):
            return super().forward(hidden_states)
        scale = QUICK_GELU_SCALE
        hidden_states = nn.functional.silu(self.fc1(hidden_states, scale=scale, bias_scale=scale))
        return self.fc2(hidden_states, scale=1 / scale)


class UniFormerV2Attention(VisionAttention):
    """Self-attention within each frame: the trunk's attention."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        hidden_states: `(batch, tokens, hidden_size)`, frame by frame.

        Returns a tensor of the same shape, and the attention weights `(batch * frames, heads, tokens_per_frame,
        tokens_per_frame)`, which are `None` unless the backend is "eager".
        """
        frames = hidden_states.view(-1, self.config.tokens_per_frame, self.config.hidden_size)
        output, weights = self.attend(frames, frames, **kwargs)
        return output.view(hidden_states.shape), weights


class UniFormerV2TemporalConv(nn.Module):
    """
    Depthwise convolution over three neighboring frames, with zeros before the first and after the last frame.

    weight: `(width, 3)`, for the previous, the current and the next frame. bias: `(width,)`.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 3))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, frames, patches, width)` to the same shape."""
        kernel = self.weight[:, None, :, None]
        # (batch, frames, patches, width) -> (batch, width, frames, patches): a view, with the channels last in memory
        grid = hidden_states.permute(0, 3, 1, 2)
        result = nn.functional.conv2d(grid, kernel, self.bias, padding=(1, 0), groups=len(self.weight))
        return result.permute(0, 2, 3, 1)


class UniFormerV2BatchNorm(nn.BatchNorm1d):
    """
    A batch norm over `(rows, channels)` whose running statistics stay float32 when a model is cast to half precision, with `.half()`,
    `.bfloat16()` or `.to(dtype)`: a running mean needs more digits. The output has the dtype of the input.
    """

    def _apply(self, fn, recurse=True):
        names = ("running_mean", "running_var")
        statistics = [getattr(self, name) for name in names]
        super()._apply(fn, recurse)
        for name, before in zip(names, statistics, strict=True):
            after = getattr(self, name)
            if after.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, before.to(device=after.device, dtype=torch.float32))
        return self

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """`(rows, channels)` to the same shape and dtype."""
        mean, variance = cast(torch.Tensor, self.running_mean), cast(torch.Tensor, self.running_var)
        if self.training:
            cast(torch.Tensor, self.num_batches_tracked).add_(1)
        # torch takes half-precision inputs only with weights of the statistics' dtype
        weight, bias = self.weight.to(mean.dtype), self.bias.to(mean.dtype)
        momentum = cast(float, self.momentum)
        return nn.functional.batch_norm(inputs, mean, variance, weight, bias, self.training, momentum, self.eps)


class UniFormerV2LocalBlock(nn.Module):
    """
    A local block (local MHRA): batch norm, a linear layer to a smaller width, a depthwise convolution over time, and a linear
    layer back; without an activation. It mixes the patches of one place in neighboring frames; class tokens pass by.

    The batch norm's statistics are over the patches of all frames and clips. drop_path: stochastic depth rate.
    """

    def __init__(self, config: UniFormerV2Config, drop_path: float):
        super().__init__()
        self.tokens_per_frame = config.tokens_per_frame
        # float32 also in a half-precision model, see `_keep_in_fp32_modules_strict`
        self.batch_norm = UniFormerV2BatchNorm(config.hidden_size, eps=config.batch_norm_eps, dtype=torch.float32)
        self.reduce = DefaultLinear(config.hidden_size, config.local_size)
        self.conv = UniFormerV2TemporalConv(config.local_size)
        self.expand = ZeroLinear(config.local_size, config.hidden_size)
        self.drop_path = VisionDropPath(drop_path)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        frames = hidden_states.unflatten(1, (-1, self.tokens_per_frame))
        patches = frames[:, :, 1:]
        normalized = self.batch_norm(patches.flatten(0, 2)).view(patches.shape)
        update = self.expand(self.conv(self.reduce(normalized)))
        update = self.drop_path(update.flatten(1, 2)).view(patches.shape)
        return torch.cat((frames[:, :, :1], patches + update), dim=2).flatten(1, 2)


class UniFormerV2Layer(VisionLayer):
    """A layer of the trunk: a CLIP block within each frame, with up to two local blocks across frames."""

    def __init__(self, config: UniFormerV2Config, drop_path: float = 0.0):
        super().__init__(config, attention_class=UniFormerV2Attention, mlp_class=UniFormerV2MLP, drop_path=drop_path)
        self.local_block1 = UniFormerV2LocalBlock(config, drop_path) if config.num_local_blocks > 0 else nn.Identity()
        self.local_block2 = UniFormerV2LocalBlock(config, drop_path) if config.num_local_blocks > 1 else nn.Identity()

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        hidden_states = self.local_block1(hidden_states)
        attention_output, _ = self.attention(self.layernorm_before(hidden_states), **kwargs)
        hidden_states = self.local_block2(hidden_states + self.drop_path(attention_output))
        return hidden_states + self.drop_path(self.mlp(self.layernorm_after(hidden_states)))


class UniFormerV2CrossAttention(nn.Module):
    """
    Attention of the video token to the tokens of all frames.

    Query, key and value projections are packed in one parameter, as in CLIP: the key bias changes no output (the softmax
    removes it), so as a parameter of its own it would get no gradient.

    One query needs no projected keys and values. With `q_h` the query of head h, its score for a token z is `(W_k,h^T q_h) . z`,
    and the head's output is `W_v,h` times the mean of the tokens weighted by attention. So the heads become queries of width
    `hidden_size`, and the tokens themselves are keys and values. Backends other than eager and SDPA get projected keys and
    values, because their kernels are limited to small heads.
    """

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        self.config = config
        self.num_heads = config.get_num_global_attention_heads()
        self.head_dim = config.hidden_size // self.num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.hidden_size, config.hidden_size))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * config.hidden_size))
        self.out_proj = ZeroLinear(config.hidden_size, config.hidden_size)

    def forward(
        self, query: torch.Tensor, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        query: `(batch, 1, hidden_size)`. tokens: `(batch, tokens, hidden_size)`.

        Returns the output `(batch, 1, hidden_size)` and the attention weights `(batch, heads, 1, tokens)`, which are `None`
        unless the backend is "eager".
        """
        attend = self._attend_to_tokens if self._attends_to_tokens else self._attend_to_projections
        output, weights = attend(query, tokens, **kwargs)
        return self.out_proj(output), weights

    @property
    def _attends_to_tokens(self) -> bool:
        return self.config._attn_implementation in (None, "eager", "sdpa")

    def _attend_to_tokens(self, query, tokens, **kwargs):
        to_query, to_key, to_value = self.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.in_proj_bias.chunk(3)
        query = nn.functional.linear(query, to_query, query_bias).unflatten(-1, (self.num_heads, self.head_dim))
        # (batch, 1, heads, head_dim) x (heads, head_dim, hidden_size) -> (batch, 1, heads, hidden_size)
        query = torch.einsum("bqhd,hdc->bqhc", query, to_key.view(self.num_heads, self.head_dim, -1))
        output, weights = self._interface()(
            self, query, tokens[:, None], tokens[:, None], None, dropout=0.0, scaling=self.scaling, **kwargs
        )  # output: (batch, heads, 1, hidden_size)
        output = torch.einsum("bhqc,hdc->bqhd", output, to_value.view(self.num_heads, self.head_dim, -1))
        return output.flatten(2) + value_bias, None if weights is None else weights.transpose(1, 2)

    def _attend_to_projections(self, query, tokens, **kwargs):
        parts = zip((query, tokens, tokens), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        query, key, value = (
            nn.functional.linear(*part).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for part in parts
        )
        output, weights = self._interface()(self, query, key, value, None, dropout=0.0, scaling=self.scaling, **kwargs)
        return output.flatten(2), weights

    def _interface(self) -> Callable:
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)


class UniFormerV2GlobalMLP(nn.Module):
    """The MLP of a global block. dropout: rate between its two layers."""

    def __init__(self, config: UniFormerV2Config, dropout: float):
        super().__init__()
        self.fc1 = XavierLinear(config.hidden_size, config.global_intermediate_size)
        self.activation_fn = activation(config)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = ZeroLinear(config.global_intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` to the same shape."""
        return self.fc2(self.dropout(self.activation_fn(self.fc1(hidden_states))))


class UniFormerV2GlobalBlock(GradientCheckpointingLayer):
    """
    A global block: dynamic position encoding of the patches (DPE, a depthwise 3x3x3 convolution), cross-attention of the video
    token to all tokens, and an MLP. The trunk's tokens are read, never changed.

    dropout: rate in the MLP. drop_path: stochastic depth rate of both branches.
    """

    def __init__(self, config: UniFormerV2Config, dropout: float, drop_path: float):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.grid_size = config.grid_size
        self.dpe = nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
        self.layernorm_query = nn.LayerNorm(width, eps=eps)
        self.layernorm_context = nn.LayerNorm(width, eps=eps)
        self.attention = UniFormerV2CrossAttention(config)
        self.layernorm_after = nn.LayerNorm(width, eps=eps)
        self.mlp = UniFormerV2GlobalMLP(config, dropout)
        self.drop_path = VisionDropPath(drop_path)

    def forward(
        self, video_token: torch.Tensor, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """video_token: `(batch, 1, hidden_size)`. hidden_states: the trunk's tokens `(batch, tokens, hidden_size)`. Returns the new video token."""
        context = self.layernorm_context(self._encode_positions(hidden_states))
        attention_output, _ = self.attention(self.layernorm_query(video_token), context, **kwargs)
        video_token = video_token + self.drop_path(attention_output)
        return video_token + self.drop_path(self.mlp(self.layernorm_after(video_token)))

    def _encode_positions(self, hidden_states: torch.Tensor) -> torch.Tensor:
        frames = hidden_states.unflatten(1, (-1, self.grid_size**2 + 1))
        patches = frames[:, :, 1:]
        # (batch, frames, patches, width) -> (batch, width, frames, rows, columns): a view, with the channels last in memory
        grid = patches.unflatten(2, (self.grid_size, self.grid_size)).permute(0, 4, 1, 2, 3)
        encoding = self.dpe(grid).permute(0, 2, 3, 4, 1).flatten(2, 3)
        return torch.cat((frames[:, :, :1], patches + encoding), dim=2).flatten(1, 2)


class UniFormerV2Embeddings(nn.Module):
    """Patches of every frame after a class token, with the same positions in every frame."""

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        self.config = config
        kernel_frames = 3 if config.temporal_downsampling else 1
        self.patch_embedding = nn.Conv3d(
            config.num_channels,
            config.hidden_size,
            kernel_size=(kernel_frames, config.patch_size, config.patch_size),
            stride=(config.temporal_stride, config.patch_size, config.patch_size),
            padding=(kernel_frames // 2, 0, 0),
            bias=False,
        )
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.empty(1, config.tokens_per_frame, config.hidden_size))

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """
        pixel_values_videos: `(batch, frames, channels, height, width)`, float (normalized) or uint8 (raw).

        Returns `(batch, tokens, hidden_size)`. Raises `ValueError` for another rank, dtype, size or number of channels, and for no clip.
        """
        self._check_input(pixel_values_videos)
        weight = self.patch_embedding.weight
        clips = normalize_pixels(pixel_values_videos, self.config, weight.dtype)
        patches = self.patch_embedding(clips.transpose(1, 2))
        patches = patches.flatten(3).permute(0, 2, 3, 1).flatten(0, 1)  # (batch * frames, patches, hidden_size)
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1)
        return (tokens + self.position_embeddings).view(clips.shape[0], -1, tokens.shape[-1])

    def _check_input(self, clips: torch.Tensor) -> None:
        config, size = self.config, self.config.image_size
        check_clips(clips, config.num_channels)
        if clips.shape[3] != size or clips.shape[4] != size:
            raise ValueError(
                f"The positions of this model are for frames of {size}x{size}, got {clips.shape[3]}x{clips.shape[4]}: resize the "
                f"frames to {size}x{size}."
            )
        config.check_num_frames(clips.shape[1])


@auto_docstring
class UniFormerV2PreTrainedModel(
    FrozenLayersMixin, SavedProcessorMixin, ModelCodeExportMixin, SafetensorsOnlyMixin, PreTrainedModel
):
    config: UniFormerV2Config
    base_model_prefix = "uniformerv2"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["UniFormerV2Embeddings", "UniFormerV2Layer", "UniFormerV2GlobalBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": UniFormerV2Layer,
        "attentions": UniFormerV2Attention,
        "cross_attentions": OutputRecorder(UniFormerV2CrossAttention, index=1),
    }

    def __init__(self, config: UniFormerV2Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        # A running mean of statistics needs more digits than half precision has. Only models with local blocks have these modules.
        self._keep_in_fp32_modules_strict = ["batch_norm"] if config.num_local_blocks else []

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """As in the authors' code: every added branch is zero at first, so the model starts as its image encoder."""
        std = self.config.initializer_range
        if isinstance(module, ZeroLinear):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, (DefaultLinear, XavierLinear, UniFormerV2TemporalConv, nn.Conv3d)):
            if isinstance(module, XavierLinear):
                init.xavier_uniform_(module.weight)
            else:
                init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # PyTorch's default
            if isinstance(module, nn.Conv3d) and module.bias is not None:
                init.zeros_(module.bias)  # of a DPE
            elif module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Linear):  # of the trunk
            init.trunc_normal_(module.weight, mean=0.0, std=std)
            init.zeros_(module.bias)
        elif isinstance(module, UniFormerV2CrossAttention):
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, UniFormerV2Embeddings):
            for parameter in (module.cls_token, module.position_embeddings):
                init.normal_(parameter, mean=0.0, std=self.config.hidden_size**-0.5)
        elif isinstance(module, UniFormerV2Model):
            init.zeros_(module.video_token)
            if module.gate is not None:
                init.zeros_(module.gate)
        else:
            super()._init_weights(module)

    @classmethod
    def from_reference(cls, source: str | os.PathLike | Mapping[str, torch.Tensor], **kwargs) -> Any:
        """
        A model with the weights of the authors' code or of MMAction2: a file, or its tensors by name.
        `tubevit.uniformerv2_conversion.load_reference` documents the keyword arguments and the errors; it needs the `tubevit`
        package.
        """
        return import_conversion("uniformerv2_conversion").load_reference(cls, source, **kwargs)

    @classmethod
    def from_image_checkpoint(cls, source: Any, **kwargs) -> Any:
        """
        A model initialized from a CLIP image encoder: of Transformers, or a file in OpenAI's layout.
        `tubevit.uniformerv2_from_clip.load_clip` documents the keyword arguments, such as `design`, `frozen` and `num_labels`; it
        needs the `tubevit` package.
        """
        return import_conversion("uniformerv2_from_clip").load_clip(cls, source, **kwargs)

    def to_reference(self) -> dict[str, torch.Tensor]:
        """The weights by the names and with the shapes of the authors' code, prefix `backbone.` included."""
        return import_conversion("uniformerv2_conversion").to_reference(self)

    def get_input_embeddings(self) -> UniFormerV2Embeddings:
        return cast(UniFormerV2Model, self.base_model).embeddings


@auto_docstring(
    custom_intro="""
    The UniFormerV2 backbone: the tokens of a CLIP image encoder for every frame, and a video token that the global blocks
    gather from them.
    """
)
class UniFormerV2Model(UniFormerV2PreTrainedModel):
    auto_class = "AutoModel"

    def __init__(self, config: UniFormerV2Config):
        super().__init__(config)
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = UniFormerV2Embeddings(config)
        self.pre_layernorm = nn.LayerNorm(width, eps=eps)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList([UniFormerV2Layer(config, rate) for rate in rates])
        self.video_token = nn.Parameter(torch.empty(1, 1, width))
        rates = drop_path_rates(config.global_drop_path_rate, len(config.get_global_layers()))
        self.global_blocks = nn.ModuleList(
            [
                UniFormerV2GlobalBlock(config, dropout, rate)
                for dropout, rate in zip(config.global_dropouts, rates, strict=True)
            ]
        )
        self.gate = nn.Parameter(torch.empty(width)) if config.use_gate else None
        self.layernorm = nn.LayerNorm(width, eps=eps)
        self.post_init()
        self.freeze_untrained_weights()

    def frozen_modules(self) -> list[nn.Module]:
        """The modules that `config.num_frozen_layers` freezes: the embeddings and as many layers, or none if it is 0."""
        num_frozen = self.config.num_frozen_layers
        return [self.embeddings, self.pre_layernorm, *self.layers[:num_frozen]] if num_frozen else []

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> UniFormerV2ModelOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes.
        """
        num_frozen, has_grad = self.config.num_frozen_layers, torch.is_grad_enabled()
        with torch.set_grad_enabled(has_grad and not num_frozen):
            hidden_states = self.pre_layernorm(self.embeddings(pixel_values_videos))
        video_token = self.video_token.expand(hidden_states.shape[0], -1, -1)
        blocks = dict(zip(self.config.get_global_layers(), self.global_blocks, strict=True))
        for index, layer in enumerate(self.layers):
            if index == num_frozen > 0 and has_grad and not torch.compiler.is_compiling():
                hidden_states.requires_grad_()  # reentrant activation checkpointing needs an input that requires a gradient
            with torch.set_grad_enabled(has_grad and index >= num_frozen):
                hidden_states = layer(hidden_states, **kwargs)
            if index in blocks:
                video_token = blocks[index](video_token, hidden_states, **kwargs)
        pooled = video_token[:, 0]
        if self.gate is not None:
            class_tokens = hidden_states.unflatten(1, (-1, self.config.tokens_per_frame))[:, :, 0]
            pooled = torch.lerp(
                pooled, class_tokens.mean(dim=1).to(pooled.device), self.gate.sigmoid().to(pooled.device)
            )
        return UniFormerV2ModelOutput(last_hidden_state=hidden_states, pooler_output=self.layernorm(pooled))


@auto_docstring(
    custom_intro="""
    UniFormerV2 with a video classification head: dropout and a linear layer on the pooled video token.
    """
)
class UniFormerV2ForVideoClassification(UniFormerV2PreTrainedModel):
    auto_class = "AutoModelForVideoClassification"

    def __init__(self, config: UniFormerV2Config):
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        settle_problem_type(config)
        self.uniformerv2 = UniFormerV2Model(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = DefaultLinear(config.hidden_size, self.num_labels)
        self.loss_function = classification_loss
        self.post_init()
        self.freeze_untrained_weights()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> UniFormerV2ClassifierOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes. Several views of each
            video may be given as `(batch_size, num_views, num_frames, num_channels, height, width)`; `logits` then has
            one row per video, whose softmax (multi-label: sigmoid) is the mean of the views' probabilities.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`; with `config.label_groups`, class indices
            `(batch_size, num_groups)` or soft labels.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)  # from Trainer, see classification_loss
        outputs, logits = classify_views(
            pixel_values_videos,
            partial(self.uniformerv2, return_dict=True, **kwargs),
            lambda outputs: self.classifier(self.dropout(outputs.pooler_output)),
            self.config,
        )
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, num_items_in_batch=num_items_in_batch)
        return UniFormerV2ClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
        )


def activation(config: UniFormerV2Config) -> nn.Module:
    """The activation of the config."""
    return QuickGELU() if config.hidden_act == "quick_gelu" else ACT2FN[config.hidden_act]


__all__ = ["UniFormerV2ForVideoClassification", "UniFormerV2Model", "UniFormerV2PreTrainedModel"]
