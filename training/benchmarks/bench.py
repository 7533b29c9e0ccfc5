# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench`: speed and memory of TubeViT on this machine, alone or compared with video models of Transformers.

By default a forward pass is measured; `--against` adds other models. `--train`, `--tokenizer`, `--families`, `--decoding`,
`--pipeline`, `--loader`, `--runtime` and `--startup` select other measurements. Calls that are compared run interleaved in one process (see `timing`).
"""

import argparse
import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from ..command_line import whole_number
from ..data.data_config import DECODER_HELP, Decoder
from ..environment import pick_device
from ..options import parse_names
from .data_scale import format_data_scale, measure_data_scale
from .startup import format_startup, measure_startup
from .tables import (
    format_decoding,
    format_families,
    format_forward,
    format_machine,
    format_pipelines,
    format_runtimes,
    format_tokenizer,
    format_training,
)


TRAINING_BATCH_SIZE = 2
# Default number of rounds: fewer for slower measurements.
ROUNDS = {
    **{"forward": 10, "training": 5, "tokenizer": 30, "families": 5},
    **{"decoding": 5, "pipeline": 5, "loader": 3, "startup": 5, "data_scale": 1, "runtime": 5},
}
DTYPES = ("float32", "bfloat16", "float16")
PIPELINE_CLIPS = ("340_gop250.mp4", "720p_gop12.mp4", "ssv2_vp9.webm")  # of `decoding.CLIP_KINDS`
LOADER_CLIPS = ("340_gop250.mp4", "720p_gop250.mp4", "ssv2_vp9.webm")


# Whole numbers of at least 1: option to default and help.
MODEL_SIZES = {
    "num-frames": (32, "frames per clip of TubeViT; other models use their own number (default: 32)"),
    "image-size": (
        224,
        "height and width of TubeViT's clips in pixels; other models use their own size (default: 224)",
    ),
    "batch-size": (
        None,
        "clips per forward pass, training step or tokenizer call (default: 1; 2 with --train and --loader)",
    ),
    "threads": (None, "number of torch's CPU threads (default: chosen by torch)"),
}
NUMBERS = {
    "loader-workers": (None, "with --loader: number of DataLoader workers (default: one per CPU core)"),
    "loader-clips": (
        None,
        "with --loader: also measure the memory of a worker while it reads N clips (default: off)",
    ),
    "data-videos": (240_000, "with --data-scale: number of videos (default: 240000)"),
    "rounds": (
        None,
        "number of timed rounds; times are medians over rounds (default: 3 to 30, depending on the measurement)",
    ),
}
# Further measurements: switches, and options that take files.
SWITCHES = {
    "train": "measure training steps: forward pass, loss and backward pass",
    "tokenizer": "measure the tokenizer (clip to tokens), compared with Conv3d",
    "families": "measure UniFormerV2-B/16 against its published formulation, and the layers of ViViT-B/16x2, Models 1 to 4, against "
    "Transformers' ViViT",
    "startup": "measure the CPU seconds of processes that show help or import the package (default: off)",
    "data-scale": "measure how long a run takes to read the annotations of as many (empty) video files as in Kinetics, and to start "
    "and resume a stream of 1,000 shards (default: off)",
}
OF_FILES = {
    "decoding": "measure the video processor (file to clip), compared with Transformers (default: generated videos)",
    "pipeline": "measure the pipeline (file to label), compared with VideoMAE-B (default: generated videos)",
    "loader": "measure the DataLoader: reading, augmenting and waiting for training clips (default: generated videos)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model and machine")
    measure = parser.add_argument_group("measurements (default: a forward pass)")
    add = model.add_argument
    add("--preset", default="base", help="size of TubeViT: tiny, small, base, large or huge (default: base)")
    _add_numbers(model, MODEL_SIZES)
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: the GPU if there is one (default: auto)",
    )
    types = (
        "dtype of the weights: float32, bfloat16 or float16; a comma-separated list compares them (default: float32)"
    )
    add("--dtype", metavar="DTYPES", default="float32", help=types)
    add("--attn", default="sdpa", help="attention backend: sdpa, eager, flash_attention_2, ... (default: sdpa)")
    budget = "largest number of tube tokens per clip, for TubeViT in the forward pass and in --train (default: the preset's tubes)"
    add("--token-budget", type=int, metavar="N", help=budget)
    dropped = "keep N random tube tokens of a clip after tokenization, the baseline for --token-budget (default: all)"
    add("--random-tokens", type=whole_number(1), metavar="N", help=dropped)
    peers = "comma-separated models of Transformers to compare with, e.g. videomae,vivit,timesformer,vjepa2 (default: none)"
    measure.add_argument("--against", metavar="MODELS", default="", help=peers)
    for name, text in SWITCHES.items():
        measure.add_argument(f"--{name}", action="store_true", help=text)
    for name, text in OF_FILES.items():
        measure.add_argument(f"--{name}", nargs="*", metavar="FILE", help=text)
    runtime = (
        "measure torch and onnxruntime (float32, int8) on the CPU with this video classifier, a folder or Hub name (default: --preset with "
        "random weights)"
    )
    measure.add_argument("--runtime", nargs="?", const="", metavar="MODEL", help=runtime)
    frozen = "with --train: also measure TubeViT with its first N layers frozen, as in image-to-video scaling (default: 0, off)"
    measure.add_argument("--frozen-layers", type=int, default=0, metavar="N", help=frozen)
    rate = "with --decoding: frames per second of a clip (default: the frame rate of the video)"
    measure.add_argument("--clip-fps", type=float, metavar="FPS", help=rate)
    decoder = f"with --loader: {DECODER_HELP} (default: av)"
    measure.add_argument("--decoder", choices=get_args(Decoder), default="av", help=decoder)
    _add_numbers(measure, NUMBERS)
    parser.add_argument("--json", metavar="FILE", help="also write all numbers to this file as JSON (default: none)")


def _add_numbers(group: Any, options: dict[str, tuple[int | None, str]]) -> None:
    for name, (default, text) in options.items():
        group.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)


def run(args: argparse.Namespace) -> int:
    """Run the selected measurements, print a table for each, and write the numbers to the `--json` file."""
    import torch

    from ..environment import describe_machine

    check_arguments(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    machine = describe_machine(device)
    print(format_machine(machine, device))
    report = {"machine": machine, "device": device, "dtype": args.dtype}
    for name in selected_sections(args):
        measure, format_report = SECTIONS[name]
        report[name] = measure(args, device, args.rounds or ROUNDS[name])
        print("\n" + format_report(report[name]), flush=True)
    machine["load_at_end"] = describe_machine(device)["load"]
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def selected_sections(args: argparse.Namespace) -> list[str]:
    """Names of the measurements that the arguments select, in the order in which they run."""
    parts = {name: getattr(args, name) for name in ("tokenizer", "families", "startup", "data_scale")}
    parts |= {name: getattr(args, name) is not None for name in ("decoding", "pipeline", "loader", "runtime")}
    parts = [name for name, is_selected in parts.items() if is_selected]
    has_forward = args.against or not (parts or args.train)
    return (["forward"] if has_forward else []) + (["training"] if args.train else []) + parts


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `ValueError` or `FileNotFoundError` for invalid arguments that argparse accepts."""
    from tubevit.presets import PRESETS, preset_config

    from ..models.families import TUBEVIT, family_of_preset, peers
    from ..models.random_tokens import check_random_tokens

    family = family_of_preset(args.preset)
    if family is not TUBEVIT:
        raise ValueError(
            f"--preset {args.preset} is of {family.title}, and --preset takes sizes of TubeViT: {', '.join(PRESETS)}. --runtime MODEL measures "
            "a checkpoint of any family, and --families the published sizes of UniFormerV2 and ViViT."
        )
    for name in (*MODEL_SIZES, *NUMBERS):
        value = getattr(args, name.replace("-", "_"))
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    if args.clip_fps is not None and not 0 < args.clip_fps < float("inf"):
        raise ValueError(f"--clip-fps must be a number of frames per second above 0, got {args.clip_fps:g}.")
    config = preset_config(args.preset, num_frames=args.num_frames, image_size=args.image_size)
    if args.token_budget is not None:
        config.with_token_budget(args.token_budget)
    check_random_tokens(f"TubeViT {args.preset}", config, "video", args.random_tokens, args.token_budget)
    for name in ("token_budget", "random_tokens"):
        value = getattr(args, name)
        if value is not None and not {"forward", "training"} & set(selected_sections(args)):
            raise ValueError(f"--{name.replace('_', '-')} {value} has no effect without the forward pass or --train.")
    _check_dtypes(args)
    if args.decoder != "av" and args.loader is None:
        raise ValueError(f"--decoder {args.decoder} has no effect without --loader.")
    for name in ("loader_workers", "loader_clips"):
        if args.decoder == "torchcodec-cuda" and getattr(args, name):
            option = f"--{name.replace('_', '-')} {getattr(args, name)}"
            raise ValueError(f"{option} forks workers, which cannot use --decoder torchcodec-cuda: leave it out.")
    num_layers = PRESETS[args.preset]["num_hidden_layers"]
    if args.frozen_layers and not (args.train and 0 < args.frozen_layers <= num_layers):
        raise ValueError(f"--frozen-layers needs --train and is at most {num_layers}, got {args.frozen_layers}.")
    for name in parse_names(args.against):
        if name not in peers():
            raise ValueError(f"--against {name}: unknown model; use {', '.join(peers())}.")
    for file in [*(args.decoding or []), *(args.pipeline or []), *(args.loader or [])]:
        if not Path(file).is_file():
            raise FileNotFoundError(f"The file {file} does not exist.")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise FileNotFoundError(f"--json {args.json}: the folder {Path(args.json).parent} does not exist.")


