# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
From output tokens to one vector per clip (fig. 1). The paper names attention pooling but not its kind; we use the
multi-head attention pooling ("MAP") head of Zhai et al., "Scaling Vision Transformers", as SigLIP does.
"""

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_tubevit import TubeViTConfig
from .vit_layers import TubeViTMLP, TubeViTMultiHeadAttention


class TubeViTAttentionPooling(nn.Module):
    """A learned query attends to all tokens; a residual MLP block follows."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = TubeViTPoolingAttention(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = TubeViTMLP(config)

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        query = self.query.expand(tokens.shape[0], -1, -1)
        pooled, _ = self.attention(query, tokens, **kwargs)
        return (pooled + self.mlp(self.layernorm(pooled)))[:, 0]


class TubeViTPoolingAttention(TubeViTMultiHeadAttention):
    """Cross-attention of the pooling query to the tokens; with the eager backend it also returns its weights."""

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.attend(queries, tokens, **kwargs)


class TubeViTMeanPooling(nn.Module):
    """Mean over all tokens."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        return tokens.mean(dim=1)


class TubeViTClsPooling(nn.Module):
    """The CLS token, which the embeddings put first."""

    def __init__(self, config: TubeViTConfig):
        super().__init__()

    def forward(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """tokens: `(batch, tokens, hidden_size)`. Returns `(batch, hidden_size)`."""
        return tokens[:, 0]


POOLING_CLASSES = {"attention": TubeViTAttentionPooling, "mean": TubeViTMeanPooling, "cls": TubeViTClsPooling}
