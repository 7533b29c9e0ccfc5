# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`JointTrainer`: `VideoTrainer` for several data sets. Each batch comes from one data set and uses the head of that data set.

- The loss of a batch is the mean over its known labels on all processes, times the data set's `loss_weight`. Accumulated
  batches have equal weight.
- Parameters that a batch does not use (the other heads; for images, the 3D tubes) get no gradient, and the optimizer does not
  change them. In each step all processes have batches of the same data set, so they agree on the unused parameters. DDP finds
  these parameters by `find_unused_parameters=True`.
- The loss and the accuracy of each data set are logged, and the validation split of each data set is evaluated.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from tubevit.classification import classification_loss

from ..data.augmentation import IGNORED_LABEL
from ..models.model_size import FLOPS_PER_TRAINING_STEP
from .build import MEAN_SCORE, JointSetup
from .model_card import write_joint_card
from .video_trainer import VideoTrainer


class JointTrainer(VideoTrainer):
    """
    setup: model, data sets and options.
    flops: for each data set, the FLOPs of a forward pass on one clip or image, for the log.
    """

    def __init__(self, setup: JointSetup, args: TrainingArguments, flops: dict[str, float]):
        args.ddp_find_unused_parameters = True
        self.joint_batches = setup.batches(args.world_size)
        self.flops = flops
        multi_label = {name: part.data.multi_label for name, part in setup.parts.items()}
        self.running_scores = RunningScores(multi_label, args.device)
        super().__init__(setup, args)

    def _follows_epochs(self) -> Any:
        return self.joint_batches

    def first_batches(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, size in self.setup.batch_sizes.items():
            samples = [self.train_dataset[index] for index in self.joint_batches.rows[name][0:size]]
            yield f" of {name}", self.data_collator(samples)

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_sampler=self.joint_batches, **self.loader_options())
        return self.accelerator.prepare(loader)

    def complete_batches(self, batches: list[dict[str, Any]], num_items: Any) -> tuple[list, None]:
        numbers = [int((batch["labels"] != IGNORED_LABEL).sum()) for batch in batches]
        counts = self.accelerator.reduce(torch.tensor(numbers, device=self.args.device), "sum")
        return [{**batch, "num_known": count} for batch, count in zip(batches, counts, strict=True)], None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(self.setup.model.prepare(inputs))
        name, labels = inputs["head"], inputs.pop("labels")
        num_known = inputs.pop(
            "num_known", None
        )  # on all processes; None in an evaluation, where the loss is a mean over the batch
        outputs = model(**inputs)
        head = self.model_config.heads[name]
        problem = SimpleNamespace(problem_type=head["problem_type"])
        loss = classification_loss(labels, outputs["logits"], problem, num_known)
        if num_known is not None:
            self.running_scores.add(name, loss.detach(), outputs["logits"].detach(), labels)
            loss = loss * (head["loss_weight"] * self.args.world_size)  # DDP takes the mean over processes
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self.loss_is_scaled_for_ga = False  # Trainer divides the loss by the number of accumulated batches
        return super().training_step(model, inputs, num_items_in_batch)

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        return FLOPS_PER_TRAINING_STEP * self.flops[inputs["head"]] * len(inputs["labels"])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.running_scores.take(self.accelerator)
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics of each data set, `eval_<name>_<metric>`, and the mean over data sets, `eval_mean_score`."""
        metrics, scores = {}, []
        for name in self.setup.validation_clips:
            self.compute_metrics, prefix = self.setup.metrics[name], f"{metric_key_prefix}_{name}"
            output = self.evaluation_loop(
                self.get_eval_dataloader(name), "Evaluation", ignore_keys=ignore_keys, metric_key_prefix=prefix
            )
            metrics |= output.metrics
            scores.append(output.metrics[f"{prefix}_{self.compute_metrics.best_metric}"])
            self.control = self.callback_handler.on_predict(self.args, self.state, self.control, output.metrics)
        metrics[f"{metric_key_prefix}_{MEAN_SCORE}"] = sum(scores) / len(scores)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, **kwargs) -> None:
        if self.is_world_process_zero():
            write_joint_card(Path(self.args.output_dir), self.setup)


class RunningScores:
    """
    Loss and accuracy of each data set since the last call of `take`, over all processes. The sums stay on the device until then.

    multi_label: for each data set, whether samples have several labels. Accuracy is for data sets with one label per sample.
    """

    def __init__(self, multi_label: dict[str, bool], device: torch.device):
        self.multi_label, self.device = multi_label, device
        self._clear()

    def _clear(self) -> None:
        # For each data set: sum of losses, number of batches, of known labels, and of correct predictions.
        self.sums = {name: torch.zeros(4, device=self.device) for name in self.multi_label}

    def add(self, name: str, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """loss: this process's part of the loss of a batch. labels: as `count_correct` takes them."""
        known, correct = (0, 0) if self.multi_label[name] else count_correct(logits, labels)
        for index, value in enumerate((loss, 1, known, correct)):
            self.sums[name][index] += value

    def take(self, accelerator: Any) -> dict[str, float]:
        """`{"<name>/loss", "<name>/accuracy"}` of the data sets with batches since the last call. Resets all sums."""
        sums = accelerator.reduce(torch.stack(list(self.sums.values())), "sum").tolist()
        self._clear()
        scores = {}
        for name, (loss, batches, known, correct) in zip(self.sums, sums, strict=True):
            if batches:
                scores[f"{name}/loss"] = loss * accelerator.num_processes / batches
            if known:
                scores[f"{name}/accuracy"] = correct / known
        return scores


def count_correct(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The number of known labels, and for how many of them the class has the largest logit.

    labels: class indices `(batch,)`, or soft labels `(batch, classes)`, whose class is the largest entry; -100 = unknown.
    """
    if labels.ndim == 1:
        known, classes = labels != IGNORED_LABEL, labels
    else:
        known, classes = (labels != IGNORED_LABEL).all(dim=-1), labels.argmax(dim=-1)
    correct = known & (logits.reshape(len(labels), -1).argmax(dim=-1) == classes)
    return known.sum(), correct.sum()
