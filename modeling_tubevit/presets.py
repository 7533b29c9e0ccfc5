# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Encoder sizes and sets of tubes of the paper, by name; below, the published sizes of UniFormerV2 and ViViT.

Sizes (section 4 and table 9) are those of the image ViTs that initialize TubeViT. The paper trains tiny, base, large and huge;
small is ViT-S (not in the paper).
"""

import difflib
from typing import Any

from .configuration_factorized_vivit import FactorizedViViTConfig
from .configuration_tubevit import TubeViTConfig
from .configuration_uniformerv2 import UniFormerV2Config
from .tubes import MAIN_TUBES


PRESETS = {
    "tiny": {"num_hidden_layers": 12, "hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3},
    "small": {"num_hidden_layers": 12, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "huge": {"num_hidden_layers": 32, "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16},
}

TUBES = {
    # Table 12, the main configuration.
    "main": MAIN_TUBES,
    # Section 3.2, the smallest set.
    "core": (
        {"kernel_size": [1, 16, 16], "stride": [16, 16, 16]},
        {"kernel_size": [8, 8, 8], "stride": [16, 16, 16]},
    ),
    # Section 3.4, for clips of 128 frames with interpolated kernels: longer or larger kernels with the strides of "main".
    "charades": (
        {"kernel_size": [16, 16, 16], "stride": [16, 32, 32]},
        {"kernel_size": [32, 8, 8], "stride": [6, 32, 32], "offset": [4, 8, 8]},
        {"kernel_size": [4, 32, 32], "stride": [16, 32, 32], "offset": [0, 16, 16]},
        {"kernel_size": [1, 16, 16], "stride": [32, 16, 16]},
    ),
}


def preset_config(name: str, **overrides) -> TubeViTConfig:
    """
    The config of a named size. overrides: fields of `TubeViTConfig`, which take precedence over those of the size; `tubes` may
    be a name in `TUBES`.

    Random weights have the scale of the original ViT in JAX: `initializer_range = hidden_size ** -0.5`, the Xavier
    initialization of square matrices, and kernels of variance 1 / (number of inputs). With the 0.02 of `TubeViTConfig`, which is
    meant for widths of 768 and more, the attention and the MLPs of a narrow model add almost nothing to their input at first, and
    a short training stays at chance level.

    Raises `ValueError` for an unknown name.

    >>> preset_config("tiny", num_labels=7).hidden_size
    192
    """
    sizes = PRESETS[_check_known(name, PRESETS, "preset")]
    if isinstance(overrides.get("tubes"), str):
        overrides["tubes"] = list(TUBES[_check_known(overrides["tubes"], TUBES, "set of tubes")])
    fields = sizes | overrides
    scale = {"initializer_range": round(fields["hidden_size"] ** -0.5, 4), "kernel_initialization": "fan_in"}
    return TubeViTConfig(**scale | fields)


_CLIP_TRUNKS: dict[str, dict[str, Any]] = {
    "b16": {"patch_size": 16},
    "l14": {
        **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
        **{"patch_size": 14, "global_layers": [20, 21, 22, 23]},
    },
}
_CLIP_TRUNKS["l14-336"] = {**_CLIP_TRUNKS["l14"], "image_size": 336}
# The design for Something-Something: local blocks, temporal stride 2, global blocks after two thirds of the layers.
_FULL: dict[str, Any] = {
    **{"temporal_downsampling": True, "num_local_blocks": 2, "num_frames": 16},
    **{"drop_path_rate": 0.2, "global_drop_path_rate": 0.4},
}
UNIFORMERV2_PRESETS: dict[str, dict[str, Any]] = {
    f"uniformerv2-{name}": fields for name, fields in _CLIP_TRUNKS.items()
} | {
    f"uniformerv2-{name}-full": {
        **fields,
        **_FULL,
        "global_layers": list(range(4, 12) if name == "b16" else range(8, 24)),
    }
    for name, fields in _CLIP_TRUNKS.items()
}

_VIT_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# ViViT-B/16x2, Models 1 to 4, and ViViT-L/16x2 with a factorized encoder, whose published Kinetics models have 24 temporal layers.
VIVIT_PRESETS: dict[str, dict[str, Any]] = {
    "vivit-b16x2": {"factorization": "spacetime"},
    "vivit-b16x2-fe": {"factorization": "encoder"},
    "vivit-b16x2-fsa": {"factorization": "self_attention"},
    "vivit-b16x2-fdp": {"factorization": "dot_product"},
    "vivit-l16x2-fe": {"factorization": "encoder", "temporal_num_hidden_layers": 24, **_VIT_LARGE},
}


def uniformerv2_config(name: str, **overrides) -> UniFormerV2Config:
    """The config of a named UniFormerV2; overrides and errors as in `preset_config`."""
    return UniFormerV2Config(**UNIFORMERV2_PRESETS[_check_known(name, UNIFORMERV2_PRESETS, "preset")] | overrides)


def vivit_config(name: str, **overrides) -> FactorizedViViTConfig:
    """The config of a named ViViT; overrides and errors as in `preset_config`."""
    return FactorizedViViTConfig(**VIVIT_PRESETS[_check_known(name, VIVIT_PRESETS, "preset")] | overrides)


def _check_known(name: str, names: dict, kind: str) -> str:
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no {kind} {name!r}; there are {', '.join(names)}.{hint}")
    return name
