# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Time segments of tables: finds the columns of start and end, and reads the segment of a row.

A column is found by the words of its name, so all usual spellings are read: start/end, start_time/end_time, t_start/t_end,
startSec/endSec, begin/end, onset/offset, segment_start_ms, start_frame/end_frame, start/duration, and others. Times are
seconds from the first frame, or `H:MM:SS.s`. Frames are counted from 0, and the end frame is the index after the last frame;
a column `fps` converts them to seconds.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


ROLES = {
    "start": {"start", "starts", "starting", "begin", "begins", "beginning", "onset", "from", "t0", "first"},
    "end": {"end", "ends", "ending", "stop", "stops", "finish", "offset", "to", "t1", "until", "last"},
    "duration": {"duration", "length", "dur", "len"},
}
UNITS = {  # word to unit; the value of a unit in seconds
    **dict.fromkeys(
        ("time", "timestamp", "timestamps", "t", "sec", "secs", "second", "seconds", "s", "ts"), "seconds"
    ),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "milliseconds"),
    **dict.fromkeys(("minute", "minutes"), "minutes"),
    **dict.fromkeys(("frame", "frames", "frm", "index", "idx"), "frames"),
}
SECONDS = {"seconds": 1.0, "milliseconds": 1e-3, "minutes": 60.0}
SUBJECTS = {"clip", "segment", "seg", "video", "action", "event", "temporal", "in", "of", "the"}
# Words of names that look like times but are not read as the start or the end.
SUSPECT = {"segment", "segments", "interval", "span", "timestamp", "timestamps"}
# Names that mean a segment only with further words (start_frame), or in a pair ("from" and "to").
PAIRED = {"from": "to", "to": "from", "first": "last", "last": "first", "offset": "onset"}
RATE_COLUMNS = ("fps", "frame_rate", "framerate")
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)")


class Segment(NamedTuple):
    """
    A part of a video, as in `tubevit.processing.video_segments`: in seconds (`start`, `end`) or in frames (`start_frame`,
    `end_frame`). `None` stands for the start or the end of the video.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    may_be_cut: bool | None = None

    def __str__(self) -> str:
        """
        As in a media fragment URI.

        >>> str(Segment(start=3.0, end=7.5)), str(Segment(end=7.5)), str(Segment(start_frame=5, end_frame=9))
        ('t=3,7.5', 't=0,7.5', 'frames=5,9')
        """
        is_in_frames = self.start_frame is not None or self.end_frame is not None
        start, end = (self.start_frame, self.end_frame) if is_in_frames else (self.start, self.end)
        text = f"{_plain(start or 0)}" + ("" if end is None else f",{_plain(end)}")
        return f"frames={text}" if is_in_frames else f"t={text}"

    def given(self) -> dict[str, float | int | bool]:
        """The fields that are not `None`."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class TimeColumn(NamedTuple):
    """A column of times. role: "start", "end" or "duration". unit: a key of `SECONDS`, or "frames"."""

    name: str
    role: str
    unit: str


