# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit watch` on hours of video with known events.

    python -m tubevit.training.streaming.long_video MODEL FOLDER --hours 1 --output long

It concatenates the labeled clips of a folder (its validation or test split, or else its training split) in random order into one file,
runs `tubevit watch --truth` on the file, and prints frame accuracy, event F1, and the memory of the process over time. Each clip is one
event, repeated `--repeats` times. Clips of another size are scaled to fit into `--size`, with black borders.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..benchmarks.memory import memory_of
from ..command_line import whole_number
from ..data.demo_clips import LabeledClip, evaluation_clips
from ..errors import run_script
from ..run_folder import check_new_folder
from .events import Event, write_events


MEMORY_PARTS = 5  # the memory is printed after each of these parts of the run
SECONDS_PER_SAMPLE = 1.0  # of the memory


def write_long_video(
    path: Path, clips: Sequence[LabeledClip], seconds: float, repeats: int, size: tuple[int, int], fps: int, seed: int
) -> list[Event]:
    """
    Write an H.264 file of at least `seconds` seconds and return its events. Two clips of one class that follow each other are one event.

    size: (height, width), even. fps: frames per second of the file; the frames of a clip are shown for their own time.
    """
    import av

    rng, order, num_frames = random.Random(seed), list(clips), 0
    events: list[Event] = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": "20", "preset": "veryfast", "g": str(5 * fps)}
        )
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        while num_frames < seconds * fps:
            rng.shuffle(order)
            for clip in order:
                begin, pictures = num_frames / fps, frames_at(clip.path, size, fps)
                for _ in range(repeats):
                    for picture in pictures:
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                num_frames += repeats * len(pictures)
                if events and events[-1].label == clip.label:
                    begin = events.pop().start
                events.append(Event(clip.label, begin, num_frames / fps, 1.0))
                if num_frames >= seconds * fps:
                    break
        container.mux(stream.encode(None))
    return events


def frames_at(path: Path, size: tuple[int, int], fps: int) -> np.ndarray:
    """The frames of a video at a rate of `fps`, uint8 `(frames, height, width, 3)`, scaled to fit into `size` with black borders."""
    from torchvision.transforms.v2 import functional

    from tubevit.processing import decode_video

    frames, metadata = decode_video(str(path))
    times = np.arange(max(1, round(metadata.duration * fps))) / fps
    shown = np.searchsorted(metadata.timestamps, times + 1e-6, side="right") - 1
    scale = min(size[0] / frames.shape[2], size[1] / frames.shape[3])
    height, width = (min(limit, round(scale * side)) for limit, side in zip(size, frames.shape[2:], strict=True))
    pictures = np.zeros((len(times), *size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    resized = functional.resize(frames, [height, width], antialias=True)
    pictures[:, top : top + height, left : left + width] = resized.permute(0, 2, 3, 1).numpy()[shown]
    return pictures


def watch(command: Sequence[str]) -> tuple[list[str], list[tuple[float, float]]]:
    """The printed lines of `tubevit watch`, and (seconds, MiB) of its process over time. Raises `ChildProcessError` if it fails."""
    lines: list[str] = []
    samples, begin = [], time.monotonic()
    # A file, because a pipe that nobody reads stops the process when it is full.
    with open(Path(command[command.index("--output") + 1]).with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            samples.append((time.monotonic() - begin, memory_of(process.pid)))
            time.sleep(SECONDS_PER_SAMPLE)
        log.seek(0)
        lines = log.read().splitlines()
    if process.returncode:
        raise ChildProcessError(
            f"tubevit watch ended with exit code {process.returncode}: {(lines or ['no output'])[-1]}"
        )
    return lines, samples


def memory_line(samples: list[tuple[float, float]]) -> str:
    """The memory after each part of the run; the last samples are of a process that ends."""
    known = [sample for sample in samples if np.isfinite(sample[1])]
    if len(known) < MEMORY_PARTS:
        return "memory: not measured (too short a run, or a system without /proc)"
    chosen = [known[len(known) * part // MEMORY_PARTS - 1] for part in range(1, MEMORY_PARTS + 1)]
    return "memory: " + ", ".join(f"{mib:,.0f} MiB after {seconds:,.0f} s" for seconds, mib in chosen)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s MODEL FOLDER --output FOLDER [option ...] [-- option of tubevit watch ...]",
    )
    parser.add_argument("model", help="checkpoint of a video classifier: a folder, or a name on the Hub")
    parser.add_argument("data", help="folder of labeled clips, as for tubevit demo --data")
    parser.add_argument(
        "--output", type=Path, required=True, help="new folder for the video, its events and the result"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="length of the video (default: 1)")
    parser.add_argument("--repeats", type=whole_number(1), default=3, help="times that a clip is shown (default: 3)")
    parser.add_argument("--fps", type=whole_number(1), default=16, help="frames per second of the video (default: 16)")
    parser.add_argument(
        "--size", type=whole_number(16), nargs=2, default=(80, 80), metavar=("HEIGHT", "WIDTH"), help="default: 80 80"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="seed of the order of clips (default: 0)")
    argv = list(sys.argv[1:] if argv is None else argv)
    own = argv[: argv.index("--")] if "--" in argv else argv
    args, of_watch = parser.parse_args(own), argv[len(own) + 1 :]
    if any(side % 2 for side in args.size):
        raise ValueError(f"H.264 needs an even height and width, got {args.size[0]} {args.size[1]}.")
    check_new_folder(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    clips, messages = evaluation_clips(args.data)
    for message in messages:
        print(message)
    video = args.output / "long.mp4"
    settings: dict[str, Any] = {"repeats": args.repeats, "size": tuple(args.size), "fps": args.fps, "seed": args.seed}
    events = write_long_video(video, clips, args.hours * 3600, **settings)
    truth = args.output / "truth"
    truth.mkdir()
    write_events(truth, events, {"source": str(args.data), "duration": events[-1].end} | settings)
    print(f"{video}: {events[-1].end / 3600:.2f} hours, {len(events):,} events.", flush=True)
    module = f"{__package__.rpartition('.')[0]}.cli"
    command = [sys.executable, "-m", module, "watch", str(video), "--model", args.model]
    lines, samples = watch(
        [*command, "--truth", str(truth / "events.json"), "--output", str(args.output / "found"), *of_watch]
    )
    print("\n".join(line for line in lines if " windows of " in line or line.startswith(("Windows of", "Compared"))))
    print(memory_line(samples))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
