# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Pooling of the output tokens to one vector per clip (fig. 1). The paper names attention pooling but not its kind; we use the
multi-head attention pooling ("MAP") head of Zhai et al., "Scaling Vision Transformers", as SigLIP does.

The other poolings are those of the image models from which a TubeViT can be initialized. Tokens are in the order of the embeddings: an optional
CLS token, register tokens, then the tokens of the tubes.
"""

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .compile_utils import constant_tables
from .configuration_tubevit import TubeViTConfig
from .tubes import Size, Tube
from .vit_layers import VisionCrossAttention, VisionMLP


class TubeViTAttentionPooling(nn.Module):
    """A learned query attends to all tokens; a residual MLP block follows."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = VisionCrossAttention(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        query = self.query.expand(tokens.shape[0], -1, -1)
        pooled, _ = self.attention(query, tokens, **kwargs)
        return (pooled + self.mlp(self.layernorm(pooled)))[:, 0]


class TubeViTMeanPooling(nn.Module):
    """Mean over the tokens of the tubes."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        return tokens[:, self.num_prefix_tokens :].mean(dim=1)


class TubeViTClsPooling(nn.Module):
    """The CLS token, which is the first token; `config.pooler_act` adds ViT's linear layer with this activation."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.dense: nn.Module = nn.Identity()
        self.activation_fn: nn.Module = nn.Identity()
        if config.pooler_act is not None:
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.activation_fn = ACT2FN[config.pooler_act]

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        return self.activation_fn(self.dense(tokens[:, 0]))


class TubeViTClsMeanPooling(TubeViTMeanPooling):
    """The CLS token and the mean over the tokens of the tubes, concatenated: the input of DINOv2's classifier."""

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, 2 * hidden_size)`."""
        return torch.cat((tokens[:, 0], super().forward(tokens)), dim=-1)


class TubeViTClsRegistersPooling(nn.Module):
    """The CLS token and the register tokens, concatenated: the input of a distilled DeiT's two classifiers."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, (1 + num_register_tokens) * hidden_size)`."""
        return tokens[:, : self.num_prefix_tokens].flatten(1)


def cell_weights(grid: Size, size: Size, device: torch.device | str, *tubes: Tube) -> torch.Tensor:
    """
    The weight of each token in the mean of each cell, float32 `(cells, tokens)`; rows sum to 1.

    grid: cells along (time, height, width), which divide a clip of `size` = (frames, height, width) evenly; cells are in that order. A
    token belongs to the cell of its center. A cell without a token takes the tokens nearest to its center, distances measured in cells:
    few tokens, as of an image or of a small token budget, still give each cell a mean.
    """
    exact: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}  # not all devices have float64
    centers = torch.cat(
        [torch.cartesian_prod(*(torch.tensor(axis, **exact) for axis in tube.centers(size))) for tube in tubes]
    )
    extents, counts = (torch.tensor(each, **exact) for each in (size, grid))
    # In cells. In this order of the operations, a center on the border of two cells is a whole number.
    centers = (centers + 0.5) * counts / extents
    cells = torch.cartesian_prod(*(torch.arange(count, **exact) for count in grid))
    distances = (cells[:, None] + 0.5 - centers).square().sum(-1)
    nearest = distances <= distances.amin(1, keepdim=True) + 1e-6
    inside = (centers.floor() == cells[:, None]).all(-1)
    # Not of booleans: ONNX Runtime has no kernel for it.
    weights = torch.where(inside.any(1, keepdim=True), inside.float(), nearest.float())
    return (weights / weights.sum(1, keepdim=True)).to(device)


cell_weight_table = constant_tables(max_cached=32)(cell_weights)


class TubeViTGridPooling(nn.Module):
    """
    The means over the tokens in the cells of a coarse grid of `config.pooling_grid`, concatenated. Ours: unlike the mean over a clip,
    it keeps where and when something happens.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens
        assert config.pooling_grid is not None  # the config has checked it
        self.table_settings = tuple(config.pooling_grid)

    def forward(self, tokens: torch.Tensor, tubes: tuple[Tube, ...], size: Size) -> torch.Tensor:
        """
        tokens: `(batch, tokens, hidden_size)`. tubes: those that tokenized the clip or image. size: of it, (frames, height, width).

        Returns `(batch, cells * hidden_size)`, cells in (time, height, width) order. Raises `ValueError` if tokens are missing.
        """
        tokens = tokens[:, self.num_prefix_tokens :]
        weights = cell_weight_table(tokens, self, size, tokens.device, *tubes).to(tokens.dtype)
        if weights.shape[1] != tokens.shape[1]:
            raise ValueError(
                f"pooling='grid' needs all {weights.shape[1]} tube tokens of a clip, and there are {tokens.shape[1]}: it does not work with "
                "masked or dropped tokens."
            )
        return (weights @ tokens).flatten(1)


POOLING_CLASSES = {
    "attention": TubeViTAttentionPooling,
    "mean": TubeViTMeanPooling,
    "grid": TubeViTGridPooling,
    "cls": TubeViTClsPooling,
    "cls_mean": TubeViTClsMeanPooling,
    "cls_registers": TubeViTClsRegistersPooling,
}
