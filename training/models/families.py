# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The registry of model families: one `ModelFamily` holds everything that training, scoring and the commands need to know about it.

A family is found by the `model_type` of a config. Other files ask the entry and never compare model types. A video
classifier of Transformers without an entry gets a generic one. To add a family, write its own files and one entry here,
or call `register_family` from outside of this package.

Classes and functions are named by strings, `"module:name"`, so that importing the registry imports neither torch nor
Transformers.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .designs import (
    TIMESFORMER,
    UNIFORMERV2_DESIGNS,
    VIDEOMAE,
    VIVIT,
    VIVIT_DESIGNS,
    VJEPA2,
    Design,
)


Reference = Any  # a string "module:name", or the object itself

LAYERS = r"(?:^|\.)((?:spatial_|temporal_)?(?:layers?|blocks?))\.(\d+)\."
BEFORE_LAYERS = r"(?:^|\.)(?:\w+_)?(?:embeddings?|pre_layernorm)\."
PICTURES = ("tubes", "kernels", "positions", "attention")  # of `tubevit show`


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """
    Classes, options and layer names of a model family.

    model_type: the `model_type` of its config.
    title: its name in tables and messages (default: the model type).
    config_class, base_class: its config class, and the model without a head (`None` if no command needs it).
    classifiers: its classifier class by media, "video" or "image".
    pretraining_class: its model for masked pretraining (`task=masked`), or `None`.
    joint_class: its classifier with a head for each of several data sets (section 3.5), or `None`.
    processors: its processor class by media; "combined" is a class with both processors. Processors of other media are loaded by the
        Auto classes.
    presets, build_preset: a mapping whose keys are the names of its sizes, and a function `(name, **overrides)` that returns a config.
    image_sources: model types of the image models that `from_image_checkpoint` of its classes converts.
    scale_up: the function that adds the tubes of a small model to a large image model (section 3.6).

    layers: regular expression for the names of parameters in layers: group 1 is the stack of layers, group 2 the index in the
        stack. Layer decay and frozen layers use it. before_layers: regular expression for parameters before the first layer.
    freezes_layers: whether its config has `num_frozen_layers`; otherwise layers are frozen by the names of their parameters.
    unused_parameters: regular expression for parameters that its classifier never uses.
    vectors: regular expression for parameters that are vectors in its authors' code and have more dimensions here;
        `weight_decay_parameters=matrices` leaves them out.

    bare_pooling: the token that stands for a clip in a checkpoint without a classifier whose `forward` returns no `pooler_output`: "mean"
        of the last hidden states, or "cls", their first token. bare_arguments: further arguments of the `forward` of its base model.
    input_name: name of the clips in the arguments of `forward`.
    normalizes_pixels: whether `forward` accepts uint8 pixels and normalizes them.
    frames_field, size_field: fields of its config for the number of frames of a clip and the side of a frame in pixels.
    num_frames_may_differ: whether clips may have another number of frames than the checkpoint's. "no": the shapes of the weights
        depend on it. "config": yes, if the config has the new number when the model is loaded. "forward": yes, in any forward pass.
    set_num_frames: for "config", a function `(model, num_frames)` that changes a loaded model, if a changed config is not enough.
    frames_per_token_field: field of its config for the number of frames per token; `num_frames` must be a multiple of it.
    image_size_may_differ: whether frames may have another size than the checkpoint's.

    describe, describe_image: replace the functions of these names in `model_size`. Without `describe`, the sizes are counted on
        torch's meta device.
    exports_code: whether its models and processors have `save_pretrained(with_code=True)`. The code of other models outside of
        Transformers is saved by Transformers' `register_for_auto_class`.
    pictures: the pictures of `PICTURES` that `tubevit show` can draw of it. attention_rows: for "attention", a function `(model, clip)`
        that returns an `AttentionPicture`.

    designs: its models in comparisons, by the names that `tubevit experiments compare --against` takes.
    """

    model_type: str
    title: str = ""
    config_class: Reference | None = None
    base_class: Reference | None = None
    classifiers: Mapping[str, Reference] = field(default_factory=dict)
    pretraining_class: Reference | None = None
    joint_class: Reference | None = None
    processors: Mapping[str, Reference] = field(default_factory=dict)
    presets: Reference | None = None
    build_preset: Reference | None = None
    image_sources: Reference = ()
    scale_up: Reference | None = None
    layers: str = LAYERS
    before_layers: str = BEFORE_LAYERS
    freezes_layers: bool = False
    unused_parameters: str | None = None
    bare_pooling: Literal["mean", "cls"] = "mean"
    bare_arguments: Mapping[str, Any] = field(default_factory=dict)
    vectors: str | None = None
    input_name: str = "pixel_values_videos"
    normalizes_pixels: bool = False
    frames_field: str | None = "num_frames"
    size_field: str = "image_size"
    num_frames_may_differ: Literal["no", "config", "forward"] = "no"
    set_num_frames: Reference | None = None
    frames_per_token_field: str | None = None
    image_size_may_differ: bool = False
    describe: Reference | None = None
    describe_image: Reference | None = None
    exports_code: bool = False
    pictures: tuple[str, ...] = ("kernels",)
    attention_rows: Reference | None = None
    designs: Mapping[str, Design] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "title", self.title or self.model_type)

    def get(self, name: str) -> Any:
        """The object that the field `name` refers to. Raises `ValueError` if the family has none."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"A {self.title} model has no {name}.")
        return resolve(value)

    def uses_all_parameters(self, media: str, config: Any = None) -> bool:
        """
        Whether each training step on "video" or "image" data is known to give every parameter a gradient: true for the models of this
        package on videos, unless `config` allows that clips miss tubes. Kernels of 3D tubes have none on images, and some models of
        Transformers have weights without a use.
        """
        if getattr(config, "allow_missing_tubes", False):
            return False
        return media == "video" and isinstance(self.config_class, str) and self.config_class.startswith("tubevit:")

    def classifier(self, media: str) -> type:
        """Its classifier class for "video" or "image" data. Raises `ValueError` if it has none."""
        if media not in self.classifiers:
            others = ", ".join(f"{each}s" for each in self.classifiers)
            has = f"it classifies {others}" if others else "it has no classifier"
            raise ValueError(f"A {self.title} model does not classify {media}s; {has}.")
        return resolve(self.classifiers[media])

    def processor(self, media: str) -> type:
        """Its processor class for "video" or "image" data, or "combined". Raises `ValueError` if its entry names none."""
        if media not in self.processors:
            raise ValueError(f"The entry of {self.title} names no {media} processor.")
        return resolve(self.processors[media])

    def find_class(self, class_name: str) -> type | None:
        """Its model class with this name (of `config.architectures`), or `None`."""
        references = [*self.classifiers.values(), self.pretraining_class, self.joint_class, self.base_class]
        classes = [resolve(reference) for reference in references if reference is not None]
        return next((each for each in classes if each.__name__ == class_name), None)

    @property
    def is_of_library(self) -> bool:
        """Whether its classes are those of Transformers."""
        return isinstance(self.config_class, str) and self.config_class.startswith("transformers:")

    def has_preset(self, name: str) -> bool:
        return self.presets is not None and name in resolve(self.presets)

    def converts(self, model_type: str) -> bool:
        """Whether its classes convert image models of this type."""
        return model_type in resolve(self.image_sources)

    def num_frames(self, config: Any) -> int | None:
        """Frames of a clip in a checkpoint's config; `None` if the config has no such field."""
        return None if self.frames_field is None else getattr(config, self.frames_field)

    def frames_settings(self, num_frames: int | None, config: Any) -> dict[str, Any]:
        """Config fields to override in `from_pretrained`, so that the model takes clips of `num_frames` frames."""
        stays = num_frames in (None, self.num_frames(config))
        if stays or self.num_frames_may_differ != "config" or self.set_num_frames is not None:
            return {}
        return {self.frames_field: num_frames}

    def adapt_num_frames(self, model: Any, num_frames: int | None) -> None:
        """Adapt a loaded model to clips of `num_frames` frames, if `frames_settings` was not enough."""
        if self.set_num_frames is not None and num_frames not in (None, self.num_frames(model.config)):
            resolve(self.set_num_frames)(model, num_frames)

    def check_num_frames(self, num_frames: int, config: Any, name: str) -> None:
        """Raise a `ValueError` with a number that works if the model `name` cannot take clips of `num_frames` frames."""
        own = self.num_frames(config)
        if own is not None and num_frames != own and self.num_frames_may_differ == "no":
            raise ValueError(
                f"num_frames={num_frames}, but the weights of {name}, a {self.title} model, are for clips of {own} frames: set "
                f"num_frames={own}."
            )
        span = self._frames_per_token(config)
        if num_frames % span:
            nearest = max(span, round(num_frames / span) * span)
            raise ValueError(
                f"num_frames={num_frames}, but each token of {name}, a {self.title} model, spans {span} frames: set "
                f"num_frames={nearest}."
            )

    def accepted_num_frames(self, config: Any) -> str:
        """The numbers of frames that `check_num_frames` accepts, in words."""
        if self.num_frames_may_differ == "no":
            return "any" if self.num_frames(config) is None else str(self.num_frames(config))
        span = self._frames_per_token(config)
        return "any" if span == 1 else f"multiples of {span}"

    def _frames_per_token(self, config: Any) -> int:
        return 1 if self.frames_per_token_field is None else getattr(config, self.frames_per_token_field)


