# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
One entry to all data: `load_video_dataset(DataConfig(...))` gives a `datasets.Dataset` per split, whatever the format.

A row is `{"video": {"path", "bytes"}, "label", "video_id"}` (`image` in place of `video` for images), undecoded. The
label is the index of a class, a list of them with several labels per video, or `None` where it is not known. Classes are
those of the training split in alphabetical order, unless a file or a checkpoint names them; a class that only the
validation videos have is an error rather than one more output.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..options import option
from .class_names import LabelEncoder, normalize_label, number_names, read_class_names, sort_names
from .formats.class_folders import hold_out
from .formats.csv_table import NUM_CHARADES_CLASSES, charades_names
from .formats.hub_datasets import DatasetColumns, make_dataset, open_dataset
from .formats.kinetics import check_num_classes
from .formats.registry import FORMATS, Source, detect_format, find_sources, read_rows
from .formats.samples import VideoSample, split_of
from .formats.something_something import find_ssv2_labels, read_ssv2_labels


@dataclass
class DataConfig:
    """Which videos (or images) and labels to use. Give `data`, or a file or folder for each split."""

    data: str | None = option(None, "folder, annotation file, or name of a data set on the Hub")
    train_data: str | None = option(None, "annotation file or class folders of the training split")
    validation_data: str | None = option(None, "likewise, of the validation split")
    test_data: str | None = option(None, "likewise, of the test split")
    data_format: str = option("auto", f"auto, or one of {', '.join(FORMATS)}")
    video_root: str | None = option(None, "where the files lie (default: where the annotations are)")
    class_names_file: str | None = option(None, "class names, one per line or JSON (default: found in the data)")
    num_classes: int | None = option(
        None, "how many classes there must be (default: what the data set is known to have)"
    )
    multi_label: bool | None = option(None, "several labels per video (default: what the format says)")
    dataset_config_name: str | None = option(None, "configuration of a data set on the Hub")
    video_column: str | None = option(None, "column of a data set on the Hub that holds videos or images")
    label_column: str | None = option(None, "column of a data set on the Hub that holds labels")
    streaming: bool = option(False, "read a data set of the Hub as it is downloaded")
    shuffle_buffer_size: int = option(256, "videos of a streamed training split that are drawn from at a time")
    validation_fraction: float = option(
        0.25, "share of the training videos held out where there is no validation split"
    )
    split_seed: int = option(0, "seed of that choice")

    def __post_init__(self):
        given = [self.train_data, self.validation_data, self.test_data]
        if (self.data is None) == (not any(given)):
            raise ValueError(
                "Give data, or train_data, validation_data and test_data (as many as there are)"
                + (", not both." if any(given) else ".")
            )
        if self.data_format not in ("auto", *FORMATS):
            raise ValueError(f"data_format must be auto or one of {', '.join(FORMATS)}, got {self.data_format!r}.")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}.")
        for name in ("num_classes", "shuffle_buffer_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")


@dataclass
class VideoData:
    """
    splits: "train", "validation" and "test", those that there are, to a `Dataset` or `IterableDataset`.
    class_names: in the order of their indices; empty where no video has a label.
    media: "video" or "image", which is also the name of the column.
    multi_label: whether a label is a list.
    data_format: the format that was read, one of `FORMATS`.
    notes: what was decided on the way, one sentence each, for the user to read.
    """

    splits: dict[str, Any]
    class_names: list[str]
    media: str
    multi_label: bool
    data_format: str
    notes: list[str] = field(default_factory=list)

    @property
    def problem_type(self) -> str:
        """What the config of a model calls it."""
        return "multi_label_classification" if self.multi_label else "single_label_classification"


