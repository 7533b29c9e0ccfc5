# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Images for joint training on real clips (section 3.5): frames of the clips, labelled by a column of their annotations, such as the place
where a clip was filmed. Ours; the paper trains with ImageNet.

Training images are frames of the training clips of a run, and scored images are frames of its scored clips, so no frame of a scored
clip is trained on. The files are class folders beside the records.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from .folds import SPLITS, Fold, GroupedClips, load_clips, read_groups, read_split, splits_of
from .records import digest
from .settings import FRAMES, IMAGE, Data


NUM_FRAMES = 4  # per clip
CLASS_COLUMN = "label"  # stands for the classes of the clips, which class folders have too
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
JPEG_QUALITY = 95


class FrameLabels(NamedTuple):
    """
    clips: each split to its clips with images, as pairs of the index in `GroupedClips` and the label. messages: lines on the clips that are
    left out.
    """

    clips: dict[str, list[tuple[int, str]]]
    messages: list[str]

    def describe(self, name: str) -> str:
        """One line on the images of a fold or split. name: of the fold, or empty."""
        classes = Counter(label for _, label in self.clips["train"])
        counts = ", ".join(f"{label} ({number})" for label, number in sorted(classes.items()))
        return (
            f"Images{name}: of {len(self.clips['train'])} training clips and {len(self.clips['validation'])} scored clips; training clips per "
            f"class: {counts}."
        )


class _WithFrames:
    """
    Adds the images to `Data` or `Fold`.

    image_labels: the column of their labels, or "label" for the classes of the clips. frame_side: short side of the images in pixels;
    frames are not enlarged.
    """

    source: str
    image_labels: str
    frame_side: int
    group_column: str | None = None
    name = ""

    def options(self, kind: str, folder: Path) -> dict[str, Any]:
        if kind != IMAGE:
            return super().options(kind, folder)
        return {"data": str(self.frame_folder(folder)), "data_format": "image_folders"}

    def write(self, kind: str, folder: Path) -> None:
        """Write the images, or the files of the clips. Raises `ValueError` as `frame_labels` does, and for a clip that cannot be read."""
        if kind != IMAGE:
            super().write(kind, folder)
            return
        rows = clip_rows(self.source, self.group_column)
        write_frames(rows, self.frame_labels().clips, self.frame_folder(folder), self.frame_side)

    def frame_folder(self, folder: Path) -> Path:
        return folder / FRAMES / digest(asdict(self))

    def frame_labels(self) -> FrameLabels:
        """The clips of each side and the labels of their frames. Raises `ValueError` as `read_labels` and `choose_frames` do."""
        labels, _ = read_labels(self.source, self.group_column, self.image_labels)
        clips, fold = self.grouped_clips()
        return choose_frames(clips, labels, fold, self.image_labels, self.name)

    def describe_labels(self) -> str:
        """A line on all images. Raises `ValueError` as `read_labels` does."""
        _, where = read_labels(self.source, self.group_column, self.image_labels)
        return f"Images are {NUM_FRAMES} frames of each clip, labelled by {where}."

    def grouped_clips(self) -> tuple[GroupedClips, int]:
        """All clips, and the number of the fold that is scored."""
        raise NotImplementedError


@dataclass(frozen=True)
class SplitWithFrames(_WithFrames, Data):
    """The splits of a data set, and frames of its clips."""

    image_labels: str = field(kw_only=True)
    frame_side: int = field(kw_only=True)

    def grouped_clips(self) -> tuple[GroupedClips, int]:
        return read_split(self.source), 0


@dataclass(frozen=True)
class FoldWithFrames(_WithFrames, Fold):
    """The clips of one fold, and frames of them."""

    image_labels: str = field(kw_only=True)
    frame_side: int = field(kw_only=True)

    @property
    def name(self) -> str:
        return f" of fold {self.fold}"

    def grouped_clips(self) -> tuple[GroupedClips, int]:
        return read_groups(self.source, self.group_column, self.num_folds, self.seed), self.fold


def with_frames(data: Data | Fold, column: str, image_size: int) -> SplitWithFrames | FoldWithFrames:
    """
    The same clips with images. column: of the labels. image_size: of the model; the images are larger by 8/7, as usual before a crop.
    """
    with_images = FoldWithFrames if isinstance(data, Fold) else SplitWithFrames
    return with_images(**asdict(data), image_labels=column, frame_side=frame_side(image_size))


