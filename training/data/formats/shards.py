# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Shards with videos, on a disk or in remote storage: those of `tubevit data shard`, and tar files of the WebDataset convention with
labels in `.cls`, `.json` or `.txt`.

A location is a folder or the URL of one, a tar, a pattern (`train-*.tar`) or a numbered series (`train-{000..127}.tar`).
"""

import glob
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..dataset_columns import LABEL_FIELDS
from ..media_files import VIDEO_SUFFIXES, count, shorten
from ..recorded_inputs import record_folder
from ..segments import Segment, SegmentColumns
from ..shards import (
    MANIFEST,
    PATTERN,
    SERIES,
    UNFINISHED,
    Address,
    Manifest,
    ShardError,
    as_location,
    filesystem,
    is_remote,
    is_several,
    read_clips,
    read_manifest,
)
from ..tar_scan import LABEL_SUFFIXES, TarMember, holds_videos, scan_tars, suffix_of
from .registry import AnnotationFormat, ReadContext, StatedLabels, read_names_file, register_format
from .samples import VideoSample, split_of, split_of_file


COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
NUM_SNIFFED = 3  # tars of a folder


def sniff_shards(path: Path) -> bool:
    location = as_location(path)
    if is_remote(location) or path.name == MANIFEST or (is_several(location) and not path.exists()):
        return True
    if path.is_dir():
        return any(map(holds_videos, sorted(path.rglob("*.tar"))[:NUM_SNIFFED]))
    return path.suffix == ".tar" and holds_videos(path)


def stated_labels(path: Path) -> StatedLabels | None:
    """What a manifest states on the labels; `None` without a manifest."""
    manifest = read_manifest(as_location(path))
    return None if manifest is None else StatedLabels(manifest.multi_label, tuple(manifest.label_groups))


def shard_class_names(path: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """The names in `class_names_file`, or those of the manifest."""
    manifest = None if names_file else read_manifest(as_location(path))
    return read_names_file(path, names_file, num_classes) if manifest is None else manifest.class_names


def read_shards(path: Path, context: ReadContext) -> list[VideoSample]:
    """
    The clips of shards. Their paths are addresses (`shards.Address`).

    Raises `ShardError` and `FileNotFoundError`, naming shard and member, for what cannot be read.
    """
    location = as_location(path)
    manifest = read_manifest(location)
    return _read_scanned(location, context) if manifest is None else _read_indexed(manifest, context)


def _read_indexed(manifest: Manifest, context: ReadContext) -> list[VideoSample]:
    samples = [
        VideoSample(str(address), clip.label, clip.video_id, clip.split, clip.segment, clip.group)
        for address, clip in read_clips(manifest)
    ]
    if context.label_column is not None:
        context.tell([f"label_column has no effect: {MANIFEST} states the labels."])
    if context.group_column is not None and not any(sample.group for sample in samples):
        raise ShardError(
            f"{manifest.folder} has no groups: write the shards with group_column={context.group_column}."
        )
    videos = sum(shard["num_videos"] for shard in manifest.shards)
    stored = f"{count(len(samples), 'clip')} of {count(videos, 'video')} in {count(len(manifest.shards), 'shard')}"
    context.tell([f"{manifest.folder} holds {stored}."])
    return samples


# Tar files without a manifest


class _Sample(NamedTuple):
    """The members of one name in a tar. video, label: their members; the label is `None` for a sample without one."""

    shard: str
    key: str
    video: TarMember
    label: TarMember | None


def _read_scanned(location: str, context: ReadContext) -> list[VideoSample]:
    shards = find_tars(location)
    samples: list[_Sample] = []
    left_out: list[str] = []
    for shard, members in scan_tars(shards):
        samples += _group(shard, members, context.label_column, left_out)
    if not samples:
        raise ShardError(f"{location} holds no tar with a video ({shorten(shards)}).")
    if left_out:
        context.tell(
            [
                f"Left out: {count(len(left_out), 'member')} of shards that hold no video or label ({shorten(left_out, 1)})."
            ]
        )
    labels = {suffix_of(sample.label.name) for sample in samples if sample.label is not None}
    context.tell(
        [
            f"{count(len(samples), 'video')} in {count(len(shards), 'tar file')}; labels: {', '.join(sorted(labels)) or 'none'}."
        ]
    )
    if context.label_column is not None and not labels:
        raise ShardError(
            f"No video in {location} has the member that label_column={context.label_column} names, such as {samples[0].key}."
            f"{context.label_column.partition('.')[0]}; it takes cls, txt, json or json.FIELD."
        )
    without = [sample for sample in samples if sample.label is None]
    if labels and without:
        first = without[0]
        raise ShardError(
            f"The shard {first.shard} holds {first.video.name} without a label, and {len(without):,} of {len(samples):,} videos "
            f"have none: add {first.key}{min(labels)}."
        )
    repeats = len({sample.key for sample in samples}) < len(samples)  # numbers that start again in each shard
    read = _LabelReader(context)
    return [read(sample, f"{Path(sample.shard).stem}/{sample.key}" if repeats else sample.key) for sample in samples]


def find_tars(location: str) -> list[str]:
    """
    The tar files of a location, sorted by path.

    Raises `FileNotFoundError` if there are none, and `ShardError` for compressed tars, which cannot be read at any place.
    """
    if series := SERIES.search(location):
        first, last = series.groups()
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        return [each for number in numbers for each in find_tars(SERIES.sub(number, location, count=1))]
    if location.endswith(".tar") and (os.path.isfile(location) or not PATTERN.search(location)):
        return [location]
    if os.path.isdir(os.path.join(location, UNFINISHED)):
        raise ShardError(f"{location} is not complete: call `tubevit data shard` again to write the other shards.")
    names = list(_list_files(location))
    found = sorted(name for name in names if name.endswith(".tar"))
    if compressed := sorted(name for name in names if name.endswith(COMPRESSED)):
        raise ShardError(
            f"{compressed[0]} is compressed, so its videos cannot be read one at a time: unpack it to a .tar."
        )
    if not found:
        raise FileNotFoundError(f"There is no {MANIFEST} and no tar file in {location}.")
    return found


def _list_files(location: str) -> Iterator[str]:
    is_pattern = PATTERN.search(location) is not None and not os.path.isdir(location)
    if not is_remote(location):
        record_folder(os.path.dirname(location))
        if is_pattern:
            yield from glob.glob(location)
            return
        for folder, folders, names in os.walk(location):
            record_folder(folder)
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (os.path.join(folder, name) for name in names if not name.startswith("."))
        return
    fs, path = filesystem(location)
    try:
        found = fs.glob(path) if is_pattern else fs.find(path)
    except (OSError, ValueError) as error:
        raise ShardError(f"{location} cannot be listed: {' '.join(str(error).split())}.") from error
    yield from map(fs.unstrip_protocol, found)


def _group(
    shard: str, members: Iterable[TarMember], label_column: str | None, left_out: list[str]
) -> Iterator[_Sample]:
    """The samples of a tar that have a video. Raises `ShardError` for a name that two members have, and for two videos."""
    by_key: dict[str, dict[str, TarMember]] = {}
    for member in members:
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        stem, _, suffix = name.partition(".")
        is_hidden = not stem or any(part.startswith((".", "__MACOSX")) for part in folder.split("/"))
        kind = suffix_of(member.name)
        if is_hidden or not (kind in VIDEO_SUFFIXES or (kind in LABEL_SUFFIXES and member.text is not None)):
            left_out.append(f"{shard}: {member.name}")
            continue
        fields = by_key.setdefault(f"{folder}{slash}{stem}", {})
        if suffix in fields:
            raise ShardError(f"The shard {shard} holds two members {member.name}.")
        fields[suffix] = member
    column = (label_column or "").partition(".")[0]
    for key, fields in by_key.items():
        videos = [name for name in fields if f".{name.rpartition('.')[2].lower()}" in VIDEO_SUFFIXES]
        if not videos:
            left_out += [f"{shard}: {member.name}" for member in fields.values()]
            continue
        if len(videos) > 1:
            names = " and ".join(fields[name].name for name in videos)
            raise ShardError(f"The shard {shard} holds two videos for one label: {names}.")
        order = [column] if column else [suffix.removeprefix(".") for suffix in LABEL_SUFFIXES]
        yield _Sample(shard, key, fields[videos[0]], next((fields[name] for name in order if name in fields), None))


class _LabelReader:
    """Makes the `VideoSample` of a sample. The field of the label and those of a segment are found in the first sample."""

    def __init__(self, context: ReadContext):
        self.context = context
        field = (context.label_column or "").partition(".")[2]
        self.path = field.split(".") if field else None  # of the label in JSON
        self.times: SegmentColumns | None = None

    def __call__(self, sample: _Sample, video_id: str) -> VideoSample:
        video, where = sample.video, f"The shard {sample.shard}"
        address = Address(sample.shard, video.offset, video.size, None, video.name)
        split = split_of_file(Path(sample.shard)) or split_of(Path(sample.shard).parent.name)
        if sample.label is None:
            return VideoSample(str(address), None, video_id, split)
        where = f"{where}: {sample.label.name}"
        content = self._parse(sample.label, where)
        segment, group = None, None
        if isinstance(content, dict):
            segment, group = self._segment(content, where), self._group(content, where)
            content = self._label_in(content, where)
        label = self._check_label(content, where)
        if segment is not None:
            video_id = f"{video_id}#{segment}"
        return VideoSample(str(address), label, video_id, split, segment, group)

    def _parse(self, member: TarMember, where: str) -> Any:
        text = (member.text or "").strip()
        if suffix_of(member.name) != ".json":
            return int(text) if text.isdecimal() else text or None
        try:
            return json.loads(text)
        except ValueError as error:
            raise ShardError(f"{where} is not JSON: {error}.") from None

    def _label_in(self, content: dict, where: str) -> Any:
        if self.path is None:
            self.path = find_label(content, where)
        value: Any = content
        for name in self.path:
            if not isinstance(value, dict) or name not in value:
                known = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise ShardError(
                    f"{where} has no field {name!r}, but {known}; set label_column to one of them, as json.FIELD."
                )
            value = value[name]
        return value

    def _segment(self, content: dict, where: str) -> Segment | None:
        if self.times is None:
            self.times = SegmentColumns.find(list(content), (*LABEL_FIELDS, self.context.group_column))
            self.context.tell(self.times.messages())
        return self.times.read(content, where) if self.times else None

    def _group(self, content: dict, where: str) -> str | None:
        name = self.context.group_column
        if name is None:
            return None
        if name not in content:
            raise ShardError(f"{where} has no field {name!r}, which group_column names, but {', '.join(content)}.")
        return str(content[name]) if content[name] not in (None, "") else None

    def _check_label(self, label: Any, where: str) -> str | int | tuple | None:
        is_list = isinstance(label, list)
        labels = label if is_list else [label]
        known = [] if label is None else labels
        if not all(isinstance(each, (str, int)) and not isinstance(each, bool) for each in known):
            raise ShardError(
                f"{where}: the label is {json.dumps(label)[:60]}, not a name or a number; set label_column."
            )
        if is_list and not self.context.multi_label:
            raise ShardError(f"{where} has a list of labels: set multi_label=true.")
        if self.context.multi_label and label is not None:
            return tuple(dict.fromkeys(labels))
        return label


def find_label(content: dict, where: str) -> list[str]:
    """
    The path of the label in a JSON object: a usual name of a label, as near to the top as possible.

    >>> find_label({"id": 3, "annotation": {"class": "run"}}, "a.json")
    ['annotation', 'class']
    """
    level = [([], content)]
    while level:
        for name in LABEL_FIELDS:
            found = [path for path, value in level if name in value]
            if len(found) > 1:
                names = " and ".join("json." + ".".join([*path, name]) for path in found)
                raise ShardError(f"{where} has several labels: set label_column to one of {names}.")
            if found:
                return [*found[0], name]
        level = [
            ([*path, name], value) for path, each in level for name, value in each.items() if isinstance(value, dict)
        ]
    raise ShardError(
        f"{where} has no field 'label', but {', '.join(content)}; set label_column to one of them, as json.FIELD."
    )


register_format(
    AnnotationFormat(
        name="shards",
        description="shards of `tubevit data shard`, or tar files with videos and their labels in .cls, .txt or .json; a folder, a "
        "tar, train-{000..127}.tar, or their URL",
        sniff=sniff_shards,
        read=read_shards,
        priority=10,
        layout="shards",
        folder_markers=(MANIFEST,),
        multi_label=(False, True),
        stated_labels=stated_labels,
        class_names=shard_class_names,
        options=("label_column", "group_column", "streaming", "shuffle_buffer_size"),
    )
)
