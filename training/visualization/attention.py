# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Attention weights of the pooling for the tokens of a clip, drawn over the pixels that each token reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, Canvas, darken, describe_size, dimensions, tube_colors
from .frame_grid import heat_strip, side_by_side, some_frames
from .tube_masks import applied_tubes, paint
from .tubes import (
    HEAD,
    LABELS_WIDTH,
    NUM_FRAMES_SHOWN,
    ROW_GAP,
    enlarged,
    name_frames,
    picture_width,
    strip_row_height,
)


COLORMAP = "inferno"
MIN_ROW_HEIGHT = 0.85  # inches, for the text next to the frames
TOP_PERCENTILE = 98  # percentile of the weights at the upper end of the color scale


def draw_attention(model: Any, clip: np.ndarray) -> Any:
    """
    A matplotlib `Figure` of the attention of a TubeViT's pooling to a clip. Rows: the frames, the weights of each tube's
    tokens, and the weights of all tokens. Weights are multiples of the mean weight.

    model: in evaluation mode. clip: uint8 `(frames, height, width, 3)`, as the model sees it; one frame is an image.
    Raises `ValueError` for a model whose pooling has no attention, and for a clip that is too small for the tubes.
    """
    size = clip.shape[:3]
    tubes, weights = applied_tubes(model.config, size), attention_weights(model, clip)
    num_tokens = sum(values.size for values in weights.values())
    relative = {index: values * num_tokens for index, values in weights.items()}
    highest = float(np.percentile(np.concatenate([values.ravel() for values in relative.values()]), TOP_PERCENTILE))
    frames = some_frames(len(clip), NUM_FRAMES_SHOWN)
    large, height = enlarged(clip), strip_row_height(clip, len(frames))

    def heat(*indices: int) -> np.ndarray:
        painted = paint({index: tubes[index] for index in indices}, relative, size)
        return heat_strip(large, frames, painted, COLORMAP, highest)

    rows = [("Clip" if len(clip) > 1 else "Image", INK, "", side_by_side([large[frame] for frame in frames]))]
    for index, color in zip(tubes, tube_colors(list(tubes)), strict=True):
        fraction, fraction_of_tokens = weights[index].sum(), weights[index].size / num_tokens
        note = f"{fraction:.0%} of the attention,\n{fraction_of_tokens:.0%} of the tokens"
        rows.append((dimensions(tubes[index].kernel_size), darken(color), note, heat(index)))
    if len(tubes) > 1:
        rows.append(("All tubes", INK, "", heat(*tubes)))
    step = max(height, MIN_ROW_HEIGHT) + ROW_GAP
    canvas = Canvas(picture_width(len(frames), clip.shape), HEAD + len(rows) * step + 0.2)
    _draw_heading(canvas, model.config, size, num_tokens, highest)
    name_frames(canvas, frames, HEAD - 0.08, clip.shape)
    for row, (name, color, note, strip) in enumerate(rows):
        top = HEAD + row * step
        canvas.text(MARGIN, top + 0.3, name, size=12, color=color, weight="bold")
        canvas.text(MARGIN, top + 0.42, note, size=9, color=FAINT_INK, va="top", linespacing=1.5)
        canvas.image(LABELS_WIDTH, top, height, strip)
    return canvas.figure


def attention_weights(model: Any, clip: np.ndarray) -> dict[int, np.ndarray]:
    """
    Attention weights of a TubeViT's pooling for the tokens of a clip: the weights of the pooling query, or with CLS pooling,
    of the CLS token in the last layer. They are averaged over the heads, and sum to 1 over the tokens of all tubes.

    clip: uint8 `(frames, height, width, 3)`; one frame is an image.

    Returns an array `(time, rows, columns)`, the tube's grid, by the tube's index in the config. Raises `ValueError` for a
    model whose pooling has no attention.
    """
    import torch

    config = model.config
    if config.pooling == "mean":
        raise ValueError(
            "This model has pooling='mean', which gives all tokens the same weight: there is no attention to show."
        )
    backbone = getattr(model, model.base_model_prefix, model)
    pixels = torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2))).to(model.device)
    inputs = {"pixel_values": pixels} if len(clip) == 1 else {"pixel_values_videos": pixels[None]}
    backend = config._attn_implementation
    model.set_attn_implementation("eager")  # other backends do not return weights
    try:
        with torch.no_grad():
            outputs = backbone(**inputs, output_attentions=config.pooling != "attention", return_dict=True)
            if config.pooling == "attention":
                pooler, tokens = backbone.pooler, outputs.last_hidden_state
                weights = pooler.attention(pooler.query, tokens)[1]
            else:
                weights = outputs.attentions[-1]
    finally:
        model.set_attn_implementation(backend)
    weights = weights[0, :, 0, config.num_prefix_tokens :].double().mean(0).cpu().numpy()
    return _per_tube(weights / weights.sum(), applied_tubes(config, clip.shape[:3]), clip.shape[:3])


def _per_tube(weights: np.ndarray, tubes: Mapping[int, Any], size: tuple[int, int, int]) -> dict[int, np.ndarray]:
    ends = np.cumsum([tube.num_tokens(size) for tube in tubes.values()])
    parts = zip(tubes.items(), np.split(weights, ends[:-1]), strict=True)
    return {index: part.reshape(tube.grid(size)) for (index, tube), part in parts}


def _draw_heading(canvas: Canvas, config: Any, size: tuple[int, int, int], num_tokens: int, highest: float) -> None:
    """highest: the weight at the upper end of the color scale, in multiples of the mean."""
    is_pooling = config.pooling == "attention"
    reader = "the pooling query" if is_pooling else "the CLS token in the last layer"
    canvas.heading(
        "Attention pooling" if is_pooling else "Attention of the CLS token",
        f"Attention of {reader} to {num_tokens} tokens, mean of the heads  ·  {describe_size(size)}",
    )
    end = f"{highest:.2g}\N{MULTIPLICATION SIGN}"
    canvas.color_scale(canvas.width - MARGIN, 0.30, COLORMAP, "0", end, "weight, in multiples of the mean")
