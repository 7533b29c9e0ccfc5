# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Batch norms in training: the local blocks of UniFormerV2 have them.

Their output depends on the other clips of a forward pass. With several processes their statistics are over the clips of all
processes (`synchronize_batch_norms`), so that two processes train as one with the whole batch. Gradient accumulation cannot have this
law: its forward passes follow one another.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tubevit.modeling_uniformerv2 import UniFormerV2BatchNorm


REPLACEABLE = (nn.BatchNorm1d, UniFormerV2BatchNorm)


def batch_norms(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """The batch norms of a model with their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm))


def trained_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name to running mean or variance, for the batch norms whose weights are trained. Those of frozen layers do not change."""
    return {
        f"{name}.{each}": getattr(module, each)
        for name, module in batch_norms(model)
        if module.track_running_stats and any(weight.requires_grad for weight in module.parameters(recurse=False))
        for each in ("running_mean", "running_var")
    }


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SynchronizedBatchNorm1d(UniFormerV2BatchNorm):
    """`torch.nn.SyncBatchNorm` for processes without GPUs, which it refuses. Inputs are `(rows, channels)`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The processes may have different numbers of rows. Outside of training it is `BatchNorm1d`."""
        if not self.training or not dist.is_initialized():
            return super().forward(inputs)
        values = inputs.float()
        count = _SumOverProcesses.apply(values.new_tensor([len(values)]))
        mean = _SumOverProcesses.apply(values.sum(0)) / count
        centered = values - mean
        variance = _SumOverProcesses.apply(centered.square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normalized = centered * torch.rsqrt(variance + self.eps)
        return (normalized * self.weight + self.bias).to(inputs.dtype)


def synchronize_batch_norms(model: nn.Module, device_type: str) -> None:
    """
    Let the batch norms of a model take their statistics over the inputs of all processes: with `torch.nn.SyncBatchNorm` on a GPU,
    else with `SynchronizedBatchNorm1d`. Weights and their names stay, and fixed batch norms stay fixed.
    """
    for name, module in list(batch_norms(model)):
        if type(module) not in REPLACEABLE:
            continue
        if device_type == "cuda":
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.SyncBatchNorm.convert_sync_batchnorm(module))
        else:
            module.__class__ = SynchronizedBatchNorm1d


class FixedBatchNorm1d(UniFormerV2BatchNorm):
    """A batch norm that always normalizes with its running statistics."""

    def train(self, mode: bool = True) -> "FixedBatchNorm1d":
        return super().train(False)


def fix_batch_norms(model: nn.Module) -> int:
    """Keep the statistics of all batch norms as they are, in training too. Returns the number of batch norms."""
    found = [module for _, module in batch_norms(model) if type(module) in REPLACEABLE]
    for module in found:
        module.__class__ = FixedBatchNorm1d
        module.eval()
    return len(found)


class StatisticsOfForward:
    """
    Keeps activation checkpointing from updating the statistics of batch norms twice: it runs layers again in the backward pass.

    `save` is called after the forward pass, `restore` after the backward pass.
    """

    def __init__(self, model: nn.Module):
        self.modules = [module for _, module in batch_norms(model)]
        self.saved: list[torch.Tensor] = []

    def save(self) -> None:
        self.saved = [buffer.clone() for buffer in self._buffers()]

    def restore(self) -> None:
        for buffer, saved in zip(self._buffers(), self.saved, strict=True):
            buffer.copy_(saved)

    def _buffers(self) -> list[torch.Tensor]:
        # Not stored: they are other tensors after the model is moved to a GPU.
        return [buffer for module in self.modules for buffer in module.buffers(recurse=False)]
