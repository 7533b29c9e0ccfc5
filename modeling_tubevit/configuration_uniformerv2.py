# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Configuration of UniFormerV2 ("Spatiotemporal Learning by Arming Image ViTs with Video UniFormer", ICCV 2023)."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.utils import auto_docstring

from .config_checks import (
    CheckedConfig,
    check_activation,
    check_divides,
    check_labels,
    check_numbers,
    check_pixel_statistics,
    per_channel,
    with_value_errors,
)


# Allowed values of fields that are numbers or lists of numbers.
RANGES = (
    (
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_global_attention_heads"),
        "at least 1",
        lambda value: value >= 1,
    ),
    (
        ("num_channels", "num_frames", "image_size", "patch_size", "local_reduction"),
        "at least 1",
        lambda value: value >= 1,
    ),
    (
        ("global_dropout", "classifier_dropout", "drop_path_rate", "global_drop_path_rate"),
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
    ),
    (
        ("initializer_range", "layer_norm_eps", "batch_norm_eps", "rescale_factor", "image_std", "global_mlp_ratio"),
        "above 0",
        lambda value: value > 0,
    ),
    (("image_mean",), "finite", lambda value: True),
    (("num_frozen_layers", "global_layers"), "at least 0", lambda value: value >= 0),
)


@auto_docstring(
    custom_intro="""
    Configuration of UniFormerV2: a CLIP image encoder, optional local blocks that mix neighboring frames, and global blocks
    that gather the tokens of all frames into one video token. The defaults are UniFormerV2-B/16 for Kinetics-400.
    """
)
@with_value_errors
@strict
class UniFormerV2Config(CheckedConfig):
    r"""
    num_frames (`int`, *optional*, defaults to 8):
        Number of frames of a clip. The weights do not depend on it: clips of another length work too.
    temporal_downsampling (`bool`, *optional*, defaults to `False`):
        Whether the patch embedding has a kernel of three frames and a temporal stride of two (the design for
        Something-Something). The number of frames must then be even.
    num_local_blocks (`int`, *optional*, defaults to 0):
        Local blocks in every layer: none, 1 (before the attention) or 2 (before the attention and before the MLP).
    local_reduction (`float`, *optional*, defaults to 1.5):
        Divisor of `hidden_size` for the width of the local blocks, which is rounded down.
    global_layers (`list[int]`, *optional*):
        Indices of the layers that are followed by a global block, in ascending order. Defaults to the last four layers (all
        layers of a model with fewer).
    num_global_attention_heads (`int`, *optional*):
        Number of attention heads of the global blocks. Defaults to `num_attention_heads`.
    global_mlp_ratio (`float`, *optional*, defaults to 4.0):
        Width of the global blocks' MLPs divided by `hidden_size`.
    global_dropout (`float` or `list[float]`, *optional*, defaults to 0.5):
        Dropout in the MLP of the global blocks, one rate for all of them or a list with one for each.
    use_gate (`bool`, *optional*, defaults to `True`):
        Whether a learned gate per channel mixes the video token with the mean of the frames' class tokens. Published frozen
        models have no gate and use the video token alone.
    num_frozen_layers (`int`, *optional*, defaults to 0):
        Number of layers from the start that are not trained, together with the patch embedding. They stay in eval mode.
        Published frozen models freeze all layers; the global blocks are always trained.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Stochastic depth rate of the last layer. The rate increases linearly from 0 in the first layer.
    global_drop_path_rate (`float`, *optional*, defaults to 0.0):
        Stochastic depth rate of the last global block. The rate increases linearly from 0 in the first one.
    label_groups (`list[list]`, *optional*):
        Groups of labels, pairs of a name and a number of labels in the order of the logits: `[["noun", 300], ["verb", 97]]`. A sample
        then has one label of each group, with a softmax and a cross-entropy of its own ("multi-task heads"). `None` for one group.
    classifier_dropout (`float`, *optional*, defaults to 0.5):
        Dropout before the classifier.
    batch_norm_eps (`float`, *optional*, defaults to 1e-5):
        Epsilon of the batch norms in the local blocks.
    image_mean (`list[float]`, *optional*, defaults to `[0.45, 0.45, 0.45]`):
        Mean per channel for uint8 pixels, which the model normalizes as `(pixel * rescale_factor - image_mean) / image_std`.
        Float pixels must be normalized already.
    image_std (`list[float]`, *optional*, defaults to `[0.225, 0.225, 0.225]`):
        Standard deviation per channel for uint8 pixels, see `image_mean`.
    rescale_factor (`float`, *optional*, defaults to 1/255):
        Factor for uint8 pixels before `image_mean` is subtracted.

    Example:

    ```python
    >>> from tubevit import UniFormerV2Config, UniFormerV2Model

    >>> configuration = UniFormerV2Config(hidden_size=96, num_attention_heads=3, intermediate_size=384, num_hidden_layers=6)
    >>> configuration.global_layers
    [2, 3, 4, 5]
    >>> model = UniFormerV2Model(configuration)

    ```"""

    model_type = "uniformerv2"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 8
    temporal_downsampling: bool = False
    num_local_blocks: Literal[0, 1, 2] = 0
    local_reduction: float | int = 1.5
    global_layers: list[int] | tuple[int, ...] | None = None
    num_global_attention_heads: int | None = None
    global_mlp_ratio: float | int = 4.0
    global_dropout: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    use_gate: bool = True
    num_frozen_layers: int = 0
    drop_path_rate: float | int = 0.0
    global_drop_path_rate: float | int = 0.0
    classifier_dropout: float | int = 0.5
    batch_norm_eps: float | int = 1e-5
    image_mean: float | int | list[float | int] | tuple[float | int, ...] = 0.45
    image_std: float | int | list[float | int] | tuple[float | int, ...] = 0.225
    rescale_factor: float | int = 1 / 255

    # Read by the shared encoder blocks; fixed in this family.
    qkv_bias = True
    hidden_dropout_prob = 0.0
    attention_probs_dropout_prob = 0.0
    layerscale_value = None

    def complete_fields(self) -> None:
        """As in the base class: default values that depend on other fields, lists, and statistics per channel."""
        self.global_layers = self.get_global_layers()
        self.num_global_attention_heads = self.get_num_global_attention_heads()
        self.image_mean, self.image_std = per_channel(self, "image_mean"), per_channel(self, "image_std")
        super().complete_fields()

    def get_global_layers(self) -> list[int]:
        """`global_layers`, by default the last four layers."""
        if self.global_layers is None:
            return list(range(max(0, self.num_hidden_layers - 4), self.num_hidden_layers))
        return list(self.global_layers)

    def get_num_global_attention_heads(self) -> int:
        """`num_global_attention_heads`, by default `num_attention_heads`."""
        heads = self.num_global_attention_heads
        return self.num_attention_heads if heads is None else heads

    @property
    def grid_size(self) -> int:
        """Rows, and columns, of the patches of a frame."""
        return self.image_size // self.patch_size

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens of a frame: the class token and the patches."""
        return self.grid_size**2 + 1

    @property
    def temporal_stride(self) -> int:
        """Frames per temporal position of the tokens."""
        return 2 if self.temporal_downsampling else 1

    @property
    def local_size(self) -> int:
        """Width of the local blocks."""
        return int(self.hidden_size // self.local_reduction)

    @property
    def global_intermediate_size(self) -> int:
        """Width of the global blocks' MLPs."""
        return round(self.global_mlp_ratio * self.hidden_size)

    @property
    def global_dropouts(self) -> list[float]:
        """Dropout of the MLP of each global block."""
        rates = self.global_dropout
        return list(rates) if isinstance(rates, (list, tuple)) else [rates] * len(self.get_global_layers())

    def num_tokens(self, num_frames: int | None = None) -> int:
        """Number of tokens of a clip, class tokens included; `None` stands for the configured number of frames."""
        num_frames = self.num_frames if num_frames is None else num_frames
        self.check_num_frames(num_frames)
        return num_frames // self.temporal_stride * self.tokens_per_frame

    def check_num_frames(self, num_frames: int) -> None:
        """Raise `ValueError`, with a number that works, for a number of frames that the patch embedding does not fit."""
        if num_frames < 1:
            raise ValueError(f"The number of frames must be at least {self.temporal_stride}, got {num_frames}.")
        if num_frames % self.temporal_stride:
            raise ValueError(
                f"temporal_downsampling=True needs an even number of frames, got {num_frames}: use {num_frames + 1}."
            )

    def validate_architecture(self):
        """Raise `ValueError` with the field, its value and the allowed values. Called at construction and before saving."""
        super().validate_architecture()
        check_numbers(self, RANGES)
        check_divides(self, "num_attention_heads")
        check_divides(self, "num_global_attention_heads")
        if self.image_size % self.patch_size:
            nearest = max(1, round(self.image_size / self.patch_size)) * self.patch_size
            raise ValueError(
                f"image_size must be a multiple of patch_size {self.patch_size}, got {self.image_size}: use {nearest}."
            )
        if self.local_reduction > self.hidden_size:
            raise ValueError(
                f"local_reduction must be at most hidden_size {self.hidden_size}, got {self.local_reduction}."
            )
        if self.global_intermediate_size < 1:
            raise ValueError(
                f"global_mlp_ratio must be at least 1 / hidden_size, {1 / self.hidden_size:.3g}, got {self.global_mlp_ratio}."
            )
        self._validate_global_layers()
        self.check_num_frames(self.num_frames)
        if self.num_frozen_layers > self.num_hidden_layers:
            raise ValueError(
                f"num_frozen_layers must be at most num_hidden_layers, {self.num_hidden_layers}, got {self.num_frozen_layers}."
            )
        check_activation(self)
        check_labels(self)
        check_pixel_statistics(self)

    def _validate_global_layers(self):
        layers = self.get_global_layers()
        if not layers:
            raise ValueError("global_layers is empty: a video token needs at least one global block.")
        if layers != sorted(set(layers)):
            raise ValueError(f"global_layers must be in ascending order without repetitions, got {layers}.")
        if layers[-1] >= self.num_hidden_layers:
            raise ValueError(
                f"global_layers are indices of the {self.num_hidden_layers} layers, from 0 to {self.num_hidden_layers - 1}, got "
                f"{layers}."
            )
        if len(self.global_dropouts) != len(layers):
            raise ValueError(
                f"global_dropout must be one rate or one for each of the {len(layers)} global blocks, got {self.global_dropout!r}."
            )


__all__ = ["UniFormerV2Config"]
