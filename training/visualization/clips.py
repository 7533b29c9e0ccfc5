# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Clips for pictures: a file as a model sees it, in uint8, or a clip that is drawn for the purpose."""

from typing import Any

import numpy as np

from ..data.formats.samples import kind_of


def drawn_clip(num_frames: int, height: int, width: int) -> np.ndarray:
    """A disc that moves to the right through the middle of the picture, uint8 `(num_frames, height, width, 3)`."""
    from ..synthetic.moving_shapes import Scene, draw_clip

    background = ((0.16, 0.32, 0.44), (0.20, 0.40, 0.50), (0.18, 0.32, 0.45), (0.24, 0.42, 0.54))
    scene = Scene("circle", "right", (0.5, 0.22), 0.6 / num_frames, 0.18, (0.97, 0.95, 0.90), background)
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return draw_clip(scene, num_frames, side)[:, top : top + height, left : left + width]


def read_clip(path: str, config: Any, model_name: str | None, num_frames: int | None) -> np.ndarray:
    """
    A video or image file as the model sees it, uint8 `(frames, height, width, 3)`; an image has one frame.

    config: a `TubeViTConfig`. model_name: the checkpoint whose processors prepare the pixels; without, or where it has
    none, ours do in the size of `config`. num_frames: by default those of `config`.
    """
    processor = _find_processor(model_name, config, kind_of(path))
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    if kind_of(path) == "image":
        from transformers.image_utils import load_image

        if num_frames is not None:
            raise ValueError(f"A number of frames was given, but {path} is an image.")
        pixels = processor(load_image(path), **raw).pixel_values
    else:
        num_frames = config.num_frames if num_frames is None else num_frames
        views = {"num_temporal_views": 1, "num_spatial_views": 1}
        pixels = processor(path, num_frames=num_frames, **views, **raw).pixel_values_videos[0]
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def _find_processor(model_name: str | None, config: Any, kind: str) -> Any:
    """The checkpoint's processor of a `kind` of input, "video" or "image"; one in the size of `config` where there is none."""
    from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor

    from ..models.loading import load_processors

    own_class = TubeViTImageProcessor if kind == "image" else TubeViTVideoProcessor
    try:
        found = load_processors(model_name) if model_name is not None else []
    except OSError:
        found = []
    for processor in found:
        if isinstance(processor, TubeViTProcessor):
            return processor.image_processor if kind == "image" else processor.video_processor
        if isinstance(processor, own_class):
            return processor
    height, width = config.image_height_width
    return own_class(size={"shortest_edge": max(height, width)}, crop_size={"height": height, "width": width})
