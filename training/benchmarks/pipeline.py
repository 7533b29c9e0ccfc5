# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Time from file to label: `pipeline("video-classification")` with TubeViT and with VideoMAE-B, with random weights.

VideoMAE runs in two ways. Its published checkpoints have an image processor, with which the pipeline reads the first 16
frames of a file; they decode fast and span half a second. With its video processor, the 16 frames span the whole video, as
the 32 frames of TubeViT do; Transformers decodes them, with PyAV if torchcodec is not installed.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEVideoProcessor,
    pipeline,
)
from transformers.utils import logging
from transformers.utils.import_utils import is_torchcodec_available
from transformers.video_utils import load_video

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor
from tubevit.processing.video_decoding import probe_video

from ..timing import interleave, ratios, summarize


class PyAVVideoProcessor(VideoMAEVideoProcessor):
    """VideoMAE's video processor with Transformers' PyAV loader, for machines without torchcodec, its default decoder."""

    def fetch_videos(self, video_url_or_urls, sample_indices_fn=None):
        if isinstance(video_url_or_urls, list):
            return list(zip(*[self.fetch_videos(each, sample_indices_fn) for each in video_url_or_urls], strict=True))

        def sample(metadata, **kwargs):
            if not metadata.total_num_frames:  # missing in WebM files; Transformers would sample no frames
                metadata.total_num_frames = probe_video(video_url_or_urls).total_num_frames
            return sample_indices_fn(metadata=metadata, **kwargs)

        return load_video(video_url_or_urls, backend="pyav", sample_indices_fn=sample)


def make_pipelines(preset: str, device: str, dtype: str) -> dict[str, Any]:
    """
    Pipelines by name: `"tubevit"`, `"tubevit_uint8"` (the model normalizes the pixels), `"videomae"` (first frames of a
    file) and `"videomae_whole"` (frames of the whole video).
    """
    tubevit = TubeViTForVideoClassification(preset_config(preset)).to(getattr(torch, dtype)).eval()
    videomae = VideoMAEForVideoClassification(VideoMAEConfig()).to(getattr(torch, dtype)).eval()
    decoder = VideoMAEVideoProcessor() if is_torchcodec_available() else PyAVVideoProcessor()
    parts = {
        "tubevit": (tubevit, {"video_processor": TubeViTVideoProcessor()}),
        "tubevit_uint8": (tubevit, {"video_processor": TubeViTVideoProcessor(do_rescale=False, do_normalize=False)}),
        "videomae": (videomae, {"image_processor": VideoMAEImageProcessor()}),
        "videomae_whole": (videomae, {"video_processor": decoder}),
    }
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # hides the deprecation of image processors for videos, which VideoMAE's checkpoints have
    try:
        return {
            name: pipeline("video-classification", model=model, device=device, **processor)
            for name, (model, processor) in parts.items()
        }
    finally:
        logging.set_verbosity(verbosity)


def measure_pipelines(
    files: list[tuple[str, Path]], preset: str, device: str, dtype: str, rounds: int
) -> list[dict[str, Any]]:
    """
    `{"title", "pipelines": {name: times in ms}}` per `(title, path)`, with the names of `make_pipelines`. The ratios of
    VideoMAE are TubeViT's time (float pixels) divided by VideoMAE's.
    """
    pipelines = make_pipelines(preset, device, dtype)
    reports = []
    for title, path in files:
        calls = {name: lambda each=each, path=path: each(str(path)) for name, each in pipelines.items()}
        times = {name: summarize(each) for name, each in interleave(calls, rounds, device, title).items()}
        for name in ("videomae", "videomae_whole"):
            times[name] |= ratios(times["tubevit"], times[name])
        reports.append({"title": title, "pipelines": times})
    return reports
