# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Loading checkpoints of any family: configs, models, processors, and classifiers that are ready to score clips.

Missing and mismatched weights raise. Transformers would warn and use random weights instead.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoVideoProcessor

from tubevit.classification import label_groups_of
from tubevit.processing import TubeViTVideoProcessor
from tubevit.safetensors_only import check_finite

from .clip_processors import (
    ClipProcessors,
    choose_num_frames,
    clip_processors,
    complete_sampling,
    image_clip_processors,
)
from .families import ModelFamily, family_of, resolve


logger = logging.getLogger(__name__)

COMBINED_PROCESSOR_FILE = "processor_config.json"
PROCESSOR_FILES = {"image": "preprocessor_config.json", "video": "video_preprocessor_config.json"}
ONNX_FILE = "model.onnx"  # of `tubevit export --format onnx`


class ClipModel:
    """
    A model of clips or images of any family with its processors.

    model: in evaluation mode.
    processors: read a video (or an image), and convert its pixels to the model's input.
    """

    def __init__(self, model: Any, processors: ClipProcessors):
        self.model, self.processors = model, processors

    @property
    def processor(self) -> Any:
        """The processor that reads all views of a video, or an image."""
        return self.processors.reader

    @property
    def media(self) -> str:
        """The kind of data that it reads, "video" or "image"."""
        return "video" if isinstance(self.processor, TubeViTVideoProcessor) else "image"

    @property
    def num_views(self) -> int:
        """Clips per video."""
        if self.media == "image":
            return 1
        return self.processor.num_temporal_views * self.processor.num_spatial_views


class VideoClassifier(ClipModel):
    """A classifier of videos or images. It maps clips to logits."""

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """
        float32 logits `(clips, classes)` of clips `(clips, frames, channels, height, width)` of the reader, or of images without
        the frames, on the model's device.
        """
        inputs = self.processors.prepare(clips, self.model.dtype)
        return self.model(**inputs).logits.float().reshape(len(clips), -1)  # VideoPrism returns (clips, 1, classes)

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.model.config.problem_type == "multi_label_classification"

    @property
    def label_groups(self) -> dict[str, int]:
        """Names and sizes of groups of classes with a softmax of their own; empty for one group."""
        return label_groups_of(self.model.config)

    @property
    def class_names(self) -> list[str] | None:
        """Class names in the order of the logits; `None` if the checkpoint has Transformers' default names, LABEL_0 and so on."""
        return named_classes(self.model.config)


def named_classes(config: Any) -> list[str] | None:
    """Class names of a config in the order of the logits; `None` if they are Transformers' default, LABEL_0 and so on."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def class_fields(class_names: Iterable[str]) -> dict[str, Any]:
    """The fields of a config that name its classes: `id2label` and `label2id`."""
    id2label = dict(enumerate(class_names))
    return {"id2label": id2label, "label2id": {name: index for index, name in id2label.items()}}


def load_video_classifier(
    name: str, settings: dict[str, Any], dtype: str = "auto", token_budget: int | None = None
) -> VideoClassifier:
    """
    The classifier of a folder or Hub name, on the CPU.

    settings: settings of `TubeViTVideoProcessor` that replace the checkpoint's, for example `fps` or `num_temporal_views`; `None`
        keeps the checkpoint's. A classifier of images has one view and ignores them.
    dtype: "auto" for the checkpoint's, "float32", "bfloat16" or "float16".
    token_budget: tube tokens per clip at most, for TubeViT; `None` keeps the checkpoint's tubes.

    Raises `ValueError` or `OSError` of one line for a checkpoint that is not a classifier, lacks weights, has no processor,
    or cannot take this number of frames.
    """
    config = load_config(name)
    family = family_of(config, name)
    media = media_of(family, config)
    try:
        model_class = family.classifier(media)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if media == "image":
        check_takes_budget(name, config, media, token_budget)
        model = load_model(name, model_class, dtype=dtype)
        return VideoClassifier(model, image_clip_processors(load_processor(name, family, "image"), family, config))
    settings = complete_sampling(settings)
    own = load_processor(name, family, "video")
    num_frames = choose_num_frames(settings, own, family, config, name)
    frames_settings = family.frames_settings(num_frames, config)
    model = load_model(name, model_class, token_budget, dtype=dtype, **frames_settings)
    family.adapt_num_frames(model, num_frames)
    return VideoClassifier(model, clip_processors(own, settings, num_frames, family, config))


def media_of(family: ModelFamily, config: Any) -> str:
    """The media of a checkpoint, "video" or "image", by its config's `architectures`; "video" if they name no classifier."""
    for media, reference in family.classifiers.items():
        if resolve(reference).__name__ in (config.architectures or []):
            if media == "image" and "image" not in family.processors:
                break  # images are read by processors of this package only
            return media
    return "video"


