# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Time and memory of a forward pass and a training step: TubeViT and video models of Transformers, with random weights.

Each model of Transformers has its default configuration and number of frames, which determine the cost of a prediction. The
models differ in size, so GFLOPs are reported. They count a multiplication and an addition as two operations, in matrix
products and convolutions only (`torch.utils.flop_counter`).

The tokenizer (clip to tokens) is also compared with `Conv3d` with the same weights. Conv3d is timed on a clip in its own
`(batch, channels, frames, height, width)` layout, its best case, and on a view of our layout. From uint8 pixels, Conv3d needs
the whole clip rescaled and normalized first, by the function of Transformers' processors; our tokenizer normalizes only the
pixels that the tubes read. All variants add the same position embeddings.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, VideoMAEVideoProcessor

from tubevit import TubeViTForVideoClassification, TubeViTModel
from tubevit.presets import PRESETS, preset_config
from tubevit.tube_embeddings import merge_applications

from ..models.families import peers
from ..models.model_size import count_flops, count_parameters
from ..models.random_tokens import RandomTokens
from ..timing import interleave, ratios, summarize
from .memory import peak_memory_mib, print_peak


NUM_LABELS = 400  # of Kinetics-400
NUM_CHANNELS = 3
TUBEVIT = "tubevit"
MODULE = "tubevit.training.benchmarks.model"  # run as a child process to measure memory


# The default configs are base models. The exception is V-JEPA 2: its default is the large model, here with 16 of its 64 frames.
PEER_SIZES = {"vjepa2": "L"}
PEER_FIELDS = {"vjepa2": {"frames_per_clip": 16}}


@dataclass(frozen=True)
class Setup:
    """A model and its run settings. `preset`, `num_frames` and `image_size` apply to TubeViT; peers have their defaults."""

    name: str = TUBEVIT  # or a key of `families.peers`
    preset: str = "base"
    num_frames: int = 32
    image_size: int = 224
    batch_size: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    attn: str = "sdpa"
    train: bool = False
    num_frozen_layers: int = 0  # TubeViT only: frozen first layers, with the gated connection after them
    token_budget: int | None = None  # TubeViT only: of `TubeViTConfig.with_token_budget`
    random_tokens: int | None = None  # TubeViT only: of `RandomTokens`

    @property
    def key(self) -> str:
        """Unique name among the models that are timed together."""
        frozen = f" {self.num_frozen_layers} frozen" if self.num_frozen_layers else ""
        return f"{self.name}{frozen} {self.dtype}"

    @property
    def title(self) -> str:
        budget = "" if self.token_budget is None else f", at most {self.token_budget} tokens"
        budget += "" if self.random_tokens is None else f", {self.random_tokens} random tokens"
        if self.num_frozen_layers:
            return f"TubeViT {self.preset}{budget}, {self.num_frozen_layers} layers frozen"
        if self.name == TUBEVIT:
            return f"TubeViT {self.preset}{budget}"
        return f"{peers()[self.name].title}-{PEER_SIZES.get(self.name, 'B')}"


def build_model(setup: Setup, device: str | None = None) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """
    The model with random weights and a batch of random clips (with labels for training), on `device` or `setup.device`.

    A peer that does not support the attention backend uses eager attention.
    """
    config, model_class, input_name, num_frames, image_size = _resolve(setup)
    with torch.device(device or setup.device):
        try:
            model = model_class._from_config(config, attn_implementation=setup.attn)
        except ValueError:
            if setup.name == TUBEVIT:
                raise
            model = model_class._from_config(config, attn_implementation="eager")
        if setup.name == TUBEVIT and setup.random_tokens is not None:
            RandomTokens(model, setup.random_tokens)
        clip = torch.randn(setup.batch_size, num_frames, NUM_CHANNELS, image_size, image_size)
        inputs = {input_name: clip.to(getattr(torch, setup.dtype))}
        if setup.train:
            inputs["labels"] = torch.zeros(setup.batch_size, dtype=torch.long)
    return model.to(getattr(torch, setup.dtype)).train(setup.train), inputs


