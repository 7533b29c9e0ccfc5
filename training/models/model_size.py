# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What a model computes: FLOPs of matrix products and convolutions, a multiplication and an addition being two."""

import copy
from typing import Any


FLOPS_PER_TRAINING_STEP = 3  # of a forward pass: the backward pass takes two


def count_flops(model: Any, **inputs: Any) -> int:
    """
    FLOPs of one forward pass of a model of Transformers. inputs: tensors by the names of the model's arguments.

    Found on torch's meta device, which computes shapes only, with eager attention, into which the counter looks.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    on_meta = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    on_meta.config._attn_implementation = "eager"
    inputs = {name: value.to("meta") for name, value in inputs.items()}
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        on_meta(**inputs)
    return counter.get_total_flops()


def describe(config, frames: list[int]) -> dict[str, Any]:
    """
    What a model of this configuration is and does: sizes, `"parameters"` (of the backbone, `"encoder_parameters"` of its
    layers alone, `"tube_parameters"` of the kernels), and `"clips"`, one `{"num_frames", "image_size", "tokens",
    "tokens_per_tube", "gflops"}` for each of `frames`.

    GFLOPs are of one forward pass, a multiplication and an addition counted as two operations, in matrix products alone.
    They are found by running the model on torch's meta device, which computes shapes only.
    """
    import torch

    from ..models.model_size import count_flops

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
        "parameters": _count(model),
        "encoder_parameters": _count(model.layers),
        "tube_parameters": sum(map(_count, kernels)),
        "clips": clips,
    }


def describe_image(config) -> dict[str, Any]:
    """Of one image: `{"image_size", "tokens", "tokens_per_tube", "gflops"}`, as `describe` counts them of a clip."""
    import torch

    from ..models.model_size import count_flops

    height, width = config.image_height_width
    pixels = torch.empty(1, config.num_channels, height, width, device="meta")
    return {
        "image_size": [height, width],
        "tokens": config.num_image_tokens(),
        "tokens_per_tube": [tube.num_tokens((1, height, width)) for tube in config.get_image_tubes()],
        "gflops": count_flops(_on_meta(config), pixel_values=pixels) / 1e9,
    }


def _on_meta(config):
    """The base model, for its shapes alone."""
    import torch

    from tubevit import TubeViTModel

    with torch.device("meta"):
        return TubeViTModel(copy.deepcopy(config))


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
