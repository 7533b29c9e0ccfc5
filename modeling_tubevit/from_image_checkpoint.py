# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Making a TubeViT out of an image model. What that takes is imported when it is asked for."""

import os


class ImageCheckpointMixin:
    """Adds `from_image_checkpoint` to the models."""

    @classmethod
    def from_image_checkpoint(
        cls,
        name_or_path: str | os.PathLike,
        *,
        positions: str = "transfer",
        tube_init: str = "central",
        tubes: list[dict] | None = None,
        num_frames: int = 32,
        pooling: str = "source",
        image_size: int | tuple[int, int] | None = None,
        output_report: bool = False,
        source_kwargs: dict | None = None,
        **config_overrides,
    ):
        """
        A TubeViT that starts from an image model of Transformers: ViT, DeiT, DINOv2 (with or without registers), DINOv3 ViT,
        or the vision tower of SigLIP, SigLIP 2 or CLIP.

        With the defaults an image gives the source's own features, pooled vector and logits to rounding. The 3D tubes start
        from its patch kernel.

        name_or_path: a folder or a name on the Hub, of safetensors.
        positions: `"transfer"`, the source's own spatial positions at the tubes' centres plus the fixed temporal code less its
            value at t = 0 (`position_embedding="transfer"`); or `"fixed"`, the paper's, in place of the source's.
        tube_init: how kernels of 3D tubes start: `"central"`, the patch kernel at the central frame; `"average"`, a share of
            it at every frame; both resized to the tube's rows and columns; or `"random"`.
        tubes: the tubes; by default the 3D ones of the main configuration. The source's patch is the 2D tube and is added.
        num_frames: of the clips that the model is made for.
        pooling: `"source"`, what the source does (an encoder's own pooled vector, or what its classifier reads), or any
            `config.pooling`; `"attention"` uses SigLIP's head where there is one.
        image_size: side, or (height, width), of the clips; by default of the images that the source's preprocessor makes.
        output_report: also return the `ConversionReport`, which accounts for every tensor of both models.
        source_kwargs: for `from_pretrained` of the source, such as `{"revision": "main"}`.
        config_overrides: fields of `TubeViTConfig`. With `num_labels` or `id2label` the classifier is new; otherwise a
            classification model keeps the source's classifier and labels, if it has one and the pooling is its own.

        Returns the model in evaluation mode, or `(model, report)`. Raises `ValueError` for what cannot be carried over exactly,
        `OSError` where there is no checkpoint.
        """
        from .image_checkpoints import ConversionChoices, convert_image_checkpoint

        choices = ConversionChoices(positions, tube_init, tubes, num_frames, pooling, image_size)
        model, report = convert_image_checkpoint(
            cls, name_or_path, choices, hasattr(cls, "classify"), source_kwargs or {}, config_overrides
        )
        return (model, report) if output_report else model