def resolve(reference: Reference) -> Any:
    """
    The object that a string `"module:name"` names; anything else is returned as it is.

    >>> resolve("math:pi") == resolve(3.141592653589793)
    True
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


_REGISTRY: dict[str, ModelFamily] = {}


def register_family(family: ModelFamily) -> ModelFamily:
    """Add a family. Raises `ValueError` if another family is registered for its model type."""
    if _REGISTRY.setdefault(family.model_type, family) != family:
        raise ValueError(
            f"The model type {family.model_type!r} is registered already, as {_REGISTRY[family.model_type].title}."
        )
    return family


def find_family(config: Any) -> ModelFamily | None:
    """The family of a config: its entry, a generic one for a video classifier of Transformers, or `None`."""
    return _REGISTRY.get(config.model_type) or _library_family(config)


def family_of(config: Any, name: str | None = None) -> ModelFamily:
    """As `find_family`. Raises `ValueError` for a model of an unknown family. name: the checkpoint's name, for the error."""
    family = find_family(config)
    if family is None:
        raise ValueError(
            f"{name or 'The checkpoint'} is a {config.model_type} model. No family is registered for this type, and Transformers has "
            f"no video classifier of this type; registered types: {', '.join(_REGISTRY)}."
        )
    return family


def get_family(model_type: str) -> ModelFamily:
    """The entry of a registered model type. Raises `ValueError` for any other."""
    if model_type not in _REGISTRY:
        raise ValueError(f"There is no registered family {model_type!r}; there are {', '.join(_REGISTRY)}.")
    return _REGISTRY[model_type]


