# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`VideoTrainingArguments`: Transformers' `TrainingArguments` with our defaults, and the options that clips need.

Each field of `TrainingArguments` is an option under its own name. A field that is declared again here has another default or
a help text for clips. Every other field is in one of two tables: `SUPPORTED`, or `UNSUPPORTED` with the reason, for a field that
`VideoTrainer` would ignore or that would break it. A field of a newer Transformers, in neither table, is refused.
"""

import math
import os
import sys
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import transformers
from transformers import SchedulerType, Trainer, TrainingArguments
from transformers.debug_utils import DebugOption
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.training_args import OptimizerNames

from ..data.data_config import DECODER_HELP, Decoder
from ..option_types import AT_LEAST_0, AT_LEAST_1, BOOLEANS, FRACTION, POSITIVE, SEED, Range, check_ranges, option
from .nested_options import check_before_init, check_deepspeed, check_entries


BELOW_1 = Range(0, 1, exclusive=("maximum",))
OWN_PARAMETER_GROUPS = (
    "galore",
    "apollo",
    "lomo",
    "adalomo",
)  # prefixes of optimizers that choose their parameter groups
WITHOUT_BETAS = ("sgd", "adagrad", "rmsprop", "adafactor")
TRACKER_OPTIONS = ["run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"]


@dataclass
class VideoTrainingArguments(TrainingArguments):
    """Optimization, evaluation, checkpoints and logging: Transformers' TrainingArguments with other defaults and further options."""

    INHERITED_RANGES: ClassVar[dict[str, Range]] = {
        "adam_beta1": BELOW_1,
        "adam_beta2": BELOW_1,
        "adam_epsilon": POSITIVE,
        "label_smoothing_factor": FRACTION,
        "neftune_noise_alpha": AT_LEAST_0,
        "torch_empty_cache_steps": AT_LEAST_1,
        "eval_delay": AT_LEAST_0,
        "eval_accumulation_steps": AT_LEAST_1,
        "data_seed": SEED,
        "dataloader_prefetch_factor": AT_LEAST_1,
        "ddp_bucket_cap_mb": AT_LEAST_1,
        "ddp_timeout": AT_LEAST_1,
    }

    # Inherited fields that work as Transformers documents them.
    SUPPORTED: ClassVar[frozenset[str]] = frozenset(
        (
            # Optimizer, schedule and precision
            *("lr_scheduler_kwargs", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "neftune_noise_alpha"),
            *("bf16", "fp16", "tf32", "activation_checkpointing", "activation_checkpointing_kwargs"),
            *("gradient_checkpointing", "gradient_checkpointing_kwargs"),  # Transformers' older names
            *("torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps"),
            # Logging
            *(
                "logging_strategy",
                "logging_first_step",
                "log_level",
                "log_level_replica",
                "log_on_each_node",
                "run_name",
            ),
            *("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "skip_memory_metrics"),
            "debug",
            # Evaluation and checkpoints
            *("eval_delay", "eval_on_start", "eval_accumulation_steps", "greater_is_better"),
            *("save_only_model", "save_on_each_node", "ignore_data_skip"),
            # Hub
            *("hub_token", "hub_revision"),
            # Data and random numbers
            *("full_determinism", "data_seed", "train_sampling_strategy", "accelerator_config"),
            *("dataloader_drop_last", "dataloader_pin_memory", "dataloader_persistent_workers"),
            *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order"),
            # Several GPUs; the launcher may set local_rank
            *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph"),
            *("ddp_backend", "ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "local_rank"),
        )
    )

    # Field to reason, for inherited fields that must keep their defaults.
    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "remove_unused_columns": "it would remove what the collator reads",
        "label_names": "clips have their labels under `labels`",
        "label_smoothing_factor": "set label_smoothing, which also handles mixup and several labels",
        "logging_nan_inf_filter": "it would log a loss of 0 for NaN",
        "prediction_loss_only": "metrics need the logits",
        "batch_eval_metrics": "metrics are computed over the whole split",
        "include_for_metrics": "metrics take logits and labels only",
        "eval_do_concat_batches": "metrics are computed over the whole split",
        "eval_use_gather_object": "logits are tensors",
        "bf16_full_eval": "mixed_precision sets the precision of evaluations too",
        "fp16_full_eval": "mixed_precision sets the precision of evaluations too",
        "include_num_input_tokens_seen": "it would count pixels",
        "length_column_name": "all clips have the same length",
        "use_cache": "classifiers have no cache of keys and values",
        "use_liger_kernel": "Liger has no kernels for video models",
        "liger_kernel_config": "Liger has no kernels for video models",
        "average_tokens_across_devices": "the loss is the mean over the clips of all devices",
        "optim_target_modules": "the parameter groups are those of layer_decay; use an optimizer other than GaLore and APOLLO",
        "restore_callback_states_from_checkpoint": "a resumed run always restores early stopping",
        "enable_jit_checkpoint": "set save_strategy=steps and save_steps",
        "auto_find_batch_size": "results depend on the batch size; set per_device_train_batch_size",
        "hub_strategy": "a run is uploaded once, at its end",
        "hub_always_push": "a run is uploaded once, at its end",
        "do_train": "tubevit train always trains",
        "do_eval": "set eval_strategy",
        "do_predict": "use tubevit eval with split=test",
        "parallelism_config": "it cannot be given on a command line or in YAML",
    }

    # Optimization
    num_train_epochs: Annotated[float, POSITIVE] = option(30.0, "passes over the training videos")
    max_steps: Annotated[int, Range(1, also=(-1,))] = option(
        -1, "total optimizer steps; overrides num_train_epochs; -1 = use num_train_epochs"
    )
    per_device_train_batch_size: Annotated[int, AT_LEAST_1] = option(8, "clips per device and forward pass")
    gradient_accumulation_steps: Annotated[int, AT_LEAST_1] = option(1, "forward passes per optimizer step")
    learning_rate: Annotated[float, POSITIVE] | None = option(
        None,
        "peak learning rate; layer_decay lowers it for the layers before the classifier (default: 1e-4 from a checkpoint, 5e-4 "
        "from random weights)",
    )
    layer_decay: Annotated[float, Range(0, 1, exclusive=("minimum",))] | None = option(
        None,
        "factor on the learning rate from each layer to the one before; 1 = off (default: 0.75 from a checkpoint, 1 from "
        "random weights)",
    )
    weight_decay: Annotated[float, AT_LEAST_0] = option(
        0.05, "weight decay of the parameters that weight_decay_parameters names; biases and norms have none"
    )
    weight_decay_parameters: Literal["weights", "matrices"] = option(
        "weights",
        "parameters with weight decay; weights: weight matrices and kernels; matrices: every parameter with 2 or more dimensions, with "
        "position tables and tokens (UniFormerV2)",
    )
    optim: OptimizerNames | str = field(default="adamw_torch", metadata={"help": "optimizer of Transformers"})
    lr_scheduler_type: SchedulerType | str = field(
        default="cosine", metadata={"help": "learning rate schedule of Transformers"}
    )
    warmup_steps: Annotated[float, AT_LEAST_0] = option(
        0.1, "steps of linear warm-up; a value below 1 is a fraction of all steps"
    )
    max_grad_norm: Annotated[float, AT_LEAST_0] = option(1.0, "norm to which gradients are clipped; 0 = no clipping")
    mixed_precision: Literal["no", "bf16", "fp16"] | None = option(
        None, "data type of the forward pass; the options bf16 and fp16 set the same (default: no)"
    )
    class_weights: str | None = option(
        None,
        "weights of the classes in the training loss; balanced: inversely proportional to their numbers of videos; or a file, JSON from "
        "class to weight or a table with the columns class and weight (default: equal weights)",
    )
    ema_decay: Annotated[float, BELOW_1] = option(
        0.0, "decay of the exponential moving average (EMA) of the weights; the EMA weights are evaluated; 0 = off"
    )
    token_budget_range: list[int] | None = field(
        default=None,
        metadata={
            "help": "TubeViT: smallest and largest number of tube tokens per clip in training, such as [128,512]; each step uses one of up to 8 "
            "numbers from this range, by larger strides of the tubes; the trained model can be run with any token_budget in this range "
            "(default: all tokens in each step)"
        },
    )
    budget_distillation: Annotated[float, FRACTION] = option(
        0.0,
        "with token_budget_range: weight w of self-distillation; the loss of a step below the largest budget is (1 - w) times the label loss plus "
        "w times the KL divergence from the model's own logits at the largest budget, which cost a forward pass; 0 = off",
    )
    sync_batch_norm: bool = option(
        True,
        "with several processes, batch norms (local blocks of UniFormerV2) take their statistics over the clips of all processes "
        "(SyncBatchNorm)",
    )
    early_stopping_patience: Annotated[int, AT_LEAST_0] = option(
        0, "stop after this many evaluations without a better metric; 0 = off"
    )
    chance_loss_patience: Annotated[int, AT_LEAST_0] = option(
        2000, "stop if the loss stays at chance level for this many steps after the warm-up; 0 = off"
    )

    # Evaluation
    eval_strategy: Literal["no", "steps", "epoch"] = option(
        "epoch", "when to evaluate the validation videos, one view each, while training"
    )
    eval_steps: Annotated[float, POSITIVE] = option(
        500, "steps between evaluations if eval_strategy=steps; a value below 1 is a fraction of all steps"
    )
    per_device_eval_batch_size: Annotated[int, AT_LEAST_1] = option(
        8, "clips per device and forward pass of an evaluation"
    )
    metric_for_best_model: str | None = option(
        None, "metric of the best checkpoint (default: accuracy; mean_average_precision if videos have several labels)"
    )
    load_best_model_at_end: bool | None = option(
        None, "save the best model instead of the last (default: true if eval_strategy is not no)"
    )
    num_temporal_views: Annotated[int, AT_LEAST_1] = option(4, "clips per video in the evaluation after training")
    num_spatial_views: Annotated[int, AT_LEAST_1] = option(3, "crops per clip in the evaluation after training")
    view_aggregation: Literal["probs", "logits", "max"] = option(
        "probs",
        "score of a video from its views; probs: mean of their probabilities; logits: probabilities of their mean logits; max: "
        "largest probability of each class",
    )

    # Files and logging
    output_dir: str = option("runs/tubevit", "folder of all files of the run")
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "continue a run: true for its newest checkpoint in output_dir, or the path of one of its checkpoints",
            "nargs": "?",
            "const": "true",  # `--resume_from_checkpoint` without a value
        },
    )
    seed: Annotated[int, SEED] = option(42, "random seed of weights, order of clips and augmentation")
    save_strategy: Literal["no", "steps", "epoch", "best"] = option("epoch", "when to write checkpoints")
    save_steps: Annotated[float, POSITIVE] = option(
        500, "steps between checkpoints if save_strategy=steps; a value below 1 is a fraction of all steps"
    )
    save_total_limit: Annotated[int, AT_LEAST_1] | None = option(
        2, "number of checkpoints to keep: the newest, and always the best; none = all"
    )
    logging_steps: Annotated[float, POSITIVE] = option(
        10, "steps between log entries; a value below 1 is a fraction of all steps"
    )
    logging_nan_inf_filter: bool = False
    disable_tqdm: bool | None = option(None, "hide progress bars (default: hidden unless on a terminal)")
    report_to: None | str | list[str] = field(  # noqa: RUF036 - HfArgumentParser needs this order
        default="none", metadata={"help": "trackers, separated by commas: none, tensorboard, trackio, wandb, ..."}
    )
    push_to_hub: bool = option(False, "upload the model to the Hub after training")
    hub_model_id: str | None = option(None, "name of the model on the Hub (default: the name of output_dir)")
    hub_private_repo: bool = option(True, "upload to a private repository; false = everyone can read it")
    hub_license: str | None = option(
        None, "license of the model in its card, such as apache-2.0 (default: the license in the checkpoint's card)"
    )

    # Data
    sampler: Literal["random", "balanced", "sqrt"] = option(
        "random",
        "training clips of an epoch; random: one clip of each video; balanced: the same number of clips of each class; sqrt: a number of clips "
        "of each class in proportion to the square root of its number of videos",
    )
    dataloader_num_workers: Annotated[int, AT_LEAST_0] = option(0, "processes per device that decode clips")
    decoder: Decoder = option("av", DECODER_HELP)  # noqa: RUF009  (an alias of Literal)
    remove_unused_columns: bool = False
    use_cpu: bool = option(False, "train on the CPU even if there is a GPU")
    check_data: bool = option(True, "try to open every file before training")
    corrupt_videos_file: str | None = option(
        None, "report of `tubevit data check`: the files that it lists are skipped, and check_data is not repeated"
    )
    on_corrupt_video: Literal["skip", "raise"] = option(
        "skip", "skip videos that cannot be decoded, or stop with an error"
    )
    max_corrupt_fraction: Annotated[float, FRACTION] = option(
        0.05, "stop if a larger fraction of a split's videos cannot be decoded"
    )

    def __post_init__(self):
        if str(self.fsdp).lower() in BOOLEANS:  # Transformers takes every text for the name of an old mode
            self.fsdp = BOOLEANS[str(self.fsdp).lower()]
        # The values as given. Transformers replaces some below, and those could not be read back from YAML.
        self.given = {each.name: getattr(self, each.name) for each in fields(self)}
        check_ranges(self)
        self._check_supported()
        self._check_strategies()
        self._set_precision()
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = self.eval_strategy != "no"
        if self.learning_rate is None:
            self.learning_rate = _defaults_by_start(has_checkpoint=True)["learning_rate"]
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available() and not self.use_cpu
        self.data_seed = self.seed if self.data_seed is None else self.data_seed
        self.disable_tqdm = not sys.stderr.isatty() if self.disable_tqdm is None else self.disable_tqdm
        self.report_to = check_trackers(self.report_to)
        self.label_names = ["labels"]
        check_before_init(self)
        super().__post_init__()
        self._check_values()
        self.mixed_precision = (
            self.given["mixed_precision"] or self.mixed_precision
        )  # None: what `accelerate launch` sets
        self.given |= {"mixed_precision": self.mixed_precision, "bf16": False, "fp16": False}
        # Transformers would choose `loss`; the default depends on the data, see `for_trainer`.
        self.metric_for_best_model = self.given["metric_for_best_model"]
        self.greater_is_better = self.given["greater_is_better"]

    def _check_supported(self) -> None:
        own = type(self).__annotations__
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if name not in self.UNSUPPORTED and (name in own or name in self.SUPPORTED):
                continue
            if not _is_default(value, _default(each)):
                reason = self.UNSUPPORTED.get(name, f"it is new in Transformers {transformers.__version__}")
                raise ValueError(f"{name}={value} is not supported: {reason}.")
        if str(self.optim).startswith(OWN_PARAMETER_GROUPS):
            raise ValueError(f"optim={self.optim} is not supported: the parameter groups are those of layer_decay.")
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy} is not supported: all clips have the same length; set "
                "random or sequential."
            )

    def _check_values(self) -> None:
        """Raise a `ValueError` for a value of `debug` or `optim_args` that has no effect; called when all fields are converted."""
        if DebugOption.TPU_METRICS_DEBUG in self.debug:
            raise ValueError(
                "debug=tpu_metrics_debug is not supported: it needs a TPU; debug=underflow_overflow works."
            )
        check_entries(self)
        if self.deepspeed_plugin is not None:
            mismatches = self.hf_deepspeed_config.mismatches if self.deepspeed else []
            check_deepspeed(self.deepspeed_plugin.deepspeed_config, self.per_device_train_batch_size, mismatches)
        self._check_budgets()
        entries = [each.partition("=") for each in (self.optim_args or "").replace(" ", "").split(",") if each]
        for name, equals, value in entries:
            if not equals:
                raise ValueError(f"optim_args must be name=value, separated by commas, got {self.optim_args!r}.")
            others = ",".join("=".join((key, text)) for key, _, text in entries if key != name)
            _, settings = Trainer.get_optimizer_cls_and_kwargs(self)
            _, without = Trainer.get_optimizer_cls_and_kwargs(_with(self, optim_args=others))
            if settings == without and str(settings.get(name)) not in (value, str(_number(value))):
                raise ValueError(f"optim_args: {name} has no effect with optim={self.optim.value}.")

    def _check_budgets(self) -> None:
        budgets = self.token_budget_range
        if budgets is None:
            return
        is_pair = len(budgets) == 2 and all(isinstance(each, int) and not isinstance(each, bool) for each in budgets)
        if not is_pair or not 1 <= budgets[0] <= budgets[1]:
            raise ValueError(
                f"token_budget_range must be two whole numbers of at least 1, the smallest and the largest, got {budgets}."
            )
        if self.sharding is not None:
            raise ValueError(
                f"token_budget_range does not work with {self.sharding}, which divides the tokenizer among processes: use DDP."
            )
        if self.budget_distillation and self.class_weights is not None:
            raise ValueError(
                "budget_distillation gives the classes equal weights: set class_weights=none, or sampler=balanced in its place."
            )

    def without_effect(self) -> list[str]:
        """A message for each option that is given and that another option switches off."""
        given, messages = self.given, []
        defaults = {each.name: _default(each) for each in fields(self)}
        has_tracker = self.report_to not in ([], ["none"])
        # The options that `reason` switches off, if it holds.
        groups = [
            (given["eval_strategy"] != "steps", f"eval_strategy={given['eval_strategy']}", ["eval_steps"]),
            (given["eval_strategy"] == "no", "eval_strategy=no", ["eval_delay", "metric_for_best_model"]),
            (given["save_strategy"] != "steps", f"save_strategy={given['save_strategy']}", ["save_steps"]),
            (given["save_strategy"] == "no", "save_strategy=no", ["save_total_limit", "save_only_model"]),
            (self.max_steps > 0, f"max_steps={self.max_steps}", ["num_train_epochs"]),
            (self.logging_strategy != "steps", f"logging_strategy={given['logging_strategy']}", ["logging_steps"]),
            (self.logging_strategy == "no", "logging_strategy=no", ["chance_loss_patience", "logging_first_step"]),
            (not has_tracker, "report_to=none", TRACKER_OPTIONS),
            (not self.push_to_hub, "push_to_hub=false", ["hub_model_id", "hub_private_repo", "hub_revision"]),
            (not given["fsdp"], "fsdp=none", ["fsdp_config"]),
            (self.token_budget_range is None, "token_budget_range=none", ["budget_distillation"]),
            (not self.activation_checkpointing, "activation_checkpointing=false", ["activation_checkpointing_kwargs"]),
            (self.lr_scheduler_type == "constant", "lr_scheduler_type=constant", ["warmup_steps"]),
            (self.optim.value.startswith(WITHOUT_BETAS), f"optim={self.optim.value}", ["adam_beta1", "adam_beta2"]),
        ]
        for holds, reason, names in groups:
            for name in names:
                if holds and given[name] != defaults[name]:
                    messages.append(f"{name}={_text(given[name])} has no effect with {reason}.")
        return messages

    def _check_strategies(self) -> None:
        """Raise a `ValueError` if another option needs evaluations or checkpoints that are switched off."""
        if self.eval_strategy == "no":
            for name in ("early_stopping_patience", "load_best_model_at_end"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs evaluations: set eval_strategy=epoch or steps.")
            if self.save_strategy == "best":
                raise ValueError("save_strategy=best needs evaluations: set eval_strategy=epoch or steps.")
        elif self.load_best_model_at_end is not False and self.save_strategy != "best":
            ratio = self.save_steps / self.eval_steps
            is_multiple = math.isclose(ratio, round(ratio)) and (self.save_steps < 1) == (self.eval_steps < 1)
            if self.eval_strategy != self.save_strategy or (self.save_strategy == "steps" and not is_multiple):
                raise ValueError(
                    f"load_best_model_at_end needs a checkpoint after each evaluation: set save_strategy={self.eval_strategy}, "
                    f"save_steps a multiple of eval_steps={self.eval_steps:g}, or load_best_model_at_end=false."
                )

    def _set_precision(self) -> None:
        """Make `mixed_precision` agree with `bf16` and `fp16`, the options of Transformers for the same choice."""
        if self.bf16 and self.fp16:
            raise ValueError("bf16=true and fp16=true exclude each other: set mixed_precision=bf16 or fp16.")
        switch = "bf16" if self.bf16 else "fp16" if self.fp16 else None
        if switch is not None and self.mixed_precision not in (None, switch):
            raise ValueError(f"{switch}=true contradicts mixed_precision={self.mixed_precision}: give one of them.")
        self.bf16, self.fp16 = ((self.mixed_precision or switch) == name for name in ("bf16", "fp16"))

    @property
    def n_gpu(self) -> int:
        """At most 1: Trainer would wrap the model in DataParallel, and multiply the batch size by the number of GPUs."""
        return min(1, super().n_gpu)

    @property
    def sharding(self) -> str | None:
        """What divides weights or optimizer states among the processes, "FSDP" or "DeepSpeed", by an option or by `accelerate launch`."""
        for name, given in (("FSDP", self.fsdp), ("DeepSpeed", self.deepspeed)):
            if given or os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() in ("true", "1"):
                return name
        return None

    @property
    def is_resumed(self) -> bool:
        value = self.resume_from_checkpoint
        return BOOLEANS.get(str(value).lower(), value is not None)

    @property
    def checkpoint_to_resume(self) -> Path | None:
        """The checkpoint that `resume_from_checkpoint` names; `None` for the newest one."""
        value = str(self.resume_from_checkpoint)
        return None if value.lower() in BOOLEANS else Path(value).expanduser()

    def to_options(self) -> dict[str, Any]:
        """Option name to given value, for YAML: all fields declared here, and inherited fields that differ from their defaults."""
        own = type(self).__annotations__
        return {
            each.name: self.given[each.name]
            for each in fields(self)
            if not each.name.endswith("_token") and (each.name in own or self.given[each.name] != _default(each))
        }

    def copy(self, **changes: Any) -> "VideoTrainingArguments":
        """New arguments from the given options, with changes."""
        return type(self)(**{**self.given, **changes})

    def complete_defaults(self, has_checkpoint: bool) -> None:
        """Set the options whose defaults differ for a checkpoint and for random weights, if they are not given."""
        for name, value in _defaults_by_start(has_checkpoint).items():
            if self.given[name] is None:
                self.given[name] = value
                setattr(self, name, value)

    def for_trainer(self, has_validation: bool = True, best_metric: str = "accuracy") -> "VideoTrainingArguments":
        """
        A copy for Trainer.

        has_validation: whether there are validation videos. Without them, evaluation is switched off.
        best_metric: metric of the best checkpoint if `metric_for_best_model` is not given.
        """
        metric = self.metric_for_best_model or best_metric
        changes: dict[str, Any] = {"push_to_hub": False}  # the script uploads the run together with its evaluation
        if not has_validation:
            changes |= {"eval_strategy": "no", "load_best_model_at_end": False, "early_stopping_patience": 0}
            changes |= {"eval_on_start": False}
            changes |= {"save_strategy": "epoch"} if self.given["save_strategy"] == "best" else {}
        arguments = self.copy(**changes)
        arguments.metric_for_best_model = metric
        if arguments.greater_is_better is None:
            arguments.greater_is_better = not metric.endswith("loss")
        return arguments

    def count_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.max_steps > 0:
            return self.max_steps
        return math.ceil(
            self.num_train_epochs * max(1, math.ceil(batches_per_epoch / self.gradient_accumulation_steps))
        )

    def count_batches(self, num_clips: int, num_processes: int) -> int:
        """Batches of an epoch on each process. Raises `ValueError` if `dataloader_drop_last` leaves none."""
        size = self.per_device_train_batch_size * num_processes
        if self.dataloader_drop_last and num_clips < size:
            raise ValueError(
                f"dataloader_drop_last=true leaves no batch: there are {num_clips} training clips, and the batches of all devices "
                f"have {size}."
            )
        return num_clips // size if self.dataloader_drop_last else math.ceil(num_clips / size)


def _defaults_by_start(has_checkpoint: bool) -> dict[str, float]:
    """
    Defaults for training from a checkpoint, or from random weights. With a layer decay of 0.75 the first of twelve layers has
    3 % of the learning rate: enough for trained weights, and too little for random ones.
    """
    if has_checkpoint:
        return {"learning_rate": 1e-4, "layer_decay": 0.75}
    return {"learning_rate": 5e-4, "layer_decay": 1.0}


def check_trackers(names: str | list[str]) -> list[str]:
    """Names of trackers as a list. Raises `ValueError` for an unknown one and `ImportError` for one that is not installed."""
    trackers = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names or ["none"])
    installed = get_available_reporting_integrations()
    for name in trackers:
        if name not in ("none", "all", *INTEGRATION_TO_CALLBACK):
            known = ", ".join(("none", "all", *INTEGRATION_TO_CALLBACK))
            raise ValueError(f"report_to={name}: there is no such tracker; there are: {known}.")
        if name not in ("none", "all", *installed):
            there = f"; installed are: {', '.join(installed)}." if installed else "."
            raise ImportError(f"report_to={name} needs the package: pip install {name}{there}")
    return trackers


def _with(arguments: TrainingArguments, **changes: Any) -> TrainingArguments:
    """A shallow copy with changes, without the checks and conversions of new arguments."""
    changed = copy(arguments)
    vars(changed).update(changes)
    return changed


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_default(value: Any, default: Any) -> bool:
    """`[]` and, for the choice "no", `False` are other spellings of defaults."""
    return value == default or value == [] or (value is False and default == "no")


def _default(each: Any) -> Any:
    return each.default_factory() if callable(each.default_factory) else each.default