def _check_dtypes(args: argparse.Namespace) -> None:
    names = parse_names(args.dtype)
    for name in names or [args.dtype]:
        if name not in DTYPES:
            raise ValueError(f"--dtype {name}: unknown dtype; use {', '.join(DTYPES)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"--dtype {args.dtype} names a dtype twice.")
    for section in ("families", "runtime"):
        if section in selected_sections(args) and names != ["float32"]:
            raise ValueError(f"--{section} is measured in float32, got --dtype {args.dtype}.")
    for section in ("tokenizer", "pipeline"):
        if len(names) > 1 and section in selected_sections(args):
            raise ValueError(f"--{section} takes a single dtype, got --dtype {args.dtype}.")


def _measure_models(args: argparse.Namespace, device: str, rounds: int, train: bool = False) -> dict[str, Any]:
    from .model import Setup, measure_models

    dtype, *other_dtypes = parse_names(args.dtype)
    setup = Setup(
        preset=args.preset,
        num_frames=args.num_frames,
        image_size=args.image_size,
        batch_size=args.batch_size or (TRAINING_BATCH_SIZE if train else 1),
        device=device,
        dtype=dtype,
        attn=args.attn,
        train=train,
        token_budget=args.token_budget,
        random_tokens=args.random_tokens,
    )
    num_frozen_layers = args.frozen_layers if train else 0
    return measure_models(setup, parse_names(args.against), rounds, other_dtypes, num_frozen_layers)


def _measure_training(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    return _measure_models(args, device, rounds, train=True)


def _measure_tokenizer(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    from .model import measure_tokenizer

    return measure_tokenizer(
        args.preset, args.num_frames, args.image_size, args.batch_size or 1, device, args.dtype, rounds
    )


def _measure_families(args: argparse.Namespace, device: str, rounds: int) -> list[dict[str, Any]]:
    from .families import measure_families

    return measure_families(args.batch_size or 1, device, rounds)


def _measure_runtimes(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    from ..logging_utils import quiet_libraries
    from .runtimes import measure_runtimes

    quiet_libraries()
    sizes = (args.preset, args.num_frames, args.image_size)
    return measure_runtimes(args.runtime or None, *sizes, args.batch_size or 1, rounds)


def _measure_decoding(args: argparse.Namespace, device: str, rounds: int) -> list[dict[str, Any]]:
    from .decoding import measure_decoding

    with _clips(args, args.decoding) as files:
        return measure_decoding(files, rounds, args.clip_fps)


def _measure_pipeline(args: argparse.Namespace, device: str, rounds: int) -> list[dict[str, Any]]:
    from .pipeline import measure_pipelines

    with _clips(args, args.pipeline, PIPELINE_CLIPS) as files:
        return measure_pipelines(files, args.preset, device, args.dtype, rounds)


def _measure_loader(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    from tubevit.processing.cpu_cores import num_cores

    from ..data.torchcodec_decoding import use_decoder
    from .loader import measure_growth, measure_loader, measure_waiting

    batch_size, num_workers = args.batch_size or TRAINING_BATCH_SIZE, args.loader_workers or num_cores()
    if is_on_gpu := args.decoder == "torchcodec-cuda":
        num_workers = 0
    with use_decoder(args.decoder, num_workers), _clips(args, args.loader, LOADER_CLIPS) as files:
        report = {"videos": measure_loader(files, args.num_frames, device, rounds)}
        report |= {"decoder": args.decoder, "clock": "median_ms" if is_on_gpu else "cpu_ms"}
        report["waiting"] = measure_waiting(
            files[0][1], args.preset, args.num_frames, device, batch_size, num_workers, rounds
        )
        return report | ({"memory": measure_growth(files[0][1], args.loader_clips)} if args.loader_clips else {})


def _format_loader(report: dict[str, Any]) -> str:
    from .loader import format_growth, format_loader, format_stages, format_waiting

    memory = [format_growth(report["memory"])] if "memory" in report else []
    tables = [f"Decoder: {report['decoder']}", f"{format_loader(report['videos'], report['clock'])}\n"]
    if report["clock"] == "cpu_ms":  # the stages are of the CPU
        tables.append(f"{format_stages(report['videos'])}\n")
    return "\n".join([*tables, format_waiting(report["waiting"]), *memory])


@contextmanager
def _clips(args: argparse.Namespace, files: list[str], names: tuple[str, ...] | None = None):
    """Yield `(title, path)` of `files`, by default of generated videos, which are deleted afterwards."""
    from .decoding import CLIP_KINDS, write_clips

    if files:
        yield [(Path(file).name, Path(file)) for file in files]
        return
    with tempfile.TemporaryDirectory() as folder:
        kinds = [kind for kind in CLIP_KINDS if names is None or kind.file_name in names]
        yield write_clips(Path(folder), kinds)


# name: (measure(args, device, rounds) -> report, format_report(report) -> text)
SECTIONS = {
    "forward": (_measure_models, format_forward),
    "training": (_measure_training, format_training),
    "tokenizer": (_measure_tokenizer, format_tokenizer),
    "families": (_measure_families, format_families),
    "decoding": (_measure_decoding, format_decoding),
    "pipeline": (_measure_pipeline, format_pipelines),
    "loader": (_measure_loader, _format_loader),
    "runtime": (_measure_runtimes, format_runtimes),
    "startup": (lambda args, device, rounds: measure_startup(rounds), format_startup),
    "data_scale": (lambda args, device, rounds: measure_data_scale(args.data_videos), format_data_scale),
}