def family_of_preset(preset: str) -> ModelFamily:
    """The family with this preset. Raises `ValueError` with the nearest name for an unknown preset."""
    for family in _REGISTRY.values():
        if family.has_preset(preset):
            return family
    import difflib

    names = preset_names()
    close = difflib.get_close_matches(preset, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"There is no preset {preset!r}; there are {', '.join(names)}.{hint}")


def preset_names() -> list[str]:
    """Names of the presets of all families."""
    return [name for family in _REGISTRY.values() if family.presets is not None for name in resolve(family.presets)]


def describe_presets() -> str:
    """
    The presets of each family.

    >>> describe_presets().partition(";")[0]
    'TubeViT: tiny, small, base, large, huge'
    """
    families = [family for family in _REGISTRY.values() if family.presets is not None]
    return "; ".join(f"{family.title}: {', '.join(resolve(family.presets))}" for family in families)


def converting_family(source: Any, model_type: str | None = None) -> ModelFamily | None:
    """
    The family that converts the image model with the config `source`; `None` if no family does. model_type: a certain family.

    Raises `ValueError` if `model_type` is given and no family has it, or the family does not convert this model.
    """
    if model_type is not None:
        family = get_family(model_type)
        if not family.converts(source.model_type):
            known = ", ".join(resolve(family.image_sources)) or "no image model"
            raise ValueError(
                f"model_family={model_type}: a {family.title} is initialized from {known}, and this is a {source.model_type} model."
            )
        return family
    return next((family for family in _REGISTRY.values() if family.converts(source.model_type)), None)


