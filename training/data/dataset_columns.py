# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Converts a data set of the `datasets` library, in memory or streamed, to the columns of `VideoData`: `video` or `image`
(undecoded), `label` (class index), `video_id`, and if the rows are parts of videos, `segment`.

`datasets` would decode with torchcodec, where one unreadable file ends a run; undecoded rows have a path or bytes for our own
decoder. Labels may be class indices, names, or integers without names, one per row or a list per row.
"""

import json
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np

from .class_names import LabelEncoder, number_names, sort_names
from .holding_out import real_paths
from .media_files import MEDIA_SUFFIXES, kind_of
from .segments import Segment, SegmentColumns


MEDIA = ("video", "image")
LABEL_COLUMNS = ("label", "labels", "cls")
JSON_COLUMN = "json"  # of a WebDataset shard with a .json file per video
# Fields of JSON with the label, the preferred first.
LABEL_FIELDS = ("label", "labels", "cls", "class", "class_name", "category", "action", "label_id")
ID_COLUMNS = ("video_id", "image_id", "id", "__key__")
ROWS_PER_HASH = 10_000
GROUP = "group"  # column of the groups that are held out together, until the splits are complete


class DatasetColumns:
    """
    Finds the columns of videos, labels and ids, and the encoding of the labels.

    dataset: a `datasets.Dataset` or `IterableDataset`.
    video_column, label_column: names of columns; by default found by type and usual name. "json.label" is the field `label` of a
        column of JSON objects, as in WebDataset shards.
    class_names: class names of a checkpoint; by default `indexed_names`, or else the names in the data set.
    indexed_names: class names of a file, in the order of integer labels without names.
    group_column: column of groups; `apply` keeps it under the name `GROUP`.

    Attributes: `media` ("video" or "image"), `names` (class names in the order of their indices, `None` for a data set without
    labels) and `is_multi_label`.

    Raises `ValueError` if a column is missing or if several columns qualify.
    """

    def __init__(
        self,
        dataset: Any,
        video_column: str | None = None,
        label_column: str | None = None,
        class_names: list[str] | None = None,
        indexed_names: list[str] | None = None,
        group_column: str | None = None,
    ):
        self.features = dataset.features
        if self.features is None:
            raise ValueError("The streamed data set does not describe its columns: open it with `features`.")
        self.video_column, self.media = self._find_video(video_column)
        self.label_column, self.label_field = self._find_label(label_column, dataset)
        self.id_column = next((name for name in ID_COLUMNS if name in self.features), None)
        if group_column is not None and group_column not in self.features:
            raise ValueError(f"The data set has no group_column {group_column!r}; it has: {', '.join(self.features)}.")
        self.group_column = group_column
        self.segments, self.object_column = self._find_segments(dataset)
        self.own_names, self.is_multi_label = None, False
        if self.label_column is not None:
            feature = self.features[self.label_column]
            feature = feature.get(self.label_field) if isinstance(feature, dict) else feature
            self.is_multi_label, self.own_names = _label_type(feature)
        self.names = class_names or indexed_names or self.own_names
        if self.names is None and self.label_column is not None:
            self.names = self._collect_names(dataset)
        self.encoder = None if self.names is None else LabelEncoder(self.names, indexed_names)

    def apply(self, dataset: Any, split: str) -> Any:
        """Convert `dataset`. Rows without an id get the id `<split>/<number>`; the id of a segment ends with its times."""
        import datasets

        features = _features(self.media, self.names, self.is_multi_label, has_segments=bool(self.segments))
        if self.group_column is not None:
            features[GROUP] = datasets.Value("string")
        # Columns of videos, images and audio would be decoded with each row, videos by torchcodec, which need not be installed.
        decoded = [name for name, feature in self.features.items() if hasattr(feature, "decode")]
        for name in decoded:
            dataset = dataset.cast_column(name, replace(self.features[name], decode=False))
        dataset = dataset.cast_column(self.video_column, features[self.media])
        if isinstance(dataset, datasets.IterableDataset):
            convert = partial(self._convert, split=split)
            return dataset.map(convert, with_indices=True, remove_columns=list(self.features), features=features)
        rest = dataset.remove_columns(
            list({self.video_column, *decoded})
        )  # so that the loop below does not read files
        # Another split may lack classes.
        is_checked = split == "train" and self.own_names is None
        if is_checked and self.encoder is not None and self.label_column is not None:
            labels = map(self._label_of, rest.with_format(None).select_columns([self.label_column]))
            labels = [each for label in labels for each in (label if isinstance(label, list) else [label])]
            self.encoder.check_positions(each for each in labels if isinstance(each, int) and each >= 0)
        rows = [self._convert(row, index, split) for index, row in enumerate(rest)]
        dataset = dataset.select_columns([self.video_column])
        if self.video_column != self.media:
            dataset = dataset.rename_column(self.video_column, self.media)
        for name in [name for name in features if name != self.media]:
            dataset = dataset.add_column(name, [row[name] for row in rows], feature=features[name])
        return dataset

    def _convert(self, row: dict, index: int, split: str) -> dict:
        try:
            label = self._encode_label(self._label_of(row)) if self.label_column else None
            cells = row if self.object_column is None else row[self.object_column] or {}
            segment = self.segments.read(cells, "its segment") if self.segments else None
        except (ValueError, TypeError) as error:
            raise ValueError(f"Row {index} of the {split} split: {error}") from None
        video_id = str(row[self.id_column]) if self.id_column else f"{split}/{index:06d}"
        if segment is not None:
            video_id = f"{video_id}#{segment}"
        converted = {"label": label, "video_id": video_id}
        if self.segments:
            converted["segment"] = None if segment is None else segment._asdict()
        if self.group_column is not None:
            group = row[self.group_column]
            converted[GROUP] = None if group in (None, "") else str(group)
        return converted | ({self.media: row[self.video_column]} if self.video_column in row else {})

    def _label_of(self, row: dict) -> Any:
        value = row[self.label_column]
        if self.label_field is None or value is None:
            return value
        if not isinstance(value, dict) or self.label_field not in value:
            raise ValueError(f"the {self.label_column} object has no field {self.label_field!r}.")
        return value[self.label_field]

    def _encode_label(self, label: Any) -> Any:
        if self.is_multi_label:
            return None if label is None else [self._encode_one(each) for each in label]
        return self._encode_one(label)

    def _encode_one(self, label: Any) -> int | None:
        if label is None or label == -1:  # the unknown label of a ClassLabel column
            return None
        if isinstance(label, int) and self.own_names is not None:
            if not 0 <= label < len(self.own_names):
                raise ValueError(
                    f"the {self.label_column} is {label}, but its {len(self.own_names)} classes have the numbers 0 to "
                    f"{len(self.own_names) - 1}, and -1 is no label."
                )
            label = self.own_names[label]
        return self.encoder(label)

    def _find_video(self, given: str | None) -> tuple[str, str]:
        if given is not None and given not in self.features:
            raise ValueError(f"The data set has no column {given!r}; it has: {', '.join(self.features)}.")
        types = {name: _media_of(name, feature) for name, feature in self.features.items()}
        candidates = [given] if given else [name for name, kind in types.items() if kind in MEDIA]
        candidates = candidates or [name for name in MEDIA if name in self.features]
        if len(candidates) != 1:
            found = f"several video or image columns ({', '.join(candidates)})" if candidates else "no video column"
            raise ValueError(f"The data set has {found}; set video_column. It has: {', '.join(self.features)}.")
        (name,) = candidates
        return name, types[name] or "video"

    def _find_label(self, given: str | None, dataset: Any) -> tuple[str | None, str | None]:
        """The column of labels, and the field of its objects; `None` without labels, and for a column of plain labels."""
        column, _, field = (given or "").partition(".")
        if given is not None and given not in self.features and column not in self.features:
            raise ValueError(f"The data set has no column {given!r}; it has: {', '.join(self.features)}.")
        if given is not None:
            column = given if given in self.features else column
            return column, self._find_field(column, field if column != given else "", dataset)
        typed = [name for name, feature in self.features.items() if _label_type(feature)[1] is not None]
        usual = [name for name in LABEL_COLUMNS if name in self.features]
        if not usual and len(typed) > 1:
            raise ValueError(f"The data set has several label columns ({', '.join(typed)}); set label_column.")
        if not usual and not typed and JSON_COLUMN in self.features:
            return JSON_COLUMN, self._find_field(JSON_COLUMN, "", dataset)
        column = next(iter(usual or typed), None)
        return column, None if column is None else self._find_field(column, "", dataset)

    def _find_segments(self, dataset: Any) -> tuple[SegmentColumns, str | None]:
        """The columns of time segments, and the column of objects that has them as fields, `None` for plain columns."""
        if self.media != "video":
            return SegmentColumns(), None
        others = (self.video_column, self.label_column, self.id_column, self.group_column)
        found = SegmentColumns.find(list(self.features), others)
        if not found and self.label_field is not None:
            fields = SegmentColumns.find(list(self._fields_of(self.label_column, dataset) or []), (self.label_field,))
            if fields:
                return fields, self.label_column
        return found, None

    def _fields_of(self, column: str, dataset: Any) -> dict | None:
        """The fields of a column of objects, by its type, or in a column of JSON by the first row; `None` for other columns."""
        feature = self.features[column]
        if type(feature).__name__ == "Json":
            feature = next(iter(dataset.select_columns([column])), {}).get(column)
        return feature if isinstance(feature, dict) else None

    def _find_field(self, column: str, given: str, dataset: Any) -> str | None:
        """The field with the label, if the column holds objects. Raises `ValueError` if there is none."""
        feature = self._fields_of(column, dataset)
        if feature is None:
            return None
        found = (
            given if given in feature else next((name for name in LABEL_FIELDS if name in feature and not given), None)
        )
        if found is None:
            raise ValueError(
                f"The objects in the column {column!r} have no field {given or 'label'!r}, but {', '.join(feature)}; set "
                f"label_column to one of them, as {column}.FIELD."
            )
        return found

    def _collect_names(self, dataset: Any) -> list[str]:
        """The names in a text column; for an integer column, the numbers from 0 to the largest label."""
        if not hasattr(dataset, "unique"):
            raise ValueError(
                f"The column {self.label_column!r} of a streamed data set has no class names; set class_names_file."
            )
        labels = map(self._label_of, dataset.with_format(None).select_columns([self.label_column]))
        labels = {each for label in labels for each in ((label or []) if self.is_multi_label else [label])} - {
            None,
            -1,
        }
        if all(isinstance(label, int) for label in labels):
            return number_names(labels)
        return sort_names(map(str, labels))


def make_dataset(
    media: str,
    paths: list[str],
    labels: list,
    video_ids: list[str],
    names: list[str] | None,
    multi_label: bool = False,
    segments: list[Segment | None] | None = None,
    fps: list[float | None] | None = None,
) -> Any:
    """
    A `datasets.Dataset` of undecoded files.

    labels: class indices, lists or tuples of class indices (`multi_label`), or `None`.
    segments: the part of each video that is its clip; `None` for whole videos.
    fps: frame rate of each frame folder, `None` for a file and for an unknown rate; no list if all videos are files.
    """
    import datasets
    import pyarrow

    columns: dict[str, list] = {"label": labels, "video_id": video_ids}
    has_segments = segments is not None and any(segment is not None for segment in segments)
    if has_segments:
        columns["segment"] = [None if segment is None else segment._asdict() for segment in segments]
    if fps is not None:
        columns["fps"] = fps
    features = _features(media, names, multi_label, has_segments, fps is not None)
    schema = features.arrow_schema
    # `Dataset.from_dict` encodes cell by cell, which takes most of the time of reading 240,000 rows.
    arrays = {name: pyarrow.array(values, schema.field(name).type) for name, values in columns.items()}
    no_bytes = pyarrow.nulls(len(paths), pyarrow.binary())
    files = {"bytes": no_bytes, "path": pyarrow.array(paths, pyarrow.string())}
    arrays[media] = pyarrow.StructArray.from_arrays(list(files.values()), names=list(files))
    table = pyarrow.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features))


def arrow_column(dataset: Any, column: str, field: str | None = None) -> Any:
    """A column of a `Dataset`, or a field of its objects, as a `pyarrow.ChunkedArray`; values in a file stay there."""
    import pyarrow.compute as pc

    values = dataset.select_columns([column]).with_format("arrow")[:].column(0)
    return values if field is None else pc.struct_field(values, field)


def count_labels(dataset: Any, num_classes: int) -> tuple[np.ndarray, int]:
    """The number of rows of each class, int64 `(num_classes,)`, and the number of rows with a label or a list of labels."""
    import pyarrow
    import pyarrow.compute as pc

    labels = arrow_column(dataset, "label")
    num_known = len(labels) - labels.null_count
    if pyarrow.types.is_list(labels.type):
        labels = pc.list_flatten(labels)
    return np.bincount(labels.drop_null().to_numpy(), minlength=num_classes), num_known


def fingerprint_rows(data: Any) -> str:
    """
    A hash of the classes of a `VideoData` and of the ids, labels and segments of its rows; of a stream, its name. It is the same for
    rows in memory and rows of an index.
    """
    import pyarrow

    digest = blake2b(json.dumps([data.media, data.class_names, data.label_groups]).encode(), digest_size=16)
    for split, rows in data.splits.items():
        is_stream = not hasattr(rows, "__len__")
        digest.update(f"{split} {None if is_stream else len(rows)}".encode())
        for name in () if is_stream else ("video_id", "label", "segment"):
            column = arrow_column(rows, name) if name in rows.features else ()
            for start in range(0, len(column), ROWS_PER_HASH):
                part = column.slice(start, ROWS_PER_HASH).combine_chunks()
                digest.update(pyarrow.record_batch([part], names=[name]).serialize())
    return digest.hexdigest()


def without_group(dataset: Any) -> Any:
    """`dataset` without the column `GROUP`."""
    return dataset.remove_columns([GROUP]) if GROUP in (dataset.column_names or []) else dataset


def source_keys(dataset: Any, media: str) -> list[str | tuple[str, int] | None]:
    """
    A key of the file of each row, equal for rows of one file: the path with links resolved; for a file whose bytes are in the
    data set, its name and size, or `None` without a name.
    """
    import pyarrow.compute as pc

    paths: list[str | None] = []
    sizes: list[int | None] = []
    for batch in dataset.select_columns([media]).with_format("arrow").iter(batch_size=64):
        column = batch.column(0)
        paths += pc.struct_field(column, "path").to_pylist()
        sizes += pc.binary_length(pc.struct_field(column, "bytes")).to_pylist()
    files = iter(real_paths(path for path, size in zip(paths, sizes, strict=True) if path and size is None))
    return [
        None if not path else next(files) if size is None else (path, size)
        for path, size in zip(paths, sizes, strict=True)
    ]


def check_frame_rates(rows: Any, sampling: str) -> None:
    """Raise `ValueError` if clips are sampled at a rate, but the rows are frame folders without one."""
    if sampling == "fixed_rate" and "fps" in (rows.column_names or []) and all(fps is None for fps in rows["fps"]):
        raise ValueError(
            "Clips at a fixed rate (fps) need the frame rate of the folders of frames: set frame_folder_fps, or sampling=uniform."
        )


def row_source(row: dict[str, Any], media: str) -> dict[str, Any]:
    """
    The source of a row for `tubevit.processing.decode_video`: path or bytes, with the segment of the row, and for frame folders
    their frame rate.
    """
    source = {**row[media], "fps": row.get("fps")}
    source |= {name: value for name, value in (row.get("segment") or {}).items() if value is not None}
    return source if source["fps"] is not None else {name: value for name, value in source.items() if name != "fps"}


def segment_of(row: dict[str, Any]) -> Segment | None:
    """The segment of a row; `None` for a whole video."""
    return None if row.get("segment") is None else Segment(**row["segment"])


def _features(
    media: str, names: list[str] | None, is_multi_label: bool, has_segments: bool = False, has_fps: bool = False
) -> Any:
    from datasets import ClassLabel, Features, Image, List, Value, Video

    label = ClassLabel(names=names) if names else Value("int64")
    undecoded = Video(decode=False) if media == "video" else Image(decode=False)
    label = List(label) if is_multi_label else label
    features = Features({media: undecoded, "label": label, "video_id": Value("string")})
    if has_segments:
        types = ("float64", "float64", "int64", "int64", "bool")
        features["segment"] = {name: Value(kind) for name, kind in zip(Segment._fields, types, strict=True)}
    if has_fps:
        features["fps"] = Value("float64")
    return features


def _media_of(name: str, feature: Any) -> str | None:
    """
    "video" or "image" for a column of this type, or of bytes with the name of a suffix, as in WebDataset shards; else `None`.
    """
    kind = type(feature).__name__.lower()
    if kind in MEDIA:
        return kind
    is_bytes = getattr(feature, "dtype", None) in ("binary", "large_binary")
    suffix = f".{name.rpartition('.')[2].lower()}"
    return kind_of(suffix[1:] + suffix) if is_bytes and suffix in MEDIA_SUFFIXES else None


def _label_type(feature: Any) -> tuple[bool, list[str] | None]:
    """Whether a column holds lists, and its class names; `None` unless its type is `ClassLabel`."""
    from datasets import ClassLabel, LargeList, List

    is_list = isinstance(feature, (List, LargeList))
    each = feature.feature if is_list else feature
    return is_list, list(each.names) if isinstance(each, ClassLabel) and each.names else None
