# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Sizes of models without running them: parameters, tokens and FLOPs.

FLOPs count matrix products and convolutions only. A multiplication and an addition are two operations.
"""

import copy
import re
from typing import Any

from .families import ModelFamily, family_of, resolve


FLOPS_PER_TRAINING_STEP = 3  # relative to a forward pass; the backward pass takes twice as many


def count_parameters(model: Any, only_used: bool = False) -> tuple[int, int]:
    """
    Number of parameters of a model, and of those that are trained.

    only_used: leave out parameters that the classifier never uses, for example the predictor of V-JEPA 2.
    """
    unused = family_of(model.config).unused_parameters if only_used else None
    sizes = [
        (each.numel(), each.requires_grad)
        for name, each in model.named_parameters()
        if unused is None or not re.search(unused, name)
    ]
    return sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)


def count_flops(model: Any, **inputs: Any) -> int:
    """
    FLOPs of one forward pass. inputs: the arguments of `forward`.

    The model runs on torch's meta device, which computes shapes only, and with eager attention, whose products the counter sees.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    on_meta = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    on_meta.config._attn_implementation = "eager"
    inputs = {name: value.to("meta") for name, value in inputs.items()}
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        on_meta(**inputs)
    return counter.get_total_flops()


def describe(config: Any, frames: list[int]) -> dict[str, Any]:
    """
    Sizes of a video model: `"num_hidden_layers"`, `"hidden_size"` and `"num_attention_heads"` if the config has these fields,
    `"parameters"`, `"num_labels"` of the classifier that they include, and `"clips"`, a list of `{"num_frames", "image_size", "tokens",
    "gflops"}` for each number in `frames`.

    Tokens are those of the last hidden state; `None` if the model does not return it. A TubeViT also has `"encoder_parameters"` (of
    the layers) and `"tube_parameters"` (of the kernels), its clips have `"tokens_per_tube"`, and `"parameters"` exclude the head. The
    clips of a UniFormerV2 also have `"computed_gflops"`, see `describe_uniformerv2`.

    Raises `ValueError` for a number of frames that the model cannot take.
    """
    family = family_of(config)
    if family.describe is not None:
        return resolve(family.describe)(config, frames)
    for num_frames in frames:
        family.check_num_frames(num_frames, config, "the checkpoint")
    return _describe_classifier(family, config, frames)


def describe_image(config: Any) -> dict[str, Any]:
    """
    Sizes of one image in an image model: `{"image_size", "tokens", "gflops"}`, and `"tokens_per_tube"` for a TubeViT. Raises
    `ValueError` for a family without `describe_image`.
    """
    return family_of(config).get("describe_image")(config)


def count_tokens(model: Any, **inputs: Any) -> int | None:
    """Number of tokens of the last hidden state; `None` if the model does not return it. inputs: the arguments of `forward`."""
    import torch

    on_meta = copy.deepcopy(model).to("meta").eval()
    inputs = {name: value.to("meta") for name, value in inputs.items()}
    with torch.no_grad(), torch.device("meta"):
        outputs = on_meta(**inputs, output_hidden_states=True)
    states = outputs.get("hidden_states")
    return None if states is None else states[-1].shape[1]


def _describe_classifier(family: ModelFamily, config: Any, frames: list[int]) -> dict[str, Any]:
    import torch

    from .clip_processors import frame_size

    height, width = frame_size(family, config)
    clips = []
    for num_frames in frames:
        own = copy.deepcopy(config)
        if family.frames_field is not None:
            setattr(own, family.frames_field, num_frames)
        with torch.device("meta"):
            model = family.classifier("video")._from_config(own, attn_implementation="eager")
        inputs = {family.input_name: torch.empty(1, num_frames, 3, height, width, device="meta")}
        clips.append(
            {
                "num_frames": num_frames,
                "image_size": [height, width],
                "tokens": count_tokens(model, **inputs),
                "gflops": count_flops(model, **inputs) / 1e9,
            }
        )
    with torch.device("meta"):
        model = family.classifier("video")._from_config(copy.deepcopy(config))
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    return {
        **{name: getattr(config, name) for name in sizes if hasattr(config, name)},
        "parameters": count_parameters(model, only_used=True)[0],
        "num_labels": config.num_labels,
        "clips": clips,
    }


def describe_uniformerv2(config: Any, frames: list[int]) -> dict[str, Any]:
    """
    `describe` for a UniFormerV2. Its `"gflops"` are those of the published formulation, which the papers report: all tokens projected
    to keys and values of the video token. `"computed_gflops"` are those of this package, which attends to the tokens themselves.
    """
    family = family_of(config)
    for num_frames in frames:
        family.check_num_frames(num_frames, config, "the checkpoint")
    sizes = _describe_classifier(family, config, frames)
    width, heads = config.hidden_size, config.get_num_global_attention_heads()
    for clip in sizes["clips"]:
        tokens = clip["tokens"]
        # Keys and values of all tokens, and attention of heads of width `width / heads`; here, heads of width `width` and four products
        # of the query with the projections instead of two.
        projected = 4 * tokens * width**2 + 4 * tokens * width - 4 * tokens * heads * width - 4 * width**2
        clip["computed_gflops"] = clip["gflops"]
        clip["gflops"] += len(config.get_global_layers()) * projected / 1e9
    return sizes


def describe_tubevit(config: Any, frames: list[int]) -> dict[str, Any]:
    """`describe` for a TubeViT."""
    import torch

    model, (height, width) = _on_meta(config), config.image_height_width
    clips = []
    for num_frames in frames:
        size = (num_frames, height, width)
        pixels = torch.empty(1, num_frames, config.num_channels, height, width, device="meta")
        clips.append(
            {
                "num_frames": num_frames,
                "image_size": [height, width],
                "tokens": config.num_tokens(num_frames),
                "tokens_per_tube": [tube.num_tokens(size) for tube in config.get_tubes()],
                "gflops": count_flops(model, pixel_values_videos=pixels) / 1e9,
            }
        )
    embeddings = model.embeddings
    kernels = [embeddings.projections, *([embeddings.interpolated_kernel] if embeddings.interpolated_kernel else [])]
    return {
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "parameters": count_parameters(model)[0],
        "encoder_parameters": count_parameters(model.layers)[0],
        "tube_parameters": sum(count_parameters(each)[0] for each in kernels),
        "clips": clips,
    }


def describe_tubevit_image(config: Any) -> dict[str, Any]:
    """`describe_image` for a TubeViT."""
    import torch

    height, width = config.image_height_width
    pixels = torch.empty(1, config.num_channels, height, width, device="meta")
    return {
        "image_size": [height, width],
        "tokens": config.num_image_tokens(),
        "tokens_per_tube": [tube.num_tokens((1, height, width)) for tube in config.get_image_tubes()],
        "gflops": count_flops(_on_meta(config), pixel_values=pixels) / 1e9,
    }


def _on_meta(config: Any) -> Any:
    """The TubeViT without a head, on the meta device."""
    import torch

    from tubevit import TubeViTModel

    with torch.device("meta"):
        return TubeViTModel(copy.deepcopy(config))
