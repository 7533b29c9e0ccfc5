# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A TubeViT's tokenizer whose graph takes clips of any number of frames.

In the model the number of frames is a constant of a graph: the tokenizer gathers the pixels of each tube by it, and has a table of positions
for it. Here each tube is a Conv3d, and the positions in time are computed from the number of its outputs. The tokens are those of the model, to float
rounding, because the positions of section 3.3 depend on the frame of a token only, not on the length of the clip.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tubevit.position_embeddings import TubeViTFixedPositions, TubeViTNoPositions, sincos_position_embedding
from tubevit.tube_embeddings import TubeViTEmbeddings


def fixed_frames_reason(model: Any) -> str | None:
    """Why a graph of this classifier takes one number of frames only; `None` if `any_num_frames` makes one for any number."""
    if not hasattr(model.config, "get_tubes"):
        return f"the graph of a {type(model).__name__} is made for one number of frames"
    embeddings = model.get_input_embeddings()
    if type(embeddings.positions) not in (TubeViTFixedPositions, TubeViTNoPositions) or embeddings.rotary_positions:
        return (
            "only position_embedding fixed and none, without rotary positions, do not depend on the number of frames"
        )
    if embeddings.use_frame_differences:
        return "use_frame_differences=True needs the pixels of each tube"
    if any(tube.num_merged > 1 for tube in embeddings.tubes):
        return "space_to_depth merges a number of tokens that depends on the number of frames"
    if model.config.pooling == "grid":
        return "the cells of pooling='grid' hold tokens that depend on the number of frames"
    if embeddings.allow_missing_tubes:
        return "with allow_missing_tubes=True the number of frames decides which tubes are applied"
    return None


def least_num_frames(model: Any) -> int:
    """The smallest number of frames that holds every tube of a TubeViT."""
    return max(tube.smallest_size[0] for tube in model.get_input_embeddings().tubes)


@contextmanager
def any_num_frames(model: Any) -> Iterator[None]:
    """A classifier for which `fixed_frames_reason` is `None` tokenizes by `ClipTokens` in this context."""
    own = model.get_input_embeddings()
    tokens = ClipTokens(own, tuple(model.config.image_height_width))
    names = [name for name, module in model.named_modules() if module is own]
    parent = model.get_submodule(names[0].rpartition(".")[0])
    attribute = names[0].rpartition(".")[2]
    setattr(parent, attribute, tokens)
    try:
        yield
    finally:
        setattr(parent, attribute, own)


class ClipTokens(nn.Module):
    """The tokens of `embeddings` for clips of this height and width, and of any number of frames that holds every tube."""

    def __init__(self, embeddings: TubeViTEmbeddings, height_width: tuple[int, ...]):
        super().__init__()
        self.embeddings = embeddings
        self.rotary, self.attention_bias = embeddings.rotary, embeddings.attention_bias
        self.has_positions = isinstance(embeddings.positions, TubeViTFixedPositions)
        if self.has_positions:
            self._make_tables(embeddings, height_width)

    def _make_tables(self, embeddings: TubeViTEmbeddings, height_width: tuple[int, ...]) -> None:
        """
        Positions in space `(rows * columns, dim)` of each tube, and the frequencies of the positions in time: channel `c` has
        `amplitude[c] * sin(t * frequency[c] + phase[c])`.
        """
        _, dim, temperature = embeddings.positions.table_settings
        channels, num_frequencies = torch.arange(dim), dim // 6
        is_time = (channels % 6 < 2) & (channels < 6 * num_frequencies)
        self.amplitude = nn.Buffer(is_time.float())
        self.frequency = nn.Buffer(is_time * temperature ** -(channels // 6 / max(1, num_frequencies)).float())
        self.phase = nn.Buffer(is_time * (channels % 6) * (math.pi / 2))
        for index, tube in enumerate(embeddings.tubes):
            _, rows, columns = tube.centers((tube.smallest_size[0], *height_width))
            table = sincos_position_embedding(([0.0], rows, columns), dim, temperature)
            self.register_buffer(f"space_{index}", (table * ~is_time).float())

    def forward(self, pixel_values: None = None, pixel_values_videos: torch.Tensor | None = None) -> torch.Tensor:
        """As `TubeViTEmbeddings.forward`, of clips only."""
        assert pixel_values is None and pixel_values_videos is not None
        video, own = pixel_values_videos.transpose(1, 2), self.embeddings
        if video.dtype == torch.uint8:
            video = own._normalize(video, own.dtype)
        tokens = torch.cat([self._tube(video.to(own.dtype), index) for index in range(len(own.tubes))], dim=1)
        for prefix in (own.register_tokens, own.cls_token):
            if prefix is not None:
                tokens = torch.cat((prefix.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return tokens

    def _tube(self, video: torch.Tensor, index: int) -> torch.Tensor:
        tube = self.embeddings.tubes[index]
        time, row, column = tube.offset
        grid = nn.functional.conv3d(video[:, :, time:, row:, column:], *self.embeddings.kernel(index), tube.stride)
        tokens = grid.flatten(3).permute(0, 2, 3, 1)  # (batch, times, rows * columns, dim)
        if self.has_positions:
            first = time + (tube.kernel_size[0] - 1) / 2
            times = first + tube.stride[0] * torch.arange(tokens.shape[1], device=video.device).float()
            angles = times[:, None, None] * self.frequency + self.phase
            tokens = tokens + (self.amplitude * angles.sin() + self.get_buffer(f"space_{index}")).to(tokens.dtype)
        return tokens.flatten(1, 2)
