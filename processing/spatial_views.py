# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Spatial views: the crops of a frame after its short side was resized.

A single view is the center crop. Several views are evenly spaced along the side that the crop covers least, from one end to
the other (the paper evaluates 3, sec. 4.1); for square crops this is the longer side. An odd number includes the center crop.
Coordinates are in pixels, in the order height, width.
"""

import torch
from transformers.utils import logging


logger = logging.get_logger(__name__)


def crop_corners(
    frame_size: tuple[int, int], crop_size: tuple[int, int], num_views: int = 1, rounds_up: bool = False
) -> list[tuple[int, int]]:
    """
    Top left corner (top, left) of each view, in pixels; sizes are (height, width), and the frame is no smaller than the crop.

    rounds_up: whether half pixels are rounded up, as in SlowFast, instead of down, as in Transformers.

    >>> crop_corners((224, 298), (224, 224))
    [(0, 37)]
    >>> crop_corners((398, 224), (224, 224), num_views=3)
    [(0, 0), (87, 0), (174, 0)]
    """
    slack = [frame - crop for frame, crop in zip(frame_size, crop_size, strict=True)]
    top, left = ((each + rounds_up) // 2 for each in slack)
    if num_views == 1:
        return [(top, left)]
    if slack[0] > slack[1]:
        return [(start, left) for start in _starts(slack[0], num_views, rounds_up)]
    return [(top, start) for start in _starts(slack[1], num_views, rounds_up)]


def _starts(slack: int, num_views: int, rounds_up: bool) -> list[int]:
    last = num_views - 1
    return [(view * slack + (last - 1 if rounds_up else 0)) // last for view in range(num_views)]


def crop_views(
    frames: torch.Tensor, crop_size: tuple[int, int], num_views: int = 1, rounds_up: bool = False
) -> list[torch.Tensor]:
    """
    The spatial views of `frames`, `(..., height, width)`: `num_views` tensors `(..., crop height, crop width)`.

    The views share memory with `frames`. A side shorter than the crop is first zero-padded at both ends, as in the center
    crop of Transformers, with a warning. rounds_up: as in `crop_corners`.
    """
    frames = pad_to(frames, crop_size)
    height, width = crop_size
    return [
        frames[..., top : top + height, left : left + width]
        for top, left in crop_corners((frames.shape[-2], frames.shape[-1]), crop_size, num_views, rounds_up)
    ]


def split_views(
    video: torch.Tensor,
    num_temporal_views: int,
    num_spatial_views: int,
    crop: tuple[int, int] | None,
    rounds_up: bool = False,
) -> torch.Tensor:
    """
    Split frames `(clips * frames, channels, height, width)` into views `(views, frames, channels, height, width)`.

    View `t * num_spatial_views + s` is crop `s` of clip `t`. A single view has no views axis.

    crop: (height, width) of the crops; read only if there are several spatial views. rounds_up: as in `crop_corners`.
    """
    if num_temporal_views * num_spatial_views == 1:
        return video
    clips = video.unflatten(0, (num_temporal_views, -1))
    if num_spatial_views == 1:
        return clips
    assert crop is not None
    return torch.stack(crop_views(clips, crop, num_spatial_views, rounds_up), dim=1).flatten(0, 1)


def pad_to(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Zero-pad `frames`, `(..., height, width)`, on all sides to at least `size` (height, width)."""
    missing = [max(0, target - actual) for target, actual in zip(size, frames.shape[-2:], strict=True)]
    if not any(missing):
        return frames
    logger.warning_once(
        f"Frames of {frames.shape[-2]}x{frames.shape[-1]} are smaller than the crop, {size[0]}x{size[1]}: they get black borders. "
        "Set a larger size to avoid them."
    )
    before = [count // 2 for count in missing]
    left, top, right, bottom = before[1], before[0], missing[1] - before[1], missing[0] - before[0]
    return torch.nn.functional.pad(frames, (left, right, top, bottom))
