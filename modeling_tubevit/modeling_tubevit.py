# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
TubeViT ("Rethinking Video ViTs: Sparse Video Tubes for Joint Image and Video Learning", CVPR 2023): an image ViT that
sees clips through a few sparse 3D tubes, with one set of weights for images and clips.

`tube_embeddings` turns pixels into tokens, `vit_layers` is the encoder, `pooling` makes one vector of its output.
"""

import os

import torch
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
from .hub_export import ModelCodeExportMixin
from .pooling import POOLING_CLASSES, TubeViTAttentionPooling
from .tube_embeddings import TubeViTEmbeddings, TubeViTTubeProjection
from .vit_layers import TubeViTAttention, TubeViTLayer


@auto_docstring
class TubeViTPreTrainedModel(ModelCodeExportMixin, PreTrainedModel):
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
        if isinstance(module, (nn.Linear, TubeViTTubeProjection)):
            init.trunc_normal_(module.weight, mean=0.0, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TubeViTEmbeddings) and module.cls_token is not None:
            init.trunc_normal_(module.cls_token, mean=0.0, std=std)
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
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze_unused_weights()
        return loaded

    def freeze_unused_weights(self) -> None:
        """Stop gradients for weights that this model never uses: none here, see `TubeViTForImageClassification`."""

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
        self.layers = nn.ModuleList([TubeViTLayer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = POOLING_CLASSES[config.pooling](config)
        self.post_init()

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
            the CLS token, with `pooling="cls"`), and `pooler_output` of shape `(batch_size, hidden_size)`.
        """
        hidden_states = self.embeddings(pixel_values=pixel_values, pixel_values_videos=pixel_values_videos)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        tokens = self.layernorm(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=self.pooler(tokens, **kwargs))


class TubeViTForClassification(TubeViTPreTrainedModel):
    """What the classification heads share: backbone, dropout, one linear layer, and the loss."""

    def __init__(self, config: TubeViTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.tubevit = TubeViTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.loss_function = classification_loss
        self.post_init()
        self.freeze_unused_weights()

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """pooled: `(batch, hidden_size)`. Returns logits `(batch, num_labels)`."""
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

    def freeze_unused_weights(self) -> None:
        """
        Stop gradients for the 3D tubes, which images never reach. They stay in the checkpoint, and without a gradient
        neither the optimizer's weight decay wears them down nor does data-parallel training wait for them.
        """
        embeddings = self.tubevit.embeddings
        for tube, projection in zip(embeddings.tubes, embeddings.projections, strict=True):
            projection.requires_grad_(tube.is_image_tube)

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