def designs() -> dict[str, tuple[ModelFamily, Design]]:
    """The models that TubeViT is compared with, by name: first those of Transformers, then those of this package."""
    every = {name: (family, each) for family in _REGISTRY.values() for name, each in family.designs.items()}
    return dict(sorted(every.items(), key=lambda item: item[0] not in peers()))


def peers() -> dict[str, ModelFamily]:
    """The families of Transformers that TubeViT is compared with, by model type."""
    return {name: family for name, family in _REGISTRY.items() if name in family.designs and family.is_of_library}


def _library_family(config: Any) -> ModelFamily | None:
    from transformers import AutoModelForVideoClassification

    mapping = AutoModelForVideoClassification._model_mapping
    if type(config) not in mapping:
        return None
    return ModelFamily(
        model_type=config.model_type,
        config_class=type(config),
        classifiers={"video": mapping[type(config)]},
        frames_field=next((name for name in ("num_frames", "frames_per_clip") if hasattr(config, name)), None),
        input_name=mapping[type(config)].main_input_name,
    )


def resize_timesformer(model: Any, num_frames: int) -> None:
    """Resize the time embeddings of a TimeSformer to `num_frames` frames by nearest-neighbor interpolation, as `forward` does."""
    import torch

    embeddings = model.timesformer.embeddings
    resized = torch.nn.functional.interpolate(
        embeddings.time_embeddings.data.transpose(1, 2), size=num_frames, mode="nearest"
    )
    embeddings.time_embeddings = torch.nn.Parameter(resized.transpose(1, 2).contiguous())
    model.config.num_frames = num_frames  # its layers read it from here


