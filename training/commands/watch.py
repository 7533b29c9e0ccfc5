# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit watch`: find events in a long video, a camera or a network stream."""

import argparse
import csv
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..command_line import positive_number, whole_number
from ..environment import add_device_arguments, pick_device, prepare_model
from ..options import one_line
from ..run_folder import check_new_folder


ARGUMENTS = {
    "window_seconds": "--window-seconds",
    "window_stride": "--stride",
    "min_seconds=": "--min-seconds ",
    "low=": "--low ",
    "high=": "--high ",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help="video file, its http(s) URL (downloaded before it is watched), camera:0, or a live stream (rtsp, rtmp, rtp, udp, tcp, srt, or http(s) "
        "with a response without Content-Length or of motion JPEG)",
    )
    parser.add_argument(
        "--model", required=True, help="checkpoint of a video classifier: a folder, or a name on the Hub"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="new folder for events.json, events.csv, events.vtt, windows.csv and timeline.png",
    )
    windows = parser.add_argument_group("windows")
    windows.add_argument(
        "--window-seconds",
        type=positive_number,
        metavar="S",
        help="duration of a window, in seconds (default: num_frames / fps of the checkpoint's processor; required if that processor spreads frames "
        "over the whole video)",
    )
    windows.add_argument(
        "--stride",
        type=whole_number(1),
        metavar="N",
        help="distance between the starts of two windows, in frames of a clip (default: an eighth of a window)",
    )
    events = parser.add_argument_group("events")
    events.add_argument(
        "--high",
        type=float,
        default=0.6,
        metavar="X",
        help="score that an event must reach to be reported (default: 0.6)",
    )
    events.add_argument(
        "--low",
        type=float,
        default=0.4,
        metavar="X",
        help="an event starts and ends where its score crosses X (default: 0.4)",
    )
    events.add_argument(
        "--smoothing",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="number of successive windows whose scores are averaged (default: 3)",
    )
    events.add_argument(
        "--min-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="length of the shortest event that is reported (default: 0)",
    )
    events.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="LABEL",
        help="class that is never reported as an event; can be repeated",
    )
    events.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="ground-truth events, an events.json or a CSV with label, start and end in seconds: print frame accuracy and event F1",
    )
    live = parser.add_argument_group("live sources")
    live.add_argument(
        "--max-reconnects",
        type=whole_number(0),
        default=5,
        metavar="N",
        help="consecutive attempts to reopen a lost live source (default: 5)",
    )
    live.add_argument(
        "--stall-seconds",
        type=positive_number,
        default=10.0,
        metavar="S",
        help="time without data after which a live source counts as lost (default: 10)",
    )
    parser.add_argument(
        "--duration",
        type=positive_number,
        metavar="S",
        help="stop after this many seconds of video (default: the end of the source)",
    )
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print events as they end. Returns 1 if the source was lost or could not be read to its end."""
    from ..logging_utils import quiet_libraries
    from ..streaming.events import EventDetector, ScoreHistory, clock
    from ..streaming.source import VideoSource
    from ..streaming.stream import TubeViTStream

    quiet_libraries()
    folder = None if args.output is None else Path(args.output)
    if folder is not None:
        check_new_folder(folder)
    source = VideoSource(
        args.source, args.max_reconnects, args.stall_seconds, on_message=lambda text: print(text, file=sys.stderr)
    )
    with naming_options():
        stream = TubeViTStream.from_pretrained(
            args.model,
            pick_device(args.device),
            args.dtype,
            window_stride=args.stride,
            window_seconds=args.window_seconds,
            reuses_tokens=not args.compile,  # a compiled model has its tokenizer in one graph with its layers
        )
    prepare_model(stream.classifier.model, args.matmul_precision, args.compile)
    truth = None if args.truth is None else read_truth(args.truth, stream.labels, args.ignore)
    step = stream.window_stride / stream.rate
    with naming_options():
        detector = EventDetector(
            stream.labels, args.high, args.low, args.smoothing, args.min_seconds, args.ignore, half_window=step / 2
        )
    print(
        f"Windows of {stream.num_frames / stream.rate:.2f} s, {stream.num_frames} frames at {stream.rate:g} per second, one every {step:.2f} s."
    )
    watcher = Watcher(stream, detector, ScoreHistory(len(stream.labels)), folder)
    begin = time.monotonic()
    problem, failure = watcher.watch(source, args.duration)
    if not watcher.has_begun:  # nothing is written
        print(problem or f"No frame of {source.name} was read.", file=sys.stderr)
        if failure is not None:
            raise failure
        return 1
    print(watcher.summary(time.monotonic() - begin))
    if source.num_damaged:
        print(f"{source.num_damaged:,} damaged frames or packets were left out.", file=sys.stderr)
    scores = None if truth is None or watcher.time == 0 else compare(watcher.events, truth, watcher.time)
    if scores is not None:
        print(
            f"Compared with the events of {args.truth}: frame accuracy {100 * scores['frame_accuracy']:.1f} %, event F1 {scores['f1']:.3f} "
            f"(precision {scores['precision']:.3f}, recall {scores['recall']:.3f}; {scores['num_expected']:,} events expected)."
        )
    if folder is not None:
        watcher.write(source.name, args.model, problem, scores)
        print(f"Wrote {len(watcher.events)} events to {folder} (until {clock(watcher.time)}).")
    if failure is not None:
        raise failure
    if problem is not None:
        print(problem, file=sys.stderr)
    return 0 if problem is None else 1


@contextmanager
def naming_options() -> Iterator[None]:
    """Within the context, a `ValueError` that names an argument of a Python class names the option of this command instead."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for argument, option in ARGUMENTS.items():
            text = text.replace(argument, option)
        raise ValueError(text) from error


