# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Encoder sizes and sets of tubes of the paper, by name.

Sizes (section 4 and table 9) are those of the image ViTs that initialize TubeViT. The paper trains tiny, base, large and huge;
small is ViT-S (not in the paper).
"""

import difflib

from .configuration_tubevit import TubeViTConfig
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

    Raises `ValueError` for an unknown name.

    >>> preset_config("tiny", num_labels=7).hidden_size
    192
    """
    sizes = PRESETS[_check_known(name, PRESETS, "preset")]
    if isinstance(overrides.get("tubes"), str):
        overrides["tubes"] = list(TUBES[_check_known(overrides["tubes"], TUBES, "set of tubes")])
    return TubeViTConfig(**sizes | overrides)


def _check_known(name: str, names: dict, kind: str) -> str:
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no {kind} {name!r}; there are {', '.join(names)}.{hint}")
    return name
