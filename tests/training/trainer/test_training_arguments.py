"""Every field of Transformers' TrainingArguments works, or is refused with a reason."""

import pickle
from dataclasses import fields

import pytest
import torch
from tiny_runs import CLASSES, make_run, make_videos
from transformers import TrainingArguments

from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.nested_options import UNSUPPORTED_ACCELERATOR
from tubevit.training.trainer.run_steps import make_trainer
from tubevit.training.trainer.training_arguments import VideoTrainingArguments


SUPPORTED, UNSUPPORTED = VideoTrainingArguments.SUPPORTED, VideoTrainingArguments.UNSUPPORTED
OWN = VideoTrainingArguments.__annotations__.keys()
# A value other than the default, for fields that are not Boolean.
REFUSED_VALUES = {
    "label_names": ["labels"],
    "label_smoothing_factor": 0.1,
    "include_for_metrics": ["loss"],
    "include_num_input_tokens_seen": "all",
    "length_column_name": "frames",
    "liger_kernel_config": {"rope": True},
    "optim_target_modules": "all-linear",
    "hub_strategy": "end",
    "parallelism_config": {"tp_size": 2},
}


def arguments(**options) -> VideoTrainingArguments:
    return VideoTrainingArguments(use_cpu=True, **options)


def test_each_field_is_declared_supported_or_refused():
    """Fails for a field of a newer Transformers: decide whether it works with VideoTrainer, and add it to a table."""
    inherited = {each.name for each in fields(TrainingArguments)}
    assert not (SUPPORTED | UNSUPPORTED.keys()) - inherited
    assert not SUPPORTED & UNSUPPORTED.keys() and not SUPPORTED & (OWN - {"greater_is_better"})
    assert inherited <= SUPPORTED | UNSUPPORTED.keys() | OWN


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_refused_fields_raise(name):
    default = next(each.default for each in fields(VideoTrainingArguments) if each.name == name)
    value = REFUSED_VALUES.get(name, not default)
    with pytest.raises(ValueError, match=f"^{name}=.* is not supported: ") as error:
        arguments(**{name: value})
    assert "\n" not in str(error.value) and UNSUPPORTED[name] in str(error.value)


def test_field_of_a_newer_transformers_is_refused(monkeypatch):
    monkeypatch.setattr(VideoTrainingArguments, "SUPPORTED", SUPPORTED - {"torch_empty_cache_steps"})
    assert arguments().torch_empty_cache_steps is None
    with pytest.raises(ValueError, match="torch_empty_cache_steps=3 is not supported: it is new in Transformers 5"):
        arguments(torch_empty_cache_steps=3)


ACCELERATOR = {
    "split_batches": True,
    "dispatch_batches": True,
    "even_batches": False,
    "use_seedable_sampler": False,
    "gradient_accumulation_kwargs": {"num_steps": 2},
    "use_configured_state": True,
}


@pytest.mark.parametrize(("name", "value"), ACCELERATOR.items())
def test_refused_accelerator_options_raise(name, value):
    assert ACCELERATOR.keys() == UNSUPPORTED_ACCELERATOR.keys()
    with pytest.raises(ValueError, match=rf"^accelerator_config\.{name}=.* is not supported: "):
        arguments(accelerator_config={name: value})


REFUSED = {
    "galore_adamw": {"optim": "galore_adamw"},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "tpu_metrics_debug": {"debug": "tpu_metrics_debug"},
}
NOT_READ = [
    ("adamw_torch", "betas=0.5"),
    ("adafactor", "scale_parameter=True"),
    ("sgd", "momentum=0.9,rho=0.1"),
]


@pytest.mark.parametrize(("optimizer", "text"), NOT_READ)
def test_optim_args_that_the_optimizer_does_not_read_raise(optimizer, text):
    """Transformers reads none of them for AdamW and Adafactor, and ignores unknown ones."""
    name = text.split(",")[-1].partition("=")[0]
    with pytest.raises(ValueError, match=f"^optim_args: {name} has no effect with optim={optimizer}"):
        arguments(optim=optimizer, optim_args=text)
    assert arguments(optim="sgd", optim_args="momentum=0, nesterov=false").optim_args


def test_unknown_accelerator_entry_raises():
    with pytest.raises(ValueError, match="accelerator_config has no entry 'foo'"):
        arguments(accelerator_config={"foo": 1})


@pytest.mark.parametrize(("value", "options"), REFUSED.items())
def test_refused_values_raise(value, options):
    with pytest.raises(ValueError, match=f"={value} is not supported: "):
        arguments(**options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 6, 3)


def trainer_of(videos, folder, **options):
    run = make_run(videos, folder, check_data=False, **options)
    setup = build_run(run, folder)
    return make_trainer(setup, run.training.for_trainer(True, "accuracy"))


