# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Any video classifier of the library behind one interface, so that TubeViT, VideoMAE, ViViT, TimeSformer and V-JEPA 2 are
evaluated by the same code: uint8 clips in, logits out.

Frames are chosen, decoded, resized and cropped into views by our processor, with the sizes of the model's own. The values of
the pixels are the model's own processor's business: it rescales and normalises the finished clips, on the model's device.

A TubeViT for images is one too: an image is read as one view.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForVideoClassification, AutoVideoProcessor

from tubevit import TubeViTForImageClassification, TubeViTForVideoClassification
from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor

from ..data.clip_sampling import UINT8


OWN_SETTINGS = ("size", "resample", "crop_size")  # that are taken over from another model's processor
OWN_SWITCHES = ("do_resize", "do_center_crop")  # likewise
FRAME_SETTINGS = ("num_frames", "frames_per_clip")  # what configs call the length of a clip
IMAGE_DONE = {"do_resize": False, "do_center_crop": False}
DONE = {**IMAGE_DONE, "do_sample_frames": False}


class VideoClassifier:
    """
    A model for video classification with what prepares its input.

    model: of `AutoModelForVideoClassification`, in evaluation mode; or a `TubeViTForImageClassification`.
    processor: reads the views of a video (or an image) as uint8.
    normalizer: the model's own processor, which takes clips to what the model is fed; `None` where the model takes uint8.

    Called with clips, uint8 `(clips, frames, channels, height, width)` on the model's device, or images without the frames, it
    returns float32 logits `(clips, classes)`.
    """

    def __init__(self, model: Any, processor: TubeViTVideoProcessor | TubeViTImageProcessor, normalizer: Any = None):
        self.model, self.processor, self.normalizer = model, processor, normalizer

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        inputs = {"pixel_values_videos" if self.media == "video" else "pixel_values": clips}
        if self.normalizer is not None:
            done = DONE if self.media == "video" else IMAGE_DONE
            inputs = dict(self.normalizer(list(clips), return_tensors="pt", **done))
            inputs = {name: pixels.to(self.model.dtype) for name, pixels in inputs.items()}
        return self.model(**inputs).logits.float().reshape(len(clips), -1)  # VideoPrism has (clips, 1, classes)

    @property
    def media(self) -> str:
        """What it classifies, "video" or "image"."""
        return "video" if isinstance(self.processor, TubeViTVideoProcessor) else "image"

    @property
    def num_views(self) -> int:
        if self.media == "image":
            return 1
        return self.processor.num_temporal_views * self.processor.num_spatial_views

    @property
    def multi_label(self) -> bool:
        return self.model.config.problem_type == "multi_label_classification"

    @property
    def class_names(self) -> list[str] | None:
        """In the order of the logits; `None` where the checkpoint only numbers its classes, as the library does by default."""
        config = self.model.config
        names = [str(config.id2label[index]) for index in range(config.num_labels)]
        return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def load_video_classifier(name: str, settings: dict[str, Any], dtype: str = "auto") -> VideoClassifier:
    """
    The classifier of a folder or Hub name, on the CPU.

    settings: of `TubeViTVideoProcessor` that replace the checkpoint's, such as `num_temporal_views`; those that are `None` do
        not count. Checkpoints of other models say how many frames a clip has, and not which: theirs are spread over the
        whole video unless `fps` is set. Of an image there is one view, and no other setting.
    dtype: "auto" for the checkpoint's, "float32", "bfloat16" or "float16".

    Raises `ValueError` or `OSError` of one line for a checkpoint that is none, that lacks weights (the library would
    make some up), or that has no processor.
    """
    check_model_name(name)
    settings = {key: value for key, value in settings.items() if value is not None}
    if "fps" in settings:
        settings.setdefault("sampling", "fixed_rate")
    elif settings.get("sampling") == "uniform":
        settings["fps"] = None  # the checkpoint's belongs to its fixed rate
    with quiet_library():
        config = AutoConfig.from_pretrained(name)
    if config.model_type == "tubevit":
        if "TubeViTForImageClassification" in (config.architectures or []):
            return _load_tubevit(name, "image", {}, dtype)
        return _load_tubevit(name, "video", settings, dtype)
    if type(config) not in AutoModelForVideoClassification._model_mapping:
        raise ValueError(f"{name} is a {config.model_type} model, which the library has no video classifier of.")
    model = load_complete(AutoModelForVideoClassification, name, dtype=dtype)
    own = _load_processor(name)
    settings = {**reading_settings(own, config), **settings}
    if settings["num_frames"] is None:
        raise ValueError(f"{name} does not say how many frames a clip has; set num_frames.")
    return VideoClassifier(model, TubeViTVideoProcessor(**{**settings, **UINT8}), own)


