# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Forward pass and training step of TubeViT, and of the video models that Transformers has, with random weights.

Each of the library's models is measured as its own default configuration describes it, at the number of frames it was made
for, because that is what a prediction costs with it. Sizes differ then, and GFLOPs say by how much: they count a
multiplication and an addition as two operations, of matrix products and convolutions only (`torch.utils.flop_counter`).
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from tubevit import TubeViTForVideoClassification
from tubevit.presets import PRESETS, preset_config

from ..models.families import peers
from ..models.model_size import count_flops
from ..timing import interleave, ratios, summarize
from .memory import peak_memory_mib, print_peak


NUM_LABELS = 400  # of Kinetics-400
NUM_CHANNELS = 3
TUBEVIT = "tubevit"
MODULE = "tubevit.training.benchmarks.model"  # run as a process of its own to measure memory


# The defaults of the configs are base models, but for V-JEPA 2: its default is the large model, here with 16 of its 64 frames.
PEER_SIZES = {"vjepa2": "L"}
PEER_FIELDS = {"vjepa2": {"frames_per_clip": 16}}


@dataclass(frozen=True)
class Setup:
    """A model and how it is run. Preset, number of frames and image size are TubeViT's; peers bring their own."""

    name: str = TUBEVIT  # or a key of `families.peers`
    preset: str = "base"
    num_frames: int = 32
    image_size: int = 224
    batch_size: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    attn: str = "sdpa"
    train: bool = False
    num_frozen_layers: int = 0  # of TubeViT: layers that are not trained, with the gated connection behind them

    @property
    def key(self) -> str:
        """Tells models apart that are timed together."""
        frozen = f" {self.num_frozen_layers} frozen" if self.num_frozen_layers else ""
        return f"{self.name}{frozen} {self.dtype}"

    @property
    def title(self) -> str:
        if self.num_frozen_layers:
            return f"TubeViT {self.preset}, {self.num_frozen_layers} layers frozen"
        if self.name == TUBEVIT:
            return f"TubeViT {self.preset}"
        return f"{peers()[self.name].title}-{PEER_SIZES.get(self.name, 'B')}"


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
        num_layers = PRESETS[setup.preset]["num_hidden_layers"]
        if 0 < setup.num_frozen_layers < num_layers:
            sizes["gate_layer"] = setup.num_frozen_layers
        config = preset_config(setup.preset, **sizes, num_frozen_layers=setup.num_frozen_layers, num_labels=NUM_LABELS)
        return config, TubeViTForVideoClassification, "pixel_values_videos", setup.num_frames, setup.image_size
    peer = peers()[setup.name]
    config = peer.get("config_class")(**PEER_FIELDS.get(setup.name, {}), num_labels=NUM_LABELS)
    model_class = peer.classifier("video")
    return config, model_class, peer.input_name, peer.num_frames(config), getattr(config, peer.size_field)


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
    with torch.no_grad(), torch.device("meta"):
        outputs = model(**inputs, output_hidden_states=True)
    (clip,) = inputs.values()
    return {
        "num_frames": clip.shape[1],
        "image_size": clip.shape[-1],
        "tokens": outputs.hidden_states[-1].shape[1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gflops": count_flops(model, **inputs) / 1e9,
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


def measure_models(
    setup: Setup, peers: Sequence[str], rounds: int, other_dtypes: Sequence[str] = (), num_frozen_layers: int = 0
) -> dict[str, Any]:
    """
    `{"models": [one dictionary per model], "dtypes", "batch_size"}`: TubeViT and its peers in the setup's dtype, then in each
    of the others. Peers hold ratios to TubeViT in their dtype: its time, or memory, divided by theirs. What runs in another
    dtype holds "ratio_to_first_dtype", its time divided by the same model's in the first. With `num_frozen_layers` the
    same TubeViT with that many layers frozen is among the peers; there the ratios are its own to the whole one.

    Of a forward pass TubeViT's dictionaries also hold "mm_gflops_per_second", what `torch.mm` reaches with its weights,
    "share_of_mm", what share of that the whole model reaches, and "tokenization_share" of its time.
    """
    dtypes, names = [setup.dtype, *other_dtypes], [TUBEVIT, *peers]
    setups = [replace(setup, name=name, dtype=dtype) for dtype in dtypes for name in names]
    if num_frozen_layers:
        setups += [replace(setup, dtype=dtype, num_frozen_layers=num_frozen_layers) for dtype in dtypes]
    counts = {name: count(replace(setup, name=name)) for name in names}
    rows = [
        {
            "name": each.name,
            "title": each.title,
            "dtype": each.dtype,
            "num_frozen_layers": each.num_frozen_layers,
            **counts[each.name],
        }
        for each in setups
    ]
    for each, row in zip(setups, rows, strict=True):
        row["peak_mib"] = peak_memory_mib(asdict(each), MODULE) if setup.device == "cpu" else None
    built = [build_model(each) for each in setups]
    calls = {each.key: make_step(*pair) for each, pair in zip(setups, built, strict=True)}
    for each, row, (model, _) in zip(setups, rows, built, strict=True):
        row["attn"] = model.config._attn_implementation
        if setup.device == "cuda":
            row["peak_mib"] = _cuda_peak_mib(calls[each.key])
    parts = {} if setup.train else _parts(setups, rows, built)
    timings = interleave(calls | parts, rounds, setup.device, "training steps" if setup.train else "forward passes")
    times = {key: summarize(each) for key, each in timings.items()}
    for each, row in zip(setups, rows, strict=True):
        _add_times(row, times, each)
    _compare(rows)
    return {"models": rows, "dtypes": dtypes, "batch_size": setup.batch_size}


def _parts(setups: list[Setup], rows: list[dict[str, Any]], built: list[tuple]) -> dict[str, Callable[[], Any]]:
    """
    What is timed beside the forward passes of TubeViT, per dtype: `torch.mm` with its weights, and making tokens.

    The GFLOPs of the former go into TubeViT's `rows` as "mm_gflops".
    """
    calls = {}
    for each, row, (model, inputs) in zip(setups, rows, built, strict=True):
        if each.name == TUBEVIT:
            calls[f"mm {each.dtype}"], row["mm_gflops"] = make_products(model, each.batch_size * row["tokens"])
            calls[f"tokens {each.dtype}"] = make_step(model.tubevit.embeddings, inputs)
    return calls


def _add_times(row: dict[str, Any], times: dict[str, dict[str, float]], setup: Setup) -> None:
    """Complete the `row` of a setup by its times and rates, given all `times` by key."""
    row |= times[setup.key]
    row["clips_per_second"] = 1e3 * setup.batch_size / row["median_ms"]
    if setup.train:
        return
    row["gflops_per_second"] = row["gflops"] * row["clips_per_second"]
    if setup.name == TUBEVIT:
        row["mm_gflops_per_second"] = 1e3 * row["mm_gflops"] / times[f"mm {setup.dtype}"]["median_ms"]
        row["share_of_mm"] = row["gflops_per_second"] / row["mm_gflops_per_second"]
        row["tokenization_share"] = times[f"tokens {setup.dtype}"]["median_ms"] / row["median_ms"]


def _compare(rows: list[dict[str, Any]]) -> None:
    """Add the ratios of each of `rows` to TubeViT in its dtype, and to the same model in the first dtype."""
    in_dtype = {row["dtype"]: row for row in rows if row["name"] == TUBEVIT and not row["num_frozen_layers"]}
    in_first = {row["title"]: row for row in rows if row["dtype"] == rows[0]["dtype"]}
    for row in rows:
        whole = in_dtype[row["dtype"]]
        if row is not whole:
            # A frozen TubeViT against the whole one, the whole one against its peers.
            ours, theirs = (row, whole) if row["num_frozen_layers"] else (whole, row)
            row |= ratios(ours, theirs)
            if row["peak_mib"]:
                row["ratio_of_memory"] = ours["peak_mib"] / theirs["peak_mib"]
        if row["dtype"] != rows[0]["dtype"]:
            row["ratio_to_first_dtype"] = row["median_ms"] / in_first[row["title"]]["median_ms"]


def _cuda_peak_mib(call: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":  # the process that `peak_memory_mib` starts
    print_peak(make_step(*build_model(Setup(**json.loads(sys.argv[1])))))
