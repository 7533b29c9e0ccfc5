# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Exponential moving average (EMA) of the weights, and of the statistics of batch norms."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ..models.batch_norm import trained_statistics


EMA_FILE = "ema.safetensors"


class EMA:
    """
    The exponential moving average of a model's trained weights, `average = decay * average + (1 - decay) * weights`, and of the running
    means and variances of its trained batch norms.

    In the first steps `decay` is at most `(1 + step) / (10 + step)`, so that the initial weights soon lose their influence.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.num_updates = decay, 0
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.tensors = {**trained, **trained_statistics(model)}
        self.average = {name: each.detach().clone() for name, each in self.tensors.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the EMA with the weights after an optimizer step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(list(self.average.values()), list(self.tensors.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model has the EMA weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self.tensors.items():
            current = tensor.detach().clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(current)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Replace the model's weights by the EMA permanently."""
        for name, tensor in self.tensors.items():
            tensor.copy_(self.average[name])

    def save(self, folder: str | Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: each.cpu().contiguous() for name, each in self.average.items()}
        save_file(tensors, Path(folder) / EMA_FILE, metadata={"num_updates": str(self.num_updates)})

    def load(self, folder: str | Path) -> None:
        """Load the EMA of a checkpoint. Raises `ValueError` if the file holds other weights than the trained ones."""
        from safetensors import safe_open

        path = Path(folder) / EMA_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the checkpoint was written without ema_decay.")
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(self.average):
                raise ValueError(f"{path} does not hold the EMA of exactly the trained weights.")
            self.num_updates = int(file.metadata()["num_updates"])
            for name, average in self.average.items():
                average.copy_(file.get_tensor(name))
