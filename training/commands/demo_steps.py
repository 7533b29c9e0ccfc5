# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What `tubevit demo` and `tubevit demo --quick` share: the last step, classify clips and draw the report, and what they print."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data.demo_clips import LabeledClip


REPORT_SCALE = 3  # frames in the report have this multiple of the model's resolution


def classify_and_draw(
    model_folder: Path,
    clips: Sequence[LabeledClip],
    path: Path,
    on_clip: Callable[[LabeledClip, tuple[str, float]], None] | None = None,
    **texts: str,
) -> int:
    """
    Classify video files with Transformers' pipeline, from the saved model only, and write the report. Returns the number of clips whose
    best label is correct.

    on_clip: called with each clip and its best label and score. texts: `title`, `subtitle` and `clips_are` of `draw_report`.
    """
    import torch
    from transformers import pipeline

    from ..logging_utils import progress_bar
    from ..visualization.tube_masks import read_mask
    from .demo_report import ReportClip, draw_report

    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier = pipeline("video-classification", model=str(model_folder), device=device)
    processor, report_clips = _report_processor(classifier.video_processor), []
    for clip in progress_bar(clips, "classifying", unit="clip"):
        predictions = [(entry["label"], entry["score"]) for entry in classifier(str(clip.path), top_k=3)]
        frames = processor(str(clip.path), return_tensors="pt").pixel_values_videos[0]
        report_clips.append(ReportClip(frames.permute(0, 2, 3, 1).numpy(), clip.label, predictions))
        if on_clip is not None:
            on_clip(clip, predictions[0])
    config = classifier.model.config
    size, tubes = (config.num_frames, *config.image_height_width), config.get_tubes()
    fraction = read_mask(tubes, size).mean()
    texts["subtitle"] += f"  ·  {config.num_tokens()} tokens per clip, which read {100 * fraction:.0f} % of its pixels"
    draw_report(path, report_clips, tubes, size, **texts)
    return sum(clip.is_correct for clip in report_clips)


def _report_processor(processor: Any) -> Any:
    """The processor of a model, for uint8 frames at `REPORT_SCALE` times its resolution."""
    size = {side: REPORT_SCALE * pixels for side, pixels in dict(processor.size).items() if pixels}
    crop = {side: REPORT_SCALE * pixels for side, pixels in dict(processor.crop_size).items() if pixels}
    settings = {**processor.to_dict(), "size": size, "crop_size": crop, "do_rescale": False, "do_normalize": False}
    return type(processor).from_dict(settings)


def command_name() -> str:
    """The command by which the user called `tubevit`, relative to the working folder."""
    path = Path(sys.argv[0])
    if path.name != "tubevit" or not path.is_file():
        return "tubevit"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_step(step: int, text: str, total: int = 5) -> None:
    print(f"\n[{step}/{total}] {text}", flush=True)
