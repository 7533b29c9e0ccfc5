# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`load_video_dataset(DataConfig(...))` reads annotations of any registered format (`formats/registry.py`) into a
`datasets.Dataset` per split.

A row is `{"video": {"path", "bytes"}, "label", "video_id"}` (`image` instead of `video` for images), undecoded. The label is
a class index, a list of class indices (several labels per video), or `None` (unknown). The classes are those of the training
split in alphabetical order, unless a file or a checkpoint names them. A class that only the validation split has raises an
error instead of becoming an additional output.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from ..option_types import AT_LEAST_1, POSITIVE, SEED, Range, check_ranges, option
from .class_names import (
    LabelEncoder,
    check_num_classes,
    check_spelling,
    count_label_groups,
    normalize_label,
    number_names,
    read_class_names,
    sort_names,
)
from .dataset_columns import GROUP, DatasetColumns, make_dataset, source_keys, without_group
from .formats.folder_layout import find_sources
from .formats.registry import (
    AUTO,
    AnnotationFormat,
    Source,
    StatedLabels,
    data_format_metadata,
    detect_format,
    get_format,
    list_formats,
    read_samples,
)
from .formats.samples import VideoSample, split_of
from .holding_out import (
    GroupPattern,
    choose_held_out,
    join_groups,
    one_sided_messages,
    overlap_messages,
    real_paths,
    suggest_groups,
)
from .media_files import MEDIA_SUFFIXES, describe_frames, shorten
from .text_tables import LIST_SEPARATOR


@dataclass
class DataConfig:
    """Videos (or images) and their labels: `data`, or one file or folder per split."""

    data: str | None = option(None, "folder, annotation file, or name of a data set on the Hub")
    train_data: str | None = option(None, "annotation file or class folders of the training split")
    validation_data: str | None = option(None, "annotation file or class folders of the validation split")
    test_data: str | None = option(None, "annotation file or class folders of the test split")
    data_format: str = field(default=AUTO, metadata=data_format_metadata())
    video_root: str | None = option(None, "folder of the videos (default: the folder of the annotations)")
    class_names_file: str | None = option(
        None, "file of class names, one per line or JSON (default: the names in the annotations)"
    )
    num_classes: Annotated[int, AT_LEAST_1] | None = option(
        None,
        "required number of classes (default: the numbers that the annotation format defines; any number if it defines none)",
    )
    multi_label: bool | None = option(
        None, "read several labels per video (default: determined by the format or by the label column)"
    )
    dataset_config_name: str | None = option(None, "configuration name of a data set on the Hub")
    video_column: str | None = option(
        None, "column of videos or images in a data set on the Hub (default: found by its type)"
    )
    label_column: str | None = option(
        None, "column of labels in a data set on the Hub (default: found by name and type)"
    )
    streaming: bool = option(
        False,
        "stream a data set from the Hub instead of downloading it first; of shards with videos, train on one shard after the other "
        "(for remote storage) and find corrupt videos while training",
    )
    shuffle_buffer_size: Annotated[int, AT_LEAST_1] = option(
        256, "size of the shuffle buffer of a streamed training split, in videos"
    )
    validation_fraction: Annotated[float, Range(0, 1, exclusive=("maximum",))] = option(
        0.25,
        "fraction of the training videos that is held out if there is no validation split; 0 = train on all and score the test split",
    )
    split_seed: Annotated[int, SEED] = option(0, "random seed for the choice of the held-out videos")
    frame_folder_fps: Annotated[float, POSITIVE] | None = option(
        None, "frame rate of videos that are folders of pictures, in frames per second; sampling at a rate needs it"
    )
    group_column: str | None = option(
        None,
        "column of a person, camera or film whose videos are held out together (default: none, only rows of one file are)",
    )
    group_pattern: str | None = option(
        None,
        "regular expression whose parentheses find the group in the name of a video, such as '_g(\\d+)_' for UCF101; videos of one "
        "group are held out together",
    )

    def __post_init__(self):
        given = [self.train_data, self.validation_data, self.test_data]
        if (self.data is None) == (not any(given)):
            raise ValueError(
                "Give data, or one or more of train_data, validation_data and test_data"
                + (", not both." if any(given) else ".")
            )
        if self.data_format != AUTO:
            get_format(self.data_format)
        if self.group_pattern is not None:
            GroupPattern(self.group_pattern)
            if self.group_column is not None:
                raise ValueError("Give group_column or group_pattern, not both.")
        check_ranges(self)


