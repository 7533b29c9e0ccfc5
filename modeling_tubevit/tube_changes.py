# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Other tubes for trained weights: reduced strides for more tokens at evaluation (table 7d), lengthened or enlarged kernels of an
interpolated one (section 3.4, as for Charades), and kernels of their own that start from it.
"""

import copy

import torch
from transformers import PreTrainedModel


class TubeChangesMixin:
    """Adds `set_tubes` and `with_independent_kernels` to the models."""

    def set_tubes(self, tubes: list[dict], num_frames: int | None = None, image_size=None) -> None:
        """
        Tokenize with `tubes` (as in `TubeViTConfig.tubes`) from now on, with the same weights; `num_frames` and `image_size`
        become those of the config where they are given.

        A tube with a kernel of its own keeps its kernel size and its product of space-to-depth factors; strides and offsets
        are free. Interpolated kernels fit 3D tubes of any number and shape. Positions follow the new centres. Loading a
        checkpoint with `from_pretrained(path, tubes=..., num_frames=...)` does the same.

        Raises `ValueError` for tubes that the config does not allow or the weights do not fit; nothing is changed then.
        Learned positions fit the tubes and the clip that they were made for alone.
        """
        config = copy.deepcopy(self.config)
        config.tubes = tubes
        config.tubes = [tube.to_dict() for tube in config.get_tubes()]
        config.num_frames = self.config.num_frames if num_frames is None else num_frames
        config.image_size = self.config.image_size if image_size is None else image_size
        config.validate_architecture()
        embeddings = self.get_input_embeddings()
        new, old = (_kernels_needed(each) for each in (config, self.config))
        if new != old:
            raise ValueError(
                f"The kernels of this model are {_describe(old)} (frames x rows x columns, channels that they make per token), "
                f"the new tubes need {_describe(new)}. Strides and offsets may change; interpolate_kernels=True in the config "
                "lets 3D kernels change, too."
            )
        if config.position_embedding == "learned" and _grids(config) != _grids(self.config):
            raise ValueError(
                "position_embedding='learned' has a vector for each token of the configured clip: the new tubes, num_frames or "
                "image_size would need others. Clips of another size need no change; 'fixed' allows any tubes."
            )
        self.config.tubes, self.config.num_frames, self.config.image_size = (
            config.tubes,
            config.num_frames,
            config.image_size,
        )
        embeddings.tubes = tuple(config.get_tubes())

    def with_independent_kernels(self) -> PreTrainedModel:
        """
        A copy of this model in which every tube has its own kernel, which starts as the interpolated one at its shape: the
        same function, with more to learn.
        """
        if not self.config.interpolate_kernels:
            raise ValueError("The kernels of this model are independent already: interpolate_kernels is False.")
        config = copy.deepcopy(self.config)
        config.interpolate_kernels = False
        embeddings = self.get_input_embeddings()
        prefix = next(name for name, module in self.named_modules() if module is embeddings) + "."
        kernel_prefixes = (f"{prefix}projections.", f"{prefix}interpolated_kernel.")
        weights = {name: value for name, value in self.state_dict().items() if not name.startswith(kernel_prefixes)}
        with torch.no_grad():
            for index in range(len(embeddings.tubes)):
                weight, bias = embeddings.kernel(index)
                weights[f"{prefix}projections.{index}.weight"] = weight
                weights[f"{prefix}projections.{index}.bias"] = bias
        model = type(self)(config).to(self.device, self.dtype)
        model.load_state_dict(weights)
        return model.train(self.training)


def _kernels_needed(config) -> list[tuple]:
    """What decides the shape of each kernel that a model of this config holds."""
    tubes, kernels = config.get_tubes(), []
    if config.interpolate_kernels and not all(tube.is_image_tube for tube in tubes):
        kernels = [(tuple(config.interpolated_kernel_size), config.hidden_size)]
        tubes = [tube for tube in tubes if tube.is_image_tube]
    return kernels + [(tube.kernel_size, config.hidden_size // tube.num_merged) for tube in tubes]


def _grids(config) -> list[tuple]:
    size = (config.num_frames, *config.image_height_width)
    return [tube.grid(size) for tube in config.get_tubes()]


def _describe(kernels: list[tuple]) -> str:
    if not kernels:
        return "none"
    return ", ".join(f"{'x'.join(map(str, size))} with {outputs}" for size, outputs in kernels)
