# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Reads a row of a data set as the pixels of a clip: a random clip for training, the processor's views for evaluation.

Pixels are uint8. The views of a processor that resizes frames as floats (`resizes_as_float`) are the floats that the processor gives
to the model, because rounding them would change the scores.

The settings of the processor define a clip (number of frames, frame rate, padding of short videos, crop size), so they are the
same in training, in evaluation and in the saved model. Frames are cropped and resized while they are decoded, so full-size
frames do not accumulate in memory.
"""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2

from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor, decode_video
from tubevit.processing.decoded_frames import PixelFormat

from .augmentation import AugmentationConfig
from .dataset_columns import row_source
from .rng import fork_rng
from .shards import Address, read_member
from .torchcodec_decoding import chosen_decoder


UINT8 = {"do_rescale": False, "do_normalize": False}
NUM_MEASURED = 32  # videos or images that `pixel_statistics` reads
REMOTE = ("http://", "https://")  # the decoder downloads these URLs


class Clip(NamedTuple):
    """
    Result of a reader.

    pixels: of the reader's dtype; `(frames, channels, height, width)` for a clip, `(views, frames, channels, height, width)` for
        several views, `(channels, height, width)` for an image.
    is_mirrored: whether the clip was flipped horizontally.
    """

    pixels: torch.Tensor
    is_mirrored: bool


def video_source(video: dict[str, Any]) -> Any:
    """A row's source for the decoder, with the bytes of a video in a shard, and of a URL other than http(s), such as s3://."""
    path = video.get("path")
    if video.get("bytes") is None and (address := Address.parse(path)) is not None:
        return {**video, "path": repr(address), "bytes": read_member(address)}
    if video.get("bytes") is None and path is not None and "://" in path and not path.startswith(REMOTE):
        import fsspec

        with fsspec.open(path, "rb") as file:
            return {**video, "bytes": file.read()}
    return video


class RandomClipReader:
    """
    Reads a random clip of a video: random time, random crop, random horizontal flip. With `augmentation_repeats` above 1 it
    returns several copies of the clip with the same frames, each with its own crop and flip.

    With `sampling="fixed_rate"` the clip starts at a random time. With `"uniform"` it has a random frame of each of
    `num_frames` equal segments (TSN), or with `min_temporal_span`, evenly spaced frames of a random part of the video. Videos
    with fewer frames than a clip are padded as by the processor.

    processor: defines the clip by `num_frames`, `sampling`, `fps`, `pad_mode`, `crop_size`, `size` and `allow_partial`.
    mirror: whether to flip half of the clips.
    num_threads: threads of the decoder; by default 1 in a DataLoader worker, else one per core.
    """

    media, dtype = "video", torch.uint8

    def __init__(
        self,
        processor: TubeViTVideoProcessor,
        config: AugmentationConfig,
        mirror: bool,
        num_threads: int | None = None,
    ):
        if config.min_temporal_span is not None and processor.sampling != "uniform":
            raise ValueError(
                f"min_temporal_span={config.min_temporal_span:g} is for clips that are spread over the video, and the processor samples "
                f"clips {processor.describe_sampling()}: leave it out, or set sampling=uniform."
            )
        self.processor, self.mirror, self.num_threads = processor, mirror, num_threads
        self.min_temporal_span = config.min_temporal_span
        self.pixel_format = PixelFormat.of(vars(processor))
        self.crops = RandomCrops(processor, config, antialias=not processor.resizes_as_float)
        self.num_copies = self.crops.num_copies
        self.shape = self.crops.shape_of(processor.num_frames, self.pixel_format.num_channels)

    def __call__(self, video: dict[str, Any], seed: int) -> Clip:
        """video: a source of `row_source`. Raises the errors of `decode_video`."""
        with fork_rng(seed), chosen_decoder():
            mirrored = self.crops.random_flips(self.mirror)
            pixels, _ = decode_video(
                video_source(video),
                self._sample,
                frame_transform=self.crops.of_a_clip(),
                num_threads=self.num_threads,
                allow_partial=self.processor.allow_partial,
            )
        pixels = self.processor.order_channels(self.pixel_format.to_channels(pixels))
        return self.crops.flip(pixels, mirrored)

    def _sample(self, metadata):
        num_frames, total = self.processor.num_frames, metadata.total_num_frames
        if self.min_temporal_span is not None and total > num_frames:
            return random_span(total, num_frames, self.min_temporal_span)
        fps = {"fps": self.processor.fps} if self.processor.sampling == "fixed_rate" else {}
        return self.processor.sample_frames(
            metadata, num_frames=num_frames, clip_start="random", num_temporal_views=1, **fps
        )


