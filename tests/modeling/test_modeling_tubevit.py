"""Laws of the model that hold for all weights."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY_TUBES, make_model, tiny_clips, tiny_config
from torch._subclasses import FakeTensorMode
from transformers import ViTConfig, ViTModel
from transformers.utils import logging

from tubevit import (
    TubeViTForImageClassification,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
)


POOLINGS = ["attention", "mean", "cls"]


def test_with_the_image_tube_alone_the_encoder_is_transformers_vit():
    """The blocks have the parameter names and the outputs of Transformers' ViT blocks."""
    model = make_model(TubeViTModel, pooling="mean", layer_norm_eps=1e-6).double()
    vit = ViTModel(
        ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=32,
            layer_norm_eps=1e-6,
            image_size=16,
            patch_size=8,
        ),
        add_pooling_layer=False,
    )
    vit = vit.double().eval()
    for name in ("layers", "layernorm"):
        getattr(vit, name).load_state_dict(getattr(model, name).state_dict())
    tokens = model.embeddings(pixel_values=torch.randn(2, 3, 16, 16, dtype=torch.float64))
    expected = tokens
    for layer in vit.layers:
        expected = layer(expected)
    ours = tokens
    for layer in model.layers:
        ours = layer(ours)
    torch.testing.assert_close(model.layernorm(ours), vit.layernorm(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_image_is_a_video_of_one_frame(pooling):
    model = make_model(TubeViTModel, pooling=pooling, allow_missing_tubes=True)
    image = tiny_clips()[:, 0]
    as_image, as_video = model(pixel_values=image), model(pixel_values_videos=image[:, None])
    torch.testing.assert_close(as_image.last_hidden_state, as_video.last_hidden_state)
    torch.testing.assert_close(as_image.pooler_output, as_video.pooler_output)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_samples_of_a_batch_are_independent(pooling):
    model = make_model(TubeViTForVideoClassification, pooling=pooling).double()
    clips = tiny_clips(batch=3, dtype=torch.float64)
    together = model(clips).logits
    for index in range(3):
        torch.testing.assert_close(model(clips[index : index + 1]).logits[0], together[index])


@pytest.mark.parametrize("size", [(6, 8, 8), (8, 16, 16), (30, 16, 16), (8, 50, 23)])
def test_every_size_that_fits_the_tubes_works_without_interpolation(size):
    model = make_model(TubeViTModel)
    frames, height, width = size
    output = model(pixel_values_videos=torch.randn(2, frames, 3, height, width))
    assert output.last_hidden_state.shape == (2, model.config.num_tokens(frames, (height, width)), 24)
    assert output.pooler_output.shape == (2, 24)


def test_outputs_depend_on_the_order_of_frames():
    model = make_model(TubeViTModel, tubes=[{"kernel_size": [1, 8, 8], "stride": [1, 8, 8]}])
    clips = tiny_clips()
    forward, backward = (model(pixel_values_videos=c).pooler_output for c in (clips, clips.flip(1)))
    assert (forward - backward).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_parameter_gets_a_gradient(pooling):
    model = make_model(TubeViTForVideoClassification, pooling=pooling).train()
    model(tiny_clips(), labels=torch.tensor([0, 3])).loss.backward()
    for name, parameter in model.named_parameters():
        # A bias of the keys adds the same value to all scores of a query, which softmax ignores.
        if not name.endswith("k_proj.bias"):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_image_classifier_freezes_3d_tubes(tmp_path):
    model = make_model(TubeViTForImageClassification)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    expected = {f"tubevit.embeddings.projections.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert frozen == expected
    model(tiny_clips()[:, 0], labels=torch.tensor([0, 3])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    model.save_pretrained(tmp_path)
    loaded = TubeViTForImageClassification.from_pretrained(tmp_path)
    assert {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad} == expected
    as_video = TubeViTForVideoClassification.from_pretrained(tmp_path)
    assert all(parameter.requires_grad for parameter in as_video.parameters())


def test_image_classifier_needs_a_2d_tube():
    config = tiny_config(tubes=[{"kernel_size": [4, 4, 4], "stride": [4, 8, 8]}])
    with pytest.raises(ValueError, match="kernel spans one frame"):
        TubeViTForImageClassification(config)
    with pytest.raises(ValueError, match="cannot take images"):
        TubeViTModel(config)(pixel_values=torch.zeros(1, 3, 16, 16))


def test_classifiers_accept_one_modality():
    with pytest.raises(TypeError, match="pixel_values_videos"):
        make_model(TubeViTForVideoClassification)(pixel_values=torch.zeros(1, 3, 16, 16))
    with pytest.raises(TypeError, match="pixel_values"):
        make_model(TubeViTForImageClassification)(pixel_values_videos=tiny_clips())
    with pytest.raises(ValueError, match="5 axes"):  # frames without a batch axis
        make_model(TubeViTForVideoClassification)(tiny_clips()[0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_attention_backends_agree(pooling):
    model = make_model(TubeViTForVideoClassification, pooling=pooling)
    clips = tiny_clips()
    logits = {}
    for backend in ("eager", "sdpa", "flex_attention"):
        model.set_attn_implementation(backend)
        assert model.config._attn_implementation == backend
        with torch.no_grad():
            logits[backend] = model(clips).logits
    torch.testing.assert_close(logits["eager"], logits["sdpa"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits["eager"], logits["flex_attention"], rtol=1e-4, atol=1e-5)


def test_outputs_are_recorded():
    model = make_model(TubeViTForVideoClassification, attn_implementation="eager")
    clips = tiny_clips()
    num_tokens = model.config.num_tokens()
    output = model(clips, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, num_tokens, 24)] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, num_tokens, num_tokens)] * 2
    as_tuple = model(clips, output_hidden_states=True, output_attentions=True, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], output.logits)
    base = model.tubevit(clips, output_hidden_states=True)
    torch.testing.assert_close(model.tubevit.layernorm(base.hidden_states[-1]), base.last_hidden_state)


def test_gradient_checkpointing_changes_nothing():
    plain = make_model(TubeViTForVideoClassification, hidden_dropout_prob=0.1).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable()
    for model in (plain, checkpointed):
        torch.manual_seed(7)
        model(tiny_clips(), labels=torch.tensor([1, 2])).loss.backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype):
    model = make_model(TubeViTForVideoClassification)
    clips = tiny_clips()
    expected = model(clips).logits.softmax(-1)
    half = model.to(dtype)(clips).logits  # float32 pixels, as from a processor
    assert half.dtype == dtype
    torch.testing.assert_close(half.float().softmax(-1), expected, rtol=0, atol=0.05)


def test_initial_loss_is_at_chance_level():
    """With the default initialization the loss of an untrained classifier is close to chance: -log(1 / labels)."""
    torch.manual_seed(0)
    model = TubeViTForVideoClassification(tiny_config(initializer_range=0.02, num_labels=11))
    loss = model(tiny_clips(batch=4), labels=torch.tensor([0, 3, 5, 10])).loss
    assert abs(loss.item() - torch.log(torch.tensor(11.0)).item()) < 0.1


def test_compile_gives_the_same_logits_without_graph_breaks():
    model = make_model(TubeViTForVideoClassification)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for dtype in (torch.float32, torch.uint8):
        clips = tiny_clips(dtype=dtype)
        with torch.no_grad():
            torch.testing.assert_close(compiled(clips).logits, model(clips).logits, rtol=1e-4, atol=1e-5)


# (frames, height, width) of five clips or images; the last does not fill the last tokens of tubes with space-to-depth.
COMPILED_SIZES = [(8, 16, 16), (9, 16, 16), (9, 24, 16), (12, 24, 32), (7, 19, 17)]
COMPILED = {
    "one tube": {"tubes": TINY_TUBES[:1]},
    "space-to-depth": {
        "tubes": [{**TINY_TUBES[0], "stride": [4, 16, 16], "space_to_depth": [2, 1, 2]}, TINY_TUBES[2]]
    },
    "grid": {"position_embedding": "transfer", "position_grid": [3, 3]},
    "rotary": {"position_embedding": "transfer", "rope_theta": 100.0, "num_attention_heads": 2, "pooling": "cls"},
    "relative": {"position_embedding": "relative"},
    "joint": {
        "heads": {"v": {"modality": "video", "num_labels": 4}, "i": {"modality": "image", "num_labels": 3}},
        "tubes": TINY_TUBES[::2],
    },
}


@pytest.mark.parametrize(
    ("name", "dynamic", "num_sizes", "backend"),
    [
        ("space-to-depth", None, 5, "eager"),
        ("space-to-depth", True, 3, "eager"),
        ("one tube", True, 2, "aot_eager"),  # also compiles the gradients, which takes seconds for each tube
        *((name, True, 2, "eager") for name in ("joint", "grid", "rotary", "relative")),
    ],
)
def test_compiled_equals_eager_at_several_sizes_in_a_row(name, dynamic, num_sizes, backend):
    """
    Outputs and gradients. The second size of torch.compile is symbolic, and dynamic=True makes all of them symbolic. A compilation takes
    a second or two, so only one model has five sizes, of both types of pixels; the others have one graph for all of their sizes.
    """
    options = {"num_hidden_layers": 1, "hidden_size": 24, **COMPILED[name]}
    if name != "joint":
        model = make_model(TubeViTForVideoClassification, **options)
    else:
        model = make_model(TubeViTForJointClassification, **options)
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend=backend)
    for index, (frames, height, width) in enumerate(COMPILED_SIZES[-num_sizes:]):
        batch = 2 + index % 2
        clips = torch.randint(0, 256, (batch, frames, 3, height, width), dtype=torch.uint8)
        inputs = {
            "pixel_values_videos": clips if num_sizes < 5 or index % 2 else clips / 127.5 - 1,
            "labels": torch.arange(batch),
        }
        if name == "joint":
            inputs |= {"pixel_values": clips[:, 0] / 127.5 - 1, "image_targets": torch.ones(batch, dtype=torch.long)}
        results = []
        for function in (model, compiled):
            model.zero_grad()
            output = function(**inputs)
            output.loss.backward()
            gradients = [each.grad for each in model.parameters() if each.grad is not None]
            results.append([output.loss.detach(), output.logits.detach(), *gradients])
        torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-5)


