# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
TubeViT ("Rethinking Video ViTs: Sparse Video Tubes for Joint Image and Video Learning", CVPR 2023): an image ViT with a few
sparse 3D tubes as its tokenizer, with one set of weights for images and clips.

`tube_embeddings` converts pixels to tokens, `vit_layers` has the encoder blocks, `pooling` reduces the tokens to one vector.
"""

import copy
import os
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .classification import classification_loss, classify_views, settle_problem_type
from .configuration_tubevit import TubeViTConfig
from .frozen_layers import FrozenLayersMixin
from .hub_export import ModelCodeExportMixin
from .interpolated_kernel import TubeViTInterpolatedKernel
from .pooling import POOLING_CLASSES, TubeViTAttentionPooling, TubeViTGridPooling
from .position_embeddings import TubeViTLearnedPositions, TubeViTRelativePositions
from .safetensors_only import SafetensorsOnlyMixin
from .saved_processor import SavedProcessorMixin
from .transferred_positions import TubeViTTransferredPositions
from .tube_embeddings import TubeViTEmbeddings, TubeViTTubeProjection, init_temporal_difference_
from .tube_masking import check_masks, count_visible, select_tokens, split_tokens
from .vit_layers import (
    Rotary,
    VisionAttention,
    VisionGatedMLP,
    VisionLayer,
    VisionLayerScale,
    VisionMLP,
    drop_path_rates,
)


class TubeViTKwargs(TransformersKwargs, total=False):
    """attention_mask: accepted as `None` only, because generic code passes it; all tokens of a clip attend to each other."""

    attention_mask: torch.Tensor | None


class TubeViTLayer(VisionLayer):
    """A ViT block with the MLP and LayerScale of the config. drop_path: stochastic depth rate of both branches."""

    def __init__(self, config: TubeViTConfig, drop_path: float = 0.0):
        super().__init__(
            config,
            mlp_class=VisionGatedMLP if config.use_gated_mlp else VisionMLP,
            use_layer_scale=config.layerscale_value is not None,
            drop_path=drop_path,
        )


class TubeViTExtraAttention(GradientCheckpointingLayer):
    """An additional self-attention layer, `MSA(LN(z)) + z`, with no counterpart in image checkpoints (table 8)."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = VisionAttention(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary: Rotary | None = None,
        attention_bias: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        attention_output, _ = self.attention(self.layernorm(hidden_states), rotary, attention_bias, **kwargs)
        return hidden_states + attention_output


class TubeViTGate(nn.Module):
    """
    The gated connection of image-to-video scaling, `z + tanh(alpha) z_0` (eq. 8), where z_0 is the encoder's input: tokens
    with positions. alpha is learned and zero-initialized, so at first the gate adds nothing.
    """

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))

    def forward(self, hidden_states: torch.Tensor, encoder_input: torch.Tensor) -> torch.Tensor:
        """Both inputs and the result are `(batch, tokens, hidden_size)`."""
        return hidden_states + self.alpha.tanh() * encoder_input


