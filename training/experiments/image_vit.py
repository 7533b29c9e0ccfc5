# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video models of other families from the weights of an image ViT, for the comparison of `tubevit experiments transfer`.

The image model is read as `from_image_checkpoint` of TubeViT reads it, and becomes a plain ViT: LayerScale is multiplied into the
projections that it follows, and positions are interpolated to the size of the frames. Both steps are exact. Then:

- ViViT: the patch kernel at the middle frame of each tubelet, positions repeated over time, as its authors do ("central frame").
- VideoMAE: the same kernel; it has no class token, and its positions stay its own fixed sines. Its keys have no bias, which
  changes nothing: the bias of the keys adds the same number to all scores of a query.
- TimeSformer: spatial attention from the ViT; temporal attention starts with the same weights and an output projection of zeros,
  as its authors do, so that each frame has the ViT's tokens at first.
- ViViT Models 1 to 4: `from_image_checkpoint` of `FactorizedViViTModel`, which takes a plain ViT.

UniFormerV2 is not converted: its layers expect CLIP's layer norm in front of the first one, which other ViTs do not have.
"""

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from .settings import VIDEO


Weights = dict[str, Any]
# Fields of a `FactorizedViViTConfig` that a ViT does not determine.
OWN_FIELDS = ("num_frames", "tubelet_size", "factorization", "temporal_num_hidden_layers", "image_mean", "image_std")


def from_image_vit(source: str, name: str, config: Any) -> Any:
    """
    The classifier of the design `name` of `families.designs` with this config and the weights of the image ViT `source`. The config gets
    the activation and the epsilon of the source's norms.

    Raises `ValueError` for a design without a conversion, and for an image model that is not a plain ViT.
    """
    import torch

    from ..models.families import designs, family_of

    if name not in converted():
        raise ValueError(
            f"{designs()[name][1].title} has no conversion from an image ViT that keeps its function; those with one are "
            f"{', '.join(converted())}."
        )
    family = family_of(config)
    side = getattr(config, family.size_field)
    vit, fields = plain_vit(source, (side, side), config.num_hidden_layers)
    for field in ("layer_norm_eps", "hidden_act"):
        setattr(config, field, fields[field])
    model_class = family.classifier(VIDEO)
    if name not in CONVERSIONS:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            as_vit_model(vit, fields, (side, side)).save_pretrained(folder)
            own = {key: value for key, value in config.to_diff_dict().items() if key in OWN_FIELDS}
            return model_class.from_image_checkpoint(folder, num_labels=config.num_labels, **own)
    model = model_class(config)
    missing, unexpected = model.load_state_dict(CONVERSIONS[name](vit, config), strict=False)
    lost = [each for each in missing if not each.startswith("classifier.")]
    if lost or unexpected:
        raise ValueError(f"{source} does not fit a {name}: {', '.join([*lost, *unexpected][:3])}.")
    return model


def converted() -> list[str]:
    """The names of designs that `from_image_vit` takes."""
    from ..models.families import designs

    return [name for name, (family, _) in designs().items() if name in CONVERSIONS or family.converts("vit")]


def plain_vit(source: str, image_size: tuple[int, int], num_layers: int) -> tuple[Weights, dict[str, Any]]:
    """
    The tensors of the first `num_layers` layers of an image model as a plain ViT, and its config fields.

    Tensors: "cls" `(1, 1, width)` with its position, "positions" `(1, patches, width)` of frames of `image_size` = (height, width) in
    pixels, "patch.weight" `(width, channels, rows, columns)`, "patch.bias", "norm.*", and "layers.*" with the names of Transformers' ViT.

    Raises `ValueError` for a model with parts that a plain ViT lacks, such as register tokens, rotary positions or gated MLPs.
    """
    import torch

    from tubevit import TubeViTModel

    # 3D tubes, which are not used here, may be larger than a frame.
    model = TubeViTModel.from_image_checkpoint(
        source, image_size=image_size, allow_missing_tubes=True, num_hidden_layers=num_layers
    )
    config, state = model.config, model.state_dict()
    for field, value in (
        ("use_gated_mlp", False),
        ("rope_theta", None),
        ("use_pre_layernorm", False),
        ("num_register_tokens", 0),
        ("final_layernorm", "tokens"),
        ("use_cls_token", True),
    ):
        if getattr(config, field) != value:
            raise ValueError(
                f"{source} is not a plain ViT ({field}={getattr(config, field)!r}): the other families cannot take its weights exactly."
            )
    (index,) = [each for each, tube in enumerate(config.get_tubes()) if tube.is_image_tube]
    embeddings = model.embeddings
    with torch.no_grad():
        positions = embeddings.positions(
            (embeddings.image_tubes[index],), [index], (1, *image_size), torch.empty(1, 1, config.hidden_size)
        )
    weights = {
        "cls": state["embeddings.cls_token"],
        "positions": positions[None],
        "patch.weight": state[f"embeddings.projections.{index}.weight"][:, :, 0],
        "patch.bias": state[f"embeddings.projections.{index}.bias"],
    }
    weights |= {f"norm.{part}": state[f"layernorm.{part}"] for part in ("weight", "bias")}
    for name, value in state.items():
        if not name.startswith("layers.") or "layer_scale" in name:
            continue
        layer = name.split(".")[1]
        for part, scale in (("attention.o_proj", "layer_scale1"), ("mlp.fc2", "layer_scale2")):
            factor = state.get(f"layers.{layer}.{scale}.lambda1")
            if f".{part}." in name and factor is not None:
                value = value * (factor[:, None] if value.dim() == 2 else factor)
        weights[name] = value
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
        "qkv_bias", "num_channels",
    )  # fmt: skip
    return weights, {name: getattr(config, name) for name in names} | {"patch_size": config.get_patch_size()[0]}


def as_vit_model(vit: Weights, fields: Mapping[str, Any], image_size: tuple[int, int]) -> Any:
    """The `ViTModel` of Transformers with the tensors and fields of `plain_vit`."""
    import torch
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(**fields, image_size=image_size[0]), add_pooling_layer=False).eval()
    weights = {
        "embeddings.cls_token": vit["cls"],
        "embeddings.position_embeddings": _with_cls_position(vit["positions"]),
        **_patch("embeddings.patch_embeddings.projection", vit["patch.weight"], vit),
        **_norm("layernorm", vit),
        **{name: value for name, value in vit.items() if name.startswith("layers.")},
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("mask_token" in each for each in missing)
    return model.requires_grad_(False) if torch.is_grad_enabled() else model


def _with_cls_position(positions: Any) -> Any:
    """Positions `(1, tokens, width)` behind one of zeros: that of the class token is part of it already."""
    import torch

    return torch.cat((torch.zeros_like(positions[:, :1]), positions), dim=1)


def _patch(prefix: str, kernel: Any, vit: Weights) -> Weights:
    return {f"{prefix}.weight": kernel, f"{prefix}.bias": vit["patch.bias"]}


def _norm(prefix: str, vit: Weights) -> Weights:
    return {f"{prefix}.{part}": vit[f"norm.{part}"] for part in ("weight", "bias")}


def _tubelet_kernel(vit: Weights, frames: int) -> Any:
    """The patch kernel at frame `frames // 2` of a kernel of zeros, `(width, channels, frames, rows, columns)`."""
    from tubevit.kernel_inflation import inflate_kernel

    kernel = vit["patch.weight"]
    return inflate_kernel(kernel, (frames, *kernel.shape[2:]), kernel.shape[0], "central")


def to_vivit(vit: Weights, config: Any) -> Weights:
    """The state of a `VivitForVideoClassification`, without the classifier."""
    frames = config.tubelet_size[0]
    positions = vit["positions"].repeat(1, config.num_frames // frames, 1)
    weights = {
        "embeddings.cls_token": vit["cls"],
        "embeddings.position_embeddings": _with_cls_position(positions),
        **_patch("embeddings.patch_embeddings.projection", _tubelet_kernel(vit, frames), vit),
        **_norm("layernorm", vit),
        **{name: value for name, value in vit.items() if name.startswith("layers.")},
    }
    return {f"vivit.{name}": value for name, value in weights.items()}


# Names of the parts of a layer in VideoMAE and TimeSformer; query, key and value are separate there or packed.
OLD_NAMES = {
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "layernorm_before": "layernorm_before",
    "layernorm_after": "layernorm_after",
}


def _old_layers(vit: Weights, prefix: str) -> Weights:
    weights = {}
    for name, value in vit.items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            part, kind = part.rsplit(".", 1)
            if part in OLD_NAMES:
                weights[f"{prefix}.{layer}.{OLD_NAMES[part]}.{kind}"] = value
    return weights


def _numbers_of_layers(vit: Weights) -> range:
    return range(1 + max(int(name.split(".")[1]) for name in vit if name.startswith("layers.")))


def to_videomae(vit: Weights, config: Any) -> Weights:
    """The state of a `VideoMAEForVideoClassification`, without its classifier. The ViT's last norm precedes the classifier."""
    weights = {
        **_patch("videomae.embeddings.patch_embeddings.projection", _tubelet_kernel(vit, config.tubelet_size), vit),
        **_norm("fc_norm", vit),
        **_old_layers(vit, "videomae.encoder.layer"),
    }
    for layer in _numbers_of_layers(vit):
        own = f"videomae.encoder.layer.{layer}.attention.attention"
        for each, kinds in (("query", ("weight", "bias")), ("key", ("weight",)), ("value", ("weight", "bias"))):
            for kind in kinds:
                weights[f"{own}.{each}.{kind}"] = vit[f"layers.{layer}.attention.{each[0]}_proj.{kind}"]
    return weights


