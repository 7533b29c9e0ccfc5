# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Attention weights of a model for the tokens of a clip, drawn over the pixels that each token reads.

The rows of a picture depend on the model family, whose registry entry names a function that returns them: for a TubeViT the
attention of its pooling, by tube; for a UniFormerV2 the attention within frames and that of the global blocks; for a ViViT the
attention over space and over time. Weights are means of the heads, in multiples of the mean weight of all tokens that a query
attends to.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, Canvas, darken, describe_size, dimensions, tube_colors
from .frame_grid import heat_strip, side_by_side, some_frames
from .tube_masks import Size, applied_tubes, paint
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


class AttentionRow(NamedTuple):
    """
    A row of the picture. weights: of the tokens, in multiples of the mean: a grid `(time, rows, columns)` that divides the pixels
    evenly, or any shape with a `heat`. heat: weights of the pixels, `(frames, height, width)`.
    """

    title: str
    note: str
    weights: np.ndarray
    heat: np.ndarray | None = None
    color: str = INK


class AttentionPicture(NamedTuple):
    """Title, subtitle without the size of the clip, and rows."""

    title: str
    subtitle: str
    rows: list[AttentionRow]


def draw_attention(model: Any, clip: np.ndarray, is_bgr: bool = False) -> Any:
    """
    A matplotlib `Figure` of the attention of a model to a clip: the frames, then the rows of the model's family. Weights are
    multiples of the mean weight.

    model: in evaluation mode. clip: uint8 `(frames, height, width, 3)`, as the model sees it; one frame is an image. is_bgr: whether
        the channels of the clip are blue, green, red.
    Raises `ValueError` for a model without attention weights to show, and for a clip that the model cannot take.
    """
    from ..models.families import family_of

    size = clip.shape[:3]
    picture: AttentionPicture = family_of(model.config).get("attention_rows")(model, clip)
    weights = np.concatenate([row.weights.ravel() for row in picture.rows])
    highest = float(np.percentile(weights, TOP_PERCENTILE))
    frames = some_frames(len(clip), NUM_FRAMES_SHOWN)
    large, height = enlarged(clip[..., ::-1] if is_bgr else clip), strip_row_height(clip, len(frames))
    rows = [("Clip" if len(clip) > 1 else "Image", INK, "", side_by_side([large[frame] for frame in frames]))]
    for row in picture.rows:
        heat = _spread(row.weights, size) if row.heat is None else row.heat
        rows.append((row.title, row.color, row.note, heat_strip(large, frames, heat, COLORMAP, highest)))
    step = max(height, MIN_ROW_HEIGHT) + ROW_GAP
    canvas = Canvas(picture_width(len(frames), clip.shape), HEAD + len(rows) * step + 0.2)
    canvas.heading(picture.title, f"{picture.subtitle}, mean of the heads  ·  {describe_size(size)}")
    end = f"{highest:.2g}\N{MULTIPLICATION SIGN}"
    canvas.color_scale(canvas.width - MARGIN, 0.30, COLORMAP, "0", end, "weight, in multiples of the mean")
    name_frames(canvas, frames, HEAD - 0.08, clip.shape)
    for number, (title, color, note, strip) in enumerate(rows):
        top = HEAD + number * step
        canvas.text(MARGIN, top + 0.3, title, size=12, color=color, weight="bold")
        canvas.text(MARGIN, top + 0.42, note, size=9, color=FAINT_INK, va="top", linespacing=1.5)
        canvas.image(LABELS_WIDTH, top, height, strip)
    return canvas.figure


