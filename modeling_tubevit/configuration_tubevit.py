# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""TubeViT configuration: a plain ViT, a list of tubes, and the clip that both are made for."""

import difflib
import math
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils import auto_docstring

from .tubes import MAIN_TUBES, Tube, select_tubes


# Fields that are numbers, or lists of them: what each may be.
RANGES = (
    (
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        "at least 1",
        lambda value: value >= 1,
    ),
    (("num_channels", "num_frames", "image_size"), "at least 1", lambda value: value >= 1),
    (
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
    ),
    (("initializer_range", "layer_norm_eps", "rescale_factor", "image_std"), "above 0", lambda value: value > 0),
    (("image_mean",), "finite", lambda value: True),
    (("position_temperature",), "above 1", lambda value: value > 1),
)


@auto_docstring(
    custom_intro="""
    Configuration of TubeViT: the sizes of a ViT encoder, the tubes that turn clips and images into its tokens, and the
    clip that both are made for. The defaults are the paper's main configuration with a ViT-B.
    """
)
@strict
class TubeViTConfig(PreTrainedConfig):
    r"""
    num_frames (`int`, *optional*, defaults to 32):
        Number of frames of the clips that the model is made for. Clips of any other length that holds the tubes work
        too, because positions are computed from the tubes' centres.
    tubes (`list[dict]`, *optional*):
        The tubes, each `{"kernel_size": [t, h, w], "stride": [t, h, w], "offset": [t, h, w]}` in frames and pixels,
        with the offset optional. Defaults to the paper's main configuration (table 12): 8x8x8, 16x4x4, 4x12x12 and the
        2D patch 1x16x16, together 539 tokens for 32 frames of 224x224. Tubes whose kernel spans one frame serve images.
    allow_missing_tubes (`bool`, *optional*, defaults to `False`):
        Whether a tube that does not fit a clip is left out. Otherwise such a clip is an error.
    pooling (`str`, *optional*, defaults to `"attention"`):
        How the output tokens become one vector: `"attention"` (a learned query with multi-head cross-attention, the MAP
        head of "Scaling Vision Transformers"), `"mean"` of all tokens, or `"cls"`, an extra token in front of the others.
    position_temperature (`float`, *optional*, defaults to 10000.0):
        Tau of the fixed sine/cosine position embedding (eq. 3).
    classifier_dropout (`float`, *optional*, defaults to 0.0):
        Dropout on the pooled vector before the classifier.
    image_mean (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Mean per channel, used when pixels arrive as uint8: they are normalised inside the model as
        `(pixel * rescale_factor - image_mean) / image_std`. Float pixels are taken as already normalised.
    image_std (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Standard deviation per channel, used like `image_mean`.
    rescale_factor (`float`, *optional*, defaults to 1/255):
        Factor that brings uint8 pixels to the scale of `image_mean` and `image_std`.
    check_pixels (`bool`, *optional*, defaults to `False`):
        Debugging aid: raise an error that says where when float pixels hold a NaN or an infinity.

    Example:

    ```python
    >>> from tubevit import TubeViTConfig, TubeViTModel

    >>> configuration = TubeViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)
    >>> configuration.num_tokens()
    539
    >>> configuration.num_tokens(num_frames=64)
    1176
    >>> model = TubeViTModel(configuration)
    >>> model.config.pooling
    'attention'

    ```"""

    model_type = "tubevit"
    base_model_tp_plan = {
        "layers.*.attention.q_proj": "colwise",
        "layers.*.attention.k_proj": "colwise",
        "layers.*.attention.v_proj": "colwise",
        "layers.*.attention.o_proj": "rowwise",
        "layers.*.mlp.fc1": "colwise",
        "layers.*.mlp.fc2": "rowwise",
    }

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    classifier_dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    layer_norm_eps: float | int = 1e-6
    qkv_bias: bool = True
    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    num_frames: int = 32
    tubes: list[dict] | tuple[dict, ...] | None = None
    allow_missing_tubes: bool = False
    pooling: Literal["attention", "mean", "cls"] = "attention"
    position_temperature: float | int = 10000.0
    image_mean: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    image_std: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    rescale_factor: float | int = 1 / 255
    check_pixels: bool = False

    def __post_init__(self, **kwargs):
        self._refuse_misspelt(kwargs)
        if self.tubes is None:
            self.tubes = list(MAIN_TUBES)
        # One form in memory and on disk: lists (JSON has no tuples), offsets filled in, means and deviations per channel.
        self.tubes = [tube.to_dict() for tube in self.get_tubes()]
        if not isinstance(self.image_size, int):
            self.image_size = list(self.image_size)
        self.image_mean, self.image_std = self.get_pixel_statistics()
        self.validate_architecture()
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in the base class, but a config of another model type is an error instead of a warning."""
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(f"This is a checkpoint of a {model_type!r} model, not of {cls.model_type!r}.")
        return super().from_dict(config_dict, **kwargs)

    def validate_architecture(self):
        """Raise a `ValueError` that names the field, its value and what is allowed. Run at construction and on saving."""
        super().validate_architecture()
        self._validate_numbers()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )
        if self.hidden_size < 6:
            raise ValueError(
                f"hidden_size must be at least 6 (the position code has groups of 6), got {self.hidden_size}."
            )
        self._validate_activation()
        height, width = self.image_height_width
        select_tubes(self.get_tubes(), (self.num_frames, height, width), self.allow_missing_tubes)
        if self.get_image_tubes() and not any(tube.fits((1, height, width)) for tube in self.get_image_tubes()):
            raise ValueError(f"No tube fits an image of image_size {height}x{width}.")

    def get_tubes(self) -> list[Tube]:
        """The tubes as geometry, in the order of their tokens."""
        if not isinstance(self.tubes, (list, tuple)) or not self.tubes:
            raise ValueError(f"tubes must be a list of at least one tube, got {self.tubes!r}.")
        tubes = []
        for index, values in enumerate(self.tubes):
            try:
                tubes.append(Tube.from_dict(values))
            except ValueError as error:
                raise ValueError(f"tubes[{index}] {error}.") from None
        return tubes

    def get_image_tubes(self) -> list[Tube]:
        """The 2D tubes, as they are applied to images; empty for a configuration that cannot take images."""
        return [tube.on_image() for tube in self.get_tubes() if tube.is_image_tube]

    def get_pixel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel of rescaled pixels."""
        values = (self.image_mean, self.image_std)
        return tuple([v] * self.num_channels if isinstance(v, (int, float)) else list(v) for v in values)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else tuple(self.image_size)

    def num_tokens(self, num_frames: int | None = None, image_size: int | tuple[int, int] | None = None) -> int:
        """Number of tube tokens (without a CLS token) of a clip; of the configured one where an argument is `None`."""
        if image_size is None:
            image_size = self.image_height_width
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        size = (self.num_frames if num_frames is None else num_frames, height, width)
        tubes = self.get_tubes()
        return sum(tubes[index].num_tokens(size) for index in select_tubes(tubes, size, self.allow_missing_tubes))

    def num_image_tokens(self, image_size: int | tuple[int, int] | None = None) -> int:
        """Number of tube tokens (without a CLS token) of an image."""
        if image_size is None:
            image_size = self.image_height_width
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        return sum(tube.num_tokens((1, height, width)) for tube in self.get_image_tubes())

    def _refuse_misspelt(self, kwargs):
        # The base class keeps unknown arguments as attributes, so `num_frame=16` would be a silent default of 32.
        own = [name for name in type(self).__annotations__ if name not in PreTrainedConfig.__annotations__]
        for key in kwargs:
            if close := difflib.get_close_matches(key, own, n=1, cutoff=0.88):
                raise ValueError(f"TubeViTConfig has no field {key!r}; did you mean {close[0]!r}?")

    def _validate_numbers(self):
        for names, allowed, is_allowed in RANGES:
            for name in names:
                value = getattr(self, name)
                values = value if isinstance(value, (list, tuple)) else [value]
                if not all(math.isfinite(v) and not isinstance(v, bool) and is_allowed(v) for v in values):
                    raise ValueError(f"{name} must be {allowed}, got {value!r}.")
        if not isinstance(self.image_size, int) and len(self.image_size) != 2:
            raise ValueError(f"image_size must be one integer or (height, width), got {self.image_size!r}.")
        for name, values in zip(("image_mean", "image_std"), self.get_pixel_statistics(), strict=True):
            if len(values) != self.num_channels:
                raise ValueError(
                    f"{name} must hold one value per channel, that is {self.num_channels}, got {getattr(self, name)!r}."
                )

    def _validate_activation(self):
        from transformers.activations import ACT2FN  # here, so that reading a config does not import torch

        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}.")


__all__ = ["TubeViTConfig"]
