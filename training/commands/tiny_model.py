# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A TubeViT small enough to be trained on two CPU cores in two minutes: its sizes, its processors, its training.

Everything is ours: the paper has nothing below ViT-Ti. The tubes are those of its main configuration (table 12), scaled
from 32 frames of 224x224 to 16 of 64x64.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_utils import EvalPrediction

from tubevit import TubeViTConfig, TubeViTForVideoClassification
from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor

from ..data.cached_clips import CachedClips, RandomClip


if TYPE_CHECKING:
    from .demo import DemoData

NUM_FRAMES = 16
IMAGE_SIZE = 64
SHORT_SIDE = 80  # frames are resized to this and cropped to IMAGE_SIZE, at random in training
TUBES = [
    {"kernel_size": [8, 8, 8], "stride": [4, 12, 12], "offset": [0, 0, 0]},
    {"kernel_size": [16, 4, 4], "stride": [16, 12, 12], "offset": [0, 6, 6]},
    {"kernel_size": [4, 12, 12], "stride": [6, 24, 24], "offset": [0, 8, 8]},
    {"kernel_size": [1, 16, 16], "stride": [8, 16, 16], "offset": [0, 0, 0]},
]
BATCH_SIZE = 16
LEARNING_RATE = 1e-3
NUM_EVALUATIONS = 8  # while training


def make_processors(**settings: Any) -> TubeViTProcessor:
    """Processors for the tiny model. `settings` go to both of them."""
    pixels = {
        "size": {"shortest_edge": SHORT_SIDE},
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        **settings,
    }
    return TubeViTProcessor(TubeViTImageProcessor(**pixels), TubeViTVideoProcessor(num_frames=NUM_FRAMES, **pixels))


def training_processor() -> TubeViTVideoProcessor:
    """What is kept of a training clip, uint8: half as many frames again, and a margin around the crop."""
    return TubeViTVideoProcessor(
        num_frames=3 * NUM_FRAMES // 2,
        size={"shortest_edge": SHORT_SIDE},
        crop_size={"height": SHORT_SIDE, "width": SHORT_SIDE},
        do_rescale=False,
        do_normalize=False,
    )


def report_processor(scale: int = 3) -> TubeViTVideoProcessor:
    """The frames that the model sees, uint8, at `scale` times its resolution."""
    return TubeViTVideoProcessor(
        num_frames=NUM_FRAMES,
        size={"shortest_edge": scale * SHORT_SIDE},
        crop_size={"height": scale * IMAGE_SIZE, "width": scale * IMAGE_SIZE},
        do_rescale=False,
        do_normalize=False,
    )


def make_model(labels: list[str], pixels: Sequence[torch.Tensor]) -> TubeViTForVideoClassification:
    """
    The tiny model with random weights, for classes `labels`.

    pixels: of clips, uint8 `(frames, channels, height, width)`, whose mean and deviation it will normalise by.
    """
    sample = torch.stack(list(pixels[:: max(1, len(pixels) // 256)])) / 255
    config = TubeViTConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        image_size=IMAGE_SIZE,
        num_frames=NUM_FRAMES,
        tubes=TUBES,
        image_mean=[round(value, 4) for value in sample.mean((0, 1, 3, 4)).tolist()],
        image_std=[round(value, 4) for value in sample.std((0, 1, 3, 4)).tolist()],
        initializer_range=0.1,  # 96**-0.5; the usual 0.02 is for widths of 768 and more
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    model = TubeViTForVideoClassification(config)
    for projection in model.tubevit.embeddings.projections:
        # Kernels hold thousands of values: tokens start at the size of the pixels, and a step changes them visibly.
        nn.init.normal_(projection.weight, std=0.4 * projection.weight[0].numel() ** -0.5)
    return model


def train(data: "DemoData", steps: int, seed: int, folder: Path) -> Trainer:
    """Train a new model on `data` with Trainer, on the GPU if there is one, showing its progress."""
    index_of = {label: index for index, label in enumerate(data.labels)}
    interval = math.ceil(steps / NUM_EVALUATIONS)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=4 * BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.05,
        eval_strategy="steps",
        eval_steps=interval,
        logging_steps=interval,
        save_strategy="no",
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
    )
    trainer = Trainer(
        make_model(data.labels, data.train_pixels),
        arguments,
        train_dataset=CachedClips(
            data.train_pixels, [index_of[clip.label] for clip in data.train], RandomClip(NUM_FRAMES, IMAGE_SIZE)
        ),
        eval_dataset=CachedClips(data.val_pixels, [index_of[clip.label] for clip in data.val]),
        compute_metrics=count_right,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ReadableProgress(data.evaluated_on))
    trainer.train()
    return trainer


def count_right(prediction: EvalPrediction) -> dict[str, float]:
    """Metrics for Trainer: how many predictions are right, and their share."""
    right = np.argmax(prediction.predictions, axis=-1) == prediction.label_ids
    return {"num_right": int(right.sum()), "accuracy": float(right.mean())}


def evaluate(trainer: Trainer) -> int:
    """Number of evaluation clips that the trained model classifies right."""
    return trainer.evaluate()["eval_num_right"]


def save(trainer: Trainer) -> Path:
    """Write model and processors into the trainer's folder, from which pipelines and Auto classes load, and return it."""
    folder, config = Path(trainer.args.output_dir), trainer.model.config
    trainer.model.save_pretrained(folder)
    make_processors(image_mean=config.image_mean, image_std=config.image_std).save_pretrained(folder)
    return folder


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class ReadableProgress(ProgressCallback):
    """Trainer's progress bar, with one line of plain words per evaluation instead of dictionaries."""

    def __init__(self, evaluated_on: str):
        super().__init__()
        self.evaluated_on, self.loss = evaluated_on, None

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.loss = logs.get("loss", self.loss)
        if "eval_accuracy" in logs and self.training_bar is not None and self.loss is not None:
            self.training_bar.write(
                f"step {state.global_step:>5}   training loss {float(self.loss):.3f}   "
                f"{self.evaluated_on} {logs['eval_accuracy']:.1%} right"
            )
