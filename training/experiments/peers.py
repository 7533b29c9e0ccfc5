# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The video classifiers of Transformers at any size, for a race: all of one width and depth, patches scaled with the
picture.

Each takes as many frames of a clip as it was designed for, spread evenly, or all there are if these are fewer.
"""

from dataclasses import dataclass
from typing import Any

import transformers
from torch import nn

from .models import Normalized, Setting, spread_of


TUBELET_FRAMES = 2  # of VideoMAE, ViViT and V-JEPA 2


@dataclass(frozen=True)
class Peer:
    """
    title: what it is called. prefix: of its classes in Transformers. input_name: of its clips.
    num_frames: of the clips that its authors give it.
    size_name, frames_name: what its configuration calls the side of the picture and the number of frames.
    """

    title: str
    prefix: str
    input_name: str
    num_frames: int
    size_name: str = "image_size"
    frames_name: str = "num_frames"


PEERS = {
    "videomae": Peer("VideoMAE", "VideoMAE", "pixel_values", 16),
    "vivit": Peer("ViViT", "Vivit", "pixel_values", 32),
    "timesformer": Peer("TimeSformer", "Timesformer", "pixel_values", 8),
    "vjepa2": Peer("V-JEPA 2", "VJEPA2", "pixel_values_videos", 64, "crop_size", "frames_per_clip"),
}


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
    peer = PEERS[name]
    num_frames = min(peer.num_frames, setting.data.num_frames)
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
    config_class = getattr(transformers, f"{peer.prefix}Config")
    config = config_class(
        **sizes,
        **{peer.size_name: setting.data.image_size, peer.frames_name: num_frames},
        **_own_fields(name, patch_size, hidden_size, num_hidden_layers, intermediate_size),
        num_attention_heads=num_attention_heads,
        initializer_range=spread_of(sizes),
        num_labels=setting.num_classes["video"],
    )
    model_class = getattr(transformers, f"{peer.prefix}ForVideoClassification")
    try:
        model = model_class._from_config(config, attn_implementation="sdpa")
    except ValueError:
        model = model_class._from_config(config, attn_implementation="eager")
    return Normalized(model, peer.input_name, setting, num_frames)


def _own_fields(name: str, patch: int, width: int, num_layers: int, intermediate_size: int) -> dict[str, Any]:
    """Fields that have another name, or another meaning, in each configuration."""
    if name == "vivit":
        return {"tubelet_size": [TUBELET_FRAMES, patch, patch], "intermediate_size": intermediate_size}
    if name == "vjepa2":
        # Behind its 24 layers it has a pooler of 3; the predictor is not used by the classifier, and so made as small as can be.
        return {
            "patch_size": patch,
            "mlp_ratio": intermediate_size / width,
            "num_pooler_layers": max(1, round(3 * num_layers / 24)),
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 1,
            "pred_num_hidden_layers": 1,
        }
    fields = {"patch_size": patch, "intermediate_size": intermediate_size}
    return fields | ({"tubelet_size": TUBELET_FRAMES} if name == "videomae" else {})