def random_span(total: int, num_frames: int, min_fraction: float) -> np.ndarray:
    """
    Indices, int64 `(num_frames,)`, of frames of a random part of a video, evenly spaced to within one frame. Uses two random
    numbers of torch's global generator.

    total: number of frames of the video, at least `num_frames`.
    min_fraction: smallest length of the part, as a fraction of `total`.

    >>> random_span(8, 4, min_fraction=1.0)
    array([1, 3, 5, 7])
    """
    fraction, start = torch.rand(2).tolist()
    length = max(num_frames, total * (min_fraction + (1 - min_fraction) * fraction))
    first = (total - length) * start
    return np.floor(first + (np.arange(num_frames) + 0.5) * length / num_frames).astype(int)


class RandomImageReader:
    """`RandomClipReader` for images: random crop and random horizontal flip."""

    media, dtype = "image", torch.uint8

    def __init__(self, processor: TubeViTImageProcessor, config: AugmentationConfig, mirror: bool):
        self.mirror, self.pixel_format = mirror, PixelFormat.of(vars(processor))
        self.crops = RandomCrops(processor, config)
        self.num_copies = self.crops.num_copies
        self.shape = self.crops.shape_of(self.pixel_format.num_channels)

    def __call__(self, image: dict[str, Any], seed: int) -> Clip:
        """Raises `OSError` or `ValueError` for a file that is not an image."""
        pixels = self.pixel_format.to_channels(read_image(image))
        with fork_rng(seed):
            mirrored = self.crops.random_flips(self.mirror)
            pixels = self.crops.of_a_clip()(pixels[None])
        clip, mirrored = self.crops.flip(pixels, mirrored)
        return Clip(clip.squeeze(-4), mirrored)  # the axis of frames


class MultiViewReader:
    """
    Reads the views of a video (or an image) with its processor, without randomness: uint8 pixels, or with `resizes_as_float` the
    processor's normalized floats.

    processor: a video or image processor; its `num_temporal_views` and `num_spatial_views` set the number of views.
    """

    num_copies = 1

    def __init__(self, processor: TubeViTVideoProcessor | TubeViTImageProcessor):
        self.processor = processor
        self.media = "video" if "pixel_values_videos" in processor.model_input_names else "image"
        self.settings, self.dtype = UINT8, torch.uint8
        if self.media == "video" and processor.resizes_as_float:
            self.settings = {}
            self.dtype = torch.float32 if processor.do_rescale or processor.do_normalize else torch.uint8
        crop = (processor.crop_size["height"], processor.crop_size["width"])
        self.shape: tuple[int, ...] = (PixelFormat.of(vars(processor)).num_channels, *crop)
        if self.media == "video":
            num_views = processor.num_temporal_views * processor.num_spatial_views
            self.shape = (*([num_views] if num_views > 1 else []), processor.num_frames, *self.shape)

    def __call__(self, video: dict[str, Any], seed: int = 0) -> Clip:
        """Raises the errors of the processor. `seed` is ignored; the random readers have the same signature."""
        if self.media == "image":
            pixels = self.processor(read_image(video), return_tensors="pt", **self.settings).pixel_values[0]
        else:
            with chosen_decoder():
                outputs = self.processor(video_source(video), return_tensors="pt", **self.settings)
            pixels = outputs.pixel_values_videos[0]
        return Clip(pixels, False)


