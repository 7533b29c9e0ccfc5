# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
ViViT's Models 1 to 4 ("ViViT: A Video Vision Transformer", ICCV 2021), as in Scenic: joint attention, a factorized encoder,
factorized self-attention and factorized dot-product attention.

Tokens are in (time, row, column) order. Layers pass `(batch, tokens, hidden_size)`; an attention over one axis arranges the
tokens itself.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .classification import classification_loss, classify_views, settle_problem_type
from .configuration_factorized_vivit import FactorizedViViTConfig
from .frozen_layers import FrozenLayersMixin
from .hub_export import ModelCodeExportMixin, import_conversion
from .pixel_normalization import check_clips, normalize_pixels
from .safetensors_only import SafetensorsOnlyMixin
from .saved_processor import SavedProcessorMixin
from .vit_layers import (
    VisionDropPath,
    VisionLayer,
    VisionMultiHeadAttention,
    drop_path_rates,
    eager_attention_forward,
)


Grid = tuple[int, int, int]  # temporal indices, rows and columns
AXES = ("frames", "pixels of height", "pixels of width")  # that a grid divides


@dataclass
@auto_docstring(custom_intro="Output of [`FactorizedViViTModel`].")
class FactorizedViViTModelOutput(ModelOutput):
    r"""
    last_hidden_state (`torch.Tensor` of shape `(batch_size, num_tokens, hidden_size)`):
        Tokens after the last layer norm. Model 2: those of the temporal encoder, one for each temporal index after its class
        token; without a temporal encoder, the spatial encoder's outputs.
    pooler_output (`torch.Tensor` of shape `(batch_size, hidden_size)`):
        The class token, or the mean of the tokens.
    attentions (`tuple(torch.Tensor)`, *optional*):
        Attention over all tokens (Model 1), `(batch_size, num_heads, num_tokens, num_tokens)`, or over space,
        `(batch_size * temporal_indices, num_heads, tokens, tokens)`.
    temporal_hidden_states (`tuple(torch.Tensor)`, *optional*):
        Hidden states of the temporal encoder of Model 2.
    temporal_attentions (`tuple(torch.Tensor)`, *optional*):
        Attention over time, `(batch_size, num_heads, tokens, tokens)` in Model 2 and
        `(batch_size * positions, num_heads, temporal_indices, temporal_indices)` in Models 3 and 4.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    temporal_hidden_states: tuple[torch.Tensor, ...] | None = None
    temporal_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
@auto_docstring(custom_intro="Output of [`FactorizedViViTForVideoClassification`].")
class FactorizedViViTClassifierOutput(ImageClassifierOutput):
    r"""
    loss (`torch.Tensor` of shape `(1,)`, *optional*):
        Classification or regression loss, if labels are given.
    logits (`torch.Tensor` of shape `(batch_size, num_labels)`):
        Scores before the softmax.
    temporal_hidden_states (`tuple(torch.Tensor)`, *optional*):
        Hidden states of the temporal encoder of Model 2.
    temporal_attentions (`tuple(torch.Tensor)`, *optional*):
        Attention over time in Models 2, 3 and 4.
    """

    temporal_hidden_states: tuple[torch.Tensor, ...] | None = None
    temporal_attentions: tuple[torch.Tensor, ...] | None = None


class FactorizedViViTJointAttention(VisionMultiHeadAttention):
    """Attention over all tokens of a sequence (Model 1, and the temporal encoder of Model 2)."""

    def forward(
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: `(batch, tokens, hidden_size)`. The results are those of `attend`."""
        return self.attend(hidden_states, hidden_states, **kwargs)


