# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`task=masked`: pretraining without labels, with the options, checkpoints and summaries of every other run.

- A clip has the label 0, or -100 if it could not be read. The loss of a step is the mean over its clips that were read, on all
  processes and accumulated batches.
- The mask of a clip depends on the seed, the epoch and the video only. A resumed run therefore ends with the weights of an
  uninterrupted one. Validation clips have the same mask in each evaluation.
- `mask_target=features`: the targets are the features that the checkpoint of the start gives for the whole clip.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from tubevit.tube_masking import SeededMasks

from ..data.augmentation import IGNORED_LABEL, BatchAugmentation
from ..data.clip_datasets import ClipCollator
from ..data.rng import sample_seed
from ..data.unlabeled import load_unlabeled
from ..models.build import (
    RunModel,
    check_loaded,
    check_no_tubes,
    finish_model,
    load_run_config,
    load_with_report,
    model_settings,
    starting_family,
)
from ..models.clip_processors import measure_pixels
from ..models.families import ModelFamily
from ..models.model_size import count_flops
from .build import (
    SKIPPED_VIDEOS_FILE,
    RunSetup,
    add_notes,
    check_metric,
    check_same_rows,
    count_videos,
    make_clips,
    without_corrupt_videos,
)
from .run_config import TrainingRun
from .video_trainer import VideoTrainer


MIN_TARGETS = 0.05  # smallest fraction of the masked tokens that must be targets


class MaskedBatches:
    """
    Adds `bool_masked_pos` to a batch of clips, by the `sample_seeds` of the batch, which it removes.

    augment: applied to the clips, `None` for validation clips.
    """

    def __init__(self, masks: SeededMasks, augment: BatchAugmentation | None = None):
        self.masks, self.augment = masks, augment

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        seeds = batch["sample_seeds"].tolist()
        if self.augment is not None:
            batch = self.augment(batch)
        masks = self.masks([sample_seed(seed, 0, "mask") for seed in seeds])
        batch = {name: value for name, value in batch.items() if name != "sample_seeds"}
        device = batch["labels"].device
        masks = masks.pin_memory() if device.type == "cuda" else masks  # else the copy would wait for the GPU
        return {**batch, "bool_masked_pos": masks.to(device, non_blocking=True)}


@dataclass
class MaskedSetup(RunSetup):
    """
    Model and data of a run without labels; `class_names` is empty.

    masks: of the clips. teacher: the backbone at the start of training, for `mask_target=features`.
    """

    masks: SeededMasks | None = None
    teacher: Any = field(default=None, repr=False)

    best_metric = "loss"
    compute_metrics = None  # Trainer then computes the loss only
    chance_loss = (
        1.0  # of predicting 0, because targets have mean 0 and variance 1; less for clips with uniform regions
    )

    def evaluation_collator(self) -> ClipCollator:
        return ClipCollator(MaskedBatches(self.masks))

    def count_clip_flops(self) -> int:
        """FLOPs of a forward pass of the model on one clip: the visible tokens and the decoder."""
        config, size = self.model.model.config, self.masks.size
        inputs = {"pixel_values_videos": torch.empty(1, size[0], config.num_channels, *size[1:], device="meta")}
        if self.teacher is not None:
            inputs["target_features"] = torch.empty(1, len(self.masks.cells), config.hidden_size, device="meta")
        return count_flops(self.model.model, **inputs)

    def describe_task(self) -> dict[str, str]:
        config, masks = self.model.model.config, self.masks
        (rows, columns), num_masked = masks.cell_size, int(masks([0]).sum())
        only_3d = config.mask_target == "differences"
        others = "share a pixel with a visible token" + (" or are of 2D tubes" if only_3d else "")
        target = config.mask_target
        if self.teacher is not None:
            target = "features of the whole clip by the model at the start of training (one more forward pass)"
        return {
            "masked tokens": f"{num_masked:,} of {len(masks.cells):,}, in columns of {rows}x{columns} pixels; "
            f"{100 * masks.fraction_of_targets(only_3d):.0f} % of them are targets, the others {others}",
            "target": f"{target}; the decoder has {config.decoder_num_hidden_layers} layers of width "
            f"{config.decoder_hidden_size}",
        }


