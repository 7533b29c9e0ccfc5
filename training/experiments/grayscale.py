# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Clips reduced to small grey pictures, all that `linear_baselines` looks at, from files or drawn sets."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from tubevit.processing.cpu_cores import num_cores

from ..synthetic.motion_set import MAX_THREADS, DrawnSet


GREY_SIDE = 24
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def to_grey(frames: torch.Tensor, side: int = GREY_SIDE) -> torch.Tensor:
    """uint8 `(frames, 3, height, width)` to float32 `(frames, side, side)` in [0, 1]: means over areas of the whole frame."""
    grey = torch.einsum("nchw,c->nhw", frames.float() / 255, torch.tensor(LUMA))
    return torch.nn.functional.interpolate(grey[:, None], (side, side), mode="area")[:, 0]


def grey_made(drawn: DrawnSet) -> tuple[np.ndarray, np.ndarray]:
    """The clips of a drawn set, `(clips, frames, side, side)`, and their labels. Its pixels are not kept."""

    def one(index: int) -> torch.Tensor:
        return to_grey(torch.from_numpy(drawn.draw(index)))

    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        return torch.stack(list(pool.map(one, range(len(drawn))))).numpy(), np.array(drawn.labels)


def grey_read(rows: Any, num_frames: int, description: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Likewise of the rows of a split of `load_video_dataset`: `num_frames` frames spread over each video, looped where it has
    fewer. Raises `ValueError` for the first video that cannot be decoded or has no label.
    """
    from tqdm.auto import tqdm

    from tubevit.processing import decode_video
    from tubevit.processing.frame_sampling import uniform_clips

    from ..data.clip_sampling import video_source

    def choose(metadata: Any) -> np.ndarray:
        return uniform_clips(metadata.total_num_frames, num_frames)[0]

    def one(row: dict[str, Any]) -> torch.Tensor:
        if row["label"] is None:
            raise ValueError(f"{row['video_id']} has no label.")
        return decode_video(video_source(row["video"]), choose, frame_transform=to_grey, num_threads=1)[0]

    with ThreadPoolExecutor(min(num_cores(), MAX_THREADS)) as pool:
        frames = tqdm(pool.map(one, rows), description, len(rows), unit="video", dynamic_ncols=True, disable=None)
        return torch.stack(list(frames)).numpy(), np.array(rows["label"])
