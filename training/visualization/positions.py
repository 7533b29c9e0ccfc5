# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Cosine similarity between the position embedding of one token and those of all other tokens (section 3.3).

If a map has its peak at the token and decreases around it, position embeddings encode the place of tokens. If the maps of
several tubes have their peaks at the same place, the tubes have a common coordinate system.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .canvas import FAINT_INK, INK, MARGIN, MIN_WIDTH, WIDTH, Canvas, darken, describe_size, dimensions, tube_colors
from .frame_grid import some_frames
from .tube_masks import applied_tubes, central_token


Size = tuple[int, int, int]
COLORMAP = "viridis"
NUM_TIMES_SHOWN = 4  # maps per tube
LABELS_WIDTH, HEAD, MAPS_HEAD, GAP, TUBE_GAP = 2.0, 0.95, 0.62, 0.08, 0.3  # inches
LARGEST_MAP, MIN_ROW_HEIGHT = 1.5, 0.5


def draw_positions(config: Any, size: Size, model: Any = None) -> Any:
    """
    A matplotlib `Figure` of similarity maps. The row of a tube shows the similarity of its central token to all tokens, with a
    map for each tube and time.

    config: a `TubeViTConfig`. size: (frames, height, width) of the clip; one frame is an image. model: a TubeViT of that
        config, whose learned positions are shown; not needed for fixed positions.

    Raises `ValueError` for a model without positions, and for a size that is too small for the tubes.
    """
    tubes = applied_tubes(config, size)
    similarities = position_similarities(position_vectors(config, size, model), tubes, size)
    colors = dict(zip(tubes, tube_colors(list(tubes)), strict=True))
    shown = {index: some_frames(tube.grid(size)[0], NUM_TIMES_SHOWN) for index, tube in tubes.items()}
    num_maps = sum(map(len, shown.values()))
    gaps = TUBE_GAP * (len(tubes) - 1) + GAP * (num_maps - len(tubes))
    width = min((WIDTH - MARGIN - LABELS_WIDTH - gaps) / num_maps, LARGEST_MAP)
    height = width * size[1] / size[2]
    step = max(height, MIN_ROW_HEIGHT) + GAP
    canvas = Canvas(
        max(LABELS_WIDTH + num_maps * width + gaps + MARGIN, MIN_WIDTH),
        HEAD + MAPS_HEAD + len(tubes) * step + 0.3,
    )
    low = min(float(values.min()) for row in similarities.values() for values in row.values())
    _draw_heading(canvas, config, size, low)
    for row, (index, tube) in enumerate(tubes.items()):
        top = HEAD + MAPS_HEAD + row * step
        name = dimensions(tube.kernel_size)
        canvas.text(MARGIN, top + height / 2 - 0.08, "token of", size=9, color=FAINT_INK)
        canvas.text(MARGIN, top + height / 2 + 0.15, name, size=12, color=darken(colors[index]), weight="bold")
        left = LABELS_WIDTH
        for other, moments in shown.items():
            if row == 0:
                _name_maps(canvas, left, width, tubes[other], colors[other], moments, size)
            for moment in moments:
                token = central_token(tube, size) if other == index else None
                place = (left, top, width, height)
                _draw_map(canvas, place, similarities[index][other][moment], low, tubes[other], size, token, moment)
                left += width + GAP
            left += TUBE_GAP - GAP
    return canvas.figure


