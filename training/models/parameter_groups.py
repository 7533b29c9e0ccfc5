# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Parameter groups for the optimizer, by layer and weight decay, and freezing of layers.

Layers are recognized by parameter names. The patterns are those of the model's family (`families`). The generic patterns match
`layers.3.`, `layer.3.`, `blocks.3.` and `embeddings`, the names in encoders of Transformers and timm.
"""

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Literal

from torch import nn

from .families import BEFORE_LAYERS, LAYERS, find_family


class LayerIds:
    """
    The layer id of a parameter, from its name (BEiT: `get_layer_id`): 0 before the layers, `i + 1` in layer `i`, `num_layers + 1`
    after the layers.

    With spatial and temporal layers (VideoPrism), the temporal layers are counted after the spatial ones.

    names: names of all parameters. layers, before_layers: regular expressions as in `ModelFamily`.

    >>> layer_id = LayerIds(["embeddings.cls_token", "layers.0.mlp.fc1.bias", "layers.1.mlp.fc1.bias", "classifier.bias"])
    >>> layer_id.num_layers, layer_id("embeddings.cls_token"), layer_id("layers.1.mlp.fc1.bias"), layer_id("classifier.bias")
    (2, 0, 2, 3)
    """

    def __init__(self, names: Iterable[str], layers: str = LAYERS, before_layers: str = BEFORE_LAYERS):
        self.names = list(names)
        self.layers, self.before_layers = re.compile(layers), re.compile(before_layers)
        sizes: dict[str, int] = {}  # of each stack of layers, in the order of the model
        for match in filter(None, map(self.layers.search, self.names)):
            sizes[match[1]] = max(sizes.get(match[1], 0), int(match[2]) + 1)
        self.offsets = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self.num_layers = sum(sizes.values())

    def __call__(self, name: str) -> int:
        if match := self.layers.search(name):
            return self.offsets[match[1]] + int(match[2]) + 1
        return 0 if self.before_layers.search(name) else self.num_layers + 1

    @classmethod
    def of(cls, model: nn.Module) -> "LayerIds":
        """The layer ids of a model, by the patterns of its family."""
        family = find_family(model.config)
        patterns = {} if family is None else {"layers": family.layers, "before_layers": family.before_layers}
        return cls((name for name, _ in model.named_parameters()), **patterns)

    def require_layers(self, option: str) -> None:
        """Raise a `ValueError` if no layer was found. option: the option that needs layers, for the error."""
        if not self.num_layers:
            examples = ", ".join(self.names[:: max(1, len(self.names) // 3)][:3])
            raise ValueError(
                f"{option} needs layers, and none of the {len(self.names)} parameter names of the model ({examples}, ...) matches "
                f"{self.layers.pattern}: leave the option out, or register the model's family with its pattern of layer names."
            )


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    weight_decay_parameters: Literal["weights", "matrices"] = "weights",
) -> list[dict[str, Any]]:
    """
    Groups for a torch optimizer. The last layers come first, because Trainer logs the learning rate of the first group.

    A parameter of layer id `i` has the learning rate `learning_rate * layer_decay ** (num_layers + 1 - i)`.

    weight_decay_parameters: `"weights"`, weight matrices and kernels; `"matrices"`, every parameter with 2 or more dimensions in the
        code of the model's authors, with position tables and tokens. Biases, norms and gates have no weight decay.

    Raises `ValueError` if all parameters are frozen, or if `layer_decay` is not 1 and no layer is found.
    """
    layer_id, family = LayerIds.of(model), find_family(model.config)
    vectors = re.compile((family and family.vectors) or "$^")
    if layer_decay != 1:
        layer_id.require_layers(f"layer_decay={layer_decay:g}")
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim >= 2 and name.endswith("weight")
        if weight_decay_parameters == "matrices":
            decays = parameter.ndim >= 2 and not vectors.search(name)
        depth = layer_id(name)
        group = groups.setdefault((-depth, not decays), {"params": []})
        group["lr"] = learning_rate * layer_decay ** (layer_id.num_layers + 1 - depth)
        group["weight_decay"] = weight_decay if decays else 0.0
        group["params"].append(parameter)
    if not groups:
        raise ValueError("There is nothing to train: all parameters are frozen.")
    return [groups[key] for key in sorted(groups)]


def freeze_layers(model: nn.Module, num_frozen: int) -> None:
    """
    Freeze the first `num_frozen` layers and all parameters before them.

    Raises `ValueError` if the model has fewer layers, or if no layer is found.
    """
    if not num_frozen:
        return
    layer_id = LayerIds.of(model)
    layer_id.require_layers(f"num_frozen_layers={num_frozen}")
    if num_frozen > layer_id.num_layers:
        raise ValueError(f"num_frozen_layers={num_frozen}, but the model has {layer_id.num_layers} layers.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(layer_id(name) > num_frozen and parameter.requires_grad)
