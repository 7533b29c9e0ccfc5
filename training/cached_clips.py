# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clips that are decoded once and kept in memory, as uint8: for sets so small that a CPU should train rather than decode.

What is kept is a little more than the model sees, more frames and a margin around the crop, so that every epoch can cut
another clip out of it. Nothing is mirrored: a label may say left or right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .class_folders import LabelledClip


def decode_clips(
    clips: Sequence[LabelledClip], processor: Callable, description: str
) -> tuple[list[LabelledClip], torch.Tensor | None, list[tuple[LabelledClip, str]]]:
    """
    Decode each of `clips` by a video processor that leaves pixels uint8, with a progress bar.

    Returns the clips that could be read, their pixels `(clips, frames, channels, height, width)` (`None` if there are
    none), and the others, each with the reason.
    """
    from tqdm.auto import tqdm

    read, pixels, broken = [], [], []
    for clip in tqdm(clips, desc=description, unit="clip", dynamic_ncols=True):
        try:
            pixels.append(processor(str(clip.path), return_tensors="pt").pixel_values_videos[0])
            read.append(clip)
        except (ValueError, OSError) as error:
            broken.append((clip, " ".join(str(error).split())))
    return read, torch.stack(pixels) if pixels else None, broken


class CachedClips(Dataset):
    """
    Decoded clips with labels, as `{"pixel_values_videos": uint8 (frames, channels, height, width), "labels": int}`.

    pixels: uint8 `(clips, frames, channels, height, width)`.
    label_ids: class index of each clip.
    augment: applied to a clip when it is taken, or `None`.
    """

    def __init__(self, pixels: torch.Tensor, label_ids: Sequence[int], augment: Callable | None = None):
        self.pixels, self.label_ids, self.augment = pixels, list(label_ids), augment

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.pixels[index]
        return {
            "pixel_values_videos": clip if self.augment is None else self.augment(clip),
            "labels": self.label_ids[index],
        }


class RandomClip:
    """
    Cuts a clip of `num_frames` frames of `size` x `size` out of a longer and larger one, at a random time and place.

    The frames span between `shortest_share` of the video and all of it, and brightness, contrast and the balance of
    colours change a little; each is drawn once per clip and is the same for all its frames. Draws come from torch's
    global generator, which Trainer seeds.
    """

    def __init__(self, num_frames: int, size: int, shortest_share: float = 0.8, color_jitter: float = 0.2):
        self.num_frames, self.size = num_frames, size
        self.shortest_share, self.color_jitter = shortest_share, color_jitter

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        """uint8 `(frames, channels, height, width)` to uint8 `(num_frames, channels, size, size)`."""
        clip = clip[self._random_frames(len(clip))]
        top, left = (int(torch.randint(extent - self.size + 1, ())) for extent in clip.shape[-2:])
        clip = clip[..., top : top + self.size, left : left + self.size]
        return self._jitter_colors(clip) if self.color_jitter else clip

    def _random_frames(self, total: int) -> torch.Tensor:
        """Indices of evenly spaced frames, the centres of `num_frames` equal segments of a random part of the clip."""
        length = total * (self.shortest_share + (1 - self.shortest_share) * torch.rand(()).item())
        start = (total - length) * torch.rand(()).item()
        centers = start + (torch.arange(self.num_frames) + 0.5) * length / self.num_frames
        return centers.long().clamp(max=total - 1)

    def _jitter_colors(self, clip: torch.Tensor) -> torch.Tensor:
        # One table of 256 entries per channel instead of float arithmetic on every pixel.
        jitter = lambda *shape: (2 * torch.rand(*shape) - 1) * self.color_jitter  # noqa: E731
        gain = (1 + jitter(1)) * (1 + jitter(3) / 2)
        values = torch.arange(256)[None, :] * gain[:, None] + 128 * jitter(1)
        tables = values.clamp(0, 255).to(torch.uint8)
        return torch.stack([tables[c][clip[:, c].long()] for c in range(clip.shape[1])], dim=1)
