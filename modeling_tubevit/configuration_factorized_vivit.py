# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Configuration of ViViT's Models 1 to 4 ("ViViT: A Video Vision Transformer", ICCV 2021)."""

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


RANGES = (
    (
        (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "temporal_num_attention_heads",
            "temporal_intermediate_size",
            "num_channels",
            "num_frames",
            "image_size",
            "tubelet_size",
        ),
        "at least 1",
        lambda value: value >= 1,
    ),
    (("temporal_num_hidden_layers", "num_frozen_layers"), "at least 0", lambda value: value >= 0),
    (
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "drop_path_rate"),
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
    ),
    (("initializer_range", "layer_norm_eps", "rescale_factor", "image_std"), "above 0", lambda value: value > 0),
    (("image_mean",), "finite", lambda value: True),
)
# The models of the paper by factorization; "mean" models have no class token in Scenic.
POOLINGS: dict[str, Literal["cls", "mean"]] = {
    "spacetime": "cls",
    "encoder": "cls",
    "self_attention": "mean",
    "dot_product": "mean",
}


@auto_docstring(
    custom_intro="""
    Configuration of ViViT's Models 1 to 4, as in Scenic. The defaults are ViViT-B/16x2 with a factorized encoder (Model 2) for
    Kinetics-400.
    """
)
@with_value_errors
@strict
class FactorizedViViTConfig(CheckedConfig):
    r"""
    factorization (`str`, *optional*, defaults to `"encoder"`):
        How attention is factorized over space and time: `"spacetime"`, not at all (Model 1); `"encoder"`, a spatial encoder for
        each temporal index and a temporal encoder on its outputs (Model 2); `"self_attention"`, two attentions in each layer
        (Model 3); `"dot_product"`, half of the heads attend over time and half over space (Model 4).
    pooling (`str`, *optional*):
        `"cls"`, the class token (of each encoder in Model 2), or `"mean"` of the tokens, without class tokens. Defaults to `"cls"`
        for Models 1 and 2 and to `"mean"` for Models 3 and 4, which have no class token.
    attention_order (`str`, *optional*, defaults to `"time_space"`):
        Order of the two attentions in a layer of Model 3: `"time_space"` or `"space_time"`.
    temporal_num_hidden_layers (`int`, *optional*, defaults to 4):
        Layers of the temporal encoder of Model 2; 0 for the mean over time in its place.
    temporal_num_attention_heads (`int`, *optional*):
        Attention heads of the temporal encoder. Defaults to `num_attention_heads`.
    temporal_intermediate_size (`int`, *optional*):
        MLP width of the temporal encoder. Defaults to `intermediate_size`.
    image_size (`int` or `list[int]`, *optional*, defaults to 224):
        Height and width of the frames, for which the position table has entries.
    num_frames (`int`, *optional*, defaults to 32):
        Number of frames of a clip, for which the position table has entries.
    tubelet_size (`list[int]`, *optional*, defaults to `[2, 16, 16]`):
        Frames, rows and columns of a token.
    interpolate_positions (`bool`, *optional*, defaults to `False`):
        Whether clips of another size or length than the position table's are accepted: the table is then resized, bicubically in
        space and linearly in time. If `False`, these clips raise an error.
    num_frozen_layers (`int`, *optional*, defaults to 0):
        Number of layers from the start that are not trained, together with the patch embedding (Model 2: of the spatial encoder).
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Stochastic depth rate of the last layer of each encoder, linear from 0 in the first one. As in Scenic, the outputs of
        surviving branches are not rescaled, and Model 3 has none.
    label_groups (`list[list]`, *optional*):
        Groups of labels, pairs of a name and a number of labels in the order of the logits: `[["noun", 300], ["verb", 97]]`. A sample
        then has one label of each group, with a softmax and a cross-entropy of its own ("multi-task heads"). `None` for one group.
    image_mean (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Mean per channel for uint8 pixels, which the model normalizes as `(pixel * rescale_factor - image_mean) / image_std`: to
        the range -1 to 1 by default. Float pixels must be normalized already.
    image_std (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Standard deviation per channel for uint8 pixels, see `image_mean`.
    rescale_factor (`float`, *optional*, defaults to 1/255):
        Factor for uint8 pixels before `image_mean` is subtracted.

    Example:

    ```python
    >>> from tubevit import FactorizedViViTConfig, FactorizedViViTModel

    >>> configuration = FactorizedViViTConfig(hidden_size=96, num_attention_heads=3, intermediate_size=384, num_hidden_layers=4)
    >>> configuration.num_tokens()
    3152
    >>> model = FactorizedViViTModel(configuration)

    ```"""

    model_type = "factorized_vivit"

    factorization: Literal["spacetime", "encoder", "self_attention", "dot_product"] = "encoder"
    pooling: Literal["cls", "mean"] | None = None
    attention_order: Literal["time_space", "space_time"] = "time_space"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    temporal_num_hidden_layers: int = 4
    temporal_num_attention_heads: int | None = None
    temporal_intermediate_size: int | None = None
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float | int = 1e-6
    initializer_range: float | int = 0.02
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    classifier_dropout: float | int = 0.0
    drop_path_rate: float | int = 0.0
    qkv_bias: bool = True
    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    num_frames: int = 32
    tubelet_size: list[int] | tuple[int, int, int] = (2, 16, 16)
    interpolate_positions: bool = False
    num_frozen_layers: int = 0
    image_mean: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    image_std: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    rescale_factor: float | int = 1 / 255

    # Read by the shared encoder blocks; fixed in this family.
    layerscale_value = None

    def complete_fields(self) -> None:
        """As in the base class: default values that depend on other fields, lists, and statistics per channel."""
        if self.pooling is None:
            self.pooling = POOLINGS[self.factorization]
        if self.temporal_num_attention_heads is None:
            self.temporal_num_attention_heads = self.num_attention_heads
        if self.temporal_intermediate_size is None:
            self.temporal_intermediate_size = self.intermediate_size
        self.tubelet_size = list(self.tubelet_size)
        if not isinstance(self.image_size, int):
            self.image_size = list(self.image_size)
        self.image_mean, self.image_std = per_channel(self, "image_mean"), per_channel(self, "image_std")
        super().complete_fields()

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        height, width = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        return height, width

    @property
    def has_cls_token(self) -> bool:
        """Whether there is a class token (in Model 2: one in each encoder)."""
        return self.pooling == "cls"

    @property
    def has_temporal_encoder(self) -> bool:
        """Whether there is a temporal encoder: in Model 2, unless it has no layers."""
        return self.factorization == "encoder" and self.temporal_num_hidden_layers > 0

    def grid(self, num_frames: int | None = None, image_size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """
        Temporal indices, rows and columns of the tokens of a clip; `None` stands for the configured size.

        Raises `ValueError`, with the nearest size that works, if a side is not a multiple of the tubelet's.
        """
        frames = self.num_frames if num_frames is None else num_frames
        height, width = self.image_height_width if image_size is None else image_size
        for name, size, unit in zip(
            ("num_frames", "height", "width"), (frames, height, width), self.tubelet_size, strict=True
        ):
            if size % unit or size < unit:
                nearest = max(unit, (size + unit // 2) // unit * unit)
                raise ValueError(
                    f"A clip's {name} must be a multiple of {unit}, that of tubelet_size {self.tubelet_size}, got {size}: use "
                    f"{nearest}."
                )
        time, rows, columns = self.tubelet_size
        return frames // time, height // rows, width // columns

    def num_tokens(self, num_frames: int | None = None, image_size: int | tuple[int, int] | None = None) -> int:
        """Number of tokens of a clip in the (spatial) encoder, class tokens included; `None` stands for the configured size."""
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        time, rows, columns = self.grid(num_frames, size)
        if self.factorization == "encoder":
            return time * (rows * columns + self.has_cls_token)
        return time * rows * columns + self.has_cls_token

    def validate_architecture(self):
        """Raise `ValueError` with the field, its value and the allowed values. Called at construction and before saving."""
        super().validate_architecture()
        check_numbers(self, RANGES)
        check_divides(self, "num_attention_heads")
        check_divides(self, "temporal_num_attention_heads")
        if len(self.tubelet_size) != 3:
            raise ValueError(f"tubelet_size must be three integers (time, height, width), got {self.tubelet_size!r}.")
        if not isinstance(self.image_size, int) and len(self.image_size) != 2:
            raise ValueError(f"image_size must be one integer or (height, width), got {self.image_size!r}.")
        self.grid()
        if self.pooling == "cls" and POOLINGS[self.factorization] == "mean":
            raise ValueError(
                f"factorization={self.factorization!r} has no class token, so pooling must be 'mean', got 'cls'."
            )
        if self.factorization == "dot_product" and self.num_attention_heads % 2:
            raise ValueError(
                "factorization='dot_product' needs an even num_attention_heads, half for time and half for space, got "
                f"{self.num_attention_heads}."
            )
        if self.factorization == "self_attention" and self.drop_path_rate:
            raise ValueError(
                f"factorization='self_attention' has no stochastic depth (Scenic ignores it), got drop_path_rate="
                f"{self.drop_path_rate}: set it to 0."
            )
        if self.num_frozen_layers > self.num_hidden_layers:
            raise ValueError(
                f"num_frozen_layers must be at most num_hidden_layers, {self.num_hidden_layers}, got {self.num_frozen_layers}."
            )
        check_activation(self)
        check_labels(self)
        check_pixel_statistics(self)


__all__ = ["FactorizedViViTConfig"]
