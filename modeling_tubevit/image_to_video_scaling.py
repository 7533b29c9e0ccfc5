# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Image-to-video scaling (section 3.6): a large image ViT becomes a video model with the tubes of a small TubeViT, and only its
last layers are trained.
"""

import itertools
import os
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from .configuration_tubevit import TubeViTConfig
from .image_families import pair
from .modeling_tubevit import TubeViTForVideoClassification, TubeViTModel, TubeViTPreTrainedModel
from .tubes import Size, Tube


logger = logging.get_logger(__name__)


def scale_up(
    small: TubeViTPreTrainedModel | str | os.PathLike,
    large: PreTrainedModel | str | os.PathLike,
    *,
    num_frozen_layers: int,
    gate: bool = True,
    model_class: type[TubeViTPreTrainedModel] = TubeViTForVideoClassification,
    **kwargs,
) -> TubeViTPreTrainedModel:
    """
    A TubeViT with the encoder of a large image model and the 3D tubes of a small TubeViT.

    The kernels of the 3D tubes are copied unchanged. If the large model is wider, space-to-depth merges more neighbors into a
    token to reach its width (`widen_tube`), so there are no new kernels. The 2D tube is the large model's own patch.

    small: a TubeViT, or its folder or its name on the Hub. The new model has the same labels unless `kwargs` sets others; a
        joint `model_class` has the heads of a joint small model.
    large: an image model of Transformers that `from_image_checkpoint` supports, or its folder or its name on the Hub.
    num_frozen_layers: number of layers from the start that are not trained, s in the paper (26 of the 32 layers of ViT-H).
    gate: whether a gate adds the encoder's input again after layer s; it is zero-initialized (eq. 8). It needs at least one
        layer to train.
    model_class: class of the result.
    kwargs: for `model_class.from_image_checkpoint`, such as `positions`, `image_size` and fields of `TubeViTConfig`.

    The dtype of the result is the wider of the two, at least float32 without `source_kwargs={"dtype": ...}`. Raises `ValueError` if the widths do not fit together, and for the
    reasons of `from_image_checkpoint`.
    """
    if "tubes" in kwargs:
        raise ValueError(
            "scale_up uses the tubes of the small model and takes no tubes; call small.set_tubes(...) before."
        )
    small_model = small if isinstance(small, TubeViTPreTrainedModel) else TubeViTModel.from_pretrained(small)
    if isinstance(large, PreTrainedModel):
        with TemporaryDirectory() as folder:
            large.save_pretrained(folder)
            return scale_up(
                small_model, folder, num_frozen_layers=num_frozen_layers, gate=gate, model_class=model_class, **kwargs
            )
    config = small_model.config
    width, num_layers, patch = _image_model_sizes(large, kwargs.get("source_kwargs") or {})
    num_layers = kwargs.get("num_hidden_layers", num_layers)
    tubes = scaled_tubes(config, width, patch)
    settings = {
        "tubes": [tube.to_dict() for tube in tubes],
        "num_frames": config.num_frames,
        "tube_init": "random",
        "num_frozen_layers": num_frozen_layers,
        "gate_layer": num_frozen_layers if gate and num_frozen_layers < num_layers else None,
        **_labels(config, model_class, kwargs),
    }
    model = model_class.from_image_checkpoint(large, **settings | kwargs)
    model.to(torch.promote_types(small_model.dtype, model.dtype))
    _warn_of_pixel_statistics(config, model.config)
    _copy_kernels(small_model, model)
    return model


def scaled_tubes(small: TubeViTConfig, width: int, patch: tuple[int, int]) -> list[Tube]:
    """
    The tubes of a small TubeViT for a large image model of this width and patch (rows, columns): its 3D tubes, widened by
    `widen_tube`, and its 2D tubes that are the patch. Raises `ValueError` if the widths do not fit together.
    """
    tubes = []
    for tube in small.get_tubes():
        if not tube.is_image_tube:
            tubes.append(widen_tube(tube, small.hidden_size, width))
        elif tube.kernel_size[1:] == patch and tube.stride[1:] == patch:
            tubes.append(replace(tube, offset=(0, 0, 0), space_to_depth=(1, 1, 1)))
    return tubes


def widen_tube(tube: Tube, width: int, new_width: int) -> Tube:
    """
    The tube with the same kernel and more space-to-depth, whose tokens have `new_width` channels instead of `width`.

    If several factors are possible, multiples of the present factors are preferred, then the factors whose merged
    applications are farthest apart relative to the kernel size. Raises `ValueError` if no factors give `new_width`.

    >>> widen_tube(Tube((8, 8, 8), (16, 32, 32)), 192, 768).space_to_depth
    (1, 2, 2)
    """
    outputs = width // tube.num_merged
    if new_width % outputs:
        raise ValueError(
            f"The tube with {tube} has {outputs} output channels, which do not divide the width {new_width} of the large model: "
            f"use a small model whose width, divided by the tube's number of merged applications, divides {new_width}."
        )
    num_merged = new_width // outputs
    divisors = [[factor for factor in range(1, stride + 1) if stride % factor == 0] for stride in tube.stride]
    choices: list[Size] = [
        (frames, rows, columns)
        for frames, rows, columns in itertools.product(*divisors)
        if frames * rows * columns == num_merged
    ]
    if not choices:
        raise ValueError(
            f"A token of {new_width} channels merges {num_merged} applications of the tube with {tube}, and no space-to-depth "
            f"factors with this product divide its stride {list(tube.stride)}."
        )

    def preference(factors: Size) -> tuple:
        is_multiple = all(factor % present == 0 for factor, present in zip(factors, tube.space_to_depth, strict=True))
        distances = [
            stride / factor / kernel
            for stride, factor, kernel in zip(tube.stride, factors, tube.kernel_size, strict=True)
        ]
        return is_multiple, sorted(distances), factors

    return replace(tube, space_to_depth=max(choices, key=preference))


def _labels(config: TubeViTConfig, model_class: type[TubeViTPreTrainedModel], given: dict) -> dict:
    """The config fields with the small model's labels, if `model_class` has labels and no others are given."""
    if config.heads and hasattr(model_class, "to_classifier"):
        return {} if "heads" in given else {"heads": config.heads}
    if not hasattr(model_class, "classify") or {"num_labels", "id2label", "label2id"} & set(given):
        return {}
    if config.heads:
        raise ValueError(
            f"The small model has heads for {', '.join(config.heads)}: give num_labels or id2label for the new classifier, or "
            "use the classifier that its to_classifier(head) returns."
        )
    return {name: getattr(config, name) for name in ("id2label", "label2id", "problem_type", "label_groups")}