def test_compile_with_dynamic_shapes():
    model = make_model(TubeViTForImageClassification, num_hidden_layers=1)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch.no_grad():
        for images in (tiny_clips()[:, 0], tiny_clips(batch=3, size=24)[:, 0]):
            torch.testing.assert_close(compiled(images).logits, model(images).logits)


def test_fake_tensors_do_not_enter_the_caches():
    factor = 1 / 253  # used by this test only, so no other test has cached its tables
    model = make_model(TubeViTForVideoClassification, rescale_factor=factor, position_temperature=9001.0)
    clips = tiny_clips(dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model(clips)
    logits = model(clips).logits
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in model.config.get_pixel_statistics())
    torch.testing.assert_close(logits, model((clips * factor - mean) / std).logits)
    other = make_model(TubeViTForVideoClassification, rescale_factor=factor, position_temperature=9001.0)
    assert torch.equal(other(clips).logits, logits)


def test_attention_mask_must_be_none():
    model = make_model(TubeViTForVideoClassification)
    assert torch.equal(model(tiny_clips(), attention_mask=None).logits, model(tiny_clips()).logits)
    with pytest.raises(ValueError, match="TubeViT takes no attention_mask"):
        model(tiny_clips(), attention_mask=torch.ones(2, 20))


def test_compile_makes_the_position_table_a_constant():
    graphs = []
    model = make_model(TubeViTModel)
    compiled = torch.compile(
        model, fullgraph=True, backend=lambda graph, inputs: graphs.append(graph) or graph.forward
    )
    clips = tiny_clips()
    torch.testing.assert_close(compiled(pixel_values_videos=clips)[0], model(pixel_values_videos=clips)[0])
    assert graphs and not [node for graph in graphs for node in graph.graph.nodes if "sin" in str(node.target)]


