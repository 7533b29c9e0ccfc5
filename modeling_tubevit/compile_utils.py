# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What may be done with a tensor behind the back of whoever watches it: a compiler, a transform, or a derivative."""

import torch
from torch import nn
from torch.autograd.forward_ad import unpack_dual

from .tubes import Size


def is_eager_tensor(tensor: torch.Tensor) -> bool:
    """Whether `tensor` may meet what is kept between calls: fake and other special tensors, and compilers, must not."""
    return type(tensor) in (torch.Tensor, nn.Parameter) and not torch.compiler.is_compiling()


def has_storage(tensor: torch.Tensor) -> bool:
    """Whether `tensor` is plain and its memory all there is to it: no transform of torch.func, no forward-mode tangent."""
    if not is_eager_tensor(tensor):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # of torch.func's transforms
        return False
    return unpack_dual(tensor).tangent is None


def needs_static_shapes() -> bool:
    """
    Whether what is made of plain numbers becomes a constant of the graph: in `torch.compile`. With `dynamic=True`, which takes
    every number for a variable, and in `torch.export` it is computed in the graph.
    """
    return torch.compiler.is_dynamo_compiling() and torch._dynamo.config.assume_static_by_default


def static_size(size: Size) -> Size:
    """`size` in numbers from which a constant can be made: `torch.compile` takes it for variables once it has seen another."""
    return tuple(len(range(extent)) for extent in size) if needs_static_shapes() else size
