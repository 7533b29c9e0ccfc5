# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What the optimizer is given: parameters in groups by depth and by weight decay, and the average of the weights.

Everything goes by the names of parameters, which Transformers' encoders share: `layers.3.`, `layer.3.`, `embeddings`. It
therefore holds for VideoMAE and ViViT as for TubeViT.
"""

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from torch import nn


LAYER = re.compile(r"(?:^|\.)((?:spatial_|temporal_)?(?:layers?|blocks?))\.(\d+)\.")
BEFORE_LAYERS = re.compile(r"(?:^|\.)(?:\w+_)?(?:embeddings?|pre_layernorm)\.")


class LayerIds:
    """
    How deep the parameters of a model lie: 0 before the layers, `i + 1` in layer `i`, `num_layers + 1` behind them.

    Where there are spatial and then temporal layers (VideoPrism) they are counted on.

    >>> depths = LayerIds(["embeddings.cls_token", "layers.0.mlp.fc1.bias", "layers.1.mlp.fc1.bias", "classifier.bias"])
    >>> depths.num_layers, depths("embeddings.cls_token"), depths("layers.1.mlp.fc1.bias"), depths("classifier.bias")
    (2, 0, 2, 3)
    """

    def __init__(self, names: Iterable[str]):
        sizes: dict[str, int] = {}  # of each stack of layers, in the order of the model
        for match in filter(None, map(LAYER.search, names)):
            sizes[match[1]] = max(sizes.get(match[1], 0), int(match[2]) + 1)
        self.offsets = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self.num_layers = sum(sizes.values())

    def __call__(self, name: str) -> int:
        if match := LAYER.search(name):
            return self.offsets[match[1]] + int(match[2]) + 1
        return 0 if BEFORE_LAYERS.search(name) else self.num_layers + 1

    @classmethod
    def of(cls, model: nn.Module) -> "LayerIds":
        return cls(name for name, _ in model.named_parameters())


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """
    Groups for a torch optimizer, the deepest first, because the first one's learning rate is what gets logged.

    A parameter at depth `d` learns at `learning_rate * layer_decay ** (num_layers + 1 - d)`. Weight decay is for weight
    matrices alone: biases, norms, tokens, positions and gates are none.
    """
    depth_of = LayerIds.of(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim >= 2 and name.endswith("weight")
        depth = depth_of(name)
        group = groups.setdefault((-depth, not decays), {"params": []})
        group["lr"] = learning_rate * layer_decay ** (depth_of.num_layers + 1 - depth)
        group["weight_decay"] = weight_decay if decays else 0.0
        group["params"].append(parameter)
    if not groups:
        raise ValueError("There is nothing to train: all parameters are frozen.")
    return [groups[key] for key in sorted(groups)]


def freeze_layers(model: nn.Module, num_frozen: int) -> None:
    """Stop training of the first `num_frozen` layers and of what lies before them. Raises `ValueError` for too many."""
    depth_of = LayerIds.of(model)
    if num_frozen > depth_of.num_layers:
        raise ValueError(
            f"num_frozen_layers={num_frozen} is more than the {depth_of.num_layers} layers that there are."
        )
    if num_frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(depth_of(name) > num_frozen and parameter.requires_grad)
