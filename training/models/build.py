# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Build the model of a training run and its processors from the run's options.

A run starts from a preset with random weights, from a checkpoint of a classifier of any family, or from an image model that is
converted to a video model. The classes are those of the data. The checkpoint's classifier is kept if its classes have the same
names; the classes then have the checkpoint's order. All other weights must be in the checkpoint.

A joint run (section 3.5) has one backbone and a head for each data set. The checkpoint's head of the same name is kept if it has
the same classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tubevit.classification import label_groups_of
from tubevit.config_checks import is_known, unknown_field
from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor
from tubevit.safetensors_only import check_finite
from tubevit.saved_processor import SavedProcessorMixin
from tubevit.tubevit_checks import complete_heads

from ..data.class_names import normalize_label
from ..data.data_config import VideoData
from ..errors import with_name
from .clip_processors import (
    IMAGE_SETTINGS,
    ONE_VIEW,
    ClipProcessors,
    choose_num_frames,
    clip_processors,
    clip_settings,
    image_processor,
    new_processor,
    sampling_settings,
)
from .families import ModelFamily, converting_family, family_of, family_of_preset, find_family, resolve
from .loading import (
    check_model_name,
    class_fields,
    load_config,
    load_model,
    load_processor,
    named_classes,
    quiet_library,
)
from .lora import with_adapters
from .model_options import ClipConfig, ModelConfig
from .parameter_groups import freeze_layers
from .published_classes import cut_classifier, rows_of_classes


# Fields of a model's config that the entries of `model_config` may not set, with the reason.
NOT_IN_MODEL_CONFIG = {
    **dict.fromkeys(
        ("num_labels", "id2label", "label2id", "heads", "problem_type", "label_groups"), "the data determine it"
    ),
    **dict.fromkeys(
        ("dtype", "torch_dtype"), "weights are trained in float32, and mixed_precision sets the type of the arithmetic"
    ),
    "attn_implementation": "it is an option of its own",
}


