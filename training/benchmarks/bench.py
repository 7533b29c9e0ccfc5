# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench`: what TubeViT costs on this machine, alone and against the video models of Transformers.

The default measures a forward pass, and `--against` other models beside it; `--train`, `--tokenizer`, `--decoding`,
`--pipeline` and `--loader` measure those instead. Everything that is compared runs interleaved in one process; see `timing`.
"""

import argparse
import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..environment import pick_device
from .tables import (
    format_decoding,
    format_forward,
    format_machine,
    format_pipelines,
    format_tokenizer,
    format_training,
)


TRAINING_BATCH_SIZE = 2
# Fewer where they take longer.
ROUNDS = {"forward": 10, "training": 5, "tokenizer": 30, "decoding": 5, "pipeline": 5, "loader": 3}
DTYPES = ("float32", "bfloat16", "float16")
PIPELINE_CLIPS = ("340_gop250.mp4", "720p_gop12.mp4", "ssv2_vp9.webm")  # of `clips.CLIP_KINDS`
LOADER_CLIPS = ("340_gop250.mp4", "720p_gop250.mp4", "ssv2_vp9.webm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("what is run")
    model.add_argument(
        "--preset", default="base", help="TubeViT's size: tiny, small, base, large, huge (default: base)"
    )
    model.add_argument("--num-frames", type=int, default=32, metavar="N", help="TubeViT's; others have their own")
    model.add_argument("--image-size", type=int, default=224, metavar="N", help="likewise, height and width in pixels")
    model.add_argument("--batch-size", type=int, metavar="N", help="default: 1, and 2 for training steps")
    model.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: the GPU if there is one"
    )
    model.add_argument(
        "--dtype",
        metavar="DTYPES",
        default="float32",
        help="of the weights: float32 (default), bfloat16, float16; several, separated by commas, are compared",
    )
    model.add_argument("--attn", default="sdpa", help="attention: sdpa (default), eager, flash_attention_2, ...")
    model.add_argument("--threads", type=int, metavar="N", help="torch's threads (default: its own choice)")
    parser.add_argument(
        "--against",
        metavar="MODELS",
        default="",
        help="compare with models of Transformers, separated by commas: videomae, vivit, timesformer, vjepa2",
    )
    parser.add_argument("--train", action="store_true", help="measure training steps (forward and backward)")
    parser.add_argument(
        "--frozen-layers",
        type=int,
        default=0,
        metavar="N",
        help="with --train: also TubeViT with its first N layers frozen, as in image-to-video scaling",
    )
    parser.add_argument("--tokenizer", action="store_true", help="measure clip to tokens, against Conv3d")
    parser.add_argument(
        "--decoding", nargs="*", metavar="FILE", help="measure file to clip, against the library; default: own clips"
    )
    parser.add_argument(
        "--clip-fps",
        type=float,
        metavar="FPS",
        help="with --decoding: frames of a clip per second (default: the video's own rate, frames in a row)",
    )
    parser.add_argument(
        "--pipeline", nargs="*", metavar="FILE", help="measure file to label, against VideoMAE-B; default: own clips"
    )
    parser.add_argument(
        "--loader", nargs="*", metavar="FILE", help="measure training clips in a data loader; default: own clips"
    )
    parser.add_argument(
        "--loader-workers", type=int, metavar="N", help="with --loader: processes that read (default: one per core)"
    )
    parser.add_argument(
        "--loader-clips", type=int, metavar="N", help="with --loader: also memory of a worker while it reads N clips"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds that medians are taken of (default: 5 to 30)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file too")
    parser.add_argument(
        "--dry-run", action="store_true", help="one round of each, to see that it works; write nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Print a table per section, and write the numbers to `--json`."""
    import torch

    from ..environment import describe_machine

    check_arguments(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    machine = describe_machine(device)
    print(format_machine(machine, device))
    report = {"machine": machine, "device": device, "dtype": args.dtype}
    for name in chosen_sections(args):
        measure, show = SECTIONS[name]
        report[name] = measure(args, device, 1 if args.dry_run else args.rounds or ROUNDS[name])
        print("\n" + show(report[name]), flush=True)
    machine["load_at_end"] = describe_machine(device)["load"]
    if args.dry_run:
        print("\nDry run: of one round each, these numbers mean little; nothing was written.")
    elif args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def chosen_sections(args: argparse.Namespace) -> list[str]:
    """Names of the sections that the arguments ask for, in the order in which they run."""
    parts = {"tokenizer": args.tokenizer}
    parts |= {name: getattr(args, name) is not None for name in ("decoding", "pipeline", "loader")}
    parts = [name for name, is_chosen in parts.items() if is_chosen]
    has_forward = args.against or not (parts or args.train)
    return (["forward"] if has_forward else []) + (["training"] if args.train else []) + parts


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a `ValueError`, or `FileNotFoundError`, for what argparse does not know to be wrong."""
    from tubevit.presets import PRESETS, preset_config

    from ..models.families import peers

    for name in ("num_frames", "image_size", "batch_size", "threads", "rounds", "loader_workers", "loader_clips"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    if args.clip_fps is not None and not 0 < args.clip_fps < float("inf"):
        raise ValueError(f"--clip-fps is a number of frames per second above 0, got {args.clip_fps:g}.")
    preset_config(args.preset, num_frames=args.num_frames, image_size=args.image_size)
    _check_dtypes(args)
    num_layers = PRESETS[args.preset]["num_hidden_layers"]
    if args.frozen_layers and not (args.train and 0 < args.frozen_layers <= num_layers):
        raise ValueError(f"--frozen-layers goes with --train and is at most {num_layers}, got {args.frozen_layers}.")
    for name in parse_names(args.against):
        if name not in peers():
            raise ValueError(f"--against {name}: there is no such model; there are {', '.join(peers())}.")
    for file in [*(args.decoding or []), *(args.pipeline or []), *(args.loader or [])]:
        if not Path(file).is_file():
            raise FileNotFoundError(f"There is no file {file}.")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise FileNotFoundError(f"--json {args.json}: there is no folder {Path(args.json).parent}.")


def _check_dtypes(args: argparse.Namespace) -> None:
    names = parse_names(args.dtype)
    for name in names or [args.dtype]:
        if name not in DTYPES:
            raise ValueError(f"--dtype {name}: there is no such type here; there are {', '.join(DTYPES)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"--dtype {args.dtype} names a type twice.")
    for section in ("tokenizer", "pipeline"):
        if len(names) > 1 and section in chosen_sections(args):
            raise ValueError(f"--{section} is measured with one dtype at a time, got --dtype {args.dtype}.")


def parse_names(text: str) -> list[str]:
    """
    >>> parse_names("videomae, vivit")
    ['videomae', 'vivit']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


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
    )
    num_frozen_layers = args.frozen_layers if train else 0
    return measure_models(setup, parse_names(args.against), rounds, other_dtypes, num_frozen_layers)


