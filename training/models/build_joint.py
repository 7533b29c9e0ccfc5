# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The model of a joint run: one backbone, a head for each data set, and the classifiers for one data set that it is split into.

It starts as the model of any run (`build`): with random weights, from an image model, or from a TubeViT. A head that the
checkpoint has for a data set of the same name and classes is kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tubevit import TubeViTForJointClassification
from tubevit.image_families import FAMILIES
from tubevit.joint_heads import complete_heads

from ..data.video_datasets import VideoData
from .build import (
    RunModel,
    check_classes,
    has_same_classes,
    load_with_report,
    new_tubevit,
    tubevit_processor,
    tubevit_settings,
)
from .loading import load_model
from .model_options import ClipConfig, ModelConfig


def head_classes(source: Any, name: str) -> list[str] | None:
    """Names of the classes of a checkpoint's head, `None` where it has none of this name."""
    head = (getattr(source, "heads", None) or {}).get(name)
    return None if head is None else [head["id2label"][str(index)] for index in range(head["num_labels"])]


def make_joint_model(
    config: ModelConfig,
    clips: ClipConfig,
    data: Mapping[str, VideoData],
    loss_weights: Mapping[str, float],
    source: Any = None,
) -> RunModel:
    """
    data: of each data set, classes in the order of the checkpoint's head where that has the same ones.
    loss_weights: of each, the factor on its loss.
    source: what `load_run_config` gave for `config`.

    Raises `ValueError` for what does not fit together.
    """
    for name, each in data.items():
        with_name(name, check_classes, each)
    notes: list[str] = []
    heads = {
        name: {
            "modality": each.media,
            "id2label": dict(enumerate(each.class_names)),
            "problem_type": each.problem_type,
            "loss_weight": loss_weights[name],
        }
        for name, each in data.items()
    }
    settings = {"heads": complete_heads(heads), **config.model_config, **tubevit_settings(config, clips)}
    if config.drop_path_rate is not None:
        settings["drop_path_rate"] = config.drop_path_rate
    if source is None or source.model_type in FAMILIES:
        model = new_tubevit(config, source, TubeViTForJointClassification, settings, notes)
    elif source.model_type == "tubevit":
        model = _from_tubevit(config, data, source, settings, notes)
    else:
        raise ValueError(
            f"{config.model_name_or_path} is a {source.model_type} model, and joint training is for TubeViT: name one, or an "
            "image model."
        )
    if config.attn_implementation is not None:
        model.set_attn_implementation(config.attn_implementation)
    return RunModel(model, tubevit_processor(model.config, clips), notes=notes)


def with_name(name: str, function: Any, *args: Any) -> Any:
    """`function(*args)`; what it raises for the user to mend says which data set it is about."""
    try:
        return function(*args)
    except (ValueError, OSError) as error:
        raise (ValueError if isinstance(error, ValueError) else OSError)(f"datasets.{name}: {error}") from error


def save_classifiers(model: RunModel, folder: Path) -> None:
    """Split the joint model that is saved in `folder`: for each data set a plain classifier, with its processors, in `folder/name`."""
    joint = load_model(str(folder), TubeViTForJointClassification)
    for name in joint.config.heads:
        joint.to_classifier(name).save_pretrained(folder / name)
        model.save_processors(str(folder / name))


def _from_tubevit(
    config: ModelConfig, data: Mapping[str, VideoData], source: Any, settings: dict[str, Any], notes: list[str]
) -> TubeViTForJointClassification:
    if config.tube_checkpoint is not None:
        raise ValueError(f"tube_checkpoint needs an image model, and {config.model_name_or_path} is none.")
    kept = [name for name, each in data.items() if has_same_classes(each.class_names, head_classes(source, name))]
    for name, each in data.items():
        if name in kept or head_classes(source, name) is None:
            continue
        if not config.ignore_mismatched_sizes:
            raise ValueError(
                f"datasets.{name}: {config.model_name_or_path} has a head of this name for {len(head_classes(source, name))} "
                f"classes, which are not the {len(each.class_names)} of the data: set ignore_mismatched_sizes=true for a "
                "new one, or name the data set otherwise."
            )
    model, info = load_with_report(TubeViTForJointClassification, config, settings)
    kept_parts = ("tubevit.", *(f"classifiers.{name}." for name in kept))
    lost = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    if lost := sorted(key for key in lost if key.startswith(kept_parts)):
        raise ValueError(
            f"{config.model_name_or_path} lacks {len(lost)} weights of {type(model).__name__}, or has them in another shape, "
            f"among them {lost[0]}."
        )
    for name in [name for name in data if name not in kept]:
        model.classifiers[name] = nn.Linear(model.config.pooled_size, len(data[name].class_names))
        model._init_weights(model.classifiers[name])
    notes.append(f"Heads of {config.model_name_or_path} that are kept: {', '.join(kept) or 'none'}.")
    return model
