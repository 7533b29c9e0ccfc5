# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Converts files, arrays and images to the input pixels of TubeViT: decoding, frame sampling, views, processors."""

if __name__ != "tubevit.processing":
    raise ImportError(
        f"This package is called `tubevit.processing`, not `{__name__}`: write `from tubevit.processing import ...` (after "
        "`pip install -e .` in the checkout). A second import under the folder's name would define every class twice."
    )

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .clip_assembly import TubeViTVideoMetadata
    from .frame_sampling import fixed_rate_clips, uniform_clips
    from .image_processing_tubevit import TubeViTImageProcessor
    from .processing_tubevit import TubeViTProcessor
    from .spatial_views import crop_views
    from .video_decoding import decode_video, probe_video
    from .video_processing_factorized_vivit import FactorizedViViTVideoProcessor
    from .video_processing_tubevit import TubeViTVideoProcessor
    from .video_processing_uniformerv2 import UniFormerV2VideoProcessor
    from .video_source import VideoDecodeError


__all__ = [
    "FactorizedViViTVideoProcessor",
    "TubeViTImageProcessor",
    "TubeViTProcessor",
    "TubeViTVideoMetadata",
    "TubeViTVideoProcessor",
    "UniFormerV2VideoProcessor",
    "VideoDecodeError",
    "crop_views",
    "decode_video",
    "fixed_rate_clips",
    "probe_video",
    "uniform_clips",
]

# Public name to the module that defines it. A module is imported when its name is first used, so `--help` needs no torch.
_MODULES = {
    "FactorizedViViTVideoProcessor": "video_processing_factorized_vivit",
    "TubeViTImageProcessor": "image_processing_tubevit",
    "TubeViTProcessor": "processing_tubevit",
    "TubeViTVideoMetadata": "clip_assembly",
    "TubeViTVideoProcessor": "video_processing_tubevit",
    "UniFormerV2VideoProcessor": "video_processing_uniformerv2",
    "VideoDecodeError": "video_source",
    "crop_views": "spatial_views",
    "decode_video": "video_decoding",
    "fixed_rate_clips": "frame_sampling",
    "probe_video": "video_decoding",
    "uniform_clips": "frame_sampling",
}


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of this package, when it is first used."""
    if name in _MODULES:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    elif not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
