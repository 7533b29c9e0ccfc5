# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""TubeViT configuration: a ViT encoder, a list of tubes, and the size of the clips."""

import copy
import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.utils import auto_docstring

from .config_checks import CheckedConfig, per_channel, with_value_errors
from .token_budget import tubes_for_budget
from .tubes import MAIN_TUBES, Size, Tube, format_size, select_tubes
from .tubevit_checks import check_architecture, complete_heads, known_part


GATED_MLP_TP_PLAN = {
    "layers.*.mlp.gate_proj": "colwise",
    "layers.*.mlp.up_proj": "colwise",
    "layers.*.mlp.down_proj": "rowwise",
}


@auto_docstring(
    custom_intro="""
    Configuration of TubeViT: the sizes of a ViT encoder, the tubes that convert clips and images to its tokens, and the size
    of the clips. The defaults are the paper's main configuration with a ViT-B.
    """
)
@with_value_errors
@strict
class TubeViTConfig(CheckedConfig):
    r"""
    num_frames (`int`, *optional*, defaults to 32):
        Number of frames of a clip. Clips of another length work too if the tubes fit, because positions are computed from
        the tubes' centers.
    tubes (`list[dict]`, *optional*):
        The tubes, each `{"kernel_size": [t, h, w], "stride": [t, h, w]}` in frames and pixels, and optionally
        `"offset": [t, h, w]`, the start of the first token, and `"space_to_depth": [t, h, w]`, the number of neighboring
        kernel applications that are concatenated to a token (section 3.4), see [`Tube`]. Defaults to the paper's main
        configuration (table 12): 8x8x8 with 2x temporal and 16x4x4 with 4x spatial space-to-depth, 4x12x12, and the 2D
        patch 1x16x16, together 539 tokens for 32 frames of 224x224. Tubes with a kernel of one frame tokenize images too.
    allow_missing_tubes (`bool`, *optional*, defaults to `False`):
        Whether to omit tubes that do not fit a clip. If `False`, a clip that is too small for a tube raises an error.
    pooling (`str`, *optional*, defaults to `"attention"`):
        Pooling of the output tokens: `"attention"` (a learned query with multi-head cross-attention, the MAP head of "Scaling
        Vision Transformers"), `"mean"` of the tubes' tokens, `"grid"`, means of the tubes' tokens in the cells of `pooling_grid`
        (ours), or `"cls"`, an extra first token. For image checkpoints also `"cls_mean"`, the CLS token and the mean concatenated
        (DINOv2's classifier), and `"cls_registers"`, the CLS and the register tokens concatenated (the classifiers of a distilled
        DeiT).
    pooling_grid (`list[int]`, *optional*):
        Cells along time, height and width of `pooling="grid"`, which divide a clip or image evenly: `[4, 3, 3]` gives a pooled vector
        of 36 means, `36 * hidden_size` values. A token belongs to the cell of its center; a cell without tokens takes the nearest
        ones. All tokens of a clip are needed, so masked pretraining does not take this pooling.
    kernel_initialization (`str`, *optional*, defaults to `"normal"`):
        Initialization of the kernels: `"normal"`, as for all weights; `"fan_in"` (ours, for training without an image
        checkpoint): normal with variance 1 / (number of inputs), so tokens initially have the scale of normalized pixels; or
        `"temporal_difference"` (ours, for training on a few hundred clips without an image checkpoint): as `"fan_in"`, but
        kernels of several frames have zero mean over time, so static regions do not contribute to their tokens at first.
    use_frame_differences (`bool`, *optional*, defaults to `False`):
        Whether kernels of several frames take differences between frames (`frame_difference_type`) as input instead of pixels
        (ours, for training on tens of clips from a static camera). 2D tubes always take pixels.
    frame_difference_type (`str`, *optional*, defaults to `"absolute"`):
        What `use_frame_differences` computes: `"absolute"`, the absolute difference of each frame to the previous one, or `"rms"`
        (ours, for tubes of an image checkpoint), one image for all frames of a kernel: the root mean square of the differences,
        divided by the square root of 2; for independent values it is their standard deviation over time (von Neumann, 1941). A
        kernel then acts as the sum of its frames.
    interpolate_kernels (`bool`, *optional*, defaults to `False`):
        Whether one learned kernel is resized trilinearly to every 3D tube (section 3.4) instead of a kernel per tube. The
        weights then fit 3D tubes of any number and shape. 2D tubes have their own kernels.
    interpolated_kernel_size (`list[int]`, *optional*, defaults to `[8, 8, 8]`):
        Frames, rows and columns of the interpolated kernel.
    position_embedding (`str`, *optional*, defaults to `"fixed"`):
        Position embedding (section 3.3): `"fixed"`, sine and cosine of each token's center in the clip. For comparison
        (table 7a): `"fixed_without_stride"`, sine and cosine of its index in the tube's grid; `"learned"`, a table for clips
        of `num_frames` and `image_size`, resized for other clips; `"relative"`, a learned bias on the attention scores for the
        displacement of two tokens' centers (attention backends eager and sdpa); `"none"`. For image checkpoints: `"transfer"`, their
        spatial positions (a grid of `position_grid`, or rotary with `rope_theta`) at the tubes' centers plus the fixed
        temporal code minus its value at t = 0, see [`TubeViTModel.from_image_checkpoint`].
    position_temperature (`float`, *optional*, defaults to 10000.0):
        Tau of the fixed sine/cosine position embedding (eq. 3).
    position_grid (`list[int]`, *optional*):
        Rows and columns of the learned grid of `position_embedding="transfer"`, which covers the frame.
    position_interpolation (`str`, *optional*, defaults to `"bicubic"`):
        Interpolation of the grid of `position_grid`: `"bicubic"` (ViT, DeiT, DINOv2, SigLIP, CLIP), `"bicubic_antialias"`
        (DINOv2 with registers) or `"bilinear_antialias"` (SigLIP 2), as in the source's code for other image sizes.
    temporal_position_scale (`float`, *optional*, defaults to 1.0):
        Factor of the temporal code of `position_embedding="transfer"`; 0 leaves the code out. With 1 the channels of the code reach 2.
        Tokens of a DINOv2 have a root mean square of 0.07, and the layers hardly see them beside this code.
    rope_theta (`float`, *optional*):
        Base of DINOv3's rotary spatial positions, which every layer applies to queries and keys; `None` disables them.
    use_cls_token (`bool`, *optional*):
        Whether there is a CLS token before the tubes' tokens. By default only if the pooling uses it.
    num_register_tokens (`int`, *optional*, defaults to 0):
        Number of additional learned tokens after the CLS token: DINO's registers, or DeiT's distillation token.
    use_pre_layernorm (`bool`, *optional*, defaults to `False`):
        Whether a layer norm precedes the first layer (CLIP).
    final_layernorm (`str`, *optional*, defaults to `"tokens"`):
        Input of the last layer norm: all output `"tokens"`, only the `"pooled"` vector (CLIP), or `"none"` for no last layer
        norm (CLIP's classifier).
    use_gated_mlp (`bool`, *optional*, defaults to `False`):
        Whether the layers have gated MLPs: SwiGLU, with `hidden_act="silu"` (DINOv2 giant, DINOv3).
    layerscale_value (`float`, *optional*):
        Initial value of LayerScale, a learned factor per channel on each residual branch (DINO); `None` disables LayerScale.
    pooler_act (`str`, *optional*):
        Activation of a linear layer after `pooling="cls"`, as in `ViTModel`; `None` omits that layer.
    num_frozen_layers (`int`, *optional*, defaults to 0):
        For image-to-video scaling (section 3.6): number of layers from the start that are not trained, together with the
        tokenizer. They stay in eval mode and store no activations. See [`scale_up`].
    gate_layer (`int`, *optional*):
        For image-to-video scaling: index of the layer after which a learned, zero-initialized gate adds the encoder's input
        again (eq. 8). `None` for no gate. Recorded hidden states are those before the gate.
    num_extra_layers (`int`, *optional*, defaults to 0):
        Number of additional self-attention layers, evenly spaced among the others (the ablation of table 8). They are not in
        the recorded hidden states.
    heads (`dict[str, dict]`, *optional*):
        The data sets of [`TubeViTForJointClassification`] by name, each `{"modality": "video" or "image"}` with either
        `num_labels` or `id2label`, and optionally `problem_type` and `loss_weight`.
    label_groups (`list[list]`, *optional*):
        Groups of labels, pairs of a name and a number of labels in the order of the logits: `[["noun", 300], ["verb", 97]]`. A sample
        then has one label of each group, with a softmax and a cross-entropy of its own ("multi-task heads"). `None` for one group.
    classifier_dropout (`float`, *optional*, defaults to 0.0):
        Dropout on the pooled vector before the classifier.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Stochastic depth rate of the last layer: the probability that a residual branch is dropped for a sample in training.
        The rate increases linearly from 0 in the first layer.
    image_mean (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Mean per channel for uint8 pixels, which the model normalizes as `(pixel * rescale_factor - image_mean) / image_std`.
        Float pixels must be normalized already.
    image_std (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`):
        Standard deviation per channel for uint8 pixels, see `image_mean`.
    rescale_factor (`float`, *optional*, defaults to 1/255):
        Factor for uint8 pixels before `image_mean` is subtracted.
    check_pixels (`bool`, *optional*, defaults to `False`):
        For debugging: whether to raise an error with the index if float pixels contain NaN or inf.
    mask_ratio (`float`, *optional*, defaults to 0.8):
        For [`TubeViTForPreTraining`] (ours): fraction of the tube tokens of a clip that are masked.
    mask_target (`str`, *optional*, defaults to `"pixels"`):
        For [`TubeViTForPreTraining`]: what is predicted of a masked tube, `"pixels"`, `"differences"` between frames, or `"features"` that the caller
        gives, see `TubeViTForPreTraining.targets`.
    decoder_hidden_size (`int`, *optional*, defaults to 192):
        Width of the decoder of [`TubeViTForPreTraining`].
    decoder_num_hidden_layers (`int`, *optional*, defaults to 2):
        Number of layers of the decoder.
    decoder_num_attention_heads (`int`, *optional*, defaults to 3):
        Number of attention heads of the decoder.
    decoder_intermediate_size (`int`, *optional*, defaults to 768):
        Width of the MLPs of the decoder.

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
    drop_path_rate: float | int = 0.0
    initializer_range: float | int = 0.02
    layer_norm_eps: float | int = 1e-6
    qkv_bias: bool = True
    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    num_frames: int = 32
    tubes: list[dict] | tuple[dict, ...] | None = None
    allow_missing_tubes: bool = False
    pooling: Literal["attention", "mean", "grid", "cls", "cls_mean", "cls_registers"] = "attention"
    pooling_grid: list[int] | tuple[int, int, int] | None = None
    kernel_initialization: Literal["normal", "fan_in", "temporal_difference"] = "normal"
    use_frame_differences: bool = False
    frame_difference_type: Literal["absolute", "rms"] = "absolute"
    interpolate_kernels: bool = False
    interpolated_kernel_size: list[int] | tuple[int, int, int] = (8, 8, 8)
    position_embedding: Literal["fixed", "fixed_without_stride", "learned", "relative", "none", "transfer"] = "fixed"
    position_temperature: float | int = 10000.0
    position_grid: list[int] | tuple[int, int] | None = None
    position_interpolation: Literal["bicubic", "bicubic_antialias", "bilinear_antialias"] = "bicubic"
    temporal_position_scale: float | int = 1.0
    rope_theta: float | int | None = None
    use_cls_token: bool | None = None
    num_register_tokens: int = 0
    use_pre_layernorm: bool = False
    final_layernorm: Literal["tokens", "pooled", "none"] = "tokens"
    use_gated_mlp: bool = False
    layerscale_value: float | int | None = None
    pooler_act: str | None = None
    num_frozen_layers: int = 0
    gate_layer: int | None = None
    num_extra_layers: int = 0
    heads: dict | None = None
    image_mean: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    image_std: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    rescale_factor: float | int = 1 / 255
    check_pixels: bool = False
    mask_ratio: float | int = 0.8
    mask_target: Literal["pixels", "differences", "features"] = "pixels"
    decoder_hidden_size: int = 192
    decoder_num_hidden_layers: int = 2
    decoder_num_attention_heads: int = 3
    decoder_intermediate_size: int = 768

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.use_gated_mlp:
            attention_plan = {name: how for name, how in self.base_model_tp_plan.items() if ".mlp." not in name}
            vars(self)["base_model_tp_plan"] = attention_plan | GATED_MLP_TP_PLAN  # on this config, not on the class

    def complete_fields(self) -> None:
        """
        As in the base class. The form in JSON: lists, every key of a tube and of a head, and one mean and standard deviation per
        channel.
        """
        if self.tubes is None:
            self.tubes = list(MAIN_TUBES)
        self.tubes = [tube.to_dict() for tube in self.get_tubes()]
        if not isinstance(self.image_size, int):
            self.image_size = list(self.image_size)
        if self.heads is not None:
            self.heads = complete_heads(self.heads)
            if self.label_groups is not None:
                raise ValueError(
                    "heads and label_groups exclude each other: a head of a joint model has one group of labels."
                )
        self.interpolated_kernel_size = list(self.interpolated_kernel_size)
        self.position_grid = None if self.position_grid is None else list(self.position_grid)
        self.pooling_grid = None if self.pooling_grid is None else list(self.pooling_grid)
        self.image_mean, self.image_std = self.get_pixel_statistics()
        super().complete_fields()

    @classmethod
    def known_part(cls, saved: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """As in the base class, also for the keys of tubes and heads."""
        known, ignored = super().known_part(saved)
        nested, ignored_keys = known_part(known)
        return known | nested, ignored + ignored_keys

    def validate_architecture(self) -> None:
        """Raise `ValueError` with the field, its value and the allowed values. Called at construction and before saving."""
        super().validate_architecture()
        check_architecture(self)

    def get_tubes(self) -> list[Tube]:
        """The tubes as [`Tube`] objects, in the order of their tokens."""
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
        """The 2D tubes as applied to images; empty if the configuration takes no images."""
        return [tube.on_image() for tube in self.get_tubes() if tube.is_image_tube]

    def get_patch_size(self) -> tuple[int, int] | None:
        """Rows and columns of the image patch, the kernel of the first 2D tube; `None` without a 2D tube."""
        tubes = self.get_image_tubes()
        if not tubes:
            return None
        _, rows, columns = tubes[0].kernel_size
        return rows, columns

    def with_tubes(
        self,
        tubes: list[dict],
        num_frames: int | None = None,
        image_size: int | list[int] | tuple[int, int] | None = None,
    ) -> "TubeViTConfig":
        """
        A copy with other tubes for the same weights; `None` keeps `num_frames` or `image_size`.

        Raises `ValueError` for tubes that the config does not allow, that need kernels of other shapes, or that need other
        learned positions. `TubeViTModel.set_tubes` says which tubes fit.
        """
        config = copy.deepcopy(self)
        config.tubes = tubes
        config.tubes = [tube.to_dict() for tube in config.get_tubes()]
        if num_frames is not None:
            config.num_frames = num_frames
        if image_size is not None:
            config.image_size = image_size
        config.validate_architecture()
        new, old = config._kernel_shapes(), self._kernel_shapes()
        if new != old:
            raise ValueError(
                f"The kernels of this model are {_describe_kernels(old)} (frames x rows x columns, output channels), the new "
                f"tubes need {_describe_kernels(new)}. Strides and offsets may change; interpolate_kernels=True in the config "
                "also allows other 3D kernels."
            )
        if config.position_embedding == "learned" and config._token_grids() != self._token_grids():
            raise ValueError(
                "position_embedding='learned' has a vector for each token of the configured clip, and the new tubes, "
                "num_frames or image_size need other tokens. position_embedding='fixed' allows any tubes; clips of another "
                "size work without changing the tubes."
            )
        size, own_size = ((each.num_frames, *each.image_height_width) for each in (config, self))
        if config.position_embedding == "relative" and size != own_size:
            raise ValueError(
                "position_embedding='relative' has a value for each displacement in a clip of the configured size, "
                f"{format_size(own_size)}, so num_frames and image_size cannot become {format_size(size)}. Clips of another "
                "size work without changing the config."
            )
        return config

    def with_token_budget(self, token_budget: int) -> "TubeViTConfig":
        """
        A copy whose tubes have coarser strides, so that a clip of the configured size has at most `token_budget` tube tokens
        (without CLS and registers); `tubevit.token_budget.tubes_for_budget` says which strides.

        Raises `ValueError` for a budget below the smallest possible one, which the message names, and for positions that do not
        follow the centers of the tokens.
        """
        if self.position_embedding in ("learned", "fixed_without_stride"):
            raise ValueError(
                f"token_budget={token_budget} needs positions that are functions of the tokens' centers, and "
                f"position_embedding={self.position_embedding!r} numbers the tokens; 'fixed', 'transfer' and 'relative' work."
            )
        size = (self.num_frames, *self.image_height_width)
        tubes = tuple(self.get_tubes())
        select_tubes(list(tubes), size, self.allow_missing_tubes)
        return self.with_tubes([tube.to_dict() for tube in tubes_for_budget(tubes, size, token_budget)])

    def _kernel_shapes(self) -> list[tuple[Size, int]]:
        """Kernel size and number of output channels of every kernel that a model of this config has."""
        tubes = self.get_tubes()
        kernels: list[tuple[Size, int]] = []
        if self.interpolate_kernels and not all(tube.is_image_tube for tube in tubes):
            frames, rows, columns = self.interpolated_kernel_size
            kernels.append(((frames, rows, columns), self.hidden_size))
            tubes = [tube for tube in tubes if tube.is_image_tube]
        return kernels + [(tube.kernel_size, self.hidden_size // tube.num_merged) for tube in tubes]

    def _token_grids(self) -> list[Size]:
        """The token grid of every tube in the configured clip."""
        size = (self.num_frames, *self.image_height_width)
        return [tube.grid(size) for tube in self.get_tubes()]

    def get_pixel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel of rescaled pixels."""
        return per_channel(self, "image_mean"), per_channel(self, "image_std")

    @property
    def has_cls_token(self) -> bool:
        """Whether there is a CLS token: `use_cls_token`, by default whether the pooling uses it."""
        return self.pooling.startswith("cls") if self.use_cls_token is None else self.use_cls_token

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before those of the tubes: CLS and registers."""
        return int(self.has_cls_token) + self.num_register_tokens

    @property
    def pooled_size(self) -> int:
        """Width of the pooled vector."""
        factors = {"cls_mean": 2, "cls_registers": self.num_prefix_tokens, "grid": math.prod(self.pooling_grid or [])}
        return self.hidden_size * factors.get(self.pooling, 1)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        height, width = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        return height, width

    def num_tokens(self, num_frames: int | None = None, image_size: int | tuple[int, int] | None = None) -> int:
        """Number of tube tokens (without CLS and registers) of a clip; `None` stands for the configured size."""
        if image_size is None:
            image_size = self.image_height_width
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        size = (self.num_frames if num_frames is None else num_frames, height, width)
        tubes = self.get_tubes()
        return sum(tubes[index].num_tokens(size) for index in select_tubes(tubes, size, self.allow_missing_tubes))

    def num_image_tokens(self, image_size: int | tuple[int, int] | None = None) -> int:
        """Number of tube tokens (without CLS and registers) of an image; `None` stands for the configured size."""
        if image_size is None:
            image_size = self.image_height_width
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        size, tubes = (1, height, width), self.get_image_tubes()
        if not tubes:
            raise ValueError(
                "This configuration takes no images: it has no tube whose kernel spans one frame, such as 1x16x16."
            )
        return sum(tubes[index].num_tokens(size) for index in select_tubes(tubes, size, self.allow_missing_tubes))


def _describe_kernels(kernels: list[tuple[Size, int]]) -> str:
    return ", ".join(f"{format_size(size)} with {outputs}" for size, outputs in kernels) or "none"


__all__ = ["TubeViTConfig"]
