# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The models of experiments. Each takes uint8 `pixel_values_videos` (clips) or `pixel_values` (images), whichever it is
for, and returns an output with `logits`.

A description is a dictionary with `"kind"` and the fields of that kind's function here, or of a peer of
`peers`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..models import model_size
from ..models.families import family_of, peers, resolve
from ..models.model_size import count_flops
from .settings import Data


INPUT_NAMES = {"video": "pixel_values_videos", "image": "pixel_values"}
ADDED_LATER = ("extra_layers.",)  # weights that a trained start need not have


@dataclass(frozen=True)
class Setting:
    """
    What a model is made for. It depends on the data alone, and is the same for all models that are compared.

    num_classes: of each kind of data that there is. mean, deviation: of pixels between 0 and 1, per channel.
    """

    data: Data
    num_classes: dict[str, int]
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    deviation: Sequence[float] = (0.5, 0.5, 0.5)


def build_model(
    description: dict[str, Any], setting: Setting, starts: dict[str, nn.Module] | None = None
) -> nn.Module:
    """
    A model with random weights from torch's global generator, or with those of its starts.

    starts: trained models by their part.

    Raises `ValueError` for a kind that there is not.
    """
    fields = dict(description)
    kind = fields.pop("kind")
    builders = _builders()
    if kind not in builders:
        raise ValueError(f"There is no kind of model {kind!r}; there are {', '.join(builders)}.")
    return builders[kind](setting, starts or {}, **fields)


def _builders() -> dict[str, Callable[..., nn.Module]]:
    def peer(name: str) -> Callable[..., nn.Module]:
        return lambda setting, starts, **fields: build_peer(name, setting, **fields)

    return {
        "tubevit": build_tubevit,
        "vit": build_vit,
        "scaled": build_scaled,
        **{name: peer(name) for name in peers()},
    }


def build_tubevit(setting: Setting, starts: dict[str, nn.Module], joint: bool = False, **fields: Any) -> nn.Module:
    """
    A TubeViT; with `joint` one that has a head for clips and one for images.

    fields: of `TubeViTConfig`. A start named "weights" is where the weights come from; layers that it does not have
    stay random.
    """
    from tubevit import TubeViTConfig, TubeViTForJointClassification, TubeViTForVideoClassification

    fields = {
        "num_frames": setting.data.num_frames,
        "image_size": setting.data.image_size,
        "image_mean": list(setting.mean),
        "image_std": list(setting.deviation),
        "initializer_range": spread_of(fields),
        **fields,
    }
    if joint:
        heads = {kind: {"modality": kind, "num_labels": number} for kind, number in setting.num_classes.items()}
        model = TubeViTForJointClassification(TubeViTConfig(**fields, heads=heads))
    else:
        model = TubeViTForVideoClassification(TubeViTConfig(**fields, num_labels=setting.num_classes["video"]))
    embeddings = model.tubevit.embeddings
    if model.config.kernel_initialization == "normal":
        start_kernels_small([*embeddings.projections.parameters(), *_parameters(embeddings.interpolated_kernel)])
    if "weights" in starts:
        _copy_weights(starts["weights"], model)
    return model


def _parameters(module: nn.Module | None) -> Iterable[nn.Parameter]:
    return () if module is None else module.parameters()


def _copy_weights(start: nn.Module, model: nn.Module) -> None:
    missing, unexpected = model.load_state_dict(start.state_dict(), strict=False)
    missing = [name for name in missing if not any(part in name for part in ADDED_LATER)]
    if missing or unexpected:
        raise ValueError(f"The start has other weights than the model: {', '.join((missing + unexpected)[:3])}.")


@torch.no_grad()
def start_kernels_small(parameters: Iterable[nn.Parameter]) -> None:
    """
    Draw the kernels that read pixels anew, of any model: tokens start at about half the size of the pixels, and a step
    of the optimizer changes them visibly. At the usual spread, few steps would leave them almost as they were drawn.
    """
    for parameter in parameters:
        if parameter.ndim > 1:
            parameter.normal_(std=0.4 * parameter[0].numel() ** -0.5)