@auto_docstring
class TubeViTPreTrainedModel(
    FrozenLayersMixin, SavedProcessorMixin, ModelCodeExportMixin, SafetensorsOnlyMixin, PreTrainedModel
):
    config: TubeViTConfig
    base_model_prefix = "tubevit"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video", "image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["TubeViTEmbeddings", "TubeViTLayer", "TubeViTAttentionPooling"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": TubeViTLayer, "attentions": VisionAttention}
    # A backbone takes no classifier, so Transformers need not report those of a checkpoint. Missing weights are reported.
    _keys_to_ignore_on_load_unexpected = [r"^classifiers?\."]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normal for every kernel, query and token, as in ViT; zeros for biases."""
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, TubeViTTubeProjection, TubeViTInterpolatedKernel)):
            is_kernel = not isinstance(module, nn.Linear)
            if is_kernel and self.config.kernel_initialization == "temporal_difference":
                init_temporal_difference_(module.weight)
            elif is_kernel and self.config.kernel_initialization == "fan_in":
                init.normal_(module.weight, mean=0.0, std=module.weight[0].numel() ** -0.5)
            else:
                init.trunc_normal_(module.weight, mean=0.0, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TubeViTEmbeddings):
            for token in (module.cls_token, module.register_tokens):
                if token is not None:
                    init.trunc_normal_(token, mean=0.0, std=std)
        elif isinstance(module, VisionLayerScale):
            assert self.config.layerscale_value is not None  # otherwise no layer has a LayerScale
            init.constant_(module.lambda1, self.config.layerscale_value)
        elif isinstance(module, TubeViTTransferredPositions) and module.grid is not None:
            init.trunc_normal_(module.grid, mean=0.0, std=std)
        elif isinstance(module, TubeViTGate):
            init.zeros_(module.alpha)
        elif isinstance(module, (TubeViTLearnedPositions, TubeViTRelativePositions)):
            for table in module.tables:
                init.trunc_normal_(table, mean=0.0, std=std)
        elif isinstance(module, TubeViTAttentionPooling):
            init.trunc_normal_(module.query, mean=0.0, std=std)
        else:
            super()._init_weights(module)

    @classmethod
    def from_image_checkpoint(cls, name_or_path: str | os.PathLike, **kwargs) -> Any:
        """
        Initialize the model from an image model of Transformers: ViT, DeiT, DINOv2 (with or without registers), DINOv3 ViT, or
        the vision tower of SigLIP, SigLIP 2 or CLIP. `tubevit.from_image_checkpoint.convert_image_checkpoint` documents the
        keyword arguments, such as `tubes`, `num_frames`, `num_labels` and `output_report`.

        Returns the model in evaluation mode, or `(model, report)` with `output_report=True`. Raises `ImportError` if the
        `tubevit` package is not installed: code exported to the Hub does not contain the conversion.
        """
        try:
            from tubevit.from_image_checkpoint import convert_image_checkpoint
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{cls.__name__}.from_image_checkpoint needs the `tubevit` package ({error}): code exported to the Hub does "
                "not contain the conversion. Install tubevit, convert there, and load the saved model here."
            ) from error
        return convert_image_checkpoint(cls, name_or_path, **kwargs)

    @property
    def _backbone(self) -> "TubeViTModel":
        """The `TubeViTModel` of this model, or the model itself."""
        return cast("TubeViTModel", self.base_model)

    def get_input_embeddings(self) -> TubeViTEmbeddings:
        return self._backbone.embeddings

    def set_tubes(
        self,
        tubes: list[dict],
        num_frames: int | None = None,
        image_size: int | list[int] | tuple[int, int] | None = None,
    ) -> None:
        """
        Tokenize with other tubes and the same weights: smaller strides for more tokens at evaluation (table 7d), or longer
        kernels of an interpolated one (section 3.4). `from_pretrained(path, tubes=..., num_frames=...)` does the same.

        tubes: as in `TubeViTConfig.tubes`. num_frames, image_size: new values of these config fields; `None` keeps them.

        A tube with its own kernel keeps its kernel size and its product of space-to-depth factors; strides and offsets may
        change. Interpolated kernels fit 3D tubes of any number and shape. Fixed positions follow the new centers.

        Raises `ValueError`, and changes nothing, if the config does not allow the tubes or the weights do not fit. Learned
        positions fit only the tubes and the clip of the config. A token budget ends.
        """
        config = self.config.with_tubes(tubes, num_frames, image_size)
        self.config.tubes, self.config.num_frames, self.config.image_size = (
            config.tubes,
            config.num_frames,
            config.image_size,
        )
        self.get_input_embeddings().set_tubes(config)

    def set_token_budget(self, token_budget: int | None) -> int:
        """
        Tokenize clips with at most `token_budget` tube tokens (without CLS and registers) and the same weights; `None` restores
        the tubes of the config. `from_pretrained(path, token_budget=...)` does the same.

        The strides become coarser and positions follow the new centers, see `tubevit.token_budget.tubes_for_budget`. The budget
        is that of a clip of the configured size; larger clips have more tokens. Images are tokenized as before. The config,
        and so a saved checkpoint, keeps the tubes that the model was trained with.

        Returns the number of tube tokens of a clip of the configured size. Raises `ValueError`, and changes nothing, for a budget
        below the smallest possible one, and for positions that number the tokens (`"learned"`, `"fixed_without_stride"`).
        """
        config = self.config if token_budget is None else self.config.with_token_budget(token_budget)
        self.get_input_embeddings().tubes = tuple(config.get_tubes())
        return config.num_tokens()

    @classmethod
    def from_pretrained(cls, *args, token_budget: int | None = None, **kwargs) -> Any:
        """As in the base class. token_budget: of `set_token_budget`; `None` keeps the tubes of the config."""
        loaded = super().from_pretrained(*args, **kwargs)
        if token_budget is not None:
            (loaded[0] if isinstance(loaded, tuple) else loaded).set_token_budget(token_budget)
        return loaded

    def with_independent_kernels(self) -> "TubeViTPreTrainedModel":
        """
        A copy of this model in which every tube has its own kernel, initialized with the interpolated kernel resized to the
        tube. The copy computes the same function. Raises `ValueError` if the kernels are independent already.
        """
        if not self.config.interpolate_kernels:
            raise ValueError("The kernels of this model are independent already: interpolate_kernels is False.")
        config = copy.deepcopy(self.config)
        config.interpolate_kernels = False
        embeddings = self.get_input_embeddings()
        prefix = next(name for name, module in self.named_modules() if module is embeddings) + "."
        kernel_prefixes = (f"{prefix}projections.", f"{prefix}interpolated_kernel.")
        weights = {name: value for name, value in self.state_dict().items() if not name.startswith(kernel_prefixes)}
        with torch.no_grad():
            for index in range(len(embeddings.tubes)):
                weight, bias = embeddings.kernel(index)
                weights[f"{prefix}projections.{index}.weight"] = weight
                weights[f"{prefix}projections.{index}.bias"] = bias
        model = type(self)(config).to(self.device, self.dtype)  # type: ignore[arg-type]  # a decorator hides that `to` is a method
        model.load_state_dict(weights)
        return model.train(self.training)


@auto_docstring(
    custom_intro="""
    The TubeViT backbone: tube tokens of clips or images, the ViT encoder, and a pooled vector.
    """
)
class TubeViTModel(TubeViTPreTrainedModel):
    auto_class = "AutoModel"

    def __init__(self, config: TubeViTConfig):
        super().__init__(config)
        self.embeddings = TubeViTEmbeddings(config)
        self.pre_layernorm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.use_pre_layernorm else nn.Identity()
        )
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList([TubeViTLayer(config, rate) for rate in rates])
        has_norm = config.final_layernorm != "none"
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if has_norm else nn.Identity()
        self.pooler = POOLING_CLASSES[config.pooling](config)
        self.extra_layers = nn.ModuleList([TubeViTExtraAttention(config) for _ in range(config.num_extra_layers)])
        self.gate = TubeViTGate() if config.gate_layer is not None else None
        self.post_init()
        self.freeze_untrained_weights()

    def frozen_modules(self) -> list[nn.Module]:
        """The modules that `config.num_frozen_layers` freezes: the tokenizer and as many layers, or none if it is 0."""
        num_frozen = self.config.num_frozen_layers
        return [self.embeddings, self.pre_layernorm, *self.layers[:num_frozen]] if num_frozen else []

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        num_visible_tokens: int | None = None,
        **kwargs: Unpack[TubeViTKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`, *optional*):
            Clips, either normalized floats or raw uint8, which the model normalizes. Give exactly one of
            `pixel_values_videos` and `pixel_values`.
        pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`, *optional*):
            Images, either normalized floats or raw uint8. Only the 2D tubes tokenize them.
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tube_tokens)`, *optional*):
            Whether a tube token is masked: the layers and the pooling see the others only, see [`TubeViTForPreTraining`].
            Each clip must have the same number of masked tokens.
        num_visible_tokens (`int`, *optional*):
            Number of tube tokens of a clip that are not masked, if the caller knows it. By default they are counted, and a GPU
            then waits for the result.

        Returns:
            [`~modeling_outputs.BaseModelOutputWithPooling`] with `last_hidden_state` of shape
            `(batch_size, num_tokens, hidden_size)`: CLS token and register tokens if the model has them, then the tokens of
            each tube in turn in (time, height, width) order; and `pooler_output` of shape
            `(batch_size, config.pooled_size)`, which is `hidden_size` for most poolings.
        """
        if kwargs.pop("attention_mask", None) is not None:
            raise ValueError("TubeViT takes no attention_mask: all tokens of a clip attend to each other.")
        num_frozen, has_grad = self.config.num_frozen_layers, torch.is_grad_enabled()
        with torch.set_grad_enabled(has_grad and not num_frozen):
            hidden_states = self.embeddings(pixel_values=pixel_values, pixel_values_videos=pixel_values_videos)
            rotary = self.embeddings.rotary(hidden_states, pixel_values, pixel_values_videos)
            bias = self.embeddings.attention_bias(hidden_states, pixel_values, pixel_values_videos)
            if bool_masked_pos is not None:
                hidden_states, rotary, bias = self._keep_visible(
                    bool_masked_pos, num_visible_tokens, hidden_states, rotary, bias
                )
            elif num_visible_tokens is not None:
                raise ValueError(
                    f"num_visible_tokens={num_visible_tokens} has no effect without bool_masked_pos: give both, or leave it out."
                )
            hidden_states = encoder_input = self.pre_layernorm(hidden_states)
        for index, layer in enumerate(self.layers):
            if index == num_frozen > 0 and has_grad and not torch.compiler.is_compiling():
                hidden_states.requires_grad_()  # reentrant activation checkpointing needs an input that requires a gradient
            with torch.set_grad_enabled(has_grad and index >= num_frozen):
                # Positional: reentrant activation checkpointing passes gradients to positional arguments only.
                hidden_states = layer(hidden_states, rotary, bias, **kwargs)
            for extra_layer in self._extra_layers_after(index):
                hidden_states = extra_layer(hidden_states, rotary, bias, **kwargs)
            if self.gate is not None and index == self.config.gate_layer:
                hidden_states = self.gate(hidden_states, encoder_input)
        norms_pooled = self.config.final_layernorm == "pooled"
        tokens = hidden_states if norms_pooled else self.layernorm(hidden_states)
        if isinstance(self.pooler, TubeViTGridPooling):
            pooled = self.pooler(tokens, *self.embeddings.tubes_and_size(pixel_values, pixel_values_videos))
        else:
            pooled = self.pooler(tokens, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens, pooler_output=self.layernorm(pooled) if norms_pooled else pooled
        )

    def _keep_visible(
        self,
        bool_masked_pos: torch.Tensor,
        num_visible: int | None,
        tokens: torch.Tensor,
        rotary: Rotary | None,
        bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Rotary | None, torch.Tensor | None]:
        """
        CLS, register and visible tokens, with their rotary positions `(batch, 1, tokens, head_dim)` and bias
        `(batch, heads, tokens, tokens)`.
        """
        num_prefix = self.config.num_prefix_tokens
        bool_masked_pos = bool_masked_pos.to(tokens.device, torch.bool)  # `~` of integers is not their negation
        num_tokens = tokens.shape[1] - num_prefix
        expected = count_visible(num_tokens, self.config.mask_ratio)
        num_visible = check_masks(bool_masked_pos, (tokens.shape[0], num_tokens), expected, num_visible)
        visible, _ = split_tokens(bool_masked_pos, num_visible)
        prefix = torch.arange(num_prefix, device=visible.device).expand(visible.shape[0], -1)
        kept = torch.cat((prefix, visible + num_prefix), dim=1)
        if rotary is not None:
            rotary = rotary[0][kept][:, None], rotary[1][kept][:, None]
        if bias is not None:
            bias = bias[0][:, kept[:, :, None], kept[:, None, :]].transpose(0, 1)
        return select_tokens(tokens, kept), rotary, bias

    def _extra_layers_after(self, index: int) -> list[nn.Module]:
        """The extra layers that follow layer `index`; they are spaced evenly, and the last one follows the last layer."""
        num_layers, num_extra = len(self.layers), len(self.extra_layers)
        return [self.extra_layers[i] for i in range(num_extra) if -(-(i + 1) * num_layers // num_extra) - 1 == index]


class TubeViTForClassification(TubeViTPreTrainedModel):
    """
    The shared part of the classification models: backbone, dropout, one linear layer, and the loss.

    With one label, an open `config.problem_type` becomes "regression", as the loss resolves it: the saved config then says so to
    pipelines.

    Raises `ValueError` for the config of a joint model, whose checkpoint has no weights of a single classifier.
    """

    def __init__(self, config: TubeViTConfig):
        if config.heads:
            raise ValueError(_joint_checkpoint(config, type(self).__name__))
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        settle_problem_type(config)
        self.tubevit = TubeViTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.pooled_size, self.num_labels) if self.num_labels else nn.Identity()
        self.loss_function = classification_loss
        self.post_init()
        self.freeze_untrained_weights()

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """pooled: `(batch, pooled_size)`. Returns logits `(batch, num_labels)`."""
        return self.classifier(self.dropout(pooled))

    def to_output(
        self,
        outputs: BaseModelOutputWithPooling,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> ImageClassifierOutput:
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, num_items_in_batch=num_items_in_batch)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def _joint_checkpoint(config: TubeViTConfig, class_name: str) -> str:
    """Why a joint checkpoint cannot be loaded as a `class_name`, and what can be loaded instead."""
    assert config.heads is not None
    name = config.name_or_path or "This config"
    fitting = [head for head, values in config.heads.items() if values["modality"].title() in class_name]
    first = next(iter(fitting or config.heads))
    sub_folder = os.path.join(name, first)
    save = (
        f"TubeViTForJointClassification.from_pretrained({name!r}).to_classifier({first!r}).save_pretrained(NEW_FOLDER)"
    )
    return (
        f"{name} is a joint model, with heads for {', '.join(config.heads)}, and not a {class_name}: load the classifier of one "
        f"head, " + (f"its sub-folder {sub_folder}." if os.path.isdir(sub_folder) else f"after `{save}`.")
    )


@auto_docstring(
    custom_intro="""
    TubeViT with a video classification head: a linear layer on the pooled vector of a clip.
    """
)
class TubeViTForVideoClassification(TubeViTForClassification):
    auto_class = "AutoModelForVideoClassification"
    input_modalities = ["video"]

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes. Several views of each
            video may be given as `(batch_size, num_views, num_frames, num_channels, height, width)`; `logits` then has
            one row per video, whose softmax (multi-label: sigmoid) is the mean of the views' probabilities; hidden
            states and attentions are those of the `batch_size * num_views` clips.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`; with `config.label_groups`, class indices
            `(batch_size, num_groups)` or soft labels.

        Returns:
            [`~modeling_outputs.ImageClassifierOutput`] with `logits` of shape `(batch_size, num_labels)` and, if
            requested, `loss`, `hidden_states` and `attentions`.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)  # from Trainer, see classification_loss
        outputs, logits = classify_views(
            pixel_values_videos,
            partial(self.tubevit, return_dict=True, **kwargs),
            lambda outputs: self.classify(outputs.pooler_output),
            self.config,
        )
        return self.to_output(outputs, logits, labels, num_items_in_batch)


@auto_docstring(
    custom_intro="""
    TubeViT with an image classification head and the same weights: only the 2D tubes tokenize images.
    """
)
class TubeViTForImageClassification(TubeViTForClassification):
    auto_class = "AutoModelForImageClassification"
    main_input_name = "pixel_values"
    input_modalities = ["image"]

    def __init__(self, config: TubeViTConfig):
        if not config.get_image_tubes():
            raise ValueError(
                "An image classifier needs a tube whose kernel spans one frame, such as 1x16x16; config.tubes has none."
            )
        super().__init__(config)

    def freeze_untrained_weights(self) -> None:
        """
        As in the base class, and stop gradients of the 3D tubes, which process no images. They stay in the checkpoint. Without
        a gradient, weight decay does not shrink them and data-parallel training does not wait for them.
        """
        super().freeze_untrained_weights()
        embeddings = self.tubevit.embeddings
        for index, tube in enumerate(embeddings.tubes):
            if not tube.is_image_tube:
                for parameter in embeddings.kernel_parameters(index):
                    parameter.requires_grad_(False)
                if isinstance(embeddings.positions, TubeViTLearnedPositions):
                    embeddings.positions.tables[index].requires_grad_(False)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`):
            Images, either normalized floats or raw uint8, which the model normalizes.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`; with `config.label_groups`, class indices
            `(batch_size, num_groups)` or soft labels.

        Returns:
            [`~modeling_outputs.ImageClassifierOutput`] with `logits` of shape `(batch_size, num_labels)` and, if
            requested, `loss`, `hidden_states` and `attentions`.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)  # from Trainer, see classification_loss
        outputs = self.tubevit(pixel_values=pixel_values, return_dict=True, **kwargs)
        return self.to_output(outputs, self.classify(outputs.pooler_output), labels, num_items_in_batch)


__all__ = [
    "TubeViTForImageClassification",
    "TubeViTForVideoClassification",
    "TubeViTModel",
    "TubeViTPreTrainedModel",
]
