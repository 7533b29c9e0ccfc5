"""LoRA: adapters are put where gradients come."""

import pytest
import torch
from tiny_models import tiny_clips
from video_classifiers import CLASSES, OWN, PEERS, save_own, save_peer, save_tubevit

from tubevit import UniFormerV2ForVideoClassification
from tubevit.training.data.video_datasets import VideoData
from tubevit.training.models.build import load_run_config, make_model
from tubevit.training.models.model_options import ClipConfig, ModelConfig


pytest.importorskip("peft")
DATA = VideoData({}, CLASSES, "video", False, None)


def adapted(source, **options):
    config = ModelConfig(model_name_or_path=str(source), lora_rank=2, **options)
    return make_model(config, ClipConfig(), DATA, load_run_config(config))


@pytest.mark.parametrize(
    ("name", "num_frozen"),
    [("tubevit", 0), ("tubevit", 1), ("tubevit", 2), ("videoprism", 1), *((name, 0) for name in (*PEERS, *OWN))],
)
def test_every_trained_tensor_receives_a_gradient(name, num_frozen, tmp_path):
    if name == "tubevit":
        save_tubevit(tmp_path)
    else:
        (save_own if name in OWN else save_peer)(tmp_path, name)
    run = adapted(tmp_path, num_frozen_layers=num_frozen)
    model = run.model.train()
    clips = tiny_clips(frames=run.processor.num_frames, dtype=torch.uint8)
    model(**run.prepare({"pixel_values_videos": clips, "labels": torch.tensor([0, 1])})).loss.backward()
    trained = {each: parameter for each, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in each for each in trained) and any("classifier" in each for each in trained)
    assert [each for each, parameter in trained.items() if parameter.grad is None] == []
    assert any(each.startswith("LoRA: ") for each in run.messages) == bool(
        num_frozen or name in ("vjepa2", "uniformerv2")  # unused layers; batch norms
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_and_base_of_a_half_precision_checkpoint_are_float32(dtype, tmp_path):
    """PEFT alone would train the classifier in half precision."""
    save_own(tmp_path, "uniformerv2")
    UniFormerV2ForVideoClassification.from_pretrained(tmp_path, dtype=dtype).save_pretrained(tmp_path)
    parameters = dict(adapted(tmp_path).model.named_parameters())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert any("lora_A" in name for name in parameters)


def test_a_model_without_trained_linear_layers_raises(tmp_path):
    save_peer(tmp_path, "videomae")
    with pytest.raises(ValueError, match=r"'all-linear' selects frozen layers only .* lower num_frozen_layers"):
        adapted(tmp_path, num_frozen_layers=1)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("q_proj,v", "'v' names no linear layer of TubeViTForVideoClassification: use all-linear, "),
        ("", "lora_target_modules is empty"),
    ],
)
def test_each_name_selects_a_layer(modules, message, tmp_path):
    save_tubevit(tmp_path)
    with pytest.raises(ValueError, match=message):
        adapted(tmp_path, lora_target_modules=modules)
    names = [each for each, _ in adapted(tmp_path, lora_target_modules="q_proj, fc1").model.named_parameters()]
    adapters = {each.split(".")[-4] for each in names if "lora_A" in each}
    assert adapters == {"q_proj", "fc1"}


@pytest.mark.parametrize("options", [{"lora_rank": 2}, {"num_frozen_layers": 1}])
def test_random_weights_that_stay_frozen_are_said(options, tmp_path):
    ((name, value),) = options.items()
    save_tubevit(tmp_path)
    for source, number in (({"preset": "tiny"}, 1), ({"model_name_or_path": str(tmp_path)}, 0)):
        config = ModelConfig(**source, **options)
        messages = make_model(config, ClipConfig(), DATA, load_run_config(config)).messages
        assert sum(each.startswith(f"{name}={value}: the frozen weights are random") for each in messages) == number
