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

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, cached_file, logging


logger = logging.get_logger(__name__)

HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
OPTIONAL_FILE = {
    f"_raise_exceptions_for_{reason}": False for reason in ("gated_repo", "missing_entries", "connection_errors")
}


class SavedProcessorMixin(PreTrainedModel):
    """
    Adds the video processor to `from_pretrained` and `save_pretrained` of a model.

    video_processor_settings: those of the checkpoint that the model was loaded from, `None` without a checkpoint or processor.
    """

    video_processor_settings: dict[str, Any] | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """
        As in the base class.

        Raises `ValueError` if the saved config and the video processor have different numbers of frames.
        """
        name, settings = pretrained_model_name_or_path, None
        if name is not None and not os.path.isfile(name):
            settings = read_video_processor(os.fspath(name), kwargs)
        loaded = super().from_pretrained(name, *args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).video_processor_settings = settings
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """
        As in the base class. Config and video processor of the folder agree afterwards: the config takes the clip size of a
        processor that is there already; if there is none, the settings of the checkpoint that the model was loaded from are
        saved. `pipeline.save_pretrained` saves no video processor itself.
        """
        adopt_clip_size(self.config, save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)
        settings, is_main = self.video_processor_settings, kwargs.get("is_main_process", True)
        if settings is not None and is_main and not kwargs.get("push_to_hub"):
            is_remote = type(self).__module__.startswith("transformers_modules.")
            code_source = self.config.name_or_path if is_remote else None
            save_video_processor(settings, self.config.num_frames, save_directory, code_source)

    def push_to_hub(self, *args, **kwargs):  # type: ignore[override]  # a decorator wraps the base's
        """As in the base class. No video processor is uploaded, because the repository may have one already."""
        settings, self.video_processor_settings = self.video_processor_settings, None
        try:
            return super().push_to_hub(*args, **kwargs)
        finally:
            self.video_processor_settings = settings


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
    `image_size` stays if the weights depend on it.

    Raises `ValueError` if the model cannot take the processor's number of frames.
    """
    settings = _read_settings(os.fspath(folder), {}) if os.path.isdir(folder) else None
    if settings is None:
        return
    num_frames = _num_frames(settings) or config.num_frames
    own, image_size = config.image_size, _frame_size(settings) or config.image_size
    if (num_frames, _pair(image_size)) == (config.num_frames, _pair(own)):
        return
    error: Exception | None = None
    for each in (image_size, own) if hasattr(config, "with_tubes") else ():
        try:
            config.with_tubes(config.tubes, num_frames, each)
        except ValueError as caught:
            error = error or caught
        else:
            logger.warning(
                f"The model that is saved to {folder} takes num_frames={num_frames} and image_size={each} of the video processor "
                f"there, instead of {config.num_frames} and {own}."
            )
            config.num_frames, config.image_size = num_frames, each
            return
    if num_frames != config.num_frames and hasattr(config, "check_num_frames") and not hasattr(config, "with_tubes"):
        try:
            config.check_num_frames(num_frames)
        except ValueError as caught:
            error = caught
        else:
            logger.warning(
                f"The model that is saved to {folder} takes num_frames={num_frames} of the video processor there, instead of "
                f"{config.num_frames}."
            )
            config.num_frames = num_frames
            return
    if num_frames != config.num_frames:
        raise ValueError(
            f"The video processor in {folder} has num_frames={num_frames}, and this model is for clips of {config.num_frames} "
            f"frames: {error or 'save a processor with the same number'}"
        )


def save_video_processor(
    settings: dict[str, Any], num_frames: int, folder: str | os.PathLike, code_source: str | None = None
) -> None:
    """
    Save the settings of the checkpoint's video processor to a folder without one, with the model's number of frames.

    code_source: the checkpoint from whose code the model was loaded; the code of the processor is then saved too.
    """
    if _read_settings(os.fspath(folder), {}) is not None:
        return
    if _num_frames(settings) is not None:
        settings = {**settings, "num_frames": num_frames}
    if code_source is None:
        settings = {name: value for name, value in settings.items() if name != "auto_map"}
    elif "auto_map" in settings:
        custom_object_save(
            get_class_from_dynamic_module(settings["auto_map"]["AutoVideoProcessor"], code_source), folder
        )
    path = Path(folder) / VIDEO_PROCESSOR_NAME
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    logger.warning_once(f"{path} gets the settings of the checkpoint that the model was loaded from.")


def _frame_size(settings: dict[str, Any]) -> int | list[int] | None:
    """The `image_size` of the processor's pixels; `None` if its frames differ in size."""
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    if not isinstance(size, dict) or "height" not in size:
        return None
    return size["height"] if size["height"] == size["width"] else [size["height"], size["width"]]


def _pair(image_size: int | list[int]) -> list[int]:
    return [image_size, image_size] if isinstance(image_size, int) else list(image_size)


def _num_frames(settings: dict[str, Any]) -> int | None:
    """Frames of a clip that the processor samples; `None` if it does not sample or its settings do not say."""
    return settings.get("num_frames") if settings.get("do_sample_frames", True) else None


def _read_settings(name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of the video processor, from the file that takes precedence in Transformers."""
    combined = _read_json(name, PROCESSOR_NAME, options) or {}
    return combined.get("video_processor") or _read_json(name, VIDEO_PROCESSOR_NAME, options)


def _read_json(name: str, file: str, options: dict[str, Any]) -> dict[str, Any] | None:
    if os.path.isdir(name):
        local = os.path.join(name, options.get("subfolder") or "", file)
        path = local if os.path.isfile(local) else None
    else:
        hub_options = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
        path = cached_file(name, file, **hub_options, **OPTIONAL_FILE)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
