"""Image-to-video scaling: the gate, the frozen layers, and the tubes of a small model in a large one."""

import pytest
import torch
from tiny_models import TINY_TUBES, make_model, tiny_clips, tiny_config
from transformers import ViTConfig, ViTForImageClassification
from transformers.utils import logging

from tubevit import (
    Tube,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    scale_up,
)
from tubevit.image_to_video_scaling import scaled_tubes, widen_tube
from tubevit.presets import preset_config


def large_vit(**overrides) -> ViTForImageClassification:
    values = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(1)
    config = ViTConfig(**{**values, "image_size": 16, "patch_size": 8, **overrides})
    return ViTForImageClassification(config).eval()


@pytest.fixture
def small():
    return make_model(TubeViTForVideoClassification)


def train(model, steps: int = 3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for step in range(steps):
        model.train()
        model(pixel_values_videos=tiny_clips(seed=step), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def test_tubes_of_width_320_make_the_vit_h_of_the_paper():
    """Built on the meta device at full size: 26 of 32 layers are frozen, the gate follows, and patch 14 gives 1,296 tokens."""
    small = preset_config("tiny", hidden_size=320, num_attention_heads=5, intermediate_size=1280)
    tubes = scaled_tubes(small, 1280, (14, 14))
    assert [tube.num_merged for tube in tubes] == [8, 16, 4]  # four times the merged applications of the small model
    tubes = [tube.to_dict() for tube in tubes] + [{"kernel_size": [1, 14, 14], "stride": [32, 14, 14]}]
    scaled = {"num_frozen_layers": 26, "gate_layer": 26, "num_frames": 64, "num_labels": 600}
    with torch.device("meta"):
        model = TubeViTForVideoClassification(preset_config("huge", tubes=tubes, **scaled)).train()
        outputs = model.tubevit(pixel_values_videos=torch.empty(1, 64, 3, 224, 224))
    assert outputs.last_hidden_state.shape == (1, 1296, 1280) and model.config.num_tokens() == 1296
    trained = {
        name.split(".")[2] for name, each in model.named_parameters() if each.requires_grad and ".layers." in name
    }
    assert trained == {str(index) for index in range(26, 32)}
    assert model.tubevit.gate.alpha.requires_grad and not model.tubevit.embeddings.projections[0].weight.requires_grad
    for width in (192, 768, 1024):  # the other sizes of the paper
        with pytest.raises(ValueError, match="1280"):
            scaled_tubes(preset_config("base", hidden_size=width, num_attention_heads=width // 64), 1280, (14, 14))


def test_zero_gate_leaves_outputs_bit_identical():
    plain = make_model(TubeViTModel, num_hidden_layers=3)
    gated = TubeViTModel(tiny_config(num_hidden_layers=3, num_frozen_layers=1, gate_layer=1)).eval()
    loaded = gated.load_state_dict(plain.state_dict(), strict=False)
    assert loaded.missing_keys == ["gate.alpha"] and gated.gate.alpha.item() == 0
    clips = tiny_clips()
    assert torch.equal(gated(clips)[0], plain(clips)[0])
    torch.nn.init.constant_(gated.gate.alpha, 0.5)
    assert not torch.allclose(gated(clips)[0], plain(clips)[0])


def test_gate_adds_the_encoder_input_after_its_layer():
    model = make_model(TubeViTModel, num_hidden_layers=3, num_frozen_layers=1, gate_layer=1)
    torch.nn.init.constant_(model.gate.alpha, 0.5)
    tokens = encoder_input = model.embeddings(pixel_values_videos=tiny_clips())
    for index, layer in enumerate(model.layers):
        tokens = layer(tokens)
        if index == 1:
            tokens = tokens + torch.tanh(torch.tensor(0.5)) * encoder_input
    torch.testing.assert_close(model(tiny_clips())[0], model.layernorm(tokens))


def test_training_changes_only_weights_that_are_not_frozen():
    overrides = {"num_hidden_layers": 3, "num_frozen_layers": 2, "gate_layer": 2, "hidden_dropout_prob": 0.3}
    model = make_model(TubeViTForVideoClassification, **overrides)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = train(model)
    frozen = ("tubevit.embeddings.", "tubevit.layers.0.", "tubevit.layers.1.")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name
    for module in (model.tubevit.embeddings, *model.tubevit.layers[:2]):
        assert not any(child.training for child in module.modules())
    assert model.tubevit.layers[2].training and model.tubevit.layers[2].mlp.training
    trained = {id(parameter) for name, parameter in model.named_parameters() if not name.startswith(frozen)}
    assert {id(parameter) for parameter in optimizer.state} == trained


def test_frozen_checkpoint_stays_frozen_and_can_be_unfrozen(tmp_path):
    make_model(TubeViTForVideoClassification, num_frozen_layers=1).save_pretrained(tmp_path)
    loaded = TubeViTForVideoClassification.from_pretrained(tmp_path)
    frozen = {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        n for n, _ in loaded.named_parameters() if n.startswith(("tubevit.embeddings.", "tubevit.layers.0."))
    }
    thawed = TubeViTForVideoClassification.from_pretrained(tmp_path, num_frozen_layers=0).train()
    assert all(parameter.requires_grad for parameter in thawed.parameters()) and thawed.tubevit.layers[0].training


def saved_bytes(model) -> int:
    """The tensors other than parameters that a forward pass stores for the backward pass."""
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    stored = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.train()(pixel_values_videos=tiny_clips(), labels=torch.tensor([0, 1])).loss
    assert loss.requires_grad
    return sum(stored.values())


def test_frozen_layers_store_no_activations():
    stored = [
        saved_bytes(make_model(TubeViTForVideoClassification, num_hidden_layers=6, num_frozen_layers=n))
        for n in (0, 3, 6)
    ]
    assert stored[1] < 0.6 * stored[0] and stored[2] < 0.2 * stored[0]


def test_gradient_checkpointing_works_with_frozen_layers():
    overrides = {"num_hidden_layers": 3, "num_frozen_layers": 1, "gate_layer": 1}
    gradients = []
    for use_reentrant in (None, False, True):
        model = make_model(TubeViTForVideoClassification, **overrides).train()
        if use_reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model(pixel_values_videos=tiny_clips(), labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient)


@pytest.mark.parametrize("as_folder", [True, False])
def test_scale_up_copies_kernels_and_encoder_unchanged(small, tmp_path, as_folder):
    large = large_vit()
    if as_folder:
        small.save_pretrained(tmp_path / "small")
        large.save_pretrained(tmp_path / "large")
    sources = (tmp_path / "small", tmp_path / "large") if as_folder else (small, large)
    model = scale_up(*sources, num_frozen_layers=2, num_labels=5)
    assert (model.config.num_frozen_layers, model.config.gate_layer) == (2, 2)
    old, new = small.tubevit.embeddings, model.tubevit.embeddings
    for index in (0, 1):
        for ours, theirs in zip(new.kernel(index), old.kernel(index), strict=True):
            assert torch.equal(ours, theirs)
    patches = large.vit.embeddings.patch_embeddings.projection.weight
    assert torch.equal(new.kernel(2)[0][:, :, 0], patches)
    assert torch.equal(model.tubevit.layers[3].mlp.fc1.weight, large.vit.layers[3].mlp.fc1.weight)
    assert model.config.num_tokens() == small.config.num_tokens()
    logits = model(pixel_values_videos=tiny_clips()).logits
    assert logits.shape == (2, 5)


def test_widened_token_concatenates_tokens_of_the_small_model(small):
    model = scale_up(small, large_vit(), num_frozen_layers=2)
    tube, wide = small.config.get_tubes()[0], model.config.get_tubes()[0]
    assert wide.num_merged == 2 and wide.stride == tube.stride
    clips = tiny_clips()
    outputs = model.tubevit.embeddings.project(clips, wide, 0)
    small.set_tubes([dict(TINY_TUBES[0], stride=list(wide.kernel_stride)), *TINY_TUBES[1:]])
    narrow = small.config.get_tubes()[0]
    neighbors = small.tubevit.embeddings.project(clips, narrow, 0)
    assert torch.equal(outputs[:, 0, :24], neighbors[:, 0])
    assert outputs.shape[-1] == 48


def test_labels_default_to_those_of_the_small_model(small):
    small.config.id2label = {index: f"action {index}" for index in range(5)}
    assert scale_up(small, large_vit(), num_frozen_layers=4).config.id2label[3] == "action 3"
    assert scale_up(small, large_vit(), num_frozen_layers=4).config.gate_layer is None
    assert scale_up(small, large_vit(), num_frozen_layers=2, num_hidden_layers=2).config.gate_layer is None
    assert scale_up(small, large_vit(), num_frozen_layers=1, num_labels=7).config.num_labels == 7


def test_kernels_are_bit_identical_with_a_half_precision_image_model(small):
    model = scale_up(small, large_vit().bfloat16(), num_frozen_layers=2)
    assert model.dtype == torch.float32
    assert torch.equal(model.tubevit.embeddings.kernel(0)[0], small.tubevit.embeddings.kernel(0)[0])


def test_interpolated_small_model_gives_its_resized_kernels():
    small = make_model(TubeViTForVideoClassification, interpolate_kernels=True, interpolated_kernel_size=[4, 3, 3])
    model = scale_up(small, large_vit(), num_frozen_layers=2)
    for index in (0, 1):
        assert torch.equal(model.tubevit.embeddings.kernel(index)[0], small.tubevit.embeddings.kernel(index)[0])


def test_joint_small_model_passes_its_heads_and_needs_labels_for_a_classifier():
    heads = {"actions": {"modality": "video", "num_labels": 3}, "things": {"modality": "image", "num_labels": 4}}
    small = make_model(TubeViTForJointClassification, heads=heads)
    model = scale_up(small, large_vit(), num_frozen_layers=2, model_class=TubeViTForJointClassification)
    assert model.config.heads == small.config.heads
    with pytest.raises(ValueError, match="small model has heads for actions, things"):
        scale_up(small, large_vit(), num_frozen_layers=2)
    assert scale_up(small, large_vit(), num_frozen_layers=2, num_labels=3).config.num_labels == 3


def test_scale_up_rejects_tubes(small):
    with pytest.raises(ValueError, match="uses the tubes of the small model"):
        scale_up(small, large_vit(), num_frozen_layers=2, tubes=TINY_TUBES)


@pytest.mark.parametrize(
    ("tube", "widths", "factors"),
    [
        (Tube((8, 8, 8), (16, 32, 32)), (192, 768), (1, 2, 2)),
        (Tube((8, 8, 8), (16, 32, 32), (0, 0, 0), (2, 1, 1)), (192, 768), (2, 2, 2)),
        (Tube((16, 4, 4), (6, 32, 32), (4, 8, 8), (1, 2, 2)), (192, 768), (1, 4, 4)),
        (Tube((8, 8, 8), (16, 32, 32)), (256, 1280), None),
        (Tube((8, 8, 8), (15, 30, 30)), (256, 1280), (1, 5, 1)),
        (Tube((8, 8, 8), (16, 32, 32)), (768, 768), (1, 1, 1)),
    ],
)
def test_widen_tube_factors(tube, widths, factors):
    if factors is None:
        with pytest.raises(ValueError, match=r"1280 channels merges 5 applications.*divide its stride \[16, 32, 32\]"):
            widen_tube(tube, *widths)
    else:
        wide = widen_tube(tube, *widths)
        assert wide.num_merged == widths[1] * tube.num_merged // widths[0]
        assert sorted(wide.space_to_depth) == sorted(factors) and wide.space_to_depth[0] == factors[0]


def test_incompatible_widths_raise_with_their_values(small):
    with pytest.raises(ValueError, match=r"has 24 output channels, which do not divide the width 32"):
        scale_up(small, large_vit(hidden_size=32), num_frozen_layers=1)


def test_scaling_prints_no_load_report(small, tmp_path, caplog):
    """The classifiers of the small and of the large model are dropped on purpose."""
    small.save_pretrained(tmp_path / "small")
    large_vit().save_pretrained(tmp_path / "large")
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        model = scale_up(tmp_path / "small", tmp_path / "large", num_frozen_layers=2, num_labels=3)
    finally:
        logger.removeHandler(caplog.handler)
    assert "REPORT" not in caplog.text and model.classifier.out_features == 3
