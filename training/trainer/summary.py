# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Summaries of a run for the terminal: model, data and steps before training, metrics and speed after it."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from ..data.clip_datasets import ClipDataset
from ..models.model_size import count_parameters, describe, describe_image
from ..models.parameter_groups import LayerIds
from .build import JointSetup, RunSetup
from .class_balance import describe_sampler, describe_weights


NUM_TIMED = 4  # clips whose reading is timed


def describe_clip(setup: RunSetup) -> dict[str, Any]:
    """Tokens and GFLOPs of one clip (or image), as `model_size.describe` counts them."""
    config = setup.model.model.config
    if setup.data.media == "image":
        return describe_image(config)
    sizes = describe(config, [setup.model.processor.num_frames])["clips"][0]
    if setup.run.is_masked:  # the encoder sees the visible tokens only
        sizes["gflops"] = setup.count_clip_flops() / 1e9
    return sizes


def count_steps(setup: RunSetup, num_processes: int) -> tuple[int, int]:
    """Clips per optimizer step over all processes, and optimizer steps of the whole run."""
    training = setup.run.training
    batch = training.per_device_train_batch_size * num_processes
    effective = batch * training.gradient_accumulation_steps
    if training.max_steps > 0:
        return effective, training.max_steps
    return effective, training.count_steps(training.count_batches(len(setup.train_clips), num_processes))


def start_summary(setup: RunSetup, num_processes: int, device: str, clip: dict[str, Any]) -> str:
    """
    Model, data, batch and number of steps of a run. Measures `setup.loading_rate`.

    clip: as `describe_clip` returns it.
    """
    model, config, processor = setup.model.model, setup.model.model.config, setup.model.processor
    kind = (
        f"{type(model.get_base_model()).__name__} with adapters"
        if hasattr(model, "get_base_model")
        else type(model).__name__
    )
    effective, steps = count_steps(setup, num_processes)
    training, media = setup.run.training, setup.data.media
    unit = "clip" if media == "video" else "image"
    lines = {
        "model": f"{kind}, {LayerIds.of(model).num_layers} layers of width {config.hidden_size}",
        "parameters": describe_parameters(model),
        "precision": describe_precision(model, training.mixed_precision),
        unit: describe_reading(processor, media),
    }
    per_tube = ""
    if "tokens_per_tube" in clip:
        tubes = config.get_tubes() if media == "video" else config.get_image_tubes()
        names = ("x".join(map(str, tube.kernel_size)) for tube in tubes)
        counts = zip(names, clip["tokens_per_tube"], strict=True)
        per_tube = f" ({', '.join(f'{name}: {count}' for name, count in counts)})"
    if clip["tokens"] is not None:  # of a model that returns hidden states
        lines[f"tokens per {unit}"] = f"{clip['tokens']:,}{per_tube}"
    lines[f"GFLOPs per {unit}"] = f"{clip['gflops']:.3g} (forward pass)"
    lines |= {} if setup.budgets is None else setup.budgets.describe()
    for split, counts in setup.counts.items():
        lines[f"{split} {media}s"] = describe_counts(counts)
    lines |= setup.describe_task()
    if setup.run.model.classifier_init is not None:
        lines["classifier"] = (
            "starts as ridge regression on the features of the training videos (classifier_init=ridge)"
        )
    if setup.class_weights is not None:
        weights = describe_weights(setup.class_weights, setup.class_names)
        lines["class weights"] = f"{training.class_weights}: {weights}"
    if training.sampler != "random":
        lines["sampler"] = describe_sampler(training.sampler, setup.label_counts[0], unit)
    repeats = setup.run.augmentation.augmentation_repeats
    copies = f", {repeats} augmented copies of each" if repeats > 1 else ""
    lines["effective batch"] = f"{effective} {unit}s{copies}: " + describe_batch(
        f"{training.per_device_train_batch_size}", num_processes, device, training.gradient_accumulation_steps
    )
    lines["steps"] = f"{steps:,}"
    if training.decoder != "av":
        lines["decoder"] = f"{training.decoder}; PyAV for videos that it would show otherwise"
    # The CPU time of a thread says nothing of a decoder on the GPU.
    setup.loading_rate = None if training.decoder == "torchcodec-cuda" else measure_loading(setup, device)
    if setup.loading_rate is not None:
        lines["data loading"] = describe_loading(setup.loading_rate, training.dataloader_num_workers)
    return format_lines(lines)


