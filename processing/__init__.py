# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""From files, arrays and images to the pixels that TubeViT takes: decoding, frame sampling, views, processors."""

if __name__ != "tubevit.processing":
    raise ImportError(
        f"This package is called `tubevit.processing`, not `{__name__}`: write `from tubevit.processing import ...` (after "
        "`pip install -e .` in the checkout). A second import under the folder's name would define every class twice."
    )

from .frame_sampling import fixed_rate_clips, uniform_clips
from .image_processing_tubevit import TubeViTImageProcessor
from .processing_tubevit import TubeViTProcessor
from .spatial_views import crop_views
from .video_decoding import TubeViTVideoMetadata, VideoDecodeError, decode_video, probe_video
from .video_processing_tubevit import TubeViTVideoProcessor


__all__ = [
    "TubeViTImageProcessor",
    "TubeViTProcessor",
    "TubeViTVideoMetadata",
    "TubeViTVideoProcessor",
    "VideoDecodeError",
    "crop_views",
    "decode_video",
    "fixed_rate_clips",
    "probe_video",
    "uniform_clips",
]
