# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Read clips with the settings of a checkpoint's own processor, in the same way in training, evaluation and prediction.

A TubeViT processor decodes files, samples frames, pads short videos, resizes, crops and makes several views. For a model of another
family it takes sizes and frame sampling from the processor of that family:

- A processor without `fps` samples `num_frames` frames over the whole video by its `sample_frames`, as Transformers'
  "video-classification" pipeline does, and gets the same frames as the pipeline.
- A processor with `fps` samples `num_frames` consecutive frames at that rate. Transformers would return the frames of the whole
  video at that rate, and no classifier here accepts any number of frames.

Pixels stay uint8 until the clip is on the model's device, where the checkpoint's own processor rescales and normalizes them. The
exception is the evaluation with a processor that resizes frames as floats (`resizes_as_float`): it reads the processor's normalized
floats, so its scores are those of the pipeline.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor

from ..data.clip_sampling import UINT8, pixel_statistics
from ..data.video_datasets import VideoData
from .families import ModelFamily, family_of_preset
from .model_options import SAMPLING_OF, ClipConfig, ModelConfig


SAMPLING_OPTIONS = ("num_frames", "fps", "frame_stride", "sampling", "pad_mode")
SIZES = ("size", "resample", "crop_size")
SWITCHES = ("do_resize", "do_center_crop")
IMAGE_DONE = {"do_resize": False, "do_center_crop": False}
CLIP_DONE = {**IMAGE_DONE, "do_sample_frames": False}
MIN_STD = (
    0.05  # smallest `image_std` that `measure_pixels` sets: the noise of videos that hardly vary is not amplified
)
ONE_VIEW = {"num_temporal_views": 1, "num_spatial_views": 1}
IMAGE_SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_convert_rgb", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)


class FamilyClipProcessor(TubeViTVideoProcessor):
    """
    Reads clips for a model whose own processor is not a TubeViT processor.

    own: the model's own processor. With `sampling="uniform"` and `clip_start="center"` its `sample_frames` chooses the frames.
    Temporal view `v` is this clip, shifted by `v / num_temporal_views` of the distance between its frames. Videos with fewer
    frames than a clip, which Transformers refuses, are padded by `pad_mode`.
    """

    def __init__(self, own: Any, **settings: Any):
        super().__init__(**settings)
        self.own = own

    def sample_frames(
        self, metadata: Any, num_frames: int | None = None, fps: float | None = None, **kwargs
    ) -> np.ndarray:
        """As in the base class. Returns indices `(num_temporal_views * num_frames,)`."""
        names = ("sampling", "clip_start", "num_temporal_views")
        chosen = {name: kwargs[name] if kwargs.get(name) is not None else getattr(self, name) for name in names}
        total, num_frames = metadata.total_num_frames, num_frames or self.num_frames
        is_own = (chosen["sampling"], chosen["clip_start"], fps) == ("uniform", "center", None)
        if not is_own or total < num_frames:
            return super().sample_frames(metadata, num_frames=num_frames, fps=fps, **kwargs)
        first = np.asarray(self.own.sample_frames(metadata, num_frames=num_frames))
        num_views = chosen["num_temporal_views"]
        shifts = np.arange(num_views)[:, None] * total // (num_views * num_frames)
        return np.minimum(first + shifts, total - 1).reshape(-1)

    def to_dict(self) -> dict[str, Any]:
        """The settings, without the other processor."""
        settings = super().to_dict()
        del settings["own"]
        return settings


