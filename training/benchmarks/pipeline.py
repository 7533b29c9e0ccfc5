# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
File to label: `pipeline("video-classification")` with TubeViT and with VideoMAE-B, both with random weights.

VideoMAE runs in two ways. As its checkpoints are, with an image processor: then the pipeline takes the first 16 frames of a
file, whatever its length, which costs little to decode and shows half a second. And with its video processor, whose 16
frames span the whole video, as TubeViT's 32 do; the library decodes them, with PyAV if torchcodec is not installed.
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
    """VideoMAE's video processor for where torchcodec, its only decoder, is missing: the library's loader with PyAV."""

    def fetch_videos(self, video_url_or_urls, sample_indices_fn=None):
        if isinstance(video_url_or_urls, list):
            return list(zip(*[self.fetch_videos(each, sample_indices_fn) for each in video_url_or_urls], strict=True))

        def sample(metadata, **kwargs):
            if not metadata.total_num_frames:  # WebM states none, and the library then samples nothing
                metadata.total_num_frames = probe_video(video_url_or_urls).total_num_frames
            return sample_indices_fn(metadata=metadata, **kwargs)

        return load_video(video_url_or_urls, backend="pyav", sample_indices_fn=sample)


def make_pipelines(preset: str, device: str, dtype: str) -> dict[str, Any]:
    """
    `"tubevit"`, `"tubevit_uint8"` (whose processor leaves normalising to the model), `"videomae"` (first frames) and
    `"videomae_whole"` (frames of the whole video).
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
    logging.set_verbosity_error()  # the library deprecates image processors here, and its checkpoints have nothing else
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
    `{"title", "pipelines": {name: times}}` per `(title, path)`, names as in `make_pipelines`. Those of VideoMAE hold TubeViT's
    (float pixels) time divided by theirs.
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
