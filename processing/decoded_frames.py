# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Converts PIL images, NumPy arrays and torch tensors to tensors `(channels, height, width)`.

The image and the video processor share this code, so that an image and a video frame with the same content get the same
pixels. Integers become uint8, floats become float32. Values are never guessed: `PixelFormat` compares their range with the
range that the processor's settings expect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2  # type: ignore[import-untyped]
from transformers.image_utils import ChannelDimension
from transformers.utils import logging


logger = logging.get_logger(__name__)

CHANNELS = (1, 3, 4)  # gray, RGB, RGB with alpha
OVERSHOOT = 0.5  # bicubic interpolation of floats exceeds their range
# Floats from 0 to 255 that never reach this value show next to nothing; floats from 0 to 1 never reach it.
MIN_BRIGHTNESS = 2
MAX_NORMALIZED = 32  # no usual mean and standard deviation give larger pixels
MAX_UNIT_MEAN = 2  # a larger mean is one of pixels from 0 to 255


@dataclass(frozen=True)
class PixelFormat:
    """
    The number of channels that a processor returns, and the range of pixels that it expects, by its settings of these names.
    """

    do_convert_rgb: bool | None
    do_rescale: bool | None
    rescale_factor: float
    do_normalize: bool | None
    image_mean: float | Sequence[float] | None
    image_std: float | Sequence[float] | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "PixelFormat":
        """The format of these settings, or of the attributes of a processor (`vars(processor)`)."""
        return cls(**{each.name: settings[each.name] for each in fields(cls)})

    @property
    def num_channels(self) -> int:
        """Channels of the processor's pixels: 3 with `do_convert_rgb`, else the number of values of the statistics."""
        statistics = (self.image_mean, self.image_std)
        lengths = [len(values) for values in statistics if isinstance(values, Sequence)]
        return 3 if self.do_convert_rgb else max(lengths, default=1)

    @property
    def maximum(self) -> int | None:
        """The largest pixel value that the settings are made for, 255 or 1; `None` if the settings take any."""
        if self.do_rescale:
            return 255 if abs(self.rescale_factor) < 0.1 else None
        if not self.do_normalize or self.image_mean is None:
            return None
        means = self.image_mean if isinstance(self.image_mean, Sequence) else [self.image_mean]
        return 255 if max(means) > MAX_UNIT_MEAN else 1

    def to_channels(self, frames: torch.Tensor) -> torch.Tensor:
        """
        Frames `(..., channels, height, width)` with `num_channels` channels. Gray is repeated for RGB, alpha is dropped, and
        colors become gray by their luma (ITU-R BT.601), as in PIL.

        Raises `ValueError` for frames that cannot be converted.
        """
        if self.do_convert_rgb and frames.shape[-3] == 1:
            frames = frames.expand(*frames.shape[:-3], 3, -1, -1)
        elif self.do_convert_rgb and frames.shape[-3] == 4:
            frames = frames[..., :3, :, :]
        elif self.num_channels == 1 and frames.shape[-3] in (3, 4):
            frames = v2.functional.rgb_to_grayscale(frames[..., :3, :, :])
        self._check_channels(frames.shape[-3])
        return frames

    def _check_channels(self, num_channels: int) -> None:
        if self.do_convert_rgb and num_channels not in CHANNELS:
            raise ValueError(
                f"Only 1, 3 or 4 channels can be converted to RGB, got {num_channels}; set do_convert_rgb=False."
            )
        for name, values in (("image_mean", self.image_mean), ("image_std", self.image_std)):
            if self.do_normalize and isinstance(values, Sequence) and len(values) not in (1, num_channels):
                raise ValueError(
                    f"{name} has {len(values)} values for {num_channels} channels; give one value per channel, or set "
                    "do_convert_rgb=True for three."
                )

    def check_range(self, low: float, high: float) -> None:
        """Raise `ValueError` for pixels whose smallest and largest value show that the settings are made for other pixels."""
        if low == high == 0:
            return
        if self.maximum is None:
            if not (self.do_rescale or self.do_normalize) and high > MAX_NORMALIZED:
                logger.warning_once(
                    f"Float pixels up to {high:.4g} are not normalized, because do_rescale and do_normalize are False. The "
                    "model normalizes uint8 pixels only: pass uint8 frames."
                )
            return
        found = f"got pixels from {low:.4g} to {high:.4g}"
        if self.maximum == 1 and high > MIN_BRIGHTNESS:
            raise ValueError(
                f"do_rescale=False with image_mean={self.image_mean} is for pixels from 0 to 1, {found}: set do_rescale=True."
            )
        if low < -OVERSHOOT:
            raise ValueError(
                f"Pixels must be from 0 to {self.maximum}, {found}: set do_rescale=False and do_normalize=False for pixels "
                "that are normalized already."
            )
        if self.maximum == 255 and high > 255 + OVERSHOOT:
            raise ValueError(f"Pixels must be from 0 to 255, {found}: scale or clip them first.")
        if self.maximum == 255 and high < MIN_BRIGHTNESS:
            hint = (
                "set do_rescale=False for pixels that are rescaled already"
                if self.do_rescale
                else "set do_rescale=True with image_mean and image_std for pixels from 0 to 1"
            )
            raise ValueError(f"Float pixels must be from 0 to 255, {found}: {hint}, or pass uint8 pixels.")

    def check_integers(self, frames: torch.Tensor) -> None:
        """Raise `ValueError` for uint8 frames if the settings are made for pixels from 0 to 1."""
        if self.maximum == 1 and frames.dtype == torch.uint8 and frames.numel():
            self.check_range(0, int(frames.max()))


