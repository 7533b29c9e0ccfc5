# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The encoder sizes of TubeViT by name (section 4 and table 9): those of the image ViTs it starts from. All share the tubes of the
main configuration. The paper trains tiny, base, large and huge; small is the usual ViT-S, for those whose machine is.
"""

import difflib

from .configuration_tubevit import TubeViTConfig


PRESETS = {
    "tiny": {"num_hidden_layers": 12, "hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3},
    "small": {"num_hidden_layers": 12, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "huge": {"num_hidden_layers": 32, "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16},
}


def preset_config(name: str, **overrides) -> TubeViTConfig:
    """
    The configuration of a named size; `overrides` are any fields of `TubeViTConfig`, those of the size among them.

    Raises `ValueError` for an unknown name.

    >>> preset_config("tiny", num_labels=7).hidden_size
    192
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(str(name), PRESETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.{hint}")
    return TubeViTConfig(**PRESETS[name] | overrides)