def _resolve(setup: Setup) -> tuple[PreTrainedConfig, type[nn.Module], str, int, int]:
    """`(configuration, model class, input name, number of frames, image size)`."""
    if setup.name == TUBEVIT:
        sizes = {"num_frames": setup.num_frames, "image_size": setup.image_size}
        num_layers = PRESETS[setup.preset]["num_hidden_layers"]
        if 0 < setup.num_frozen_layers < num_layers:
            sizes["gate_layer"] = setup.num_frozen_layers
        config = preset_config(setup.preset, **sizes, num_frozen_layers=setup.num_frozen_layers, num_labels=NUM_LABELS)
        if setup.token_budget is not None:
            config = config.with_token_budget(setup.token_budget)
        return config, TubeViTForVideoClassification, "pixel_values_videos", setup.num_frames, setup.image_size
    peer = peers()[setup.name]
    config = peer.get("config_class")(**PEER_FIELDS.get(setup.name, {}), num_labels=NUM_LABELS)
    model_class = peer.classifier("video")
    return config, model_class, peer.input_name, peer.num_frames(config), getattr(config, peer.size_field)


def make_step(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Callable[[], Any]:
    """
    The function to time: a forward pass, and with labels in `inputs` also the loss and the backward pass.

    The optimizer step is excluded, because its time and memory depend on the optimizer, not on the model.
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
    `{"num_frames", "image_size", "tokens", "parameters", "gflops"}`; tokens and GFLOPs are per clip and forward pass.

    The model runs on torch's meta device, which computes shapes only.
    """
    model, inputs = build_model(replace(setup, batch_size=1, attn="eager", train=False, dtype="float32"), "meta")
    with torch.no_grad(), torch.device("meta"):
        outputs = model(**inputs, output_hidden_states=True)
    (clip,) = inputs.values()
    return {
        "num_frames": clip.shape[1],
        "image_size": clip.shape[-1],
        "tokens": outputs.hidden_states[-1].shape[1],
        "parameters": count_parameters(model)[0],
        "gflops": count_flops(model, **inputs) / 1e9,
    }


def make_products(model: nn.Module, num_tokens: int) -> tuple[Callable[[], Any], float]:
    """
    A function that computes only the matrix products of the encoder, by `torch.mm` with the model's weights, and their GFLOPs.

    Its speed is the practical limit of the machine at these shapes: it computes nothing but these products.
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
    `{"models": [one dictionary per model], "dtypes", "batch_size"}`: TubeViT and its peers in `setup.dtype`, then in each of
    `other_dtypes`. All times are in milliseconds.

    Ratios of a peer: time (or memory) of TubeViT in the same dtype, divided by that of the peer. "ratio_to_first_dtype": time
    in another dtype, divided by the time of the same model in the first dtype. With `num_frozen_layers`, TubeViT with that
    many frozen layers is added; its ratios are its time (or memory) divided by those of the fully trained TubeViT.

    For a forward pass, the dictionaries of TubeViT also have "mm_gflops_per_second" (speed of `torch.mm` with the model's
    weights), "fraction_of_mm" (speed of the model as a fraction of that speed) and "tokenization_fraction" (fraction of
    the time spent on tokenization).
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
    Parts of TubeViT that are timed separately, per dtype: `torch.mm` with its weights, and tokenization.

    Stores the GFLOPs of `torch.mm` in TubeViT's `rows` as "mm_gflops".
    """
    calls = {}
    for each, row, (model, inputs) in zip(setups, rows, built, strict=True):
        if each.name == TUBEVIT:
            calls[f"mm {each.dtype}"], row["mm_gflops"] = make_products(model, each.batch_size * row["tokens"])
            calls[f"tokens {each.dtype}"] = make_step(model.tubevit.embeddings, inputs)
    return calls


def _add_times(row: dict[str, Any], times: dict[str, dict[str, float]], setup: Setup) -> None:
    """Add times and rates to the `row` of a setup; `times` has the times of all setups by key."""
    row |= times[setup.key]
    row["clips_per_second"] = 1e3 * setup.batch_size / row["median_ms"]
    if setup.train:
        return
    row["gflops_per_second"] = row["gflops"] * row["clips_per_second"]
    if setup.name == TUBEVIT:
        row["mm_gflops_per_second"] = 1e3 * row["mm_gflops"] / times[f"mm {setup.dtype}"]["median_ms"]
        row["fraction_of_mm"] = row["gflops_per_second"] / row["mm_gflops_per_second"]
        row["tokenization_fraction"] = times[f"tokens {setup.dtype}"]["median_ms"] / row["median_ms"]


def _compare(rows: list[dict[str, Any]]) -> None:
    """Add to each of `rows` its ratios to TubeViT in the same dtype, and to the same model in the first dtype."""
    in_dtype = {row["dtype"]: row for row in rows if row["name"] == TUBEVIT and not row["num_frozen_layers"]}
    in_first = {row["title"]: row for row in rows if row["dtype"] == rows[0]["dtype"]}
    for row in rows:
        whole = in_dtype[row["dtype"]]
        if row is not whole:
            # Partly frozen TubeViT over fully trained TubeViT; fully trained TubeViT over its peers.
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


# TubeViT variant to the Conv3d variant that it is compared with.
COMPARED = {"float": "conv3d", "uint8": "normalize_conv3d"}


def make_variants(embeddings: nn.Module, clip: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """
    Functions from the clip to tokens `(batch, tokens, hidden_size)`, by name.

    "float" and "uint8" are TubeViT's tokenizer. "conv3d" reads a clip in Conv3d's layout, "conv3d_view" a view of TubeViT's
    layout; "normalize_conv3d" normalizes uint8 pixels and then reads a view.

    clip: uint8 `(batch, frames, channels, height, width)`; the float variants read a normalized copy.
    """
    dtype = embeddings.dtype
    size = (clip.shape[1], clip.shape[3], clip.shape[4])
    processor = VideoMAEVideoProcessor()

    def normalize(pixels: torch.Tensor) -> torch.Tensor:
        mean, std, rescale_factor = embeddings.table_settings
        settings = (True, rescale_factor, True, mean, std)
        return processor.rescale_and_normalize(pixels, *settings).to(dtype)

    def convolve(video: torch.Tensor) -> torch.Tensor:
        tokens = []
        for index, tube in enumerate(embeddings.tubes):
            time, row, column = tube.offset
            nt, nh, nw = tube.kernel_grid(size)
            window = video[:, :, time:, row:, column:]
            grid = nn.functional.conv3d(window, *embeddings.kernel(index), tube.kernel_stride)[:, :, :nt, :nh, :nw]
            tokens.append(merge_applications(grid.flatten(2).transpose(1, 2), tube, size))
        tokens = torch.cat(tokens, dim=1)
        return tokens + embeddings.positions(embeddings.tubes, range(len(embeddings.tubes)), size, tokens)

    normalized = normalize(clip)
    channels_first = normalized.transpose(1, 2).contiguous()
    return {
        "float": lambda: embeddings(pixel_values_videos=normalized),
        "conv3d": lambda: convolve(channels_first),
        "conv3d_view": lambda: convolve(normalized.transpose(1, 2)),
        "uint8": lambda: embeddings(pixel_values_videos=clip),
        "normalize_conv3d": lambda: convolve(normalize(clip).transpose(1, 2)),
    }


def measure_tokenizer(
    preset: str, num_frames: int, image_size: int, batch_size: int, device: str, dtype: str, rounds: int
) -> dict[str, Any]:
    """
    `{"dtype", "batch_size", "variants"}`: times (ms), ratios and "difference" of each variant of `make_variants`.

    "difference" is the largest absolute difference from the tokens of Conv3d. "ratio" is the time of our variant divided by
    that of the Conv3d variant with the same input.
    """
    config = preset_config(preset, num_frames=num_frames, image_size=image_size, num_hidden_layers=1)
    embeddings = TubeViTModel(config).embeddings.to(device, getattr(torch, dtype)).eval()
    clip = torch.randint(0, 256, (batch_size, num_frames, 3, image_size, image_size), dtype=torch.uint8, device=device)
    with torch.inference_mode():
        variants = make_variants(embeddings, clip)
        reference = variants["conv3d"]().float()
        differences = {name: (call().float() - reference).abs().max().item() for name, call in variants.items()}
        timings = interleave(variants, rounds, device, f"tokenizer, {dtype}")
    rows = {name: summarize(each) | {"difference": differences[name]} for name, each in timings.items()}
    for name, against in COMPARED.items():
        rows[name] |= ratios(rows[name], rows[against])
    return {"dtype": dtype, "batch_size": batch_size, "variants": rows}


if __name__ == "__main__":  # the process that `peak_memory_mib` starts
    print_peak(make_step(*build_model(Setup(**json.loads(sys.argv[1])))))
