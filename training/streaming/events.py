# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""From the scores of windows to events: smoothing, hysteresis, and the files that hold them (JSON, CSV, WebVTT)."""

import csv
import json
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..options import one_line
from ..run_folder import write_json


class Event(NamedTuple):
    """A class from `start` to `end`, in seconds since the first frame, with the largest smoothed score."""

    label: str
    start: float
    end: float
    score: float


class EventDetector:
    """
    Events by hysteresis: an event of a class lasts as long as its smoothed score is at least `low`, and counts if the score reaches
    `high` in it.

    labels: of the scores. smoothing: number of windows whose mean score is taken, at the mean of their centers. min_seconds: shorter events
    are left out. ignored: labels that are no events, such as "background". half_window: an event begins this many seconds before the center of
    its first window and ends as many after that of the last.

    Raises `ValueError` for thresholds that are not 0 < low <= high <= 1, for a negative `min_seconds`, and for unknown labels.
    """

    def __init__(
        self,
        labels: Sequence[str],
        high: float = 0.6,
        low: float = 0.4,
        smoothing: int = 3,
        min_seconds: float = 0.0,
        ignored: Collection[str] = (),
        half_window: float = 0.0,
    ):
        if not 0 < low <= high <= 1:
            raise ValueError(f"Thresholds must be 0 < low <= high <= 1, got low={low:g} and high={high:g}.")
        if not min_seconds >= 0:
            raise ValueError(f"The shortest event must have 0 seconds or more, got min_seconds={min_seconds:g}.")
        if unknown := sorted(set(ignored) - set(labels)):
            raise ValueError(
                f"The model has no class {unknown[0]!r}; its classes begin with {', '.join(list(labels)[:5])}."
            )
        self.labels, self.high, self.low, self.min_seconds = list(labels), high, low, min_seconds
        self.half_window = half_window
        self.is_ignored = np.array([label in ignored for label in labels])
        self.recent: deque[tuple[float, np.ndarray]] = deque(maxlen=smoothing)
        # Of classes whose score is at least `low`: first and last center, largest score.
        self.open: dict[int, tuple[float, float, float]] = {}

    def add(self, center: float, scores: np.ndarray) -> tuple[float, np.ndarray, list[Event]]:
        """
        Add the scores of a window. Returns the time and the scores after smoothing, and the events that end there.
        """
        self.recent.append((center, scores))
        time = float(np.mean([each for each, _ in self.recent]))
        smoothed = np.mean([each for _, each in self.recent], axis=0)
        above = (smoothed >= self.low) & ~self.is_ignored
        ended = [self._close(index) for index in list(self.open) if not above[index]]
        for index in np.flatnonzero(above).tolist():
            begin, _, best = self.open.get(index, (time, time, 0.0))
            self.open[index] = (begin, time, max(best, float(smoothed[index])))
        return time, smoothed, [event for event in ended if event is not None]

    def finish(self) -> list[Event]:
        """The events that are open when the stream ends or breaks off. The detector then starts again."""
        ended = [self._close(index) for index in list(self.open)]
        self.recent.clear()
        return [event for event in ended if event is not None]

    def _close(self, index: int) -> Event | None:
        begin, end, best = self.open.pop(index)
        event = Event(self.labels[index], max(0.0, begin - self.half_window), end + self.half_window, best)
        return event if best >= self.high and event.end - event.start >= self.min_seconds else None


