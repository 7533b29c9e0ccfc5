"""A tiny model with random weights and class names, saved as a checkpoint."""

from pathlib import Path

import torch
from tiny_models import tiny_config

from tubevit import TubeViTForVideoClassification


LABELS = ["hop", "skip", "jump"]


def save_model(folder: Path, model_class=TubeViTForVideoClassification) -> Path:
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    model_class(tiny_config(num_labels=3, **labels)).save_pretrained(folder)
    return folder
