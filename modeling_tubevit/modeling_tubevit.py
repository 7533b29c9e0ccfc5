# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
TubeViT ("Rethinking Video ViTs: Sparse Video Tubes for Joint Image and Video Learning", CVPR 2023): an image ViT that
sees clips through a few sparse 3D tubes, with one set of weights for images and clips.

`tube_embeddings` turns pixels into tokens, `vit_layers` is the encoder, `pooling` makes one vector of its output.
"""

import os

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .classification import average_views, classification_loss
from .configuration_tubevit import TubeViTConfig
from .from_image_checkpoint import ImageCheckpointMixin
from .hub_export import ModelCodeExportMixin
from .interpolated_kernel import TubeViTInterpolatedKernel
from .pooling import POOLING_CLASSES, TubeViTAttentionPooling
from .position_embeddings import TubeViTLearnedPositions
from .transferred_positions import TubeViTTransferredPositions
from .tube_changes import TubeChangesMixin
from .tube_embeddings import TubeViTEmbeddings, TubeViTTubeProjection, init_temporal_difference_
from .vit_layers import TubeViTAttention, TubeViTExtraAttention, TubeViTGate, TubeViTLayer, TubeViTLayerScale


@auto_docstring
class TubeViTPreTrainedModel(ModelCodeExportMixin, TubeChangesMixin, ImageCheckpointMixin, PreTrainedModel):
    config: TubeViTConfig
    base_model_prefix = "tubevit"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "image")
    supports_gradient_checkpointing = True
    _no_split_modules = ["TubeViTEmbeddings", "TubeViTLayer", "TubeViTAttentionPooling"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": TubeViTLayer, "attentions": TubeViTAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normal for every kernel, query and token, as ViT has it; zero biases."""
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, TubeViTTubeProjection, TubeViTInterpolatedKernel)):
            is_kernel = not isinstance(module, nn.Linear)
            if is_kernel and self.config.kernel_initialization == "temporal_difference":
                init_temporal_difference_(module.weight)
            else:
                init.trunc_normal_(module.weight, mean=0.0, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TubeViTEmbeddings):
            for token in (module.cls_token, module.register_tokens):
                if token is not None:
                    init.trunc_normal_(token, mean=0.0, std=std)
        elif isinstance(module, TubeViTLayerScale):
            init.constant_(module.lambda1, self.config.layerscale_value)
        elif isinstance(module, TubeViTTransferredPositions) and module.grid is not None:
            init.trunc_normal_(module.grid, mean=0.0, std=std)
        elif isinstance(module, TubeViTGate):
            init.zeros_(module.alpha)
        elif isinstance(module, TubeViTLearnedPositions):
            for table in module.tables:
                init.trunc_normal_(table, mean=0.0, std=std)
        elif isinstance(module, TubeViTAttentionPooling):
            init.trunc_normal_(module.query, mean=0.0, std=std)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """As in the base class, from safetensors alone: a pickle can run any code when it is loaded."""
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "use_safetensors=False was given, but TubeViT loads no pickle checkpoints: convert to safetensors."
            )
        kwargs["use_safetensors"] = True
        _refuse_pickle(pretrained_model_name_or_path, kwargs.get("subfolder", ""))
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} cannot be read ({error}): the file is damaged or "
                "incomplete, fetch it again."
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze_untrained_weights()
        return loaded

    def freeze_untrained_weights(self) -> None:
        """
        Stop gradients for the weights that this model does not train: those before `config.num_frozen_layers`. To train
        them again, load the checkpoint with `from_pretrained(path, num_frozen_layers=0)`: the forward pass follows the config.
        """
        for module in getattr(self, self.base_model_prefix, self).frozen_modules():
            module.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        return getattr(self, self.base_model_prefix, self).embeddings


