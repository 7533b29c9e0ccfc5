# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
From a row of a data set to the pixels of a clip, uint8: at random for training, by a processor's views for evaluation.

The processor's settings say what a clip is (frames, rate, what short videos do, crop size), so training, evaluation and the
saved model cannot differ in it. Frames are cropped and resized while they are decoded; none is kept at full size.
"""

import io
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2

from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor, decode_video

from .augmentation import AugmentationConfig
from .rng import fork_rng


UINT8 = {"do_rescale": False, "do_normalize": False}
REMOTE = ("http://", "https://")  # what the decoder downloads itself


class Clip(NamedTuple):
    """
    pixels: uint8, `(frames, channels, height, width)` of a clip, `(views, frames, ...)` of several, `(channels, ...)` of an image.
    is_mirrored: whether left and right have changed places.
    """

    pixels: torch.Tensor
    is_mirrored: bool


def video_source(video: dict[str, Any]) -> Any:
    """What to decode for a row's undecoded video or image: the row itself, or the bytes of a file of another file system."""
    path = video.get("path")
    if video.get("bytes") is None and path is not None and "://" in path and not path.startswith(REMOTE):
        import fsspec

        with fsspec.open(path, "rb") as file:
            return {"path": path, "bytes": file.read()}
    return video


class RandomClipReader:
    """
    Reads a random clip of a video: a random time, a random crop, mirrored at random.

    With `sampling="fixed_rate"` the clip starts at a random time; with `"uniform"` it takes a random frame of each of
    `num_frames` equal segments (TSN), or if the configuration has a `min_temporal_span`, equally spaced frames of a random part
    of the video. Videos of fewer frames than a clip are padded as the processor does it.

    processor: its `num_frames`, `sampling`, `fps`, `pad_mode` and `crop_size` are used.
    mirror: whether half of the clips are mirrored.
    num_threads: of the decoder; by default one in a data loader's worker, and otherwise one per core.
    """

    media = "video"

    def __init__(
        self,
        processor: TubeViTVideoProcessor,
        config: AugmentationConfig,
        mirror: bool,
        num_threads: int | None = None,
    ):
        self.processor, self.mirror, self.num_threads = processor, mirror, num_threads
        self.min_temporal_span = config.min_temporal_span
        self.crop = _random_crop(processor, config)
        self.squeezes = "height" in dict(processor.size)
        self.shape = (processor.num_frames, 3, *self.crop.size)

    def __call__(self, video: dict[str, Any], seed: int) -> Clip:
        """Raises what `decode_video` raises."""
        with fork_rng(seed):
            mirrored = self.mirror and bool(torch.rand(()) < 0.5)
            pixels, _ = decode_video(
                video_source(video),
                self._sample,
                frame_transform=SameCrop(self.crop, self.squeezes),
                num_threads=self.num_threads,
                allow_partial=self.processor.allow_partial,
            )
        return Clip(v2.functional.horizontal_flip(pixels) if mirrored else pixels, mirrored)

    def _sample(self, metadata):
        num_frames, total = self.processor.num_frames, metadata.total_num_frames
        if self.processor.sampling == "uniform" and self.min_temporal_span is not None and total > num_frames:
            return random_span(total, num_frames, self.min_temporal_span)
        fps = {"fps": self.processor.fps} if self.processor.sampling == "fixed_rate" else {}
        return self.processor.sample_frames(
            metadata, num_frames=num_frames, clip_start="random", num_temporal_views=1, **fps
        )


def random_span(total: int, num_frames: int, min_share: float) -> np.ndarray:
    """
    Indices, int64 `(num_frames,)`, of frames of a random part of `total`, which has at least `min_share` (0 to 1) of them; they
    are equally far apart to within a frame. Two numbers are drawn from torch's generator.

    total: at least `num_frames`.

    >>> random_span(8, 4, min_share=1.0)
    array([1, 3, 5, 7])
    """
    share, start = torch.rand(2).tolist()
    length = max(num_frames, total * (min_share + (1 - min_share) * share))
    first = (total - length) * start
    return np.floor(first + (np.arange(num_frames) + 0.5) * length / num_frames).astype(int)