def load_video_dataset(config: DataConfig, class_names: list[str] | None = None) -> VideoData:
    """
    Read the annotations that `config` names.

    class_names: of the checkpoint that is to be evaluated or trained on. Labels are then matched with these, by name;
        case and underscores do not matter. Labels that are integers have the names that `class_names_file` counts; without
        such a file they are taken for the order of `class_names`, unless these are numbers (or codes of Charades) themselves.

    Raises `ValueError` or `FileNotFoundError`, in one line, for annotations that cannot be used. Whether the videos can
    is not looked at: see `check_data`.
    """
    sources = find_sources(config.data, _split_files(config), config.data_format)
    data_format = config.data_format if config.data_format != "auto" else detect_format(sources)
    if data_format == "datasets":
        return _load_datasets(config, sources, class_names)
    if config.streaming:
        raise ValueError("streaming is for data sets of the Hub; files on disk are opened one at a time anyway.")
    return _load_files(config, sources, data_format, class_names)


def _split_files(config: DataConfig) -> dict[str, str]:
    files = {"train": config.train_data, "validation": config.validation_data, "test": config.test_data}
    return {split: name for split, name in files.items() if name is not None}


def _load_files(config: DataConfig, sources: list[Source], data_format: str, class_names: list[str] | None):
    media = "image" if data_format == "image_folders" else "video"
    multi_label = data_format == "charades" if config.multi_label is None else config.multi_label
    if multi_label and data_format in ("kinetics", "ssv2", "class_folders", "image_folders"):
        raise ValueError(
            f"The format {data_format} has one label per {media}; multi_label needs list, csv or charades."
        )
    declared = _declared_names(config, sources, data_format)
    splits: dict[str, list[VideoSample]] = {}
    for source in sources:
        for row in read_rows(source, data_format, config.video_root, declared, multi_label):
            splits.setdefault(row.split or source.split or "train", []).append(row)
    if not splits:
        raise ValueError(f"{', '.join(source.path for source in sources)}: there is no {media} in it.")
    notes: list[str] = []
    if "train" in splits and "validation" not in splits and config.validation_fraction:
        _hold_out(splits, config, multi_label, notes)
    names = (
        class_names or declared or _names_of(splits.get("train") or [row for rows in splits.values() for row in rows])
    )
    if class_names is None:
        _check_count(names, config, data_format)
    index_of = LabelEncoder(names, _counted_names(config, declared, names))
    datasets = {}
    for split in [split for split in ("train", "validation", "test") if split in splits]:
        rows = splits[split]
        labels = [_to_index(row, index_of, split) for row in rows]
        datasets[split] = make_dataset(
            media, [row.path for row in rows], labels, _unique_ids(rows, split, notes), names
        )
    return VideoData(datasets, names, media, multi_label, data_format, notes)


def _declared_names(config: DataConfig, sources: list[Source], data_format: str) -> list[str] | None:
    """The class names that a file lists, `None` where they follow from the labels."""
    if data_format == "ssv2":
        path = config.class_names_file or find_ssv2_labels(sources[0].path)
        return read_ssv2_labels(path, config.num_classes)
    names = read_class_names(config.class_names_file) if config.class_names_file else None
    return charades_names(names) if data_format == "charades" else names


def _counted_names(config: DataConfig, declared: list[str] | None, names: list[str]) -> list[str] | None:
    """The classes in the order that integer labels count, `None` where nothing but `names` says which it is."""
    is_other_order = declared is not None and sorted(map(normalize_label, declared)) == sorted(
        map(normalize_label, names)
    )
    return declared if config.class_names_file or is_other_order else None


def _names_of(rows: Iterable[VideoSample]) -> list[str]:
    """Class names in alphabetical order; where labels are indices, the numbers from 0 to the largest."""
    labels = {label for row in rows for label in (row.label if isinstance(row.label, tuple) else (row.label,))} - {
        None
    }
    return number_names(labels) if labels and all(isinstance(label, int) for label in labels) else sort_names(labels)


def _check_count(names: list[str], config: DataConfig, data_format: str) -> None:
    if data_format == "kinetics" and (names or config.num_classes):
        return check_num_classes(names, config.num_classes)
    expected = NUM_CHARADES_CLASSES if data_format == "charades" else None
    expected = config.num_classes or expected
    if expected is not None and len(names) != expected:
        raise ValueError(
            f"There are {len(names)} classes where {expected} are expected; set num_classes to what is right."
        )


