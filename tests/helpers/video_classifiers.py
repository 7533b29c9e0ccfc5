"""Tiny checkpoints of TubeViT and of every video classifier of Transformers, with processors, as folders."""

from pathlib import Path

import torch
import transformers
from random_weights import randomize
from tiny_models import make_model
from transformers import (
    LlavaOnevisionVideoProcessor,
    VideoMAEVideoProcessor,
    VivitVideoProcessor,
    VJEPA2VideoProcessor,
)
from transformers.models.timesformer.video_processing_timesformer import TimesformerVideoProcessor

from tubevit import (
    FactorizedViViTForVideoClassification,
    TubeViTForVideoClassification,
    UniFormerV2ForVideoClassification,
)
from tubevit.processing import FactorizedViViTVideoProcessor, TubeViTVideoProcessor, UniFormerV2VideoProcessor


CLASSES = ["c", "a", "b", "d"]  # not in alphabetical order
SIZES = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 16,
    "initializer_range": 0.5,
}
VJEPA2 = {
    "crop_size": 16,
    "patch_size": 8,
    "frames_per_clip": 4,
    "tubelet_size": 2,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "mlp_ratio": 1,
    "num_pooler_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "initializer_range": 0.5,
}
# Its processor resizes frames to a square without a crop, so there are no spatial views.
VIDEOPRISM = {
    "image_size": 16,
    "num_frames": 4,
    "tubelet_size": [1, 8, 8],
    "hidden_size": 24,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_spatial_layers": 1,
    "num_temporal_layers": 1,
    "initializer_range": 0.5,
}
PEERS = {
    "videomae": ("VideoMAE", {**SMALL, "patch_size": 8, "num_frames": 4}, VideoMAEVideoProcessor, SIZES),
    "vivit": ("Vivit", {**SMALL, "num_frames": 4, "tubelet_size": [2, 8, 8]}, VivitVideoProcessor, SIZES),
    "timesformer": ("Timesformer", {**SMALL, "patch_size": 8, "num_frames": 4}, TimesformerVideoProcessor, SIZES),
    "vjepa2": ("VJEPA2", VJEPA2, VJEPA2VideoProcessor, {"crop_size": 16}),
    "videoprism": ("VideoPrism", VIDEOPRISM, LlavaOnevisionVideoProcessor, {"size": {"height": 16, "width": 16}}),
}


# UniFormerV2 and ViViT of this package.
OWN = {
    "uniformerv2": (
        UniFormerV2ForVideoClassification,
        {"patch_size": 8, "temporal_downsampling": True, "num_local_blocks": 2},
        UniFormerV2VideoProcessor,
    ),
    "factorized_vivit": (
        FactorizedViViTForVideoClassification,
        {"tubelet_size": [2, 8, 8], "temporal_num_hidden_layers": 1},
        FactorizedViViTVideoProcessor,
    ),
}


def id2label(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def save_tubevit(folder: Path, names=CLASSES, processor=None, **config) -> Path:
    """A TubeViT for clips of 8 frames of 16x16; by default its processor spreads them over the whole video."""
    make_model(TubeViTForVideoClassification, num_labels=len(names), **id2label(names), **config).save_pretrained(
        folder
    )
    TubeViTVideoProcessor(**{"num_frames": 8, **SIZES, **(processor or {})}).save_pretrained(folder)
    return folder


def save_own(folder: Path, name: str, names=CLASSES, **config) -> Path:
    """A UniFormerV2 or ViViT of this package for clips of 4 frames of 16x16, with random values in all weights."""
    model_class, fields, processor_class = OWN[name]
    fields = {**SMALL, "num_frames": 4, **fields, **id2label(names), **config}
    randomize(model_class(model_class.config_class(**fields))).save_pretrained(folder)
    processor_class(num_frames=4, **SIZES).save_pretrained(folder)
    return folder


def save_peer(folder: Path, name: str, names=CLASSES):
    """Save a model of Transformers for clips of 4 frames of 16x16 and its processor, and return both."""
    prefix, config, processor_class, settings = PEERS[name]
    torch.manual_seed(0)
    config_class = getattr(transformers, f"{prefix}VisionConfig", None) or getattr(transformers, f"{prefix}Config")
    config = config_class(**config, **(id2label(names) if names else {"num_labels": 4}))
    model = getattr(transformers, f"{prefix}ForVideoClassification")(config).eval()
    processor = processor_class(**settings)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
