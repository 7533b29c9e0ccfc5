# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
ActivityNet 1.3 and HACS Segments as they are distributed: one JSON file with `{"database": {id: {"subset", "duration", "annotations":
[{"label", "segment": [start, end]}]}}}`; and HACS Clips, a CSV file with the columns classname, youtube_id, subset, start, end and label.
Videos are `v_<id>.mp4` or `<id>.mp4`.

Classification is untrimmed, as UniFormerV2 trains and scores it: a clip of the training split is an annotated segment, and a video of the
other splits is read whole and has one label. HACS Clips are clips of 2 seconds in every split.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..media_files import count
from ..segments import Segment, parse_seconds
from ..text_tables import read_json, read_table, sniff_header, sniff_text
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


NUM_CLASSES = 200
CLIP_COLUMNS = ("classname", "youtube_id", "subset", "start", "end", "label")
DATABASE = re.compile(r'"database"\s*:\s*\{')
Action = tuple[str, Segment]  # a class and its segment


def sniff_activitynet(path: Path) -> bool:
    text = sniff_text(path) if path.suffix.lower() == ".json" else ""
    return text.lstrip().startswith("{") and DATABASE.search(text) is not None


def read_activitynet(path: Path, context: ReadContext) -> list[VideoSample]:
    """
    The samples of all subsets. The label is the name of the class, `None` for a video without annotations.

    If a whole video has segments of several classes, its label is the class that lasts longest, or with `context.multi_label` all of them.
    """
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise ValueError(f"{path} must be an object with a 'database' of videos by id.")
    samples, num_segments, num_several, num_empty = [], 0, 0, 0
    for video_id, entry in database.items():
        where = f"{path}, {video_id!r}"
        split = _split_of(entry.get("subset") if isinstance(entry, dict) else None, where)
        actions, num_invalid = _read_actions(entry.get("annotations"), where)
        num_empty += num_invalid
        found = _find_video(video_id, actions[0][0] if actions else None, context)
        if split == "train" and actions:
            num_segments += len(actions)
            for label, segment in actions:
                labels = (label,) if context.multi_label else label
                samples.append(VideoSample(found, labels, f"{video_id}#{segment}", split, segment, video_id))
            continue
        classes = _by_duration(actions)
        num_several += len(classes) > 1
        label = (tuple(classes) or None) if context.multi_label else next(iter(classes), None)
        samples.append(VideoSample(found, label, video_id, split, group=video_id))
    messages = [f"{num_segments} training clips are segments; videos of the other splits are read whole."]
    if num_several and not context.multi_label:
        messages.append(
            f"{count(num_several, 'whole video')} with segments of several classes: the label is the class that lasts longest "
            "(multi_label=true keeps all)."
        )
    if num_empty:
        messages.append(f"Left out: {count(num_empty, 'segment')} whose end is not after the start.")
    context.tell(messages)
    return samples


def _split_of(subset: Any, where: str) -> str:
    split = split_of(subset) if isinstance(subset, str) else None
    if split is None:
        raise ValueError(f"{where}: the subset is {subset!r}, not training, validation or testing.")
    return split


def _read_actions(annotations: Any, where: str) -> tuple[list[Action], int]:
    """The annotated segments of a video, and the number of those whose end is not after the start."""
    actions, num_invalid = [], 0
    if not isinstance(annotations, list | None):
        raise ValueError(f"{where}: the annotations must be a list of segments, not a {type(annotations).__name__}.")
    for entry in annotations or []:
        segment = entry.get("segment") if isinstance(entry, dict) else None
        if not isinstance(segment, list) or len(segment) != 2 or not isinstance(entry.get("label"), str):
            raise ValueError(
                f"{where}: an annotation must have a 'label' and a 'segment' [start, end], got {entry!r}."[:300]
            )
        start, end = (parse_seconds(value, "segment", where) for value in segment)
        if start < end:
            actions.append((entry["label"], Segment(start, end)))
        num_invalid += start >= end
    return actions, num_invalid


def _by_duration(actions: list[Action]) -> list[str]:
    """The classes of a video, the one that lasts longest first; of equal durations the first in the annotations."""
    seconds: dict[str, float] = defaultdict(float)
    for label, segment in actions:
        seconds[label] += segment.end - segment.start
    return sorted(seconds, key=lambda label: -seconds[label])


def _find_video(video_id: str, label: str | None, context: ReadContext) -> str:
    """A file is found by its id, in any folder; of several files, the one in a folder with the name of the class."""
    found = context.videos.find_clip([f"v_{video_id}", video_id], folder=label)
    return found or str(context.videos.root / f"v_{video_id}.mp4")


def sniff_hacs_clips(path: Path) -> bool:
    return set(CLIP_COLUMNS) <= set(sniff_header(path))


def read_hacs_clips(path: Path, context: ReadContext) -> list[VideoSample]:
    """The positive clips of all subsets. A negative clip (label -1) shows another action than its class and is left out."""
    samples, num_negative = [], 0
    for where, cells in _clip_rows(path):
        split, label = _split_of(cells["subset"], where), cells["label"]
        if label not in ("1", "-1") and split != "test":
            raise ValueError(f"{where}: the label is {label!r}, not 1 (the clip shows the class) or -1 (it does not).")
        if label == "-1":
            num_negative += 1
            continue
        video_id, name = cells["youtube_id"], cells["classname"] if label == "1" else None
        found, start = _find_video(video_id, name, context), cells["start"]
        if split == "test" and (not start or start.startswith("-")):  # the test file may have no times
            samples.append(VideoSample(found, name, video_id, split, group=video_id))
            continue
        segment = Segment(*(parse_seconds(cells[column], column, where) for column in ("start", "end")))
        if not segment.start < segment.end:
            raise ValueError(f"{where}: the clip {segment.start:g} to {segment.end:g} s does not end after its start.")
        samples.append(VideoSample(found, name, f"{video_id}#{segment}", split, segment, video_id))
    if num_negative:
        context.tell(
            [
                f"Left out: {count(num_negative, 'negative clip')} of HACS, which {'does' if num_negative == 1 else 'do'} not show "
                "the class of the row."
            ]
        )
    return samples


def _clip_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for line, cells in read_table(path, CLIP_COLUMNS):
        if not cells["youtube_id"]:
            raise ValueError(f"{path}, line {line}: the youtube_id is empty.")
        yield f"{path}, line {line}", cells


register_format(
    AnnotationFormat(
        name="activitynet",
        description="ActivityNet 1.3 and HACS Segments, JSON with a database of videos",
        sniff=sniff_activitynet,
        read=read_activitynet,
        priority=16,
        suffixes=(".json",),
        multi_label=(False, True),
        class_counts=(NUM_CLASSES,),
    )
)
register_format(
    AnnotationFormat(
        name="hacs_clips",
        description="HACS Clips, CSV with the columns classname, youtube_id, subset, start, end and label",
        sniff=sniff_hacs_clips,
        read=read_hacs_clips,
        priority=22,
        suffixes=(".csv",),
        class_counts=(NUM_CLASSES,),
    )
)
