"""Processors for small frames, a clip of such frames, and a fake torchcodec decoder."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from video_files import moving_frames

from tubevit import TubeViTVideoProcessor


SMALL = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
UINT8 = {"do_rescale": False, "do_normalize": False}
# 40 decoded frames of 72x96, uint8 (frames, height, width, channels)
ARRAYS = moving_frames(40, 72, 96)


def video_processor(**settings) -> TubeViTVideoProcessor:
    return TubeViTVideoProcessor(**{"num_frames": 8, **SMALL, **settings})


def pixels(processor, video, **kwargs) -> torch.Tensor:
    return processor(video, return_tensors="pt", **kwargs).pixel_values_videos


class FakeVideoDecoder:
    """The methods and attributes of `torchcodec.decoders.VideoDecoder` that the processor uses."""

    def __init__(self, frames: torch.Tensor, fps: float, encoded: dict | None = None):
        self.frames, self.asked_for = frames, []
        self.metadata = SimpleNamespace(
            num_frames=len(frames), average_fps=fps, duration_seconds=len(frames) / fps, width=96, height=72
        )
        if encoded is not None:
            self._hf_encoded = encoded

    def get_frames_at(self, indices: list[int]):
        self.asked_for += indices
        return SimpleNamespace(data=self.frames[indices])


def forms_of(clip: Path, frames: torch.Tensor) -> dict:
    """Every input type of the processor for the video file `clip` (20 fps) with `frames`, uint8 (frames, 3, height, width)."""
    arrays = frames.permute(0, 2, 3, 1).numpy()
    read_only = arrays.copy()
    read_only.flags.writeable = False
    data = clip.read_bytes()
    return {
        "path": clip,
        "string": str(clip),
        "bytes": data,
        "bytearray": bytearray(data),
        "file object": open(clip, "rb"),
        "datasets path": {"path": str(clip), "bytes": None},
        "datasets bytes": {"path": "clip.mp4", "bytes": data},
        "torchcodec of datasets": FakeVideoDecoder(torch.zeros_like(frames), 20, {"path": str(clip), "bytes": None}),
        "torchcodec": FakeVideoDecoder(frames, 20),
        "tensor, channels first": frames.contiguous(),
        "tensor, channels last": frames.permute(0, 2, 3, 1),
        "array, channels first": frames.numpy(),
        "array, channels last": arrays,
        "read-only array": read_only,
        "reversed array": arrays[..., ::-1].copy()[..., ::-1],
        "integers": arrays.astype(np.int64),
        "list of arrays": list(arrays),
        "tuple of tensors": tuple(frames),
        "list of PIL images": [Image.fromarray(array) for array in arrays],
        "batch of one": arrays[None],
    }