@dataclass
class VideoData:
    """
    A data set that was read.

    splits: "train", "validation" and "test", or some of them, to a `Dataset` or `IterableDataset`.
    class_names: in the order of their indices; empty if no video has a label.
    media: "video" or "image", which is also the name of the column.
    multi_label: whether a label is a list.
    data_format: name of the format; `None` for a data set that the caller opened.
    messages: for the user, on assumptions, ignored options and excluded videos, one sentence each.
    groups: split to the group of each of its rows (`group_column`, `group_pattern`), `None` for a row without one; no entry for a
        stream.
    label_groups: names of groups of classes to their numbers of classes, in the order of the classes; a label is then a list with a
        class of each group. Empty: one group of all classes.
    """

    splits: dict[str, Any]
    class_names: list[str]
    media: str
    multi_label: bool
    data_format: str | None
    messages: list[str] = field(default_factory=list)
    groups: dict[str, list[str | None]] = field(default_factory=dict)
    label_groups: dict[str, int] = field(default_factory=dict)

    @property
    def problem_type(self) -> str:
        """`problem_type` of a model's config."""
        return "multi_label_classification" if self.multi_label else "single_label_classification"


def load_video_dataset(config: DataConfig, class_names: list[str] | None = None) -> VideoData:
    """
    Read the annotations that `config` names. Videos are not opened: see `check_data`.

    class_names: class names of the checkpoint that is evaluated or fine-tuned. Labels are matched with them by name, ignoring
        case and underscores. Integer labels are indices into the names of `class_names_file`; without that file, into the
        names that the format defines (codes of Charades) if they are the same classes, else into `class_names`.
        If `class_names` are numbers, an integer label is the class with this number as its name.

    Raises a one-line `ValueError` or `FileNotFoundError` for annotations that cannot be used.
    """
    sources, entry, messages = _find_sources(config, class_names)
    if config.streaming and "streaming" not in entry.options:
        raise ValueError(
            f"streaming does not apply to the format {entry.name}: files on disk are opened one at a time anyway."
        )
    data = (_load_samples if entry.open_splits is None else _load_opened)(config, sources, entry, class_names)
    data.messages[:0] = [
        *messages,
        *(
            f"{name} has no effect: the format {entry.name} does not use it."
            for name in _unused_options(config, entry)
        ),
    ]
    is_buffered = config.streaming or "shuffle_buffer_size" not in entry.options
    if config.shuffle_buffer_size != DataConfig.shuffle_buffer_size and not is_buffered:
        data.messages.append("shuffle_buffer_size has no effect without streaming=true.")
    return data


class ListedSplits(NamedTuple):
    """
    Annotations as they are read: the samples of each split, the classes in the order of integer labels (`None` if labels are names),
    whether samples have several labels and groups of classes, and messages for the user.
    """

    splits: dict[str, list[VideoSample]]
    class_names: list[str] | None
    labels: StatedLabels
    messages: list[str]


def read_splits(config: DataConfig) -> ListedSplits:
    """
    The samples of each split as the annotations name them. Nothing is held out or encoded.

    Raises `ValueError` for a data set that the library `datasets` opens, and as `load_video_dataset`.
    """
    sources, entry, messages = _find_sources(config)
    if entry.open_splits is not None:
        raise ValueError(f"{config.data} holds no class folders and no annotation file, but a data set of `datasets`.")
    return ListedSplits(*_read_splits(config, sources, entry, messages), messages)


