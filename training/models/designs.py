# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Models of other families at the width, depth and patch size of a TubeViT, for `tubevit experiments compare`: the published
proportions of their parts, and their number of frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Design:
    """
    A model of a family in comparisons at a given size.

    num_frames: frames of the clips that its authors train it on.
    fields: function `(patch_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size)`, all by keyword, that returns
        the config fields of the design, and those whose names or meanings differ from ViT's.
    note: what differs from the published model, a sentence for the report.
    """

    title: str
    num_frames: int
    fields: Callable[..., dict[str, Any]]
    note: str = ""


TUBELET_FRAMES = 2  # of VideoMAE, ViViT and V-JEPA 2
# One recipe for all models of a comparison.
NO_DROPOUT = "UniFormerV2 is trained without its dropout and stochastic depth, as the other models are."


def videomae_fields(patch_size: int, intermediate_size: int, **sizes: int) -> dict[str, Any]:
    return {"patch_size": patch_size, "intermediate_size": intermediate_size, "tubelet_size": TUBELET_FRAMES}


def vivit_fields(patch_size: int, intermediate_size: int, **sizes: int) -> dict[str, Any]:
    return {"tubelet_size": [TUBELET_FRAMES, patch_size, patch_size], "intermediate_size": intermediate_size}


def timesformer_fields(patch_size: int, intermediate_size: int, **sizes: int) -> dict[str, Any]:
    return {"patch_size": patch_size, "intermediate_size": intermediate_size}


def vjepa2_fields(
    patch_size: int, hidden_size: int, num_hidden_layers: int, intermediate_size: int, **sizes: int
) -> dict[str, Any]:
    # The large model has a pooler of 3 layers after its 24. The classifier never uses the predictor: it is as small as possible.
    return {
        "patch_size": patch_size,
        "mlp_ratio": intermediate_size / hidden_size,
        "num_pooler_layers": max(1, round(3 * num_hidden_layers / 24)),
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 1,
        "pred_num_hidden_layers": 1,
    }


def uniformerv2_fields(
    patch_size: int, num_hidden_layers: int, intermediate_size: int, **sizes: int
) -> dict[str, Any]:
    taps = min(4, max(1, num_hidden_layers // 3))  # the last 4 layers of 12 and of 24
    return {
        "patch_size": patch_size,
        "intermediate_size": intermediate_size,
        "global_layers": list(range(num_hidden_layers - taps, num_hidden_layers)),
        "global_dropout": 0.0,
        "classifier_dropout": 0.0,
    }


def uniformerv2_full_fields(num_hidden_layers: int, **sizes: int) -> dict[str, Any]:
    return {
        **uniformerv2_fields(num_hidden_layers=num_hidden_layers, **sizes),
        "global_layers": list(range(num_hidden_layers // 3, num_hidden_layers)),  # 4 to 11 of 12, 8 to 23 of 24
        "temporal_downsampling": True,
        "num_local_blocks": 2,
    }


def factorized_vivit_fields(factorization: str, **changes: Any) -> Callable[..., dict[str, Any]]:
    """`Design.fields` of a factorized ViViT. changes: config fields that differ from the published model."""

    def fields(hidden_size: int, num_hidden_layers: int, num_attention_heads: int, **sizes: int) -> dict[str, Any]:
        found = {**vivit_fields(**sizes), "factorization": factorization, **changes}
        if factorization == "encoder":  # 4 after 12 in the base model
            found["temporal_num_hidden_layers"] = max(1, round(num_hidden_layers / 3))
        if factorization == "dot_product":  # half of the heads attend over time
            even = [heads for heads in range(2, hidden_size + 1, 2) if hidden_size % heads == 0]
            found["num_attention_heads"] = min(even, key=lambda heads: (abs(heads - num_attention_heads), -heads))
        return found

    return fields


VIDEOMAE = Design(title="VideoMAE", num_frames=16, fields=videomae_fields)
VIVIT = Design(title="ViViT", num_frames=32, fields=vivit_fields)
TIMESFORMER = Design(title="TimeSformer", num_frames=8, fields=timesformer_fields)
VJEPA2 = Design(title="V-JEPA 2", num_frames=64, fields=vjepa2_fields)
UNIFORMERV2_DESIGNS = {
    "uniformerv2": Design(title="UniFormerV2", num_frames=8, fields=uniformerv2_fields, note=NO_DROPOUT),
    "uniformerv2_full": Design(
        title="UniFormerV2 (full)", num_frames=16, fields=uniformerv2_full_fields, note=NO_DROPOUT
    ),
}
VIVIT_DESIGNS = {
    "vivit_fe": Design(title="ViViT Model 2", num_frames=32, fields=factorized_vivit_fields("encoder")),
    "vivit_fe_mean": Design(
        title="ViViT Model 2, mean pooling",
        num_frames=32,
        fields=factorized_vivit_fields("encoder", pooling="mean"),
        note="ViViT Model 2 has class tokens, as in its paper, or takes the mean of the tokens of each encoder.",
    ),
    "vivit_fsa": Design(title="ViViT Model 3", num_frames=32, fields=factorized_vivit_fields("self_attention")),
    "vivit_fdp": Design(
        title="ViViT Model 4",
        num_frames=32,
        fields=factorized_vivit_fields("dot_product"),
        note="ViViT Model 4 has the nearest even number of heads.",
    ),
}
