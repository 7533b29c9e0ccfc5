"""Batch norms (local blocks of UniFormerV2) in runs: statistics over patches, EMA, resume, frozen layers, LoRA, two processes."""

import shutil

import pytest
import torch
from random_weights import randomize
from safetensors.torch import load_file
from tiny_runs import ONE_VIEW, make_run, make_videos

from tubevit import UniFormerV2Config, UniFormerV2ForVideoClassification, UniFormerV2VideoProcessor
from tubevit.modeling_uniformerv2 import UniFormerV2BatchNorm
from tubevit.training.models.batch_norm import (
    FixedBatchNorm1d,
    StatisticsOfForward,
    SynchronizedBatchNorm1d,
    batch_norms,
    fix_batch_norms,
    synchronize_batch_norms,
    trained_statistics,
)
from tubevit.training.run_video_classification import train
from tubevit.training.run_video_classification_no_trainer import train as train_loop
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.ema import EMA
from tubevit.training.trainer.training_arguments import VideoTrainingArguments


def make_model(**overrides) -> UniFormerV2ForVideoClassification:
    sizes = {
        **{
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 16,
        },
        **{"patch_size": 8, "num_frames": 4, "num_local_blocks": 2, "temporal_downsampling": True},
        **{"global_dropout": 0.0, "classifier_dropout": 0.0, "id2label": {0: "blue", 1: "green", 2: "red"}},
    }
    return randomize(UniFormerV2ForVideoClassification(UniFormerV2Config(**{**sizes, **overrides})))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 3, 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    make_model().save_pretrained(folder)
    UniFormerV2VideoProcessor(num_frames=4, size=16, crop_size=16).save_pretrained(folder)
    return folder


OPTIONS = {
    **ONE_VIEW,
    **{"preset": None, "model_config": {}, "num_frames": None, "image_size": None, "short_side": None},
    **{"rand_augment_layers": 0, "max_steps": 4, "num_train_epochs": 30, "ema_decay": 0.9, "learning_rate": 1e-3},
    **{"save_strategy": "steps", "save_steps": 2, "eval_strategy": "no", "load_best_model_at_end": False},
}


def run_of(checkpoint, videos, folder, **options):
    return make_run(videos, folder, **{**OPTIONS, "model_name_or_path": str(checkpoint), **options})


