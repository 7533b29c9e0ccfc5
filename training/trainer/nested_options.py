# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Checks of the entries of options that hold mappings or lists of settings: `lr_scheduler_kwargs.foo=1` is an error of one line before the
data are read, where Transformers or torch would raise hours later, or ignore it.
"""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.integrations.deepspeed import is_deepspeed_available
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, get_scheduler
from transformers.trainer_pt_utils import AcceleratorConfig

from ..option_names import nearest_names
from ..options import one_line


# Entries of `accelerator_config` that must keep their defaults; `non_blocking` may change.
UNSUPPORTED_ACCELERATOR = {
    "split_batches": "per_device_train_batch_size is the number of clips per device",
    "dispatch_batches": "each process decodes its own clips",
    "even_batches": "processes need equal numbers of batches",
    "use_seedable_sampler": "a resumed run needs the same order of clips",
    "gradient_accumulation_kwargs": "set gradient_accumulation_steps",
    "use_configured_state": "the Accelerator is configured by the options of training",
}
FILES = ("accelerator_config", "fsdp_config", "deepspeed")  # options that also accept the name of a JSON file
SCHEDULE_ARGUMENTS = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}  # not settings
IGNORE_SETTINGS = ("constant", "constant_with_warmup")  # schedules that get no settings from `get_scheduler`
# Arguments of `activation_checkpointing_enable` and of torch's `checkpoint`.
CHECKPOINTING = {
    "every_n_layers": int,
    "offload": bool,
    "use_reentrant": bool,
    "preserve_rng_state": bool,
    "determinism_check": str,
    "debug": bool,
    "early_stop": bool,
}
# Entries that `TrainingArguments` and `Trainer` read; a test compares them with the installed source.
FSDP = (
    *("activation_checkpointing", "auto_wrap_policy", "backward_prefetch", "cpu_offload", "cpu_ram_efficient_loading"),
    *("forward_prefetch", "limit_all_gathers", "min_num_params", "reshard_after_forward", "state_dict_type"),
    *("sync_module_states", "transformer_layer_cls_to_wrap", "use_orig_params", "version"),
    *("xla", "xla_fsdp_grad_ckpt", "xla_fsdp_settings", "xla_fsdp_v2"),
)
# Entries of DeepSpeed's configuration that replace options of the run.
DEEPSPEED_OWN = {
    "optimizer": "optim and layer_decay make the optimizer and its parameter groups",
    "scheduler": "lr_scheduler_type makes the schedule",
}
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def check_before_init(arguments: Any) -> None:
    """
    Checks of values that `TrainingArguments.__post_init__` reads.

    Raises `FileNotFoundError` for an option of `FILES` that names a file that does not exist, and `ValueError` for an entry that
    `accelerator_config` does not have, or that must keep its default, and `ImportError` without the package of DeepSpeed.
    """
    for name in FILES:
        value = getattr(arguments, name)
        if isinstance(value, str) and not value.lstrip().startswith("{") and not Path(value).is_file():
            raise FileNotFoundError(f"{name}={value}: there is no such file; give a JSON file or a mapping.")
    if arguments.deepspeed == {}:
        raise ValueError(
            "deepspeed={} holds no settings: give zero_optimization, for example deepspeed.zero_optimization.stage=2."
        )
    if arguments.sharding == "DeepSpeed" and not is_deepspeed_available():
        raise ImportError("DeepSpeed needs its package: pip install deepspeed, or train without deepspeed.")

    config, default = arguments.accelerator_config, AcceleratorConfig()
    if isinstance(config, str):
        is_text = config.lstrip().startswith("{")
        config = yaml.safe_load(config if is_text else Path(config).read_text(encoding="utf-8"))
    if config is not None and not isinstance(config, dict):
        raise ValueError(f"accelerator_config must hold a mapping, got {config!r}.")
    for name, value in (config or {}).items():
        if not hasattr(default, name):
            raise ValueError(f"accelerator_config has no entry {name!r}; non_blocking may be set.")
        if name in UNSUPPORTED_ACCELERATOR and value != getattr(default, name):
            raise ValueError(f"accelerator_config.{name}={value} is not supported: {UNSUPPORTED_ACCELERATOR[name]}.")


def check_entries(arguments: Any) -> None:
    """Raise a `ValueError` for an entry that its option does not have, or with a value that it does not accept."""
    schedule, settings = str(arguments.lr_scheduler_type.value), arguments.lr_scheduler_kwargs or {}
    _check_schedule(schedule, settings, arguments.learning_rate)
    settings = arguments.activation_checkpointing_kwargs or {}
    _check_names("activation_checkpointing_kwargs", settings, list(CHECKPOINTING))
    for name, value in settings.items():
        if type(value) is not CHECKPOINTING[name] or (type(value) is int and value < 1):
            kind = {bool: "true or false", int: "a whole number of at least 1", str: "text"}[CHECKPOINTING[name]]
            raise ValueError(f"activation_checkpointing_kwargs.{name} must be {kind}, got {value!r}.")
    if isinstance(arguments.fsdp_config, dict):  # with `fsdp`, Transformers has read the file
        entries = {name.removeprefix("fsdp_"): value for name, value in arguments.fsdp_config.items()}
        _check_names("fsdp_config", entries, list(FSDP))
    if arguments.torch_compile_mode not in (None, *COMPILE_MODES):
        raise ValueError(
            f"torch_compile_mode must be one of {', '.join(COMPILE_MODES)}, got {arguments.torch_compile_mode!r}."
        )
    if arguments.given["torch_compile_backend"] is not None:
        backends = torch._dynamo.list_backends(exclude_tags=())
        if arguments.torch_compile_backend not in backends:
            raise ValueError(
                f"torch_compile_backend must be one of {', '.join(backends)}, got {arguments.torch_compile_backend!r}."
            )


def check_deepspeed(config: dict[str, Any], batch_size: int, mismatches: list[str]) -> None:
    """
    Raise a `ValueError` for a configuration that the installed DeepSpeed refuses, or that replaces options of the run.

    config: DeepSpeed's configuration; DeepSpeed fills the entries "auto" when it starts.
    batch_size: clips per device and forward pass.
    mismatches: what Transformers notes of entries that contradict options of the run. It reports them when training starts.
    """
    for name, reason in DEEPSPEED_OWN.items():
        if name in config:
            raise ValueError(f"deepspeed: the entry {name!r} is not supported, because {reason}; leave it out.")
    if config["zero_optimization"].get("stage") == 3:
        raise ValueError(
            "deepspeed: zero_optimization.stage=3 is not supported: set stage 2, or shard the weights by fsdp=true."
        )
    if mismatches:
        raise ValueError(
            f"deepspeed contradicts other options: {'; '.join(each.strip('- ') for each in mismatches)}. Set 'auto'."
        )

    import deepspeed
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError

    known = _without_auto(config) | {"train_micro_batch_size_per_gpu": batch_size, "gradient_accumulation_steps": 1}
    known.pop("train_batch_size", None)  # the product of both and the number of processes
    try:
        DeepSpeedConfig(known)
    except (DeepSpeedConfigError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(
            f"deepspeed: DeepSpeed {deepspeed.__version__} refuses the configuration: {one_line(error)}"
        ) from error


def _without_auto(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_auto(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if value != "auto"
    }


def _check_schedule(name: str, settings: dict[str, Any], learning_rate: float | None) -> None:
    """Build the schedule of a run of ten steps and take each of them."""
    if settings and name in IGNORE_SETTINGS:
        raise ValueError(f"lr_scheduler_kwargs={settings} has no effect with lr_scheduler_type={name}.")
    function = TYPE_TO_SCHEDULER_FUNCTION[name]
    if "kwargs" not in inspect.signature(function).parameters:
        known = inspect.signature(function).parameters.keys() - SCHEDULE_ARGUMENTS
        _check_names("lr_scheduler_kwargs", settings, sorted(known), f" with lr_scheduler_type={name}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate or 1e-4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer takes no step
            schedule = get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=settings)
            for _ in range(0 if "kwargs" in inspect.signature(function).parameters else 10):
                schedule.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"lr_scheduler_kwargs={settings} does not fit lr_scheduler_type={name}: {one_line(error)}"
        ) from error


def _check_names(option: str, given: dict[str, Any], known: list[str], where: str = "") -> None:
    for name in given:
        if name not in known:
            close = nearest_names(name, known)
            hint = f"the nearest is {close[0]!r}" if close else f"there are: {', '.join(known) or 'none'}"
            raise ValueError(f"{option} has no entry {name!r}{where}; {hint}.")