def build_masked_run(run: TrainingRun, folder: Path) -> MaskedSetup:
    """
    As `build.build_run`, for `task=masked`.

    Raises `ValueError`, `TypeError` or `OSError` in one line for data, a model or options that cannot be used.
    """
    set_seed(run.training.seed)
    listed = check_same_rows(load_unlabeled(run.data))
    if "train" not in listed.splits:
        raise ValueError("The data have no training split.")
    check_metric(run.training.metric_for_best_model, ["loss"], "with task=masked")
    measured = measure_pixels(run.model, [listed])
    model = make_masked_model(run)
    config, crop = model.model.config, model.processor.crop_size
    tubes = model.model.get_input_embeddings().tubes
    masks = SeededMasks(tubes, (model.processor.num_frames, crop["height"], crop["width"]), config.mask_ratio)
    only_3d = config.mask_target == "differences"
    if (fraction := masks.fraction_of_targets(only_3d)) < MIN_TARGETS:
        raise ValueError(
            f"mask_ratio={config.mask_ratio:g} leaves {100 * fraction:.1f} % of the masked tokens as targets: the others share pixels "
            f"with visible tokens{' or are of 2D tubes' if only_3d else ''}. Raise model_config.mask_ratio, or use tubes that "
            "overlap less."
        )
    data = without_corrupt_videos(run, listed, folder)  # last: it may take an hour
    train_clips, validation_clips = make_clips(run, data, model, folder / SKIPPED_VIDEOS_FILE)
    augment = BatchAugmentation(run.augmentation, 0, False, list(model.processor.image_mean))
    counts = {split: count_videos(listed.splits[split], data.splits[split]) for split in data.splits}
    setup = MaskedSetup(
        run,
        data,
        counts,
        model,
        train_clips,
        validation_clips,
        MaskedBatches(masks, augment),
        [*data.messages, *model.messages, *measured],
        masks=masks,
    )
    if config.mask_target == "features":
        setup.teacher = copy.deepcopy(model.model.base_model).eval().requires_grad_(False)
    return add_notes(setup)


def make_masked_model(run: TrainingRun) -> RunModel:
    """
    The model and its processors, from a preset, an image model, or a checkpoint of a family with a `pretraining_class`.

    Raises `ValueError` for another family, and for options that contradict each other.
    """
    config, clips = run.model, run.clips
    source = load_run_config(config)
    family, is_new = starting_family(config, source)
    if family.pretraining_class is None:
        raise ValueError(
            f"task=masked is for TubeViT, and {config.model_name_or_path or config.preset} is a {family.title}: start from a "
            "TubeViT or an image model."
        )
    return finish_model(
        config,
        clips,
        family,
        source,
        is_new,
        model_settings(config, clips, family, {}, is_new),
        new_class=lambda: family.get("pretraining_class"),
        load=lambda settings, messages: _load_backbone(run, family, settings, messages),
    )


def _load_backbone(run: TrainingRun, family: ModelFamily, settings: dict[str, Any], messages: list[str]) -> Any:
    """The checkpoint with its decoder, or with a new one."""
    check_no_tubes(run.model)
    model, info = load_with_report(family.get("pretraining_class"), run.model, {**settings, "heads": None})
    check_loaded(run.model, model, info, lambda key: key.startswith(f"{model.base_model_prefix}."))
    name, lost = run.model.model_name_or_path, len(info["missing_keys"]) + len(info["mismatched_keys"])
    messages.append(f"{name}: " + (f"{lost} weights of the decoder are new." if lost else "its decoder is kept."))
    return model


class MaskedTrainer(VideoTrainer):
    """setup: a `MaskedSetup`."""

    setup: MaskedSetup

    def __init__(self, setup: MaskedSetup, *args: Any, **kwargs: Any):
        super().__init__(setup, *args, **kwargs)
        if setup.teacher is not None:
            setup.teacher.to(self.args.device)

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None):
        losses, is_read = outputs["clip_losses"], labels != IGNORED_LABEL
        number = is_read.sum() if num_items_in_batch is None else num_items_in_batch
        return (losses * is_read).sum() / torch.as_tensor(number, device=losses.device).clamp(min=1)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # The number is known, so the model need not count it on the GPU, for which each step would wait.
        inputs = {**inputs, "num_visible_tokens": self.setup.masks.num_visible}
        if self.setup.teacher is not None:
            with torch.no_grad(), self.accelerator.autocast():  # the precision of the trained model
                outputs = self.setup.teacher(pixel_values_videos=inputs["pixel_values_videos"])
            num_prefix = self.model_config.num_prefix_tokens
            inputs = {**inputs, "target_features": outputs.last_hidden_state[:, num_prefix:]}
        return super().compute_loss(model, inputs, *args, **kwargs)

    def final_metrics(self) -> dict[str, float]:
        """`validation_loss` of the model that is saved, if there are validation videos."""
        if self.eval_dataset is None:
            return {}
        output = self.evaluation_loop(
            self.get_eval_dataloader(), "Evaluation", prediction_loss_only=True, metric_key_prefix="validation"
        )
        return {"validation_loss": output.metrics["validation_loss"]}