def _spread(weights: np.ndarray, size: Size) -> np.ndarray:
    """Weights `(time, rows, columns)` as weights of the pixels of a clip of this size, which they divide evenly."""
    for axis, (tokens, pixels) in enumerate(zip(weights.shape, size, strict=True)):
        weights = weights.repeat(pixels // tokens, axis=axis)
    return weights


# TubeViT


def tubevit_rows(model: Any, clip: np.ndarray) -> AttentionPicture:
    """The attention of a TubeViT's pooling: a row for each tube, and one for all. Raises the errors of `attention_weights`."""
    size = clip.shape[:3]
    tubes = applied_tubes(model.config, size, model.get_input_embeddings().tubes)
    weights = attention_weights(model, clip)
    num_tokens = sum(values.size for values in weights.values())
    relative = {index: values * num_tokens for index, values in weights.items()}
    rows = []
    for index, color in zip(tubes, tube_colors(list(tubes)), strict=True):
        fraction, fraction_of_tokens = weights[index].sum(), weights[index].size / num_tokens
        note = f"{100 * fraction:.0f} % of the attention,\n{100 * fraction_of_tokens:.0f} % of the tokens"
        heat = paint({index: tubes[index]}, relative, size)
        rows.append(AttentionRow(dimensions(tubes[index].kernel_size), note, relative[index], heat, darken(color)))
    if len(tubes) > 1:
        everything = np.concatenate([values.ravel() for values in relative.values()])
        rows.append(AttentionRow("All tubes", "", everything, paint(tubes, relative, size)))
    is_pooling = model.config.pooling == "attention"
    reader = "the pooling query" if is_pooling else "the CLS token in the last layer"
    title = "Attention pooling" if is_pooling else "Attention of the CLS token"
    return AttentionPicture(title, f"Attention of {reader} to {num_tokens} tokens", rows)


def attention_weights(model: Any, clip: np.ndarray) -> dict[int, np.ndarray]:
    """
    Attention weights of a TubeViT's pooling for the tokens of a clip: the weights of the pooling query, or with CLS pooling,
    of the CLS token in the last layer. They are averaged over the heads, and sum to 1 over the tokens of all tubes.

    clip: uint8 `(frames, height, width, 3)`; one frame is an image.

    Returns an array `(time, rows, columns)`, the tube's grid, by the tube's index in the config. Raises `ValueError` for a
    model whose pooling has no attention.
    """
    config, backbone = model.config, _backbone(model)
    if config.pooling in ("mean", "grid"):
        among = "all tokens" if config.pooling == "mean" else "the tokens of a cell"
        raise ValueError(
            f"This model has pooling={config.pooling!r}, which gives {among} the same weight: there is no attention to show."
        )
    with _eager(model):
        inputs = (
            {"pixel_values": _pixels(model, clip)[0]}
            if len(clip) == 1
            else {"pixel_values_videos": _pixels(model, clip)}
        )
        outputs = backbone(**inputs, output_attentions=config.pooling != "attention", return_dict=True)
        if config.pooling == "attention":
            pooler, tokens = backbone.pooler, outputs.last_hidden_state
            weights = pooler.attention(pooler.query, tokens)[1]
        else:
            weights = outputs.attentions[-1]
    weights = weights[0, :, 0, config.num_prefix_tokens :].double().mean(0).cpu().numpy()
    tubes = applied_tubes(config, clip.shape[:3], model.get_input_embeddings().tubes)
    return _per_tube(weights / weights.sum(), tubes, clip.shape[:3])


def _per_tube(weights: np.ndarray, tubes: Mapping[int, Any], size: Size) -> dict[int, np.ndarray]:
    ends = np.cumsum([tube.num_tokens(size) for tube in tubes.values()])
    parts = zip(tubes.items(), np.split(weights, ends[:-1]), strict=True)
    return {index: part.reshape(tube.grid(size)) for (index, tube), part in parts}


# UniFormerV2


def uniformerv2_rows(model: Any, clip: np.ndarray) -> AttentionPicture:
    """
    The attention of a UniFormerV2: of each frame's class token to the patches of its frame in the last layer of the trunk, then of
    the video token to the patches of all frames in each global block, and the mean of these blocks.
    """
    config, backbone = model.config, _backbone(model)
    attentions = [backbone.layers[-1].attention, *(block.attention for block in backbone.global_blocks)]
    (within,), *crossed = _capture(model, clip, attentions)
    grid = (-1, config.grid_size, config.grid_size)
    weights = config.tokens_per_frame * within[:, 0, 1:]
    note = f"class token of each frame,\nlayer {config.num_hidden_layers}"
    rows = [AttentionRow("Within frames", note, weights.reshape(grid))]
    for number, (layer, (weights,)) in enumerate(zip(config.get_global_layers(), crossed, strict=True), 1):
        frames = weights[0, 0].reshape(-1, config.tokens_per_frame)
        note = f"video token, after layer {layer + 1};\n{100 * frames[:, 0].sum():.0f} % of it on class tokens"
        rows.append(AttentionRow(f"Global block {number}", note, frames.size * frames[:, 1:].reshape(grid)))
    if len(crossed) > 1:
        mean = np.mean([row.weights for row in rows[1:]], axis=0)
        rows.append(AttentionRow("All global blocks", "mean", mean))
    return AttentionPicture("Attention of UniFormerV2", "Class tokens within frames, video token to all frames", rows)


# ViViT


def vivit_rows(model: Any, clip: np.ndarray) -> AttentionPicture:
    """
    The attention of a ViViT in its last layers: over all tokens (Model 1), or over space and over time, and their product. It is that
    of the class token, or in a model without class tokens the mean over all tokens.
    """
    config, backbone = model.config, _backbone(model)
    _, num_rows, num_columns = config.grid(len(clip), clip.shape[1:3])
    grid = (-1, num_rows, num_columns)
    last = backbone.first_layers[-1]
    reader = "class token" if config.has_cls_token else "mean of all tokens"
    where = f"layer {config.num_hidden_layers}"

    def of_readers(weights: np.ndarray) -> np.ndarray:
        """Weights `(sequences, queries, tokens)` of the class token or of the mean query, in multiples of the mean."""
        by_token = weights[:, 0, 1:] if config.has_cls_token else weights.mean(1)
        return by_token * weights.shape[-1]

    if config.factorization == "spacetime":
        ((weights,),) = _capture(model, clip, [last.attention])
        rows = [AttentionRow("Space and time", f"{reader}, {where}", of_readers(weights).reshape(grid))]
        return AttentionPicture("Attention of ViViT", "factorization='spacetime': over all tokens", rows)
    if config.factorization == "encoder":
        space_note, time_note = (
            f"{reader} of each time index,\n{where}",
            f"{reader},\ntemporal layer {config.temporal_num_hidden_layers}",
        )
        readers = [last.attention]
        if config.has_temporal_encoder:
            readers.append(backbone.temporal_layers[-1].attention)
        (spatial,), *temporal = _capture(model, clip, readers)
        over_time = [of_readers(weights)[0, :, None, None] for (weights,) in temporal]
    else:
        space_note = time_note = f"{reader}, {where}"
        is_dot_product = config.factorization == "dot_product"
        readers = [last.attention] if is_dot_product else [last.attention, last.temporal_attention]
        spatial, temporal = (weights for captured in _capture(model, clip, readers) for weights in captured)
        over_time = [of_readers(temporal).T.reshape(grid)]  # one sequence for each place
    over_space = of_readers(spatial).reshape(grid)
    rows = [AttentionRow("Space", space_note, over_space)]
    for weights in over_time:
        rows.append(AttentionRow("Time", time_note, np.broadcast_to(weights, over_space.shape)))
        rows.append(AttentionRow("Space \N{MULTIPLICATION SIGN} time", "product of the two", over_space * weights))
    return AttentionPicture(
        "Attention of ViViT", f"factorization={config.factorization!r}: over space and over time", rows
    )


def _capture(model: Any, clip: np.ndarray, attentions: Sequence[Any]) -> list[list[np.ndarray]]:
    """
    Weights of attention modules for a clip, by module: a list of its weights `(sequences, queries, tokens)`, means of the heads.

    Only these modules are recorded, because all layers of a joint attention over thousands of tokens need gigabytes.
    """
    captured: dict[int, list[np.ndarray]] = {}

    def record(module: Any, inputs: Any, outputs: tuple) -> None:
        captured[id(module)] = [weights.mean(1).double().cpu().numpy() for weights in outputs[1:]]

    handles = [attention.register_forward_hook(record) for attention in attentions]
    try:
        with _eager(model):
            _backbone(model)(pixel_values_videos=_pixels(model, clip))
    finally:
        for handle in handles:
            handle.remove()
    return [captured[id(attention)] for attention in attentions]


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Run the model without gradients and with eager attention: other backends do not return weights."""
    import torch

    backend = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            yield
    finally:
        model.set_attn_implementation(backend)


def _pixels(model: Any, clip: np.ndarray) -> Any:
    """A clip as the uint8 input of a model, `(1, frames, 3, height, width)`."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))[None].to(model.device)


def _backbone(model: Any) -> Any:
    return getattr(model, model.base_model_prefix, model)
