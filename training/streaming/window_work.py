# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What a stream saves: `TubeViTStream` compared with a call of processor and model for each window, on the same windows of one video.

    python -m tubevit.training.streaming.window_work MODEL

It prints CPU time and multiplications per window of three parts: from the file to pixels, the tokenizer, and the layers after it. It runs on one
thread. MODEL is a TubeViT; without it, one of `--preset` with random weights is measured. Windows at the start of the video, which
have too few windows before them, are left out.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..benchmarks.decoding import CLIP_KINDS, write_clips
from ..benchmarks.runtimes import random_model
from ..command_line import whole_number
from ..errors import run_script
from ..models.model_size import count_flops
from ..tables import format_table
from .source import VideoSource
from .stream import TubeViTStream


PARTS = ("file to pixels", "tokenizer", "file to tokens", "layers", "all")
RANDOM_CLIP = (32, 224)  # frames and image size of a model with random weights


def windows_of_stream(stream: TubeViTStream, path: str) -> Iterator[torch.Tensor]:
    """Logits of each window, `(classes,)`."""
    stream.reset()
    for frame in VideoSource(path):
        for window in stream.push(frame.picture, frame.seconds):
            yield window.logits


def windows_of_calls(stream: TubeViTStream, path: str) -> Iterator[torch.Tensor]:
    """The same, by a call of the processor and of the model for each window of `stream`."""
    processor = stream.classifier.processor
    for number in itertools.count():
        start = number * stream.window_stride / stream.rate
        clip = processor(path, sampling="fixed_rate", fps=stream.rate, clip_start=start, return_tensors="pt")
        yield stream.classifier(clip.pixel_values_videos)[0]


class ModelClock:
    """Milliseconds of CPU time that the calls of a model take, `"model"`, and those of its tokenizer, `"tokenizer"`."""

    def __init__(self, model: Any):
        self.spent = {"model": 0.0, "tokenizer": 0.0}
        for name, module in (("model", model), ("tokenizer", model.get_input_embeddings())):
            module.register_forward_pre_hook(lambda *_, name=name: self._add(name, -1))
            module.register_forward_hook(lambda *_, name=name: self._add(name, 1))

    def _add(self, name: str, sign: int) -> None:
        self.spent[name] += sign * 1e3 * time.process_time()


def measure(stream: TubeViTStream, path: str, num_windows: int, rounds: int) -> dict[str, Any]:
    """
    `{"milliseconds", "multiplications"}`, each `{"stream", "calls"}` with the values per window in the order of `PARTS`, and `"difference"`, the
    largest one of logits. Times are medians of `rounds`; the multiplications of "file to pixels" are not counted.

    Raises `ValueError` for a model that is no TubeViT, and for a video with too few windows.
    """
    model = stream.classifier.model.requires_grad_(False)  # hooks of the counter on gradients fail in inference mode
    if stream.tokens is None:
        raise ValueError(f"{type(model).__name__} has no tubes; windows share tokens in a TubeViT only.")
    routes = {"stream": windows_of_stream, "calls": windows_of_calls}
    num_first = -(-stream.num_frames // stream.window_stride)
    clock, logits, multiplications, times = ModelClock(model), {}, {}, {name: [] for name in routes}
    for number in range(rounds + 1):
        for name, windows_of in routes.items():
            with closing(windows_of(stream, path)) as windows:
                first = list(itertools.islice(windows, num_first))
                if number:
                    times[name].append(_time(clock, windows, num_windows))
                    continue
                with FlopCounterMode(display=False) as counter:
                    logits[name] = list(itertools.islice(windows, num_windows))
                if len(first + logits[name]) < num_first + num_windows:
                    raise ValueError(
                        f"{path} is too short for {num_first + num_windows} windows: give a longer video."
                    )
                per_module = counter.get_flop_counts()
                of_tokenizer = next(each for key, each in per_module.items() if key.endswith(".embeddings"))
                multiplications[name] = sum(of_tokenizer.values()) / 2 / num_windows
    shape = stream.buffer[: stream.num_frames][None].shape
    whole = count_flops(model, pixel_values_videos=torch.empty(shape, device="meta")) / 2
    layers = whole - multiplications["calls"]
    return {
        "milliseconds": {
            name: [statistics.median(part) for part in zip(*times[name], strict=True)] for name in routes
        },
        "multiplications": {name: [None, each, each, layers, each + layers] for name, each in multiplications.items()},
        "difference": max((a - b).abs().max().item() for a, b in zip(*logits.values(), strict=True)),
    }


def _time(clock: ModelClock, windows: Iterator[torch.Tensor], num_windows: int) -> list[float]:
    """CPU milliseconds per window, in the order of `PARTS`."""
    before, begin = dict(clock.spent), time.process_time()
    for _ in range(num_windows):
        next(windows)
    total = 1e3 * (time.process_time() - begin)
    model, tokenizer = (clock.spent[part] - before[part] for part in ("model", "tokenizer"))
    return [
        each / num_windows for each in (total - model, tokenizer, total - model + tokenizer, model - tokenizer, total)
    ]


def format_work(report: dict[str, Any]) -> str:
    rows = []
    for part, name in enumerate(PARTS):
        ours, calls = (report["milliseconds"][route][part] for route in ("stream", "calls"))
        counted = [report["multiplications"][route][part] for route in ("stream", "calls")]
        rows.append(
            [name, calls, ours, calls / ours, *(None if each is None else each / 1e6 for each in counted[::-1])]
        )
    columns = [
        "",
        "calls: CPU ms",
        "stream: CPU ms",
        "calls / stream",
        "calls: M multiplications",
        "stream: M multiplications",
    ]
    return f"{format_table(columns, rows)}\nCalls: the processor and the model for each window. Largest difference of logits: {report['difference']:.1e}."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="checkpoint of a TubeViT: a folder, or a name on the Hub")
    parser.add_argument("--preset", help="size of a TubeViT with random weights, without MODEL (default: base)")
    parser.add_argument("--video", metavar="FILE", help=f"default: a generated one, {CLIP_KINDS[1].title}")
    parser.add_argument("--stride", type=whole_number(1), metavar="N", help="as for tubevit watch")
    parser.add_argument("--window-seconds", type=float, metavar="S", help="as for tubevit watch; 2 for random weights")
    parser.add_argument(
        "--windows", type=whole_number(1), default=8, metavar="N", help="number of windows (default: 8)"
    )
    parser.add_argument("--rounds", type=whole_number(1), default=3, metavar="N", help="default: 3")
    args = parser.parse_args(argv)
    if args.model is not None and args.preset is not None:
        parser.error(f"--preset {args.preset} has no effect on {args.model}: leave one of them out.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name, seconds = args.model, args.window_seconds
        if name is None:
            name, seconds = random_model(folder / "model", args.preset or "base", *RANDOM_CLIP), seconds or 2.0
        stream = TubeViTStream.from_pretrained(name, window_stride=args.stride, window_seconds=seconds)
        path = args.video
        if path is None:
            path = write_clips(folder, CLIP_KINDS[1:2])[0][1]
        report = measure(stream, str(path), args.windows, args.rounds)
    print(
        f"Windows of {stream.num_frames} frames, one every {stream.window_stride}. Per window:\n{format_work(report)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
