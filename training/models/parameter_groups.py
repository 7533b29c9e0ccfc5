# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What the optimizer is given: parameters in groups by depth and by weight decay, and the average of the weights.

Everything goes by the names of parameters, which Transformers' encoders share: `layers.3.`, `layer.3.`, `embeddings`. It
therefore holds for VideoMAE and ViViT as for TubeViT.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn


LAYER = re.compile(r"(?:^|\.)((?:spatial_|temporal_)?(?:layers?|blocks?))\.(\d+)\.")
BEFORE_LAYERS = re.compile(r"(?:^|\.)(?:\w+_)?(?:embeddings?|pre_layernorm)\.")
AVERAGE_FILE = "average.safetensors"


class Depths:
    """
    How deep the parameters of a model lie: 0 before the layers, `i + 1` in layer `i`, `num_layers + 1` behind them.

    Where there are spatial and then temporal layers (VideoPrism) they are counted on.

    >>> depths = Depths(["embeddings.cls_token", "layers.0.mlp.fc1.bias", "layers.1.mlp.fc1.bias", "classifier.bias"])
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
    def of(cls, model: nn.Module) -> "Depths":
        return cls(name for name, _ in model.named_parameters())


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """
    Groups for a torch optimizer, the deepest first, because the first one's learning rate is what gets logged.

    A parameter at depth `d` learns at `learning_rate * layer_decay ** (num_layers + 1 - d)`. Weight decay is for weight
    matrices alone: biases, norms, tokens, positions and gates are none.
    """
    depth_of = Depths.of(model)
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
    depth_of = Depths.of(model)
    if num_frozen > depth_of.num_layers:
        raise ValueError(
            f"num_frozen_layers={num_frozen} is more than the {depth_of.num_layers} layers that there are."
        )
    if num_frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(depth_of(name) > num_frozen and parameter.requires_grad)


class WeightAverage:
    """
    The exponential moving average of a model's trained weights, `average = decay * average + (1 - decay) * weights`.

    In the first steps `decay` is `(1 + step) / (10 + step)` if that is less, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.num_updates = decay, 0
        self.parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.average = {name: each.detach().clone() for name, each in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step of the optimizer."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """In this context the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(kept)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Give the model the averaged weights for good."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average[name])

    def save(self, folder: str | Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: each.cpu().contiguous() for name, each in self.average.items()}
        save_file(tensors, Path(folder) / AVERAGE_FILE, metadata={"num_updates": str(self.num_updates)})

    def load(self, folder: str | Path) -> None:
        """Raises `ValueError` if the file does not hold the average of exactly these weights."""
        from safetensors import safe_open

        path = Path(folder) / AVERAGE_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the checkpoint was written without ema_decay.")
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(self.average):
                raise ValueError(f"{path} does not hold the average of the weights that are trained.")
            self.num_updates = int(file.metadata()["num_updates"])
            for name, average in self.average.items():
                average.copy_(file.get_tensor(name))
