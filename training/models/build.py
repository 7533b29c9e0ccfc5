# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The model of a training run, and the processors that belong to it.

It is a TubeViT of a named size, a TubeViT checkpoint, an image model that becomes a TubeViT, or, for videos, any other model
of `AutoModelForVideoClassification`. Its classes are those of the data. A classifier that the checkpoint has is kept where its
classes have the same names, in the checkpoint's order; weights that a checkpoint lacks are an error, but for a classifier's.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForVideoClassification

from tubevit import TubeViTForImageClassification, TubeViTForVideoClassification, scale_up
from tubevit.image_families import FAMILIES
from tubevit.presets import preset_config
from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor

from ..data.class_names import normalize_label
from ..data.video_datasets import VideoData
from .loading import DONE, check_model_name, quiet_library, reading_settings
from .model_options import ClipConfig, ModelConfig
from .parameter_groups import freeze_layers


CLASSIFIERS = {"video": TubeViTForVideoClassification, "image": TubeViTForImageClassification}
IMAGE_SETTINGS = ("size", "crop_size", "image_mean", "image_std", "rescale_factor", "resample")


@dataclass
class RunModel:
    """
    model: gives logits for clips.
    processor: what a clip is, and how videos become clips; saved with a TubeViT.
    normalizer: of another model, its own processor, which takes uint8 clips to its input and is saved in place of ours.
    notes: what was decided on the way, one sentence each, for the user to read.
    """

    model: Any
    processor: TubeViTVideoProcessor
    normalizer: Any = None
    notes: list[str] = field(default_factory=list)

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of uint8 clips as the model takes it."""
        if self.normalizer is None or "pixel_values_videos" not in batch:
            return batch
        batch = dict(batch)
        clips = batch.pop("pixel_values_videos")
        pixels = self.normalizer(list(clips), return_tensors="pt", **DONE)
        return {**{name: each.to(self.model.dtype) for name, each in pixels.items()}, **batch}

    def processor_of(self, media: str) -> TubeViTVideoProcessor | TubeViTImageProcessor:
        """What prepares videos, or images in the same way."""
        if media == "video":
            return self.processor
        return TubeViTImageProcessor(**{name: getattr(self.processor, name) for name in IMAGE_SETTINGS})

    def save_processors(self, folder: str) -> None:
        """Beside a TubeViT also what prepares images for it."""
        (self.normalizer or self.processor).save_pretrained(folder)
        if self.normalizer is None:
            self.processor_of("image").save_pretrained(folder)


def load_run_config(config: ModelConfig) -> Any:
    """The `PreTrainedConfig` of the checkpoint to start from, `None` for a preset. Raises `OSError` where there is none."""
    if config.model_name_or_path is None:
        return None
    check_model_name(config.model_name_or_path)
    with quiet_library():
        return AutoConfig.from_pretrained(config.model_name_or_path, **hub_options(config))


def checkpoint_classes(source: Any, media: str = "video") -> list[str] | None:
    """Names of the classes of a video (or image) classifier, `None` where there is none or it only numbers them."""
    if source is None or not _has_classifier(source, media):
        return None
    names = [str(source.id2label[index]) for index in range(source.num_labels)]
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def has_same_classes(ours: list[str], theirs: list[str] | None) -> bool:
    """Whether two lists name the same classes, in any order and spelling."""
    return theirs is not None and sorted(map(normalize_label, ours)) == sorted(map(normalize_label, theirs))


def make_model(config: ModelConfig, clips: ClipConfig, data: VideoData, source: Any = None) -> RunModel:
    """
    source: what `load_run_config` gave for `config`.

    Raises `ValueError` for what does not fit together: other classes than the checkpoint's, tubes that the clip does not
    hold, options that the model does not have.
    """
    check_classes(data)
    notes: list[str] = []
    settings = {
        "id2label": dict(enumerate(data.class_names)),
        "label2id": {name: index for index, name in enumerate(data.class_names)},
        "problem_type": data.problem_type,
        **config.model_config,
    }
    if config.drop_path_rate is not None:
        settings["drop_path_rate"] = config.drop_path_rate
    if source is None or source.model_type in FAMILIES:
        settings |= tubevit_settings(config, clips)
        model = new_tubevit(config, source, CLASSIFIERS[data.media], settings, notes)
    else:
        model = _from_video_model(config, clips, data, source, settings, notes)
    if config.attn_implementation is not None:
        model.set_attn_implementation(config.attn_implementation)
    made = RunModel(model, None, notes=notes)
    if model.config.model_type == "tubevit":
        made.processor = tubevit_processor(model.config, clips)
    else:
        made.normalizer, made.processor = _other_processors(config, model.config, clips)
        freeze_layers(model, config.num_frozen_layers or 0)
    if config.lora_rank:
        made.model = _with_adapters(config, model)
    return made


def check_classes(data: VideoData) -> None:
    """Raise a `ValueError` if there is nothing to tell apart."""
    if len(data.class_names) < 2:
        raise ValueError(f"Training needs at least 2 classes, and the data have {len(data.class_names)}.")


def new_tubevit(
    config: ModelConfig, source: Any, model_class: type, settings: dict[str, Any], notes: list[str]
) -> Any:
    """A TubeViT of a named size, or if `source` is an image model's config, out of that model; says in `notes` which."""
    if source is None:
        notes.append(f"The TubeViT {config.preset} starts from random weights.")
        return model_class(preset_config(config.preset, **settings))
    notes.append(f"{config.model_name_or_path}, an image model, becomes a TubeViT with a new classifier.")
    return _from_image_model(config, model_class, settings)


