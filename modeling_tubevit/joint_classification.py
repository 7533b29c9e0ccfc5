# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Joint training on images and videos (section 3.5): one backbone, and one linear head per data set. The loss of a batch uses
only the head of its data set.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, can_return_tuple

from .classification import average_views, classification_loss
from .configuration_tubevit import TubeViTConfig
from .modeling_tubevit import (
    TubeViTForImageClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    TubeViTPreTrainedModel,
)


class HeadLoss(NamedTuple):
    """What `classification_loss` reads of a config, for one head. `torch.compile` traces tuples, but no `SimpleNamespace`."""

    problem_type: str


@dataclass
@auto_docstring(custom_intro="Output of [`TubeViTForJointClassification`].")
class TubeViTJointOutput(ModelOutput):
    r"""
    loss (`torch.Tensor` of shape `(1,)`, *optional*, returned with labels):
        Sum of the losses of the two batches, each multiplied by the `loss_weight` of its data set.
    logits (`torch.Tensor` of shape `(batch_size, num_labels)`):
        Logits of the videos from the head of their data set; logits of the images if there are no videos.
    image_logits (`torch.Tensor` of shape `(image_batch_size, num_labels)`, *optional*):
        Logits of the images if the batch has videos too.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    image_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@auto_docstring(
    custom_intro="""
    TubeViT for joint training on images and videos, with a linear head for each data set of `config.heads`.
    """
)
class TubeViTForJointClassification(TubeViTPreTrainedModel):
    # Each loss is a mean over the labels of its own head, and Trainer divides it by the accumulation steps. With True it
    # would pass num_items_in_batch, which sums labels of different heads.
    accepts_loss_kwargs = False

    def __init__(self, config: TubeViTConfig):
        if not config.heads:
            raise ValueError(
                "TubeViTForJointClassification needs heads in the config, such as "
                '{"kinetics600": {"modality": "video", "num_labels": 600}}.'
            )
        super().__init__(config)
        self.tubevit = TubeViTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifiers = nn.ModuleDict()
        for name, head in config.heads.items():
            if hasattr(self.classifiers, name):
                raise ValueError(
                    f"heads: {name!r} cannot name a data set, because torch's ModuleDict has this attribute."
                )
            self.classifiers[name] = nn.Linear(config.pooled_size, head["num_labels"])
        self.loss_function = classification_loss
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        image_targets: torch.Tensor | None = None,
        head: str | None = None,
        image_head: str | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TubeViTJointOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`, *optional*):
            Clips, or several views of each, as in [`TubeViTForVideoClassification`].
        pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`, *optional*):
            Images. Give clips, images, or a batch of each.
        labels (`torch.Tensor`, *optional*):
            Labels of the clips, or of the images if there are no clips, as the head's problem type needs them.
        image_targets (`torch.Tensor`, *optional*):
            Labels of the images if the batch has clips too. The name has no "label" because Trainer requires every argument
            with "label" in its name in each batch.
        head (`str`, *optional*):
            Data set of the clips, or of the images if there are no clips. Optional if there is one data set of this
            modality.
        image_head (`str`, *optional*):
            Data set of the images if the batch has clips too. Optional if there is one image data set.
        """
        if pixel_values_videos is None:
            if pixel_values is None:
                raise ValueError("Give pixel_values_videos (clips), pixel_values (images), or both.")
            if image_targets is not None or image_head is not None:
                raise ValueError(
                    "image_targets and image_head need pixel_values_videos too; for images alone use labels and head."
                )
            name = self._head_name(head, "image", "head")
            outputs, logits = self._images(pixel_values, name, **kwargs)
            loss = self._loss(name, logits, labels)
            return TubeViTJointOutput(loss, logits, None, outputs.hidden_states, outputs.attentions)

        name = self._head_name(head, "video", "head")
        outputs, logits = self._videos(pixel_values_videos, name, **kwargs)
        loss, image_logits = self._loss(name, logits, labels), None
        if pixel_values is not None:
            image_name = self._head_name(image_head, "image", "image_head")
            _, image_logits = self._images(pixel_values, image_name, **kwargs)
            image_loss = self._loss(image_name, image_logits, image_targets)
            if image_loss is not None:
                loss = image_loss if loss is None else loss + image_loss
        return TubeViTJointOutput(loss, logits, image_logits, outputs.hidden_states, outputs.attentions)

    def to_classifier(self, head: str) -> TubeViTForVideoClassification | TubeViTForImageClassification:
        """A single-head classifier for one data set, with a copy of the weights; Auto classes and pipelines can load it."""
        values = self._heads[self._check_head(head, "head")]
        config = copy.deepcopy(self.config)
        config.heads = None
        config.id2label = {int(index): label for index, label in values["id2label"].items()}
        config.label2id = {label: index for index, label in config.id2label.items()}
        config.problem_type = values["problem_type"]
        is_video = values["modality"] == "video"
        model_class = TubeViTForVideoClassification if is_video else TubeViTForImageClassification
        model = model_class(config).to(self.device, self.dtype)  # type: ignore[arg-type]  # a decorator hides that `to` is a method
        model.tubevit.load_state_dict(self.tubevit.state_dict())
        model.classifier.load_state_dict(self.classifiers[head].state_dict())
        return model.train(self.training)

    @property
    def _heads(self) -> dict[str, dict]:
        assert self.config.heads is not None  # __init__ requires heads
        return self.config.heads

    def _videos(self, pixels: torch.Tensor, name: str, **kwargs):
        has_views = pixels.dim() == 6
        clips = pixels.flatten(0, 1) if has_views else pixels
        outputs = self.tubevit(pixel_values_videos=clips, return_dict=True, **kwargs)
        logits = self.classifiers[name](self.dropout(outputs.pooler_output))
        if has_views:
            views = logits.unflatten(0, (pixels.shape[0], pixels.shape[1]))
            logits = average_views(views, self._heads[name]["problem_type"])
        return outputs, logits

    def _images(self, pixels: torch.Tensor, name: str, **kwargs):
        outputs = self.tubevit(pixel_values=pixels, return_dict=True, **kwargs)
        return outputs, self.classifiers[name](self.dropout(outputs.pooler_output))

    def _loss(self, name: str, logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
        if labels is None:
            return None
        head = self._heads[name]
        return head["loss_weight"] * self.loss_function(labels, logits, HeadLoss(head["problem_type"]))

    def _head_name(self, name: str | None, modality: str, argument: str) -> str:
        fitting = [known for known, head in self._heads.items() if head["modality"] == modality]
        if name is None and len(fitting) == 1:
            return fitting[0]
        if name is not None and self._check_head(name, argument) in fitting:
            return name
        raise ValueError(
            f"{argument} must be a data set of {modality}s, one of {', '.join(fitting) or 'none'}, got {name!r}."
        )

    def _check_head(self, name: str, argument: str) -> str:
        if name not in self._heads:
            raise ValueError(f"{argument}: there is no data set {name!r}; there are {', '.join(self._heads)}.")
        return name


__all__ = ["TubeViTForJointClassification", "TubeViTJointOutput"]
