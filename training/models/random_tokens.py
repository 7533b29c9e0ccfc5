# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Dropping tokens at random, the baseline for token budgets: a clip is tokenized with all tubes, gets its positions, and loses tokens.

The tokenizer costs as much as before. With a token budget, in contrast, the tokens are spread evenly over the clip.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch

from tubevit.tubes import Size, Tube


def check_random_tokens(
    name: str, config: Any, media: str, random_tokens: int | None, token_budget: int | None
) -> None:
    """Raise `ValueError` for a model, media or number that `RandomTokens` does not take. name: of the model, for the message."""
    if random_tokens is None:
        return
    option = f"random_tokens={random_tokens}"
    if token_budget is not None:
        raise ValueError(
            f"{option} and token_budget={token_budget} are two ways to have fewer tokens: give one of them."
        )
    if not hasattr(config, "with_token_budget"):
        raise ValueError(f"{option} is for TubeViT, and {name} is a {config.model_type} model.")
    if media == "image":
        raise ValueError(f"{option} is for clips, and {name} reads images here.")
    if config.rope_theta is not None or config.position_embedding == "relative":
        raise ValueError(
            f"{option} needs positions that are added to the tokens, and {name} has them in its attention."
        )
    if random_tokens > (num_tokens := config.num_tokens()):
        raise ValueError(f"{option}: a clip of {name} has {num_tokens} tube tokens.")


class RandomTokens:
    """
    Hooks by which `model`, a TubeViT that `check_random_tokens` accepts, keeps `num_tokens` random tube tokens of each clip, and all CLS
    and register tokens, until `remove()`.

    The choice depends on the pixels of the clip alone: it is the same in a batch of any size and in any process. Before pooling over a
    grid, each lost token is replaced by the nearest one that was kept; of several, by the first.
    """

    def __init__(self, model: Any, num_tokens: int):
        self.num_tokens = num_tokens
        self.kept: torch.Tensor | None = None  # (clips, num_tokens) of the batch at hand, None for images
        self.hooks = [model.get_input_embeddings().register_forward_hook(self._drop, with_kwargs=True)]
        if model.config.pooling == "grid":
            self.hooks.append(model.base_model.pooler.register_forward_pre_hook(self._fill))

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

    @torch.compiler.disable  # the seeds are copied to the CPU
    def _drop(self, embeddings: Any, args: tuple, kwargs: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
        clips, num_prefix = kwargs["pixel_values_videos"], embeddings.num_prefix_tokens
        self.kept = None
        if clips is None:  # the batch holds images
            return tokens
        prefix, others = tokens[:, :num_prefix], tokens[:, num_prefix:]
        if tokens.is_meta:  # the caller counts FLOPs
            self.kept = torch.arange(self.num_tokens, device="meta").expand(len(tokens), -1)
        else:
            rows = [_choose(seed, others.shape[1], self.num_tokens) for seed in _seeds(clips)]
            self.kept = torch.stack(rows).to(tokens.device)
        return torch.cat((prefix, _take(others, self.kept)), dim=1)

    @torch.compiler.disable
    def _fill(self, pooler: Any, args: tuple) -> tuple | None:
        tokens, tubes, size = args
        if self.kept is None:
            return None
        nearest = _nearest(tubes, size, self.kept)
        prefix, others = tokens[:, : pooler.num_prefix_tokens], tokens[:, pooler.num_prefix_tokens :]
        # Tokens of two tubes may have one center: those that were kept stay at their places.
        places = self.kept[:, :, None].expand(-1, -1, tokens.shape[2])
        return torch.cat((prefix, _take(others, nearest).scatter(1, places, others)), dim=1), tubes, size


def _nearest(tubes: Sequence[Tube], size: Size, kept: torch.Tensor) -> torch.Tensor:
    """
    For each token of `tubes` in a clip of `size`, which of the tokens `kept` `(clips, kept)` is the nearest, as a part of that size; the
    first of several. Returns `(clips, tokens)`.
    """
    centers = torch.cat([torch.cartesian_prod(*map(torch.tensor, tube.centers(size))) for tube in tubes])
    # Integers, because rounding would choose among tokens that are as near.
    units = torch.tensor([2 * math.lcm(*size) // side for side in size])
    axes = (centers * units).round().long().unbind(1)
    distances = sum((axis[:, None] - axis).square() for axis in axes)  # squared, (tokens, tokens)
    return distances.to(kept.device)[:, kept].argmin(-1).T


def _take(tokens: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """tokens: `(clips, tokens, values)`. indices: `(clips, taken)`. Returns `(clips, taken, values)`."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


def random_gflops(config: Any, num_tokens: int) -> float:
    """GFLOPs of a forward pass of a TubeViT without its classifier on one clip, of which `RandomTokens` keeps `num_tokens` tokens."""
    from tubevit import TubeViTModel

    from .model_size import count_flops

    with torch.device("meta"):
        model = TubeViTModel(copy.deepcopy(config))
        clip = torch.empty(1, config.num_frames, config.num_channels, *config.image_height_width)
    RandomTokens(model, num_tokens)
    return count_flops(model, pixel_values_videos=clip) / 1e9


def _seeds(clips: torch.Tensor) -> list[int]:
    """A seed for each clip: the sum of its pixels, of floating-point pixels the sum of their bits."""
    flat = clips.flatten(1)
    if flat.is_floating_point():
        flat = flat.float().view(torch.int32)
    return flat.sum(dim=1, dtype=torch.int64).tolist()


def _choose(seed: int, num_tokens: int, num_kept: int) -> torch.Tensor:
    """Indices of the tokens that are kept, in their order."""
    return torch.randperm(num_tokens, generator=torch.Generator().manual_seed(seed))[:num_kept].sort().values
