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


def is_compiled() -> bool:
    """Whether `torch.compile` traces the call. False in `torch.export`, where sizes may be symbolic."""
    return torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()


def static_size(size: Size) -> Size:
    """
    `size` as plain integers. `torch.compile` makes sizes symbolic that have had two values; tokens, positions and their tables
    need numbers. The compiled graph is then for this size, and another size compiles again; the batch size stays symbolic.
    """
    if not is_compiled():
        return size
    num_frames, height, width = size
    return len(range(num_frames)), len(range(height)), len(range(width))


def constant_tables(max_cached: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """
    Decorator for functions `(settings, *arguments)` that compute tensors without weights: each table is computed once.

    The decorated function is called with `(tensor, owner, *arguments)`. owner: a module whose `table_settings` are the settings.
    If `tensor` is eager, the result comes from a cache of the last `max_cached` settings and arguments; in torch.compile it is a
    constant of the graph; otherwise it is computed each time. Settings and arguments are hashable: numbers, strings, sizes of
    `static_size`, tubes, devices and dtypes.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @lru_cache(maxsize=max_cached)
        def cached(*arguments) -> T:
            with torch.inference_mode(False):  # a table created in inference mode could not be used in training
                return function(*arguments)

        # The owner is an argument, because torch.compile(dynamic=True) makes numbers symbolic that it reads from a module. The result
        # is a tuple, because torch gives every other result of this function the same name, and AOTAutograd allows a name once.
        @torch.compiler.assume_constant_result
        def constant(owner: nn.Module, *arguments) -> tuple[T]:
            return (function(owner.table_settings, *arguments),)

        @wraps(function)
        def table(tensor: torch.Tensor, owner: nn.Module, *arguments) -> T:
            if is_eager_tensor(tensor):
                return cached(owner.table_settings, *arguments)
            return constant(owner, *arguments)[0] if is_compiled() else function(owner.table_settings, *arguments)

        return table

    return decorate
