# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The commands that made a data set, out of what `tubevit make-data` and `tubevit prepare` leave in its folder."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.prepare import SETTINGS_FILE
from ..synthetic.files import MANIFEST_NAME


def find_data_command(folder: str | Path) -> str | None:
    """What makes the files in `folder` again, `None` where that is not known; of copies the originals are `VIDEOS`."""
    folder = Path(folder)
    if (manifest := _read(folder / MANIFEST_NAME)) is not None:
        return _make_data(folder, manifest["settings"], manifest["numbers"])
    if (settings := _read(folder / SETTINGS_FILE)) is not None:
        return f"tubevit prepare VIDEOS {shlex.quote(folder.as_posix())} {_options(settings)}"
    return None


def _make_data(folder: Path, settings: dict[str, Any], numbers: dict[str, int]) -> str:
    kind = settings["kind"]
    chosen = {"task": settings.get("task", kind)} if kind != "images" else {}
    chosen |= {f"num_{split}": number for split, number in numbers.items()}
    names = ("level", "num_frames", "image_size", "container", "seed")
    chosen |= {name: settings[name] for name in names if name in settings}
    images = " --images" if kind == "images" else ""
    return f"tubevit make-data {shlex.quote(folder.as_posix())}{images} {_options(chosen)}"


def _options(values: Mapping[str, Any]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
