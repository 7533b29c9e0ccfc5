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
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from .annotation_index import AnnotationIndex
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
from .data_config import DataConfig, VideoData
from .dataset_columns import GROUP, DatasetColumns, make_dataset, source_keys, without_group
from .formats.folder_layout import find_sources
from .formats.registry import (
    AUTO,
    AnnotationFormat,
    Source,
    StatedLabels,
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
from .recorded_inputs import record_inputs
from .shards import as_location, is_remote, read_manifest
from .text_tables import LIST_SEPARATOR


def load_video_dataset(config: DataConfig, class_names: list[str] | None = None) -> VideoData:
    """
    Read the annotations that `config` names. Videos are not opened: see `check_data`.

    class_names: class names of the checkpoint that is evaluated or fine-tuned. Labels are matched with them by name, ignoring
        case and underscores. Integer labels are indices into the names of `class_names_file`; without that file, into the
        names that the format defines (codes of Charades) if they are the same classes, else into `class_names`.
        If `class_names` are numbers, an integer label is the class with this number as its name.

    Annotations of 1,000 videos or more are read once and then mapped from their index (`annotation_index`).

    Raises a one-line `ValueError` or `FileNotFoundError` for annotations that cannot be used.
    """
    paths = [path for path in (config.data, *_split_files(config).values()) if path is not None]
    index = AnnotationIndex(
        paths, {"config": asdict(config), "classes": class_names, "formats": [each.name for each in list_formats()]}
    )
    if (found := index.find()) is not None:
        return found
    reader = AnnotationReader(config)
    with index.lock():
        if (found := index.find()) is not None:  # another process wrote it in the meantime
            return found
        start = time.perf_counter()
        with record_inputs() as inputs:
            sources, entry, messages = _find_sources(reader, class_names)
            messages += _check_options(config, entry)
            if entry.is_indexed and all(map(_has_fingerprint, sources)):
                data = _load_samples(reader, sources, entry, class_names, messages)
                return index.store(data, inputs, time.perf_counter() - start)
    if entry.open_splits is None:
        return _load_samples(reader, sources, entry, class_names, messages)
    data = _load_opened(config, sources, entry, class_names)
    data.messages[:0] = messages
    return data


def _has_fingerprint(source: Source) -> bool:
    """Whether a change of the source can be told without reading it: not for tar files without a manifest in remote storage."""
    location = as_location(source.path)
    return not is_remote(location) or read_manifest(location) is not None


class ListedSplits(NamedTuple):
    """
    Annotations as they are read: the samples of each split, the classes that a file or the format declares (labels are then names of
    these classes), whether samples have several labels and groups of classes, and messages for the user.
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
    reader = AnnotationReader(config)
    sources, entry, messages = _find_sources(reader)
    if entry.open_splits is not None:
        raise ValueError(f"{config.data} holds no class folders and no annotation file, but a data set of `datasets`.")
    messages += _check_options(config, entry)
    splits, declared, labels = _read_splits(reader, sources, entry, messages)
    if declared is not None:
        _name_labels(splits, declared)
    return ListedSplits(splits, declared, labels, messages)


def _name_labels(splits: dict[str, list[VideoSample]], names: list[str]) -> None:
    """Replace integer labels, which may count from 0 or from 1, by the names of the classes."""
    encoder = LabelEncoder(names, names)
    encoder.check_positions(_indices(splits))
    for split, samples in splits.items():
        for position, sample in enumerate(samples):
            found = _encode(sample, encoder, split)
            if found is not None:
                label = tuple(names[each] for each in found) if isinstance(found, tuple) else names[found]
                samples[position] = sample._replace(label=label)


class AnnotationReader:
    """Reads the samples of a source, of each file once: files are read to find the annotations of a folder, and then again."""

    def __init__(self, config: DataConfig):
        self.config = config
        self.cached: dict = {}

    def labels_of(self, source: Source, entry: AnnotationFormat) -> StatedLabels:
        return entry.labels_of(Path(source.path), self.config.multi_label)

    def class_names(self, source: Source, entry: AnnotationFormat) -> list[str] | None:
        return entry.class_names(Path(source.path), self.config.class_names_file, self.config.num_classes)

    def __call__(self, source: Source, entry: AnnotationFormat) -> list[VideoSample]:
        multi_label = self.labels_of(source, entry).multi_label
        return self.read(source, entry, self.class_names(source, entry), multi_label)

    def read(
        self,
        source: Source,
        entry: AnnotationFormat,
        class_names: list[str] | None,
        multi_label: bool,
        messages: list[str] | None = None,
        group_column: str | None = None,
    ) -> list[VideoSample]:
        """As `registry.read_samples`."""
        columns = {"group_column": group_column, "label_column": self.config.label_column}
        return read_samples(
            source, entry, self.config.video_root, class_names, multi_label, messages, **columns, cached=self.cached
        )


def _find_sources(
    reader: AnnotationReader, class_names: list[str] | None = None
) -> tuple[list[Source], AnnotationFormat, list[str]]:
    """The annotations, their format, and messages for the user."""
    config = reader.config
    sources, messages = find_sources(config.data, _split_files(config), config.data_format, reader, class_names or ())
    return sources, detect_format(sources) if config.data_format == AUTO else get_format(config.data_format), messages


def _split_files(config: DataConfig) -> dict[str, str]:
    files = {"train": config.train_data, "validation": config.validation_data, "test": config.test_data}
    return {split: name for split, name in files.items() if name is not None}


def _check_options(config: DataConfig, entry: AnnotationFormat) -> list[str]:
    """Messages on options without effect. Raises `ValueError` for a format that cannot be streamed."""
    if config.streaming and "streaming" not in entry.options:
        raise ValueError(
            f"streaming does not apply to the format {entry.name}: files on disk are opened one at a time anyway."
        )
    messages = [
        f"{name} has no effect: the format {entry.name} does not use it." for name in _unused_options(config, entry)
    ]
    is_buffered = config.streaming or "shuffle_buffer_size" not in entry.options
    if config.shuffle_buffer_size != DataConfig.shuffle_buffer_size and not is_buffered:
        messages.append("shuffle_buffer_size has no effect without streaming=true.")
    return messages


def _unused_options(config: DataConfig, entry: AnnotationFormat) -> list[str]:
    """Options that differ from their defaults and have no effect on this format, but on others."""
    specific = {name for each in list_formats() for name in each.options} - set(entry.options)
    return [
        each.name for each in fields(config) if each.name in specific and getattr(config, each.name) != each.default
    ]


def _read_splits(
    reader: AnnotationReader, sources: list[Source], entry: AnnotationFormat, messages: list[str]
) -> tuple[dict[str, list[VideoSample]], list[str] | None, StatedLabels]:
    """The samples of each split, the class names that the format declares, and the kind of the labels."""
    config, labels = reader.config, reader.labels_of(sources[0], entry)
    _check_multi_label(labels.multi_label, entry)
    declared = reader.class_names(sources[0], entry)
    splits: dict[str, list[VideoSample]] = {}
    for source in sources:
        samples = reader.read(source, entry, declared, labels.multi_label, messages, config.group_column)
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
    reader: AnnotationReader,
    sources: list[Source],
    entry: AnnotationFormat,
    class_names: list[str] | None,
    messages: list[str],
) -> VideoData:
    config = reader.config
    splits, declared, (multi_label, groups_of_classes) = _read_splits(reader, sources, entry, messages)
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
        held_out = set(hold_out(labels, files["train"], groups["train"], config, messages))
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
            # In the order of the groups.
            labels_of[split] = [label and tuple(sorted(label)) for label in labels_of[split]]
        if num_unknown := labels_of[split].count(None):
            messages.append(f"{num_unknown} of {len(samples)} rows of the {split} split have no label.")
        ids = _unique_ids(samples, split, messages)
        paths, segments = [sample.path for sample in samples], [sample.segment for sample in samples]
        datasets[split] = make_dataset(
            entry.media, paths, labels_of[split], ids, names, has_several, segments, frame_rates.get(split)
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
            os.path.splitext(sample.path)[1].lower() not in MEDIA_SUFFIXES and os.path.isdir(sample.path)
            for sample in samples
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


def hold_out(
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
        unit = "group" if by_group else "sample"
        messages.append(f"There is no validation split, and none can be held out: no class has two {unit}s.")
        return []
    whole = (
        f", in whole groups ({len({joined[index] for index in held_out})} of {len(set(joined))})" if by_group else ""
    )
    messages.append(
        f"There is no validation split: {len(held_out)} of {len(labels)} samples are held out for it{whole}."
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
        held_out = hold_out(list(train["label"]), files["train"], groups["train"], config, data.messages)
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