@auto_docstring(
    custom_intro="""
    The TubeViT backbone: tube tokens of clips or images, the ViT encoder, and a pooled vector.
    """
)
class TubeViTModel(TubeViTPreTrainedModel):
    def __init__(self, config: TubeViTConfig):
        super().__init__(config)
        self.embeddings = TubeViTEmbeddings(config)
        self.pre_layernorm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.use_pre_layernorm else nn.Identity()
        )
        last = max(1, config.num_hidden_layers - 1)
        drop_paths = [config.drop_path_rate * index / last for index in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList([TubeViTLayer(config, drop_path) for drop_path in drop_paths])
        has_norm = config.final_layernorm != "none"
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if has_norm else nn.Identity()
        self.pooler = POOLING_CLASSES[config.pooling](config)
        self.extra_layers = nn.ModuleList([TubeViTExtraAttention(config) for _ in range(config.num_extra_layers)])
        self.gate = TubeViTGate() if config.gate_layer is not None else None
        self.post_init()
        self.freeze_untrained_weights()

    def frozen_modules(self) -> list[nn.Module]:
        """What is not trained by `config.num_frozen_layers`: nothing, or all up to these layers."""
        num_frozen = self.config.num_frozen_layers
        return [self.embeddings, self.pre_layernorm, *self.layers[:num_frozen]] if num_frozen else []

    def train(self, mode: bool = True) -> "TubeViTModel":
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`, *optional*):
            Clips, either normalised floats or raw uint8, which is normalised inside the model. Give exactly one of
            `pixel_values_videos` and `pixel_values`.
        pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`, *optional*):
            Images, likewise. They are tokenized by the 2D tube alone.

        Returns:
            [`~modeling_outputs.BaseModelOutputWithPooling`] with `last_hidden_state` of shape
            `(batch_size, num_tokens, hidden_size)`, the tokens of each tube in turn in (time, height, width) order (after
            the CLS token and the registers, where there are such), and `pooler_output` of shape
            `(batch_size, config.pooled_size)`, which is `hidden_size` with most poolings.
        """
        if kwargs.pop("attention_mask", None) is not None:  # None is what code for any kind of model passes on
            raise ValueError("TubeViT takes no attention_mask: all tokens of a clip attend to each other.")
        num_frozen, has_grad = self.config.num_frozen_layers, torch.is_grad_enabled()
        with torch.set_grad_enabled(has_grad and not num_frozen):
            hidden_states = self.embeddings(pixel_values=pixel_values, pixel_values_videos=pixel_values_videos)
            rotary = self.embeddings.rotary(hidden_states, pixel_values, pixel_values_videos)
            hidden_states = encoder_input = self.pre_layernorm(hidden_states)
        for index, layer in enumerate(self.layers):
            if index == num_frozen > 0 and has_grad and not torch.compiler.is_compiling():
                hidden_states.requires_grad_()  # reentrant checkpointing needs an input with a gradient
            with torch.set_grad_enabled(has_grad and index >= num_frozen):
                hidden_states = layer(hidden_states, rotary=rotary, **kwargs)
            for extra_layer in self._extra_layers_behind(index):
                hidden_states = extra_layer(hidden_states, rotary=rotary, **kwargs)
            if self.gate is not None and index == self.config.gate_layer:
                hidden_states = self.gate(hidden_states, encoder_input)
        norms_pooled = self.config.final_layernorm == "pooled"
        tokens = hidden_states if norms_pooled else self.layernorm(hidden_states)
        pooled = self.pooler(tokens, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens, pooler_output=self.layernorm(pooled) if norms_pooled else pooled
        )

    def _extra_layers_behind(self, index: int) -> list[nn.Module]:
        """The extra layers that follow layer `index`; they are spread evenly, the last one behind the last layer."""
        num_layers, num_extra = len(self.layers), len(self.extra_layers)
        return [self.extra_layers[i] for i in range(num_extra) if -(-(i + 1) * num_layers // num_extra) - 1 == index]


class TubeViTForClassification(TubeViTPreTrainedModel):
    """What the classification heads share: backbone, dropout, one linear layer, and the loss."""

    def __init__(self, config: TubeViTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.tubevit = TubeViTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.pooled_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
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


@auto_docstring(
    custom_intro="""
    TubeViT with a video classification head: a linear layer on the pooled vector of a clip.
    """
)
class TubeViTForVideoClassification(TubeViTForClassification):
    input_modalities = ("video",)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalised floats or raw uint8, which is normalised inside the model. Several views of each
            video may be given as `(batch_size, num_views, num_frames, num_channels, height, width)`; `logits` then has
            one row per video, such that its softmax (multi-label: sigmoid) is the mean of the views' probabilities,
            while hidden states and attentions are those of the `batch_size * num_views` clips.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            Number of label elements over all gradient accumulation steps and ranks, by which the loss is divided.
            Trainer gives it.

        Returns:
            [`~modeling_outputs.ImageClassifierOutput`] with `logits` of shape `(batch_size, num_labels)` and, where asked
            for, `loss`, `hidden_states` and `attentions`.
        """
        has_views = pixel_values_videos.dim() == 6
        clips = pixel_values_videos.flatten(0, 1) if has_views else pixel_values_videos
        outputs = self.tubevit(pixel_values_videos=clips, return_dict=True, **kwargs)
        logits = self.classify(outputs.pooler_output)
        if has_views:
            views = logits.unflatten(0, (pixel_values_videos.shape[0], pixel_values_videos.shape[1]))
            logits = average_views(views, self.config.problem_type)
        return self.to_output(outputs, logits, labels, num_items_in_batch)


