# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Processor for images and videos: an image processor and a video processor in one object. There is no tokenizer."""

import io
import mimetypes
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import Image, UnidentifiedImageError
from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs, Unpack

from .hub_export_processing import marked_for_export
from .image_processing_tubevit import TubeViTImageProcessor
from .video_inputs import is_encoded, is_torchcodec_decoder
from .video_processing_tubevit import TubeViTVideoProcessor


MAX_PATH = 4096  # characters
ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF")  # PIL's formats that may hold a video; the pages of a TIFF are not a video


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
        images, videos: inputs of the image processor and of the video processor; at least one is required. The first argument
            may also be a video or a list of videos, by path, URL, bytes, file object or row of a `datasets` Video column:
            `processor("clip.mp4")` decodes it.
        kwargs: settings that override the processors' in this call. A setting of both processors applies to both;
            `images_kwargs={...}` and `videos_kwargs={...}` apply to one.

        Returns a `BatchFeature` with `pixel_values` `(batch, channels, height, width)` and / or `pixel_values_videos`
        `(batch, frames, channels, height, width)`.

        Raises `ValueError` if both inputs are missing or mixed, and the errors of the two processors.
        """
        are_videos = {_is_video(source) for source in _flatten(images)}
        if True in are_videos:
            if videos is not None or False in are_videos:
                raise ValueError("images= holds a video: pass images with images= and videos with videos=.")
            images, videos = None, images
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


def _flatten(inputs: Any) -> Iterator[Any]:
    if isinstance(inputs, (list, tuple)):
        for each in inputs:
            yield from _flatten(each)
    elif inputs is not None:
        yield inputs


def _is_video(source: Any) -> bool:
    """Whether `source` is an encoded video: a file that PIL cannot open, or an animation. A missing file or URL goes by its name."""
    if not is_encoded(source):
        return is_torchcodec_decoder(source)
    if isinstance(source, dict):
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if "://" in name and not name.startswith("file://"):
            return (mimetypes.guess_type(urllib.parse.urlsplit(name).path)[0] or "").startswith("video/")
        path = Path(name.removeprefix("file://"))
        if len(name) > MAX_PATH or not path.is_file():  # possibly an image in base64, which has no suffix
            return len(name) <= MAX_PATH and path.suffix.lower() not in ("", *Image.registered_extensions())
        source = path
    elif isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    elif not hasattr(source, "seek"):
        return True
    try:
        with Image.open(source) if isinstance(source, Path) else nullcontext(Image.open(source)) as image:
            return image.format in ANIMATIONS and image.n_frames > 1  # type: ignore[attr-defined]  # of these formats
    except UnidentifiedImageError:
        return True
    finally:
        if not isinstance(source, Path):
            source.seek(0)


__all__ = ["TubeViTProcessor"]