def test_export_with_a_dynamic_batch():
    model = make_model(TubeViTForVideoClassification)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (tiny_clips(),), dynamic_shapes={"pixel_values_videos": {0: batch}})
    for size in (1, 5):
        clips = tiny_clips(batch=size, seed=size)
        torch.testing.assert_close(program.module()(clips).logits, model(clips).logits, rtol=1e-4, atol=1e-5)


def test_device_and_dtype_follow_from_pretrained(tmp_path):
    make_model(TubeViTForVideoClassification).save_pretrained(tmp_path)
    model = TubeViTForVideoClassification.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(tiny_clips()).logits.dtype == torch.bfloat16


@pytest.mark.parametrize("pooling", POOLINGS)
def test_all_checkpoint_keys_are_weights(pooling):
    model = make_model(TubeViTForVideoClassification, pooling=pooling)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    assert not list(model.buffers())


@pytest.mark.parametrize("model_class", [TubeViTModel, TubeViTForVideoClassification])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_inf_are_refused_by_name(model_class, value, tmp_path):
    model = make_model(TubeViTForVideoClassification)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["tubevit.layers.1.mlp.fc1.weight"][3, 5] = value
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors contain NaN or inf \(.*layers.1.mlp.fc1.weight\)"):
        model_class.from_pretrained(tmp_path)