@dataclass
class RunModel:
    """
    A model to train, with its processors.

    model: the classifier. processors: read and prepare its clips. family: of the model.
    messages: decisions to show to the user, one sentence each.
    """

    model: Any
    processors: ClipProcessors
    family: ModelFamily
    messages: list[str] = field(default_factory=list)

    @property
    def processor(self) -> TubeViTVideoProcessor:
        """Reads the clips of videos, one view per video."""
        return self.processors.reader

    @property
    def own_processor(self) -> Any:
        """The processor that is saved with the model."""
        return self.processors.own

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the model for a batch of clips, as `ClipProcessors.prepare` takes them."""
        if self.processors.normalizer is None or "pixel_values_videos" not in batch:
            return batch
        batch = dict(batch)
        return {**self.processors.prepare(batch.pop("pixel_values_videos"), self.model.dtype), **batch}

    def processor_of(self, media: str) -> TubeViTVideoProcessor | TubeViTImageProcessor:
        """The processor that reads videos, or images with the same settings."""
        return self.processor if media == "video" else image_processor(self.processor)

    def save_processors(self, folder: str) -> None:
        """Save the video processor, and for a family that also classifies images an image processor with the same settings."""
        self.own_processor.save_pretrained(folder)
        if "image" in self.family.processors and isinstance(self.own_processor, TubeViTVideoProcessor):
            image_processor(self.own_processor).save_pretrained(folder)


def load_run_config(config: ModelConfig) -> Any:
    """The config of the checkpoint to start from, `None` for a preset. Raises `OSError` if there is no checkpoint."""
    if config.model_name_or_path is None:
        return None
    return load_config(config.model_name_or_path, **hub_options(config))


def checkpoint_classes(source: Any, media: str = "video") -> list[str] | None:
    """Class names of a video (or image) classifier; `None` if the checkpoint has no classifier or no class names."""
    return None if source is None or not _has_classifier(source, media) else named_classes(source)


def has_same_classes(ours: list[str], theirs: list[str] | None) -> bool:
    """Whether two lists name the same classes, in any order and spelling."""
    return theirs is not None and sorted(map(normalize_label, ours)) == sorted(map(normalize_label, theirs))


def make_model(config: ModelConfig, clips: ClipConfig, data: VideoData, source: Any = None) -> RunModel:
    """
    The model for a data set.

    source: returned by `load_run_config` for `config`.

    Raises `ValueError` for options that contradict each other, such as classes that differ from the checkpoint's, tubes that do
    not fit in the clip, or options that the model does not have.
    """
    check_classes(data)
    classes = {**class_fields(data.class_names), "problem_type": data.problem_type}
    family, is_new = starting_family(config, source)
    if is_new and config.head_from is not None:
        raise ValueError(
            f"head_from={config.head_from} needs a checkpoint with a classifier of Kinetics-710, and {config.model_name_or_path} is an "
            "image model."
        )
    label_groups = [[name, size] for name, size in data.label_groups.items()] or None
    is_field = is_known(resolve(family.config_class), "label_groups")
    if is_field:
        classes["label_groups"] = label_groups
    model = finish_model(
        config,
        clips,
        family,
        source,
        is_new,
        model_settings(config, clips, family, classes, is_new),
        new_class=lambda: family.classifier(data.media),
        load=lambda settings, messages: _load_classifier(config, data, family, source, settings, messages),
    )
    if not is_field and (label_groups or label_groups_of(model.model.config)):
        # A config of Transformers has no such field; the attribute is saved with it.
        model.model.config.label_groups = label_groups
    if label_groups:
        model.messages.append(
            f"The classifier has {len(label_groups)} groups of labels, each with a softmax and a loss of its own. The pipeline of "
            "Transformers applies one softmax to all labels; `tubevit predict` and `tubevit eval` apply one to each group."
        )
    return model


def finish_model(
    config: ModelConfig,
    clips: ClipConfig,
    family: ModelFamily,
    source: Any,
    is_new: bool,
    settings: dict[str, Any],
    new_class: Callable[[], type],
    load: Callable[[dict[str, Any], list[str]], Any],
) -> RunModel:
    """
    The steps that `make_model` and `make_joint_model` have in common.

    settings: by `model_settings`. new_class: returns the class of a new model. load: loads the checkpoint, given `(settings,
    messages)`.
    """
    messages: list[str] = []
    name = config.model_name_or_path or config.preset
    if is_new:
        model = new_model(config, family, source, new_class(), settings, messages)
        own = new_processor(family, model.config, clips)
        chosen = sampling_settings(clips)
        num_frames = choose_num_frames(chosen, own, family, model.config, name)
        processors = clip_processors(own, chosen, num_frames, family, model.config)
    else:
        own = _load_own_processor(config, clips, family, source, messages)
        chosen = clip_settings(own, clips, name)
        num_frames = choose_num_frames(chosen, own, family, source, name)
        if num_frames != family.num_frames(source) and family.set_num_frames is None:
            settings = {**settings, family.frames_field: num_frames}
        model = load(settings, messages)
        family.adapt_num_frames(model, num_frames)
        processors = clip_processors(own, chosen, num_frames, family, model.config, ONE_VIEW)
    if isinstance(model, SavedProcessorMixin):
        model.video_processor_settings = None  # the run saves its own processor, not that of its source
    if config.attn_implementation is not None:
        model.set_attn_implementation(config.attn_implementation)
    if not family.freezes_layers:
        freeze_layers(model, config.num_frozen_layers or 0)
    _check_pipeline(processors.own, messages)
    messages += config.without_effect()
    frozen = [
        f"{name}={getattr(config, name)}" for name in ("lora_rank", "num_frozen_layers") if getattr(config, name)
    ]
    if config.preset is not None and frozen:
        messages.append(
            f"{' and '.join(frozen)}: the frozen weights are random and stay so; a trained model is named by model_name_or_path."
        )
    if config.lora_rank:
        model = with_adapters(config, model, family, messages)
    return RunModel(model, processors, family, messages)


def _check_pipeline(own: Any, messages: list[str]) -> None:
    if not isinstance(own, TubeViTVideoProcessor) and own.fps is not None:
        messages.append(
            f"The {type(own).__name__} that is saved with the model samples {own.fps:g} frames per second. `tubevit predict` and "
            '`tubevit eval` read clips at this rate; the pipeline "video-classification" of Transformers refuses a rate.'
        )


def starting_family(config: ModelConfig, source: Any) -> tuple[ModelFamily, bool]:
    """
    The family of the model that is trained, and whether its weights are new: random, or those of an image model.

    Raises `ValueError` for a checkpoint of no family.
    """
    if source is None:
        return family_of_preset(config.preset), True
    converting, found = converting_family(source, config.model_family), find_family(source)
    is_video = found is not None and "video" in found.classifiers
    if converting is not None and (config.model_family is not None or not is_video):
        return converting, True
    return family_of(source, config.model_name_or_path), False


def check_classes(data: VideoData) -> None:
    """Raise a `ValueError` for data of one class."""
    if len(data.class_names) < 2:
        raise ValueError(f"Training needs at least 2 classes, and the data have {len(data.class_names)}.")


def model_settings(
    config: ModelConfig, clips: ClipConfig, family: ModelFamily, classes: dict[str, Any], is_new: bool
) -> dict[str, Any]:
    """
    Fields of the model's config that the options set.

    classes: config fields with the classes. is_new: of `starting_family`. The number of frames is set here for new models only; for
    a checkpoint it depends on its processor.
    """
    for name in config.model_config:
        if name in classes or name in NOT_IN_MODEL_CONFIG:
            reason = NOT_IN_MODEL_CONFIG.get(name, "the data determine it")
            raise ValueError(f"model_config.{name}={config.model_config[name]!r} cannot be set: {reason}.")
    settings = {**classes, **config.model_config}
    given = {"drop_path_rate": config.drop_path_rate}
    if is_new and family.frames_field is not None:
        given[family.frames_field] = clips.num_frames
    if is_new or family.image_size_may_differ:
        given[family.size_field] = clips.image_size
    if family.freezes_layers:
        given["num_frozen_layers"] = config.num_frozen_layers
    return settings | {name: value for name, value in given.items() if value is not None}


def new_model(
    config: ModelConfig,
    family: ModelFamily,
    source: Any,
    model_class: type,
    settings: dict[str, Any],
    messages: list[str],
) -> Any:
    """A model of a preset with random weights, or converted from the image model with the config `source`. Adds to `messages`."""
    if source is None:
        messages.append(f"The {family.title} {config.preset} starts from random weights.")
        return model_class(family.get("build_preset")(config.preset, **settings))
    head = "decoder" if model_class is resolve(family.pretraining_class) else "classifier"
    messages.append(f"{config.model_name_or_path}, an image model, becomes a {family.title} with a new {head}.")
    name, kwargs = config.model_name_or_path, {"source_kwargs": {**hub_options(config), "dtype": torch.float32}}
    if config.tube_checkpoint is None:
        return model_class.from_image_checkpoint(name, **kwargs, **settings)
    if config.num_frozen_layers is None:
        raise ValueError("tube_checkpoint needs num_frozen_layers: the paper freezes 26 of the 32 layers of ViT-H.")
    check_model_name(config.tube_checkpoint)
    kwargs |= {"num_frozen_layers": settings.pop("num_frozen_layers"), "model_class": model_class}
    if "id2label" in settings:
        kwargs["num_labels"] = len(settings["id2label"])
    return family.get("scale_up")(config.tube_checkpoint, name, **{**kwargs, **settings})


def _load_own_processor(
    config: ModelConfig, clips: ClipConfig, family: ModelFamily, source: Any, messages: list[str]
) -> Any:
    """The checkpoint's video processor; if it has none, a new one, with the settings of its image processor if it has one."""
    name, options = config.model_name_or_path, hub_options(config)
    try:
        return load_processor(name, family, "video", **options)
    except FileNotFoundError:
        if "video" not in family.processors:
            raise
    try:
        like = load_processor(name, family, "image", **options)
    except FileNotFoundError:
        messages.append(f"{name} has no processor: a new one is built from its config.")
        return new_processor(family, source, clips)
    messages.append(
        f"{name} has no video processor: a new one has the pixels of its image processor and samples clips by the options."
    )
    return new_processor(family, source, clips, {setting: getattr(like, setting) for setting in IMAGE_SETTINGS})


