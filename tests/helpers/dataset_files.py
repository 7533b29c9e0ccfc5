"""Small data sets on disk, in the layouts in which video data sets are distributed."""

import csv
import functools
import json
import tempfile
from pathlib import Path

import pytest
from torch.utils.data import DataLoader
from video_files import moving_frames, write_video

from tubevit.training.data.video_datasets import DataConfig, VideoData, load_video_dataset


@functools.cache
def clip_bytes(suffix: str = ".mp4", num_frames: int = 12) -> bytes:
    """A video of 32x40 pixels at 10 frames per second, encoded once per suffix."""
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(suffix, "libx264")
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / f"clip{suffix}", moving_frames(num_frames, 32, 40), fps=10, codec=codec)
        return path.read_bytes()


def add_clip(path: Path, num_frames: int = 12) -> Path:
    """Write a video to `path` and create its folders."""
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


def ssv2(folder: Path, num_classes: int = 174) -> tuple[Path, list[str]]:
    """Annotations of Something-Something V2 in `folder`, and the names of its classes."""
    templates = [f"Doing [something] {index} to [something]" for index in range(num_classes)]
    names = [text.replace("[", "").replace("]", "") for text in templates]
    add_json(folder / "something-something-v2-labels.json", {name: str(index) for index, name in enumerate(names)})
    entries = [
        {
            "id": str(10 + index),
            "label": f"doing cup {index} to cup",
            "template": templates[index],
            "placeholders": ["cup"],
        }
        for index in (170, 3)
    ]
    add_json(folder / "something-something-v2-train.json", entries)
    add_json(folder / "something-something-v2-validation.json", entries[1:])
    add_json(folder / "something-something-v2-test.json", [{"id": "7"}])
    return folder, names


def load(class_names=None, **config) -> VideoData:
    return load_video_dataset(
        DataConfig(**{name: str(value) if isinstance(value, Path) else value for name, value in config.items()}),
        class_names,
    )


def table(data: VideoData, split: str) -> list[tuple]:
    """`(id, name of the label, name of the file or None for a missing file)` of each row."""

    def name_of(label):
        if isinstance(label, list):
            return [data.class_names[index] for index in label]
        return None if label is None else data.class_names[label]

    rows = []
    for row in data.splits[split]:
        path = Path(row[data.media]["path"])
        rows.append((row["video_id"], name_of(row["label"]), path.name if path.is_file() else None))
    return rows


def error_of(**config) -> str:
    """The one-line error for data that cannot be loaded."""
    with pytest.raises((ValueError, OSError)) as caught:
        load(**config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_all(loader: DataLoader) -> list:
    """
    The batches of a loader, whose worker processes end at once also if one fails. Otherwise, the garbage collector would close the queues
    of the workers before it tells the workers to end, and the test in which it does so would wait for five seconds.
    """
    iterator = iter(loader)
    try:
        return list(iterator)
    finally:
        if loader.num_workers:
            iterator._shutdown_workers()