def reading_settings(own: Any, config: Any) -> dict[str, Any]:
    """
    What of another model decides how our processor reads its clips.

    own: its processor. config: of the model. The length of a clip is `None` where that does not say.
    """
    taken = {key: getattr(own, key) for key in OWN_SETTINGS if getattr(own, key, None) is not None}
    taken |= {key: bool(getattr(own, key, None)) for key in OWN_SWITCHES}  # there None means no
    num_frames = next((getattr(config, key) for key in FRAME_SETTINGS if hasattr(config, key)), None)
    return {"num_frames": num_frames, **taken}


TUBEVITS = {
    "video": (TubeViTForVideoClassification, TubeViTVideoProcessor, AutoVideoProcessor),
    "image": (TubeViTForImageClassification, TubeViTImageProcessor, AutoImageProcessor),
}


def _load_tubevit(name: str, media: str, settings: dict[str, Any], dtype: str) -> VideoClassifier:
    model_class, processor_class, auto_class = TUBEVITS[media]
    model = load_model(name, model_class, dtype=dtype)
    own = _load_processor(name, auto_class, **settings)
    if not isinstance(own, processor_class):
        raise ValueError(f"{name} has a {type(own).__name__}; a TubeViT model needs a {processor_class.__name__}.")
    processor = processor_class.from_dict({**own.to_dict(), **UINT8})
    statistics = (list(own.image_mean), list(own.image_std))
    model_normalizes_alike = own.do_rescale and own.do_normalize and statistics == _statistics(model.config)
    return VideoClassifier(model, processor, None if model_normalizes_alike else own)


def _statistics(config: Any) -> tuple[list[float], list[float]]:
    mean, std = config.get_pixel_statistics()
    return list(mean), list(std)


def _load_processor(name: str, auto_class: type = AutoVideoProcessor, **settings: Any) -> Any:
    try:
        with quiet_library():
            return auto_class.from_pretrained(name, **settings)
    except OSError as error:
        kind = "video" if auto_class is AutoVideoProcessor else "image"
        raise FileNotFoundError(
            f"{name} has no {kind} processor, which prepares the pixels: write one there with its save_pretrained."
        ) from error


logger = logging.getLogger(__name__)


# Where processors are saved: both in one file, or one by one.
PROCESSOR_FILE = "processor_config.json"


SINGLE_PROCESSOR_FILES = {
    "AutoImageProcessor": "preprocessor_config.json",
    "AutoVideoProcessor": "video_preprocessor_config.json",
}


