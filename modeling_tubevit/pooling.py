# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Pooling of the output tokens to one vector per clip (fig. 1). The paper names attention pooling but not its kind; we use the
multi-head attention pooling ("MAP") head of Zhai et al., "Scaling Vision Transformers", as SigLIP does.

The other poolings are those of the image models from which a TubeViT can be initialized. Tokens are in the order of the embeddings: an optional
CLS token, register tokens, then the tokens of the tubes.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_tubevit import TubeViTConfig
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


POOLING_CLASSES = {
    "attention": TubeViTAttentionPooling,
    "mean": TubeViTMeanPooling,
    "cls": TubeViTClsPooling,
    "cls_mean": TubeViTClsMeanPooling,
    "cls_registers": TubeViTClsRegistersPooling,
}
