# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clip to tokens: the sparse tokenizer of `tube_embeddings` against `Conv3d` with the same weights.

Conv3d gets its best case, a clip that already lies in its own `(batch, channels, frames, height, width)` layout, and the view
of our layout that a model would hand it. From uint8 it needs the whole clip rescaled and normalised first, by the function of
the library's processors that does it; the sparse tokenizer normalises what the tubes read. Every variant adds the same positions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import VideoMAEVideoProcessor

from tubevit import TubeViTModel
from tubevit.presets import preset_config
from tubevit.tube_embeddings import merge_applications

from ..timing import interleave, ratios, summarize


# Our variants, and those that each is compared with.
COMPARED = {"float": "conv3d", "uint8": "normalize_conv3d"}


def make_variants(embeddings: nn.Module, clip: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """
    Functions that make tokens `(batch, tokens, hidden_size)` of one clip, by name.

    "float" and "uint8" are ours, "conv3d" takes the clip in Conv3d's layout, "conv3d_view" a view of ours, and
    "normalize_conv3d" normalises uint8 pixels before such a view.

    clip: uint8 `(batch, frames, channels, height, width)`; the float variants get it normalised beforehand.
    """
    dtype = embeddings.dtype
    size = (clip.shape[1], clip.shape[3], clip.shape[4])
    processor = VideoMAEVideoProcessor()

    def normalize(pixels: torch.Tensor) -> torch.Tensor:
        settings = (True, embeddings.rescale_factor, True, tuple(embeddings.image_mean), tuple(embeddings.image_std))
        return processor.rescale_and_normalize(pixels, *settings).to(dtype)

    def convolve(video: torch.Tensor) -> torch.Tensor:
        tokens = []
        for index, tube in enumerate(embeddings.tubes):
            time, row, column = tube.offset
            nt, nh, nw = tube.kernel_grid(size)
            window = video[:, :, time:, row:, column:]
            grid = nn.functional.conv3d(window, *embeddings.kernel(index), tube.kernel_stride)[:, :, :nt, :nh, :nw]
            tokens.append(merge_applications(grid.flatten(2).transpose(1, 2), tube, size))
        tokens = torch.cat(tokens, dim=1)
        return tokens + embeddings.positions(embeddings.tubes, range(len(embeddings.tubes)), size, tokens)

    normalized = normalize(clip)
    channels_first = normalized.transpose(1, 2).contiguous()
    return {
        "float": lambda: embeddings(pixel_values_videos=normalized),
        "conv3d": lambda: convolve(channels_first),
        "conv3d_view": lambda: convolve(normalized.transpose(1, 2)),
        "uint8": lambda: embeddings(pixel_values_videos=clip),
        "normalize_conv3d": lambda: convolve(normalize(clip).transpose(1, 2)),
    }


def measure_tokenizer(
    preset: str, num_frames: int, image_size: int, batch_size: int, device: str, dtype: str, rounds: int
) -> dict[str, Any]:
    """
    `{"variants": {name: times, ratios and largest difference from Conv3d's tokens}}` with the names of `make_variants`.

    "ratio" is our time divided by that of the variant we are compared with.
    """
    config = preset_config(preset, num_frames=num_frames, image_size=image_size, num_hidden_layers=1)
    embeddings = TubeViTModel(config).embeddings.to(device, getattr(torch, dtype)).eval()
    clip = torch.randint(0, 256, (batch_size, num_frames, 3, image_size, image_size), dtype=torch.uint8, device=device)
    with torch.inference_mode():
        variants = make_variants(embeddings, clip)
        reference = variants["conv3d"]().float()
        differences = {name: (call().float() - reference).abs().max().item() for name, call in variants.items()}
        timings = interleave(variants, rounds, device, f"tokenizer, {dtype}")
    rows = {name: summarize(each) | {"difference": differences[name]} for name, each in timings.items()}
    for name, against in COMPARED.items():
        rows[name] |= ratios(rows[name], rows[against])
    return {"dtype": dtype, "batch_size": batch_size, "variants": rows}
