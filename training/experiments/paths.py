# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Paths as they may stand in files that are passed on, with nothing of the machine that they are on; and names of such files."""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Any


def portable(value: Any) -> Any:
    """
    `value` with every absolute path in it shortened: to what is below the working folder, or else to its last part. In
    mappings and lists too; relative paths, names on the Hub and all other text stay.

    >>> portable({"data": "/home/somebody/clips", "labels": ["../labels.csv", 3]})
    {'data': 'clips', 'labels': ['../labels.csv', 3]}
    """
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(each) for each in value]
    return _shorten(value) if isinstance(value, str) else value


def as_name(text: str) -> str:
    """Text as part of a file's name.

    >>> as_name("`tubevit train` on UT-Interaction")
    'tubevit_train_on_ut-interaction'
    """
    return re.sub(r"[^\w.-]+", "_", text.lower()).strip("_.")


def _shorten(text: str) -> str:
    path, here = Path(os.path.expanduser(text.removeprefix("file://"))), Path.cwd()
    if path.is_absolute():
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name or "."
    return PureWindowsPath(text).name if PureWindowsPath(text).is_absolute() else text
