# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The model's config beside a video processor: both must have the same number of frames.

The processor defines the clips, but pipelines of Transformers take the number of frames from the config. A processor that is
saved to the folder of a model therefore writes its clip size to the config, and a contradiction is an error when it is loaded.
"""

import json
import os
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import CONFIG_NAME, cached_file, logging


logger = logging.get_logger(__name__)

HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
OPTIONAL_FILE = {
    f"_raise_exceptions_for_{reason}": False for reason in ("gated_repo", "missing_entries", "connection_errors")
}


def check_num_frames(name: str, num_frames: int, options: dict[str, Any]) -> None:
    """
    Raise `ValueError` if the config of a checkpoint has another number of frames than its video processor.

    name: folder or Hub name. options: arguments of `from_pretrained`; those for the Hub are used.
    """
    hub_options = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
    path = cached_file(name, CONFIG_NAME, **hub_options, **OPTIONAL_FILE)
    config = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    if config.get("num_frames", num_frames) != num_frames:
        raise ValueError(
            f"{name} contradicts itself: num_frames is {config['num_frames']} in {CONFIG_NAME} and {num_frames} in the settings of "
            f"the video processor. Save the processor with the right number: `from_pretrained({name!r}, num_frames=...)` and "
            "`save_pretrained` change both files."
        )


def update_model_config(folder: str | os.PathLike, num_frames: int | None, size: tuple[int, int] | None) -> None:
    """
    Set `num_frames` and `image_size` in the config in `folder`, if there is one with these fields, with a warning.

    num_frames, size: of the clips of the processor, size as (height, width); `None` leaves the field. With learned positions,
        `image_size` is that of their tables and stays.

    Raises `ValueError` if the model cannot take these clips.
    """
    path = Path(folder) / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    changed: dict[str, Any] = {}
    if num_frames is not None and config.get("num_frames", num_frames) != num_frames:
        changed["num_frames"] = num_frames
    is_learned = config.get("position_embedding") == "learned"
    if size is not None and "image_size" in config and not is_learned:
        own = config["image_size"]
        if (own if isinstance(own, list) else [own, own]) != list(size):
            changed["image_size"] = size[0] if size[0] == size[1] else list(size)
    if not changed:
        return
    clip = ", ".join(f"{field}={value}" for field, value in changed.items())
    try:
        if is_learned:
            raise ValueError(f"its learned positions are for {config['num_frames']} frames.")
        if config.get("model_type") in CONFIG_MAPPING:
            CONFIG_MAPPING[config["model_type"]](**{**config, **changed})  # checks that the tubes fit
    except ValueError as error:
        raise ValueError(
            f"A processor with {clip} cannot be saved with the model in {folder}, which cannot take such clips: {error}"
        ) from error
    before = ", ".join(f"{field}={config[field]}" for field in changed)
    logger.warning(f"{path} now has {clip}, as the video processor that is saved there, instead of {before}.")
    path.write_text(json.dumps({**config, **changed}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
