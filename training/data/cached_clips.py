# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Clips that are decoded once and kept in memory, as uint8: for sets so small that a CPU should train rather than decode.

What is kept is a little more than the model sees, more frames and a margin around the crop, so that every epoch can cut
another clip out of it. Nothing is mirrored: a label may say left or right.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import Dataset

from tubevit.processing.cpu_cores import num_cores

from .formats.class_folders import LabelledClip


MAX_THREADS = 8  # decoding runs outside Python's lock


def decode_clips(
    clips: Sequence[LabelledClip], processor: Callable, description: str
) -> tuple[list[LabelledClip], list[torch.Tensor], list[tuple[LabelledClip, str]]]:
    """
    Decode each of `clips` by a `TubeViTVideoProcessor` that leaves pixels uint8, some at a time, with a progress bar.

    Returns the clips that could be read, the pixels of each `(frames, channels, height, width)`, and the other clips, each
    with the reason.
    """
    from tqdm.auto import tqdm

    def decode(clip: LabelledClip) -> torch.Tensor | str:
        try:
            # One thread each: that many files are decoded at a time.
            return processor(str(clip.path), num_decoder_threads=1, return_tensors="pt").pixel_values_videos[0]
        except (ValueError, OSError) as error:
            return " ".join(str(error).split())

    read, pixels, broken = [], [], []
    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        results = tqdm(pool.map(decode, clips), desc=description, total=len(clips), unit="clip", dynamic_ncols=True)
        for clip, result in zip(clips, results, strict=True):
            if isinstance(result, str):
                broken.append((clip, result))
            else:
                read.append(clip)
                pixels.append(result)
    return read, pixels, broken


class CachedClips(Dataset):
    """
    Decoded clips with labels, as `{"pixel_values_videos": uint8 (frames, channels, height, width), "labels": int}`.

    pixels: of each clip, uint8 `(frames, channels, height, width)`.
    label_ids: class index of each clip.
    augment: applied to a clip when it is taken, or `None`.
    """

    def __init__(self, pixels: Sequence[torch.Tensor], label_ids: Sequence[int], augment: Callable | None = None):
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

    def __init__(self, num_frames: int, size: int, shortest_share: float = 0.8, color_jitter: float = 0.1):
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
        brightness, contrast, *balance = ((2 * torch.rand(5) - 1) * self.color_jitter).tolist()
        gain = (1 + contrast) * (1 + torch.tensor(balance) / 2)
        changed = clip.float().mul_(gain.view(1, 3, 1, 1)).add_(128 * brightness)
        return changed.clamp_(0, 255).to(torch.uint8)