def frame_side(image_size: int) -> int:
    """Short side of the images for a model of this size, in pixels."""
    return -(-8 * image_size // 7)


def clip_rows(source: str, group_column: str | None) -> list[dict[str, Any]]:
    """The rows of all clips in the order of `GroupedClips`."""
    data = load_clips(source, group_column)
    return [row for split in splits_of(data) for row in data.splits[split]]


@lru_cache
def read_labels(source: str, group_column: str | None, column: str) -> tuple[tuple[str | None, ...], str]:
    """
    The text in a column of the annotations for each clip, in the order of `GroupedClips`; `None` for an empty cell. Beside it, words that say
    where the labels come from.

    In a folder, the labels are those of the first annotation file with this column that names some of the clips.

    Raises `ValueError` for a column that does not exist or has no value for any clip, and for a clip with two values.
    """
    rows = clip_rows(source, group_column)
    if column == CLASS_COLUMN:
        names = load_clips(source, group_column).class_names
        return tuple(names[row["label"]] for row in rows), "the classes of the clips"
    keys, reasons = [_key(row) for row in rows], []
    for file in _annotation_files(source, column):
        try:
            values = _read_column(file, column)
        except ValueError as error:
            reasons.append(str(error).removesuffix("."))
            continue
        labels = tuple(values.get(key) for key in keys)
        if any(label is not None for label in labels):
            return labels, f"the column {column} of {Path(file).name}"
        reasons.append(f"{file} gives none of the {len(keys)} clips a value in this column")
    raise ValueError(f"--image-labels {column}: {'; '.join(reasons)}.")


def _annotation_files(source: str, column: str) -> list[str]:
    """
    The tables that may hold the column: the source itself, or those files of a folder that have a column of this name.

    Raises `ValueError` for a folder without such a file.
    """
    from ..data.text_tables import sniff_header

    if not Path(source).is_dir():
        return [source]
    files = sorted(path for path in Path(source).iterdir() if path.suffix.lower() in TABLES)
    columns = {path: header for path in files if (header := sniff_header(path))}
    if found := [str(path) for path, header in columns.items() if column in header]:
        return found
    known = "; ".join(f"{path.name} has {', '.join(header)}" for path, header in columns.items())
    raise ValueError(
        f"--image-labels {column}: no annotation file in {source} has this column"
        + (f" ({known})" if known else "")
        + f". {CLASS_COLUMN} takes the classes of the clips."
    )


def _read_column(file: str, column: str) -> dict[Any, str | None]:
    """The text in a column for each clip that an annotation file names. Raises `ValueError` for a file without the column, and for a clip with two values."""
    from ..data.data_config import DataConfig
    from ..data.video_datasets import load_video_dataset

    data = load_video_dataset(DataConfig(data=file, group_column=column, validation_fraction=0.0))
    values: dict[Any, str | None] = {}
    for split in splits_of(data):
        for row, value in zip(data.splits[split], data.groups[split], strict=True):
            if values.setdefault(_key(row), value) != value:
                raise ValueError(
                    f"{file} gives the clip {row['video_id']} two values, {values[_key(row)]} and {value}."
                )
    return values


def _key(row: dict[str, Any]) -> tuple:
    """Identifies a clip in all annotations: its file, and its part of the file."""
    from ..data.dataset_columns import segment_of

    return os.path.realpath(row["video"]["path"]), segment_of(row)


def choose_frames(
    clips: GroupedClips, labels: Sequence[str | None], fold: int, column: str, name: str = ""
) -> FrameLabels:
    """
    The training clips and the scored clips with images. Clips without a label, and scored clips with a label that no training clip has,
    have none.

    labels: of each clip. fold: the scored one. column: of the labels, for messages. name: of the fold, for messages.

    Raises `ValueError` for fewer than two classes, for classes that differ in spelling only, and where no scored clip has images.
    """
    from ..data.class_names import normalize_label

    option, messages = f"--image-labels {column}", []
    labelled = [(index, label) for index, label in enumerate(labels) if label is not None]
    if len(labelled) < len(labels):
        messages.append(
            f"Left out of the images: {len(labels) - len(labelled)} of {len(labels)} clips, which have no value in the column {column}."
        )
    train = [(index, label) for index, label in labelled if clips.folds[index] != fold]
    scored = [(index, label) for index, label in labelled if clips.folds[index] == fold]
    classes = sorted({label for _, label in train})
    if len(classes) < 2:
        value = f"the one value {classes[0]!r}" if classes else "no value"
        raise ValueError(
            f"{option}: the training clips{name} have {value}, and images need two classes: choose another column."
        )
    spellings: dict[str, str] = {}
    for label in classes:
        if (other := spellings.setdefault(normalize_label(label), label)) != label:
            raise ValueError(
                f"{option}: the values {other!r} and {label!r} differ in case, spaces or underscores only: write both alike."
            )
    known = [(index, label) for index, label in scored if label in classes]
    if unknown := sorted({label for _, label in scored} - set(classes)):
        messages.append(
            f"Left out of the scored images: frames of {len(scored) - len(known)} clips{name}, whose values of {column} no training clip "
            f"has ({', '.join(unknown)})."
        )
    if not known:
        raise ValueError(
            f"{option}: no scored clip{name} has a value that a training clip has: choose another column, or other folds."
        )
    return FrameLabels(dict(zip(SPLITS, (train, known), strict=True)), messages)


def write_frames(
    rows: Sequence[dict[str, Any]], clips: dict[str, list[tuple[int, str]]], folder: Path, short_side: int
) -> None:
    """
    Write `NUM_FRAMES` frames of each clip, the middle ones of equal parts, as JPEG files `folder/<split>/<class>/<clip>-<frame>.jpg`,
    unless they exist. Other images in the folder, of clips or annotations that have changed, are removed. A clip has changed with the size or
    the time of its file (`file_key`), a folder of frames with its own time.

    rows: of all clips. clips: of each split, number and label. short_side: of the images, in pixels.

    Raises `ValueError` for a clip that cannot be read.
    """
    from ..data.check_data import file_key
    from ..data.dataset_columns import row_source
    from ..data.recorded_inputs import time_of_change
    from ..logging_utils import progress_bar

    expected: dict[Path, dict[str, Any]] = {}
    for split, members in clips.items():
        for index, label in members:
            source = row_source(rows[index], "video")
            known = {name: str(value) for name, value in source.items() if name != "bytes"}
            known["changed"] = str(file_key(source) or time_of_change(known["path"]))
            stem = f"{Path(known['path']).stem[:80]}-{digest(known)[:8]}"
            expected[folder / split / folder_name(label) / stem] = source
    for path in folder.glob("*/*/*.jpg"):
        if path.with_name(path.stem.rpartition("-")[0]) not in expected:
            path.unlink()
    # The first frame of a clip is written last.
    missing = [path for path in expected if not path.with_name(f"{path.name}-0.jpg").is_file()]
    for path in progress_bar(missing, "frames of clips", unit="clip"):
        _write_clip(path, expected[path], short_side)


def _write_clip(path: Path, source: dict[str, Any], short_side: int) -> None:
    from PIL import Image

    from tubevit.processing import decode_video

    from ..data.clip_sampling import video_source
    from ..data.encoding import resize_short_side

    try:
        frames, _ = decode_video(
            video_source(source),
            lambda metadata: middle_frames(metadata.total_num_frames),
            frame_transform=lambda frames: resize_short_side(frames, short_side),
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"{source['path']} gives no images, because it cannot be read: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = list(enumerate(frames.permute(0, 2, 3, 1).contiguous().numpy()))
    for number, picture in reversed(pictures):
        part = path.with_name(f".{path.name}")  # readers skip hidden files
        Image.fromarray(picture).save(part, "JPEG", quality=JPEG_QUALITY)
        part.replace(path.with_name(f"{path.name}-{number}.jpg"))


def middle_frames(total: int) -> list[int]:
    """
    The middle frames of `NUM_FRAMES` equal parts of a clip, each frame once.

    >>> middle_frames(80), middle_frames(2)
    ([10, 30, 50, 70], [0, 1])
    """
    return sorted({(2 * part + 1) * total // (2 * NUM_FRAMES) for part in range(NUM_FRAMES)})


def folder_name(label: str) -> str:
    """
    A label as the name of a folder; characters that a file system may refuse are quoted as in a URL.

    >>> folder_name("New York"), folder_name("in/out"), folder_name(".a")
    ('New York', 'in%2Fout', '%2Ea')
    """
    name = re.sub(r"[^\w .+-]", lambda found: quote(found[0], safe=""), label)
    return f"%2E{name[1:]}" if name.startswith(".") else name