def tubevit_settings(config: ModelConfig, clips: ClipConfig) -> dict[str, Any]:
    given = {
        "num_frames": clips.num_frames,
        "image_size": clips.image_size,
        "num_frozen_layers": config.num_frozen_layers,
    }
    return {name: value for name, value in given.items() if value is not None}


def _from_image_model(config: ModelConfig, model_class: type, settings: dict[str, Any]) -> Any:
    name, kwargs = config.model_name_or_path, {"source_kwargs": hub_options(config)}
    if config.tube_checkpoint is None:
        return model_class.from_image_checkpoint(name, **kwargs, **settings)
    if config.num_frozen_layers is None:
        raise ValueError("tube_checkpoint needs num_frozen_layers: the paper freezes 26 of the 32 layers of ViT-H.")
    check_model_name(config.tube_checkpoint)
    num_frozen = settings.pop("num_frozen_layers")
    kwargs |= {"num_frozen_layers": num_frozen, "model_class": model_class}
    if "id2label" in settings:
        kwargs["num_labels"] = len(settings["id2label"])
    return scale_up(config.tube_checkpoint, name, **{**kwargs, **settings})


def _from_video_model(
    config: ModelConfig, clips: ClipConfig, data: VideoData, source: Any, settings: dict[str, Any], notes: list[str]
) -> Any:
    if config.tube_checkpoint is not None:
        raise ValueError(f"tube_checkpoint needs an image model, and {config.model_name_or_path} is none.")
    if type(source) not in AutoModelForVideoClassification._model_mapping:
        raise ValueError(
            f"{config.model_name_or_path} is a {source.model_type!r} model, of which there is no video classifier."
        )
    keeps_classifier = has_same_classes(data.class_names, checkpoint_classes(source, data.media))
    if _has_classifier(source, data.media) and not keeps_classifier:
        if not config.ignore_mismatched_sizes:
            raise ValueError(_other_classes(config, data, source))
        notes.append(f"The classifier of {config.model_name_or_path} is replaced by a new one.")
    is_tubevit = source.model_type == "tubevit"
    if data.media == "image" and not is_tubevit:
        raise ValueError(
            f"The data are images, which {config.model_name_or_path}, a {source.model_type} model, does not classify."
        )
    if is_tubevit:
        settings |= {**tubevit_settings(config, clips), "heads": None}  # those are for joint training
    for name in settings:
        if not hasattr(source, name):
            raise ValueError(f"A {source.model_type} model has no {name} in its configuration.")
    model_class = CLASSIFIERS[data.media] if is_tubevit else AutoModelForVideoClassification
    model, info = load_with_report(model_class, config, settings)
    _check_loaded(config, model, info, keeps_classifier)
    if not keeps_classifier:
        model.classifier = nn.Linear(model.classifier.in_features, len(data.class_names))
        model._init_weights(model.classifier)
    return model


