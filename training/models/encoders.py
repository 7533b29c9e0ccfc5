# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Encoders of videos and images from checkpoints of any family: classifiers, backbones, and image models that see a clip frame by frame.

The embedding of a clip is the vector that the checkpoint's classifier sees: the `pooler_output` of the backbone of a family of
this package, or the input of the last layer of a classifier of Transformers. A checkpoint of Transformers without a classifier gives
its `pooler_output`, and if it has none, the token or mean of `ModelFamily.bare_pooling`. An image model encodes each frame; the
embedding of the clip is the mean over its frames.
"""

import hashlib
import inspect
from typing import Any, Literal

import torch
import transformers
from transformers import AutoImageProcessor, AutoModel

from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor

from ..data.clip_sampling import UINT8
from .clip_processors import (
    IMAGE_SETTINGS,
    ClipProcessors,
    choose_num_frames,
    clip_processors,
    complete_sampling,
    image_clip_processors,
    image_processor,
)
from .families import ModelFamily, find_family
from .loading import (
    ClipModel,
    check_takes_budget,
    load_complete,
    load_config,
    load_model,
    load_processor,
    quiet_library,
)


Level = Literal["pooled", "tube", "frame", "token"]
FRAMES_OF_IMAGE_MODELS = 8  # frames of a clip, unless the user chooses another number


class VideoEncoder(ClipModel):
    """
    Maps clips to embeddings.

    model: a backbone, or a classifier, whose logits are not used.
    family: its entry in the registry. level: what an embedding holds:

    - "pooled": one vector per clip, `(hidden_size,)`;
    - "tube": the mean over the tokens of each tube of a TubeViT, `(tubes, hidden_size)`;
    - "frame": the vector of each frame of an image model, `(frames, hidden_size)`;
    - "token": the last hidden state, `(tokens, hidden_size)`; of an image model, the tokens of each frame in turn.

    pooling: where the vector of a clip or frame comes from: "classifier" (its input), "pooler_output", "cls" or "mean" (of the last
        hidden state).

    Raises `ValueError` for a level that the model does not have.
    """

    def __init__(
        self, model: Any, processors: ClipProcessors, family: ModelFamily, pooling: str, level: Level = "pooled"
    ):
        super().__init__(model, processors)
        self.family, self.pooling, self.level = family, pooling, level
        self.is_image_model = _is_image_family(family)
        if level == "tube" and not hasattr(model, "set_tubes"):
            raise ValueError(
                f"level=tube needs a TubeViT, and this is a {family.title} model: set level=pooled or token."
            )
        if level == "frame" and not self.is_image_model:
            raise ValueError(
                f"level=frame needs an image model, and the tokens of a {family.title} model belong to several frames: set "
                "level=pooled or token."
            )
        self._classifier_input: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        self._hooks: list[Any] = []
        if pooling == "classifier":
            self._hooks.append(model.classifier.register_forward_pre_hook(self._keep_classifier_input))
            self._hooks.append(model.base_model.register_forward_hook(self._keep_hidden))

    def remove_hooks(self) -> None:
        """Leave the model as it was before. The encoder cannot be used any more."""
        for hook in self._hooks:
            hook.remove()

    def _keep_classifier_input(self, module: Any, args: tuple) -> None:
        self._classifier_input = args[0]

    def _keep_hidden(self, module: Any, args: tuple, outputs: Any) -> None:
        self._hidden = outputs.last_hidden_state

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """
        float32 embeddings `(clips, *shape)` of clips `(clips, frames, channels, height, width)` of the reader, or of images without
        the frames, on the model's device. The class lists the shapes.
        """
        inputs = self.processors.prepare(clips, self.model.dtype)
        if not self.is_image_model:
            return self._embed(inputs, clips).float()
        if self.media == "video":
            inputs = {"pixel_values": inputs["pixel_values_videos"].flatten(0, 1)}
        frames = self._embed(inputs, clips).unflatten(0, (len(clips), -1)).float()
        if self.level == "frame":
            return frames
        return frames.mean(1) if self.level == "pooled" else frames.flatten(1, 2)

    def _embed(self, inputs: dict[str, torch.Tensor], clips: torch.Tensor) -> torch.Tensor:
        """The vectors `(batch, hidden_size)`, tube means `(batch, tubes, hidden_size)` or tokens `(batch, tokens, hidden_size)`."""
        if self.pooling == "classifier":
            self.model(**inputs)
            assert self._classifier_input is not None  # the hook has run
            # VideoPrism classifies (batch, 1, hidden_size)
            pooled, hidden = self._classifier_input.flatten(1), self._hidden
        else:
            outputs = self.model(**inputs, **({} if self.family.base_class else self.family.bare_arguments))
            hidden = outputs.last_hidden_state
            if self.pooling == "pooler_output":
                pooled = outputs.get("pooler_output")
            else:
                pooled = hidden.mean(1) if self.pooling == "mean" else hidden[:, 0]
        if self.level in ("pooled", "frame"):
            if pooled is None:
                raise ValueError(f"{type(self.model).__name__} returns no pooler_output: set level=token.")
            return pooled.flatten(1)  # a CNN returns (batch, channels, 1, 1)
        if hidden is None or hidden.dim() != 3:
            raise ValueError(
                f"level={self.level} needs a last_hidden_state (batch, tokens, hidden_size), which {type(self.model).__name__} does "
                "not return: set level=pooled."
            )
        return hidden if self.level == "token" else self._tube_means(hidden, clips)

    def _tube_means(self, hidden: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        is_image = self.media == "image"
        size = (1 if is_image else clips.shape[1], *clips.shape[-2:])
        numbers = self.model.get_input_embeddings().num_tokens_per_tube(size, is_image)
        tokens = hidden[:, self.model.config.num_prefix_tokens :].split(numbers, dim=1)
        return torch.stack([each.mean(1) for each in tokens], dim=1)

    def weights_sha256(self) -> str:
        """Hash of the names and values of the weights: a folder may be trained again between two runs that write one file."""
        found = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(memoryview(value.cpu().reshape(-1).view(torch.uint8).numpy()))
        return found.hexdigest()

    def describe(self) -> str:
        """What an embedding holds, in words."""
        name = type(self.model).__name__
        vector = {
            "classifier": f"input of the classifier of {name}",
            "pooler_output": f"pooler_output of {name}",
            "cls": f"class token of {name}",
            "mean": f"mean over the tokens of {name}",
        }[self.pooling]
        if self.level == "tube":
            return f"mean over the tokens of each tube of {name}"
        if self.level == "token":
            return f"last_hidden_state of {name}" + (" for each frame" if self.is_image_model else "")
        if not self.is_image_model or self.media == "image":
            return vector
        return f"{vector} for each frame" + ("" if self.level == "frame" else ", averaged over the frames")


def load_encoder(
    name: str,
    media: str = "video",
    level: Level = "pooled",
    settings: dict[str, Any] | None = None,
    dtype: str = "auto",
    token_budget: int | None = None,
) -> VideoEncoder:
    """
    The encoder of a folder or Hub name, on the CPU.

    media: "video" or "image", the kind of data to encode. level: see `VideoEncoder`.
    settings: settings of `TubeViTVideoProcessor` that replace the checkpoint's; `None` keeps the checkpoint's. For an image model,
        `num_frames` is by default `FRAMES_OF_IMAGE_MODELS`, spread over the video.
    dtype: "auto" for the checkpoint's, "float32", "bfloat16" or "float16".
    token_budget: tube tokens per clip at most, for TubeViT; `None` keeps the checkpoint's tubes.

    Raises `ValueError` or `OSError` of one line for a checkpoint that lacks weights or a processor, that has no vector for a clip, that
    cannot read this kind of data, or that has no embedding of this level.
    """
    config = load_config(name)
    family = find_family(config) or ModelFamily(
        model_type=config.model_type, frames_field=None, input_name="pixel_values", bare_pooling="cls"
    )
    settings = complete_sampling(settings or {})
    check_takes_budget(name, config, media, token_budget)
    if _is_image_family(family):
        model, pooling = _load_library_model(name, family, config, dtype)
        return VideoEncoder(model, _frame_processors(name, media, settings), family, pooling, level)
    if media == "image":
        processors, overrides = _image_processors(name, family, config), {}
    else:
        own = load_processor(name, family, "video")
        num_frames = choose_num_frames(settings, own, family, config, name)
        processors = clip_processors(own, settings, num_frames, family, config)
        overrides = family.frames_settings(num_frames, config)
    if family.base_class is not None:
        model, pooling = load_model(name, None, token_budget, dtype=dtype, **overrides).base_model, "pooler_output"
    else:
        model, pooling = _load_library_model(name, family, config, dtype, **overrides)
    if media == "video":
        family.adapt_num_frames(model, processors.reader.num_frames)
    return VideoEncoder(model, processors, family, pooling, level)


def _is_image_family(family: ModelFamily) -> bool:
    """Whether its models read single images only."""
    return "video" not in family.classifiers


def _load_library_model(name: str, family: ModelFamily, config: Any, dtype: str, **overrides: Any) -> tuple[Any, str]:
    """
    The model of a checkpoint of Transformers, and where the vector of a clip or frame comes from: the classifier that the checkpoint
    was saved from, else the encoder without a head. Of CLIP, SigLIP and other two-tower models it is the vision tower.
    """
    class_name = (config.architectures or [""])[0]
    if class_name.endswith(("ForVideoClassification", "ForImageClassification")):
        saved_class = family.find_class(class_name) or getattr(transformers, class_name)
        model = load_complete(saved_class, name, dtype=dtype, **overrides)
        if not hasattr(model, "classifier"):
            raise ValueError(f"{name} is a {class_name}, which has no layer `classifier` whose input is an embedding.")
        return model, "classifier"
    if _is_image_family(family) and "vision_config" in config.sub_configs:
        overrides["config"] = config.vision_config
    model = load_complete(AutoModel, name, optional_pooler=True, dtype=dtype, **overrides)
    if "noise" in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"{name} is a {family.title} model, which masks patches at random: it has no embedding of a frame."
        )
    if "spatial_shapes" in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"{name} is a {family.title} model, which reads patches of images of any size: it cannot read frames."
        )
    has_no_pooler = model.pooler is None if hasattr(model, "pooler") else not _is_image_family(family)
    return model, family.bare_pooling if has_no_pooler else "pooler_output"


def _frame_processors(name: str, media: str, settings: dict[str, Any]) -> ClipProcessors:
    """Processors of an image model: each frame gets the pixels that the checkpoint's image processor gives to an image."""
    try:
        with quiet_library():
            like = AutoImageProcessor.from_pretrained(name)
    except OSError as error:
        raise FileNotFoundError(
            f"{name} has no image processor: save one to this folder with its save_pretrained."
        ) from error
    pixels = {setting: getattr(like, setting) for setting in IMAGE_SETTINGS}
    pixels = {"do_center_crop": False, **{setting: value for setting, value in pixels.items() if value is not None}}
    if media == "image":
        own: Any = TubeViTImageProcessor(**pixels)
    else:
        own = TubeViTVideoProcessor(**{**pixels, "num_frames": FRAMES_OF_IMAGE_MODELS, **settings})
    return ClipProcessors(type(own).from_dict({**own.to_dict(), **UINT8}), own, own)


def _image_processors(name: str, family: ModelFamily, config: Any) -> ClipProcessors:
    """Processors of a video model that reads images too; without an image processor, those of its video processor's frames."""
    if "image" not in family.classifiers:
        raise ValueError(f"{name} is a {family.title} model, which reads videos, and the data are images.")
    try:
        own = load_processor(name, family, "image")
    except FileNotFoundError:
        own = image_processor(load_processor(name, family, "video"))
    return image_clip_processors(own, family, config)
