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
    Set `num_frames` and `image_size` in the config of the model in `folder`, if there is one, with a warning.

    num_frames, size: of the clips of the processor, size as (height, width); `None` leaves the field. `image_size` stays if the
        weights depend on it.

    Raises `ValueError` if the model cannot take clips of `num_frames` frames.
    """
    path = Path(folder) / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "num_frames" not in config:
        return
    new = _with_clip_size(config, config["num_frames"] if num_frames is None else num_frames, size)
    changed = {field: new[field] for field in ("num_frames", "image_size") if new.get(field) != config.get(field)}
    if changed:
        now, before = (", ".join(f"{field}={each[field]}" for field in changed) for each in (new, config))
        logger.warning(f"{path} now has {now}, as the video processor that is saved there, instead of {before}.")
        path.write_text(json.dumps(new, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _with_clip_size(config: dict[str, Any], num_frames: int, size: tuple[int, int] | None) -> dict[str, Any]:
    own = config.get("image_size")
    has_size = size is None or list(size) == (own if isinstance(own, list) else [own, own])
    if num_frames == config["num_frames"] and has_size:
        return config
    image_size = own if has_size or size is None else size[0] if size[0] == size[1] else list(size)
    config_class = CONFIG_MAPPING[config["model_type"]] if config.get("model_type") in CONFIG_MAPPING else None
    error: Exception | None = None
    if config_class is not None and hasattr(config_class, "with_tubes"):
        for each in (image_size, own):
            try:
                config_class.from_dict(dict(config)).with_tubes(config["tubes"], num_frames, each)
            except ValueError as caught:
                error = error or caught
            else:
                return {**config, "num_frames": num_frames, "image_size": each}
    if num_frames == config["num_frames"]:
        return config
    raise ValueError(
        f"A video processor with num_frames={num_frames} cannot be saved with a model for clips of {config['num_frames']} frames: "
        f"{error or 'set the same number'}"
    )