def measure_loading(setup: RunSetup, device: str) -> float | None:
    """
    Clips per second that one loader worker reads and, for a CPU, augments: the median CPU time of a few clips of the training split.
    `None` for images and for a stream, which has no clips to choose from.
    """
    clips = setup.train_clips
    if not isinstance(clips, ClipDataset) or clips.read.media == "image":
        return None
    collate, read = setup.collator(augments=device == "cpu"), clips.read
    num_threads, own_threads = torch.get_num_threads(), read.num_threads
    times = []
    torch.set_num_threads(1)
    read.num_threads = 1
    try:
        for index in range(0, len(clips), max(1, len(clips) // NUM_TIMED))[: NUM_TIMED + 1]:
            start = time.thread_time()
            collate([clips[index]])
            times.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(num_threads)
        read.num_threads = own_threads
    return read.num_copies / statistics.median(times[1:] or times)  # the first one imports what decoding needs


def describe_loading(rate: float, num_workers: int) -> str:
    """
    >>> describe_loading(20.0, 4)
    '20 clips/s by a worker, 80 clips/s by the 4 workers of a device'
    """
    if not num_workers:
        return f"{rate:.3g} clips/s, in the training process (dataloader_num_workers=0)"
    all_workers = (
        f"{rate * num_workers:.3g} clips/s by the {num_workers} worker{'s' if num_workers > 1 else ''} of a device"
    )
    return f"{rate:.3g} clips/s by a worker, {all_workers}"


def describe_batch(size: str, num_processes: int, device: str, num_accumulated: int) -> str:
    """
    >>> describe_batch("8", 2, "cuda", 4)
    '8 on each of 2 cuda devices, 4 batches per step'
    """
    devices = f"on one {device} device" if num_processes == 1 else f"on each of {num_processes} {device} devices"
    return f"{size} {devices}, {num_accumulated} batch{'es' if num_accumulated > 1 else ''} per step"


def describe_parameters(model: Any) -> str:
    total, trained = count_parameters(model)
    return f"{total / 1e6:.2f} M: {trained / 1e6:.2f} M trained, {(total - trained) / 1e6:.2f} M frozen"


def describe_precision(model: Any, mixed_precision: str) -> str:
    """Data types of the weights, and of the arithmetic, which `mixed_precision` sets."""
    types = sorted({str(each.dtype).removeprefix("torch.") for each in model.parameters()})
    arithmetic = {"bf16": "bfloat16", "fp16": "float16"}.get(mixed_precision, " and ".join(types))
    return f"weights {' and '.join(types)}, arithmetic {arithmetic} (mixed_precision={mixed_precision})"


def describe_reading(processor: Any, media: str) -> str:
    """Frames and size of a clip, or the size of an image."""
    crop = f"{processor.crop_size['height']}x{processor.crop_size['width']}"
    if media == "image":
        return crop
    rate = processor.describe_sampling()
    return f"{processor.num_frames} frames of {crop}, {rate}"


def describe_counts(counts: dict[str, int]) -> str:
    """The numbers of used and unreadable videos of a split."""
    corrupt = f", {counts['cannot_be_read']:,} cannot be read" if counts.get("cannot_be_read") else ""
    return f"{counts['used']:,}{corrupt}" if counts else "a stream"


def end_summary(metrics: dict[str, Any], throughput: dict[str, Any], folder: Path) -> str:
    """Metrics of training, speed, and the folder of the run."""
    lines = {name.removeprefix("eval_").replace("_", " "): _number(value) for name, value in metrics.items()}
    lines["training"] = (
        f"{throughput['seconds']:.0f} s, {throughput['clips_per_second']:.1f} clips/s, "
        f"{100 * throughput['share_of_time_waiting_for_data']:.0f} % of the time waiting for clips"
    )
    if slowest := throughput.get("slowest_files"):
        lines["slowest files"] = ", ".join(f"{path} {seconds:.2f} s" for path, seconds in slowest.items())
    lines["saved in"] = str(folder)
    return format_lines(lines)


def format_lines(lines: dict[str, str]) -> str:
    width = max(map(len, lines)) + 2
    return "\n".join(f"  {name:<{width}}{text}" for name, text in lines.items())


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def describe_inputs(setup: JointSetup) -> dict[str, dict[str, Any]]:
    """For each data set, tokens and GFLOPs of a clip or an image, as `describe_clip` counts them."""
    of_media: dict[str, dict[str, Any]] = {}
    for part in setup.parts.values():
        if part.data.media not in of_media:
            of_media[part.data.media] = describe_clip(part)
    return {name: of_media[part.data.media] for name, part in setup.parts.items()}


def joint_summary(setup: JointSetup, num_processes: int, device: str, inputs: dict[str, dict[str, Any]]) -> str:
    """
    As `start_summary`, with a line for each data set.

    inputs: as `describe_inputs` returns it.
    """
    model, training = setup.model.model, setup.run.training
    lines = {
        "model": f"{type(model).__name__}, {LayerIds.of(model).num_layers} layers of width {model.config.hidden_size}",
        "parameters": describe_parameters(model),
        "precision": describe_precision(model, training.mixed_precision),
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
        f"{part.data.media}s, {len(part.class_names)} classes, sampling weight {options.weight:g} "
        f"({100 * setup.fractions[name]:.0f} % of the batches), {each['tokens']:,} tokens and {each['gflops']:.3g} GFLOPs per {unit}"
    )
    return text if options.loss_weight == 1 else f"{text}, loss weight {options.loss_weight:g}"
