# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Converts PIL images, NumPy arrays and torch tensors to tensors `(channels, height, width)`.

The image and the video processor share this code, so that an image and a video frame with the same content get the same
pixels. Values range from 0 to 255: integers become uint8, floats become float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import ChannelDimension
from transformers.utils import logging


logger = logging.get_logger(__name__)

CHANNELS = (1, 3, 4)  # gray, RGB, RGB with alpha


class FrameSequence:
    """
    The decoded frames of one video; `sequence[i]` is frame `i` as a tensor `(channels, height, width)`.

    A frame is converted on access, so frames that are not sampled cost nothing. Tensors share memory with the input
    array if possible.

    frames: a 4-dimensional array or tensor, or a list of PIL images or of 3-dimensional arrays or tensors.
    input_data_format: "channels_first" or "channels_last"; `None` infers it from the number of channels.

    Raises `ValueError` for an empty list of frames, or if neither axis can be the channels.
    """

    def __init__(self, frames: Sequence, input_data_format: str | None = None):
        if len(frames) == 0:
            raise ValueError("The video has no frames.")
        self.frames = frames
        self.channels_last = isinstance(frames[0], Image.Image) or channels_are_last(
            frames[0].shape, input_data_format
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        return frame_to_tensor(self.frames[index], self.channels_last)


def frame_to_tensor(frame: Image.Image | np.ndarray | torch.Tensor, channels_last: bool) -> torch.Tensor:
    """
    One PIL image, or array or tensor of 3 dimensions, to a tensor `(channels, height, width)`.

    Raises `ValueError` for an empty frame or pixels outside of 0 to 255, `TypeError` for complex or boolean pixels.
    """
    if isinstance(frame, Image.Image):
        frame, channels_last = _pil_to_array(frame), True
    if isinstance(frame, np.ndarray):
        frame = _array_to_tensor(frame)
    if frame.numel() == 0:
        raise ValueError(f"A frame of shape {tuple(frame.shape)} has no pixels.")
    frame = _to_pixel_dtype(frame)
    return frame.permute(2, 0, 1) if channels_last else frame


def channels_are_last(frame_shape: Sequence[int], input_data_format: str | None = None) -> bool:
    """Whether the channels are the last axis of a frame, by `input_data_format`, or if it is `None`, by `frame_shape`."""
    if input_data_format is not None:
        return input_data_format == ChannelDimension.LAST
    first, last = frame_shape[0] in CHANNELS, frame_shape[-1] in CHANNELS
    if not first and not last:
        raise ValueError(
            f"A frame needs 1, 3 or 4 channels on its first or last axis, got shape {tuple(frame_shape)}; "
            "pass input_data_format='channels_first' or 'channels_last'."
        )
    if first and last:
        logger.warning_once(
            f"Frames of shape {tuple(frame_shape)} could have their channels first or last; assuming channels_first. "
            "Pass input_data_format to choose."
        )
    return not first


def check_channels(num_channels: int, do_convert_rgb: bool | None, image_mean: float | Sequence[float] | None) -> None:
    """Raise `ValueError` if the frames cannot be converted to RGB, or if `image_mean` (if given) has another length."""
    if do_convert_rgb and num_channels not in CHANNELS:
        raise ValueError(
            f"Only 1, 3 or 4 channels can be converted to RGB, got {num_channels}; set do_convert_rgb=False."
        )
    if isinstance(image_mean, Sequence) and len(image_mean) not in (1, 3 if do_convert_rgb else num_channels):
        raise ValueError(
            f"image_mean has {len(image_mean)} values for {3 if do_convert_rgb else num_channels} channels; give one value "
            "per channel, or set do_convert_rgb=True for three."
        )


def flatten_images(images: Any) -> list:
    """
    Flattens nested lists and batches of images to one list of PIL images, or arrays or tensors of 2 or 3 dimensions, in order.

    Raises `ValueError` for an empty list and for arrays of another number of dimensions.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("Got an empty list instead of images.")
        return [image for item in images for image in flatten_images(item)]
    if isinstance(images, Image.Image):
        return [images]
    if images.ndim == 4:
        return list(images)
    if images.ndim in (2, 3):
        return [images]
    raise ValueError(
        "Images are (height, width, channels), (channels, height, width) or (height, width), with a leading batch axis "
        f"for several, got shape {tuple(images.shape)}; for videos use the video processor."
    )


def _pil_to_array(image: Image.Image) -> np.ndarray:
    """Array `(height, width, channels)`: 1 channel for gray, 4 with transparency, otherwise 3."""
    if image.mode == "L":
        return np.array(image)[..., None]
    if image.mode.startswith("I;16"):  # `convert` would clip these at 255
        return (np.array(image) >> 8).astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):  # value range unknown: `_to_pixel_dtype` checks it
        return np.array(image)[..., None]
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    return np.array(image.convert("RGBA" if has_alpha else "RGB"))


def _array_to_tensor(frame: np.ndarray) -> torch.Tensor:
    # torch supports neither negative strides (`frames[..., ::-1]`) nor read-only memory.
    if not frame.flags.writeable or any(stride < 0 for stride in frame.strides):
        frame = frame.copy()
    try:
        return torch.from_numpy(frame)
    except TypeError:
        raise TypeError(f"Pixels must be integers from 0 to 255 or floats, got dtype {frame.dtype}.") from None


def _to_pixel_dtype(frame: torch.Tensor) -> torch.Tensor:
    """uint8 for integers, float32 for floats."""
    if frame.dtype == torch.uint8:
        return frame
    if frame.is_floating_point():
        if not torch.isfinite(frame).all():
            raise ValueError("Pixels must be finite, got NaN or infinity.")
        return frame.float()
    if frame.is_complex() or frame.dtype == torch.bool:
        raise TypeError(f"Pixels must be integers from 0 to 255 or floats, got dtype {frame.dtype}.")
    wide = frame.to(torch.int64)  # torch has no `min` for unsigned integers other than uint8
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"Integer pixels must be from 0 to 255, got {low} to {high} (dtype {frame.dtype}); rescale them first."
        )
    return frame.to(torch.uint8)
