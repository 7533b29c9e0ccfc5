"""Small image models of every family, built from Transformers' config classes with random weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import (
    CLIPConfig,
    CLIPForImageClassification,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2Config,
    Siglip2ForImageClassification,
    Siglip2Model,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTModel,
)


SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WITH_MLP = {**SIZES, "intermediate_size": 40}
PATCHES = {key: value for key, value in WITH_MLP.items() if key != "image_size"} | {"num_patches": 16}
LABELS = {"num_labels": 5, "id2label": {index: f"name {index}" for index in range(5)}}
# The powers of this base are exact in float32, the dtype of the angles in Transformers.
ROPE = {"rope_theta": 256.0}


class Source(NamedTuple):
    """One kind of checkpoint: a function that builds the model, and whether the model has a classifier."""

    make: Callable[[], Any]
    is_classifier: bool = False


def _tower(tower_class, config_class, values: dict, **others) -> Source:
    return Source(lambda: tower_class(config_class(**{**values, **others})))


def _classifier(model_class, config_class, values: dict, **others) -> Source:
    return Source(lambda: model_class(config_class(**{**values, **LABELS, **others})), is_classifier=True)


def _pair(model_class, config_class, vision: dict, is_classifier: bool = False, **others) -> Source:
    labels = LABELS if is_classifier else {}
    return Source(
        lambda: model_class(config_class(text_config=TEXT, vision_config=vision, **labels, **others)), is_classifier
    )


SOURCES = {
    "vit": _tower(ViTModel, ViTConfig, WITH_MLP),
    "vit without biases": _tower(ViTModel, ViTConfig, WITH_MLP, qkv_bias=False, pooler_act="relu"),
    "vit not square": _tower(ViTModel, ViTConfig, WITH_MLP, image_size=[32, 48]),
    "vit oblong patch": _tower(ViTModel, ViTConfig, WITH_MLP, patch_size=[8, 16]),
    "vit classifier": _classifier(ViTForImageClassification, ViTConfig, WITH_MLP),
    "vit masked": _tower(ViTForMaskedImageModeling, ViTConfig, WITH_MLP, encoder_stride=8),
    "deit": _tower(DeiTModel, DeiTConfig, WITH_MLP),
    "deit classifier": _classifier(DeiTForImageClassification, DeiTConfig, WITH_MLP),
    "deit distilled": _classifier(DeiTForImageClassificationWithTeacher, DeiTConfig, WITH_MLP),
    "dinov2": _tower(Dinov2Model, Dinov2Config, SIZES, patch_size=14, image_size=42),
    "dinov2 swiglu": _tower(Dinov2Model, Dinov2Config, SIZES, use_swiglu_ffn=True, use_mask_token=False),
    "dinov2 classifier": _classifier(Dinov2ForImageClassification, Dinov2Config, SIZES, layerscale_value=1e-2),
    "dinov2 registers": _tower(Dinov2WithRegistersModel, Dinov2WithRegistersConfig, SIZES, num_register_tokens=3),
    "dinov2 registers swiglu classifier": _classifier(
        Dinov2WithRegistersForImageClassification, Dinov2WithRegistersConfig, SIZES, use_swiglu_ffn=True
    ),
    "dinov3": _tower(DINOv3ViTModel, DINOv3ViTConfig, WITH_MLP, num_register_tokens=4, **ROPE),
    "dinov3 gated": _tower(
        DINOv3ViTModel, DINOv3ViTConfig, WITH_MLP, use_gated_mlp=True, hidden_act="silu", mlp_bias=False, **ROPE
    ),
    "dinov3 without biases": _tower(
        DINOv3ViTModel,
        DINOv3ViTConfig,
        WITH_MLP,
        query_bias=False,
        value_bias=False,
        proj_bias=False,
        image_size=[32, 64],
        **ROPE,
    ),
    "clip": _pair(CLIPModel, CLIPConfig, WITH_MLP, projection_dim=8),
    "clip vision": _tower(CLIPVisionModel, CLIPVisionConfig, WITH_MLP, patch_size=16),
    "clip projection": _tower(CLIPVisionModelWithProjection, CLIPVisionConfig, WITH_MLP),
    "clip classifier": _pair(CLIPForImageClassification, CLIPConfig, WITH_MLP, is_classifier=True),
    "siglip": _pair(SiglipModel, SiglipConfig, WITH_MLP),
    "siglip vision": _tower(SiglipVisionModel, SiglipVisionConfig, WITH_MLP, patch_size=14, image_size=28),
    "siglip headless": _tower(SiglipVisionModel, SiglipVisionConfig, WITH_MLP, vision_use_head=False),
    "siglip classifier": _pair(SiglipForImageClassification, SiglipConfig, WITH_MLP, is_classifier=True),
    "siglip2": _pair(Siglip2Model, Siglip2Config, PATCHES),
    "siglip2 vision": _tower(Siglip2VisionModel, Siglip2VisionConfig, PATCHES),
    "siglip2 classifier": _pair(Siglip2ForImageClassification, Siglip2Config, PATCHES, is_classifier=True),
}


def make_source(name: str, seed: int = 0):
    """A model of `SOURCES` in eval mode and float32, with random values for all parameters (biases, scales and tokens too)."""
    torch.manual_seed(seed)
    model = SOURCES[name].make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.mean() if parameter.dim() == 1 else 0))
    return model


def source_outputs(model, images: torch.Tensor, **kwargs):
    """The output of the source's vision model for images `(batch, 3, height, width)`; SigLIP 2 gets them as patches."""
    is_classifier = "Classification" in type(model).__name__
    tower = model if is_classifier or not hasattr(model, "vision_model") else model.vision_model
    tower = model.vit if type(model).__name__ == "ViTForMaskedImageModeling" else tower
    if "Siglip2" not in type(model).__name__:
        return tower(pixel_values=images, **kwargs)
    patch = PATCHES["patch_size"]
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    patches = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 3, 5, 1)
    return tower(
        pixel_values=patches.flatten(3).flatten(1, 2),
        pixel_attention_mask=torch.ones(len(images), rows * columns, dtype=torch.long),
        spatial_shapes=torch.tensor([[rows, columns]] * len(images)),
    )