def _find_sources(
    config: DataConfig, class_names: list[str] | None = None
) -> tuple[list[Source], AnnotationFormat, list[str]]:
    """The annotations, their format, and messages for the user."""
    sources, messages = find_sources(
        config.data, _split_files(config), config.data_format, partial(_read_samples, config), class_names or ()
    )
    return sources, detect_format(sources) if config.data_format == AUTO else get_format(config.data_format), messages


def _split_files(config: DataConfig) -> dict[str, str]:
    files = {"train": config.train_data, "validation": config.validation_data, "test": config.test_data}
    return {split: name for split, name in files.items() if name is not None}


def _unused_options(config: DataConfig, entry: AnnotationFormat) -> list[str]:
    """Options that differ from their defaults and have no effect on this format, but on others."""
    specific = {name for each in list_formats() for name in each.options} - set(entry.options)
    return [
        each.name for each in fields(config) if each.name in specific and getattr(config, each.name) != each.default
    ]


def _read_samples(config: DataConfig, source: Source, entry: AnnotationFormat) -> list[VideoSample]:
    multi_label = entry.labels_of(Path(source.path), config.multi_label).multi_label
    names = entry.class_names(Path(source.path), config.class_names_file, config.num_classes)
    return read_samples(source, entry, config.video_root, names, multi_label, label_column=config.label_column)


def _read_splits(
    config: DataConfig, sources: list[Source], entry: AnnotationFormat, messages: list[str]
) -> tuple[dict[str, list[VideoSample]], list[str] | None, StatedLabels]:
    """The samples of each split, the class names that the format declares, and the kind of the labels."""
    labels = entry.labels_of(Path(sources[0].path), config.multi_label)
    _check_multi_label(labels.multi_label, entry)
    declared = entry.class_names(Path(sources[0].path), config.class_names_file, config.num_classes)
    splits: dict[str, list[VideoSample]] = {}
    for source in sources:
        columns = {"group_column": config.group_column, "label_column": config.label_column}
        samples = read_samples(source, entry, config.video_root, declared, labels.multi_label, messages, **columns)
        for sample in samples:
            splits.setdefault(sample.split or source.split or "train", []).append(sample)
        if entry.needs_split and source.split is None and not any(sample.split for sample in samples):
            messages.append(
                f"The format {entry.name} names no splits: {source.path} ({len(samples)} rows) is the training split."
            )
    if not splits:
        raise ValueError(f"There are no {entry.media}s in {', '.join(source.path for source in sources)}.")
    if config.multi_label is None and True in entry.multi_label and not labels.multi_label:
        _check_separator(splits)
    return splits, declared, labels


def _check_separator(splits: dict[str, list[VideoSample]]) -> None:
    """Raise `ValueError` for a label that may be several labels, if the user did not say so."""
    labels = (sample.label for samples in splits.values() for sample in samples)
    if several := next((each for each in labels if isinstance(each, str) and LIST_SEPARATOR in each), None):
        raise ValueError(
            f"The label {several!r} contains {LIST_SEPARATOR!r}, which separates several labels: set multi_label=true, or "
            "multi_label=false if it is the name of one class."
        )


