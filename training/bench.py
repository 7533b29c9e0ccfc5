# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench`: what TubeViT costs on this machine, and how that compares.

Without options: the forward pass of a preset. `--against` adds the library's models, `--tokenizer` the ways from clip to
tokens, `--decoding` those from file to clip, `--pipeline` the way from file to label. Weights are random.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any


PEER_NAMES = ("videomae", "vivit", "timesformer", "vjepa2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="base", help="tiny, small, base, large or huge (default: base)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames per clip (default: 32)")
    parser.add_argument("--image-size", type=int, default=224, help="height and width (default: 224)")
    parser.add_argument("--batch-size", type=int, default=1, help="clips per step (default: 1)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights"
    )
    parser.add_argument("--attn", default="sdpa", help="attention backend: sdpa, eager, flex_attention, ...")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's own choice)")
    parser.add_argument("--rounds", type=int, default=7, help="times that each call is timed (default: 7)")
    parser.add_argument("--train", action="store_true", help="time a training step instead of a forward pass")
    parser.add_argument(
        "--against", type=_peers, default=[], metavar="MODELS", help=f"compare with any of {','.join(PEER_NAMES)}"
    )
    parser.add_argument("--tokenizer", action="store_true", help="compare the tokenizer with Conv3d")
    parser.add_argument(
        "--decoding",
        nargs="*",
        metavar="FILE",
        help="compare decoding with the library's, of FILEs or of clips made here",
    )
    parser.add_argument("--pipeline", action="store_true", help="compare file to label with VideoMAE's pipeline")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")


def run(args: argparse.Namespace) -> None:
    import torch
    from transformers.utils import logging

    from tubevit.presets import preset_config

    from .bench_timing import describe_machine
    from .predict import pick_device

    logging.set_verbosity_error()
    if args.rounds < 1 or args.batch_size < 1:
        raise ValueError(f"--rounds and --batch-size must be at least 1, got {args.rounds} and {args.batch_size}.")
    args.device = pick_device(args.device)
    preset_config(args.preset, num_frames=args.num_frames, image_size=args.image_size)  # says what is wrong with them
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    report = {"machine": describe_machine(args.device)}
    print("  ".join(f"{name}: {value}" for name, value in report["machine"].items() if value is not None))
    if args.decoding is not None:
        report["decoding"] = bench_decoding(args.decoding, args.rounds)
    if args.tokenizer:
        report["tokenizer"] = bench_tokenizer(args)
    if args.pipeline:
        report["pipeline"] = bench_pipeline(args)
    if args.against or not (args.decoding is not None or args.tokenizer or args.pipeline):
        report["models"] = bench_models(args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"\nnumbers: {args.json}", file=sys.stderr)


def bench_models(args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the costs of TubeViT and of the models it is compared with."""
    from .bench_model import measure_models
    from .bench_timing import format_table

    report = measure_models(_setup(args), args.against, args.rounds)
    what = "training step (forward, loss, backward)" if args.train else "forward pass"
    columns = ["model", "frames", "tokens", "M params", "GFLOP/clip", "median ms", "clips/s", "peak MiB", "attention"]
    columns += ["our time / its", "our memory / its"] if args.against else []
    rows = []
    for row in report["models"]:
        values = [row["title"], row["num_frames"], row["tokens"], row["parameters"] / 1e6, row["gflops"]]
        values += [row["median_ms"], row["clips_per_second"], row["peak_mib"], row["attn"]]
        rows.append(values + ([row.get("ratio"), row.get("ratio_of_memory")] if args.against else []))
    print(f"\n{what}, {args.dtype}, batch {args.batch_size}, {args.rounds} rounds in turn; memory is over the weights")
    print(format_table(columns, rows))
    if not args.train:
        print(
            f"tokenization takes {report['tokenization_share']:.1%} of the forward pass; the whole reaches "
            f"{report['share_of_mm']:.0%} of the rate of torch.mm at the encoder's shapes, "
            f"{report['mm_gflops_per_second']:,.0f} GFLOP/s"
        )
    return report


def bench_tokenizer(args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the costs of the ways from a clip to tokens."""
    from .bench_timing import format_table
    from .bench_tokenizer import VARIANTS, measure_tokenizer

    sizes = (args.preset, args.num_frames, args.image_size, args.batch_size)
    report = measure_tokenizer(*sizes, args.device, args.dtype, max(args.rounds, 15))
    rows = [
        [VARIANTS[name][0], row["median_ms"], row["min_ms"], row.get("ratio"), f"{row['difference']:.1e}"]
        for name, row in report["variants"].items()
    ]
    print(f"\nclip to tokens, {args.dtype}, batch {args.batch_size}; ratio: to Conv3d from the same kind of clip")
    print(format_table(["variant", "median ms", "min ms", "ratio", "difference"], rows))
    return report


def bench_decoding(files: list[str], rounds: int) -> list[dict[str, Any]]:
    """Print and return the costs of the ways from a file to a clip; without files, of clips that are made here."""
    from .bench_clips import write_clips
    from .bench_decoding import measure_decoding
    from .bench_timing import format_table

    with tempfile.TemporaryDirectory() as folder:
        named = [(Path(file).name, Path(file)) for file in files] or write_clips(Path(folder))
        reports = measure_decoding(named, rounds)
    rows = []
    for report in reports:
        worker, stages = report["worker"], report["stages"]
        cpu_ms = [worker[name]["cpu_ms"] for name in ("library", "uint8", "float")]
        cpu_ratios = [worker[name]["ratio_of_cpu"] for name in ("uint8", "uniform_views")]
        rows.append([report["title"], *cpu_ms, *cpu_ratios, report["request"]["uint8"]["ratio"], *stages.values()])
    columns = ["file", "library", "uint8", "float", "uint8/library", "views/calls", "request ratio", *stages]
    print(
        "\nfile to 32 frames of 224x224: processor ms per clip on one thread (library: load_video with PyAV and VideoMAE's\n"
        "video processor); views/calls: several temporal views in one pass against as many load_video calls; request\n"
        "ratio: uint8/library on the wall clock, with all threads; then where our time goes, with float pixels"
    )
    print(format_table(columns, rows))
    return reports


def bench_pipeline(args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the costs of the pipelines from a file to labels."""
    from .bench_clips import CLIP_KINDS, write_clips
    from .bench_pipeline import describe, measure_pipelines
    from .bench_timing import format_table

    report = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, path in write_clips(Path(folder), (CLIP_KINDS[0], CLIP_KINDS[3])):
            report[title] = measure_pipelines(_setup(args), path, args.rounds)
            print(f"\nfile to label through the pipeline, {args.dtype}, {title}")
            print(format_table(["model", "median ms", "min ms", "ratio"], describe(report[title])))
    return report


def _setup(args: argparse.Namespace):
    from .bench_model import Setup

    names = ("preset", "num_frames", "image_size", "batch_size", "device", "dtype", "attn", "train")
    return Setup(**{name: getattr(args, name) for name in names})


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := sorted(set(names) - set(PEER_NAMES)):
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; choose from {','.join(PEER_NAMES)}")
    return names
