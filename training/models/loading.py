# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Loading checkpoints of any family: configs, models, processors, and classifiers that are ready to score clips.

Weights that are missing or of another shape are an error. The library would replace them by random ones and warn.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoVideoProcessor

from tubevit.processing import TubeViTVideoProcessor

from ..data.clip_sampling import UINT8
from .clip_processors import (
    ClipProcessors,
    choose_num_frames,
    clip_processors,
    complete_sampling,
    find_normalizer,
)
from .families import ModelFamily, family_of, resolve


logger = logging.getLogger(__name__)

COMBINED_PROCESSOR_FILE = "processor_config.json"
PROCESSOR_FILES = {"image": "preprocessor_config.json", "video": "video_preprocessor_config.json"}


class VideoClassifier:
    """
    A classifier of videos or images with its processors, of any family: uint8 clips in, logits out.

    model: in evaluation mode.
    processors: what reads a video (or an image) as uint8, and what takes that to the model's input.
    """

    def __init__(self, model: Any, processors: ClipProcessors):
        self.model, self.processors = model, processors

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """
        float32 logits `(clips, classes)` of uint8 clips `(clips, frames, channels, height, width)`, or of images without the
        frames, on the model's device.
        """
        inputs = self.processors.prepare(clips, self.model.dtype)
        return self.model(**inputs).logits.float().reshape(len(clips), -1)  # VideoPrism returns (clips, 1, classes)

    @property
    def processor(self) -> Any:
        """What reads a video or an image, with all its views, as uint8."""
        return self.processors.reader

    @property
    def media(self) -> str:
        """What it classifies, "video" or "image"."""
        return "video" if isinstance(self.processor, TubeViTVideoProcessor) else "image"

    @property
    def num_views(self) -> int:
        """Clips per video."""
        if self.media == "image":
            return 1
        return self.processor.num_temporal_views * self.processor.num_spatial_views

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.model.config.problem_type == "multi_label_classification"

    @property
    def class_names(self) -> list[str] | None:
        """In the order of the logits; `None` if the checkpoint has the library's default names, LABEL_0 and so on."""
        return named_classes(self.model.config)


def named_classes(config: Any) -> list[str] | None:
    """Names of a config's classes in the order of the logits; `None` if they are the library's default, LABEL_0 and so on."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def load_video_classifier(name: str, settings: dict[str, Any], dtype: str = "auto") -> VideoClassifier:
    """
    The classifier of a folder or Hub name, on the CPU.

    settings: of `TubeViTVideoProcessor` that replace the checkpoint's, such as `fps` or `num_temporal_views`; those that are
        `None` do not count. A classifier of images has one view and ignores them.
    dtype: "auto" for the checkpoint's, "float32", "bfloat16" or "float16".

    Raises `ValueError` or `OSError` of one line for a checkpoint that is not a classifier, that lacks weights, that has no
    processor, or that cannot take so many frames.
    """
    config = load_config(name)
    family = family_of(config, name)
    media = media_of(family, config)
    try:
        model_class = family.classifier(media)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if media == "image":
        model = load_model(name, model_class, dtype=dtype)
        own = load_processor(name, family, "image")
        reader = type(own).from_dict({**own.to_dict(), **UINT8})
        return VideoClassifier(model, ClipProcessors(reader, own, find_normalizer(own, family, config)))
    settings = complete_sampling(settings)
    own = load_processor(name, family, "video")
    num_frames = choose_num_frames(settings, own, family, config, name)
    model = load_model(name, model_class, dtype=dtype, **family.frames_settings(num_frames, config))
    family.adapt_num_frames(model, num_frames)
    return VideoClassifier(model, clip_processors(own, settings, num_frames, family, config))


def media_of(family: ModelFamily, config: Any) -> str:
    """What a checkpoint classifies by its config's `architectures`: "video" or "image"; "video" if that names no classifier."""
    for media, reference in family.classifiers.items():
        if resolve(reference).__name__ in (config.architectures or []):
            if media == "image" and "image" not in family.processors:
                break  # Images are read by processors of this package alone.
            return media
    return "video"


