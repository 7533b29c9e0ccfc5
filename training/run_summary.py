# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What a run says at its start and at its end, in a few lines that can be read."""

import math
from pathlib import Path
from typing import Any

from .optimisation import Depths
from .run_setup import RunSetup, count_parameters


def describe_clip(setup: RunSetup) -> dict[str, Any]:
    """Of a TubeViT, tokens and GFLOPs of one clip, as `info.describe` counts them; nothing of other models."""
    from .info import describe

    config = setup.model.model.config
    if config.model_type != "tubevit":
        return {}
    config = type(config).from_dict(config.to_dict())  # describing switches the attention of its config
    return describe(config, [config.num_frames])["clips"][0]


def count_steps(setup: RunSetup, num_processes: int) -> tuple[int, int | None]:
    """Clips per optimizer step over all processes, and steps of the whole run; `None` where there is no knowing."""
    training = setup.run.training
    batch = training.per_device_train_batch_size * num_processes
    effective = batch * training.gradient_accumulation_steps
    if training.max_steps > 0:
        return effective, training.max_steps
    batches = math.ceil(len(setup.train_clips) / batch)
    per_epoch = max(1, math.ceil(batches / training.gradient_accumulation_steps))
    return effective, math.ceil(training.num_train_epochs * per_epoch)


def start_summary(setup: RunSetup, num_processes: int, device: str, clip: dict[str, Any]) -> str:
    """
    What will be trained on what.

    clip: what `describe_clip` gave.
    """
    model, config, processor = setup.model.model, setup.model.model.config, setup.model.processor
    kind = (
        f"{type(model.get_base_model()).__name__} with adapters"
        if hasattr(model, "get_base_model")
        else type(model).__name__
    )
    total, trained = count_parameters(model)
    effective, steps = count_steps(setup, num_processes)
    training = setup.run.training
    rate = f"at {processor.fps:g} fps" if processor.sampling == "fixed_rate" else "spread over the video"
    crop = f"{processor.crop_size['height']}x{processor.crop_size['width']}"
    lines = {
        "model": f"{kind}, {Depths.of(model).num_layers} layers of width {config.hidden_size}",
        "parameters": f"{total / 1e6:.2f} M: {trained / 1e6:.2f} M trained, {(total - trained) / 1e6:.2f} M frozen",
        "clip": f"{processor.num_frames} frames of {crop}, {rate}",
    }
    if clip:
        tubes = ("x".join(map(str, tube.kernel_size)) for tube in config.get_tubes())
        per_tube = ", ".join(f"{tube}: {count}" for tube, count in zip(tubes, clip["tokens_per_tube"], strict=True))
        lines["tokens per clip"] = f"{clip['tokens']:,} ({per_tube})"
        lines["arithmetic per clip"] = f"{clip['gflops']:.3g} GFLOPs forward"
    for split, counts in setup.counts.items():
        bad = f", {counts['cannot_be_read']:,} cannot be read" if counts.get("cannot_be_read") else ""
        lines[f"{split} videos"] = f"{counts['used']:,}{bad}" if counts else "a stream"
    lines["classes"] = f"{len(setup.data.class_names)}"
    lines["effective batch"] = (
        f"{effective} = {training.per_device_train_batch_size} clips x {num_processes} x {device} x "
        f"{training.gradient_accumulation_steps} accumulated"
    )
    lines["steps"] = f"{steps:,}"
    return format_lines(lines)


def end_summary(metrics: dict[str, Any], throughput: dict[str, Any], folder: Path) -> str:
    """What came out, and where it is."""
    lines = {name.removeprefix("eval_").replace("_", " "): _number(value) for name, value in metrics.items()}
    lines["training"] = (
        f"{throughput['seconds']:.0f} s, {throughput['clips_per_second']:.1f} clips/s, "
        f"{throughput['share_of_time_waiting_for_data']:.0%} of the time waiting for clips"
    )
    lines["saved in"] = str(folder)
    return format_lines(lines)


def format_lines(lines: dict[str, str]) -> str:
    width = max(map(len, lines)) + 2
    return "\n".join(f"  {name:<{width}}{text}" for name, text in lines.items())


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
