"""Small data sets on disk, in the layouts in which video data sets are distributed."""

import csv
import functools
import json
import tempfile
from pathlib import Path

from video_files import moving_frames, write_video


@functools.cache
def clip_bytes(suffix: str = ".mp4", num_frames: int = 12) -> bytes:
    """A video of 32x40 pixels at 10 frames per second, encoded once per suffix."""
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(suffix, "libx264")
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / f"clip{suffix}", moving_frames(num_frames, 32, 40), fps=10, codec=codec)
        return path.read_bytes()


def add_clip(path: Path, num_frames: int = 12) -> Path:
    """Write a video to `path`, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clip_bytes(path.suffix.lower(), num_frames))
    return path


def add_table(path: Path, rows: list[dict], delimiter: str = ",", bom: bool = False) -> Path:
    """Write a CSV file with the keys of the first row as its header."""
    with open(path, "w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def add_json(path: Path, content) -> Path:
    path.write_text(json.dumps(content))
    return path


def class_folders(root: Path, splits: dict[str, dict[str, int]], suffix: str = ".mp4") -> Path:
    """`{split: {class: number of videos}}` as `root/<split>/<class>/<number>.<suffix>`; the split "" has no folder."""
    for split, classes in splits.items():
        for name, number in classes.items():
            for index in range(number):
                add_clip(root / split / name / f"{index}{suffix}")
    return root