@auto_docstring(
    custom_intro="""
    TubeViT with an image classification head, on the same weights: images pass through the 2D tube alone.
    """
)
class TubeViTForImageClassification(TubeViTForClassification):
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: TubeViTConfig):
        if not config.get_image_tubes():
            raise ValueError(
                "An image classifier needs a tube whose kernel spans one frame, such as 1x16x16; tubes has none."
            )
        super().__init__(config)

    def freeze_untrained_weights(self) -> None:
        """
        As in the base class, and for the 3D tubes, which images never reach. They stay in the checkpoint, and without a
        gradient neither the optimizer's weight decay wears them down nor does data-parallel training wait for them.
        """
        super().freeze_untrained_weights()
        embeddings = self.tubevit.embeddings
        for index, tube in enumerate(embeddings.tubes):
            if not tube.is_image_tube:
                (embeddings.projection_of(index) or embeddings.interpolated_kernel).requires_grad_(False)
                if isinstance(embeddings.positions, TubeViTLearnedPositions):
                    embeddings.positions.tables[index].requires_grad_(False)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`):
            Images, either normalised floats or raw uint8, which is normalised inside the model.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Class indices, soft labels or multi-hot labels, see `config.problem_type`.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            Number of label elements over all gradient accumulation steps and ranks, by which the loss is divided.
            Trainer gives it.

        Returns:
            [`~modeling_outputs.ImageClassifierOutput`] with `logits` of shape `(batch_size, num_labels)` and, where asked
            for, `loss`, `hidden_states` and `attentions`.
        """
        outputs = self.tubevit(pixel_values=pixel_values, return_dict=True, **kwargs)
        return self.to_output(outputs, self.classify(outputs.pooler_output), labels, num_items_in_batch)


def _refuse_pickle(path: str | os.PathLike | None, subfolder: str) -> None:
    """Say why a local checkpoint that is a pickle is not loaded; the library would only miss the safetensors file."""
    if path is None:
        return
    folder = os.path.join(path, subfolder) if subfolder else str(path)
    names = os.listdir(folder) if os.path.isdir(folder) else [folder] if os.path.isfile(folder) else []
    pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles and not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        raise ValueError(
            f"{folder} holds a pickle checkpoint ({os.path.basename(pickles[0])}), which can run any code when it is loaded: "
            "only safetensors is accepted. Convert it with save_pretrained where you trust it."
        )


__all__ = [
    "TubeViTForImageClassification",
    "TubeViTForVideoClassification",
    "TubeViTModel",
    "TubeViTPreTrainedModel",
]