def load_with_report(model_class: Any, config: ModelConfig, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The checkpoint as a `model_class`, and which of its weights are missing or of another shape."""
    with quiet_library():
        return model_class.from_pretrained(
            config.model_name_or_path,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            **hub_options(config),
            **settings,
        )


def _check_loaded(config: ModelConfig, model: Any, info: dict[str, Any], keeps_classifier: bool) -> None:
    # What lies outside of the backbone belongs to the classifier, which may be new.
    backbone = f"{model.base_model_prefix}."
    lost = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    lost = sorted(key for key in lost if keeps_classifier or key.startswith(backbone))
    if lost:
        raise ValueError(
            f"{config.model_name_or_path} lacks {len(lost)} weights of {type(model).__name__}, or has them in another shape, "
            f"among them {lost[0]}."
        )


def _other_classes(config: ModelConfig, data: VideoData, source: Any) -> str:
    theirs = checkpoint_classes(source, data.media)
    difference = f"{source.num_labels} classes, the data {len(data.class_names)}"
    if theirs is None:
        difference += "; the checkpoint does not name its own"
    elif len(theirs) == len(data.class_names):
        ours = {normalize_label(name) for name in data.class_names}
        difference += f", among them not {next(name for name in theirs if normalize_label(name) not in ours)!r}"
    return (
        f"{config.model_name_or_path} was trained for {difference}: set ignore_mismatched_sizes=true to start with a new "
        "classifier."
    )


def tubevit_processor(config: Any, clips: ClipConfig) -> TubeViTVideoProcessor:
    height, width = config.image_height_width
    short_side = clips.short_side or min(height, width)
    scale = short_side / min(height, width)
    squeezed = {"height": round(scale * height), "width": round(scale * width)}
    return TubeViTVideoProcessor(
        num_frames=config.num_frames,
        size=squeezed if clips.fit == "squeeze" else {"shortest_edge": short_side},
        crop_size={"height": height, "width": width},
        image_mean=config.image_mean,
        image_std=config.image_std,
        rescale_factor=config.rescale_factor,
        **_sampling(clips),
    )


def _other_processors(config: ModelConfig, model_config: Any, clips: ClipConfig) -> tuple[Any, TubeViTVideoProcessor]:
    from transformers import AutoVideoProcessor

    with quiet_library():
        own = AutoVideoProcessor.from_pretrained(config.model_name_or_path, **hub_options(config))
    settings = reading_settings(own, model_config)
    num_frames = settings["num_frames"]
    if not settings["do_center_crop"] and "height" in (size := dict(settings["size"])):
        settings["crop_size"] = size  # of random crops in training; in evaluation there are none
    if clips.num_frames not in (None, num_frames):
        raise ValueError(
            f"num_frames={clips.num_frames}, but {config.model_name_or_path} takes clips of {num_frames}."
        )
    if clips.image_size is not None or clips.fit != "crop":
        raise ValueError("image_size and fit are for TubeViT; another model has those of its checkpoint.")
    return own, TubeViTVideoProcessor(**settings, **_sampling(clips))


def _sampling(clips: ClipConfig) -> dict[str, Any]:
    sampling = {"sampling": "uniform"} if clips.fps is None else {"sampling": "fixed_rate", "fps": clips.fps}
    return {**sampling, "pad_mode": clips.pad_mode}


def _with_adapters(config: ModelConfig, model: Any) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("lora_rank needs PEFT: pip install peft.") from error
    wanted = [name.strip() for name in config.lora_target_modules.split(",")]
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith("classifier")
        and (wanted == ["all-linear"] or name.rsplit(".", 1)[-1] in wanted)
    ]
    if not targets:
        raise ValueError(
            f"lora_target_modules={config.lora_target_modules!r} names no linear layer of {type(model).__name__}."
        )
    alpha = config.lora_alpha or 2.0 * config.lora_rank
    return get_peft_model(
        model, LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=targets, modules_to_save=["classifier"])
    )


def _has_classifier(source: Any, media: str) -> bool:
    return any(name.endswith(f"For{media.title()}Classification") for name in source.architectures or [])


def hub_options(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.model_revision, "trust_remote_code": config.trust_remote_code}