def load_processor(name: str, family: ModelFamily, media: str, **kwargs: Any) -> Any:
    """
    A checkpoint's own processor of videos or images. kwargs: of its `from_pretrained`.

    Raises `FileNotFoundError` if the checkpoint has none, `ValueError` if the family needs another processor class.
    """
    auto_class = {"video": AutoVideoProcessor, "image": AutoImageProcessor}[media]
    try:
        with quiet_library():
            own = auto_class.from_pretrained(name, **kwargs)
    except OSError as error:
        raise FileNotFoundError(
            f"{name} has no {media} processor: save one to this folder with its save_pretrained."
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
    All processors of a folder or Hub name: one combined processor if the checkpoint has both kinds and the family has a class for
    it, else one or two processors. Raises `FileNotFoundError` if there is none.
    """
    folder = Path(name).expanduser()
    media = list(PROCESSOR_FILES)
    if folder.is_dir() and not (folder / COMBINED_PROCESSOR_FILE).is_file():
        media = [each for each, file in PROCESSOR_FILES.items() if (folder / file).is_file()]
    elif "image" not in family.processors:
        media = ["video"]
    if not media:
        raise FileNotFoundError(f"{name} has no processor: save one to this folder with its save_pretrained.")
    found = [load_processor(name, family, each) for each in media]
    return [family.processor("combined")(*found)] if len(found) == 2 and "combined" in family.processors else found


def load_config(name: str, **kwargs: Any) -> Any:
    """
    The config of a folder or Hub name. kwargs: of `AutoConfig.from_pretrained`.

    Raises `OSError` if there is no checkpoint, and `ValueError` for a config that cannot be read. A mistyped folder raises before
    Transformers asks the Hub for it.
    """
    check_model_name(name)
    try:
        with quiet_library():
            return AutoConfig.from_pretrained(name, **kwargs)
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
    except OSError as error:
        if Path(name).expanduser().is_dir() or name in str(error):
            raise
        raise OSError(
            f"{name} is not a folder on this machine, and it cannot be loaded from the Hub: {' '.join(str(error).split())}"
        ) from error


def check_model_name(name: str) -> None:
    """Raise an `OSError` for a mistyped folder, or one without a model, before Transformers asks the Hub for it."""
    path = Path(name).expanduser()
    if path.is_file():
        raise NotADirectoryError(f"{name} is a file; give the folder that save_pretrained wrote.")
    looks_local = name.startswith((".", "~", "/")) or name.count("/") != 1 or path.parent.is_dir()
    if not path.is_dir() and looks_local:
        raise FileNotFoundError(f"There is no model folder {name}.")
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(
            f"{name} is empty and has no config.json: the run that writes a model there has not finished, or was stopped."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json; give a folder that save_pretrained wrote.")


def load_model(name: str, model_class: type | None = None, token_budget: int | None = None, **kwargs: Any) -> Any:
    """
    The model of a folder or Hub name, in evaluation mode.

    model_class: the class to load (default: the class that the checkpoint's config names).
    token_budget: tube tokens per clip at most, for TubeViT; `None` keeps the checkpoint's tubes.
    kwargs: of `from_pretrained`.

    Raises `ValueError` for a model of an unknown family, a pickle, a damaged file, or a checkpoint with missing weights, with NaN or
    inf, or with shapes that contradict its config; `OSError` if there is no checkpoint.
    """
    config = load_config(name)
    family = family_of(config, name)
    if model_class is None:
        model_class = _saved_class(name, family, config)
    elif family.joint_class is not None and config.heads and model_class in map(resolve, family.classifiers.values()):
        first = next(iter(config.heads))
        raise ValueError(
            f"{name} is a joint model, with heads for {', '.join(config.heads)}: save the classifier of one head with "
            f"`tubevit export {name} NEW_FOLDER --dataset {first}`, or use the one that `tubevit train` wrote to its folder "
            f"{first}/."
        )
    if token_budget is None:
        return load_complete(model_class, name, **kwargs)
    check_takes_budget(name, config, "video", token_budget)
    return load_complete(model_class, name, token_budget=token_budget, **kwargs)


def check_takes_budget(name: str, config: Any, media: str, token_budget: int | None) -> None:
    """Raise `ValueError` for a token budget of a model other than TubeViT, or of images."""
    if token_budget is None:
        return
    if not hasattr(config, "with_token_budget"):
        raise ValueError(f"token_budget={token_budget} is for TubeViT, and {name} is a {config.model_type} model.")
    if media == "image":
        raise ValueError(f"token_budget={token_budget} is for clips, and {name} reads images here.")


def _saved_class(name: str, family: ModelFamily, config: Any) -> type:
    """The class in a checkpoint's config; if the config names none, the family's video classifier."""
    import transformers

    if not config.architectures:
        return family.classifier("video")
    class_name = config.architectures[0]
    model_class = family.find_class(class_name) or getattr(transformers, class_name, None)
    if model_class is None:
        raise ValueError(
            f"The config of {name} names the class {class_name!r}, which neither this package nor Transformers has."
        )
    return model_class


def load_complete(model_class: type, name: str, optional_pooler: bool = False, **kwargs: Any) -> Any:
    """
    As `load_model`, for any class with `from_pretrained`, also an Auto class. The config is not checked first.

    optional_pooler: if the checkpoint lacks the weights of the model's `pooler`, set `pooler` to `None` instead of raising; models of
        Transformers with `add_pooling_layer` then return no `pooler_output`.
    """
    folder = Path(name).expanduser()
    if (folder / ONNX_FILE).is_file() and not has_weights(folder):
        raise ValueError(
            f"{name} holds an ONNX file, which only `tubevit predict` runs: name the checkpoint that was exported."
        )
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
    missing = sorted(info["missing_keys"])
    if optional_pooler and missing and all(key.startswith("pooler.") for key in missing):
        model.pooler, missing = None, []
    if missing:
        raise ValueError(
            f"{name} lacks {len(missing)} weights of {type(model).__name__} ({missing[0]}, ...): it was saved from "
            "another class; fine-tune it with this class first."
        )
    check_finite(model.state_dict().items(), name)
    if unexpected := sorted(info["unexpected_keys"]):
        logger.warning(f"{name} also holds {len(unexpected)} weights that are not used ({unexpected[0]}, ...).")
    return model.eval()


def has_weights(folder: Path) -> bool:
    """Whether a folder has the weights of a checkpoint of torch; false for a folder that does not exist."""
    return any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin"))


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence Transformers' warnings, for example the table of missing weights. The callers raise errors of one line instead."""
    from transformers.utils import logging as library_logging

    verbosity = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