def _image_model_sizes(name: str | os.PathLike, source_kwargs: dict) -> tuple[int, int, tuple[int, int]]:
    """Width, number of layers and patch size (rows, columns) of an image model."""
    location = ("revision", "token", "subfolder", "cache_dir", "local_files_only", "trust_remote_code")
    config = AutoConfig.from_pretrained(name, **{key: source_kwargs[key] for key in location if key in source_kwargs})
    config = getattr(config, "vision_config", config)
    patch = getattr(config, "patch_size", None)
    if patch is None or not hasattr(config, "num_hidden_layers"):
        raise ValueError(f"{name} is a {config.model_type!r} model, not an image ViT with patches.")
    return config.hidden_size, config.num_hidden_layers, pair(patch)


@torch.no_grad()
def _copy_kernels(small: TubeViTPreTrainedModel, model: TubeViTPreTrainedModel) -> None:
    """Copy the kernels of the 3D tubes, which have the same order in both models."""
    source, target = small.get_input_embeddings(), model.get_input_embeddings()
    indices = [[index for index, tube in enumerate(each.tubes) if not tube.is_image_tube] for each in (source, target)]
    for old, new in zip(*indices, strict=True):
        for values, parameter in zip(source.kernel(old), target.kernel(new), strict=True):
            parameter.copy_(values)


def _warn_of_pixel_statistics(small: TubeViTConfig, large: TubeViTConfig) -> None:
    old, new = ((config.image_mean, config.image_std) for config in (small, large))
    if old != new:
        logger.warning(
            f"The small TubeViT was trained on pixels normalized with mean and std {old}, the large image model uses {new}: "
            "the copied kernels of the 3D tubes get pixels in another range than in training."
        )
