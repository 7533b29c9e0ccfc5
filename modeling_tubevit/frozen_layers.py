# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Frozen layers, for any model family whose config has `num_frozen_layers`."""

import os
from typing import Any, cast

from transformers import PreTrainedModel


class FrozenLayersMixin(PreTrainedModel):
    """Freezes the modules that the backbone's `frozen_modules` lists, also after loading. They stay in evaluation mode."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """As in the base class, from safetensors files only; frozen layers are frozen again."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze_untrained_weights()
        return loaded

    def freeze_untrained_weights(self) -> None:
        """
        Stop gradients of the weights before layer `config.num_frozen_layers`. To train them again, load the checkpoint with
        `from_pretrained(path, num_frozen_layers=0)`, because the forward pass reads the config too.
        """
        for module in cast(Any, self.base_model).frozen_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        """As in the base class; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in cast(Any, self.base_model).frozen_modules():
            module.eval()
        return self