def build_vit(setting: Setting, starts: dict[str, nn.Module], patch_size: int, **fields: Any) -> nn.Module:
    """An image ViT of Transformers. fields: of `ViTConfig`."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=setting.data.image_size,
        patch_size=patch_size,
        num_labels=setting.num_classes["image"],
        initializer_range=spread_of(fields),
        **fields,
    )
    return Normalized(ViTForImageClassification(config), "pixel_values", setting)


def build_scaled(setting: Setting, starts: dict[str, nn.Module], num_frozen_layers: int, gate: bool) -> nn.Module:
    """The start "large", an image ViT, with the tubes of the start "small" (section 3.6)."""
    from tubevit import scale_up

    from ..models.loading import quiet_library

    large = starts["large"].model
    with quiet_library():
        return scale_up(
            starts["small"],
            large,
            num_frozen_layers=num_frozen_layers,
            gate=gate,
            num_labels=setting.num_classes["video"],
            image_size=setting.data.image_size,
            image_mean=list(setting.mean),
            image_std=list(setting.deviation),
        )


def spread_of(fields: dict[str, Any]) -> float:
    """Standard deviation of initial weights: the usual 0.02 is for widths of 768 and more."""
    return round(fields["hidden_size"] ** -0.5, 4)


class Normalized(nn.Module):
    """
    A model of Transformers that takes uint8 as ours do: it is fed normalised floats. Its patch kernels start as ours
    do.

    input_name: the model's own name of its input.
    num_frames: of clips, how many are taken, spread evenly; all by default.
    """

    def __init__(self, model: nn.Module, input_name: str, setting: Setting, num_frames: int | None = None):
        super().__init__()
        self.model, self.input_name, self.num_frames = model, input_name, num_frames
        self.register_buffer("mean", torch.tensor(setting.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(setting.deviation).view(3, 1, 1), persistent=False)
        convolutions = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
        start_kernels_small(convolution.weight for convolution in convolutions)

    @property
    def config(self) -> Any:
        return self.model.config

    def forward(
        self, pixel_values: torch.Tensor | None = None, pixel_values_videos: torch.Tensor | None = None
    ) -> Any:
        pixels = pixel_values if pixel_values_videos is None else pixel_values_videos
        if self.num_frames is not None and self.num_frames < pixels.shape[1]:
            step = pixels.shape[1] / self.num_frames
            pixels = pixels[:, [int((index + 0.5) * step) for index in range(self.num_frames)]]
        pixels = (pixels.float() / 255 - self.mean) / self.deviation
        return SimpleNamespace(logits=self.model(**{self.input_name: pixels}).logits)


def example_input(data: Data, kind: str, batch_size: int = 1, device: str = "cpu") -> dict[str, torch.Tensor]:
    """A batch of black clips or images, uint8, as keyword arguments of a model."""
    size = (data.image_size, data.image_size)
    shape = (batch_size, data.num_frames, 3, *size) if kind == "video" else (batch_size, 3, *size)
    return {INPUT_NAMES[kind]: torch.zeros(shape, dtype=torch.uint8, device=device)}


def count_gflops(model: nn.Module, data: Data, kind: str = "video") -> float:
    """
    GFLOPs of the forward pass of one clip or image: a multiplication and an addition are two operations, in matrix
    products and convolutions alone.
    """
    return count_flops(model, **example_input(data, kind)) / 1e9


def count_tokens(model: nn.Module, data: Data, kind: str = "video") -> int:
    """Tokens that the layers attend over, of a clip or an image; of an image for a model that takes no clips."""
    config = model.config
    if not isinstance(model, Normalized):
        return config.num_tokens(data.num_frames) if kind == "video" else config.num_image_tokens()
    kind = "video" if "video" in family_of(config).classifiers else "image"
    (pixels,) = example_input(data, kind).values()
    frames = pixels if model.num_frames is None else pixels[:, : model.num_frames]
    return model_size.count_tokens(model.model, **{model.input_name: frames.float()})


def build_peer(
    name: str,
    setting: Setting,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
) -> nn.Module:
    """The peer with random weights. Attention is sdpa where the model knows it, eager elsewhere."""
    peer = peers()[name]
    num_frames = min(peer.default_num_frames, setting.data.num_frames)
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
    config = peer.get("config_class")(
        **sizes,
        **{peer.size_field: setting.data.image_size, peer.frames_field: num_frames},
        **resolve(peer.size_fields)(patch_size, hidden_size, num_hidden_layers, intermediate_size),
        num_attention_heads=num_attention_heads,
        initializer_range=spread_of(sizes),
        num_labels=setting.num_classes["video"],
    )
    model_class = peer.classifier("video")
    try:
        model = model_class._from_config(config, attn_implementation="sdpa")
    except ValueError:
        model = model_class._from_config(config, attn_implementation="eager")
    return Normalized(model, peer.input_name, setting, num_frames)