def _to_index(row: VideoSample, index_of: LabelEncoder, split: str) -> int | tuple | None:
    try:
        if isinstance(row.label, tuple):
            return tuple(map(index_of, row.label))
        return None if row.label is None else index_of(row.label)
    except ValueError as error:
        raise ValueError(f"{row.video_id} ({split}): {error}") from None


def _hold_out(splits: dict[str, list[VideoSample]], config: DataConfig, multi_label: bool, notes: list[str]) -> None:
    # Videos of several classes cannot be drawn class by class.
    rows = [row._replace(label="" if multi_label else str(row.label)) for row in splits["train"]]
    kept = hold_out(rows, config.validation_fraction, config.split_seed)
    held = {row.path for row in kept.val}  # by file: one that is listed twice must not be on both sides
    original = splits["train"]
    if 0 < len(held) < len({row.path for row in original}):
        splits["train"] = [row for row in original if row.path not in held]
        splits["validation"] = [row for row in original if row.path in held]
        notes.append(
            f"There is no validation split: {len(splits['validation'])} of {len(original)} videos are held out for it."
        )
        notes += kept.notes[1:]  # classes that have too few videos


def _unique_ids(rows: list[VideoSample], split: str, notes: list[str]) -> list[str]:
    """Ids of the rows; of a file that is listed again, the id with a number."""
    seen: Counter = Counter()
    ids = []
    for row in rows:
        seen[row.video_id] += 1
        ids.append(row.video_id if seen[row.video_id] == 1 else f"{row.video_id}#{seen[row.video_id]}")
    if repeats := len(rows) - len(seen):
        notes.append(f"{repeats} of {len(rows)} rows of the {split} split name a video that an earlier row names.")
    return ids


def _load_datasets(config: DataConfig, sources: list[Source], class_names: list[str] | None) -> VideoData:
    splits: dict[str, Any] = {}
    for source in sources:
        found = open_dataset(source.path, config.dataset_config_name, config.streaming)
        for name, dataset in found.items():
            splits[source.split or name] = dataset
    return adapt_datasets(splits, config, class_names)


def adapt_datasets(
    splits: dict[str, Any], config: DataConfig | None = None, class_names: list[str] | None = None
) -> VideoData:
    """
    As `load_video_dataset`, for `datasets.Dataset` or `IterableDataset` that are open already, by split.

    config: its columns, class names and holding out are used.
    """
    config = config or DataConfig(data="datasets")
    counted = read_class_names(config.class_names_file) if config.class_names_file else None
    first = splits.get("train", next(iter(splits.values()), None))
    if first is None:
        raise ValueError("The data set has no splits.")
    columns = DatasetColumns(first, config.video_column, config.label_column, class_names, counted)
    if class_names is None and config.num_classes not in (None, len(columns.names or [])):
        raise ValueError(f"There are {len(columns.names or [])} classes where {config.num_classes} are expected.")
    data = VideoData({}, columns.names or [], columns.media, columns.is_multi_label, "datasets")
    for split, dataset in splits.items():
        own = DatasetColumns(dataset, config.video_column, config.label_column, columns.names, counted)
        data.splits[_standard_split(split, data)] = own.apply(dataset, split)
    _hold_out_datasets(data, config)
    return data


def _standard_split(name: str, data: VideoData) -> str:
    split = split_of(name) or name
    if split in data.splits:
        raise ValueError(f"The data set has two splits that may be its {split} split; give them by name.")
    return split


def _hold_out_datasets(data: VideoData, config: DataConfig) -> None:
    train = data.splits.get("train")
    if "validation" in data.splits or not config.validation_fraction or not hasattr(train, "train_test_split"):
        return
    number = round(len(train) * config.validation_fraction)
    if 0 < number < len(train):
        halves = train.train_test_split(number, seed=config.split_seed)
        data.splits["train"], data.splits["validation"] = halves["train"], halves["test"]
        data.notes.append(f"There is no validation split: {number} of {len(train)} videos are held out for it.")
