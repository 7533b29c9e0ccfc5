# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video processor of UniFormerV2: frames and pixels as in the authors' code, with the decoding, views and inputs of the TubeViT processor.

It differs in the frames of `sampling="uniform"`, in resizing (bilinear without antialiasing, on floats), in the crops (half a pixel is
rounded up), and in the statistics of the pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import Unpack
from transformers.video_utils import VideoMetadata

from .decoded_frames import PixelFormat
from .processor_settings import FLAG
from .video_processing_tubevit import VIDEO_RULES, TubeViTVideoProcessor, TubeViTVideoProcessorKwargs


def segment_clips(total_num_frames: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """
    The frames of test clips: with segments of `s = (total - 1) / num_frames` frames, clip `k` has the frames
    `round(s i) + trunc(s / (num_clips + 1) (k + 1))`, where half is rounded to even, at most the last frame.

    Returns int64 frame indices `(num_clips, num_frames)`. A short video repeats frames.

    >>> segment_clips(37, 8, num_clips=3)[0].tolist()
    [1, 5, 10, 15, 19, 23, 28, 33]
    """
    segment = (total_num_frames - 1) / num_frames
    starts = np.rint(segment * np.arange(num_frames)).astype(np.int64)
    shifts = np.trunc(segment / (num_clips + 1) * np.arange(1, num_clips + 1)).astype(np.int64)
    return np.minimum(starts + shifts[:, None], total_num_frames - 1)


def random_segment_clips(total_num_frames: int, num_frames: int, offsets: np.ndarray) -> np.ndarray:
    """
    The frames of training clips: a random frame from `round(s i)` to `round(s (i + 1))`, both included.

    offsets: positions in [0, 1) within the segments, `(num_clips, num_frames)`.

    Returns int64 frame indices `(num_clips, num_frames)`.
    """
    segment = (total_num_frames - 1) / num_frames
    bounds = np.rint(segment * np.arange(num_frames + 1)).astype(np.int64)
    counts = bounds[1:] - bounds[:-1] + 1
    return np.minimum(bounds[:-1] + np.floor(offsets * counts).astype(np.int64), total_num_frames - 1)


def flip_channels(frames: torch.Tensor) -> torch.Tensor:
    """RGB `(..., channels, height, width)` to BGR; alpha stays last, and gray as it is."""
    channels = frames.shape[-3]
    return frames[..., [2, 1, 0, *range(3, channels)], :, :] if channels >= 3 else frames


class UniFormerV2VideoProcessorKwargs(TubeViTVideoProcessorKwargs, total=False):
    """
    do_flip_channel_order (`bool`, *optional*, defaults to `False`):
        Whether to give the channels as blue, green, red. The authors' Something-Something frames are read so.
    """

    do_flip_channel_order: bool | None


class UniFormerV2VideoProcessor(TubeViTVideoProcessor):
    r"""
    Prepares videos for UniFormerV2 as the authors' code does.

    The settings are those of [`TubeViTVideoProcessor`], and `do_flip_channel_order`. With `sampling="uniform"`, the default, a clip has a frame of
    each of `num_frames` segments; several temporal views shift them; `clip_start="random"` takes a random frame of each segment.
    Short videos repeat frames, so `pad_mode` matters only as `"error"` and with `sampling="fixed_rate"`.

    Published models are evaluated with 4 temporal and 3 spatial views on Kinetics and Moments in Time (2 and 3 with 32 or 64 frames), and 1
    and 3 on Something-Something. A single spatial view is the center crop, on all data sets. The authors' code takes the left (or top) crop
    for a single view of Something-Something; their published scores on it use all three.

    Example:

    ```python
    >>> import numpy as np
    >>> from tubevit.processing import UniFormerV2VideoProcessor

    >>> processor = UniFormerV2VideoProcessor()
    >>> video = np.zeros((40, 240, 320, 3), dtype=np.uint8)
    >>> processor(video, return_tensors="pt").pixel_values_videos.shape
    torch.Size([1, 8, 3, 224, 224])

    ```"""

    valid_kwargs = UniFormerV2VideoProcessorKwargs
    rules = {**VIDEO_RULES, "do_flip_channel_order": FLAG}
    crops_round_up = True
    resizes_as_float = True

    image_mean = [0.45, 0.45, 0.45]
    image_std = [0.225, 0.225, 0.225]
    num_frames = 8
    do_flip_channel_order = False

    def __init__(self, **kwargs: Unpack[UniFormerV2VideoProcessorKwargs]):
        super().__init__(**kwargs)  # type: ignore[misc]  # it declares its own settings only

    def order_channels(self, frames: torch.Tensor) -> torch.Tensor:
        """As in the base class: blue, green, red with `do_flip_channel_order`."""
        return flip_channels(frames) if self.do_flip_channel_order else frames

    def _sample_uniformly(
        self,
        metadata: VideoMetadata,
        num_frames: int | None,
        fps: float | None,
        clip_start: str,
        num_temporal_views: int,
        pad_mode: str,
    ) -> np.ndarray:
        total, count = metadata.total_num_frames, num_frames or self.num_frames
        if fps is not None or (
            pad_mode == "error" and total < count
        ):  # the same error, or number of frames, as in the base class
            return super()._sample_uniformly(metadata, num_frames, fps, clip_start, num_temporal_views, pad_mode)
        if clip_start == "random":
            offsets = torch.rand(num_temporal_views, count, dtype=torch.float64).numpy()
            return random_segment_clips(total, count, offsets)
        return segment_clips(total, count, num_temporal_views)

    def _prepare_frames(  # type: ignore[override]  # one more setting
        self,
        frames: torch.Tensor,
        pixel_format: PixelFormat,
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_flip_channel_order: bool = False,
        **kwargs,
    ) -> torch.Tensor:
        """
        As in the base class. Pixels that are neither rescaled nor normalized afterwards are rounded, and are uint8 as their input.
        """
        if do_flip_channel_order:
            frames = flip_channels(frames)
        if do_resize and resample == PILImageResampling.BILINEAR:
            frames = self._resize_short_side(pixel_format.to_channels(frames), size, pixel_format)
            do_resize = False
        return super()._prepare_frames(
            frames, pixel_format=pixel_format, do_resize=do_resize, size=size, resample=resample, **kwargs
        )

    def _resize_short_side(self, frames: torch.Tensor, size: SizeDict, pixel_format: PixelFormat) -> torch.Tensor:
        height, width = frames.shape[-2:]
        target = _target_size(height, width, size)
        if target == (height, width):
            return frames
        resized = nn.functional.interpolate(frames.float(), size=target, mode="bilinear", align_corners=False)
        keeps_bytes = frames.dtype == torch.uint8 and not (pixel_format.do_rescale or pixel_format.do_normalize)
        return resized.round().to(torch.uint8) if keeps_bytes else resized


def _target_size(height: int, width: int, size: SizeDict) -> tuple[int, int]:
    """(height, width) after resizing: the shorter side gets the size, the longer side is rounded down."""
    if size.shortest_edge is None:
        assert size.height is not None and size.width is not None
        return size.height, size.width
    short = size.shortest_edge
    if min(height, width) == short:  # as in the authors' code; 230 / 224 * 224 rounds to less than 230
        return height, width
    if height < width:
        return short, int(width / height * short)
    return int(height / width * short), short


__all__ = ["UniFormerV2VideoProcessor"]
