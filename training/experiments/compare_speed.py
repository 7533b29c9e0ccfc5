# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Speed and memory of the models of a race: `python -m tubevit.training.experiments.compare_speed SETUP` measures one model's memory.

Models take turns, see `timing`; on the CPU each has a process of its own for its memory, see `memory`.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .settings import Data


NUM_CLASSES = 16  # what is counted and timed hardly depends on it


def build(description: dict[str, Any], data: Data) -> Any:
    """A model with random weights."""
    import torch

    from .models import Setting, build_model

    torch.manual_seed(0)
    return build_model(description, Setting(data, {"video": NUM_CLASSES}))


def measure_speed(
    models: dict[str, dict[str, Any]], data: Data, batch_size: int, device: str, rounds: int
) -> dict[str, dict[str, float | None]]:
    """
    By model `{"clips_per_second", "training_clips_per_second", "peak_mib"}`: of forward passes, of training steps
    without the optimizer's, and the memory of such a step beyond weights and clips (`None` where it cannot be
    measured). Medians of `rounds`.
    """
    from ..timing import interleave, summarize

    built = {name: build(description, data).to(device) for name, description in models.items()}
    report: dict[str, dict[str, float | None]] = {name: {} for name in models}
    for column, train in (("clips_per_second", False), ("training_clips_per_second", True)):
        calls = {name: make_step(model, data, batch_size, device, train) for name, model in built.items()}
        timings = interleave(calls, rounds, device, "training steps" if train else "forward passes")
        for name, values in timings.items():
            report[name][column] = round(1e3 * batch_size / summarize(values)["median_ms"], 3)
    for name, description in models.items():
        report[name]["peak_mib"] = _peak_mib(description, built[name], data, batch_size, device)
    return report


def make_step(model: Any, data: Data, batch_size: int, device: str, train: bool) -> Callable[[], None]:
    """A forward pass, or one with the loss and the backward pass, as in a run."""
    import torch

    from .models import example_input
    from .training import precision

    inputs = example_input(data, "video", batch_size, device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)

    def forward() -> None:
        model.eval()
        with torch.inference_mode(), precision(device):
            model(**inputs)

    def forward_backward() -> None:
        model.train()
        with precision(device):
            logits = model(**inputs).logits
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        model.zero_grad(set_to_none=True)

    return forward_backward if train else forward


def _peak_mib(description: dict[str, Any], model: Any, data: Data, batch_size: int, device: str) -> float | None:
    from ..benchmarks.memory import peak_memory_mib

    if device == "cpu":
        setup = {"name": description["kind"], "model": description, "data": asdict(data), "batch_size": batch_size}
        peak = peak_memory_mib(setup, module=__name__)
        return peak if peak is None else round(peak, 1)
    import torch

    step = make_step(model, data, batch_size, device, train=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def main() -> None:
    from ..benchmarks.memory import print_peak

    setup = json.loads(sys.argv[1])
    data = Data(**setup["data"])
    print_peak(make_step(build(setup["model"], data), data, setup["batch_size"], "cpu", train=True))


if __name__ == "__main__":
    main()