def pixel_statistics(rows: Any, media: str) -> tuple[float, float, int] | None:
    """
    Mean and standard deviation, over all channels, of the pixels (0 to 1) of `NUM_MEASURED` videos or images that are evenly spaced
    in a split, and the number of those that could be read; `None` if there is none. Each video counts the same, by four frames.

    rows: a split of `VideoData`. media: "video" or "image".
    """
    moments = []
    for index in np.unique(np.linspace(0, len(rows) - 1, NUM_MEASURED).astype(int)).tolist():
        source = row_source(rows[index], media)
        try:
            pixels = read_image(source) if media == "image" else decode_video(video_source(source), _four_frames)[0]
        except (ValueError, OSError):  # reported by the check of the files, or when a clip is read
            continue
        values = pixels.double() / 255
        moments.append((values.mean().item(), values.square().mean().item()))
    if not moments:
        return None
    mean, square = np.mean(moments, axis=0)
    return float(mean), math.sqrt(max(square - mean**2, 0.0)), len(moments)


def _four_frames(metadata: Any) -> np.ndarray:
    return np.linspace(0, metadata.total_num_frames - 1, 4).astype(int)


def read_image(image: dict[str, Any]) -> torch.Tensor:
    """Decode an image to RGB, uint8 `(3, height, width)`, upright. Raises `OSError` or a one-line `ValueError`."""
    from PIL import Image, ImageOps

    image = video_source(image)
    name = image.get("path") or "<image>"
    try:
        with Image.open(name if image.get("bytes") is None else io.BytesIO(image["bytes"])) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} cannot be read as an image: {' '.join(str(error).split())}.") from error
    return v2.functional.pil_to_tensor(picture)


