# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Processor for images and videos: an image processor and a video processor in one object. There is no tokenizer."""

import os
from contextlib import nullcontext
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs, Unpack

from .hub_export_processing import marked_for_export
from .image_processing_tubevit import TubeViTImageProcessor
from .video_processing_tubevit import TubeViTVideoProcessor


class TubeViTProcessor(ProcessorMixin):
    r"""
    Prepares images, videos or both for TubeViT.

    image_processor (`TubeViTImageProcessor`, *optional*): images to `pixel_values`; default settings if omitted.
    video_processor (`TubeViTVideoProcessor`, *optional*): videos to `pixel_values_videos`; default settings if omitted.

    Example:

    ```python
    >>> import numpy as np
    >>> from tubevit.processing import TubeViTProcessor

    >>> processor = TubeViTProcessor()
    >>> image, video = np.zeros((48, 64, 3), np.uint8), np.zeros((40, 48, 64, 3), np.uint8)
    >>> inputs = processor(images=image, videos=video, return_tensors="pt")
    >>> inputs["pixel_values"].shape, inputs["pixel_values_videos"].shape
    (torch.Size([1, 3, 224, 224]), torch.Size([1, 32, 3, 224, 224]))

    ```"""

    auto_class = "AutoProcessor"

    def __init__(self, image_processor=None, video_processor=None):
        super().__init__(image_processor or TubeViTImageProcessor(), video_processor or TubeViTVideoProcessor())

    def __call__(self, images: Any = None, videos: Any = None, **kwargs: Unpack[ProcessingKwargs]) -> BatchFeature:
        """
        images, videos: inputs of the image processor and of the video processor; at least one is required.
        kwargs: settings that override the processors' in this call. A setting of both processors applies to both;
            `images_kwargs={...}` and `videos_kwargs={...}` apply to one.

        Returns a `BatchFeature` with `pixel_values` `(batch, channels, height, width)` and / or `pixel_values_videos`
        `(batch, frames, channels, height, width)`.

        Raises `ValueError` if both inputs are missing, and the errors of the two processors.
        """
        if images is None and videos is None:
            raise ValueError("TubeViTProcessor needs images=, videos= or both.")
        return super().__call__(images=images, videos=videos, **kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, *, with_code: bool = False, **kwargs
    ) -> list[str]:
        """
        As in the base class: one `processor_config.json`, which `AutoProcessor`, `AutoImageProcessor` and
        `AutoVideoProcessor` read. The config of a model in the folder takes the clip size of the video processor.

        with_code: also copy the modules that the processors need, so that `trust_remote_code=True` loads the folder
            without this package.
        """
        self.video_processor.update_model_config(save_directory)
        with self._marked_for_export() if with_code else nullcontext():
            return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def push_to_hub(self, repo_id: str, *, with_code: bool = False, **kwargs):
        """As in the base class; `with_code` as in `save_pretrained`."""
        with self._marked_for_export() if with_code else nullcontext():
            return super().push_to_hub(repo_id, **kwargs)

    def _marked_for_export(self):
        return marked_for_export(self, self.image_processor, self.video_processor)

    def _merge_kwargs(self, *args, **kwargs) -> dict[str, dict]:
        try:
            return super()._merge_kwargs(*args, **kwargs)
        except StrictDataclassFieldValidationError as error:  # not a ValueError, and several lines long
            raise ValueError(" ".join(str(error).split())) from None


__all__ = ["TubeViTProcessor"]