def read_truth(path: Path, labels: list[str], ignored: list[str]) -> list[Any]:
    """The events of `path` except those of `ignored` labels. Raises `ValueError` for a label that the model does not have."""
    from ..streaming.events import read_events

    events = read_events(path)
    if unknown := sorted({event.label for event in events} - set(labels) - set(ignored)):
        raise ValueError(
            f"{path}: the model has no class {unknown[0]!r}; its classes begin with {', '.join(labels[:5])}. Leave out events of other "
            f"classes."
        )
    return [event for event in events if event.label not in ignored]


def compare(events: list[Any], truth: list[Any], duration: float) -> dict[str, Any]:
    """Frame accuracy, and precision, recall and F1 of events, over the part of the video that was watched."""
    from ..streaming.events import cut_events, event_f1, frame_accuracy

    expected = cut_events(truth, duration)
    accuracy = {"frame_accuracy": frame_accuracy(events, expected, duration)}
    return accuracy | event_f1(events, expected) | {"num_expected": len(expected)}


class Watcher:
    """
    Feeds frames to a stream, and its windows to a detector.

    offset: seconds of video before the source was last opened; times of events count on after a break. time: end of the newest frame.
    """

    def __init__(self, stream: Any, detector: Any, history: Any, folder: Path | None):
        self.stream, self.detector, self.history, self.folder = stream, detector, history, folder
        self.offset = self.time = 0.0
        self.events: list[Any] = []
        self.num_windows, self.has_begun = 0, False
        self.labels = dict(enumerate(stream.labels))
        self.windows_file = self.writer = None

    def watch(self, source: Any, duration: float | None) -> tuple[str | None, Exception | None]:
        """
        Take the frames of a source to its end, for `duration` seconds of video, or until an error, Ctrl-C or SIGTERM.

        Returns what stopped it early, `None` for the end of the source and for a signal; and an error that is not of the source, to be raised
        after the events are written, which may be those of hours.
        """
        from tubevit.processing import VideoDecodeError

        problem, failure = None, None
        try:
            with _interrupted_by_sigterm():
                for frame in source:
                    if frame.is_first:
                        self.restart()
                    if duration is not None and self.offset + frame.seconds >= duration:
                        break
                    self.push(frame)
        except VideoDecodeError as error:
            problem = str(error)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
        except Exception as error:
            problem, failure = one_line(error), error
        self.finish(classifies=failure is None)
        return problem, failure

    def restart(self) -> None:
        """The source was opened (again): windows and events do not reach over a break. The first time, `windows.csv` is created."""
        if self.has_begun:
            self._end()
            self.offset = self.time
        elif self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.windows_file = open(self.folder / "windows.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115
            self.writer = csv.writer(self.windows_file)
            self.writer.writerow(["start", "end", "label", "score"])
        self.has_begun = True

    def _end(self) -> None:
        self.time = max(self.time, self.offset + self.stream.end)
        self._take(self.stream.finish())
        self._report(self.detector.finish())

    def push(self, frame: Any) -> None:
        self.time = self.offset + frame.seconds
        self._take(self.stream.push(frame.picture, frame.seconds))

    def finish(self, classifies: bool = True) -> None:
        """End the events, and the windows that are complete if the model still works (`classifies`)."""
        if classifies:
            self._end()
        else:
            self._report(self.detector.finish())
        if self.windows_file is not None:
            self.windows_file.close()

    def _take(self, windows: list[Any]) -> None:
        from ..evaluation.metrics import best_labels

        for window in windows:
            self.num_windows += 1
            start, end = self.offset + window.start, self.offset + window.end
            self.time = max(self.time, end)
            if self.writer is not None:
                best = best_labels(window.scores, self.labels, 1, self.stream.classifier.label_groups)
                self.writer.writerows(
                    [f"{start:.3f}", f"{end:.3f}", each["label"], f"{each['score']:.4f}"] for each in best
                )
            moment, smoothed, ended = self.detector.add(self.offset + window.center, window.scores)
            self.history.add(moment, smoothed)
            self._report(ended)

    def _report(self, events: list[Any]) -> None:
        from ..streaming.events import clock

        for event in events:
            print(f"{clock(event.start)} - {clock(event.end)}  {event.label}  {100 * event.score:.0f} %", flush=True)
        self.events += events

    def summary(self, seconds: float) -> str:
        text = f"{self.num_windows:,} windows of {self.time:.1f} s of video in {seconds:.1f} s"
        tokens, num_frames = self.stream.tokens, self.num_windows * self.stream.num_frames
        if num_frames > self.stream.num_prepared:
            text += (
                f"; a call per window would prepare {num_frames / self.stream.num_prepared:.1f} times as many frames"
            )
        if tokens is not None and tokens.num_tokens:
            text += f"; {tokens.num_computed:,} of {tokens.num_tokens:,} tube tokens were computed, the others reused"
        return text + "."

    def write(self, source: str, model: str, problem: str | None, scores: dict[str, Any] | None) -> None:
        from ..streaming.events import write_events
        from ..visualization.timeline import draw_timeline

        assert self.folder is not None
        description = {"source": source, "model": model, "duration": round(self.time, 3), "windows": self.num_windows}
        found = {"problem": problem, "scores": scores}
        description |= {name: value for name, value in found.items() if value is not None}
        write_events(self.folder, self.events, description)
        times, scores = self.history.columns()
        bars = [(event.label, event.start, event.end) for event in self.events]
        draw_timeline(
            self.folder / "timeline.png",
            Path(source).name or source,
            self.stream.labels,
            times,
            scores,
            bars,
            self.time,
        )


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Within the context SIGTERM, which `docker stop` and systemd send, has the effect of Ctrl-C: the events are written."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set what a signal does
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
