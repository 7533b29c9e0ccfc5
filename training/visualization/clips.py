# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Clips for figures, uint8: a file as the model sees it, or a synthetic clip."""

from typing import Any

import numpy as np

from ..data.media_files import kind_of
from ..models.clip_processors import ONE_VIEW, frame_size


def synthetic_clip(num_frames: int, height: int, width: int) -> np.ndarray:
    """A disc that moves to the right through the middle of the frame, uint8 `(num_frames, height, width, 3)`."""
    from ..synthetic.moving_shapes import Scene, draw_clip

    background = ((0.16, 0.32, 0.44), (0.20, 0.40, 0.50), (0.18, 0.32, 0.45), (0.24, 0.42, 0.54))
    scene = Scene("circle", "right", (0.5, 0.22), 0.6 / num_frames, 0.18, (0.97, 0.95, 0.90), background)
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return draw_clip(scene, num_frames, side)[:, top : top + height, left : left + width]


def read_clip(path: str, config: Any, model_name: str | None, num_frames: int | None) -> np.ndarray:
    """
    A video or image file as the model sees it, uint8 `(frames, height, width, 3)`; an image has one frame.

    config: of a registered family. model_name: the checkpoint whose processors prepare the pixels, `None` for a preset. Without
    processors, the frame is resized and cropped to the size of `config`. num_frames: by default `config.num_frames`.

    Raises `ValueError` for an image if the family reads no images, or if `num_frames` is given.
    """
    from ..data.clip_sampling import UINT8

    processor = _find_processor(path, model_name, config)
    if kind_of(path) == "image":
        from transformers.image_utils import load_image

        if num_frames is not None:
            raise ValueError(f"A number of frames was given, but {path} is an image.")
        pixels = processor(load_image(path), return_tensors="pt", **UINT8).pixel_values
    else:
        num_frames = config.num_frames if num_frames is None else num_frames
        settings = {**UINT8, **ONE_VIEW, "num_frames": num_frames}
        pixels = processor(path, return_tensors="pt", **settings).pixel_values_videos[0]
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def reads_bgr(config: Any, model_name: str) -> bool:
    """Whether the channels of a checkpoint's clips are blue, green, red."""
    from ..models.families import family_of
    from ..models.loading import load_processor

    family = family_of(config)
    if "do_flip_channel_order" not in family.processor("video").rules:
        return False
    try:
        return load_processor(model_name, family, "video").do_flip_channel_order
    except FileNotFoundError:  # `read_clip` says what it uses
        return False


def _find_processor(path: str, model_name: str | None, config: Any) -> Any:
    """The checkpoint's processor for a file; if it has none, a new processor for the image size of `config`."""
    from ..models.families import family_of
    from ..models.loading import load_processor

    family, media = family_of(config), kind_of(path)
    if media not in family.processors:
        raise ValueError(f"{path} is an image, and a {family.title} model reads videos.")
    if model_name is not None:
        try:
            return load_processor(model_name, family, media)
        except FileNotFoundError:
            print(
                f"{model_name} has no {media} processor: the frames are resized and cropped to the size of its config."
            )
    height, width = frame_size(family, config)
    crop_size = {"height": height, "width": width}
    return family.processor(media)(size={"shortest_edge": max(height, width)}, crop_size=crop_size)