class ScoreHistory:
    """Smoothed scores over time for a picture: at most `size` columns, of which neighbors are merged when there are more."""

    def __init__(self, num_classes: int, size: int = 2048):
        self.times, self.scores = np.zeros(size), np.zeros((size, num_classes), np.float32)
        self.count, self.merged, self.waiting = 0, 1, 0

    def add(self, time: float, scores: np.ndarray) -> None:
        if self.count == len(self.times):
            half = self.count // 2
            self.times[:half] = self.times[: 2 * half : 2]
            self.scores[:half] = np.maximum(self.scores[: 2 * half : 2], self.scores[1 : 2 * half : 2])
            self.count, self.merged = half, 2 * self.merged
        if self.waiting == 0:
            self.times[self.count], self.scores[self.count] = time, scores
            self.count += 1
        else:  # the largest score of the windows of a column
            self.scores[self.count - 1] = np.maximum(self.scores[self.count - 1], scores)
        self.waiting = (self.waiting + 1) % self.merged

    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Times `(columns,)` and scores `(columns, classes)`."""
        return self.times[: self.count], self.scores[: self.count]


def clock(seconds: float) -> str:
    """
    >>> clock(3725.5)
    '01:02:05.500'
    """
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{thousandths // 1000:02}.{thousandths % 1000:03}"


def write_events(folder: Path, events: Sequence[Event], description: dict[str, Any]) -> None:
    """`events.json` (with `description`), `events.csv` and `events.vtt`, in order of time."""
    ordered = sorted(events, key=lambda event: (event.start, event.end, event.label))
    write_json(folder / "events.json", {**description, "events": [event._asdict() for event in ordered]})
    with open(folder / "events.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Event._fields)
        writer.writerows(
            (event.label, f"{event.start:.3f}", f"{event.end:.3f}", f"{event.score:.4f}") for event in ordered
        )
    cues = [f"{clock(event.start)} --> {clock(event.end)}\n{vtt_text(event)}\n" for event in ordered]
    (folder / "events.vtt").write_text("\n".join(["WEBVTT\n", *cues]), encoding="utf-8")


def vtt_text(event: Event) -> str:
    text = " ".join(event.label.split())
    for letter, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(letter, escaped)
    return f"{text} ({100 * event.score:.0f} %)"


def read_events(path: Path) -> list[Event]:
    """
    The events of an `events.json` or `.csv`: label, start and end in seconds, and a score (1 if it has none).

    Raises `ValueError` for a file without these columns or with an event that does not end after its start.
    """
    try:
        if path.suffix.lower() == ".csv":
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
        else:
            rows = json.loads(path.read_text(encoding="utf-8"))["events"]
        events = [
            Event(str(row["label"]), float(row["start"]), float(row["end"]), float(row.get("score") or 1))
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} has no events ({type(error).__name__}: {one_line(error)}); it needs a CSV with the columns label, start and end, "
            "or the events.json of tubevit watch."
        ) from error
    for event in events:
        if not 0 <= event.start < event.end < float("inf"):
            raise ValueError(f"{path}: an event of {event.label!r} goes from {event.start:g} to {event.end:g} s.")
    return events


def cut_events(events: Sequence[Event], duration: float) -> list[Event]:
    """The parts of events before `duration` seconds."""
    return [event._replace(end=min(event.end, duration)) for event in events if event.start < duration]


def frame_accuracy(events: Sequence[Event], expected: Sequence[Event], duration: float, step: float = 0.1) -> float:
    """Fraction of the times of a grid with `step` seconds whose set of labels is the expected one. NaN for a video of 0 seconds."""
    times = np.arange(step / 2, duration, step)
    if not len(times):
        return float("nan")
    is_right = np.ones(len(times), bool)
    for label in {event.label for event in [*events, *expected]}:
        is_right &= _covered(times, events, label) == _covered(times, expected, label)
    return float(is_right.mean())


def _covered(times: np.ndarray, events: Sequence[Event], label: str) -> np.ndarray:
    """Whether an event of `label` lasts at each of the ascending `times`."""
    covered = np.zeros(len(times), bool)
    for event in events:
        if event.label == label:
            covered[slice(*np.searchsorted(times, [event.start, event.end]))] = True
    return covered


def event_f1(events: Sequence[Event], expected: Sequence[Event], min_overlap: float = 0.5) -> dict[str, float]:
    """
    Precision, recall and F1 of events. An event is correct if its intersection over union with an expected event of its label, which no
    other event has taken, is at least `min_overlap`.
    """
    free = list(expected)
    num_correct = 0
    for event in sorted(events, key=lambda event: -event.score):
        overlaps = [_overlap(event, each) if each.label == event.label else 0.0 for each in free]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= min_overlap:
            free.pop(best)
            num_correct += 1
    precision = num_correct / len(events) if events else 0.0
    recall = num_correct / len(expected) if expected else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / total if total else 0.0}


def _overlap(first: Event, second: Event) -> float:
    shared = min(first.end, second.end) - max(first.start, second.start)
    union = max(first.end, second.end) - min(first.start, second.start)
    return max(0.0, shared) / union if union > 0 else 0.0