def test_statistics_are_over_patch_tokens():
    model = make_model().train()
    block = model.uniformerv2.layers[1].local_block2
    inputs = []
    block.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    mean, variance = block.batch_norm.running_mean.clone(), block.batch_norm.running_var.clone()
    model(torch.randn(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    patches = inputs[0].view(3 * 2, 5, 24)[:, 1:].reshape(-1, 24)  # three clips of two frames, after the class token
    torch.testing.assert_close(block.batch_norm.running_mean, 0.9 * mean + 0.1 * patches.mean(0))
    torch.testing.assert_close(block.batch_norm.running_var, 0.9 * variance + 0.1 * patches.var(0))


def test_ema_averages_the_statistics_of_trained_layers(tmp_path):
    model = make_model(num_frozen_layers=1).train()
    assert {name.split("layers.")[1][0] for name in trained_statistics(model)} == {"1"}
    ema, name = EMA(model, 0.5), "uniformerv2.layers.1.local_block1.batch_norm.running_var"
    buffer = model.get_buffer(name)
    expected = buffer.clone()
    for step in range(3):
        model(torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(step)))
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * buffer
    current = buffer.clone()
    with ema.in_place():
        torch.testing.assert_close(buffer, expected)
    assert torch.equal(buffer, current)
    ema.save(tmp_path)
    other = EMA(make_model(num_frozen_layers=1), 0.5)
    other.load(tmp_path)
    other.copy_to_model()
    assert torch.equal(other.tensors[name], ema.average[name])


@pytest.fixture(scope="module", params=[train, train_loop], ids=["train", "train-loop"])
def whole_run(request, checkpoint, videos, tmp_path_factory):
    """The function that trains a run, and the folder of one."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert request.param(run_of(checkpoint, videos, folder)) == 0
    return request.param, folder


def test_activation_checkpointing_updates_the_statistics_once(whole_run, checkpoint, videos, tmp_path):
    how, whole = whole_run
    options = {"activation_checkpointing": True, "save_strategy": "no"}
    assert how(run_of(checkpoint, videos, tmp_path / "run", **options)) == 0
    expected, recomputed = (load_file(each / "model.safetensors") for each in (whole, tmp_path / "run"))
    for name in expected:
        torch.testing.assert_close(recomputed[name], expected[name], rtol=1e-5, atol=1e-6)


def test_resumed_run_has_the_statistics_of_an_uninterrupted_one(whole_run, checkpoint, videos, tmp_path):
    (how, whole), folder = whole_run, tmp_path / "run"
    left_out = ("checkpoint-4", "step-4", "evaluation", "train_metrics.json", "model.safetensors")
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(*left_out))
    for path in (*whole.glob("checkpoint-2"), *whole.glob("step-2")):
        shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
    assert how(run_of(checkpoint, videos, folder, resume_from_checkpoint="true")) == 0
    expected, resumed = (load_file(each / "model.safetensors") for each in (whole, folder))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    start = load_file(checkpoint / "model.safetensors")
    statistics = [name for name in start if "running_" in name]
    assert len(statistics) == 8 and not any(torch.equal(start[name], expected[name]) for name in statistics)


def test_statistics_of_frozen_layers_and_of_lora_do_not_change(checkpoint, videos, tmp_path):
    before = load_file(checkpoint / "model.safetensors")
    assert train(run_of(checkpoint, videos, tmp_path / "frozen", num_frozen_layers=1)) == 0
    after = load_file(tmp_path / "frozen" / "model.safetensors")
    for name in (each for each in before if "running_" in each):
        assert torch.equal(before[name], after[name]) == ("layers.0." in name), name
    run = run_of(checkpoint, videos, tmp_path / "lora", lora_rank=2, ema_decay=0)
    setup = build_run(run, tmp_path)
    model = setup.model.model.train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert len(norms) == 4 and all(type(module) is FixedBatchNorm1d and not module.training for module in norms)
    assert "LoRA: the 4 batch norms keep the checkpoint's statistics." in setup.messages


def test_statistics_are_those_of_a_model_that_was_moved_or_converted():
    """The buffers of a model on a GPU are other tensors than those before."""
    model = make_model().train()
    statistics = StatisticsOfForward(model)
    model.double()  # as `model.to("cuda")`
    name = "uniformerv2.layers.1.local_block2.batch_norm.running_mean"
    expected = model.get_buffer(name).clone()
    statistics.save()
    model(torch.randn(2, 4, 3, 16, 16, dtype=torch.float64))
    assert not torch.equal(model.get_buffer(name), expected)
    statistics.restore()
    assert torch.equal(model.get_buffer(name), expected)


@pytest.mark.parametrize("is_synchronized", [True, False])
def test_batch_norms_of_several_processes_are_synchronized(is_synchronized, checkpoint, videos, tmp_path, monkeypatch):
    """That two synchronized processes equal one is in tests/modeling/test_trainer.py."""
    monkeypatch.setattr(VideoTrainingArguments, "world_size", 2)
    run = run_of(checkpoint, videos, tmp_path / "run", sync_batch_norm=is_synchronized)
    kinds = {type(module) for _, module in batch_norms(build_run(run, tmp_path).model.model)}
    assert kinds == {SynchronizedBatchNorm1d if is_synchronized else UniFormerV2BatchNorm}


def test_batch_norms_of_gpus_become_those_of_torch_and_keep_their_weights():
    model, clips = make_model(), torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before, expected = {name: each.clone() for name, each in model.state_dict().items()}, model(clips).logits
    fix_batch_norms(model.uniformerv2.layers[0])
    synchronize_batch_norms(model, "cuda")
    kinds = [type(module) for _, module in batch_norms(model)]
    assert kinds == [FixedBatchNorm1d] * 2 + [torch.nn.SyncBatchNorm] * 2
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    torch.testing.assert_close(model(clips).logits, expected)