def _load_samples(
    config: DataConfig, sources: list[Source], entry: AnnotationFormat, class_names: list[str] | None
) -> VideoData:
    messages: list[str] = []
    splits, declared, (multi_label, groups_of_classes) = _read_splits(config, sources, entry, messages)
    known = [sample for split, samples in splits.items() for sample in samples if multi_label or split == "train"]
    names = class_names or declared or _collect_names(known or [s for each in splits.values() for s in each])
    if class_names is None and (names or config.num_classes):
        check_num_classes(names, (config.num_classes,) if config.num_classes else entry.class_counts)
    if class_names is None and declared is None:
        check_spelling(names)
    label_groups = count_label_groups(names, groups_of_classes) if groups_of_classes else {}
    has_several = multi_label or bool(label_groups)
    encoder = LabelEncoder(names, _indexed_names(config, declared, names))
    if encoder.is_positional and (indices := _indices(splits)):
        if declared is None or config.class_names_file:  # else the format defines the numbers
            encoder.check_positions(indices)
        if class_names and not config.class_names_file:
            messages.append("Labels are integers: they are used as indices of the checkpoint's classes.")
    groups = {split: _sample_groups(samples, config, messages) for split, samples in splits.items()}
    files = {split: real_paths(sample.path for sample in samples) for split, samples in splits.items()}
    held_out: set[int] = set()
    if "train" in splits and "validation" not in splits:
        labels = [sample.label for sample in splits["train"]]
        held_out = set(_hold_out(labels, files["train"], groups["train"], config, messages))
        for by_split in (splits, groups, files) if held_out else ():
            values = by_split["train"]
            by_split["train"] = [value for index, value in enumerate(values) if index not in held_out]
            by_split["validation"] = [value for index, value in enumerate(values) if index in held_out]
    messages += overlap_messages(files, "video file" if entry.media == "video" else "image file")
    messages += overlap_messages(groups, "group")
    frame_rates = _frame_rates(splits, config, messages)
    datasets, labels_of = {}, {}
    for split in [split for split in ("train", "validation", "test") if split in splits]:
        samples = splits[split]
        labels_of[split] = [_encode(sample, encoder, split) for sample in samples]
        if label_groups:
            labels_of[split] = [
                label and tuple(sorted(label)) for label in labels_of[split]
            ]  # in the order of the groups
        if num_unknown := labels_of[split].count(None):
            messages.append(f"{num_unknown} of {len(samples)} rows of the {split} split have no label.")
        ids = _unique_ids(samples, split, messages)
        paths, segments = [sample.path for sample in samples], [sample.segment for sample in samples]
        datasets[split] = make_dataset(
            entry.media, paths, labels_of[split], ids, names, segments, frame_rates.get(split)
        )
    if "train" in labels_of and not has_several:
        found = set(labels_of["train"])
        if empty := [name for index, name in enumerate(names) if index not in found]:
            messages.append(f"{len(empty)} of {len(names)} classes have no training video ({shorten(empty)}).")
    if has_several or held_out:
        messages += one_sided_messages(labels_of, names)
    return VideoData(datasets, names, entry.media, multi_label, entry.name, messages, groups, label_groups)


def _frame_rates(
    splits: dict[str, list[VideoSample]], config: DataConfig, messages: list[str]
) -> dict[str, list[float | None]]:
    """Frame rate of each frame folder, `None` for files and without `frame_folder_fps`; no entry if all videos are files."""
    is_folder = {
        split: [
            Path(sample.path).suffix.lower() not in MEDIA_SUFFIXES and os.path.isdir(sample.path) for sample in samples
        ]
        for split, samples in splits.items()
    }
    number, fps = sum(map(sum, is_folder.values())), config.frame_folder_fps
    if not number:
        messages += ["frame_folder_fps has no effect: no video is a folder of frames."] if fps else []
        return {}
    rate = f"{fps:g} frames per second" if fps else "without a frame rate, which frame_folder_fps sets"
    messages.append(f"{number} of {sum(map(len, splits.values()))} videos are folders of frames, {rate}.")
    unlisted = [
        sample.path
        for split, samples in splits.items()
        for sample, each in zip(samples, is_folder[split], strict=True)
        if each and sample.segment is None  # a list with numbers of frames finds missing frames when it is read
    ]
    messages += describe_frames(dict.fromkeys(unlisted))
    return {split: [fps if each else None for each in values] for split, values in is_folder.items()}


def _sample_groups(samples: list[VideoSample], config: DataConfig, messages: list[str]) -> list[str | None]:
    if config.group_pattern is None:
        return [sample.group for sample in samples]
    return GroupPattern(config.group_pattern).of_all([sample.video_id for sample in samples], messages)


