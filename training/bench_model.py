# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Forward pass and training step of TubeViT, and of the video models that Transformers has, with random weights.

Each of the library's models is measured as its own default configuration describes it, at the number of frames it was made
for, because that is what a prediction costs with it. Sizes differ then, and GFLOPs say by how much: they count a
multiplication and an addition as two operations, of matrix products and convolutions only (`torch.utils.flop_counter`).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig

from tubevit import TubeViTForVideoClassification
from tubevit.presets import preset_config

from .bench_memory import peak_memory_mib
from .bench_timing import interleave, ratios, summarize


NUM_LABELS = 400  # of Kinetics-400
NUM_CHANNELS = 3
TUBEVIT = "tubevit"


@dataclass(frozen=True)
class Peer:
    """A video classifier of Transformers: its configuration, its class, the name of its input, and what it is called."""

    title: str
    config_class: str
    model_class: str
    input_name: str
    image_size: str  # the configuration's field
    num_frames: str  # likewise
    overrides: dict[str, Any]


# Base size, but for V-JEPA 2, which has none: its default is the large one, here with 16 of its 64 frames.
PEERS = {
    "videomae": Peer(
        "VideoMAE-B",
        "VideoMAEConfig",
        "VideoMAEForVideoClassification",
        "pixel_values",
        "image_size",
        "num_frames",
        {},
    ),
    "vivit": Peer(
        "ViViT-B", "VivitConfig", "VivitForVideoClassification", "pixel_values", "image_size", "num_frames", {}
    ),
    "timesformer": Peer(
        "TimeSformer-B",
        "TimesformerConfig",
        "TimesformerForVideoClassification",
        "pixel_values",
        "image_size",
        "num_frames",
        {},
    ),
    "vjepa2": Peer(
        "V-JEPA 2-L",
        "VJEPA2Config",
        "VJEPA2ForVideoClassification",
        "pixel_values_videos",
        "crop_size",
        "frames_per_clip",
        {"frames_per_clip": 16},
    ),
}


@dataclass(frozen=True)
class Setup:
    """A model and how it is run. Preset, number of frames and image size are TubeViT's; peers bring their own."""

    name: str = TUBEVIT  # or a key of PEERS
    preset: str = "base"
    num_frames: int = 32
    image_size: int = 224
    batch_size: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    attn: str = "sdpa"
    train: bool = False

    @property
    def title(self) -> str:
        return f"TubeViT {self.preset}" if self.name == TUBEVIT else PEERS[self.name].title


def build_model(setup: Setup, device: str | None = None) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """
    The model with random weights, and a batch of random clips (with labels for training), on `device` or the setup's.

    A peer that does not know the attention backend runs with eager attention.
    """
    config, model_class, input_name, num_frames, image_size = _resolve(setup)
    with torch.device(device or setup.device):
        try:
            model = model_class._from_config(config, attn_implementation=setup.attn)
        except ValueError:
            if setup.name == TUBEVIT:
                raise
            model = model_class._from_config(config, attn_implementation="eager")
        clip = torch.randn(setup.batch_size, num_frames, NUM_CHANNELS, image_size, image_size)
        inputs = {input_name: clip.to(getattr(torch, setup.dtype))}
        if setup.train:
            inputs["labels"] = torch.zeros(setup.batch_size, dtype=torch.long)
    return model.to(getattr(torch, setup.dtype)).train(setup.train), inputs


def _resolve(setup: Setup) -> tuple[PreTrainedConfig, type[nn.Module], str, int, int]:
    """Configuration, model class, name of the input, number of frames and image size."""
    if setup.name == TUBEVIT:
        sizes = {"num_frames": setup.num_frames, "image_size": setup.image_size}
        config = preset_config(setup.preset, **sizes, num_labels=NUM_LABELS)
        return config, TubeViTForVideoClassification, "pixel_values_videos", setup.num_frames, setup.image_size
    peer = PEERS[setup.name]
    config = getattr(transformers, peer.config_class)(**peer.overrides, num_labels=NUM_LABELS)
    model_class = getattr(transformers, peer.model_class)
    return config, model_class, peer.input_name, getattr(config, peer.num_frames), getattr(config, peer.image_size)