def position_vectors(config: Any, size: Size, model: Any = None) -> np.ndarray:
    """
    Position embeddings of the tokens of a clip of `size`, float64 `(tokens, channels)`, one tube after the other.

    They are the vectors that are added to the tokens. For a model with rotary positions, they are the cosines and sines of the
    rotation angles, because it adds no spatial positions; the similarity of two tokens is then the mean cosine of the
    differences of their angles.
    """
    import torch

    from tubevit.position_embeddings import POSITION_CLASSES
    from tubevit.transferred_positions import TubeViTRotaryPositions

    if config.position_embedding in ("none", "relative"):
        raise ValueError(
            f"This model has position_embedding={config.position_embedding!r}, which adds no vectors to the tokens: there are no "
            "positions to show."
        )
    if model is None and not config.position_embedding.startswith("fixed"):
        raise ValueError(
            f"Positions with position_embedding={config.position_embedding!r} are learned: they need a model."
        )
    tubes = applied_tubes(config, size)
    num_tokens = sum(tube.num_tokens(size) for tube in tubes.values())
    tokens = torch.zeros(1, num_tokens, config.hidden_size, dtype=torch.float64)
    with torch.no_grad():
        if config.rope_theta is not None:
            prefix = torch.zeros(1, config.num_prefix_tokens + num_tokens, config.hidden_size, dtype=torch.float64)
            angles = TubeViTRotaryPositions(config)(tuple(tubes.values()), size, prefix)
            return torch.cat(angles, dim=-1)[config.num_prefix_tokens :].numpy()
        if model is None:
            positions = POSITION_CLASSES[config.position_embedding](config)
        else:
            positions = model.get_input_embeddings().positions
            tokens = tokens.to(model.device)
        return positions(tuple(tubes.values()), list(tubes), size, tokens).double().cpu().numpy()


def position_similarities(
    vectors: np.ndarray, tubes: Mapping[int, Any], size: Size
) -> dict[int, dict[int, np.ndarray]]:
    """
    Cosine similarities of the central token of each tube to all tokens of each tube.

    vectors: as from `position_vectors`. tubes: by index in the config.

    Returns `similarities[index][other]`, `(time, rows, columns)` of the other tube's grid. A token without a position has the
    similarity 0 to all others.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    ends = np.cumsum([tube.num_tokens(size) for tube in tubes.values()])
    parts = [
        part.reshape(*tube.grid(size), -1)
        for part, tube in zip(np.split(directions, ends[:-1]), tubes.values(), strict=True)
    ]
    grids = dict(zip(tubes, parts, strict=True))
    return {
        index: {other: grids[other] @ grids[index][central_token(tube, size)] for other in tubes}
        for index, tube in tubes.items()
    }


def _draw_heading(canvas: Canvas, config: Any, size: Size, low: float) -> None:
    """low: the smallest similarity."""
    kind = config.position_embedding.replace("_", " ")
    rule = "cosine similarity of one token (circle) to all others"
    canvas.heading("Positions", f"Position embedding \u201c{kind}\u201d: {rule}  ·  {describe_size(size)}")
    lowest = f"{low:.2f}".replace("-", "\N{MINUS SIGN}")
    canvas.color_scale(canvas.width - MARGIN, 0.30, COLORMAP, lowest, "1", "cosine similarity")


def _draw_map(
    canvas: Canvas, place: tuple, values: np.ndarray, low: float, tube: Any, size: Size, token, moment: int
) -> None:
    """Draw one map `(rows, columns)`: a tile per token at its place in the frame, and a circle at `token` if it is in the map."""
    _, rows, columns = tube.centers(size)
    axes = canvas.axes(*place)
    edges = [_tile_edges(centers, extent) for centers, extent in ((columns, size[2]), (rows, size[1]))]
    axes.pcolormesh(*edges, values, cmap=COLORMAP, vmin=low, vmax=1)
    axes.set_xlim(-0.5, size[2] - 0.5)
    axes.set_ylim(size[1] - 0.5, -0.5)
    if token is not None and token[0] == moment:
        axes.plot(columns[token[2]], rows[token[1]], "o", ms=7, mfc="none", mec=INK, mew=1.5)


def _tile_edges(centers: list[float], extent: int) -> np.ndarray:
    """Edges of tiles around `centers`, half way between neighbors; the outer edges are those of the frame."""
    middles = (np.array(centers[1:]) + np.array(centers[:-1])) / 2
    return np.concatenate(([-0.5], middles, [extent - 0.5]))


def _name_maps(
    canvas: Canvas, left: float, width: float, tube: Any, color: str, moments: np.ndarray, size: Size
) -> None:
    """Headings above the maps of a tube: its kernel, and the time of each map."""
    canvas.text(left, HEAD + 0.25, dimensions(tube.kernel_size), size=12, color=darken(color), weight="bold")
    times = tube.centers(size)[0]
    for column, moment in enumerate(moments):
        x = left + column * (width + GAP)
        canvas.text(x, HEAD + 0.5, f"t = {times[moment]:g}", size=9, color=FAINT_INK)