def _hold_out(
    labels: list, files: list, groups: list[str | None], config: DataConfig, messages: list[str]
) -> list[int]:
    """Indices of the training rows that are held out for validation, see `holding_out`; empty if none can be."""
    if not config.validation_fraction:
        return []
    joined = join_groups(files, groups)
    held_out = choose_held_out(labels, joined, config.validation_fraction, config.split_seed)
    by_group = any(group is not None for group in groups)
    if held_out and not by_group:
        messages += suggest_groups([each for each in files if isinstance(each, str)])
    if not held_out:
        unit = "group" if by_group else "video"
        messages.append(f"There is no validation split, and none can be held out: no class has two {unit}s.")
        return []
    whole = (
        f", in whole groups ({len({joined[index] for index in held_out})} of {len(set(joined))})" if by_group else ""
    )
    messages.append(
        f"There is no validation split: {len(held_out)} of {len(labels)} videos are held out for it{whole}."
    )
    return held_out


def _check_multi_label(multi_label: bool, entry: AnnotationFormat) -> None:
    if multi_label in entry.multi_label:
        return
    number = "one label" if multi_label else "several labels"
    able = ", ".join(each.name for each in list_formats() if multi_label in each.multi_label)
    raise ValueError(
        f"The format {entry.name} has {number} per {entry.media}; multi_label={str(multi_label).lower()} needs one of {able}."
    )


def _indexed_names(config: DataConfig, declared: list[str] | None, names: list[str]) -> list[str] | None:
    """The classes in the order of integer labels; `None` for the order of `names`."""
    is_other_order = declared is not None and sorted(map(normalize_label, declared)) == sorted(
        map(normalize_label, names)
    )
    return declared if config.class_names_file or is_other_order else None


def _collect_names(samples: Iterable[VideoSample]) -> list[str]:
    """Class names in alphabetical order; for labels that are numbers, the numbers from the smallest to the largest."""
    labels = {
        label for sample in samples for label in (sample.label if isinstance(sample.label, tuple) else (sample.label,))
    } - {None}
    return number_names(labels) if labels and all(isinstance(label, int) for label in labels) else sort_names(labels)


def _indices(splits: dict[str, list[VideoSample]]) -> set[int]:
    """The labels that are integers."""
    labels = (sample.label for samples in splits.values() for sample in samples)
    return {
        each for label in labels for each in (label if isinstance(label, tuple) else (label,)) if isinstance(each, int)
    }


def _encode(sample: VideoSample, encoder: LabelEncoder, split: str) -> int | tuple | None:
    try:
        if isinstance(sample.label, tuple):
            return tuple(map(encoder, sample.label))
        return None if sample.label is None else encoder(sample.label)
    except ValueError as error:
        raise ValueError(f"{sample.video_id} ({split}): {error}") from None


def _unique_ids(samples: list[VideoSample], split: str, messages: list[str]) -> list[str]:
    """Ids of the samples; a repeated id gets a number: `a`, `a#2`, ..."""
    seen: Counter = Counter()
    ids = []
    for sample in samples:
        seen[sample.video_id] += 1
        number = seen[sample.video_id]
        ids.append(sample.video_id if number == 1 else f"{sample.video_id}#{number}")
    if repeats := len(samples) - len(seen):
        messages.append(f"{repeats} of {len(samples)} rows of the {split} split repeat the video of an earlier row.")
    return ids


def _load_opened(
    config: DataConfig, sources: list[Source], entry: AnnotationFormat, class_names: list[str] | None
) -> VideoData:
    splits: dict[str, Any] = {}
    for source in sources:
        for name, dataset in entry.open_splits(source.path, config).items():
            splits[source.split or name] = dataset
    data = adapt_datasets(splits, config, class_names)
    if config.multi_label not in (None, data.multi_label):
        found = "several labels" if data.multi_label else "one label"
        raise ValueError(f"multi_label={str(config.multi_label).lower()}, but the label column holds {found} per row.")
    data.data_format = entry.name
    return data


