# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The image models that can initialize a TubeViT, each as data: its classes, tensor names and settings.

All families have full self-attention in pre-norm blocks, with query, key and value as wide as the residual stream.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedConfig
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)


@dataclass(frozen=True)
class PoolingSpec:
    """
    How a model of a family pools its output tokens.

    fields: the pooling as fields of `TubeViTConfig`.
    tower: prefix of the vision tower's tensor names in the model.
    classifiers: names of its linear classifiers, whose outputs are averaged; empty for an encoder without a head.
    """

    fields: Mapping[str, str]
    tower: str = ""
    classifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFamily:
    """
    One family of image models of Transformers.

    vision_class: class of the encoder without a head.
    encoder: pooling of that class.
    optional_pooler: prefix of the pooler weights; some checkpoints of that class have none.
    encoder_without_pooler: pooling of a checkpoint without pooler weights.
    classifiers: pooling of the models with a classifier, by class.
    names: part of a TubeViT tensor name to the source's name of this part, where they differ. The tensor
        `layers.0.layernorm_before.weight` has the parts `layers`, `0`, `layernorm_before` and `weight`.
    patch, cls, registers, positions: the source's names of the patch kernel, the tokens and the position table. The first
        `num_prefix_positions` of the table belong to CLS and registers.
    pixels_first: whether the patch kernel is a linear layer over pixels in (row, column, channel) order.
    position_interpolation: as in `TubeViTConfig`.
    image_mean, image_std: pixel statistics of the training of the family's checkpoints, for a checkpoint without an image processor.
    fields: function from the source's config to fields of `TubeViTConfig`, besides those that all families share.
    training_settings: settings of the source that affect training only and have no counterpart in `TubeViTConfig`.
    """

    vision_class: str
    encoder: PoolingSpec
    classifiers: Mapping[str, PoolingSpec]
    names: Mapping[str, str]
    patch: str
    cls: str | None = None
    registers: str | None = None
    positions: str | None = None
    num_prefix_positions: int = 0
    pixels_first: bool = False
    position_interpolation: str = "bicubic"
    encoder_without_pooler: PoolingSpec | None = None
    optional_pooler: str | None = None
    image_mean: Sequence[float] = tuple(IMAGENET_DEFAULT_MEAN)
    image_std: Sequence[float] = tuple(IMAGENET_DEFAULT_STD)
    fields: Callable[[PreTrainedConfig], dict] = field(default=lambda config: {})
    training_settings: tuple[str, ...] = ()


# Google's ViT and SigLIP map pixels to -1 to 1; DeiT and DINO have the statistics of ImageNet, CLIP those of its own data.
STANDARD = {"image_mean": IMAGENET_STANDARD_MEAN, "image_std": IMAGENET_STANDARD_STD}
CLS = {"pooling": "cls"}
MEAN = {"pooling": "mean"}


def _vit_fields(config: PreTrainedConfig) -> dict:
    return {
        "qkv_bias": config.qkv_bias,
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "intermediate_size": config.intermediate_size,
    }


def _vit(vision_class: str, **others) -> ImageFamily:
    return ImageFamily(
        vision_class=vision_class,
        encoder=PoolingSpec(CLS),  # load_image_source adds the pooler_act of the source's config
        encoder_without_pooler=PoolingSpec(CLS),
        optional_pooler="pooler.",
        names={},
        cls="embeddings.cls_token",
        positions="embeddings.position_embeddings",
        patch="embeddings.patch_embeddings.projection",
        **others,
    )


VIT = _vit(
    "ViTModel",
    num_prefix_positions=1,
    classifiers={"ViTForImageClassification": PoolingSpec(CLS, "vit.", ("classifier",))},
    fields=_vit_fields,
    **STANDARD,
)

# The distillation token becomes a register token: one more learned token after CLS.
DEIT = _vit(
    "DeiTModel",
    classifiers={
        "DeiTForImageClassification": PoolingSpec(CLS, "deit.", ("classifier",)),
        "DeiTForImageClassificationWithTeacher": PoolingSpec(
            {"pooling": "cls_registers"}, "deit.", ("cls_classifier", "distillation_classifier")
        ),
    },
    registers="embeddings.distillation_token",
    num_prefix_positions=2,
    fields=lambda config: _vit_fields(config) | {"num_register_tokens": 1},
)


def _dinov2_fields(config: PreTrainedConfig) -> dict:
    intermediate_size = int(config.hidden_size * config.mlp_ratio)
    fields = {"qkv_bias": config.qkv_bias, "layerscale_value": config.layerscale_value}
    if config.use_swiglu_ffn:  # two thirds of the width, rounded up to a multiple of 8; always SiLU
        intermediate_size = (int(intermediate_size * 2 / 3) + 7) // 8 * 8
        fields |= {"use_gated_mlp": True, "hidden_act": "silu"}
    return fields | {
        "intermediate_size": intermediate_size,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "num_register_tokens": getattr(config, "num_register_tokens", 0),
    }


