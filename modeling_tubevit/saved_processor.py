# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The settings of the video processor in the folder of a checkpoint, as the model reads and writes them.

The processor defines the clips, but pipelines of Transformers take the number of frames from the model's config, and
`pipeline.save_pretrained` saves the model without its video processor. A model therefore refuses a checkpoint whose config
contradicts the processor, takes the number of frames of a processor in the folder that it is saved to, and saves the settings of
its checkpoint's processor to a folder without one.
"""

import json
import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, cached_file, logging


logger = logging.get_logger(__name__)

HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
OPTIONAL_FILE = {
    f"_raise_exceptions_for_{reason}": False for reason in ("gated_repo", "missing_entries", "connection_errors")
}


def read_video_processor(name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """
    The settings of a checkpoint's video processor; `None` if it has none.

    name: folder or Hub name. options: arguments of `from_pretrained`; those for the Hub are used.

    Raises `ValueError` if the settings and the saved config have different numbers of frames.
    """
    settings = _read_settings(name, options)
    config = _read_json(name, CONFIG_NAME, options)
    if settings is None or config is None:
        return settings
    num_frames = _num_frames(settings)
    if num_frames is not None and config.get("num_frames", num_frames) != num_frames:
        raise ValueError(
            f"{name} contradicts itself: num_frames is {config['num_frames']} in {CONFIG_NAME} and {num_frames} in the settings of "
            "its video processor. Set both to the number of frames of the clips that the model was trained on."
        )
    return settings


def adopt_clip_size(config: PreTrainedConfig, folder: str | os.PathLike) -> None:
    """
    Set `num_frames` and `image_size` of `config` to those of the video processor in `folder`, if there is one, with a warning.

    With learned positions, `image_size` is that of their tables and stays.

    Raises `ValueError` if the config does not allow them.
    """
    settings = _read_settings(os.fspath(folder), {}) if os.path.isdir(folder) else None
    if settings is None:
        return
    height, width = config.image_height_width
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    size = size if isinstance(size, dict) and {"height", "width"} <= set(size) else {"height": height, "width": width}
    if config.position_embedding == "learned":
        size = {"height": height, "width": width}
    num_frames = _num_frames(settings) or config.num_frames
    if (num_frames, size["height"], size["width"]) == (config.num_frames, height, width):
        return
    image_size = size["height"] if size["height"] == size["width"] else [size["height"], size["width"]]
    try:
        config.with_tubes(config.tubes, num_frames, image_size)
    except ValueError as error:
        raise ValueError(
            f"The video processor in {folder} reads clips of {num_frames} frames of {size['height']}x{size['width']} pixels, which "
            f"this model cannot take: {error}"
        ) from error
    logger.warning(
        f"The config that is saved to {folder} takes num_frames and image_size of the video processor there: {num_frames} and "
        f"{image_size} instead of {config.num_frames} and {config.image_size}."
    )
    config.num_frames, config.image_size = num_frames, image_size


def save_video_processor(settings: dict[str, Any], num_frames: int, folder: str | os.PathLike) -> None:
    """Save the settings of the checkpoint's video processor to a folder without one, with the model's number of frames."""
    if _read_settings(os.fspath(folder), {}) is not None:
        return
    if _num_frames(settings) is not None:
        settings = {**settings, "num_frames": num_frames}
    path = Path(folder) / VIDEO_PROCESSOR_NAME
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    logger.warning_once(f"{path} gets the settings of the checkpoint that the model was loaded from.")


def _num_frames(settings: dict[str, Any]) -> int | None:
    """Frames of a clip that the processor samples; `None` if it does not sample or its settings do not say."""
    return settings.get("num_frames") if settings.get("do_sample_frames", True) else None


def _read_settings(name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of the video processor, from the file that takes precedence in Transformers."""
    combined = _read_json(name, PROCESSOR_NAME, options) or {}
    return combined.get("video_processor") or _read_json(name, VIDEO_PROCESSOR_NAME, options)


def _read_json(name: str, file: str, options: dict[str, Any]) -> dict[str, Any] | None:
    if os.path.isdir(name):
        path = os.path.join(name, options.get("subfolder") or "", file)
        path = path if os.path.isfile(path) else None
    else:
        hub_options = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
        path = cached_file(name, file, **hub_options, **OPTIONAL_FILE)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
