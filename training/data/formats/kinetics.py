# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Kinetics-400, -600 and -700 as they are distributed: CSV files and clips named after video and time.

Columns are found by name: editions add some (`is_cc`), and the held-out test lists have no `label`. A clip is
`<youtube_id>_<start:06d>_<end:06d>.mp4`, in one folder or in one per class; some copies drop the times. Ids may begin
with "-" and contain "_", so a clip is looked up by the name that its row gives, and names are never taken apart.
"""

from pathlib import Path

from .samples import VideoFolder, VideoSample, read_header, read_table, split_of


NUM_CLASSES = (400, 600, 700)
COLUMNS = ("youtube_id", "time_start", "time_end")


def is_kinetics(header: list[str]) -> bool:
    """Whether a CSV file with this header is one of Kinetics."""
    return set(COLUMNS) <= set(header)


def read_kinetics(path: str | Path, videos: VideoFolder) -> list[VideoSample]:
    """The rows of an official CSV. The label is the name of the class, `None` in a file without labels."""
    has_labels = "label" in read_header(path)
    rows = []
    for line, cells in read_table(path, [*COLUMNS, "label"] if has_labels else COLUMNS):
        where = f"{path}, line {line}"
        label = cells.get("label") or None
        if has_labels and label is None:
            raise ValueError(f"{where}: there is no label.")
        if not cells["youtube_id"]:
            raise ValueError(f"{where}: there is no youtube_id.")
        start, end = (_seconds(cells[name], name, where) for name in COLUMNS[1:])
        clip = f"{cells['youtube_id']}_{start:06d}_{end:06d}"
        found = videos.find_clip([clip, cells["youtube_id"]], folder=label)
        rows.append(
            VideoSample(
                path=found or str(videos.root / f"{clip}.mp4"),
                label=label,
                video_id=clip,
                split=split_of(cells.get("split", "")),
            )
        )
    return rows


def check_num_classes(names: list[str], expected: int | None) -> None:
    """Raise a `ValueError` unless `names` are as many classes as expected, by default those of an edition of Kinetics."""
    allowed = NUM_CLASSES if expected is None else (expected,)
    if len(names) not in allowed:
        editions = ", ".join(map(str, allowed))
        raise ValueError(
            f"The annotations hold {len(names)} classes where {editions} are expected: a part of the file is missing, or it "
            f"is a subset; num_classes={len(names)} takes it as it is."
        )


def _seconds(text: str, name: str, where: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{where}: {name} is {text!r}, not a number of seconds.") from None