def check_no_tubes(config: ModelConfig) -> None:
    """Raise a `ValueError` for `tube_checkpoint` with a checkpoint that is not an image model."""
    if config.tube_checkpoint is not None:
        raise ValueError(f"tube_checkpoint needs an image model, and {config.model_name_or_path} is not one.")


def _load_classifier(
    config: ModelConfig,
    data: VideoData,
    family: ModelFamily,
    source: Any,
    settings: dict[str, Any],
    messages: list[str],
) -> Any:
    check_no_tubes(config)
    name = config.model_name_or_path
    try:
        model_class = family.classifier(data.media)
    except ValueError as error:
        raise ValueError(f"The data are {data.media}s: {name} cannot be trained on them. {error}") from error
    theirs = checkpoint_classes(source, data.media)
    keeps_classifier, rows = has_same_classes(data.class_names, theirs), None
    if config.head_from is not None and keeps_classifier:
        messages.append(f"head_from={config.head_from} has no effect: {name} has the classes of the data.")
    elif config.head_from is not None:
        rows, sentences = rows_of_classes(data.class_names, theirs, name)
        messages += sentences
        settings = {key: value for key, value in settings.items() if key not in ("id2label", "label2id")}
    elif _has_classifier(source, data.media) and not keeps_classifier:
        if not config.ignore_mismatched_sizes:
            raise ValueError(_other_classes(config, data, source))
        messages.append(f"The classifier of {name} is replaced by a new one.")
    if family.joint_class is not None:
        settings = {**settings, "heads": None}  # the heads of joint training are dropped
    model, info = load_with_report(model_class, config, settings)
    # Weights outside of the backbone belong to the classifier, which may be new.
    backbone = f"{model.base_model_prefix}."
    has_head = keeps_classifier or rows is not None
    check_loaded(config, model, info, lambda key: has_head or key.startswith(backbone))
    if not _has_classifier(source, data.media) and rows is None:
        unused = sorted({key.split(".")[0] for key in info["unexpected_keys"]})
        left_out = f"; its {', '.join(unused)} is left out" if unused else ""
        messages.append(f"{name} has no classifier: it gets a new one{left_out}.")
    if rows is not None:
        model.classifier, model.num_labels = cut_classifier(model.classifier, rows), len(rows)
        model.config.update(class_fields(data.class_names))
    elif not keeps_classifier:
        model.classifier = type(model.classifier)(model.classifier.in_features, len(data.class_names))
        model._init_weights(model.classifier)
    return model


