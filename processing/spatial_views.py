# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Where the spatial views of a frame lie: crop geometry after the short side was resized.

One view is the centre crop. More views are spaced evenly along the longer side, from one end to the other (the paper
evaluates 3, sec. 4.1); an odd number of them contains the centre crop. All coordinates are corners in pixels, in the
order height, width.
"""

import torch


def crop_corners(frame_size: tuple[int, int], crop_size: tuple[int, int], num_views: int = 1) -> list[tuple[int, int]]:
    """
    Top left corner (top, left) of each view of a frame; sizes are (height, width) and the crop fits into the frame.

    >>> crop_corners((224, 298), (224, 224))
    [(0, 37)]
    >>> crop_corners((398, 224), (224, 224), num_views=3)
    [(0, 0), (87, 0), (174, 0)]
    """
    slack = [frame - crop for frame, crop in zip(frame_size, crop_size, strict=True)]
    top, left = slack[0] // 2, slack[1] // 2
    if num_views == 1:
        return [(top, left)]
    if frame_size[0] > frame_size[1]:
        return [(view * slack[0] // (num_views - 1), left) for view in range(num_views)]
    return [(top, view * slack[1] // (num_views - 1)) for view in range(num_views)]


def crop_views(frames: torch.Tensor, crop_size: tuple[int, int], num_views: int = 1) -> list[torch.Tensor]:
    """
    The spatial views of `frames`, `(..., height, width)`: `num_views` tensors `(..., crop height, crop width)`.

    The views share the memory of `frames`. A side shorter than the crop is first padded with zeros on both ends, as the
    library's centre crop does.
    """
    frames = pad_to(frames, crop_size)
    height, width = crop_size
    return [
        frames[..., top : top + height, left : left + width]
        for top, left in crop_corners(tuple(frames.shape[-2:]), crop_size, num_views)
    ]


def split_views(
    video: torch.Tensor, num_temporal_views: int, num_spatial_views: int, crop: tuple[int, int] | None
) -> torch.Tensor:
    """
    `(clips * frames, channels, height, width)` to `(frames, ...)` for one view, else `(views, frames, ...)`, temporal-major.

    crop: (height, width) of the views where there are several spatial ones.
    """
    if num_temporal_views * num_spatial_views == 1:
        return video
    clips = video.unflatten(0, (num_temporal_views, -1))
    if num_spatial_views == 1:
        return clips
    return torch.stack(crop_views(clips, crop, num_spatial_views), dim=1).flatten(0, 1)


def pad_to(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`frames`, `(..., height, width)`, with zeros around them up to `size`; unchanged where they are large enough."""
    missing = [max(0, target - actual) for target, actual in zip(size, frames.shape[-2:], strict=True)]
    if not any(missing):
        return frames
    before = [count // 2 for count in missing]
    left, top, right, bottom = before[1], before[0], missing[1] - before[1], missing[0] - before[0]
    return torch.nn.functional.pad(frames, (left, right, top, bottom))
