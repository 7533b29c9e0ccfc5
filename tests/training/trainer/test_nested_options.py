"""Entries of options that hold mappings: a wrong one is an error of one line before the data are read."""

import inspect
import re
import sys
from types import ModuleType

import pytest
from transformers import TrainingArguments
from transformers.optimization import SchedulerType

from tubevit.training.cli import main
from tubevit.training.trainer import nested_options
from tubevit.training.trainer.nested_options import FSDP, check_deepspeed
from tubevit.training.trainer.training_arguments import VideoTrainingArguments


WRONG = {
    "accelerator_config.foo=1": "accelerator_config has no entry 'foo'",
    "accelerator_config=foo.json": "accelerator_config=foo.json: there is no such file",
    "fsdp_config=foo.json": "fsdp_config=foo.json: there is no such file",
    "fsdp_config.foo=1": "fsdp_config has no entry 'foo'; there are: activation_checkpointing",
    "fsdp_config.cpu_ofload=true": "fsdp_config has no entry 'cpu_ofload'; the nearest is 'cpu_offload'",
    "deepspeed={}": "deepspeed={} holds no settings: give zero_optimization",
    "lr_scheduler_kwargs.num_cycle=1": "no entry 'num_cycle' with lr_scheduler_type=cosine; the nearest is 'num_cycles'",
    "lr_scheduler_kwargs.num_cycles=foo": "lr_scheduler_kwargs={'num_cycles': 'foo'} does not fit lr_scheduler_type=cosine",
    "activation_checkpointing_kwargs.foo=1": "activation_checkpointing_kwargs has no entry 'foo'; there are: every_n_layers",
    "activation_checkpointing_kwargs.use_reentrant=maybe": "use_reentrant must be true or false, got 'maybe'",
    "activation_checkpointing_kwargs.every_n_layers=0": "every_n_layers must be a whole number of at least 1, got 0",
    "optim_args=foo": "optim_args must be name=value, separated by commas, got 'foo'",
    "torch_compile_mode=fast": "torch_compile_mode must be one of default, reduce-overhead",
    "torch_compile_backend=foo": "torch_compile_backend must be one of ",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_wrong_entry_raises_one_line(text, message, capsys, tmp_path):
    argv = ["train", "preset=tiny", "data=nowhere", f"output_dir={tmp_path / 'run'}", text]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        ("cosine", {"num_cycles": 1}),
        ("polynomial", {"power": 2.0, "lr_end": 1e-6}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("inverse_sqrt", {"timescale": 100}),
        ("warmup_stable_decay", {"num_decay_steps": 3}),
        ("reduce_lr_on_plateau", {"factor": 0.5, "patience": 2}),
    ],
)
def test_right_entries_are_kept(schedule, settings):
    arguments = VideoTrainingArguments(use_cpu=True, lr_scheduler_type=schedule, lr_scheduler_kwargs=settings)
    assert arguments.for_trainer().lr_scheduler_kwargs == settings


@pytest.mark.parametrize("schedule", ["constant", "constant_with_warmup"])
def test_settings_of_a_schedule_without_settings_are_refused(schedule):
    with pytest.raises(ValueError, match=rf"has no effect with lr_scheduler_type={schedule}\."):
        VideoTrainingArguments(use_cpu=True, lr_scheduler_type=schedule, lr_scheduler_kwargs={"num_cycles": 1})
    assert VideoTrainingArguments(use_cpu=True, lr_scheduler_type=schedule).lr_scheduler_type == SchedulerType(
        schedule
    )


def test_each_fsdp_entry_that_transformers_reads_is_known():
    source = inspect.getsource(TrainingArguments)
    read = set(re.findall(r'self\.fsdp_config(?:\.get\(|\.setdefault\(|\[)"(\w+)"', source))
    read |= set(re.findall(r'"(\w+)" in self\.fsdp_config', source))
    assert read == set(FSDP)


def test_entries_without_effect_are_named():
    arguments = VideoTrainingArguments(
        use_cpu=True, fsdp_config={"fsdp_version": 2}, activation_checkpointing_kwargs={"use_reentrant": False}
    )
    messages = " ".join(arguments.without_effect())
    assert "fsdp_config={'fsdp_version': 2} has no effect with fsdp=none." in messages
    assert "has no effect with activation_checkpointing=false." in messages


@pytest.mark.parametrize("is_option", [True, False])
def test_deepspeed_without_its_package_is_refused(is_option, monkeypatch):
    monkeypatch.setattr(nested_options, "is_deepspeed_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", str(not is_option).lower())
    with pytest.raises(ImportError, match=r"^DeepSpeed needs its package: pip install deepspeed, or"):
        VideoTrainingArguments(use_cpu=True, deepspeed=ZERO if is_option else None)


ZERO = {"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}, "gradient_clipping": "auto"}


class DeepSpeedConfigError(Exception):
    """As `deepspeed.runtime.config.DeepSpeedConfigError`."""


@pytest.fixture
def read_by_deepspeed(monkeypatch):
    """The configurations that reach DeepSpeed, which is not installed where the tests run; it refuses `{"wrong": ...}`."""
    read = []

    def read_config(config):
        read.append(config)
        if "wrong" in config:
            raise DeepSpeedConfigError("wrong is\nan error")

    package, module = ModuleType("deepspeed"), ModuleType("deepspeed.runtime.config")
    package.__version__, module.DeepSpeedConfig, module.DeepSpeedConfigError = "9.9", read_config, DeepSpeedConfigError
    for name, each in (
        ("deepspeed", package),
        ("deepspeed.runtime", ModuleType("runtime")),
        (module.__name__, module),
    ):
        monkeypatch.setitem(sys.modules, name, each)
    return read


@pytest.mark.parametrize(
    ("config", "mismatches", "message"),
    [
        (
            {"optimizer": {"type": "AdamW"}},
            [],
            "entry 'optimizer' is not supported, because optim and layer_decay make",
        ),
        (
            {"scheduler": {"type": "WarmupLR"}},
            [],
            "entry 'scheduler' is not supported, because lr_scheduler_type makes",
        ),
        ({"zero_optimization": {"stage": 3}}, [], "zero_optimization.stage=3 is not supported"),
        (
            {},
            ["- ds gradient_clipping=7 vs hf max_grad_norm=1.0"],
            "options: ds gradient_clipping=7 vs hf max_grad_norm=1.0. Set",
        ),
        ({"wrong": 1}, [], "DeepSpeed 9.9 refuses the configuration: wrong is an error"),
    ],
)
def test_configuration_that_deepspeed_cannot_train_with_is_refused(config, mismatches, message, read_by_deepspeed):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_deepspeed({**ZERO, **config}, 4, mismatches)


def test_the_installed_deepspeed_reads_the_configuration_without_what_it_fills_later(read_by_deepspeed):
    check_deepspeed(ZERO, 4, [])
    sizes = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 1}
    assert read_by_deepspeed == [{"zero_optimization": {"stage": 2}, **sizes}]