def load_with_report(model_class: Any, config: ModelConfig, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """
    The checkpoint as a `model_class` in float32, and Transformers' report of missing and mismatched weights. Raises `ValueError` for
    a field that the model's config does not have, and for weights with NaN or inf.
    """
    _check_fields(model_class.config_class, settings)
    with quiet_library():
        model, info = model_class.from_pretrained(
            config.model_name_or_path,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            **hub_options(config),
            **settings,
        )
    check_finite(model.state_dict().items(), str(config.model_name_or_path))
    return model, info


def _check_fields(config_class: Any, settings: Mapping[str, Any]) -> None:
    """Raise a `ValueError` with the nearest name for a field that a config does not have."""
    for name in settings:
        if not is_known(config_class, name) and name not in config_class.attribute_map:
            raise ValueError(unknown_field(config_class, name))


def check_loaded(config: ModelConfig, model: Any, info: dict[str, Any], is_needed: Callable[[str], bool]) -> None:
    """Raise a `ValueError` if a weight that `is_needed` is missing in the checkpoint, or has another shape there."""
    lost = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    if lost := sorted(filter(is_needed, lost)):
        raise ValueError(
            f"{config.model_name_or_path} lacks {len(lost)} weights of {type(model).__name__}, or has them in another shape, "
            f"among them {lost[0]}."
        )


def _other_classes(config: ModelConfig, data: VideoData, source: Any) -> str:
    theirs = checkpoint_classes(source, data.media)
    difference = f"{source.num_labels} classes, the data {len(data.class_names)}"
    if theirs is None:
        difference += "; the checkpoint has no class names"
    elif len(theirs) == len(data.class_names):
        ours = {normalize_label(name) for name in data.class_names}
        difference += f", among them not {next(name for name in theirs if normalize_label(name) not in ours)!r}"
    return (
        f"{config.model_name_or_path} was trained for {difference}: set ignore_mismatched_sizes=true to start with a new "
        "classifier."
    )


def _has_classifier(source: Any, media: str) -> bool:
    return any(name.endswith(f"For{media.title()}Classification") for name in source.architectures or [])


def hub_options(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.model_revision, "trust_remote_code": config.trust_remote_code}


def head_classes(source: Any, name: str) -> list[str] | None:
    """Class names of a checkpoint's head for the data set `name`; `None` if it has no head of this name."""
    heads = source.heads if hasattr(source, "heads") else None
    head = (heads or {}).get(name)
    return None if head is None else [head["id2label"][str(index)] for index in range(head["num_labels"])]


def make_joint_model(
    config: ModelConfig,
    clips: ClipConfig,
    data: Mapping[str, VideoData],
    loss_weights: Mapping[str, float],
    source: Any = None,
) -> RunModel:
    """
    The model with a head for each data set.

    data: by name. If the checkpoint's head has the same classes, they are in the head's order.
    loss_weights: the factor on the loss of each data set.
    source: returned by `load_run_config` for `config`.

    Raises `ValueError` for options that contradict each other.
    """
    for name, each in data.items():
        with_name(name, check_classes, each)
    heads = {
        name: {
            "modality": each.media,
            "id2label": dict(enumerate(each.class_names)),
            "problem_type": each.problem_type,
            "loss_weight": loss_weights[name],
        }
        for name, each in data.items()
    }
    family, is_new = check_joint_family(config, source)
    return finish_model(
        config,
        clips,
        family,
        source,
        is_new,
        model_settings(config, clips, family, {"heads": complete_heads(heads), "label_groups": None}, is_new),
        new_class=lambda: family.get("joint_class"),
        load=lambda settings, messages: _load_joint(config, data, family, source, settings, messages),
    )


def check_joint_family(config: ModelConfig, source: Any) -> tuple[ModelFamily, bool]:
    """As `starting_family`. Raises `ValueError` for a family without a class for joint training."""
    family, is_new = starting_family(config, source)
    if family.joint_class is None:
        raise ValueError(
            f"Joint runs are for TubeViT, and {config.model_name_or_path or config.preset} {'becomes' if is_new and source else 'is'} a "
            f"{family.title}: start from a TubeViT or an image model, or train on one data set."
        )
    return family, is_new


def save_classifiers(model: RunModel, folder: Path) -> None:
    """Split the joint model that is saved in `folder`: write a classifier for each data set, with processors, to `folder/name`."""
    joint = load_model(str(folder), model.family.get("joint_class"))
    for name in joint.config.heads:
        joint.to_classifier(name).save_pretrained(folder / name)
        model.save_processors(str(folder / name))


def _load_joint(
    config: ModelConfig,
    data: Mapping[str, VideoData],
    family: ModelFamily,
    source: Any,
    settings: dict[str, Any],
    messages: list[str],
) -> Any:
    check_no_tubes(config)
    heads = {name: head_classes(source, name) for name in data}
    kept = [name for name, each in data.items() if has_same_classes(each.class_names, heads[name])]
    for name, head in heads.items():
        if head is not None and name not in kept and not config.ignore_mismatched_sizes:
            raise ValueError(
                f"datasets.{name}: {config.model_name_or_path} has a head of this name for {len(head)} classes, which are not the "
                f"{len(data[name].class_names)} of the data: set ignore_mismatched_sizes=true for a new head, or give the data set another "
                "name."
            )
    model, info = load_with_report(family.get("joint_class"), config, settings)
    kept_parts = (f"{model.base_model_prefix}.", *(f"classifiers.{name}." for name in kept))
    check_loaded(config, model, info, lambda key: key.startswith(kept_parts))
    for name, each in data.items():
        if name not in kept:
            model.classifiers[name] = nn.Linear(model.config.pooled_size, len(each.class_names))
            model._init_weights(model.classifiers[name])
    messages.append(f"Heads of {config.model_name_or_path} that are kept: {', '.join(kept) or 'none'}.")
    return model