TUBEVIT = register_family(
    ModelFamily(
        model_type="tubevit",
        title="TubeViT",
        config_class="tubevit:TubeViTConfig",
        base_class="tubevit:TubeViTModel",
        classifiers={
            "video": "tubevit:TubeViTForVideoClassification",
            "image": "tubevit:TubeViTForImageClassification",
        },
        pretraining_class="tubevit:TubeViTForPreTraining",
        joint_class="tubevit:TubeViTForJointClassification",
        processors={
            "video": "tubevit.processing:TubeViTVideoProcessor",
            "image": "tubevit.processing:TubeViTImageProcessor",
            "combined": "tubevit.processing:TubeViTProcessor",
        },
        presets="tubevit.presets:PRESETS",
        build_preset="tubevit.presets:preset_config",
        image_sources="tubevit.image_families:FAMILIES",
        scale_up="tubevit:scale_up",
        freezes_layers=True,
        normalizes_pixels=True,
        num_frames_may_differ="forward",
        image_size_may_differ=True,
        describe="tubevit.training.models.model_size:describe_tubevit",
        describe_image="tubevit.training.models.model_size:describe_tubevit_image",
        exports_code=True,
        pictures=PICTURES,
        attention_rows="tubevit.training.visualization.attention:tubevit_rows",
    )
)
register_family(
    ModelFamily(
        model_type="uniformerv2",
        title="UniFormerV2",
        config_class="tubevit:UniFormerV2Config",
        base_class="tubevit:UniFormerV2Model",
        classifiers={"video": "tubevit:UniFormerV2ForVideoClassification"},
        processors={"video": "tubevit.processing:UniFormerV2VideoProcessor"},
        image_sources=("clip", "clip_vision_model"),
        presets="tubevit.presets:UNIFORMERV2_PRESETS",
        build_preset="tubevit.presets:uniformerv2_config",
        freezes_layers=True,
        vectors=r"(?:^|\.)embeddings\.cls_token$",
        normalizes_pixels=True,
        num_frames_may_differ="forward",
        frames_per_token_field="temporal_stride",
        describe="tubevit.training.models.model_size:describe_uniformerv2",
        designs=UNIFORMERV2_DESIGNS,
        exports_code=True,
        pictures=("kernels", "attention"),
        attention_rows="tubevit.training.visualization.attention:uniformerv2_rows",
    )
)
register_family(
    ModelFamily(
        model_type="factorized_vivit",
        title="ViViT (Models 1 to 4)",
        config_class="tubevit:FactorizedViViTConfig",
        base_class="tubevit:FactorizedViViTModel",
        classifiers={"video": "tubevit:FactorizedViViTForVideoClassification"},
        processors={"video": "tubevit.processing:FactorizedViViTVideoProcessor"},
        image_sources=("vit",),
        presets="tubevit.presets:VIVIT_PRESETS",
        build_preset="tubevit.presets:vivit_config",
        freezes_layers=True,
        normalizes_pixels=True,
        designs=VIVIT_DESIGNS,
        exports_code=True,
        pictures=("kernels", "attention"),
        attention_rows="tubevit.training.visualization.attention:vivit_rows",
    )
)
register_family(
    ModelFamily(
        model_type="videomae",
        title="VideoMAE",
        config_class="transformers:VideoMAEConfig",
        classifiers={"video": "transformers:VideoMAEForVideoClassification"},
        input_name="pixel_values",
        num_frames_may_differ="config",  # its positions are sines
        frames_per_token_field="tubelet_size",
        designs={"videomae": VIDEOMAE},
    )
)
register_family(
    ModelFamily(
        model_type="vivit",
        title="ViViT",
        config_class="transformers:VivitConfig",
        classifiers={"video": "transformers:VivitForVideoClassification"},
        bare_pooling="cls",
        input_name="pixel_values",
        designs={"vivit": VIVIT},
    )
)
register_family(
    ModelFamily(
        model_type="timesformer",
        title="TimeSformer",
        config_class="transformers:TimesformerConfig",
        classifiers={"video": "transformers:TimesformerForVideoClassification"},
        bare_pooling="cls",
        input_name="pixel_values",
        num_frames_may_differ="config",
        set_num_frames=resize_timesformer,
        designs={"timesformer": TIMESFORMER},
    )
)
register_family(
    ModelFamily(
        model_type="vjepa2",
        title="V-JEPA 2",
        config_class="transformers:VJEPA2Config",
        classifiers={"video": "transformers:VJEPA2ForVideoClassification"},
        layers=r"(?:^|\.)(encoder\.layer)\.(\d+)\.",  # not those of the predictor
        before_layers=r"(?:^|\.)encoder\.embeddings\.",
        unused_parameters=r"(?:^|\.)predictor\.",
        bare_arguments={"skip_predictor": True},
        frames_field="frames_per_clip",
        size_field="crop_size",
        num_frames_may_differ="config",  # its positions are rotary
        frames_per_token_field="tubelet_size",
        designs={"vjepa2": VJEPA2},
    )
)
register_family(
    ModelFamily(
        model_type="vit",
        title="ViT",
        config_class="transformers:ViTConfig",
        classifiers={"image": "transformers:ViTForImageClassification"},
        bare_pooling="cls",
        input_name="pixel_values",
        frames_field=None,
    )
)
