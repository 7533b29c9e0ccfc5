# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`make bench-gpu`: what one GPU does with TubeViT; no measurement starts after 9 minutes.

    python -m tubevit.training.benchmarks.gpu --output bench-gpu.json

It measures training steps in bf16 autocast with fused AdamW (each attention backend, eager and compiled, each batch size), their peak memory,
forward passes in bf16, the rate of torch.mm, and training from prepared video files with augmentation on the device. Utilization (MFU) is three
times the forward FLOPs of the matrix products and convolutions per step, divided by the time of the step and the peak rate of the GPU. Batches that
do not fit into memory, and measurements for which the time is over, are named. Numbers are written after each measurement.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..command_line import whole_number
from ..environment import describe_machine, pick_device, provenance
from ..errors import run_script
from ..timing import interleave, summarize
from .model import Setup, build_model, count


# Dense bf16 TFLOP/s by the maker's data sheets; the first name that the GPU's name contains counts.
PEAK_TFLOPS = {
    **{"B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70},
    **{"A10": 125, "RTX 5090": 209, "RTX 4090": 165, "RTX 3090": 71, "RTX A6000": 155, "MI300X": 1307},
}
FLOPS_OF_A_STEP = (
    3  # forward passes that a training step computes: the backward pass has two products for each of the forward pass
)
NUM_COPIES = 64  # videos of the training from files


def attention_backends(device: str) -> tuple[list[str], list[str]]:
    """The backends to measure, and a sentence on those that are not."""
    if device == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        return ["sdpa", "flash_attention_2"], []
    return ["sdpa"], [
        "flash_attention_2 is not measured: the package flash-attn is not installed, or there is no GPU."
    ]


def train_step(setup: Setup, compiles: bool) -> Callable[[], None]:
    """A training step of the model of `setup`: float32 weights, bf16 autocast, raw pixels, fused AdamW."""
    model, inputs = build_model(setup)
    name = next(each for each in inputs if each != "labels")
    inputs[name] = torch.randint(0, 256, inputs[name].shape, dtype=torch.uint8, device=setup.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    if compiles:
        model.compile()

    def step() -> None:
        with torch.autocast(setup.device, torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def forward(setup: Setup, compiles: bool) -> Callable[[], None]:
    """A forward pass of the model of `setup` in bf16."""
    model, inputs = build_model(setup)
    if compiles:
        model.compile()

    def call() -> None:
        with torch.inference_mode():
            model(**inputs)

    return call


def measure(setup: Setup, compiles: bool, rounds: int) -> dict[str, Any]:
    """
    A row: "what", "attn", "compiled", "batch_size", and "median_ms", "clips_per_second" and "peak_gib" (of torch's allocator on a GPU), or "error".
    """
    row = {
        "what": "training step" if setup.train else "forward pass",
        "attn": setup.attn,
        "compiled": compiles,
        "batch_size": setup.batch_size,
    }
    is_cuda = setup.device == "cuda"
    try:
        call = (train_step if setup.train else forward)(setup, compiles)
        call()  # compiles, and makes the state of the optimizer
        if is_cuda:
            torch.cuda.reset_peak_memory_stats()
        row |= summarize(interleave({"": call}, rounds, setup.device, row["what"])[""])
    except torch.OutOfMemoryError:
        return row | {"error": "out of memory"}
    finally:
        torch.compiler.reset()
    row["clips_per_second"] = 1e3 * setup.batch_size / row["median_ms"]
    if is_cuda:
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def mm_tflops(device: str, rounds: int) -> float:
    """TFLOP/s of torch.mm in bf16 with large square matrices."""
    side = 8192 if device == "cuda" else 256
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return (
        2e-9
        * side**3
        / summarize(interleave({"": lambda: matrix @ matrix}, rounds, device, "torch.mm")[""])["median_ms"]
    )


def run_tubevit(*arguments: Any) -> None:
    """Run a command in a process of its own. Raises `ChildProcessError` if it fails."""
    command = [sys.executable, "-m", f"{__package__.rpartition('.')[0]}.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ChildProcessError(f"tubevit {arguments[0]} ended with exit code {done.returncode}: {reason}")


def measure_files(args: argparse.Namespace, device: str, batch_size: int) -> dict[str, Any]:
    """A row of `tubevit train` on copies of a drawn 340x256 video, prepared by `tubevit data prepare`, with RandAugment and random erasing."""
    from .decoding import CLIP_KINDS, write_clips

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "original").mkdir()
        ((_, video),) = write_clips(folder / "original", CLIP_KINDS[:1])
        prepared, out = folder / "prepared", folder / "run"
        short_side = max(32, round(args.image_size * 256 / 224))
        run_tubevit("data", "prepare", video.parent, prepared, "--short-side", short_side, "--no-timing")
        for index in range(NUM_COPIES):
            target = folder / "data" / ("val" if index < 4 else "train") / "ab"[index % 2] / f"{index}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(prepared / video.name, target)
        options = {
            "preset": args.preset,
            "data": folder / "data",
            "output_dir": out,
            "num_frames": args.num_frames,
            "image_size": args.image_size,
            "short_side": short_side,
            "max_steps": args.file_steps,
            "per_device_train_batch_size": batch_size,
            "dataloader_num_workers": args.workers,
            "mixed_precision": "bf16",
            "rand_augment_layers": 2,
            "random_erasing_prob": 0.25,
            "num_temporal_views": 1,
            "num_spatial_views": 1,
            "use_cpu": device == "cpu",
        }
        run_tubevit("train", *(f"{name}={value}" for name, value in options.items()))
        throughput = json.loads((out / "throughput.json").read_text(encoding="utf-8"))
    waiting = throughput["share_of_time_waiting_for_data"]
    return {
        "what": "training from files",
        "attn": "sdpa",
        "compiled": False,
        "batch_size": batch_size,
        "median_ms": 1e3 * batch_size / throughput["clips_per_second"],
        "clips_per_second": throughput["clips_per_second"],
        "waiting_for_data": waiting,
        "workers": args.workers,
    }


def peak_tflops(machine: dict[str, Any]) -> float | None:
    """The peak rate of the GPU; `None` for one that `PEAK_TFLOPS` does not have."""
    return next((rate for name, rate in PEAK_TFLOPS.items() if name in machine.get("gpu", "")), None)


def format_row(row: dict[str, Any]) -> str:
    compiled = "compiled" if row["compiled"] else "eager"
    text = f"{row['what']:20} {row['attn']:18} {compiled:9} batch {row['batch_size']:3}: "
    if "error" in row:
        return text + row["error"]
    text += f"{row['median_ms']:8.1f} ms, {row['clips_per_second']:8.1f} clips/s"
    for name, words in (
        ("mfu", "of the peak rate"),
        ("of_mm", "of torch.mm"),
        ("waiting_for_data", "of the time waiting for data"),
    ):
        text += f", {100 * row[name]:.1f} % {words}" if row.get(name) is not None else ""
    return text + (f", {row['peak_gib']:.1f} GiB" if "peak_gib" in row else "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-gpu.json"), help="(default: bench-gpu.json)")
    parser.add_argument("--preset", default="base", help="size of TubeViT (default: base)")
    parser.add_argument("--num-frames", type=whole_number(1), default=32, help="frames of a clip (default: 32)")
    parser.add_argument("--image-size", type=whole_number(1), default=224, help="height and width (default: 224)")
    parser.add_argument("--batch-sizes", type=whole_number(1), nargs="+", default=[8, 16, 32, 64], metavar="N")
    parser.add_argument("--rounds", type=whole_number(1), default=10, help="timed calls (default: 10)")
    parser.add_argument("--file-steps", type=whole_number(1), default=30, help="steps from files (default: 30)")
    parser.add_argument("--workers", type=whole_number(0), default=8, help="processes that decode (default: 8)")
    parser.add_argument("--minutes", type=float, default=9.0, help="start no measurement after this time (default: 9)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    args = parser.parse_args(argv)
    begin, device = time.monotonic(), pick_device(args.device)
    machine = describe_machine(device)
    peak, mm = peak_tflops(machine), mm_tflops(device, args.rounds)
    backends, notes = attention_backends(device)
    if peak is None:
        notes.append("No share of the peak rate is given: the peak rate of this machine is not known here.")
    sizes = {"preset": args.preset, "num_frames": args.num_frames, "image_size": args.image_size, "device": device}
    gflops = count(Setup(**sizes))["gflops"]
    plan: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for train in (True, False):
        for attn in backends:
            for compiles in (False, True):
                for size in sorted(args.batch_sizes):
                    dtype = "float32" if train else "bfloat16"
                    setup = Setup(**sizes, batch_size=size, attn=attn, train=train, dtype=dtype)
                    title = f"{'training step' if train else 'forward pass'}, {attn}, {'compiled' if compiles else 'eager'}, batch {size}"
                    plan.append((title, lambda setup=setup, compiles=compiles: measure(setup, compiles, args.rounds)))
    middle = sorted(args.batch_sizes)[len(args.batch_sizes) // 2]
    plan.insert(len(args.batch_sizes), ("training from files", lambda: measure_files(args, device, middle)))
    record = {
        "settings": {**sizes, "gflops": gflops},
        "peak_tflops": peak,
        "mm_tflops": mm,
        "rows": [],
        "notes": notes,
    }
    print(
        f"{machine.get('gpu', machine['cpu'])}: torch.mm {mm:,.1f} TFLOP/s in bf16, {gflops:.1f} GFLOP per clip and forward pass."
    )
    for title, call in plan:
        if time.monotonic() - begin > 60 * args.minutes:
            notes.append(f"Not measured, because the time was over: {title}.")
            continue
        row = call()
        if "error" not in row:
            passes = 1 if row["what"] == "forward pass" else FLOPS_OF_A_STEP
            tflops = passes * gflops * row["clips_per_second"] / 1e3
            row |= {"tflops": tflops, "of_mm": tflops / mm, "mfu": None if peak is None else tflops / peak}
        record["rows"].append(row)
        print(format_row(row), flush=True)
        record |= {"seconds": time.monotonic() - begin, **provenance(machine)}
        args.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for note in notes:
        print(note)
    args.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {args.output}, {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
