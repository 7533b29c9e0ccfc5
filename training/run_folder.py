# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Output folders, which are checked before any work and never overwritten, and the files that every run folder has."""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .environment import describe_environment
from .options import write_yaml


ClassNames = list[str] | Mapping[str, list[str]]  # of one data set, or by the name of the data set


def check_new_folder(path: Path, hint: str = "name a new folder", may_hold: Collection[str] = ()) -> None:
    """
    Raise an `OSError` of one line if `path` is a file, or a folder that is not empty.

    hint: advice for a folder that is not empty. may_hold: names of files that the folder may contain.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a folder is needed.")
    if path.is_dir() and any(each.name not in may_hold for each in path.iterdir()):
        raise FileExistsError(f"{path} is not empty: {hint}.")


@contextmanager
def ensure_writable_dir(path: Path) -> Iterator[None]:
    """
    Create the folder if necessary. On exit, new folders that are still empty are removed.

    Raises an `OSError` of one line if the folder cannot be written or the disk is full.
    """
    new = [folder for folder in [path, *path.parents] if not folder.exists()]
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path) as file:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError as error:
            raise type(error)(f"{path} cannot be written: {error.strerror or error}.") from None
        yield
    finally:
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


CONFIG_FILE = "resolved_config.yaml"
METRICS_FILE = "train_metrics.json"  # written when training has ended
EVALUATION = "evaluation"  # subfolder with the results of the final evaluation


def write_run_files(
    folder: Path, config: Mapping[str, Any], class_names: ClassNames, counts: Mapping[str, Any] | None = None
) -> None:
    """
    Write the configuration, environment, labels and numbers of videos of a run to its folder.

    config: block name to dataclass. counts: number of videos by split.
    """
    write_yaml(folder / CONFIG_FILE, config)
    write_json(folder / "environment.json", describe_environment())
    write_json(folder / "label_map.json", label_map(class_names))
    if counts is not None:
        write_json(folder / "dataset.json", counts)


def label_map(class_names: ClassNames) -> dict[str, Any]:
    """
    Class names by index, and a checksum that depends on their order. For several data sets, a map of each by its name.
    """
    if isinstance(class_names, Mapping):
        return {name: label_map(names) for name, names in class_names.items()}
    digest = hashlib.sha256("\n".join(class_names).encode()).hexdigest()
    return {"id2label": {str(index): name for index, name in enumerate(class_names)}, "sha256": digest}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