def _dinov2(vision_class: str, tower: str, **others) -> ImageFamily:
    return ImageFamily(
        vision_class=vision_class,
        encoder=PoolingSpec(CLS),
        classifiers={
            vision_class.replace("Model", "ForImageClassification"): PoolingSpec(
                {"pooling": "cls_mean"}, tower, ("classifier",)
            )
        },
        names={"layers": "encoder.layer", "layernorm_before": "norm1", "layernorm_after": "norm2"},
        cls="embeddings.cls_token",
        positions="embeddings.position_embeddings",
        num_prefix_positions=1,
        patch="embeddings.patch_embeddings.projection",
        fields=_dinov2_fields,
        # DINOv2 applies dropout to the embeddings only, TubeViT to every branch.
        training_settings=("drop_path_rate", "hidden_dropout_prob"),
        **others,
    )


DINOV2 = _dinov2("Dinov2Model", "dinov2.")
DINOV2_WITH_REGISTERS = _dinov2(
    "Dinov2WithRegistersModel",
    "dinov2_with_registers.",
    registers="embeddings.register_tokens",
    position_interpolation="bicubic_antialias",
)


def _dinov3_fields(config: PreTrainedConfig) -> dict:
    return {
        "qkv_bias": config.query_bias or config.key_bias or config.value_bias,
        "intermediate_size": config.intermediate_size,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layerscale_value": config.layerscale_value,
        "use_gated_mlp": config.use_gated_mlp,
        "num_register_tokens": config.num_register_tokens,
        "rope_theta": config.rope_theta,
    }


DINOV3 = ImageFamily(
    vision_class="DINOv3ViTModel",
    encoder=PoolingSpec(CLS),
    classifiers={},
    names={
        "layers": "model.layer",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm": "norm",
        "fc1": "up_proj",
        "fc2": "down_proj",
    },
    cls="embeddings.cls_token",
    registers="embeddings.register_tokens",
    patch="embeddings.patch_embeddings",
    fields=_dinov3_fields,
    training_settings=("drop_path_rate", "pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"),
)

CLIP_NAMES = {
    "layers": "encoder.layers",
    "attention": "self_attn",
    "o_proj": "out_proj",
    "layernorm_before": "layer_norm1",
    "layernorm_after": "layer_norm2",
    "pre_layernorm": "pre_layrnorm",
    "layernorm": "post_layernorm",
}


def _clip_fields(config: PreTrainedConfig) -> dict:
    return {
        "intermediate_size": config.intermediate_size,
        "attention_probs_dropout_prob": config.attention_dropout,
    }


CLIP = ImageFamily(
    vision_class="CLIPVisionModel",
    encoder=PoolingSpec(CLS | {"final_layernorm": "pooled"}),
    classifiers={
        "CLIPForImageClassification": PoolingSpec(MEAN | {"final_layernorm": "none"}, "vision_model.", ("classifier",))
    },
    names=CLIP_NAMES,
    cls="embeddings.class_embedding",
    positions="embeddings.position_embedding.weight",
    num_prefix_positions=1,
    patch="embeddings.patch_embedding",
    fields=lambda config: _clip_fields(config) | {"use_pre_layernorm": True},
    image_mean=OPENAI_CLIP_MEAN,
    image_std=OPENAI_CLIP_STD,
)


def _siglip(vision_class: str, **others) -> ImageFamily:
    return ImageFamily(
        vision_class=vision_class,
        encoder=PoolingSpec({"pooling": "attention"}),
        encoder_without_pooler=PoolingSpec(MEAN),
        optional_pooler="head.",
        classifiers={
            vision_class.replace("VisionModel", "ForImageClassification"): PoolingSpec(
                MEAN, "vision_model.", ("classifier",)
            )
        },
        names=CLIP_NAMES,
        positions="embeddings.position_embedding.weight",
        patch="embeddings.patch_embedding",
        fields=_clip_fields,
        **STANDARD,  # type: ignore[arg-type]
        **others,
    )


SIGLIP = _siglip("SiglipVisionModel")
SIGLIP2 = _siglip("Siglip2VisionModel", pixels_first=True, position_interpolation="bilinear_antialias")

FAMILIES = {
    "vit": VIT,
    "deit": DEIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2_WITH_REGISTERS,
    "dinov3_vit": DINOV3,
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "siglip2": SIGLIP2,
    "siglip2_vision_model": SIGLIP2,
}


def find_family(model_type: str) -> ImageFamily:
    """The family of a model type. Raises `ValueError` for a type that cannot be converted."""
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    raise ValueError(
        f"A checkpoint of a {model_type!r} model cannot be converted to a TubeViT; the supported model types are "
        f"{', '.join(FAMILIES)}."
    )


def grid_and_patch(config: PreTrainedConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of the patch grid at the source's own image size, and (height, width) of a patch."""
    patch = pair(config.patch_size)
    if hasattr(config, "num_patches"):  # SigLIP 2 takes patches as input; the grid of its positions is square
        side = math.isqrt(config.num_patches)
        return (side, side), patch
    height, width = pair(config.image_size)
    return (height // patch[0], width // patch[1]), patch


def pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as a side or as both."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width
