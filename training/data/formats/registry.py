# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Registry of annotation formats: detects the format of annotations, and reads them. `folder_layout` finds them in a folder.

A format is one module of this folder that calls `register_format(AnnotationFormat(...))`. All modules of the folder
are imported, so a new format needs one new file: its entry determines the choices of `data_format` in `--help`, detection,
the check of the number of classes, and error messages. Code outside this folder may call `register_format` before it parses
options.
"""

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..class_names import read_class_names
from ..media_files import MediaFolder
from ..text_tables import read_header, read_json, sniff_text
from .samples import VideoFolder, VideoSample, split_of


AUTO = "auto"
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class AnnotationError(ValueError):
    """
    Annotations that cannot be read; for readers outside of this package.

    Commands print the message of an `AnnotationError` on one line. They print a `ValueError` on one line only if a module of
    this package raises it, else with its traceback, as a programming error.
    """


class ReadContext(NamedTuple):
    """
    Arguments of `AnnotationFormat.read` besides the path of the annotations.

    videos: the folder of the videos; `None` for a format with layout "shards".
    class_names: result of `AnnotationFormat.class_names`; `None` if the labels are the names of the classes.
    multi_label: whether the label of a `VideoSample` is a tuple.
    folder: the scanned folder of a format with layout "folder".
    messages: sentences for the user, to which a reader may append.
    group_column: column of `VideoSample.group`.
    label_column: column of the label, if the user names it.
    """

    videos: VideoFolder | None
    class_names: list[str] | None
    multi_label: bool
    folder: MediaFolder | None = None
    messages: list[str] | None = None
    group_column: str | None = None
    label_column: str | None = None

    def tell(self, messages: Iterable[str]) -> None:
        """Append to `messages`."""
        if self.messages is not None:
            self.messages.extend(message for message in messages if message not in self.messages)


def read_names_file(annotations: Path, names_file: str | None, num_classes: int | None) -> list[str] | None:
    """The names in `class_names_file`, or `None` without a file; the default of `AnnotationFormat.class_names`."""
    return read_class_names(names_file) if names_file else None


class StatedLabels(NamedTuple):
    """The fields `multi_label` and `label_groups` of annotations: whether a video has several labels, and the groups of classes."""

    multi_label: bool
    label_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnnotationFormat:
    """
    Entry of an annotation format.

    name: value of the option `data_format`.
    description: short description of the annotations, for help and errors.
    sniff: whether a path (file, folder, or name that does not exist) has this format; reads a small part and never raises.
    sniff_folders: the same for the scanned folders of all splits, for a format with layout "folder".
    read: returns the samples of an annotation file or folder. For a line that cannot be read, it raises `AnnotationError`
        (inside this package `ValueError`) with the number of the line.
    open_splits: used instead of `read` by formats that `datasets` opens: `(path, DataConfig) -> {split: datasets.Dataset}`.
    priority: formats are sniffed in ascending order of priority; the formats of this package have priorities of 10 and above.
    layout: "file"; "folder" for class folders; "shards" for files that hold videos, also by URL; "dataset" for a format with `open_splits`, which also takes Hub names and every
        folder that no other format recognizes.
    needs_split: whether each split needs its own file, because samples do not name their split. A single file is then the
        training split.
    file_group: for a format whose annotations of one data set are many files in a folder: the path of a file to a key that is the
        same for all files that are read with it.
    suffixes: suffixes of annotation files, to find them in a folder.
    ignored_files: patterns of file names that are not annotations, although suffix and split match.
    folder_markers: names of files; a folder that contains one of them has this format.
    media: "video" or "image".
    multi_label: allowed values of the option `multi_label`, the default first.
    label_groups: names of groups of classes; a video has one label of each group, which is trained with a softmax of its own
        ("multi-task heads"). The name of a class begins with that of its group, "noun: tap", and the label of a `VideoSample` is a tuple
        with the name of a class of each group. Empty: one group of all classes.
    stated_labels: the labels that annotations state themselves, `None` if they do not; it replaces `label_groups` and the default of
        `multi_label`.
    class_counts: allowed numbers of classes, unless the option `num_classes` is given; empty for any number.
    class_names: `(annotations, class_names_file, num_classes)` to the classes in the order of their indices; `None` if the
        labels are the names of the classes.
    options: options of `DataConfig` that this format uses and some other formats ignore.
    """

    name: str
    description: str
    sniff: Callable[[Path], bool]
    sniff_folders: Callable[[list[MediaFolder]], bool] | None = None
    read: Callable[[Path, ReadContext], list[VideoSample]] | None = None
    open_splits: Callable[[str, Any], dict[str, Any]] | None = None
    priority: int = 0
    layout: Literal["file", "folder", "shards", "dataset"] = "file"
    needs_split: bool = False
    file_group: Callable[[Path], Any] | None = None
    suffixes: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    folder_markers: tuple[str, ...] = ()
    media: Literal["video", "image"] = "video"
    multi_label: tuple[bool, ...] = (False,)
    label_groups: tuple[str, ...] = ()
    stated_labels: Callable[[Path], StatedLabels | None] | None = None
    class_counts: tuple[int, ...] = ()
    class_names: Callable[[Path, str | None, int | None], list[str] | None] = read_names_file
    options: tuple[str, ...] = ("video_root", "frame_folder_fps")

    def __post_init__(self):
        if not self.name.isidentifier() or self.name == AUTO:
            raise ValueError(f"The name of a format must be an identifier other than {AUTO!r}, got {self.name!r}.")
        if (self.read is None) == (self.open_splits is None) or (self.layout == "dataset") != (self.read is None):
            raise ValueError(
                f"The format {self.name} needs either read, or open_splits with layout='dataset'; its layout is "
                f"{self.layout!r}."
            )

    def labels_of(self, annotations: Path, multi_label: bool | None) -> StatedLabels:
        """Whether samples have several labels, and their groups of classes. multi_label: the option."""
        stated = None if self.stated_labels is None else self.stated_labels(annotations)
        stated = stated or StatedLabels(self.multi_label[0], self.label_groups)
        return stated if multi_label is None else stated._replace(multi_label=multi_label)

    @property
    def is_indexed(self) -> bool:
        """
        Whether `annotation_index` stores the rows: not those of `datasets`, which has indexes, nor those of a reader of another
        package, which does not record what it reads.
        """
        return self.layout != "dataset" and self.read.__module__.startswith(__package__)


_REGISTERED: dict[str, AnnotationFormat] = {}
_OPTION_METADATA: dict[str, Any] = {"help": "", "choices": []}


def register_format(entry: AnnotationFormat) -> None:
    """Add a format. Raises `ValueError` if another format has its name."""
    if _REGISTERED.setdefault(entry.name, entry) != entry:
        raise ValueError(f"There is a format {entry.name!r} already; choose another name.")
    ordered = sorted(_REGISTERED.values(), key=lambda each: (each.priority, each.name))
    listed = "; ".join(f"{each.name}: {each.description}" for each in ordered)
    _OPTION_METADATA["help"] = f"format of the annotations. auto: detected from their content; {listed}"
    _OPTION_METADATA["choices"][:] = [AUTO, *(each.name for each in ordered)]


@functools.cache
def _import_formats() -> None:
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def list_formats() -> list[AnnotationFormat]:
    """All formats in the order in which they are sniffed."""
    _import_formats()
    return sorted(_REGISTERED.values(), key=lambda each: (each.priority, each.name))


def get_format(name: str) -> AnnotationFormat:
    """The format with a name. Raises `ValueError` for an unknown name."""
    formats = {each.name: each for each in list_formats()}
    if name not in formats:
        raise ValueError(f"data_format must be {AUTO} or one of {', '.join(formats)}, got {name!r}.")
    return formats[name]


def data_format_metadata() -> dict[str, Any]:
    """Help and choices of the option `data_format`. Always the same object, which `register_format` updates."""
    list_formats()
    return _OPTION_METADATA


class Source(NamedTuple):
    """
    An annotation file or folder, or the name of a data set.

    split: its split; `None` if the annotations name the split.
    folder: the scanned folder, for class folders.
    videos: where its videos are, by default in the folder of the annotations.
    """

    path: str
    split: str | None
    folder: MediaFolder | None = None
    videos: VideoFolder | None = None


def detect_format(sources: list[Source]) -> AnnotationFormat:
    """The format of `sources`. Raises `ValueError` if it is unknown, or if the sources have different formats."""
    folders = [source.folder for source in sources if source.folder is not None]
    if len(folders) == len(sources):  # decided for all splits together
        for each in list_formats():
            if each.sniff_folders is not None and each.sniff_folders(folders):
                return each
    found = {source.path: _sniff(Path(source.path)) for source in sources}
    if len({each.name for each in found.values()}) > 1:
        listed = ", ".join(f"{path} is {each.name}" for path, each in found.items())
        raise ValueError(f"The splits have different formats: {listed}.")
    return next(iter(found.values()))


def read_samples(
    source: Source,
    entry: AnnotationFormat,
    video_root: str | None,
    class_names: list[str] | None,
    multi_label: bool,
    messages: list[str] | None = None,
    group_column: str | None = None,
    label_column: str | None = None,
    cached: dict | None = None,
) -> list[VideoSample]:
    """
    The samples of a source. If the source is given as one split but names several, only the samples of that split. If no row
    states a split, but the paths of all rows contain folders of splits, these are the splits.

    video_root: folder of the videos, by default that of the source.
    messages: sentences for the user are appended to it.
    group_column, label_column: as in `ReadContext`.
    cached: what was read by earlier calls, for a caller that reads a file twice.
    """
    path, messages, cached = (
        Path(source.path),
        messages if messages is not None else [],
        {} if cached is None else cached,
    )
    if path.is_dir() and entry.layout == "file":
        readers = {
            layout: " or ".join(f"data_format={each.name}" for each in list_formats() if each.layout == layout)
            for layout in ("folder", "shards")
        }
        raise ValueError(
            f"{path} is a folder; the format {entry.name} needs an annotation file (for class folders use {readers['folder']}, for "
            f"shards {readers['shards']})."
        )
    if not path.is_dir() and entry.layout == "folder":
        raise ValueError(f"{path} is not a folder; the format {entry.name} reads class folders.")
    folder = path if path.is_dir() else path.parent
    given = video_root if video_root and "video_root" in entry.options else None
    videos = source.videos
    if entry.layout != "shards" and (videos is None or given is not None):
        videos = VideoFolder(given or folder)
    names = None if class_names is None else tuple(class_names)
    key = (source.path, entry.name, source.videos, multi_label, group_column, label_column, names)
    if key not in cached:
        context = ReadContext(videos, class_names, multi_label, source.folder, [], group_column, label_column)
        cached[key] = (entry.read(path, context), context.messages)
    samples, told = cached[key]
    messages += [message for message in told if message not in messages]
    if source.split is None:
        return _split_by_folder(samples, path, messages)
    # If the file has one split, its name may differ from that of the source.
    if len({sample.split for sample in samples}) > 1:
        samples = [sample for sample in samples if sample.split == source.split]
        if not samples:
            raise ValueError(f"{source.path} holds several splits, but no row of {source.split}.")
    return [sample._replace(split=source.split) for sample in samples]


def _split_by_folder(samples: list[VideoSample], annotations: Path, messages: list[str]) -> list[VideoSample]:
    """The samples with the splits that are in the names of the videos' folders, if no row states a split."""
    if any(sample.split for sample in samples):
        return samples
    splits = [next(filter(None, map(split_of, Path(sample.video_id).parts[:-1])), None) for sample in samples]
    if None in splits or len(set(splits)) < 2:
        return samples
    messages.append(f"The splits are those of the folders that {annotations.name} names.")
    return [sample._replace(split=split) for sample, split in zip(samples, splits, strict=True)]


def marked_format(folder: Path) -> AnnotationFormat | None:
    """The format whose `folder_markers` a folder contains."""
    return next(
        (each for each in list_formats() if any((folder / name).is_file() for name in each.folder_markers)), None
    )


def _sniff(path: Path) -> AnnotationFormat:
    if path.is_dir() and (marked := marked_format(path)):
        return marked
    for each in list_formats():
        if each.sniff(path):
            return each
    if not path.is_file():
        return next(each for each in list_formats() if each.layout == "dataset")
    raise ValueError(unknown_format(path))


def unknown_format(path: Path) -> str:
    """The text of the error for a file in no known format. Raises `ValueError` for an empty file, and for text that is not JSON in a
    `.json` file."""
    if path.suffix.lower() == ".json":
        read_json(path)
        start = " ".join(sniff_text(path).split())[:80]
    else:
        start = ",".join(read_header(path))[:80]
    listed = "; ".join(f"{each.name}: {each.description}" for each in list_formats() if each.layout == "file")
    return f"{path} is in no known format; it begins with {start!r}. Formats: {listed}."
