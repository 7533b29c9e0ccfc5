# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Image processor: images to `pixel_values`, by the same steps as video frames.

An image gets the same pixels as a one-frame video, because one model reads both. With `do_rescale=False,
do_normalize=False` the pixels stay uint8, and the model normalizes them.
"""

import os
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, PILImageResampling, load_image
from transformers.processing_utils import ImagesKwargs, Unpack

from .decoded_frames import FrameSequence, PixelFormat, flatten_images
from .hub_export_processing import ProcessorCodeExportMixin
from .processor_settings import PIXEL_RULES, check_names, check_settings


class TubeViTImageProcessor(ProcessorCodeExportMixin, TorchvisionBackend):
    r"""
    Prepares images for TubeViT: resizes the short side, center-crops, rescales and normalizes.

    The output `pixel_values` is `(batch, channels, height, width)`.

    Example:

    ```python
    >>> import numpy as np
    >>> from tubevit.processing import TubeViTImageProcessor

    >>> processor = TubeViTImageProcessor()
    >>> image = np.zeros((120, 160, 3), dtype=np.uint8)
    >>> processor(image, return_tensors="pt").pixel_values.shape
    torch.Size([1, 3, 224, 224])

    ```"""

    auto_class = "AutoImageProcessor"
    combined_key = "image_processor"
    valid_kwargs = ImagesKwargs
    model_input_names = ["pixel_values"]

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 224}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    do_normalize = True
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD

    def __init__(self, **kwargs: Unpack[ImagesKwargs]):
        check_names(self, kwargs, self.valid_kwargs.__annotations__, closed=False)
        super().__init__(**kwargs)
        self._validate_preprocess_kwargs(**{name: getattr(self, name, None) for name in PIXEL_RULES})

    def preprocess(self, images: Any, **kwargs: Unpack[ImagesKwargs]) -> BatchFeature:
        """
        Images to `pixel_values`.

        images: an image or a list of images: path, URL, PIL image, or array or tensor `(height, width, channels)` or
            `(channels, height, width)` with values from 0 to 255, integers or floats; `do_rescale=False` takes floats from
            0 to 1. Floats of another range than the settings expect raise `ValueError`. A 4-dimensional array is a batch.
        kwargs: settings that override the processor's in this call.

        Returns a `BatchFeature` with `pixel_values` `(batch, channels, height, width)`.

        Raises `ValueError` or `TypeError` for an invalid image or setting.
        """
        check_names(self, kwargs, self.valid_kwargs.__annotations__, closed=True)
        check_settings(self, kwargs, PIXEL_RULES)
        return super().preprocess(images, **kwargs)

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Load paths and URLs with PIL, as Transformers' pipelines do; images are returned unchanged. Accepts lists."""
        if isinstance(image_url_or_urls, (str, os.PathLike)):
            return load_image(os.fspath(image_url_or_urls))
        return super().fetch_images(image_url_or_urls)

    def process_image(  # type: ignore[override]  # the other settings stay together
        self, image: Any, input_data_format: str | None = None, device: Any = None, **settings
    ) -> torch.Tensor:
        """One image to a tensor `(channels, height, width)`, by the conversion that video frames get."""
        if not isinstance(image, Image.Image) and image.ndim == 2:
            image, input_data_format = image[None], "channels_first"
        pixel_format = PixelFormat.of({**vars(self), **settings})
        image = FrameSequence([image], input_data_format, pixel_format)[0]
        pixel_format.check_integers(image)
        image = pixel_format.to_channels(image)
        return image if device is None else image.to(device)

    def _standardize_kwargs(self, **kwargs) -> dict[str, Any]:  # type: ignore[override]  # called by keyword only
        # Transformers passes all settings through here, in `__init__` and in every call.
        check_settings(self, kwargs, PIXEL_RULES)
        return super()._standardize_kwargs(**kwargs)

    def _prepare_images_structure(self, images: Any, expected_ndims: int = 3) -> list:
        return flatten_images(self.fetch_images(images))


__all__ = ["TubeViTImageProcessor"]