class RandomCrops:
    """
    The random crops and flips of clips: a random-resized crop, or with `scale_jitter_min` a random resize and a crop of fixed size.

    processor: its `crop_size` is the size of the clips; with scale jitter, its `size` is the size of the frames before the jitter.
    antialias: whether crops are resized with antialiasing.

    Raises `ValueError` if the smallest frames of scale jitter are smaller than the crop.
    """

    def __init__(self, processor: Any, config: AugmentationConfig, antialias: bool = True):
        height, width = processor.crop_size["height"], processor.crop_size["width"]
        self.num_copies, self.stretched_size = config.augmentation_repeats, _stretched_size(processor)
        self.crop = v2.RandomResizedCrop(
            (height, width),
            scale=(config.rrc_scale_min, 1.0),
            ratio=(width / height / config.rrc_ratio_max, width / height * config.rrc_ratio_max),
            antialias=antialias,
        )
        self.jitter: ScaleJitter | None = None
        if config.scale_jitter is not None:
            sides = self.stretched_size or (processor.size["shortest_edge"],) * 2
            self.jitter = ScaleJitter(*config.scale_jitter, None if self.stretched_size else sides[0])
            if any(self.jitter.low * side < crop for side, crop in zip(sides, (height, width), strict=True)):
                raise ValueError(
                    f"scale_jitter_min={self.jitter.low:g} makes frames of {self.jitter.low * min(sides):.0f} pixels, smaller than the crop, "
                    f"{height}x{width}: raise scale_jitter_min or short_side."
                )

    def shape_of(self, *shape: int) -> tuple[int, ...]:
        """The shape of all copies of a clip. shape: shape of one clip, without height and width."""
        return (*([self.num_copies] if self.num_copies > 1 else []), *shape, *self.crop.size)

    def random_flips(self, mirror: bool) -> list[bool]:
        """For each copy, whether it is flipped: half of them if `mirror`, else none."""
        return [mirror and bool(torch.rand(()) < 0.5) for _ in range(self.num_copies)]

    def of_a_clip(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from frames to crops `(frames, copies, channels, height, width)`, without the axis of a single copy."""
        crops = [SameCrop(self.crop, self.stretched_size, self.jitter) for _ in range(self.num_copies)]
        if len(crops) == 1:
            return crops[0]
        return lambda frames: torch.stack([crop(frames) for crop in crops], dim=1)

    def flip(self, pixels: torch.Tensor, mirrored: list[bool]) -> Clip:
        """The copies of a clip, from the results of `of_a_clip` and `random_flips`."""
        if self.num_copies == 1:
            return Clip(v2.functional.horizontal_flip(pixels) if mirrored[0] else pixels, mirrored[0])
        pairs = zip(pixels.unbind(1), mirrored, strict=True)
        return Clip(
            torch.stack([v2.functional.horizontal_flip(each) if flipped else each for each, flipped in pairs]),
            mirrored,
        )


class ScaleJitter(NamedTuple):
    """
    Random factors from `low` to `high` for height and width (Scenic). short_side: short side of the frames before the jitter, in
    pixels; `None` if frames are stretched.
    """

    low: float
    high: float
    short_side: int | None


class SameCrop:
    """
    Crops and resizes the frames of one clip. Frames come in groups; all groups get the random parameters of the first group.

    crop: its `ratio` is width over height of the cropped rectangle. If both limits are equal, the sides are rounded to whole
        pixels in this proportion as closely as possible.
    stretched_size: (height, width) to which the processor resizes frames without keeping their aspect ratio, if it does. The
        random area and aspect ratio of the crop then refer to the stretched frame.
    jitter: replaces the random area and aspect ratio by a random resize of the frame.
    """

    def __init__(
        self,
        crop: v2.RandomResizedCrop,
        stretched_size: tuple[int, int] | None = None,
        jitter: ScaleJitter | None = None,
    ):
        self.crop, self.stretched_size, self.jitter, self.params = crop, stretched_size, jitter, None

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        if self.params is None:
            make = self._make_params if self.jitter is None else self._jittered_params
            self.params = make(frames.shape[-2], frames.shape[-1])
        return self.crop.transform(frames, self.params)

    def _jittered_params(self, height: int, width: int) -> dict[str, int]:
        """The rectangle of the original frame that a random crop of the randomly resized frame shows."""
        assert self.jitter is not None
        factors = torch.empty(2, dtype=torch.float64).uniform_(self.jitter.low, self.jitter.high).tolist()
        params: dict[str, int] = {}
        for axis, (start, length, side) in enumerate((("top", "height", height), ("left", "width", width))):
            if self.stretched_size is None:
                scale = self.jitter.short_side / min(height, width)
            else:
                scale = self.stretched_size[axis] / side
            params[length] = min(side, max(1, round(self.crop.size[axis] / (scale * factors[axis]))))
            params[start] = int(torch.randint(side - params[length] + 1, ()))
        return params

    def _make_params(self, height: int, width: int) -> dict[str, int]:
        if self.stretched_size is None:
            return self._whole_pixels(self._params_of(height, width), height, width)
        scale = max(height, width) / max(self.stretched_size)
        stretched = [round(scale * side) for side in self.stretched_size]
        params = self._params_of(*stretched)
        vertical, horizontal = height / stretched[0], width / stretched[1]
        scales = {"top": vertical, "height": vertical, "left": horizontal, "width": horizontal}
        params |= {name: math.floor(params[name] * scale) for name, scale in scales.items()}
        return params | {name: max(1, params[name]) for name in ("height", "width")}

    def _params_of(self, height: int, width: int) -> dict[str, int]:
        return self.crop.make_params([torch.empty(1, 1, 1, 1).expand(1, 1, height, width)])

    def _whole_pixels(self, params: dict[str, int], height: int, width: int) -> dict[str, int]:
        """`params` with the aspect ratio of the crop, if that is fixed; RandomResizedCrop rounds height and width separately."""
        lowest, highest = self.crop.ratio
        if lowest != highest:
            return params
        rows = range(max(1, params["height"] - 1), min(height, params["height"] + 1) + 1)
        sizes = [(each, min(width, max(1, round(each * lowest)))) for each in rows]
        size = min(
            sizes, key=lambda size: (abs(math.log(size[1] / size[0] / lowest)), abs(size[0] - params["height"]))
        )
        top, left = min(params["top"], height - size[0]), min(params["left"], width - size[1])
        return {**params, "top": top, "left": left, "height": size[0], "width": size[1]}


def _stretched_size(processor: Any) -> tuple[int, int] | None:
    """(height, width) of resized frames if the processor does not keep their aspect ratio."""
    size = dict(processor.size)
    return (size["height"], size["width"]) if size.get("height") and processor.do_resize else None