def adapt_datasets(
    splits: dict[str, Any], config: DataConfig | None = None, class_names: list[str] | None = None
) -> VideoData:
    """
    `load_video_dataset` for splits that the caller opened as `datasets.Dataset` or `IterableDataset`.

    config: only its options for columns, class names and the validation split are used.
    """
    config = config or DataConfig(data="opened by the caller")
    indexed = read_class_names(config.class_names_file) if config.class_names_file else None
    first = splits.get("train", next(iter(splits.values()), None))
    if first is None:
        raise ValueError("The data set has no splits.")
    columns = DatasetColumns(first, config.video_column, config.label_column, class_names, indexed)
    if columns.is_multi_label and not (class_names or indexed or columns.own_names):
        of_splits = [DatasetColumns(each, config.video_column, config.label_column).names for each in splits.values()]
        columns.names = sort_names(name for names in of_splits for name in names or [])
    if class_names is None and config.num_classes is not None:
        check_num_classes(columns.names or [], (config.num_classes,))
    data = VideoData({}, columns.names or [], columns.media, columns.is_multi_label, None)
    for split, dataset in splits.items():
        own = DatasetColumns(
            dataset, config.video_column, config.label_column, columns.names, indexed, config.group_column
        )
        data.splits[_standard_split(split, data)] = own.apply(dataset, split)
        data.messages += [message for message in own.segments.messages() if message not in data.messages]
    if all(hasattr(dataset, "__len__") for dataset in data.splits.values()):
        _split_opened(data, config)
    else:
        data.splits = {split: without_group(dataset) for split, dataset in data.splits.items()}
        given = [name for name in ("group_column", "group_pattern") if getattr(config, name) is not None]
        data.messages += [f"{name} has no effect: nothing is held out of a streamed data set." for name in given]
    return data


def _standard_split(name: str, data: VideoData) -> str:
    split = split_of(name) or name
    if split in data.splits:
        raise ValueError(f"The data set has two splits that may be its {split} split; rename one of them.")
    return split


def _split_opened(data: VideoData, config: DataConfig) -> None:
    """Hold out a validation split if there is none, and report videos, groups and classes that are on one or both sides."""
    files = {split: source_keys(dataset, data.media) for split, dataset in data.splits.items()}
    groups = {
        split: _row_groups(dataset, files[split], config, data.messages) for split, dataset in data.splits.items()
    }
    train, held_out = data.splits.get("train"), []
    if train is not None and "validation" not in data.splits:
        held_out = _hold_out(list(train["label"]), files["train"], groups["train"], config, data.messages)
        if held_out:
            rest = sorted(set(range(len(train))) - set(held_out))
            for split, indices in (("train", rest), ("validation", held_out)):
                data.splits[split] = train.select(indices)
            for by_split in (files, groups):
                values = by_split["train"]
                by_split.update(train=[values[i] for i in rest], validation=[values[i] for i in held_out])
    data.messages += overlap_messages(files, f"{data.media} file")
    data.messages += overlap_messages(groups, "group")
    data.groups = groups
    data.splits = {split: without_group(dataset) for split, dataset in data.splits.items()}
    if data.multi_label or held_out:
        labels = {split: list(dataset["label"]) for split, dataset in data.splits.items()}
        data.messages += one_sided_messages(labels, data.class_names)


def _row_groups(dataset: Any, files: list, config: DataConfig, messages: list[str]) -> list[str | None]:
    if config.group_pattern is not None:
        names = [each[0] if isinstance(each, tuple) else each or "" for each in files]
        return GroupPattern(config.group_pattern).of_all(names, messages)
    return list(dataset[GROUP]) if GROUP in dataset.column_names else [None] * len(files)
