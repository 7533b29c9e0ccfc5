# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The options of a data set, `DataConfig`, and the data set as `video_datasets.load_video_dataset` reads it, `VideoData`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ..option_types import AT_LEAST_1, POSITIVE, SEED, Range, check_ranges, option
from .formats.registry import AUTO, data_format_metadata, get_format
from .holding_out import GroupPattern


# The option `decoder`, see `torchcodec_decoding`.
Decoder = Literal["av", "torchcodec-cpu", "torchcodec-cuda"]
DECODER_HELP = (
    "decoder of videos; av: PyAV; torchcodec-cuda: torchcodec on an NVIDIA GPU, without loader workers or in spawned ones; "
    "torchcodec-cpu: torchcodec on the CPU, to compare"
)


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
        "number of classes that the data must have (default: that of the annotation format, such as 400, 600 or 700 for kinetics; else any number)",
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
        "data set on the Hub: stream it instead of downloading it first; shards of videos: read one shard after the other, for remote storage; "
        "corrupt videos are then found during training",
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
        None,
        "frame rate of videos that are stored as folders of pictures, in frames per second; required for sampling=fixed_rate",
    )
    group_column: str | None = option(
        None,
        "column of a person, camera or film whose videos are held out together (default: none; rows of the same file are always held out together)",
    )
    group_pattern: str | None = option(
        None,
        "regular expression with a capture group that matches the person, camera or film in the name of a video, such as '_g(\\d+)_' for "
        "UCF101; videos with the same match are held out together",
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
    index: file of the index that the splits are mapped from; `None` for splits in memory.
    """

    splits: dict[str, Any]
    class_names: list[str]
    media: str
    multi_label: bool
    data_format: str | None
    messages: list[str] = field(default_factory=list)
    groups: dict[str, list[str | None]] = field(default_factory=dict)
    label_groups: dict[str, int] = field(default_factory=dict)
    index: Path | None = None

    @property
    def problem_type(self) -> str:
        """`problem_type` of a model's config."""
        return "multi_label_classification" if self.multi_label else "single_label_classification"