@dataclass
class ClipProcessors:
    """
    The processors of one model.

    reader: reads a video (or an image), as uint8 unless it has `resizes_as_float`.
    own: the checkpoint's processor with the chosen settings; it is saved with the model.
    normalizer: converts uint8 clips to the model's input; `None` if the model does so itself.
    """

    reader: TubeViTVideoProcessor | TubeViTImageProcessor
    own: Any
    normalizer: Any = None

    def prepare(self, clips: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """
        Arguments of the model for clips `(clips, frames, channels, height, width)`, or images without the frames, on the clips'
        device. uint8 pixels are normalized, floats are normalized already. dtype: of the model.
        """
        is_video = isinstance(self.reader, TubeViTVideoProcessor)
        if self.normalizer is None or clips.is_floating_point():
            return {"pixel_values_videos" if is_video else "pixel_values": clips}
        done = CLIP_DONE if is_video else IMAGE_DONE
        if isinstance(self.normalizer, TubeViTVideoProcessor):  # the clips are the views
            done = done | ONE_VIEW
        inputs = self.normalizer(list(clips), return_tensors="pt", **done)
        return {name: pixels.to(dtype) for name, pixels in inputs.items()}


def image_processor(video_processor: TubeViTVideoProcessor) -> TubeViTImageProcessor:
    """An image processor that prepares an image as `video_processor` does a frame."""
    return TubeViTImageProcessor(**{name: getattr(video_processor, name) for name in IMAGE_SETTINGS})


def complete_sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """
    Settings without those that are `None`. A given `fps` or `frame_stride` sets `sampling`; a sampling without a rate sets `fps`
    to `None`.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, sampling in SAMPLING_OF.items():
        if name in given:
            given.setdefault("sampling", sampling)
    if given.get("sampling") in ("uniform", "frame_stride") and "fps" not in given:
        given["fps"] = None
    return given


def check_frame_stride(processor_class: type, settings: dict[str, Any]) -> None:
    """Raise a `ValueError` if `settings` has a frame stride, and processors of this class have none."""
    has_stride = issubclass(processor_class, TubeViTVideoProcessor) and "frame_stride" in processor_class.rules
    if has_stride or not (settings.get("frame_stride") or settings.get("sampling") == "frame_stride"):
        return
    name = "frame_stride" if settings.get("frame_stride") else "sampling"
    raise ValueError(
        f"{name}={settings[name]} cannot be set for a {processor_class.__name__}, which has no frame stride: leave it out, or set fps."
    )


def sampling_settings(clips: ClipConfig) -> dict[str, Any]:
    """The options of `clips` that choose the frames and are given, as settings of `TubeViTVideoProcessor`."""
    return complete_sampling({name: getattr(clips, name) for name in SAMPLING_OPTIONS})


def choose_num_frames(settings: dict[str, Any], own: Any, family: ModelFamily, config: Any, name: str) -> int:
    """
    Frames of a clip: of `settings`, else of the checkpoint's processor `own`, else of the model's config.

    Raises `ValueError` if none of them has a number of frames, if processor and config have different numbers and `settings` has
    none, or if the model cannot take this number.
    """
    given, saved = settings.get("num_frames"), {own.num_frames, family.num_frames(config)} - {None}
    if given is None and not saved:
        raise ValueError(f"Neither the config nor the processor of {name} has a number of frames; set num_frames.")
    if given is None and len(saved) > 1:
        raise ValueError(
            f"{name} contradicts itself: num_frames is {family.num_frames(config)} in its config and {own.num_frames} in its "
            "processor. Set num_frames to the number of frames of the clips that the model was trained on."
        )
    num_frames = saved.pop() if given is None else given
    family.check_num_frames(num_frames, config, name)
    return num_frames


def clip_processors(
    own: Any,
    settings: dict[str, Any],
    num_frames: int,
    family: ModelFamily,
    config: Any,
    reading: dict[str, Any] | None = None,
) -> ClipProcessors:
    """
    The processors that read and prepare videos for a model.

    own: the checkpoint's video processor; it is not changed.
    settings: settings of `TubeViTVideoProcessor` that replace those of `own`, by `complete_sampling`.
    num_frames: by `choose_num_frames`.
    reading: further settings of the reader only.
    """
    reading = reading or {}
    check_frame_stride(type(own), settings)
    if isinstance(own, TubeViTVideoProcessor):
        own = type(own).from_dict({**own.to_dict(), **settings, "num_frames": num_frames})
        pixels = {} if own.resizes_as_float else UINT8
        reader = type(own).from_dict({**own.to_dict(), **pixels, **reading})
        return ClipProcessors(reader, own, find_normalizer(own, family, config))
    replaced = {name: settings[name] for name in ("sampling", "fps", "num_frames") if name in settings}
    sizes = {name: getattr(own, name) for name in SIZES if getattr(own, name) is not None}
    switches = {name: bool(getattr(own, name)) for name in SWITCHES}
    rate = {} if own.fps is None else {"sampling": "fixed_rate", "fps": own.fps}
    reader = FamilyClipProcessor(
        own, **{**sizes, **switches, **rate, **settings, "num_frames": num_frames, **UINT8, **reading}
    )
    if replaced:
        own = copy.deepcopy(own)
        # Transformers refuses a processor that has both: with a rate, the model's config holds the number of frames.
        own.fps, own.num_frames = reader.fps, num_frames if reader.fps is None else None
    return ClipProcessors(reader, own, own)


def image_clip_processors(own: TubeViTImageProcessor, family: ModelFamily, config: Any) -> ClipProcessors:
    """The processors that read and prepare images for a model. own: the checkpoint's image processor; it is not changed."""
    reader = type(own).from_dict({**own.to_dict(), **UINT8})
    return ClipProcessors(reader, own, find_normalizer(own, family, config))


def find_normalizer(own: Any, family: ModelFamily, config: Any) -> Any:
    """
    The processor `own`; or `None` if the model itself normalizes uint8 pixels in the same way: both have the same statistics, or
    `own` neither rescales nor normalizes.
    """
    if not family.normalizes_pixels:
        return own
    if not (own.do_rescale or own.do_normalize):
        return None
    expected = (list(config.image_mean), list(config.image_std), config.rescale_factor)
    own_mean, own_std = (
        [value] * len(config.image_mean) if isinstance(value, (int, float)) else list(value)
        for value in (own.image_mean, own.image_std)
    )
    statistics = (own_mean, own_std, own.rescale_factor)
    return None if own.do_rescale and own.do_normalize and statistics == expected else own


def measure_pixels(config: ModelConfig, datas: Sequence[VideoData]) -> list[str]:
    """
    Set `image_mean` and `image_std` of a model with random weights to the statistics of its training videos or images, unless
    `model_config` gives one of them. Returns messages. All processes measure the same files.

    With the usual 0.5 and 0.5, the features of a new model differ by a few percent between dark or flat videos, and a short training
    stays at chance level.
    """
    if config.preset is None or not {"image_mean", "image_std"}.isdisjoint(config.model_config):
        return []
    family = family_of_preset(config.preset)
    if not family.normalizes_pixels:
        return []
    trains = [(data.splits["train"], data.media) for data in datas if hasattr(data.splits["train"], "__len__")]
    found = [each for rows, media in trains if (each := pixel_statistics(rows, media)) is not None]
    if not found:
        reason = "no training video can be read" if trains else "streamed videos are not measured"
        return [f"The model has the default image_mean and image_std: {reason}; model_config sets others."]
    mean = sum(each[0] for each in found) / len(found)
    std = math.sqrt(sum(std**2 + (own - mean) ** 2 for own, std, _ in found) / len(found))
    values = {"image_mean": round(mean, 3), "image_std": max(round(std, 3), MIN_STD)}
    config.model_config = {**config.model_config, **values}
    kinds = " and ".join(sorted({f"{media}s" for _, media in trains}))
    return [
        f"image_mean={values['image_mean']} and image_std={values['image_std']} are those of {sum(each[2] for each in found)} training "
        f"{kinds}; model_config sets others."
    ]


def new_processor(family: ModelFamily, config: Any, clips: ClipConfig, image_settings: dict | None = None) -> Any:
    """
    A video processor for a model that has none.

    config: of the model. image_settings: of the checkpoint's image processor, if it has one.
    """
    height, width = frame_size(family, config)
    processor_class, num_frames = family.processor("video"), clips.num_frames or family.num_frames(config)
    sampling = sampling_settings(clips)
    sampling.pop("num_frames", None)
    check_frame_stride(processor_class, sampling)
    settings = {
        **crop_sizes(height, width, clips.short_side, clips.resize_mode == "stretch"),
        **(image_settings or {}),
    }
    if not issubclass(processor_class, TubeViTVideoProcessor):
        # Transformers refuses a processor that has both: with a rate, the model's config holds the number of frames.
        fps = sampling.get("fps")
        return processor_class(**settings, fps=fps, num_frames=num_frames if fps is None else None)
    if family.normalizes_pixels:
        statistics = {name: getattr(config, name) for name in ("image_mean", "image_std", "rescale_factor")}
        channels = {} if config.num_channels == 3 else {"do_convert_rgb": False}
        settings = {**statistics, **channels, **settings}
    return processor_class(**settings, **sampling, num_frames=num_frames)


def clip_settings(own: Any, clips: ClipConfig, name: str) -> dict[str, Any]:
    """
    Settings that replace those of a checkpoint's video processor in training: the given options, and a center crop, so that all
    clips have one size.

    Raises `ValueError` for a size if the processor is not a TubeViT processor.
    """
    settings = sampling_settings(clips)
    sizes = {option: getattr(clips, option) for option in ("image_size", "short_side", "resize_mode")}
    given = [option for option, value in sizes.items() if value is not None]
    own_size = {side: value for side, value in dict(own.size).items() if value}
    is_stretched = "height" in own_size
    if not isinstance(own, TubeViTVideoProcessor):
        if given:
            raise ValueError(
                f"{', '.join(given)} cannot be set for {name}: the sizes of its {type(own).__name__} are used; leave "
                f"{'them' if len(given) > 1 else 'it'} out."
            )
        # The size of random crops in training; evaluation does not crop.
        return settings | ({"crop_size": own_size} if is_stretched and not own.do_center_crop else {})
    if not own.do_center_crop:  # Cropping the whole frame changes no pixel, and random crops need a size.
        settings |= {"do_center_crop": True} | ({"crop_size": own_size} if is_stretched else {})
    if given:
        crop = own_size if is_stretched and not own.do_center_crop else dict(own.crop_size)
        height, width = (clips.image_size or crop["height"], clips.image_size or crop["width"])
        short_side = clips.short_side
        if short_side is None and clips.image_size is None:
            short_side = min(own_size.values())
        settings |= crop_sizes(
            height, width, short_side, is_stretched if clips.resize_mode is None else clips.resize_mode == "stretch"
        )
    return settings


def crop_sizes(height: int, width: int, short_side: int | None, is_stretched: bool) -> dict[str, Any]:
    """Settings for crops of this height and width from frames with this shorter side (default: that of the crop), in pixels."""
    short_side = short_side or min(height, width)
    scale = short_side / min(height, width)
    stretched = {"height": round(scale * height), "width": round(scale * width)}
    return {
        "size": stretched if is_stretched else {"shortest_edge": short_side},
        "crop_size": {"height": height, "width": width},
    }


def frame_size(family: ModelFamily, config: Any) -> tuple[int, int]:
    """(height, width) of the frames that a model is made for, in pixels."""
    size = getattr(config, family.size_field)
    return (size, size) if isinstance(size, int) else tuple(size)


def read_views(processor: Any, video: Any, **settings: Any) -> torch.Tensor:
    """The views of a video, `(views, frames, channels, height, width)`, as a processor reads it. settings: of the processor's call."""
    pixels = processor(video, return_tensors="pt", **settings).pixel_values_videos[0]
    return pixels if pixels.ndim == 5 else pixels[None]
