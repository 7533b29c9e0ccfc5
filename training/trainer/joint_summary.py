# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What a joint run says at its start: the model, and of each data set what it is and how much of the run it has."""

from typing import Any

from ..models.parameter_groups import LayerIds
from .build_joint import JointSetup
from .summary import (
    describe_batch,
    describe_clip,
    describe_counts,
    describe_parameters,
    describe_reading,
    format_lines,
)


def describe_inputs(setup: JointSetup) -> dict[str, dict[str, Any]]:
    """For each data set tokens and GFLOPs of a clip or an image, as `summary.describe_clip` counts them."""
    of_media: dict[str, dict[str, Any]] = {}
    for part in setup.parts.values():
        if part.data.media not in of_media:
            of_media[part.data.media] = describe_clip(part)
    return {name: of_media[part.data.media] for name, part in setup.parts.items()}


def joint_summary(setup: JointSetup, num_processes: int, device: str, inputs: dict[str, dict[str, Any]]) -> str:
    """
    What will be trained on what.

    inputs: what `describe_inputs` gave.
    """
    model, training = setup.model.model, setup.run.training
    lines = {
        "model": f"{type(model).__name__}, {LayerIds.of(model).num_layers} layers of width {model.config.hidden_size}",
        "parameters": describe_parameters(model),
    }
    for media in dict.fromkeys(part.data.media for part in setup.parts.values()):
        lines["clip" if media == "video" else "image"] = describe_reading(setup.model.processor, media)
    for name, part in setup.parts.items():
        lines[name] = _describe_part(setup, name, inputs[name])
        for split, counts in part.counts.items():
            lines[f"{name}, {split}"] = f"{describe_counts(counts)} {part.data.media}s"
    batches = " or ".join(f"{size} of {name}" for name, size in setup.batch_sizes.items())
    lines["effective batch"] = describe_batch(batches, num_processes, device, training.gradient_accumulation_steps)
    lines["steps"] = f"{setup.count_steps(num_processes):,}"
    return format_lines(lines)


def _describe_part(setup: JointSetup, name: str, each: dict[str, Any]) -> str:
    part, options = setup.parts[name], setup.run.options_of(name)
    unit = "clip" if part.data.media == "video" else "image"
    text = (
        f"{part.data.media}s, {len(part.class_names)} classes, weight {options.weight:g} "
        f"({setup.shares[name]:.0%} of the batches), {each['tokens']:,} tokens and {each['gflops']:.3g} GFLOPs per {unit}"
    )
    return text if options.loss_weight == 1 else f"{text}, loss times {options.loss_weight:g}"