class FactorizedViViTSpatialAttention(VisionMultiHeadAttention):
    """Attention among the tokens of a temporal index (Models 2 and 3)."""

    def forward(
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        hidden_states: `(batch, temporal_indices * tokens_per_index, hidden_size)`.

        Returns a tensor of the same shape and the weights `(batch * temporal_indices, heads, tokens_per_index, tokens_per_index)`.
        """
        frames = hidden_states.unflatten(1, (-1, tokens_per_index)).flatten(0, 1)
        output, weights = self.attend(frames, frames, **kwargs)
        return output.view(hidden_states.shape), weights


class FactorizedViViTTemporalAttention(VisionMultiHeadAttention):
    """Attention among the tokens of a place (Model 3)."""

    def forward(
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        hidden_states: `(batch, temporal_indices * tokens_per_index, hidden_size)`.

        Returns a tensor of the same shape and the weights `(batch * tokens_per_index, heads, temporal_indices, temporal_indices)`.
        """
        grid = hidden_states.unflatten(1, (-1, tokens_per_index)).transpose(1, 2)
        places = grid.flatten(0, 1)  # (batch * places, temporal_indices, hidden_size)
        output, weights = self.attend(places, places, **kwargs)
        return output.view(grid.shape).transpose(1, 2).flatten(1, 2), weights


class FactorizedViViTDotProductAttention(VisionMultiHeadAttention):
    """Attention of Model 4: the first half of the heads attends over time, the second half over space."""

    def forward(
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """
        hidden_states: `(batch, temporal_indices * tokens_per_index, hidden_size)`.

        Returns a tensor of the same shape, and the weights over space and over time.
        """
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        # (batch, temporal_indices, tokens_per_index, heads, head_dim), each
        projections = [
            project(hidden_states).unflatten(1, (-1, tokens_per_index)).unflatten(-1, (-1, self.head_dim))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        ]
        half = projections[0].shape[3] // 2
        outputs, weights = [], []
        # (temporal and spatial axis) -> (batch and other axis, heads, axis, head_dim)
        for heads, order in ((slice(0, half), (0, 2, 3, 1, 4)), (slice(half, None), (0, 1, 3, 2, 4))):
            states = [each[:, :, :, heads].permute(order).flatten(0, 1) for each in projections]
            output, weight = attention_interface(
                self,
                *states,
                None,
                dropout=self.attention_dropout if self.training else 0.0,
                scaling=self.scaling,
                **kwargs,
            )  # (batch and other axis, axis, heads, head_dim)
            outputs.append(output.flatten(2).unflatten(0, (hidden_states.shape[0], -1)))
            weights.append(weight)
        temporal, spatial = outputs[0].transpose(1, 2), outputs[1]
        joined = torch.cat((temporal, spatial), dim=-1).flatten(1, 2)
        return self.o_proj(joined), weights[1], weights[0]


class FactorizedViViTDropPath(VisionDropPath):
    """Stochastic depth as in Scenic: surviving branches are not rescaled."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        if not self.training or self.rate == 0.0:
            return hidden_states
        return hidden_states * hidden_states.new_empty(hidden_states.shape[0], 1, 1).bernoulli_(1 - self.rate)


ATTENTION_CLASSES = {
    "spacetime": FactorizedViViTJointAttention,
    "encoder": FactorizedViViTSpatialAttention,
    "self_attention": FactorizedViViTSpatialAttention,
    "dot_product": FactorizedViViTDotProductAttention,
}


class FactorizedViViTLayer(VisionLayer):
    """A pre-norm block: `(batch, tokens, hidden_size)` to the same shape. The attention depends on the model."""

    def __init__(
        self,
        config: FactorizedViViTConfig,
        drop_path: float,
        attention_class: type[nn.Module],
        num_heads: int | None = None,
        intermediate_size: int | None = None,
    ):
        super().__init__(
            config, attention_class=attention_class, num_heads=num_heads, intermediate_size=intermediate_size
        )
        self.drop_path = FactorizedViViTDropPath(drop_path)

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        attended = self.attention(self.layernorm_before(hidden_states), tokens_per_index=tokens_per_index, **kwargs)[0]
        hidden_states = hidden_states + self.drop_path(self.dropout(attended))
        mlp_output = self.mlp(self.layernorm_after(hidden_states))
        return hidden_states + self.drop_path(self.dropout(mlp_output))


class FactorizedViViTTwoAttentionsLayer(FactorizedViViTLayer):
    """A layer of Model 3: attention over each axis in the order of the config, then the MLP."""

    def __init__(self, config: FactorizedViViTConfig, drop_path: float, attention_class: type[nn.Module]):
        super().__init__(config, drop_path, attention_class)
        self.layernorm_temporal = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.temporal_attention = FactorizedViViTTemporalAttention(config)
        self.time_first = config.attention_order == "time_space"

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, tokens_per_index: int, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        space = (self.layernorm_before, self.attention)
        time = (self.layernorm_temporal, self.temporal_attention)
        for norm, attention in (time, space) if self.time_first else (space, time):
            attended, _ = attention(norm(hidden_states), tokens_per_index=tokens_per_index, **kwargs)
            hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.layernorm_after(hidden_states)))


class FactorizedViViTPositions(nn.Module):
    """
    A learned table of positions, with an entry for a class token in front if the model has one.

    grid: temporal indices, rows and columns of the table; 1 for an axis that it does not have.
    """

    def __init__(self, config: FactorizedViViTConfig, grid: Grid):
        super().__init__()
        self.grid, self.num_prefix, self.tubelet_size = grid, int(config.has_cls_token), config.tubelet_size
        self.table = nn.Parameter(torch.empty(1, math.prod(grid) + self.num_prefix, config.hidden_size))

    def forward(self, grid: Grid, interpolate: bool) -> torch.Tensor:
        """
        grid: that of the tokens. interpolate: whether to resize the table to another grid.

        Returns `(1, tokens, hidden_size)`. Raises `ValueError` for another grid unless `interpolate` is true.
        """
        if grid == self.grid:
            return self.table
        if not interpolate:
            sizes = [
                (f"{new * unit} {name}", f"{old * unit} {name}")
                for old, new, unit, name in zip(self.grid, grid, self.tubelet_size, AXES, strict=True)
                if old != new
            ]
            given, needed = (" and ".join(each) for each in zip(*sizes, strict=True))
            raise ValueError(
                f"The clip has {given}, and the positions of this model are for {needed}: give clips of {needed}, or set "
                "interpolate_positions=True to resize the positions."
            )
        prefix, table = self.table[:, : self.num_prefix], self.table[:, self.num_prefix :]
        return torch.cat((prefix, resize_positions(table, self.grid, grid)), dim=1)


def resize_positions(table: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """
    Resize a table of positions `(1, tokens, hidden_size)` of the grid `old` to the grid `new`: bicubically in space, without
    aligned corners, and linearly in time.
    """
    frames = table.view(*old, -1).permute(0, 3, 1, 2)  # (time, hidden_size, rows, columns)
    if new[1:] != old[1:]:
        frames = nn.functional.interpolate(frames, size=new[1:], mode="bicubic", align_corners=False)
    if new[0] != old[0]:
        shape = frames.shape[1:]
        series = nn.functional.interpolate(frames.flatten(1).T[None], size=new[0], mode="linear", align_corners=False)
        frames = series[0].T.unflatten(1, shape)
    return frames.permute(0, 2, 3, 1).reshape(1, math.prod(new), -1)


class FactorizedViViTEmbeddings(nn.Module):
    """Tokens of tubelets, without positions."""

    def __init__(self, config: FactorizedViViTConfig):
        super().__init__()
        self.config = config
        time, rows, columns = config.tubelet_size
        size = (time, rows, columns)
        self.patch_embedding = nn.Conv3d(config.num_channels, config.hidden_size, kernel_size=size, stride=size)

    def forward(self, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """
        pixel_values_videos: `(batch, frames, channels, height, width)`, float (normalized) or uint8 (raw).

        Returns `(batch, temporal_indices * rows * columns, hidden_size)` and these three sizes. Raises `ValueError` for another rank,
        dtype or number of channels, for no clip, and for a size that is not a multiple of the tubelet's.
        """
        clips = pixel_values_videos
        check_clips(clips, self.config.num_channels)
        grid = self.config.grid(clips.shape[1], (clips.shape[3], clips.shape[4]))
        clips = normalize_pixels(clips, self.config, self.patch_embedding.weight.dtype)
        return self.patch_embedding(clips.transpose(1, 2)).flatten(2).transpose(1, 2), grid


def capture_temporal_outputs(forward: Callable) -> Callable:
    """Record the outputs of the temporal attentions and layers that a model has together with the others of their kind."""

    @wraps(forward)
    def wrapper(self, *args, **kwargs):
        has_temporal = {
            "hidden_states": self.config.has_temporal_encoder,
            "attentions": self.config.has_temporal_encoder
            or self.config.factorization in ("self_attention", "dot_product"),
        }
        for kind, has in has_temporal.items():
            requested = kwargs.get(f"output_{kind}", getattr(self.config, f"output_{kind}", False))
            kwargs[f"output_temporal_{kind}"] = has and bool(requested)
        return forward(self, *args, **kwargs)

    return wrapper


@auto_docstring
class FactorizedViViTPreTrainedModel(
    FrozenLayersMixin, SavedProcessorMixin, ModelCodeExportMixin, SafetensorsOnlyMixin, PreTrainedModel
):
    config: FactorizedViViTConfig
    base_model_prefix = "factorized_vivit"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["FactorizedViViTEmbeddings", "FactorizedViViTLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: FactorizedViViTConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        # FSDP looks for every class of this list in the model, and the layers of Model 3 have a class of their own.
        self._no_split_modules = ["FactorizedViViTEmbeddings", _layer_class(config).__name__]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """
        As in Scenic: Xavier-uniform kernels, positions of standard deviation 0.02, class tokens and classifier zero. Two departures: the
        tubelet kernel is uniform with the bound of a linear layer (Scenic: LeCun normal), and the MLPs' biases are zero (Scenic: normal
        with standard deviation 1e-6).
        """
        if isinstance(module, FactorizedViViTClassifier):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, nn.Conv3d)):
            outputs, inputs = module.weight.shape[0], module.weight[0].numel()
            bound = (6 / (inputs + outputs)) ** 0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, FactorizedViViTPositions):
            init.normal_(module.table, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, FactorizedViViTModel):
            for token in (module.cls_token, module.temporal_cls_token):
                if token is not None:
                    init.zeros_(token)
        else:
            super()._init_weights(module)

    @classmethod
    def from_scenic(cls, source: str | os.PathLike | Mapping[str, torch.Tensor], **kwargs) -> Any:
        """
        A model with the weights of a Scenic ViViT: a file of Flax, or its arrays as tensors by their paths.
        `tubevit.vivit_conversion.load_scenic` documents the keyword arguments and the errors; it needs the `tubevit` package.
        """
        return import_conversion("vivit_conversion").load_scenic(cls, source, **kwargs)

    @classmethod
    def from_vivit(cls, source: Any, **kwargs) -> Any:
        """
        Model 1 with the weights of Transformers' `VivitForVideoClassification`: the model, its folder or its name on the Hub.
        `tubevit.vivit_conversion.load_library_vivit` documents the keyword arguments; it needs the `tubevit` package.
        """
        return import_conversion("vivit_conversion").load_library_vivit(cls, source, **kwargs)

    @classmethod
    def from_image_checkpoint(cls, source: Any, **kwargs) -> Any:
        """
        A model initialized from an image ViT of Transformers or of Scenic. `tubevit.vivit_from_vit.load_vit` documents the keyword
        arguments, such as `factorization`, `position_init` and `num_labels`; it needs the `tubevit` package.
        """
        return import_conversion("vivit_from_vit").load_vit(cls, source, **kwargs)

    def to_scenic(self) -> dict[str, torch.Tensor]:
        """The weights by the paths and with the shapes of Scenic's parameters."""
        return import_conversion("vivit_conversion").to_scenic(self)

    def freeze_untrained_weights(self) -> None:
        """As in the base class. The class token is frozen with the positions."""
        super().freeze_untrained_weights()
        backbone = cast(FactorizedViViTModel, self.base_model)
        if self.config.num_frozen_layers and backbone.cls_token is not None:
            backbone.cls_token.requires_grad_(False)

    def get_input_embeddings(self) -> FactorizedViViTEmbeddings:
        return cast(FactorizedViViTModel, self.base_model).embeddings


@auto_docstring(
    custom_intro="""
    The backbone of ViViT's Models 1 to 4: tubelet tokens, the encoder or the two encoders, and a pooled vector.
    """
)
class FactorizedViViTModel(FactorizedViViTPreTrainedModel):
    auto_class = "AutoModel"
    _can_record_outputs = {
        "hidden_states": [
            OutputRecorder(FactorizedViViTLayer, layer_name="layers"),
            OutputRecorder(FactorizedViViTLayer, layer_name="spatial_layers"),
        ],
        "attentions": [
            OutputRecorder(FactorizedViViTJointAttention, index=1, layer_name="layers"),
            OutputRecorder(FactorizedViViTSpatialAttention, index=1),
            OutputRecorder(FactorizedViViTDotProductAttention, index=1),
        ],
        "temporal_hidden_states": OutputRecorder(FactorizedViViTLayer, layer_name="temporal_layers"),
        "temporal_attentions": [
            OutputRecorder(FactorizedViViTJointAttention, index=1, layer_name="temporal_layers"),
            OutputRecorder(FactorizedViViTTemporalAttention, index=1),
            OutputRecorder(FactorizedViViTDotProductAttention, index=2),
        ],
    }

    def __init__(self, config: FactorizedViViTConfig):
        super().__init__(config)
        width, eps = config.hidden_size, config.layer_norm_eps
        time, rows, columns = config.grid()
        is_encoder = config.factorization == "encoder"
        self.embeddings = FactorizedViViTEmbeddings(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if config.has_cls_token else None
        self.positions = FactorizedViViTPositions(config, (1 if is_encoder else time, rows, columns))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        layers = nn.ModuleList(
            _layer_class(config)(config, rate, ATTENTION_CLASSES[config.factorization])
            for rate in drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        )
        self.temporal_cls_token: nn.Parameter | None = None
        if is_encoder:
            self.spatial_layers, self.spatial_layernorm = layers, nn.LayerNorm(width, eps=eps)
        else:
            self.layers, self.layernorm = layers, nn.LayerNorm(width, eps=eps)
        if config.has_temporal_encoder:
            if config.has_cls_token:
                self.temporal_cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.temporal_positions = FactorizedViViTPositions(config, (time, 1, 1))
            self.temporal_layers = nn.ModuleList(
                FactorizedViViTLayer(
                    config,
                    rate,
                    FactorizedViViTJointAttention,
                    config.temporal_num_attention_heads,
                    config.temporal_intermediate_size,
                )
                for rate in drop_path_rates(config.drop_path_rate, config.temporal_num_hidden_layers)
            )
            self.temporal_layernorm = nn.LayerNorm(width, eps=eps)
        self.post_init()
        self.freeze_untrained_weights()

    @property
    def first_layers(self) -> nn.ModuleList:
        """The layers, in Model 2 those of the spatial encoder."""
        return self.spatial_layers if self.config.factorization == "encoder" else self.layers

    def frozen_modules(self) -> list[nn.Module]:
        """The modules that `config.num_frozen_layers` freezes: tubelets, positions and as many layers, or none if it is 0."""
        num_frozen = self.config.num_frozen_layers
        return [self.embeddings, self.positions, *self.first_layers[:num_frozen]] if num_frozen else []

    @merge_with_config_defaults
    @capture_temporal_outputs
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        interpolate_positions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FactorizedViViTModelOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes.
        interpolate_positions (`bool`, *optional*):
            Whether to resize the positions for clips of another size; `config.interpolate_positions` by default.
        """
        if interpolate_positions is None:
            interpolate_positions = self.config.interpolate_positions
        num_frozen, has_grad = self.config.num_frozen_layers, torch.is_grad_enabled()
        is_encoder = self.config.factorization == "encoder"
        with torch.set_grad_enabled(has_grad and not num_frozen):
            tokens, (time, rows, columns) = self.embeddings(pixel_values_videos)
            if is_encoder:  # the spatial encoder sees one temporal index at a time
                tokens = tokens.unflatten(1, (time, -1)).flatten(0, 1)
            positions = self.positions((1 if is_encoder else time, rows, columns), interpolate_positions)
            hidden_states = self.dropout(_prepend(self.cls_token, tokens) + positions.to(tokens.device))
        tokens_per_index = hidden_states.shape[1] if is_encoder else rows * columns
        hidden_states = hidden_states.reshape(pixel_values_videos.shape[0], -1, hidden_states.shape[-1])
        for index, layer in enumerate(self.first_layers):
            if index == num_frozen > 0 and has_grad and not torch.compiler.is_compiling():
                hidden_states.requires_grad_()  # reentrant activation checkpointing needs an input that requires a gradient
            with torch.set_grad_enabled(has_grad and index >= num_frozen):
                hidden_states = layer(hidden_states, tokens_per_index, **kwargs)
        if not is_encoder:
            hidden_states = self.layernorm(hidden_states)
        else:
            frames = self.spatial_layernorm(hidden_states).unflatten(1, (time, tokens_per_index))
            hidden_states = frames[:, :, 0] if self.config.has_cls_token else frames.mean(dim=2)
            if not self.config.has_temporal_encoder:
                return FactorizedViViTModelOutput(
                    last_hidden_state=hidden_states, pooler_output=hidden_states.mean(dim=1)
                )
            hidden_states = _prepend(self.temporal_cls_token, hidden_states)
            positions = self.temporal_positions((time, 1, 1), interpolate_positions)
            hidden_states = self.dropout(hidden_states + positions.to(hidden_states.device))
            for layer in self.temporal_layers:
                hidden_states = layer(hidden_states, hidden_states.shape[1], **kwargs)
            hidden_states = self.temporal_layernorm(hidden_states)
        pooled = hidden_states[:, 0] if self.config.has_cls_token else hidden_states.mean(dim=1)
        return FactorizedViViTModelOutput(last_hidden_state=hidden_states, pooler_output=pooled)


class FactorizedViViTClassifier(nn.Linear):
    """The classifier, which is zero at first."""


@auto_docstring(
    custom_intro="""
    One of ViViT's Models 1 to 4 with a video classification head: a linear layer on the pooled vector.
    """
)
class FactorizedViViTForVideoClassification(FactorizedViViTPreTrainedModel):
    auto_class = "AutoModelForVideoClassification"

    def __init__(self, config: FactorizedViViTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        settle_problem_type(config)
        self.factorized_vivit = FactorizedViViTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = FactorizedViViTClassifier(config.hidden_size, self.num_labels)
        self.loss_function = classification_loss
        self.post_init()
        self.freeze_untrained_weights()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_positions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FactorizedViViTClassifierOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes. Several views of each
            video may be given as `(batch_size, num_views, num_frames, num_channels, height, width)`; `logits` then has
            one row per video, whose softmax (multi-label: sigmoid) is the mean of the views' probabilities.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`; with `config.label_groups`, class indices
            `(batch_size, num_groups)` or soft labels.
        interpolate_positions (`bool`, *optional*):
            Whether to resize the positions for clips of another size; `config.interpolate_positions` by default.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)  # from Trainer, see classification_loss
        outputs, logits = classify_views(
            pixel_values_videos,
            partial(self.factorized_vivit, interpolate_positions=interpolate_positions, return_dict=True, **kwargs),
            lambda outputs: self.classifier(self.dropout(outputs.pooler_output)),
            self.config,
        )
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, num_items_in_batch=num_items_in_batch)
        return FactorizedViViTClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            temporal_hidden_states=outputs.temporal_hidden_states,
            temporal_attentions=outputs.temporal_attentions,
        )


def _layer_class(config: FactorizedViViTConfig) -> type[FactorizedViViTLayer]:
    return FactorizedViViTTwoAttentionsLayer if config.factorization == "self_attention" else FactorizedViViTLayer


def _prepend(token: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
    return (
        tokens
        if token is None
        else torch.cat((token.expand(tokens.shape[0], -1, -1).to(tokens.device), tokens), dim=1)
    )


__all__ = [
    "FactorizedViViTForVideoClassification",
    "FactorizedViViTModel",
    "FactorizedViViTPreTrainedModel",
]
