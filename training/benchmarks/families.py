# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
UniFormerV2 against its published formulation, and the layers of ViViT's Models 1 to 4 against those of Transformers' ViViT, at size
B/16 with random weights.

A UniFormerV2 is measured in its design for Kinetics (8 frames) and in its full design (16 frames): a forward pass, the tensors that a
training step keeps for the backward pass, and the peak memory of the step, which also has the gradients. Dropout and stochastic depth
are off. A ViViT layer is measured on the tokens of 32 frames: 3137 in Model 1 and in Transformers, 16 x 197 in Model 2, 16 x 196 in
Models 3 and 4.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tubevit import FactorizedViViTModel, UniFormerV2ForVideoClassification
from tubevit.presets import uniformerv2_config, vivit_config

from ..timing import interleave, ratios, summarize
from .memory import peak_memory_mib, print_peak
from .published_uniformerv2 import published_logits


MODULE = "tubevit.training.benchmarks.families"  # run as a child process to measure memory
NO_DROPOUT = {"global_dropout": 0.0, "classifier_dropout": 0.0, "drop_path_rate": 0.0, "global_drop_path_rate": 0.0}
# Title and preset, with the largest ratio of time that is aimed at.
DESIGNS = (("8 frames", "uniformerv2-b16", 0.95), ("full design, 16 frames", "uniformerv2-b16-full", 0.90))
MEMORY_AIM = 0.85
LAYERS = (
    ("1", "vivit-b16x2", 0.85),
    ("2", "vivit-b16x2-fe", 0.55),
    ("3", "vivit-b16x2-fsa", 0.70),
    ("4", "vivit-b16x2-fdp", 0.55),
)


def measure_families(batch_size: int, device: str, rounds: int, **sizes: Any) -> list[dict[str, Any]]:
    """
    Rows `{"title", "unit", "ours", "theirs", "ratio", "aim"}`: medians of `rounds` times in ms, or MiB. Rows of times also have
    "ratio_of_minima" and "ratio_of_cpu", those of logits their largest "difference". sizes: config fields that replace those of the
    presets.
    """
    rows = []
    for title, preset, aim in DESIGNS:
        title = f"UniFormerV2, {title}"
        rows += _uniformerv2_rows(
            title, {"preset": preset, "batch_size": batch_size, "sizes": sizes}, device, rounds, aim
        )
    return rows + measure_layers(batch_size, device, rounds, **sizes)


def _uniformerv2_rows(title: str, setup: dict[str, Any], device: str, rounds: int, aim: float) -> list[dict[str, Any]]:
    calls = {name: call for name, (call, _) in build_pair(**setup, device=device).items()}
    with torch.inference_mode():
        ours, theirs = (call() for call in calls.values())
        timings = interleave(calls, rounds, device, title)
    rows = [_time_row(f"{title}, forward pass", timings, *calls, aim)]
    rows[0]["difference"] = (ours - theirs).abs().max().item()
    pair = build_pair(**setup, device=device, train=True).values()
    rows.append(_memory_row(f"{title}, kept for the backward pass", *(kept_mib(*each) for each in pair)))
    if device == "cpu":
        peaks = [peak_memory_mib({"name": name, **setup}, MODULE) for name in calls]
        if None not in peaks:
            rows.append(_memory_row(f"{title}, peak of a training step", *peaks))
    return rows