class FrameSequence:
    """
    The decoded frames of one video; `sequence[i]` is frame `i` as a tensor `(channels, height, width)`.

    A frame is converted on access, so frames that are not sampled cost nothing. Tensors share memory with the input
    array if possible.

    frames: a 4-dimensional array or tensor, or a list of PIL images or of 3-dimensional arrays or tensors.
    input_data_format: "channels_first" or "channels_last"; `None` infers it from the number of channels.
    pixel_format: of the processor; `None` does not check the range of float frames.

    Raises `ValueError` for an empty list of frames, if neither axis can be the channels, or for floats of another range than
    that of `pixel_format`. The range is that of the whole video, because a single frame may be dark.
    """

    def __init__(
        self, frames: Sequence, input_data_format: str | None = None, pixel_format: PixelFormat | None = None
    ):
        if len(frames) == 0:
            raise ValueError("The video has no frames.")
        if pixel_format is not None and (found := _range_of_floats(frames)) is not None:
            pixel_format.check_range(*found)
        self.frames = frames
        self.channels_last = isinstance(frames[0], Image.Image) or channels_are_last(
            frames[0].shape, input_data_format
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        return frame_to_tensor(self.frames[index], self.channels_last)


def _range_of_floats(frames: Sequence) -> tuple[float, float] | None:
    """Smallest and largest value of the float frames; `None` without float frames, or if a value is NaN or inf."""
    low, high = float("inf"), float("-inf")
    for frame in [frames] if isinstance(frames, (np.ndarray, torch.Tensor)) else frames:
        if isinstance(frame, Image.Image):
            if frame.mode != "F":
                continue
            frame = np.array(frame)
        is_float = frame.is_floating_point() if isinstance(frame, torch.Tensor) else frame.dtype.kind == "f"
        if is_float and 0 not in frame.shape:
            low, high = min(low, float(frame.min())), max(high, float(frame.max()))
            if not (np.isfinite(low) and np.isfinite(high)):
                return None  # `_to_pixel_dtype` raises
    return None if low > high else (low, high)


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


def flatten_images(images: Any) -> list:
    """
    Flattens nested lists and batches of images to one list of PIL images, or arrays or tensors of 2 or 3 dimensions, in order.

    Raises `ValueError` for an empty list or batch and for arrays of another number of dimensions.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("Got an empty list instead of images.")
        return [image for item in images for image in flatten_images(item)]
    if isinstance(images, Image.Image):
        return [images]
    if images.ndim == 4 and not len(images):
        raise ValueError(f"Got an empty batch of images, of shape {tuple(images.shape)}.")
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