def load_config(name: str) -> Any:
    """
    The `TubeViTConfig` of a folder or Hub name.

    Raises `OSError` where there is no checkpoint, before the library looks on the Hub for what is meant as a folder, and
    `ValueError` for a checkpoint of another model type.
    """
    from tubevit import TubeViTConfig

    check_model_name(name)
    try:
        with quiet_library():
            return TubeViTConfig.from_pretrained(name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_model_name(name: str) -> None:
    """Raise an `OSError` for what is meant as a folder and is none with a model, before the library asks the Hub for it."""
    path = Path(name).expanduser()
    if path.is_file():
        raise NotADirectoryError(f"{name} is a file; a model is the folder that save_pretrained wrote.")
    looks_local = name.startswith((".", "~", "/")) or name.count("/") != 1 or path.parent.is_dir()
    if not path.is_dir() and looks_local:
        raise FileNotFoundError(f"There is no model folder {name}.")
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(
            f"{name} is empty, it has no config.json: what is to write a model there has not ended yet, or was stopped."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json: it is not a folder that save_pretrained wrote.")


def load_model(name: str, model_class: type | None = None, **kwargs) -> Any:
    """
    The model of a folder or Hub name, in evaluation mode.

    model_class: the class to load; by default the one that the checkpoint's config names.
    kwargs: as `from_pretrained` takes them.

    Raises `ValueError` for another model type, a pickle, a damaged file, or a checkpoint that lacks weights of
    `model_class` or has some of other shapes than its config says, `OSError` where there is none.
    """
    import tubevit

    config = load_config(name)
    if model_class is None:
        architectures = config.architectures or ["TubeViTForVideoClassification"]
        model_class = getattr(tubevit, architectures[0], None)
        if model_class is None:
            raise ValueError(f"{name} names the class {architectures[0]!r}, which this package does not have.")
    elif config.heads and hasattr(model_class, "classify"):
        first = next(iter(config.heads))
        raise ValueError(
            f"{name} is a joint model, with heads for {', '.join(config.heads)}; a classifier for one of them is what "
            f"`tubevit export {name} NEW_FOLDER --dataset {first}` writes, and `tubevit train` to its folder {first}/."
        )
    return load_complete(model_class, name, **kwargs)


def load_complete(model_class: type, name: str, **kwargs) -> Any:
    """
    As `load_model`, for any class with `from_pretrained`, the library's Auto classes too; the config is not looked at before.
    """
    model, info = _load(model_class, name, **kwargs)
    if mismatched := sorted(info["mismatched_keys"]):
        key, saved, expected = mismatched[0]
        raise ValueError(
            f"{name} holds {len(mismatched)} weights of other shapes than its config.json says ({key} is "
            f"{tuple(saved)}, not {tuple(expected)}): the two files do not belong together."
        )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{name} lacks {len(missing)} weights of {type(model).__name__} ({missing[0]}, ...): it was saved from "
            "another class; fine-tune and save it with this one first."
        )
    if unexpected := sorted(info["unexpected_keys"]):
        logger.warning(f"{name} also holds {len(unexpected)} weights that are not used ({unexpected[0]}, ...).")
    return model.eval()


def _load(model_class: type, name: str, **kwargs) -> tuple[Any, dict[str, Any]]:
    """Model and loading info, which tells what did not fit."""
    with quiet_library():
        return model_class.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)


@contextmanager
def quiet_library() -> Iterator[None]:
    """While this lasts, the library logs no warnings: what is wrong with a checkpoint becomes one line here, not a table."""
    from transformers.utils import logging as library_logging

    verbosity = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)


def load_processors(name: str) -> list[Any]:
    """
    What prepares inputs for the model of a folder or Hub name: a `TubeViTProcessor` for images and videos, or the one
    processor that was saved alone. Raises `FileNotFoundError` for a folder without any.
    """
    import transformers

    from tubevit.processing import TubeViTProcessor

    folder = Path(name).expanduser()
    auto_classes = list(SINGLE_PROCESSOR_FILES)
    if folder.is_dir() and not (folder / PROCESSOR_FILE).is_file():
        auto_classes = [key for key, file in SINGLE_PROCESSOR_FILES.items() if (folder / file).is_file()]
    if not auto_classes:
        raise FileNotFoundError(
            f"{name} has no processor, which prepares the pixels: write one there with "
            "TubeViTProcessor(...).save_pretrained."
        )
    found = [getattr(transformers, auto_class).from_pretrained(name) for auto_class in auto_classes]
    return [TubeViTProcessor(*found)] if len(found) == 2 else found
