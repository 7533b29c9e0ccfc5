# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The model of a joint run: one backbone, a head for each data set, and the classifiers for one data set that it is split into.

It starts like the model of any run (`build`). A checkpoint's head is kept if it is for a data set of the same name and classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tubevit.joint_heads import complete_heads

from ..data.video_datasets import VideoData
from .build import (
    RunModel,
    check_classes,
    check_loaded,
    check_no_tubes,
    finish_model,
    has_same_classes,
    load_with_report,
    model_settings,
    starting_family,
)
from .families import ModelFamily
from .loading import load_model
from .model_options import ClipConfig, ModelConfig


def head_classes(source: Any, name: str) -> list[str] | None:
    """Names of the classes of a checkpoint's head for the data set `name`, `None` if it has no head of this name."""
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
    data: by name, each with its classes in the order of the checkpoint's head if that has the same classes.
    loss_weights: the factor on the loss of each data set.
    source: returned by `load_run_config` for `config`.

    Raises `ValueError` for options that do not fit together.
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
    family, is_new = starting_family(config, source)
    if family.joint_class is None:
        raise ValueError(
            f"{config.model_name_or_path} is a {family.title} model, which has no class for joint training: name a TubeViT, or an "
            "image model."
        )
    return finish_model(
        config,
        clips,
        family,
        source,
        is_new,
        model_settings(config, clips, family, {"heads": complete_heads(heads)}, is_new),
        new_class=lambda: family.get("joint_class"),
        load=lambda settings, notes: _load_joint(config, data, family, source, settings, notes),
    )


def with_name(name: str, function: Any, *args: Any) -> Any:
    """Call `function(*args)`; its `ValueError` or `OSError` is raised again with the name of the data set."""
    try:
        return function(*args)
    except (ValueError, OSError) as error:
        raise (ValueError if isinstance(error, ValueError) else OSError)(f"datasets.{name}: {error}") from error


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
    notes: list[str],
) -> Any:
    check_no_tubes(config)
    kept = [name for name, each in data.items() if has_same_classes(each.class_names, head_classes(source, name))]
    for name, each in data.items():
        if name in kept or head_classes(source, name) is None:
            continue
        if not config.ignore_mismatched_sizes:
            raise ValueError(
                f"datasets.{name}: {config.model_name_or_path} has a head of this name for {len(head_classes(source, name))} "
                f"classes, which are not the {len(each.class_names)} of the data: set ignore_mismatched_sizes=true for a "
                "new head, or give the data set another name."
            )
    model, info = load_with_report(family.get("joint_class"), config, settings)
    kept_parts = (f"{model.base_model_prefix}.", *(f"classifiers.{name}." for name in kept))
    check_loaded(config, model, info, lambda key: key.startswith(kept_parts))
    for name in [name for name in data if name not in kept]:
        model.classifiers[name] = nn.Linear(model.config.pooled_size, len(data[name].class_names))
        model._init_weights(model.classifiers[name])
    notes.append(f"Heads of {config.model_name_or_path} that are kept: {', '.join(kept) or 'none'}.")
    return model
