# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
TubeViT for Transformers: sparse video tubes, one set of weights for images and videos.

After `import tubevit` the Auto classes and the pipelines of Transformers load TubeViT. The import itself loads neither torch
nor Transformers: a public name is imported when it is first used, and `auto_registration` registers the classes when the
process imports the Auto classes.
"""

if __name__ != "tubevit":
    raise ImportError(
        f"This package is called `tubevit`, not `{__name__}`: write `from tubevit import ...` (after `pip install -e .` in "
        "the checkout). A second import under the folder's name would define every class twice."
    )

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .auto_registration import register_on_import


if TYPE_CHECKING:
    from .configuration_factorized_vivit import FactorizedViViTConfig
    from .configuration_tubevit import TubeViTConfig
    from .configuration_uniformerv2 import UniFormerV2Config
    from .image_to_video_scaling import scale_up
    from .joint_classification import TubeViTForJointClassification
    from .masked_pretraining import TubeViTForPreTraining
    from .modeling_factorized_vivit import (
        FactorizedViViTForVideoClassification,
        FactorizedViViTModel,
        FactorizedViViTPreTrainedModel,
    )
    from .modeling_tubevit import (
        TubeViTForImageClassification,
        TubeViTForVideoClassification,
        TubeViTModel,
        TubeViTPreTrainedModel,
    )
    from .modeling_uniformerv2 import (
        UniFormerV2ForVideoClassification,
        UniFormerV2Model,
        UniFormerV2PreTrainedModel,
    )
    from .processing import (  # type: ignore[import-not-found]  # another folder in the checkout
        FactorizedViViTVideoProcessor,
        TubeViTImageProcessor,
        TubeViTProcessor,
        TubeViTVideoProcessor,
        UniFormerV2VideoProcessor,
    )
    from .training.streaming.stream import TubeViTStream  # type: ignore[import-not-found]  # another folder
    from .tubes import Tube


__version__ = "0.2.0"

__all__ = [
    "FactorizedViViTConfig",
    "FactorizedViViTForVideoClassification",
    "FactorizedViViTModel",
    "FactorizedViViTPreTrainedModel",
    "FactorizedViViTVideoProcessor",
    "Tube",
    "TubeViTConfig",
    "TubeViTForImageClassification",
    "TubeViTForJointClassification",
    "TubeViTForPreTraining",
    "TubeViTForVideoClassification",
    "TubeViTImageProcessor",
    "TubeViTModel",
    "TubeViTPreTrainedModel",
    "TubeViTProcessor",
    "TubeViTStream",
    "TubeViTVideoProcessor",
    "UniFormerV2Config",
    "UniFormerV2ForVideoClassification",
    "UniFormerV2Model",
    "UniFormerV2PreTrainedModel",
    "UniFormerV2VideoProcessor",
    "scale_up",
]

# Public name to the module that defines it.
_MODULES = {
    "FactorizedViViTConfig": "configuration_factorized_vivit",
    "FactorizedViViTForVideoClassification": "modeling_factorized_vivit",
    "FactorizedViViTModel": "modeling_factorized_vivit",
    "FactorizedViViTPreTrainedModel": "modeling_factorized_vivit",
    "FactorizedViViTVideoProcessor": "processing",
    "Tube": "tubes",
    "TubeViTConfig": "configuration_tubevit",
    "TubeViTForImageClassification": "modeling_tubevit",
    "TubeViTForJointClassification": "joint_classification",
    "TubeViTForPreTraining": "masked_pretraining",
    "TubeViTForVideoClassification": "modeling_tubevit",
    "TubeViTImageProcessor": "processing",
    "TubeViTModel": "modeling_tubevit",
    "TubeViTPreTrainedModel": "modeling_tubevit",
    "TubeViTProcessor": "processing",
    "TubeViTStream": "training.streaming.stream",
    "TubeViTVideoProcessor": "processing",
    "UniFormerV2Config": "configuration_uniformerv2",
    "UniFormerV2ForVideoClassification": "modeling_uniformerv2",
    "UniFormerV2Model": "modeling_uniformerv2",
    "UniFormerV2PreTrainedModel": "modeling_uniformerv2",
    "UniFormerV2VideoProcessor": "processing",
    "scale_up": "image_to_video_scaling",
}

# One entry per model family: Auto class to the class that it loads.
_FAMILIES = [
    {
        "AutoConfig": "configuration_tubevit.TubeViTConfig",
        "AutoModel": "modeling_tubevit.TubeViTModel",
        "AutoModelForVideoClassification": "modeling_tubevit.TubeViTForVideoClassification",
        "AutoModelForImageClassification": "modeling_tubevit.TubeViTForImageClassification",
        "AutoModelForPreTraining": "masked_pretraining.TubeViTForPreTraining",
        "AutoVideoProcessor": "processing.TubeViTVideoProcessor",
        "AutoImageProcessor": "processing.TubeViTImageProcessor",
        "AutoProcessor": "processing.TubeViTProcessor",
    },
    {
        "AutoConfig": "configuration_uniformerv2.UniFormerV2Config",
        "AutoModel": "modeling_uniformerv2.UniFormerV2Model",
        "AutoModelForVideoClassification": "modeling_uniformerv2.UniFormerV2ForVideoClassification",
        "AutoVideoProcessor": "processing.UniFormerV2VideoProcessor",
    },
    {
        "AutoConfig": "configuration_factorized_vivit.FactorizedViViTConfig",
        "AutoModel": "modeling_factorized_vivit.FactorizedViViTModel",
        "AutoModelForVideoClassification": "modeling_factorized_vivit.FactorizedViViTForVideoClassification",
        "AutoVideoProcessor": "processing.FactorizedViViTVideoProcessor",
    },
]


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of this package, when it is first used."""
    if name in _MODULES:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    elif not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_on_import(_FAMILIES)
