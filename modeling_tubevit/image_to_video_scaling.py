# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Image-to-video scaling (section 3.6): a large image ViT becomes a video model by the tubes of a small TubeViT, and only its last
layers are trained.
"""

import itertools
import math
import os
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from .configuration_tubevit import TubeViTConfig
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

    The tubes' kernels are taken over bit by bit. Where the large model is wider, space-to-depth with more neighbours makes
    up the width (`widen_tube`), so there are no new weights. The 2D tube is the large model's own patch.

    small: a TubeViT, or the name or folder of one; its labels (of a joint model: its heads, for a joint `model_class`)
        become the new model's unless others are given.
    large: an image model of Transformers, or the name or folder of one, as `from_image_checkpoint` takes it.
    num_frozen_layers: layers before which nothing is trained, s in the paper (26 of the 32 of ViT-H).
    gate: whether the encoder's input is added once more behind layer s, through a gate that is closed at the start (eq. 8).
        Without layers to train there is none.
    model_class: of the result.
    kwargs: for `model_class.from_image_checkpoint`, such as `positions`, `image_size` and fields of `TubeViTConfig`.

    The result has the wider of the two dtypes. Raises `ValueError` where the widths do not fit together, and as
    `from_image_checkpoint` does.
    """
    if "tubes" in kwargs:
        raise ValueError("scale_up takes the tubes of the small model; change them there, with set_tubes.")
    if not isinstance(small, TubeViTPreTrainedModel):
        small = TubeViTModel.from_pretrained(small)
    if isinstance(large, PreTrainedModel):
        with TemporaryDirectory() as folder:
            large.save_pretrained(folder)
            return scale_up(
                small, folder, num_frozen_layers=num_frozen_layers, gate=gate, model_class=model_class, **kwargs
            )
    config = small.config
    width, num_layers, patch = _image_model_sizes(large, kwargs.get("source_kwargs") or {})
    indices, tubes = [], []
    for index, tube in enumerate(config.get_tubes()):
        if not tube.is_image_tube:
            indices.append(index)
            tubes.append(widen_tube(tube, config.hidden_size, width))
        elif tube.kernel_size[1:] == patch and tube.stride[1:] == patch:
            tubes.append(replace(tube, offset=(0, 0, 0), space_to_depth=(1, 1, 1)))
    settings = {
        "tubes": [tube.to_dict() for tube in tubes],
        "num_frames": config.num_frames,
        "tube_init": "random",
        "num_frozen_layers": num_frozen_layers,
        "gate_layer": num_frozen_layers if gate and num_frozen_layers < num_layers else None,
        **_labels(config, model_class, kwargs),
    }
    model = model_class.from_image_checkpoint(large, **settings | kwargs)
    model.to(torch.promote_types(small.dtype, model.dtype))
    _warn_of_other_pixels(config, model.config)
    _copy_kernels(small, indices, model)
    return model


def widen_tube(tube: Tube, width: int, new_width: int) -> Tube:
    """
    The tube with the same kernel, whose tokens are `new_width` channels instead of `width` because they merge more
    neighbours.

    Of the space-to-depth factors that do so, those are taken that add to the present ones and leave neighbours farthest apart
    for their kernel. Raises `ValueError` with the numbers where there are none.

    >>> widen_tube(Tube((8, 8, 8), (16, 32, 32)), 192, 768).space_to_depth
    (1, 2, 2)
    """
    outputs = width // tube.num_merged
    if new_width % outputs:
        raise ValueError(
            f"The kernel {tube} makes {outputs} channels, of which no whole number makes up the width {new_width} of the large "
            f"model: take a small one whose width, divided by the tube's space-to-depth, divides {new_width}."
        )
    num_merged = new_width // outputs
    divisors = [[factor for factor in range(1, stride + 1) if stride % factor == 0] for stride in tube.stride]
    choices = [factors for factors in itertools.product(*divisors) if math.prod(factors) == num_merged]
    if not choices:
        raise ValueError(
            f"A token of {new_width} channels needs {num_merged} neighbours of the kernel {tube}, and no space-to-depth factors "
            f"with this product divide its stride {list(tube.stride)}."
        )

    def preference(factors: Size) -> tuple:
        adds = all(factor % present == 0 for factor, present in zip(factors, tube.space_to_depth, strict=True))
        distances = [
            stride / factor / kernel
            for stride, factor, kernel in zip(tube.stride, factors, tube.kernel_size, strict=True)
        ]
        return adds, sorted(distances), factors

    return replace(tube, space_to_depth=max(choices, key=preference))


def _labels(config: TubeViTConfig, model_class: type[TubeViTPreTrainedModel], given: dict) -> dict:
    """The fields that carry the small model's labels over, where `model_class` has such and no others are given."""
    if config.heads and hasattr(model_class, "to_classifier"):
        return {} if "heads" in given else {"heads": config.heads}
    if not hasattr(model_class, "classify") or {"num_labels", "id2label", "label2id"} & set(given):
        return {}
    if config.heads:
        raise ValueError(
            f"The small model has heads for {', '.join(config.heads)}: say with num_labels or id2label what the new classifier "
            "tells apart, or take to_classifier of the small one."
        )
    return {name: getattr(config, name) for name in ("id2label", "label2id", "problem_type")}


def _image_model_sizes(name: str | os.PathLike, source_kwargs: dict) -> tuple[int, int, tuple[int, int]]:
    """Width, number of layers and patch (rows, columns) of an image model."""
    where = ("revision", "token", "subfolder", "cache_dir", "local_files_only", "trust_remote_code")
    config = AutoConfig.from_pretrained(name, **{key: source_kwargs[key] for key in where if key in source_kwargs})
    config = getattr(config, "vision_config", config)
    patch = getattr(config, "patch_size", None)
    if patch is None or not hasattr(config, "num_hidden_layers"):
        raise ValueError(f"{name} is a {config.model_type!r} model, no image ViT with patches.")
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    return config.hidden_size, config.num_hidden_layers, patch


@torch.no_grad()
def _copy_kernels(small: TubeViTPreTrainedModel, indices: list[int], model: TubeViTPreTrainedModel) -> None:
    source, target = small.get_input_embeddings(), model.get_input_embeddings()
    new_indices = [index for index, tube in enumerate(target.tubes) if not tube.is_image_tube]
    for old, new in zip(indices, new_indices, strict=True):
        for values, parameter in zip(source.kernel(old), target.kernel(new), strict=True):
            parameter.copy_(values)


def _warn_of_other_pixels(small: TubeViTConfig, large: TubeViTConfig) -> None:
    before, now = ((config.image_mean, config.image_std) for config in (small, large))
    if before != now:
        logger.warning(
            f"The small TubeViT saw pixels normalised with mean and deviation {before}, the large image model {now}: the "
            "tubes' kernels will see them otherwise than they learned to."
        )