def test_float16_that_overflows_is_refused(tmp_path):
    model = make_model(TubeViTForVideoClassification)
    with torch.no_grad():
        model.classifier.weight[0, 0] = 1e6
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="too large for the dtype"):
        TubeViTForVideoClassification.from_pretrained(tmp_path, dtype=torch.float16)


def test_a_backbone_drops_the_classifiers_of_a_checkpoint_without_a_report(tmp_path, caplog):
    heads = {"v": {"modality": "video", "num_labels": 4}}
    make_model(TubeViTForVideoClassification).save_pretrained(tmp_path / "one")
    make_model(TubeViTForJointClassification, heads=heads).save_pretrained(tmp_path / "joint")
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        for folder in ("one", "joint"):
            TubeViTModel.from_pretrained(tmp_path / folder)
        assert "REPORT" not in caplog.text and "UNEXPECTED" not in caplog.text
        TubeViTModel.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "backbone")
        TubeViTForVideoClassification.from_pretrained(tmp_path / "backbone")  # a new classifier is reported
        assert "classifier.weight" in caplog.text and "MISSING" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_golden_logits():
    """A fixed model on a fixed clip. A change of these values changes the outputs of every saved checkpoint."""
    model = TubeViTForVideoClassification(tiny_config()).eval()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            values = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + index)
            parameter.copy_((values * 0.2).view_as(parameter))
    ramp = torch.arange(8 * 3 * 16 * 16).view(1, 8, 3, 16, 16) % 251
    logits = model(ramp.to(torch.uint8)).logits[0]
    expected = torch.tensor(GOLDEN)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


GOLDEN = [0.506108, 0.385683, -0.787559, 0.708654, 0.624751]


def test_return_dict_false_returns_tuples():
    model = make_model(TubeViTForVideoClassification, return_dict=False)
    logits, *_ = model(tiny_clips())
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_autocast_keeps_the_residual_stream_in_float32(pooling):
    model = make_model(TubeViTForVideoClassification, pooling=pooling)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(tiny_clips(), output_hidden_states=True)
    assert all(state.dtype == torch.float32 for state in output.hidden_states)
