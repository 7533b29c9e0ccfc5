# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Checks whether a tensor is traced by torch.compile, torch.export, torch.func or autograd, and constants under tracing."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import torch
from torch import nn
from torch.autograd.forward_ad import unpack_dual

from .tubes import Size


T = TypeVar("T")


def is_eager_tensor(tensor: torch.Tensor) -> bool:
    """Whether `tensor` may be combined with cached tensors: it is not a fake tensor or other subclass, nor is it compiled."""
    return type(tensor) in (torch.Tensor, nn.Parameter) and not torch.compiler.is_compiling()


def has_storage(tensor: torch.Tensor) -> bool:
    """Whether memory holds all of `tensor`: an eager tensor outside torch.func transforms, without a forward-mode tangent."""
    if not is_eager_tensor(tensor):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # tensors inside a torch.func transform have no data pointer
        return False
    return unpack_dual(tensor).tangent is None


def needs_static_shapes() -> bool:
    """
    Whether tables become constants of the compiled graph, which requires plain integers as sizes.

    True in `torch.compile`. False in `torch.export` and in `torch.compile(dynamic=True)`, where sizes are symbolic; both
    compute the tables in the graph.
    """
    return torch.compiler.is_dynamo_compiling() and torch._dynamo.config.assume_static_by_default


def static_size(size: Size) -> Size:
    """`size` as plain integers if `needs_static_shapes()`: `torch.compile` makes sizes symbolic that have had two values."""
    if not needs_static_shapes():
        return size
    num_frames, height, width = size
    return len(range(num_frames)), len(range(height)), len(range(width))


def constant_tables(max_cached: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """
    Decorator for functions that compute tensors from settings: each table is computed once.

    The decorated function takes a tensor before the settings. If that tensor is eager, the result comes from a cache of the
    last `max_cached` settings; in torch.compile it is a constant of the graph; otherwise it is computed each time. Settings
    are hashable and made of plain values: numbers, strings, tuples, devices and dtypes.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @lru_cache(maxsize=max_cached)
        def cached(*settings) -> T:
            with torch.inference_mode(False):  # a table created in inference mode could not be used in training
                return function(*settings)

        @torch.compiler.assume_constant_result
        def constant(*settings) -> T:
            return function(*settings)

        @wraps(function)
        def table(tensor: torch.Tensor, *settings) -> T:
            if is_eager_tensor(tensor):
                return cached(*settings)
            return constant(*settings) if needs_static_shapes() else function(*settings)

        return table

    return decorate
