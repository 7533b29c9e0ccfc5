# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
EPIC-KITCHENS-100 as it is distributed: `EPIC_100_train.csv` and `_validation.csv`, whose rows are segments of videos with a verb and a
noun; `EPIC_100_test_timestamps.csv` without classes; and `EPIC_100_verb_classes.csv` and `EPIC_100_noun_classes_v2.csv` with the columns
id and key. Videos are `P01/videos/P01_101.MP4`, or folders of frames `P01/rgb_frames/P01_101/frame_0000000001.jpg`.

A clip has two labels, one of each head: the classes are the nouns and then the verbs, as in ViViT, with names like "noun: tap" and
"verb: wash".
"""

import os
from pathlib import Path

from ..class_names import ClassNames, count_label_groups, read_class_names
from ..recorded_inputs import record_folder
from ..segments import Segment, parse_seconds
from ..text_tables import read_table, sniff_header
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample


HEADS = ("noun", "verb")
NUM_CLASSES = {"noun": 300, "verb": 97}
COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
CLASS_COLUMNS = {head: f"{head}_class" for head in HEADS}


def sniff_epic(path: Path) -> bool:
    return set(COLUMNS) <= set(sniff_header(path))


def epic_names(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str]:
    """
    The nouns and then the verbs, from the class files beside the annotations; without these files, the class numbers as names.

    names_file: a file of all classes instead, with names like "noun: tap".
    """
    if names_file:
        names = read_class_names(names_file)
        count_label_groups(names, HEADS)
        return names
    return ClassNames((name for head in HEADS for name in _names_of(head, annotations.parent)), first_number=0)


def _names_of(head: str, folder: Path) -> list[str]:
    record_folder(folder)
    files = sorted(folder.glob(f"EPIC_100_{head}_classes*.csv"), reverse=True)  # _v2 first
    if not files:
        return [f"{head}: {number}" for number in range(NUM_CLASSES[head])]
    rows = [(cells["id"], cells["key"]) for _, cells in read_table(files[0], ("id", "key"))]
    if [number for number, _ in rows] != [str(number) for number in range(len(rows))]:
        raise ValueError(f"{files[0]} must list the classes by their id, from 0 without a gap.")
    return [f"{head}: {key}" for _, key in rows]


def read_epic(path: Path, context: ReadContext) -> list[VideoSample]:
    """The samples of a train, validation or test file. The label has the names of the noun and the verb, `None` in a test file."""
    has_labels = set(CLASS_COLUMNS.values()) <= set(sniff_header(path))
    names = {head: [name for name in context.class_names if name.startswith(f"{head}: ")] for head in HEADS}
    required = [*COLUMNS, *(CLASS_COLUMNS.values() if has_labels else ())]
    required += [context.group_column] if context.group_column else []
    samples, found = [], {}
    for line, cells in read_table(path, required):
        where, video_id = f"{path}, line {line}", cells["video_id"]
        if not video_id or not cells["narration_id"]:
            raise ValueError(f"{where}: the {'narration_id' if video_id else 'video_id'} is empty.")
        if video_id not in found:
            found[video_id] = _find_video(cells["participant_id"], video_id, context)
        label = tuple(_class_of(cells, head, names[head], where) for head in HEADS) if has_labels else None
        segment = _segment_of(cells, os.path.isdir(found[video_id]), where)
        group = cells[context.group_column or "video_id"] or None
        samples.append(VideoSample(found[video_id], label, cells["narration_id"], segment=segment, group=group))
    if names["noun"] == [f"noun: {number}" for number in range(NUM_CLASSES["noun"])]:
        context.tell(
            [
                f"{path.parent} holds no EPIC_100_noun_classes_v2.csv and EPIC_100_verb_classes.csv: the names of the classes are their numbers."
            ]
        )
    return samples


def _find_video(participant: str, video_id: str, context: ReadContext) -> str:
    """The usual places are looked up first: the data set has 20 million frames, which a search would list."""
    usual = [
        context.videos.find(f"{participant}/{name}") for name in (f"videos/{video_id}.MP4", f"rgb_frames/{video_id}")
    ]
    existing = next((path for path in usual if os.path.exists(path)), None)
    return existing or context.videos.find_clip([video_id]) or usual[0]


def _class_of(cells: dict[str, str], head: str, names: list[str], where: str) -> str:
    text = cells[CLASS_COLUMNS[head]]
    if not text.isdecimal() or int(text) >= len(names):
        raise ValueError(f"{where}: the {CLASS_COLUMNS[head]} is {text!r}, not a number from 0 to {len(names) - 1}.")
    return names[int(text)]


def _segment_of(cells: dict[str, str], is_frame_folder: bool, where: str) -> Segment:
    """The segment in seconds; in frames, whose numbers begin with 1, for a folder of frames."""
    if is_frame_folder and cells.get("start_frame") and cells.get("stop_frame"):
        start, end = cells["start_frame"], cells["stop_frame"]
        if not (start.isdecimal() and end.isdecimal() and int(start) <= int(end)):
            raise ValueError(f"{where}: the frames {start!r} to {end!r} are not a segment.")
        return Segment(start_frame=max(0, int(start) - 1), end_frame=max(1, int(end)))
    start, end = (parse_seconds(cells[name], name, where) for name in ("start_timestamp", "stop_timestamp"))
    if not start < end:
        raise ValueError(f"{where}: the segment {start:g} to {end:g} s does not end after its start.")
    return Segment(start, end)


register_format(
    AnnotationFormat(
        name="epic_kitchens",
        description="EPIC-KITCHENS-100, CSV of segments with verb_class and noun_class",
        sniff=sniff_epic,
        read=read_epic,
        priority=24,
        needs_split=True,
        suffixes=(".csv",),
        ignored_files=tuple(
            f"EPIC_100_{words}*"
            for words in (
                "retrieval",
                "uda",
                "video_info",
                "verb_classes",
                "noun_classes",
                "tail",
                "unseen",
                "*narration",
            )
        ),
        label_groups=HEADS,
        class_counts=(sum(NUM_CLASSES.values()),),
        class_names=epic_names,
        options=("video_root", "frame_folder_fps", "group_column"),
    )
)
