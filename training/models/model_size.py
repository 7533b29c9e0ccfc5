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