def make_step(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Callable[[], Any]:
    """
    What is timed: a forward pass; with labels among the inputs also the loss and the backward pass.

    The optimizer is left out: what it costs and keeps depends on which one it is, not on the model.
    """

    def forward() -> None:
        with torch.inference_mode():
            model(**inputs)

    def forward_backward() -> None:
        model(**inputs).loss.backward()
        model.zero_grad(set_to_none=True)

    return forward_backward if "labels" in inputs else forward


def count(setup: Setup) -> dict[str, Any]:
    """
    `{"num_frames", "image_size", "tokens", "parameters", "gflops"}`; tokens and GFLOPs are those of one clip's forward pass.

    Found by running the model on torch's meta device, which computes shapes only.
    """
    model, inputs = build_model(replace(setup, batch_size=1, attn="eager", train=False, dtype="float32"), "meta")
    model.requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = model(**inputs, output_hidden_states=True)
    (clip,) = inputs.values()
    return {
        "num_frames": clip.shape[1],
        "image_size": clip.shape[-1],
        "tokens": outputs.hidden_states[-1].shape[1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gflops": counter.get_total_flops() / 1e9,
    }


def make_products(model: nn.Module, num_tokens: int) -> tuple[Callable[[], Any], float]:
    """
    The encoder's matrix products alone, by `torch.mm` with the model's own weights, and their GFLOPs.

    They are what the machine can do at these shapes: reading the weights is included, everything between is not.
    """
    linears = [module for module in model.tubevit.layers.modules() if isinstance(module, nn.Linear)]
    weights = [linear.weight.detach().t() for linear in linears]
    rows = {
        width: torch.randn(num_tokens, width, device=model.device).to(model.dtype)
        for width in {linear.in_features for linear in linears}
    }

    def multiply() -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.mm(rows[weight.shape[0]], weight)

    return multiply, sum(2e-9 * num_tokens * weight.numel() for weight in weights)


def measure_models(setup: Setup, peers: list[str], rounds: int) -> dict[str, Any]:
    """
    `{"models": [one dictionary per model], ...}`, TubeViT first, its ratios in the dictionaries of the peers: TubeViT's time, or
    memory, divided by the peer's. Of a forward pass also TubeViT's "mm_gflops_per_second", what `torch.mm` reaches with
    its weights, "share_of_mm", what share of that the whole model reaches, and "tokenization_share" of its time.
    """
    setups = [replace(setup, name=name) for name in [TUBEVIT, *peers]]
    rows = [{"name": each.name, "title": each.title, **count(each)} for each in setups]
    for each, row in zip(setups, rows, strict=True):
        row["peak_mib"] = peak_memory_mib(asdict(each)) if setup.device == "cpu" else None
    built = [build_model(each) for each in setups]
    calls = {each.name: make_step(*pair) for each, pair in zip(setups, built, strict=True)}
    for row, (model, _) in zip(rows, built, strict=True):
        row["attn"] = model.config._attn_implementation
        if setup.device == "cuda":
            row["peak_mib"] = _cuda_peak_mib(calls[row["name"]])
    if setup.train:
        times = _time(calls, rounds, setup.device, "training steps")
        return {"models": _compare(rows, times, setup), "dtype": setup.dtype, "batch_size": setup.batch_size}
    model, inputs = built[0]
    calls["mm"], mm_gflops = make_products(model, setup.batch_size * rows[0]["tokens"])
    calls["tokenizer"] = make_step(model.tubevit.embeddings, inputs)
    times = _time(calls, rounds, setup.device, "forward passes")
    mm_gflops_per_second = 1e3 * mm_gflops / times["mm"]["median_ms"]
    rows = _compare(rows, times, setup)
    return {
        "models": rows,
        "dtype": setup.dtype,
        "batch_size": setup.batch_size,
        "mm_gflops_per_second": mm_gflops_per_second,
        "share_of_mm": rows[0]["gflops_per_second"] / mm_gflops_per_second,
        "tokenization_share": times["tokenizer"]["median_ms"] / times[TUBEVIT]["median_ms"],
    }


def _time(calls: dict[str, Callable], rounds: int, device: str, description: str) -> dict[str, dict[str, float]]:
    timings = interleave(calls, rounds, device, description)
    return {name: summarize(each) for name, each in timings.items()}


def _compare(rows: list[dict[str, Any]], times: dict[str, dict[str, float]], setup: Setup) -> list[dict[str, Any]]:
    """`rows` with their times, rates and, below the first, ratios of the first row to them."""
    for row in rows:
        row |= times[row["name"]]
        row["clips_per_second"] = 1e3 * setup.batch_size / row["median_ms"]
        if not setup.train:
            row["gflops_per_second"] = row["gflops"] * row["clips_per_second"]
    for row in rows[1:]:
        row |= ratios(rows[0], row)
        if row["peak_mib"]:
            row["ratio_of_memory"] = rows[0]["peak_mib"] / row["peak_mib"]
    return rows


def _cuda_peak_mib(call: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