def load_processor(name: str, family: ModelFamily, media: str, **kwargs: Any) -> Any:
    """
    A checkpoint's own processor of videos or images; kwargs: as its `from_pretrained` takes them.

    Raises `FileNotFoundError` if it has none, `ValueError` if the family needs one of another class.
    """
    auto_class = {"video": AutoVideoProcessor, "image": AutoImageProcessor}[media]
    try:
        with quiet_library():
            own = auto_class.from_pretrained(name, **kwargs)
    except OSError as error:
        raise FileNotFoundError(
            f"{name} has no {media} processor, which prepares the pixels: write one there with its save_pretrained."
        ) from error
    if media in family.processors:
        processor_class = family.processor(media)
        if not isinstance(own, processor_class):
            raise ValueError(
                f"{name} has a {type(own).__name__}; a {family.title} model needs a {processor_class.__name__}."
            )
    return own


def load_processors(name: str, family: ModelFamily) -> list[Any]:
    """
    All processors of a folder or Hub name: one for images and videos together if the checkpoint has both and the family has a
    class for that, else one or two single ones. Raises `FileNotFoundError` if there is none.
    """
    folder = Path(name).expanduser()
    media = list(PROCESSOR_FILES)
    if folder.is_dir() and not (folder / COMBINED_PROCESSOR_FILE).is_file():
        media = [each for each, file in PROCESSOR_FILES.items() if (folder / file).is_file()]
    elif "image" not in family.processors:
        media = ["video"]
    if not media:
        raise FileNotFoundError(
            f"{name} has no processor, which prepares the pixels: write one there with its save_pretrained."
        )
    found = [load_processor(name, family, each) for each in media]
    return [family.processor("combined")(*found)] if len(found) == 2 and "combined" in family.processors else found


def load_config(name: str, **kwargs: Any) -> Any:
    """
    The config of a folder or Hub name; kwargs: as `AutoConfig.from_pretrained` takes them.

    Raises `OSError` if there is no checkpoint, before the library asks the Hub for a mistyped folder, and `ValueError` for a
    config that cannot be read.
    """
    check_model_name(name)
    try:
        with quiet_library():
            return AutoConfig.from_pretrained(name, **kwargs)
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


def check_model_name(name: str) -> None:
    """Raise an `OSError` for a mistyped folder, or one without a model, before the library asks the Hub for it."""
    path = Path(name).expanduser()
    if path.is_file():
        raise NotADirectoryError(f"{name} is a file; a model is the folder that save_pretrained wrote.")
    looks_local = name.startswith((".", "~", "/")) or name.count("/") != 1 or path.parent.is_dir()
    if not path.is_dir() and looks_local:
        raise FileNotFoundError(f"There is no model folder {name}.")
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(
            f"{name} is empty, it has no config.json: the run that writes a model there has not ended, or was stopped."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json: it is not a folder that save_pretrained wrote.")


def load_model(name: str, model_class: type | None = None, **kwargs: Any) -> Any:
    """
    The model of a folder or Hub name, in evaluation mode.

    model_class: the class to load; by default the one that the checkpoint's config names.
    kwargs: as `from_pretrained` takes them.

    Raises `ValueError` for a model of no family, a pickle, a damaged file, or a checkpoint that lacks weights of `model_class`
    or has some of other shapes than its config says, `OSError` if there is no checkpoint.
    """
    config = load_config(name)
    family = family_of(config, name)
    if model_class is None:
        model_class = _saved_class(name, family, config)
    elif family.joint_class is not None and config.heads and model_class in map(resolve, family.classifiers.values()):
        first = next(iter(config.heads))
        raise ValueError(
            f"{name} is a joint model, with heads for {', '.join(config.heads)}: write a classifier for one of them with "
            f"`tubevit export {name} NEW_FOLDER --dataset {first}`, or use the one that `tubevit train` wrote to its folder "
            f"{first}/."
        )
    return load_complete(model_class, name, **kwargs)


def _saved_class(name: str, family: ModelFamily, config: Any) -> type:
    """The class that a checkpoint was saved from, by its config; if that does not say, the family's video classifier."""
    import transformers

    if not config.architectures:
        return family.classifier("video")
    class_name = config.architectures[0]
    model_class = family.find_class(class_name) or getattr(transformers, class_name, None)
    if model_class is None:
        raise ValueError(f"{name} names the class {class_name!r}, which neither this package nor Transformers has.")
    return model_class


def load_complete(model_class: type, name: str, **kwargs: Any) -> Any:
    """As `load_model`, for any class with `from_pretrained`, the Auto classes too; the config is not checked first."""
    with quiet_library():
        model, info = model_class.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
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


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence the library's warnings, such as its table of missing weights: the callers raise errors of one line instead."""
    from transformers.utils import logging as library_logging

    verbosity = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
