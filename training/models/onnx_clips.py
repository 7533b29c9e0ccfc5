# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The clips of a classifier, described for programs without this package: the script beside an ONNX file (`onnx_classify`) and the web page.

A processor whose frames these programs cannot prepare is refused here, at the export.
"""

from typing import Any

import numpy as np
import torch
from transformers.video_processing_utils import BaseVideoProcessor

from tubevit.processing import FactorizedViViTVideoProcessor, TubeViTVideoProcessor, UniFormerV2VideoProcessor

from ..data.clip_sampling import UINT8
from ..synthetic.moving_shapes import draw_clip, labels, random_scene
from .clip_processors import FamilyClipProcessor
from .loading import VideoClassifier


FILTERS = {2: "bilinear", 3: "bicubic"}  # by PIL's number


def clip_shape(classifier: VideoClassifier) -> tuple[int, ...]:
    """The shape of a clip as the classifier's processor reads it, `(frames, channels, height, width)`; of an image without frames."""
    reader = classifier.processor
    if classifier.media == "image":
        return tuple(reader(np.zeros((64, 64, 3), np.uint8), return_tensors="pt").pixel_values.shape[1:])
    video, rate = np.zeros((reader.num_frames, 64, 64, 3), np.uint8), {"fps": reader.fps or 25.0}
    one_view = {"num_temporal_views": 1, "num_spatial_views": 1, "pad_mode": "last", "clip_start": "center"}
    return tuple(reader(video, video_metadata=rate, return_tensors="pt", **one_view).pixel_values_videos.shape[1:])


def describe_clips(classifier: VideoClassifier, name: str) -> dict[str, Any]:
    """
    Sampling, resizing, crops and views of the classifier's processor, as JSON values.

    name: of the classifier, for errors.

    Raises `ValueError` for clips that the programs cannot prepare: of images, of other frames than RGB, with random frames, or with another
    resize.
    """
    if classifier.media != "video":
        raise ValueError(f"{name} classifies {classifier.media}s, not videos.")
    reader = classifier.processor
    num_frames, channels, height, width = clip_shape(classifier)
    if channels != 3:
        raise ValueError(f"{name} takes frames of {channels} channels, not of 3 (RGB).")
    size = _size(reader, name)
    if not reader.do_center_crop and (size is None or "shortest_edge" in size):
        raise ValueError(
            f"The processor of {name} neither crops frames nor resizes them to one size: set do_center_crop=True."
        )
    is_float_resize = reader.resizes_as_float and reader.resample == 2
    return {
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "sampling": _sampling(reader, name),
        "num_temporal_views": reader.num_temporal_views,
        "num_spatial_views": reader.num_spatial_views,
        "size": size,
        "filter": FILTERS.get(int(reader.resample), "bilinear"),
        "antialias": not is_float_resize,
        "crops_round_up": reader.crops_round_up,
        "flip_channels": isinstance(reader, UniFormerV2VideoProcessor) and reader.do_flip_channel_order,
    }


def drawn_clips(classifier: VideoClassifier, number: int) -> torch.Tensor:
    """Clips of moving shapes as the classifier's processor reads one view of them, uint8 `(number, frames, channels, height, width)`."""
    reader, rng, names = classifier.processor, np.random.default_rng(0), labels()
    side = max(64, *clip_shape(classifier)[-2:])
    videos = [draw_clip(random_scene(names[index % len(names)], rng), side=side) for index in range(number)]
    one_view = {"num_temporal_views": 1, "num_spatial_views": 1}
    rates = [{"fps": reader.fps or 25.0}] * number
    return reader(videos, video_metadata=rates, return_tensors="pt", **one_view, **UINT8).pixel_values_videos


def _size(reader: TubeViTVideoProcessor, name: str) -> dict[str, int] | None:
    """The size of resized frames: `{"shortest_edge"}` or `{"height", "width"}`; `None` without resizing."""
    if not reader.do_resize:
        return None
    size = {side: int(value) for side, value in sorted(dict(reader.size).items()) if value}
    if set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise ValueError(f"The processor of {name} has size={size}: set shortest_edge, or height and width.")
    if int(reader.resample) not in FILTERS:
        raise ValueError(
            f"The processor of {name} has resample={int(reader.resample)}: set 2 (bilinear) or 3 (bicubic)."
        )
    return size


def _sampling(reader: TubeViTVideoProcessor, name: str) -> dict[str, Any]:
    """The rule by which the frames of a clip are chosen."""
    if reader.clip_start == "random":
        raise ValueError(f"The processor of {name} has clip_start='random': set clip_start='center'.")
    kind = reader.sampling
    if kind == "uniform" and isinstance(reader, FamilyClipProcessor):
        if type(reader.own).sample_frames is not BaseVideoProcessor.sample_frames:
            raise ValueError(
                f"The {type(reader.own).__name__} of {name} samples frames by a rule of its own, which only its code has."
            )
        kind = "segment_starts"
    elif kind == "uniform" and isinstance(reader, UniFormerV2VideoProcessor):
        kind = "segments"
    stride = reader.frame_stride if isinstance(reader, FactorizedViViTVideoProcessor) else None
    return {
        "kind": kind,
        "fps": reader.fps,
        "frame_stride": stride,
        "clip_start": reader.clip_start,
        "pad_mode": reader.pad_mode,
    }