def to_timesformer(vit: Weights, config: Any) -> Weights:
    """The state of a `TimesformerForVideoClassification`, without its classifier."""
    import torch

    width = config.hidden_size
    weights = {
        "embeddings.cls_token": vit["cls"],
        "embeddings.position_embeddings": _with_cls_position(vit["positions"]),
        "embeddings.time_embeddings": torch.zeros(1, config.num_frames, width),
        **_patch("embeddings.patch_embeddings.projection", vit["patch.weight"], vit),
        **_norm("layernorm", vit),
        **_old_layers(vit, "encoder.layer"),
    }
    for layer in _numbers_of_layers(vit):
        own = f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            packed = torch.cat([vit[f"layers.{layer}.attention.{each}_proj.{kind}"] for each in "qkv"])
            weights[f"{own}.attention.attention.qkv.{kind}"] = packed
            weights[f"{own}.temporal_attention.attention.qkv.{kind}"] = packed.clone()
            weights[f"{own}.temporal_attention.output.dense.{kind}"] = vit[f"layers.{layer}.attention.o_proj.{kind}"]
            weights[f"{own}.temporal_layernorm.{kind}"] = vit[f"layers.{layer}.layernorm_before.{kind}"]
        weights[f"{own}.temporal_dense.weight"] = torch.zeros(width, width)
        weights[f"{own}.temporal_dense.bias"] = torch.zeros(width)
    return {f"timesformer.{name}": value for name, value in weights.items()}


CONVERSIONS: dict[str, Callable[[Weights, Any], Weights]] = {
    "videomae": to_videomae,
    "vivit": to_vivit,
    "timesformer": to_timesformer,
}