def build_pair(
    preset: str, batch_size: int, sizes: dict[str, Any], device: str = "cpu", train: bool = False
) -> dict[str, tuple[Callable[[], torch.Tensor], list[torch.Tensor]]]:
    """
    A UniFormerV2, "ours", and its published formulation, "theirs", with the same random weights: for each a function that returns the
    logits of a random clip, and the weights.
    """
    config = uniformerv2_config(preset, **{**NO_DROPOUT, **sizes})
    torch.manual_seed(0)
    model = UniFormerV2ForVideoClassification(config).to(device).train(train)
    for weight in model.parameters():
        if not weight.any():  # a new model's added branches are zero, and would hide a difference
            torch.nn.init.normal_(weight, std=config.initializer_range)
    state = {
        name.removeprefix("backbone."): value.detach().clone().requires_grad_("running" not in name)
        for name, value in model.to_reference().items()
        if value.is_floating_point()
    }
    side = config.image_size
    clips = torch.randn(batch_size, config.num_frames, config.num_channels, side, side, device=device)
    settings = config.num_attention_heads, config.global_layers, train
    return {
        "ours": (lambda: model(clips).logits, list(model.parameters())),
        "theirs": (lambda: published_logits(state, clips, *settings), list(state.values())),
    }


def kept_mib(call: Callable[[], torch.Tensor], weights: Sequence[torch.Tensor]) -> float:
    """MiB that autograd keeps for the backward pass of a call, without the weights. Tensors that share memory count once."""
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage  # a reference, so that no other tensor gets this address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in storages.values()) / 2**20


def measure_layers(batch_size: int, device: str, rounds: int, **sizes: Any) -> list[dict[str, Any]]:
    """Rows of `measure_families` for a layer of each ViViT."""
    calls = {}
    for number, preset, _ in LAYERS:
        config = vivit_config(preset, **{**sizes, "num_hidden_layers": 1, "temporal_num_hidden_layers": 0})
        calls[number] = _layer_call(FactorizedViViTModel(config), config.num_tokens(), batch_size, device)
    calls["library"] = _library_call(config, batch_size, device)
    with torch.inference_mode():
        timings = interleave(calls, rounds, device, "layers of ViViT")
    return [_time_row(f"ViViT Model {number}, a layer", timings, number, "library", aim) for number, _, aim in LAYERS]


def _layer_call(model: Any, num_tokens: int, batch_size: int, device: str) -> Callable[[], torch.Tensor]:
    layer, (time, rows, columns) = model.first_layers[0].to(device).eval(), model.config.grid()
    tokens = torch.randn(batch_size, num_tokens, model.config.hidden_size, device=device)
    is_encoder = model.config.factorization == "encoder"
    per_index = num_tokens // time if is_encoder else rows * columns
    return lambda: layer(tokens, per_index)


def _library_call(config: Any, batch_size: int, device: str) -> Callable[[], torch.Tensor]:
    """A layer of Transformers' ViViT, of the sizes of `config`."""
    from transformers import VivitConfig, VivitModel

    names = ("hidden_size", "num_attention_heads", "intermediate_size", "num_frames", "image_size", "tubelet_size")
    sizes = {name: getattr(config, name) for name in names}
    model = VivitModel._from_config(VivitConfig(**sizes, num_hidden_layers=1), attn_implementation="sdpa")
    layer = model.layers[0].to(device).eval()
    tokens = torch.randn(batch_size, config.num_tokens() + 1, config.hidden_size, device=device)
    return lambda: layer(tokens)


def _time_row(title: str, timings: dict[str, list], ours: str, theirs: str, aim: float) -> dict[str, Any]:
    times = [summarize(timings[name]) for name in (ours, theirs)]
    medians = {"ours": times[0]["median_ms"], "theirs": times[1]["median_ms"]}
    return {"title": title, "unit": "ms", **medians, **ratios(*times), "aim": aim}


def _memory_row(title: str, ours: float, theirs: float) -> dict[str, Any]:
    return {"title": title, "unit": "MiB", "ours": ours, "theirs": theirs, "ratio": ours / theirs, "aim": MEMORY_AIM}


def print_peak_of(name: str, **setup: Any) -> None:
    """Print the peak memory of a training step, without the optimizer, of "ours" or "theirs" of `build_pair`."""
    call, weights = build_pair(**setup, train=True)[name]

    def step() -> None:
        call().sum().backward()
        for weight in weights:
            weight.grad = None

    print_peak(step)


if __name__ == "__main__":  # the process that `peak_memory_mib` starts
    print_peak_of(**json.loads(sys.argv[1]))
