# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
TubeViT for Transformers: sparse video tubes, one set of weights for images and videos.

Importing this package makes the Auto classes and the pipelines of Transformers know TubeViT.
"""

if __name__ != "tubevit":
    raise ImportError(
        f"This package is called `tubevit`, not `{__name__}`: write `from tubevit import ...` (after `pip install -e .` in "
        "the checkout). A second import under the folder's name would define every class twice."
    )

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)

from .configuration_tubevit import TubeViTConfig
from .image_to_video_scaling import scale_up
from .joint_classification import TubeViTForJointClassification
from .modeling_tubevit import (
    TubeViTForImageClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    TubeViTPreTrainedModel,
)
from .processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor
from .tubes import Tube


__version__ = "0.1.0"

AutoConfig.register(TubeViTConfig.model_type, TubeViTConfig)
AutoModel.register(TubeViTConfig, TubeViTModel)
AutoModelForVideoClassification.register(TubeViTConfig, TubeViTForVideoClassification)
AutoModelForImageClassification.register(TubeViTConfig, TubeViTForImageClassification)
AutoVideoProcessor.register(TubeViTConfig, TubeViTVideoProcessor)
AutoImageProcessor.register(TubeViTConfig, image_processor_classes={"torchvision": TubeViTImageProcessor})
AutoProcessor.register(TubeViTConfig, TubeViTProcessor)

__all__ = [
    "Tube",
    "TubeViTConfig",
    "TubeViTForImageClassification",
    "TubeViTForJointClassification",
    "TubeViTForVideoClassification",
    "TubeViTImageProcessor",
    "TubeViTModel",
    "TubeViTPreTrainedModel",
    "TubeViTProcessor",
    "TubeViTVideoProcessor",
    "scale_up",
]
