# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Pixels to tokens: the sparse tube tokenizer of TubeViT (sections 3.2 and 3.4), for clips and images.

The four tubes of the main configuration read 18 % of a clip's pixels, so no operation here processes a whole clip: the pixels
of each tube are gathered from a strided view, and one matrix product computes its tokens. Clips in uint8 are normalized after
the gather, which takes a fifth of the operations and a quarter of the memory of normalizing them before.
"""

import math
from operator import mul
from typing import cast

import torch
from torch import nn
from transformers import initialization as init

from .compile_utils import constant_tables, has_storage, static_size
from .config_checks import FLOAT16_MAX, check_pixel_range
from .configuration_tubevit import TubeViTConfig
from .interpolated_kernel import TubeViTInterpolatedKernel
from .position_embeddings import POSITION_CLASSES, TubeViTRelativePositions
from .transferred_positions import TubeViTRotaryPositions
from .tubes import Size, Tube, select_tubes


def gather_tube(video: torch.Tensor, tube: Tube, by_token: bool = False) -> torch.Tensor:
    """
    The pixels under every application of a tube's kernel.

    video: `(batch, frames, channels, height, width)`, any dtype and memory layout; it is not copied as a whole.
    by_token: put the applications that space-to-depth merges into a token next to each other. Every application of every
        token must fit into the clip.

    Returns a new tensor `(batch, applications, channels, kernel_t, kernel_h, kernel_w)`. The applications are in (time,
    height, width) order; with `by_token` the tokens are, and within a token its applications.
    """
    packed, pack_size = _pack_pixels(video, tube)
    windows = packed
    size = (video.shape[1], video.shape[3], video.shape[4])
    grid = tube.kernel_grid(size)
    for axis, (dim, unit) in enumerate(((1, 1), (3, 1), (4, pack_size))):
        kernel, stride, start = (
            n // unit for n in (tube.kernel_size[axis], tube.kernel_stride[axis], tube.offset[axis])
        )
        used = (grid[axis] - 1) * stride + kernel
        windows = windows.narrow(dim, start, used).unfold(dim, kernel, stride)
    if by_token and tube.num_merged > 1:
        (nt, nh, nw), (ft, fh, fw) = tube.grid(size), tube.space_to_depth
        windows = windows.unflatten(4, (nw, fw)).unflatten(3, (nh, fh)).unflatten(1, (nt, ft))
        # (batch, nt, ft, channels, nh, fh, nw, fw, kt, kh, kw) -> (batch, nt, nh, nw, ft, fh, fw, channels, kt, kh, kw)
        gathered = windows.permute(0, 1, 4, 6, 2, 5, 7, 3, 8, 9, 10).flatten(1, 6)
    else:
        # (batch, nt, channels, nh, nw, kt, kh, kw) -> (batch, nt, nh, nw, channels, kt, kh, kw)
        gathered = windows.permute(0, 1, 3, 4, 2, 5, 6, 7).flatten(1, 3)
    return gathered if pack_size == 1 else gathered.view(video.dtype)


def _pack_pixels(video: torch.Tensor, tube: Tube) -> tuple[torch.Tensor, int]:
    """
    View neighboring pixels of a row as one value of up to 16 bytes; the number of pixels per value divides kernel width,
    stride and offset. A gather copies values one at a time, so wider values make it up to 16 times faster.

    Returns the view and the number of pixels per value; `video` itself and 1 if there is no such view.
    """
    *strides, last_stride = video.stride()
    if last_stride == 1 and has_storage(video) and not (video.requires_grad or torch.jit.is_tracing()):
        counts = (
            tube.kernel_size[2],
            tube.kernel_stride[2],
            tube.offset[2],
            video.shape[4],
            video.storage_offset(),
            *strides,
        )
        for dtype in (torch.complex128, torch.int64, torch.int32, torch.int16):
            pack_size = dtype.itemsize // video.element_size()
            fits = pack_size > 1 and all(count % pack_size == 0 for count in counts)
            if fits and video.data_ptr() % dtype.itemsize == 0:
                return video.view(dtype), pack_size
    return video, 1


def frame_differences(pixels: torch.Tensor) -> torch.Tensor:
    """
    Absolute difference of every pixel to the previous frame: `|x_t - x_(t-1)|`; a kernel's first frame repeats the second
    frame's difference. Without the sign, a moving part gives the same values on light and dark backgrounds. This option is
    ours; with the sign it is the RGB difference of "Temporal Segment Networks" (ECCV 2016).

    pixels: as from `gather_tube`, with at least two frames. Returns a tensor of the same shape.
    """
    differences = pixels.diff(dim=3).abs()
    return torch.cat((differences[:, :, :, :1], differences), dim=3)


def rms_frame_difference(pixels: torch.Tensor) -> torch.Tensor:
    """
    Root mean square of the differences between neighboring frames, divided by the square root of 2: for independent values it is
    their standard deviation over time, and a slow drift adds little to it (von Neumann, "Distribution of the Ratio of the Mean Square
    Successive Difference to the Variance", 1941). Large changes count more than noise. This option is ours.

    pixels: as from `gather_tube`, with at least two frames. Returns `(batch, applications, channels, 1, h, w)`.
    """
    norm = torch.linalg.vector_norm(pixels.diff(dim=3), dim=3, keepdim=True)  # its gradient is 0 where nothing changes
    return norm / math.sqrt(2 * (pixels.shape[3] - 1))


def merge_applications(outputs: torch.Tensor, tube: Tube, size: Size) -> torch.Tensor:
    """
    Space-to-depth: concatenate the outputs of neighboring applications on the channel axis into a token.

    outputs: `(batch, applications, outputs)` of a clip of `size`, in (time, height, width) order.

    Returns `(batch, tokens, S * outputs)`, tokens in the same order. Outputs of applications that do not fit into the clip
    are zero.
    """
    if tube.num_merged == 1:
        return outputs
    grid, (nt, nh, nw), (ft, fh, fw) = tube.kernel_grid(size), tube.grid(size), tube.space_to_depth
    outputs = outputs.unflatten(1, grid)
    missing = [count * factor - have for count, factor, have in zip((nt, nh, nw), (ft, fh, fw), grid, strict=True)]
    if any(missing):
        outputs = nn.functional.pad(outputs, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
    outputs = outputs.unflatten(3, (nw, fw)).unflatten(2, (nh, fh)).unflatten(1, (nt, ft))
    # (batch, nt, ft, nh, fh, nw, fw, outputs) -> (batch, nt, nh, nw, ft, fh, fw, outputs)
    return outputs.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4).flatten(1, 3)


@constant_tables(max_cached=8)
def _scale_and_shift(
    settings: tuple[tuple[float, ...], tuple[float, ...], float], dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """`scale` and `shift`, `(channels, 1, 1, 1)`, that normalize raw pixels; cached to avoid a copy to the device per call."""
    mean, std, rescale_factor = settings
    std_table, mean_table = (
        torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1, 1) for values in (std, mean)
    )
    return rescale_factor / std_table, -mean_table / std_table


def init_temporal_difference_(weight: torch.Tensor) -> None:
    """
    Initialize a kernel `(outputs, channels, t, h, w)` as weighted differences between its frames: normal with variance
    1 / (number of inputs), minus the mean over time. A kernel of one frame keeps its mean.
    """
    values = torch.randn_like(weight, requires_grad=False) * weight[0].numel() ** -0.5
    init.copy_(weight, values - values.mean(dim=2, keepdim=True) if weight.shape[2] > 1 else values)


class TubeViTTubeProjection(nn.Module):
    """
    The kernel of one tube: the weights of a `Conv3d`, applied as one matrix product to gathered pixels.

    weight: `(hidden_size / S, channels, kernel_t, kernel_h, kernel_w)`. bias: `(hidden_size / S,)`. S is the number of
    applications that space-to-depth merges into a token.
    """

    def __init__(self, num_channels: int, hidden_size: int, tube: Tube):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden_size // tube.num_merged, num_channels, *tube.kernel_size))
        self.bias = nn.Parameter(torch.empty(hidden_size // tube.num_merged))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: as from `gather_tube`. Returns `(batch, applications, hidden_size / S)`."""
        return project(pixels, self.weight, self.bias)

    def extra_repr(self) -> str:
        num_outputs, num_channels, *kernel_size = self.weight.shape
        return f"{num_channels}, {num_outputs}, kernel_size={tuple(kernel_size)}"


def project(pixels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """
    Convolution of gathered pixels `(batch, applications, channels, t, h, w)` to `(batch, applications, outputs)`. A single image,
    t = 1, is the input of every frame of the kernel, which act as their sum.
    """
    if pixels.shape[3] < weight.shape[2]:
        weight = weight.sum(dim=2, keepdim=True)
    return nn.functional.linear(pixels.flatten(2), weight.flatten(1), bias)


class TubeViTEmbeddings(nn.Module):
    """
    Tube tokens with their positions, after an optional CLS token and optional register tokens.

    Every tube tokenizes a clip; only the 2D tubes tokenize an image, with the same weights.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.set_tubes(config)
        self.num_channels = config.num_channels
        self.allow_missing_tubes = config.allow_missing_tubes
        self.check_pixels = config.check_pixels
        image_mean, image_std = config.get_pixel_statistics()
        self.table_settings = (tuple(image_mean), tuple(image_std), config.rescale_factor)
        self.use_frame_differences = config.use_frame_differences
        self.frame_difference = rms_frame_difference if config.frame_difference_type == "rms" else frame_differences
        self.num_prefix_tokens = config.num_prefix_tokens
        own = [tube for tube in self.tubes if tube.is_image_tube or not config.interpolate_kernels]
        self.projections = nn.ModuleList(
            [TubeViTTubeProjection(config.num_channels, config.hidden_size, tube) for tube in own]
        )
        self.interpolated_kernel = TubeViTInterpolatedKernel(config) if len(own) < len(self.tubes) else None
        self.positions = POSITION_CLASSES[config.position_embedding](config)
        self.rotary_positions = TubeViTRotaryPositions(config) if config.rope_theta is not None else None
        self.cls_token: nn.Parameter | None = None
        self.register_tokens: nn.Parameter | None = None
        if config.has_cls_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        if config.num_register_tokens:
            self.register_tokens = nn.Parameter(torch.empty(1, config.num_register_tokens, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, pixel_values: torch.Tensor | None = None, pixel_values_videos: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        pixel_values: images `(batch, channels, height, width)`, float (normalized) or uint8 (raw).
        pixel_values_videos: clips `(batch, frames, channels, height, width)`, float or uint8. Exactly one of the two is given.

        Returns `(batch, tokens, hidden_size)`. Raises `ValueError` for both or neither, for a wrong rank, channel count or
        dtype, and for a size that the tubes do not fit.
        """
        if pixel_values is not None and pixel_values_videos is None:
            self._check_input(pixel_values, "pixel_values", "batch, channels, height, width")
            video = pixel_values[:, None]
        elif pixel_values_videos is not None and pixel_values is None:
            self._check_input(pixel_values_videos, "pixel_values_videos", "batch, frames, channels, height, width")
            video = pixel_values_videos
        else:
            raise ValueError("Give exactly one of pixel_values (images) and pixel_values_videos (clips).")
        size = static_size((video.shape[1], video.shape[3], video.shape[4]))
        indices, tubes = self._tubes_for(size, is_image=pixel_values is not None)

        tokens = torch.cat([self.project(video, tube, i) for i, tube in zip(indices, tubes, strict=True)], dim=1)
        # In the weights' dtype: under autocast the products are in half precision, but positions are added in full precision.
        tokens = tokens.to(self.dtype)
        positions = self.positions(tubes, indices, size, tokens)
        if positions is not None:
            tokens = tokens + positions
        for prefix in (self.register_tokens, self.cls_token):  # CLS becomes the first token
            if prefix is not None:
                tokens = torch.cat((prefix.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return self.dropout(tokens)

    def set_tubes(self, config: TubeViTConfig) -> None:
        """Tokenize with the tubes of `config`, which fit the kernels."""
        self.tubes = tuple(config.get_tubes())
        self.image_tubes = {index: tube.on_image() for index, tube in enumerate(self.tubes) if tube.is_image_tube}

    def rotary(
        self, tokens: torch.Tensor, pixel_values: torch.Tensor | None, pixel_values_videos: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """
        Rotary positions of `tokens` `(batch, tokens, hidden_size)`, which `forward` computed from these pixels: cosine and
        sine, each `(tokens, head_dim)`. `None` if the model has no rotary positions.
        """
        if self.rotary_positions is None:
            return None
        return self.rotary_positions(*self.tubes_and_size(pixel_values, pixel_values_videos), tokens)

    def attention_bias(
        self, tokens: torch.Tensor, pixel_values: torch.Tensor | None, pixel_values_videos: torch.Tensor | None
    ) -> torch.Tensor | None:
        """As `rotary`, for the relative positions: `(1, heads, tokens, tokens)`, `None` if the model has other positions."""
        if not isinstance(self.positions, TubeViTRelativePositions):
            return None
        tubes, size = self.tubes_and_size(pixel_values, pixel_values_videos)
        return self.positions.attention_bias(tubes, size, tokens, self.num_prefix_tokens)

    def clip_tubes(self, pixel_values_videos: torch.Tensor) -> tuple[list[int], tuple[Tube, ...], Size]:
        """
        The tubes that tokenize clips: their indices in the config, the tubes, and the size of a clip. Raises `ValueError` as `forward`.
        """
        self._check_input(pixel_values_videos, "pixel_values_videos", "batch, frames, channels, height, width")
        size = static_size((pixel_values_videos.shape[1], pixel_values_videos.shape[3], pixel_values_videos.shape[4]))
        return *self._tubes_for(size, is_image=False), size

    def num_tokens_per_tube(self, size: Size, is_image: bool = False) -> list[int]:
        """Number of tokens of each tube that tokenizes a clip (or an image) of `size`, (frames, height, width), in their order."""
        return [tube.num_tokens(size) for tube in self._tubes_for(size, is_image)[1]]

    def tubes_and_size(
        self, pixel_values: torch.Tensor | None, pixel_values_videos: torch.Tensor | None
    ) -> tuple[tuple[Tube, ...], Size]:
        """The tubes that tokenized these pixels, and the size of the clip or image. `forward` has checked the pixels."""
        is_image = pixel_values is not None
        pixels = pixel_values if is_image else pixel_values_videos
        assert pixels is not None
        size = static_size((1 if is_image else pixels.shape[1], pixels.shape[-2], pixels.shape[-1]))
        return self._tubes_for(size, is_image)[1], size

    def _tubes_for(self, size: Size, is_image: bool) -> tuple[list[int], tuple[Tube, ...]]:
        """Indices of the tubes that tokenize a clip or image of `size`, and the tubes as they are applied to it."""
        candidates = self.image_tubes if is_image else dict(enumerate(self.tubes))
        if not candidates:
            raise ValueError(
                "This model cannot take images: it has no tube whose kernel spans one frame, such as 1x16x16."
            )
        indices = select_tubes(candidates, size, self.allow_missing_tubes)
        return indices, tuple(candidates[index] for index in indices)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the kernels."""
        return self._kernel_module(0).weight.dtype

    def projection_of(self, index: int) -> TubeViTTubeProjection | None:
        """The kernel of the tube with this index in the config; `None` if it uses the interpolated kernel."""
        if self.interpolated_kernel is not None:
            if not self.tubes[index].is_image_tube:
                return None
            index = sum(tube.is_image_tube for tube in self.tubes[:index])
        return cast(TubeViTTubeProjection, self.projections[index])

    def kernel(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Weight `(hidden_size / S, channels, *kernel_size)` and bias `(hidden_size / S,)` of the tube with this index in the
        config: its own kernel, or the interpolated kernel resized to it.
        """
        kernel = self._kernel_module(index)
        if isinstance(kernel, TubeViTInterpolatedKernel):
            return kernel(self.tubes[index])
        return kernel.weight, kernel.bias

    def kernel_parameters(self, index: int) -> list[nn.Parameter]:
        """The parameters of the kernel of the tube with this index in the config, its own or the interpolated one."""
        return list(self._kernel_module(index).parameters())

    def _kernel_module(self, index: int) -> TubeViTTubeProjection | TubeViTInterpolatedKernel:
        kernel = self.projection_of(index) or self.interpolated_kernel
        assert kernel is not None  # projection_of returns None only if there is an interpolated kernel
        return kernel

    def project(self, video: torch.Tensor, tube: Tube, index: int) -> torch.Tensor:
        """The tokens of one tube, `(batch, tokens, hidden_size)`."""
        size = static_size((video.shape[1], video.shape[3], video.shape[4]))
        # Not when compiling: the comparison would add guards on sizes, and the compiler fuses the two copies itself.
        by_token = not torch.compiler.is_compiling() and (
            tube.kernel_grid(size) == tuple(map(mul, tube.grid(size), tube.space_to_depth))
        )
        pixels = gather_tube(video, tube, by_token)
        dtype = self.dtype
        if pixels.dtype == torch.uint8:
            if dtype == torch.float16:
                check_pixel_range(*self.table_settings, FLOAT16_MAX)
            pixels = self._normalize(pixels, dtype)
        pixels = pixels.to(dtype)
        if self.use_frame_differences and tube.kernel_size[0] > 1:
            pixels = self.frame_difference(pixels)
        outputs = self._apply_kernel(pixels, tube, index)
        if by_token:
            return outputs.reshape(outputs.shape[0], -1, outputs.shape[2] * tube.num_merged)
        return merge_applications(outputs, tube, size)

    def _apply_kernel(self, pixels: torch.Tensor, tube: Tube, index: int) -> torch.Tensor:
        """pixels: as from `gather_tube`. Returns `(batch, applications, hidden_size / S)`."""
        kernel = self._kernel_module(index)
        return project(pixels, *kernel(tube)) if isinstance(kernel, TubeViTInterpolatedKernel) else kernel(pixels)

    def _normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`(pixel * rescale_factor - mean) / std` per channel in at least float32, as the processors compute it."""
        dtype = torch.promote_types(dtype, torch.float32)
        scale, shift = _scale_and_shift(pixels, self, dtype, pixels.device)
        return pixels.to(dtype).mul_(scale).add_(shift)  # in place on the new copy: a broadcast addcmul is slower

    def _check_input(self, pixels: torch.Tensor, name: str, axes: str) -> None:
        rank = axes.count(",") + 1
        shape = tuple(pixels.shape)
        if pixels.dim() != rank:
            hint = " Only the classification models take several views of a clip." if pixels.dim() == 6 else ""
            raise ValueError(f"{name} must have {rank} axes ({axes}), got {len(shape)} of shape {shape}.{hint}")
        if pixels.shape[-3] != self.num_channels:
            raise ValueError(
                f"{name} must have {self.num_channels} channels on axis {rank - 3} ({axes}), got {pixels.shape[-3]} in "
                f"shape {shape}."
            )
        if 0 in shape:
            raise ValueError(f"{name} is empty: its shape is {shape} ({axes}).")
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise ValueError(f"{name} must be float (normalized) or uint8 (raw pixels), got {pixels.dtype}.")
        if self.check_pixels and pixels.is_floating_point() and not torch.isfinite(pixels).all():
            position = tuple((~torch.isfinite(pixels)).nonzero()[0].tolist())
            raise ValueError(f"{name} contains NaN or inf at index {position} ({axes}).")