class RandomImageReader:
    """Reads an image with a random crop, mirrored at random: `RandomClipReader` for images."""

    media = "image"

    def __init__(self, processor: TubeViTImageProcessor, config: AugmentationConfig, mirror: bool):
        self.mirror = mirror
        self.crop = _random_crop(processor, config)
        self.squeezes = "height" in dict(processor.size)
        self.shape = (3, *self.crop.size)

    def __call__(self, image: dict[str, Any], seed: int) -> Clip:
        """Raises `OSError` or `ValueError` for a file that is no image."""
        pixels = read_image(image)
        with fork_rng(seed):
            mirrored = self.mirror and bool(torch.rand(()) < 0.5)
            pixels = SameCrop(self.crop, self.squeezes)(pixels[None])[0]
        return Clip(v2.functional.horizontal_flip(pixels) if mirrored else pixels, mirrored)


class MultiViewReader:
    """
    Reads the views of a video (or an image) as its processor does; nothing is random.

    processor: a video or image processor. For views, set its `num_temporal_views` and `num_spatial_views`.
    """

    def __init__(self, processor: TubeViTVideoProcessor | TubeViTImageProcessor):
        self.processor = processor
        self.media = "video" if "pixel_values_videos" in processor.model_input_names else "image"
        crop = (processor.crop_size["height"], processor.crop_size["width"])
        self.shape: tuple[int, ...] = (3, *crop)
        if self.media == "video":
            num_views = processor.num_temporal_views * processor.num_spatial_views
            self.shape = (*([num_views] if num_views > 1 else []), processor.num_frames, *self.shape)

    def __call__(self, video: dict[str, Any], seed: int = 0) -> Clip:
        """Raises what the processor raises. The seed is there for the sake of the other readers."""
        if self.media == "image":
            pixels = self.processor(read_image(video), return_tensors="pt", **UINT8).pixel_values[0]
        else:
            pixels = self.processor(video_source(video), return_tensors="pt", **UINT8).pixel_values_videos[0]
        return Clip(pixels, False)


def read_image(image: dict[str, Any]) -> torch.Tensor:
    """An undecoded image as RGB, uint8 `(3, height, width)`, upright. Raises `OSError` or `ValueError` of one line."""
    from PIL import Image, ImageOps

    image = video_source(image)
    name = image.get("path") or "<image>"
    try:
        with Image.open(name if image.get("bytes") is None else io.BytesIO(image["bytes"])) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is not an image that can be read: {' '.join(str(error).split())}.") from error
    return v2.functional.pil_to_tensor(picture)


class SameCrop:
    """
    Crops and resizes the frames of one clip, group by group, by a draw for the first group.

    squeezes: whether crops are drawn in the frame squeezed into a square, as the processor of the clips does it. Their ratio of
        sides is then that in the square.
    """

    def __init__(self, crop: v2.RandomResizedCrop, squeezes: bool = False):
        self.crop, self.squeezes, self.params = crop, squeezes, None

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        if self.params is None:
            self.params = self._squeezed(frames) if self.squeezes else self.crop.make_params([frames])
        return self.crop.transform(frames, self.params)

    def _squeezed(self, frames: torch.Tensor) -> dict[str, int]:
        height, width = frames.shape[-2:]
        side = max(height, width)
        params = self.crop.make_params([frames[:1, :, :1, :1].expand(-1, -1, side, side)])
        scales = {"top": height / side, "height": height / side, "left": width / side, "width": width / side}
        params |= {name: math.floor(params[name] * scale) for name, scale in scales.items()}
        return params | {name: max(1, params[name]) for name in ("height", "width")}


def _random_crop(processor: Any, config: AugmentationConfig) -> v2.RandomResizedCrop:
    size = (processor.crop_size["height"], processor.crop_size["width"])
    return v2.RandomResizedCrop(
        size,
        scale=(config.rrc_scale_min, 1.0),
        ratio=(1 / config.rrc_ratio_max, config.rrc_ratio_max),
        antialias=True,
    )
