# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video processor of ViViT: every `frame_stride`-th frame, and pixels from -1 to 1, with the decoding, views and inputs of the TubeViT
processor.
"""

from typing import Literal

import numpy as np
import torch
from transformers.processing_utils import Unpack
from transformers.video_utils import VideoMetadata

from .frame_sampling import PAD_MODES
from .processor_settings import COUNT, one_of
from .video_processing_tubevit import VIDEO_RULES, TubeViTVideoProcessor, TubeViTVideoProcessorKwargs


def strided_clips(
    total_num_frames: int, num_frames: int, stride: int, starts: np.ndarray, pad_mode: str = "loop"
) -> np.ndarray:
    """
    Clips of every `stride`-th frame.

    starts: first frames, `(num_clips,)`. pad_mode: padding after the end of the video: "loop" restarts the video, "last" repeats its last
        frame, "error" raises `ValueError`.

    Returns int64 frame indices `(num_clips, num_frames)`.

    >>> strided_clips(10, 4, 2, np.array([0, 3])).tolist()
    [[0, 2, 4, 6], [3, 5, 7, 9]]
    >>> strided_clips(5, 4, 2, np.array([0]), "last").tolist()
    [[0, 2, 4, 4]]
    """
    indices = np.asarray(starts, np.int64)[:, None] + stride * np.arange(num_frames)
    if pad_mode == "loop":
        return indices % total_num_frames
    if pad_mode == "error" and indices.max() >= total_num_frames:
        raise ValueError(
            f"The video is too short: {num_frames} frames with a stride of {stride} need {indices.max() + 1} frames, it has "
            f"{total_num_frames}; lower num_frames or frame_stride, or set pad_mode to 'loop' or 'last'."
        )
    return np.minimum(indices, total_num_frames - 1)


class FactorizedViViTVideoProcessorKwargs(TubeViTVideoProcessorKwargs, total=False):
    """
    sampling (`str`, *optional*, defaults to `"frame_stride"`):
        `"frame_stride"`: `num_frames` frames, every `frame_stride`-th one, whatever the frame rate. `"uniform"` and `"fixed_rate"` as in
        [`TubeViTVideoProcessor`].
    frame_stride (`int`, *optional*, defaults to 2):
        Distance between the frames of a clip, in frames of the video. Scenic's Kinetics models have 2, Something-Something and EPIC 1.
    """

    sampling: Literal["frame_stride", "uniform", "fixed_rate"] | None  # type: ignore[misc]
    frame_stride: int | None


class FactorizedViViTVideoProcessor(TubeViTVideoProcessor):
    r"""
    Prepares videos for ViViT as Scenic does: clips of 32 frames with a stride of 2, pixels from -1 to 1.

    The settings are those of [`TubeViTVideoProcessor`], and `frame_stride`. A single clip is at the center of the video; several are evenly
    spaced, the first at its start and the last at its end. Published models are evaluated with 4 temporal and 3 spatial views of
    frames whose shorter side is 256.

    Example:

    ```python
    >>> import numpy as np
    >>> from tubevit.processing import FactorizedViViTVideoProcessor

    >>> processor = FactorizedViViTVideoProcessor()
    >>> video = np.zeros((80, 240, 320, 3), dtype=np.uint8)
    >>> processor(video, return_tensors="pt").pixel_values_videos.shape
    torch.Size([1, 32, 3, 224, 224])

    ```"""

    valid_kwargs = FactorizedViViTVideoProcessorKwargs  # type: ignore[assignment]  # another choice of sampling
    rules = {
        **VIDEO_RULES,
        "sampling": one_of("frame_stride", "uniform", "fixed_rate"),
        "frame_stride": COUNT,
        "pad_mode": one_of(*PAD_MODES),
    }

    size = {"shortest_edge": 256}
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]
    sampling = "frame_stride"
    frame_stride = 2

    def __init__(self, **kwargs: Unpack[FactorizedViViTVideoProcessorKwargs]):
        super().__init__(**kwargs)  # type: ignore[misc, arg-type]  # it declares its own settings only

    def describe_sampling(self) -> str:
        """As in the base class, or "with a stride of 2 frames"."""
        strided = self.sampling == "frame_stride"
        return f"with a stride of {self.frame_stride} frames" if strided else super().describe_sampling()

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs
    ) -> np.ndarray:
        """
        As in the base class. With `sampling="frame_stride"`, `fps` replaces `num_frames` and `frame_stride`: the frames are spread over the
        whole video.
        """
        names = ("sampling", "clip_start", "num_temporal_views", "pad_mode", "frame_stride")
        chosen = {name: kwargs[name] if kwargs.get(name) is not None else getattr(self, name) for name in names}
        if chosen["sampling"] != "frame_stride":
            return super().sample_frames(metadata, num_frames=num_frames, fps=fps, **kwargs)
        if fps is not None:
            return super().sample_frames(metadata, num_frames=num_frames, fps=fps, **kwargs | {"sampling": "uniform"})
        if not metadata.total_num_frames:
            raise ValueError("The video has no frames.")
        total, count, num_views = (
            metadata.total_num_frames,
            num_frames or self.num_frames,
            chosen["num_temporal_views"],
        )
        slack = max(0, total - (count - 1) * chosen["frame_stride"] - 1)
        if chosen["clip_start"] == "random":
            starts = np.floor(torch.rand(num_views, dtype=torch.float64).numpy() * (slack + 1))
        elif num_views == 1:
            starts = np.array([slack // 2])
        else:
            starts = np.arange(num_views) * slack // (num_views - 1)
        return strided_clips(total, count, chosen["frame_stride"], starts, chosen["pad_mode"]).reshape(-1)


__all__ = ["FactorizedViViTVideoProcessor"]