def parse_time_column(name: str) -> TimeColumn | None:
    """
    The role and the unit of a column by the words of its name, `None` for a name with other words.

    >>> parse_time_column("time_start")[1:], parse_time_column("endFrame")[1:], parse_time_column("start_point")
    (('start', 'seconds'), ('end', 'frames'), None)
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", split) if word]
    words = [part for word in words for part in _split_word(word.lower())]
    roles = [role for word in words for role, names in ROLES.items() if word in names]
    units = {UNITS[word] for word in words if word in UNITS}
    if len(units) > 1:
        units -= {"seconds"}  # "time" in start_time_ms
    known = set(UNITS) | SUBJECTS | set().union(*ROLES.values())
    if len(roles) != 1 or len(units) > 1 or not set(words) <= known:
        return None
    return TimeColumn(name, roles[0], units.pop() if units else "seconds")


def _split_word(word: str) -> list[str]:
    """`["start", "time"]` for "starttime", `["t", "start"]` for "tstart"."""
    for role in (role for names in ROLES.values() for role in names if len(role) > 2):
        if word.startswith(role) and word[len(role) :] in UNITS:
            return [role, word[len(role) :]]
        if word.endswith(role) and word[: -len(role)] in UNITS:
            return [word[: -len(role)], role]
    return [word]


@dataclass(frozen=True)
class SegmentColumns:
    """
    The columns of a table that hold the segment of a row.

    start, end, duration: columns in use. Without `end`, the segment has the length `duration`, or ends with the video.
    rate: column of the frame rate that converts frames to seconds.
    unused: names of further columns that look like times.
    """

    start: TimeColumn | None = None
    end: TimeColumn | None = None
    duration: TimeColumn | None = None
    rate: str | None = None
    unused: tuple[str, ...] = ()

    @classmethod
    def find(cls, columns: Sequence[str], other_columns: Sequence[str | None] = ()) -> "SegmentColumns":
        """
        The time columns of a table. Seconds take precedence over frames if a table has both.

        other_columns: columns with another meaning, such as those of path and label.

        Raises `ValueError` if two columns of one unit could be the start or the end.
        """
        parsed = [parse_time_column(name) for name in columns if name not in other_columns]
        found = [column for column in parsed if column is not None]
        words = {_words_of(column.name) for column in found}
        found = [_as_start(column, words, found) for column in found]
        unpaired = {
            column.name
            for column in found
            if (partner := PAIRED.get(_words_of(column.name)))
            and partner not in words
            and column.role != "start_offset"
        }
        usable = [column._replace(role=column.role.removesuffix("_offset")) for column in found]
        usable = [column for column in usable if column.name not in unpaired]
        in_seconds = [column for column in usable if column.unit != "frames"]
        in_frames = [column for column in usable if column.unit == "frames"]
        chosen = next(
            (group for group in (in_seconds, in_frames) if any(column.role in ("start", "end") for column in group)),
            [],
        )
        start, end, duration = (_only(chosen, role) for role in ("start", "end", "duration"))
        if end is not None or start is None:
            duration = None
        used = {column.name for column in (start, end, duration) if column is not None}
        rate = None
        if start is not None or end is not None:
            is_in_frames = (start or end).unit == "frames"
            rate = next((name for name in columns if name.lower() in RATE_COLUMNS and is_in_frames), None)
        unused = [column.name for column in found if column.name not in used]
        unused += [
            name for name in columns if name not in other_columns and _looks_like_time(name, used | set(unused))
        ]
        return cls(start, end, duration, rate, tuple(unused))

    def __bool__(self) -> bool:
        return self.start is not None or self.end is not None

    @property
    def names(self) -> list[str]:
        """The columns in use."""
        columns = [self.start, self.end, self.duration]
        return [column.name for column in columns if column is not None] + ([self.rate] if self.rate else [])

    def read(self, cells: Mapping[str, Any], where: str) -> Segment | None:
        """
        The segment of a row, `None` if its cells are empty.

        where: file and line, for errors.

        Raises `ValueError` for a cell that is not a time, and for an end that is not after the start.
        """
        start, end, length = (_parse(column, cells, where) for column in (self.start, self.end, self.duration))
        if length is not None:
            end = (start or 0) + length
        if start is None and end is None:
            return None
        if end is not None and end <= (start or 0):
            raise ValueError(f"{where}: the segment {_plain(start or 0)} to {_plain(end)} ends before it starts.")
        if (self.start or self.end).unit != "frames":
            return Segment(start, end)
        fps = _parse_number(cells.get(self.rate), self.rate, where) if self.rate else None
        if fps is not None and fps <= 0:
            raise ValueError(f"{where}: {self.rate} is {cells[self.rate]!r}, not a frame rate above 0.")
        if fps is None:
            return Segment(start_frame=start, end_frame=end)
        return Segment(*(None if number is None else number / fps for number in (start, end)))

    def messages(self) -> list[str]:
        """Sentences for the user: the columns in use, and those that look like times and are not."""
        found = []
        if self:
            unit = (self.start or self.end).unit
            unit = f"frames, in seconds by {self.rate}" if self.rate else unit
            named = " and ".join(name for name in self.names if name != self.rate)
            end = "" if self.end or self.duration else ", to the end of the video"
            found.append(f"The clip of a row is a segment of its video: {named} ({unit}{end}).")
        if self.unused:
            found.append(f"Columns that look like times and are not used: {', '.join(self.unused)}.")
        return found


def _words_of(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _as_start(column: TimeColumn, words: set[str], found: Sequence[TimeColumn]) -> TimeColumn:
    """`offset` is the start of a segment beside a duration and without another start, as in `offset,duration`."""
    has_start = any(each.role == "start" for each in found)
    is_offset = _words_of(column.name) == "offset"
    if is_offset and not has_start and any(each.role == "duration" for each in found):
        return column._replace(role="start_offset")
    return column


def _only(columns: Sequence[TimeColumn], role: str) -> TimeColumn | None:
    found = [column for column in columns if column.role == role]
    if len(found) > 1:
        names = " and ".join(column.name for column in found)
        raise ValueError(f"The columns {names} could each be the {role} of a segment; remove or rename all but one.")
    return found[0] if found else None


def _looks_like_time(name: str, known: set[str]) -> bool:
    """Whether a column that is not in `known` has a word of a time in its name."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    of_times = SUSPECT | {word for word in UNITS if len(word) > 2} | ROLES["start"] | ROLES["end"] | ROLES["duration"]
    of_times -= {*PAIRED, "index", "idx"}
    return name not in known and (any(word in of_times for word in words) or parse_time_column(name) is not None)


def _parse(column: TimeColumn | None, cells: Mapping[str, Any], where: str) -> float | int | None:
    """A cell in seconds, or in frames for a column of frames; `None` for an empty cell."""
    if column is None:
        return None
    value = _parse_number(cells.get(column.name), column.name, where)
    if value is None:
        return None
    if column.unit != "frames":
        return value * SECONDS[column.unit]
    if value != int(value):
        raise ValueError(f"{where}: {column.name} is {cells[column.name]!r}, not a whole number of frames.")
    return int(value)


def _parse_number(cell: Any, name: str, where: str) -> float | None:
    text = "" if cell is None else str(cell).strip()
    if text.lower() in ("", "nan", "none", "null", "na", "n/a"):
        return None
    value = _to_seconds(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"{where}: {name} is {text[:40]!r}, not a time of at least 0 in a video; rename the column if it means something "
            "else, and leave the cell empty for the whole video."
        )
    return value


def parse_seconds(value: Any, name: str, where: str) -> float:
    """
    A time of a format with fixed columns, in seconds or as `H:MM:SS.s`. name: of its column. where: file and line, for errors.

    Raises `ValueError` for an empty cell and for anything but a finite time.
    """
    seconds = _to_seconds("" if value is None else str(value).strip())
    if not math.isfinite(seconds):
        raise ValueError(f"{where}: {name} is {value!r}, not a number of seconds.")
    return seconds


def _to_seconds(text: str) -> float:
    """The seconds of a number or of `H:MM:SS.s`; NaN for other text."""
    clock = CLOCK.fullmatch(text)
    try:
        return float(text) if clock is None else 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
    except ValueError:
        return math.nan


def _plain(value: float) -> str:
    """
    A number without an exponent and without trailing zeros.

    >>> _plain(100000.0), _plain(3.25)
    ('100000', '3.25')
    """
    return f"{value:.6f}".rstrip("0").rstrip(".")
