# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Pixels to tokens: the sparse tube tokenizer of TubeViT (sections 3.2 and 3.4), for clips and images alike.

The four tubes of the main configuration read 12 % of a clip's pixels, so nothing here touches a whole clip: each tube's
pixels are gathered from a strided view, and one matrix product makes its tokens. Clips in uint8 are normalised after
the gather, which leaves a tenth of the work and a quarter of the bytes of normalising them beforehand.
"""

from functools import lru_cache

import torch
from torch import nn

from .configuration_tubevit import TubeViTConfig
from .position_embeddings import position_embedding
from .tubes import Size, Tube, select_tubes


def gather_tube(video: torch.Tensor, tube: Tube) -> torch.Tensor:
    """
    The pixels under every application of a tube.

    video: `(batch, frames, channels, height, width)`, any dtype and memory layout; it is not copied as a whole.

    Returns a new tensor `(batch, tokens, channels, kernel_t, kernel_h, kernel_w)`, tokens in (time, height, width) order.
    """
    (frames, rows, columns), (stride_t, stride_h, stride_w) = tube.kernel_size, tube.stride
    offset_t, offset_h, offset_w = tube.offset
    windows = video[:, offset_t:, :, offset_h:, offset_w:]
    windows = windows.unfold(1, frames, stride_t).unfold(3, rows, stride_h).unfold(4, columns, stride_w)
    # (batch, nt, channels, nh, nw, kt, kh, kw) -> (batch, nt, nh, nw, channels, kt, kh, kw)
    return windows.permute(0, 1, 3, 4, 2, 5, 6, 7).flatten(1, 3)


@lru_cache(maxsize=8)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], rescale_factor: float, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """`scale` and `shift`, `(channels, 1, 1, 1)`, that normalise raw pixels; kept, so that no call waits for a copy."""
    with torch.inference_mode(False):
        std, mean = (torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1, 1) for values in (std, mean))
        return rescale_factor / std, -mean / std


class TubeViTTubeProjection(nn.Module):
    """
    The kernel of one tube: the weights of a `Conv3d`, applied as one matrix product to gathered pixels.

    weight: `(hidden_size, channels, kernel_t, kernel_h, kernel_w)`. bias: `(hidden_size,)`.
    """

    def __init__(self, num_channels: int, hidden_size: int, tube: Tube):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden_size, num_channels, *tube.kernel_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: `(batch, tokens, channels, kernel_t, kernel_h, kernel_w)`. Returns `(batch, tokens, hidden_size)`."""
        return nn.functional.linear(pixels.flatten(2), self.weight.flatten(1), self.bias)

    def extra_repr(self) -> str:
        hidden_size, num_channels, *kernel_size = self.weight.shape
        return f"{num_channels}, {hidden_size}, kernel_size={tuple(kernel_size)}"


class TubeViTEmbeddings(nn.Module):
    """
    Tube tokens with their positions; in front of them a CLS token when the model pools by it.

    A clip is tokenized by every tube, an image by the 2D tubes alone, with the same weights.
    """

    def __init__(self, config: TubeViTConfig):
        super().__init__()
        self.tubes = tuple(config.get_tubes())
        self.num_channels = config.num_channels
        self.allow_missing_tubes = config.allow_missing_tubes
        self.check_pixels = config.check_pixels
        self.image_mean, self.image_std = map(tuple, config.get_pixel_statistics())
        self.rescale_factor = config.rescale_factor
        self.projections = nn.ModuleList(
            [TubeViTTubeProjection(config.num_channels, config.hidden_size, tube) for tube in self.tubes]
        )
        self.position_temperature = config.position_temperature
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size)) if config.pooling == "cls" else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, pixel_values: torch.Tensor | None = None, pixel_values_videos: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        pixel_values: images `(batch, channels, height, width)`, or
        pixel_values_videos: clips `(batch, frames, channels, height, width)`; float (normalised) or uint8 (raw).

        Returns `(batch, tokens, hidden_size)`. Raises `ValueError` for both or neither, for a wrong rank, channel count or
        dtype, and for a size that the tubes do not fit.
        """
        if (pixel_values is None) == (pixel_values_videos is None):
            raise ValueError("Give exactly one of pixel_values (images) and pixel_values_videos (clips).")
        if pixel_values is not None:
            self._check_input(pixel_values, "pixel_values", "batch, channels, height, width")
            video = pixel_values[:, None]
        else:
            self._check_input(pixel_values_videos, "pixel_values_videos", "batch, frames, channels, height, width")
            video = pixel_values_videos
        size = (video.shape[1], video.shape[3], video.shape[4])
        indices, tubes = self._tubes_for(size, is_image=pixel_values is not None)

        tokens = torch.cat(
            [self._project(video, tube, self.projections[i]) for i, tube in zip(indices, tubes, strict=True)], 1
        )
        # In the weights' dtype: under autocast the tokens are in half precision, and the sum is not.
        dtype = self.projections[0].weight.dtype
        tokens = tokens + position_embedding(tubes, size, self.position_temperature, tokens, dtype)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return self.dropout(tokens)

    def _tubes_for(self, size: Size, is_image: bool) -> tuple[list[int], tuple[Tube, ...]]:
        """Which tubes tokenize a clip or image of `size`: their indices, and the tubes as they are applied."""
        candidates = dict(enumerate(self.tubes))
        if is_image:
            candidates = {index: tube.on_image() for index, tube in candidates.items() if tube.is_image_tube}
        if not candidates:
            raise ValueError(
                "This model cannot take images: none of its tubes has a kernel that spans one frame, such as 1x16x16."
            )
        indices = select_tubes(candidates, size, self.allow_missing_tubes)
        return indices, tuple(candidates[index] for index in indices)

    def _project(self, video: torch.Tensor, tube: Tube, projection: TubeViTTubeProjection) -> torch.Tensor:
        pixels = gather_tube(video, tube)
        if pixels.dtype == torch.uint8:
            pixels = self._normalize(pixels, projection.weight.dtype)
        return projection(pixels.to(projection.weight.dtype))

    def _normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`(pixel * rescale_factor - mean) / std` per channel, as the processors do it, in float32 or better."""
        dtype = torch.promote_types(dtype, torch.float32)
        make = _scale_and_shift.__wrapped__ if torch.compiler.is_compiling() else _scale_and_shift
        scale, shift = make(self.image_mean, self.image_std, self.rescale_factor, dtype, pixels.device)
        return pixels.to(dtype).mul_(scale).add_(shift)  # in place on the fresh copy: a broadcast addcmul is slower

    def _check_input(self, pixels: torch.Tensor, name: str, axes: str) -> None:
        rank = axes.count(",") + 1
        shape = tuple(pixels.shape)
        if pixels.dim() != rank:
            hint = " Only the classification heads take several views of a clip." if pixels.dim() == 6 else ""
            raise ValueError(f"{name} must have {rank} axes ({axes}), got {len(shape)} of shape {shape}.{hint}")
        if pixels.shape[-3] != self.num_channels:
            raise ValueError(
                f"{name} must have {self.num_channels} channels on axis {rank - 3} ({axes}), got {pixels.shape[-3]} in "
                f"shape {shape}."
            )
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise ValueError(f"{name} must be float (normalised) or uint8 (raw pixels), got {pixels.dtype}.")
        if self.check_pixels and pixels.is_floating_point() and not torch.isfinite(pixels).all():
            position = tuple((~torch.isfinite(pixels)).nonzero()[0].tolist())
            raise ValueError(f"{name} holds a value that is not finite at index {position} ({axes}).")
