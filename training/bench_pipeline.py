# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
File to label: `pipeline("video-classification")` with TubeViT and with VideoMAE-B, both with random weights.

VideoMAE gets what works where it runs: its video processor if torchcodec is installed; otherwise its image processor, for which
the pipeline decodes the first 16 frames of a file with PyAV. That is less to decode than the 32 frames over the whole
video that TubeViT's processor takes, so the comparison errs in VideoMAE's favour.
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
from transformers.utils.import_utils import is_torchcodec_available

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config
from tubevit.processing import TubeViTVideoProcessor

from .bench_timing import interleave, ratios, summarize


def make_pipelines(preset: str, device: str, dtype: str) -> dict[str, Any]:
    """`"tubevit"`, `"tubevit_uint8"` (whose processor leaves normalising to the model) and `"videomae"`."""

    def make(model, **processor):
        return pipeline("video-classification", model=model, device=device, **processor)

    tubevit = TubeViTForVideoClassification(preset_config(preset)).to(getattr(torch, dtype)).eval()
    videomae = VideoMAEForVideoClassification(VideoMAEConfig()).to(getattr(torch, dtype)).eval()
    if is_torchcodec_available():
        stock = {"video_processor": VideoMAEVideoProcessor()}
    else:
        stock = {"image_processor": VideoMAEImageProcessor()}
    return {
        "tubevit": make(tubevit, video_processor=TubeViTVideoProcessor()),
        "tubevit_uint8": make(tubevit, video_processor=TubeViTVideoProcessor(do_rescale=False, do_normalize=False)),
        "videomae": make(videomae, **stock),
    }


def measure_pipelines(
    files: list[tuple[str, Path]], preset: str, device: str, dtype: str, rounds: int
) -> list[dict[str, Any]]:
    """`{"title", "pipelines": {name: times, ratios}}` per `(title, path)`, names as in `make_pipelines`."""
    pipelines = make_pipelines(preset, device, dtype)
    reports = []
    for title, path in files:
        calls = {name: lambda each=each, path=path: each(str(path)) for name, each in pipelines.items()}
        times = {name: summarize(each) for name, each in interleave(calls, rounds, device, title).items()}
        for name in ("tubevit", "tubevit_uint8"):
            times[name] |= ratios(times[name], times["videomae"])
        reports.append({"title": title, "pipelines": times})
    return reports
