# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Data sets that the `datasets` library opens: on the Hub, from `save_to_disk`, Parquet, Arrow, WebDataset, JSON lines."""

from pathlib import Path
from typing import Any

from .registry import AnnotationFormat, register_format


SAVED_FILES = ("dataset_dict.json", "state.json")  # written by `save_to_disk`
SUFFIXES = (".parquet", ".arrow", ".tar", ".jsonl")


def sniff_datasets(path: Path) -> bool:
    """Whether `path` is a file that `datasets` reads, or a folder with such a file anywhere below it."""
    if path.is_dir():
        return any(file.suffix in SUFFIXES for file in path.rglob("*"))
    return path.suffix in SUFFIXES


def open_splits(name: str, config: Any) -> dict[str, Any]:
    """
    The splits of a data set of the Hub or of a folder, `Dataset` or (with `streaming`) `IterableDataset`.

    config: `dataset_config_name` and `streaming` are used.

    Raises a one-line `ValueError` for a data set that cannot be opened.
    """
    import datasets

    try:
        if any((Path(name) / file).is_file() for file in SAVED_FILES):
            found = datasets.load_from_disk(name)
            found = found if isinstance(found, dict) else {"train": found}
            return {split: each.to_iterable_dataset() if config.streaming else each for split, each in found.items()}
        return dict(datasets.load_dataset(name, config.dataset_config_name, streaming=config.streaming))
    except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetGenerationError) as error:
        where = "" if Path(name).exists() else "is not a local file or folder, and "
        raise ValueError(f"{name} {where}cannot be opened by `datasets`: {' '.join(str(error).split())}") from error


register_format(
    AnnotationFormat(
        name="datasets",
        description="data set on the Hub, or files that the library `datasets` reads",
        sniff=sniff_datasets,
        open_splits=open_splits,
        priority=100,
        layout="dataset",
        folder_markers=SAVED_FILES,
        multi_label=(False, True),
        options=("dataset_config_name", "video_column", "label_column", "streaming", "shuffle_buffer_size"),
    )
)