# Field to value, and to what the Trainer does with it.
EFFECTS = {
    "lr_scheduler_kwargs": ({"num_cycles": 0.25}, lambda trainer: trainer.args.lr_scheduler_kwargs),
    "optim_args": ("momentum=0.5", lambda trainer: f"momentum={trainer.optimizer.defaults['momentum']}"),
    "neftune_noise_alpha": (5.0, lambda trainer: trainer.neftune_noise_alpha),
    "bf16": (True, lambda trainer: trainer.accelerator.mixed_precision == "bf16"),
    "activation_checkpointing": (True, lambda trainer: trainer.args.activation_checkpointing),
    "torch_empty_cache_steps": (7, lambda trainer: trainer.args.torch_empty_cache_steps),
    "logging_first_step": (True, lambda trainer: trainer.args.logging_first_step),
    "eval_delay": (3, lambda trainer: trainer.args.eval_delay),
    "eval_accumulation_steps": (2, lambda trainer: trainer.args.eval_accumulation_steps),
    "data_seed": (5, lambda trainer: trainer.args.data_seed),
    "accelerator_config": ({"non_blocking": True}, lambda trainer: {"non_blocking": trainer.accelerator.non_blocking}),
    "train_sampling_strategy": ("sequential", lambda trainer: _order(trainer)),
    "dataloader_drop_last": (True, lambda trainer: len(trainer.get_train_dataloader()) == 4),
    "dataloader_prefetch_factor": (3, lambda trainer: trainer.get_train_dataloader().prefetch_factor),
    "dataloader_persistent_workers": (True, lambda trainer: trainer.get_train_dataloader().persistent_workers),
    "dataloader_in_order": (False, lambda trainer: trainer.get_train_dataloader().in_order),
    "dataloader_multiprocessing_context": (
        "spawn",
        lambda trainer: trainer.get_train_dataloader().multiprocessing_context.get_start_method(),
    ),
}


def _order(trainer) -> str:
    return type(trainer.get_train_dataloader().batch_sampler.sampler).__name__.removesuffix("Sampler").lower()


@pytest.fixture(scope="module")
def effects(videos, tmp_path_factory):
    """The effect of each field of one trainer, read at once: other tests in this process reset Accelerate's state."""
    options = {name: value for name, (value, _) in EFFECTS.items()}
    trainer = trainer_of(videos, tmp_path_factory.mktemp("all"), optim="sgd", dataloader_num_workers=1, **options)
    trainer.create_optimizer()
    return {name: effect(trainer) for name, (_, effect) in EFFECTS.items()}


@pytest.mark.parametrize("name", EFFECTS)
def test_supported_fields_have_their_effect(name, effects):
    value, _ = EFFECTS[name]
    assert name in SUPPORTED and effects[name] == value


def test_drop_last_keeps_all_validation_videos(videos, tmp_path, capsys):
    """Nine videos in batches of four. Transformers drops the ninth."""
    trainer = trainer_of(videos, tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=4, num_train_epochs=3)
    labels = torch.cat([batch["labels"] for batch in trainer.get_eval_dataloader()])
    assert labels.tolist() == [index for index in range(len(CLASSES)) for _ in range(3)]
    assert trainer.args.dataloader_drop_last
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["steps"])
    assert line.split()[1] == "12"  # 18 training videos: 4 full batches in each of 3 epochs
    with pytest.raises(ValueError, match="dataloader_drop_last=true leaves no batch: there are 18 training clips"):
        trainer_of(videos, tmp_path, dataloader_drop_last=True, per_device_train_batch_size=19)


WITHOUT_EFFECT = {
    "eval_steps=5": {"eval_steps": 5.0},
    "logging_steps=7": {"logging_strategy": "epoch", "logging_steps": 7.0},
    "chance_loss_patience=9": {"logging_strategy": "no", "chance_loss_patience": 9},
    "run_name=mine": {"run_name": "mine"},
    "hub_revision=dev": {"hub_revision": "dev"},
    "warmup_steps=0.2": {"lr_scheduler_type": "constant", "warmup_steps": 0.2},
    "adam_beta1=0.5": {"optim": "sgd", "adam_beta1": 0.5},
    "save_total_limit=4": {"save_strategy": "no", "load_best_model_at_end": False, "save_total_limit": 4},
}


@pytest.mark.parametrize(("text", "options"), WITHOUT_EFFECT.items())
def test_options_that_are_switched_off_are_reported(text, options):
    (message,) = arguments(**options).without_effect()
    assert message.startswith(f"{text} has no effect with ")
    assert arguments().without_effect() == []


def test_arguments_survive_pickle():
    """Loader workers receive them."""
    assert pickle.loads(pickle.dumps(arguments(eval_delay=2))).eval_delay == 2