def _measure_training(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    return _measure_models(args, device, rounds, train=True)


def _measure_tokenizer(args: argparse.Namespace, device: str, rounds: int) -> dict[str, Any]:
    from .tokenizer import measure_tokenizer

    return measure_tokenizer(
        args.preset, args.num_frames, args.image_size, args.batch_size or 1, device, args.dtype, rounds
    )


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

    from .dataloader import measure_waiting
    from .loader import measure_growth, measure_loader

    batch_size, num_workers = args.batch_size or TRAINING_BATCH_SIZE, args.loader_workers or num_cores()
    with _clips(args, args.loader, LOADER_CLIPS) as files:
        report = {"videos": measure_loader(files, args.num_frames, device, rounds)}
        report["waiting"] = measure_waiting(
            files[0][1], args.preset, args.num_frames, device, batch_size, num_workers, rounds
        )
        return report | ({"memory": measure_growth(files[0][1], args.loader_clips)} if args.loader_clips else {})


def _format_loader(report: dict[str, Any]) -> str:
    from .dataloader import format_waiting
    from .loader import format_growth, format_loader

    memory = [format_growth(report["memory"])] if "memory" in report else []
    return "\n".join([format_loader(report["videos"]), format_waiting(report["waiting"]), *memory])


@contextmanager
def _clips(args: argparse.Namespace, files: list[str], names: tuple[str, ...] | None = None):
    """`(title, path)` of the files; if there are none, of clips that exist while the context lasts, in a dry run of one."""
    from .clips import CLIP_KINDS, write_clips

    if files:
        yield [(Path(file).name, Path(file)) for file in files]
        return
    with tempfile.TemporaryDirectory() as folder:
        kinds = [kind for kind in CLIP_KINDS if names is None or kind.file_name in names]
        yield write_clips(Path(folder), kinds[:1] if args.dry_run else kinds)


# name: (measure(args, device, rounds) -> report, show(report) -> text)
SECTIONS = {
    "forward": (_measure_models, format_forward),
    "training": (_measure_training, format_training),
    "tokenizer": (_measure_tokenizer, format_tokenizer),
    "decoding": (_measure_decoding, format_decoding),
    "pipeline": (_measure_pipeline, format_pipelines),
    "loader": (_measure_loader, _format_loader),
}
