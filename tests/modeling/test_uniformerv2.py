"""UniFormerV2: equal to a plain statement of the authors' code, and the laws of its parts."""

import json

import pytest
import torch
from random_weights import randomize
from reference_uniformerv2 import forward
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForVideoClassification

from tubevit import UniFormerV2Config, UniFormerV2ForVideoClassification, UniFormerV2Model
from tubevit.modeling_uniformerv2 import UniFormerV2MLP
from tubevit.presets import UNIFORMERV2_PRESETS, uniformerv2_config
from tubevit.uniformerv2_conversion import load_reference


SMALL = {
    **{"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40, "num_labels": 5},
    **{"image_size": 24, "patch_size": 8, "num_frames": 4, "global_layers": [0, 2], "num_global_attention_heads": 4},
    **{"global_mlp_ratio": 2.0},
}
DESIGNS = {
    "global": {},
    "full": {"num_local_blocks": 2, "temporal_downsampling": True},
    "one local block": {"num_local_blocks": 1, "local_reduction": 2},
    "frozen": {"use_gate": False, "num_frozen_layers": 3},
}


# Numbers of frames with an even and with an odd number of temporal positions, and twice the first.
LENGTHS = [
    (design, frames)
    for design, fields in DESIGNS.items()
    for frames in ((4, 6, 8) if fields.get("temporal_downsampling") else (4, 5, 8))
]


def small_model(design: str = "full", model_class=UniFormerV2ForVideoClassification, **overrides):
    torch.manual_seed(0)
    model = model_class(UniFormerV2Config(**SMALL | DESIGNS[design] | overrides))
    return randomize(model)


def clips(batch: int = 2, frames: int = 4) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def reference_outputs(model, pixels):
    state = {name.removeprefix("backbone."): value for name, value in model.to_reference().items()}
    config = model.config
    return forward(state, pixels, config.num_attention_heads, config.num_global_attention_heads, config.global_layers)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("design", "frames"), LENGTHS)
def test_model_equals_the_plain_statement_in_float64(design, frames, attention):
    model = small_model(design).double()
    model.set_attn_implementation(attention)
    pixels = clips(frames=frames).double()
    video_tokens = []
    for block in model.uniformerv2.global_blocks:
        block.register_forward_hook(lambda module, args, output: video_tokens.append(output[:, 0]))
    with torch.no_grad():
        output, expected = model(pixels), reference_outputs(model, pixels)
        trunk = model.uniformerv2(pixels).last_hidden_state
    torch.testing.assert_close(output.logits, expected["logits"], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(video_tokens[:2], expected["video_tokens"], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(trunk.view(expected["trunk"].shape), expected["trunk"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_float32_is_as_exact_as_the_plain_statement_in_float32(design):
    model, pixels = small_model(design), clips(8, 8)
    with torch.no_grad():
        ours, theirs = model(pixels).logits, reference_outputs(model, pixels)["logits"]
        exact = reference_outputs(model.double(), pixels.double())["logits"]
    assert (ours - exact).abs().max() <= 20 * (theirs - exact).abs().max()


@pytest.mark.parametrize("design", DESIGNS)
def test_flex_attention_equals_eager(design):
    """Without compilation, which takes seconds for each shape; the global blocks project keys and values for this backend."""
    model, logits = small_model(design), {}
    for attention in ("eager", "flex_attention"):
        model.set_attn_implementation(attention)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            logits[attention] = model(clips()).logits
    torch.testing.assert_close(logits["eager"], logits["flex_attention"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("design", ["global", "full"])
def test_model_equals_the_values_of_the_authors_code(design, shared_data):
    path = shared_data / "golden" / f"uniformerv2_{design}.safetensors"
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        variant = json.loads(file.metadata()["variant"])
    state = {key.removeprefix("state."): value for key, value in golden.items() if key.startswith("state.")}
    model = load_reference(
        UniFormerV2ForVideoClassification,
        state,
        global_layers=variant["return_list"],
        num_attention_heads=variant["heads"],
        num_global_attention_heads=variant["n_head"],
        **dict.fromkeys(("global_dropout", "classifier_dropout", "drop_path_rate", "global_drop_path_rate"), 0.0),
    ).double()
    stem, video_tokens = [], []
    for block in model.uniformerv2.global_blocks:
        block.register_forward_hook(lambda module, args, output: video_tokens.append(output[:, 0]))
    model.uniformerv2.pre_layernorm.register_forward_hook(lambda module, args, output: stem.append(output))
    frames = golden["frames"].permute(0, 1, 4, 2, 3)
    normalized = (frames.double() / 255 - 0.45) / 0.225
    with torch.no_grad():
        torch.testing.assert_close(model(normalized).logits, golden["logits"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(model(frames).logits, golden["logits"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(stem[0].view(golden["stem"].shape), golden["stem"], rtol=1e-9, atol=1e-9)
    assert len(video_tokens) == 2 * len(variant["return_list"])  # of both calls
    for index in range(len(variant["return_list"])):
        torch.testing.assert_close(video_tokens[index], golden[f"video_token.{index}"], rtol=1e-9, atol=1e-9)
    if "train_logits" in golden:
        logits = model.train()(normalized).logits
        torch.testing.assert_close(logits, golden["train_logits"], rtol=1e-9, atol=1e-9)
        saved = model.to_reference()
        for key, value in golden.items():
            if key.startswith("after_training_step."):
                torch.testing.assert_close(
                    saved[key.removeprefix("after_training_step.")], value, rtol=1e-9, atol=1e-9
                )


@pytest.mark.parametrize(
    ("preset", "num_labels", "num_parameters"),
    [
        ("uniformerv2-b16", 400, 114_552_208),
        ("uniformerv2-b16-full", 174, 162_992_814),
        ("uniformerv2-l14", 400, 354_099_600),
        ("uniformerv2-l14-full", 174, 573_949_966),
        ("uniformerv2-l14-336", 400, 354_427_280),
    ],
)
def test_presets_have_the_parameters_of_table_1_2(preset, num_labels, num_parameters):
    with torch.device("meta"):
        model = UniFormerV2ForVideoClassification(uniformerv2_config(preset, num_labels=num_labels))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_frozen_preset_trains_the_global_blocks_and_the_head_only():
    config = uniformerv2_config("uniformerv2-l14-336", num_labels=400, use_gate=False, num_frozen_layers=24)
    with torch.device("meta"):
        model = UniFormerV2ForVideoClassification(config)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 50_920_848
    assert not [name for name in trained if ".layers." in name or "embeddings" in name or "pre_layernorm" in name]
    assert len(UNIFORMERV2_PRESETS) == 6


def test_new_model_is_the_head_on_half_of_the_mean_class_token():
    torch.manual_seed(0)
    model = UniFormerV2ForVideoClassification(UniFormerV2Config(**SMALL | DESIGNS["full"])).eval()
    with torch.no_grad():
        output = model.uniformerv2(clips())
        class_token = output.last_hidden_state.unflatten(1, (2, -1))[:, :, 0].mean(1)
        expected = model.classifier(model.uniformerv2.layernorm(class_token / 2))
        torch.testing.assert_close(model(clips()).logits, expected)


@pytest.mark.parametrize("frames", [4, 6, 8])
@pytest.mark.parametrize("design", ["full", "one local block"])
def test_local_block_is_the_identity_at_its_start(design, frames):
    """As built, its last layer is zero; all other weights of the model are random."""
    model = small_model(design, UniFormerV2Model)
    new = UniFormerV2Model(model.config)
    blocks = [
        (block, getattr(fresh, name))
        for layer, fresh in zip(model.layers, new.layers, strict=True)
        for name, block in layer.named_children()
        if name.startswith("local_block") and list(block.parameters())
    ]
    assert len(blocks) == 3 * model.config.num_local_blocks
    tokens = torch.randn(2, frames * model.config.tokens_per_frame, 24)
    for block, fresh in blocks:
        with torch.no_grad():
            assert not torch.allclose(block(tokens), tokens)
            block.expand.load_state_dict(fresh.expand.state_dict())
            assert torch.equal(block(tokens), tokens)


@pytest.mark.parametrize(("design", "frames"), LENGTHS)
def test_global_blocks_never_change_the_trunk(design, frames):
    model, other = small_model(design), small_model(design)
    with torch.no_grad():
        for parameter in other.uniformerv2.global_blocks.parameters():
            parameter.mul_(2)
        first, second = (each.uniformerv2(clips(frames=frames)) for each in (model, other))
    assert torch.equal(first.last_hidden_state, second.last_hidden_state)
    assert not torch.allclose(first.pooler_output, second.pooler_output)


@pytest.mark.parametrize(("gate", "fraction"), [(0.0, 0.5), (-1e4, 0.0), (1e4, 1.0)])
@pytest.mark.parametrize(("design", "frames"), [each for each in LENGTHS if DESIGNS[each[0]].get("use_gate", True)])
def test_gate_mixes_the_video_token_with_the_mean_class_token(design, frames, gate, fraction):
    """As built, the gate is zero, which weights both equally."""
    model = small_model(design, UniFormerV2Model).double()
    video_tokens = []
    model.global_blocks[-1].register_forward_hook(lambda module, args, output: video_tokens.append(output[:, 0]))
    with torch.no_grad():
        model.gate.fill_(gate)
        output = model(clips(frames=frames).double())
        class_token = output.last_hidden_state.unflatten(1, (-1, model.config.tokens_per_frame))[:, :, 0].mean(1)
        expected = model.layernorm((1 - fraction) * video_tokens[0] + fraction * class_token)
    torch.testing.assert_close(output.pooler_output, expected, rtol=1e-11, atol=1e-12)
    assert not UniFormerV2Model(model.config).gate.any()


def test_local_blocks_mix_neighboring_frames_only():
    """Without local blocks a frame of the trunk sees itself; one local block before the attention of a single layer sees 1 more."""
    model = small_model("one local block", UniFormerV2Model, num_hidden_layers=1, global_layers=[0])
    pixels, changed = clips(1, 8), clips(1, 8)
    changed[:, 3] += 1
    with torch.no_grad():
        difference = (model(pixels).last_hidden_state - model(changed).last_hidden_state).view(8, -1).abs().amax(1)
    assert [index for index, value in enumerate(difference) if value > 0] == [2, 3, 4]


@pytest.mark.parametrize(("design", "frames"), LENGTHS)
def test_permuting_clips_permutes_logits(design, frames):
    model = small_model(design).double()
    pixels, order = clips(3, frames).double(), [2, 0, 1]
    with torch.no_grad():
        logits = model(pixels).logits
        torch.testing.assert_close(model(pixels[order]).logits, logits[order], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            model(pixels[:1]).logits, logits[:1], rtol=1e-12, atol=1e-12
        )  # clips see only themselves


def test_views_average_probabilities():
    model = small_model()
    views = torch.stack((clips(2), clips(2).flip(-1)), dim=1)
    with torch.no_grad():
        probabilities = model(views).logits.softmax(-1)
        expected = torch.stack([model(views[:, view]).logits.softmax(-1) for view in range(2)]).mean(0)
    torch.testing.assert_close(probabilities, expected)


def test_uint8_clips_are_normalized_inside():
    model = small_model()
    raw = torch.randint(0, 256, (2, 4, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(raw).logits, model((raw / 255 - 0.45) / 0.225).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("design", "frames"), LENGTHS)
def test_every_trained_parameter_and_pixel_gets_a_gradient(design, frames):
    model = small_model(design).train()
    pixels = clips(frames=frames).requires_grad_(not model.config.num_frozen_layers)
    output = model(pixels, labels=torch.tensor([0, 3]))
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert parameter.grad is None, name
    if pixels.requires_grad:
        assert pixels.grad.isfinite().all() and pixels.grad.abs().amax((2, 3, 4)).gt(0).all()


def test_frozen_layers_keep_their_batch_statistics():
    model = small_model("full", num_frozen_layers=2).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(clips())
    for name, buffer in model.named_buffers():
        is_frozen = "layers.2." not in name
        assert torch.equal(buffer, before[name]) == is_frozen, name


def test_recorded_outputs_of_layers_and_global_blocks():
    model = small_model("full")
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(clips(), output_hidden_states=True, output_attentions=True)
    tokens = model.config.tokens_per_frame
    assert [each.shape for each in output.hidden_states] == [(2, 2 * tokens, 24)] * 4
    assert [each.shape for each in output.attentions] == [(4, 3, tokens, tokens)] * 3
    assert [each.shape for each in output.cross_attentions] == [(2, 4, 1, 2 * tokens)] * 2
    for weights in (*output.attentions, *output.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_projected_keys_and_values_give_the_same_attention(monkeypatch):
    """Backends with limits on the head dimension project keys and values."""
    from tubevit.modeling_uniformerv2 import UniFormerV2CrossAttention

    model = small_model().double()
    with torch.no_grad():
        expected = model(clips().double()).logits
        monkeypatch.setattr(UniFormerV2CrossAttention, "_attends_to_tokens", False)
        torch.testing.assert_close(model(clips().double()).logits, expected, rtol=1e-11, atol=1e-12)


def test_scaled_products_of_the_mlp_equal_its_modules():
    """The scales of quick GELU are part of the products; hooks and adapters of the linear layers still apply."""
    torch.manual_seed(0)
    config = UniFormerV2Config(hidden_size=24, num_attention_heads=2, intermediate_size=40)
    mlp, tokens = UniFormerV2MLP(config).double(), torch.randn(3, 5, 24, dtype=torch.float64)

    def values_and_gradients():
        inputs = tokens.clone().requires_grad_()
        output = mlp(inputs)
        return [output, *torch.autograd.grad(output.square().sum(), [inputs, *mlp.parameters()])]

    def modules(scale=1.0):
        hidden = scale * mlp.fc1(tokens)
        return mlp.fc2(hidden * torch.sigmoid(1.702 * hidden))

    fused = values_and_gradients()
    torch.testing.assert_close(fused[0], modules(), rtol=1e-12, atol=1e-12)
    handle = mlp.fc1.register_forward_hook(lambda module, inputs, output: output)
    for one, other in zip(fused, values_and_gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    handle.remove()
    mlp.fc1.register_forward_hook(lambda module, inputs, output: 2 * output)
    doubled = mlp(tokens)
    mlp.fc1._forward_hooks.clear()
    torch.testing.assert_close(doubled, modules(2.0), rtol=1e-12, atol=1e-12)
    mlp.fc1 = torch.nn.Sequential(mlp.fc1)  # as an adapter wraps it
    torch.testing.assert_close(mlp(tokens), modules(), rtol=1e-12, atol=1e-12)


def test_new_parts_have_the_initialization_of_the_authors_code():
    """Uniform weights with the bounds of Xavier or of torch's default; what is zero is in the tests of the whole model."""
    torch.manual_seed(0)
    width, reduced = 64, 42
    model = UniFormerV2ForVideoClassification(
        UniFormerV2Config(**SMALL | DESIGNS["full"] | {"hidden_size": width, "num_attention_heads": 4})
    )
    block, local = model.uniformerv2.global_blocks[1], model.uniformerv2.layers[1].local_block2
    xavier = {  # the bound is sqrt(6 / (inputs + outputs)); query, key and value are one matrix
        block.attention.in_proj_weight: (6 / (width + 3 * width)) ** 0.5,
        block.mlp.fc1.weight: (6 / (width + 2 * width)) ** 0.5,
    }
    default = {  # the bound is 1 / sqrt(inputs), of biases too
        **{
            block.dpe.weight: 27,
            block.mlp.fc1.bias: width,
            model.classifier.weight: width,
            model.classifier.bias: width,
        },
        **{local.reduce.weight: width, local.reduce.bias: width, local.conv.weight: 3, local.conv.bias: 3},
    }
    for parameter, bound in (xavier | {each: inputs**-0.5 for each, inputs in default.items()}).items():
        largest, std = parameter.abs().max().item(), parameter.std().item()
        assert 0.85 * bound < largest <= bound and std == pytest.approx(bound / 3**0.5, rel=0.5)
    assert local.reduce.weight.shape == (reduced, width)
    for parameter in (block.dpe.bias, block.attention.in_proj_bias, local.expand.weight, local.expand.bias):
        assert not parameter.any()


def test_dropout_is_on_the_pooled_vector_and_inside_the_global_mlps():
    pixels, dropped = clips(), []
    model = small_model("global", num_labels=24, global_dropout=[0.0, 0.5], classifier_dropout=0.5).train()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.eye(24))
        model.classifier.bias.zero_()
    model.uniformerv2.layernorm.register_forward_hook(lambda module, args, output: dropped.append((output, None)))
    for block in model.uniformerv2.global_blocks:
        mlp = block.mlp
        mlp.activation_fn.register_forward_hook(lambda module, args, output: dropped.append((output, None)))
        mlp.fc2.register_forward_pre_hook(lambda module, args: dropped.append((dropped.pop()[0], args[0])))
    logits = model(pixels).logits
    (first, kept), (second, halved), (pooled, _) = dropped
    assert torch.equal(first, kept)
    for before, after in ((second, halved), (pooled.reshape(logits.shape), logits)):
        ratio = (after / before).detach()
        assert 0.2 < (ratio == 0).float().mean() < 0.8
        torch.testing.assert_close(ratio[ratio != 0], torch.full_like(ratio[ratio != 0], 2.0))


def test_rates_of_stochastic_depth_rise_from_zero_in_the_trunk_and_in_the_global_blocks():
    rates = {"num_hidden_layers": 5, "global_layers": [1, 2, 4], "drop_path_rate": 0.2, "global_drop_path_rate": 0.4}
    model = small_model("full", UniFormerV2Model, **rates)
    for blocks, expected in ((model.layers, [0, 0.05, 0.1, 0.15, 0.2]), (model.global_blocks, [0, 0.2, 0.4])):
        assert [block.drop_path.rate for block in blocks] == pytest.approx(expected)


def test_stochastic_depth_drops_a_branch_for_a_clip():
    model = small_model("full", UniFormerV2Model, drop_path_rate=0.5, num_hidden_layers=2, global_layers=[0]).train()
    outputs = []
    model.layers[1].drop_path.register_forward_hook(lambda module, args, output: outputs.append(output))
    torch.manual_seed(0)
    model(clips(8))
    for output in outputs:
        kept = output.flatten(1).abs().amax(1) > 0
        assert 0 < kept.sum() < 8  # whole clips, never a part of one
        assert (output[kept].abs() > 0).all()


def test_gradient_checkpointing_changes_nothing():
    plain, checkpointed = small_model().train(), small_model().train()
    checkpointed.activation_checkpointing_enable()
    for model in (plain, checkpointed):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(clips(), labels=torch.tensor([1, 2])).loss.backward()
    for (name, first), (_, second) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, msg=name)


def test_compiled_and_exported_models_equal_eager():
    model = small_model()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(
        model, (), {"pixel_values_videos": clips(2)}, dynamic_shapes={"pixel_values_videos": {0: batch}}, strict=False
    ).module()
    with torch.no_grad():
        expected = model(clips(3)).logits
        torch.testing.assert_close(compiled(pixel_values_videos=clips(3)).logits, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(exported(pixel_values_videos=clips(3)).logits, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_checkpoint_keeps_float32_batch_statistics(tmp_path):
    model = small_model("full")
    model.save_pretrained(tmp_path)
    half = UniFormerV2ForVideoClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {name: value.dtype for name, value in half.state_dict().items() if value.is_floating_point()}
    assert {dtype for name, dtype in kinds.items() if "batch_norm" in name} == {torch.float32}
    assert {dtype for name, dtype in kinds.items() if "batch_norm" not in name} == {torch.bfloat16}
    with torch.no_grad():
        torch.testing.assert_close(half(clips()).logits.float(), model(clips()).logits, rtol=0.1, atol=0.1)
        half.train()(clips())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_model_is_built_with_float32_batch_statistics(dtype):
    """Also without a checkpoint, and only where there is a batch norm."""
    for design, modules in (("full", {"batch_norm"}), ("global", set())):
        config = UniFormerV2Config(**SMALL | DESIGNS[design])
        model = AutoModelForVideoClassification.from_config(config, dtype=dtype)
        assert model._keep_in_fp32_modules_strict == modules
        kinds = {name: value.dtype for name, value in model.state_dict().items() if value.is_floating_point()}
        assert {name for name, kind in kinds.items() if kind != dtype} == {
            name for name in kinds if "batch_norm" in name
        }
        assert model(clips().to(dtype)).logits.isfinite().all()


@pytest.mark.parametrize("cast", ["bfloat16", "half", "to"])
def test_casting_a_model_keeps_float32_batch_statistics(cast):
    model, expected = small_model("full"), small_model("full")
    for each in (model, expected):
        for name, buffer in each.named_buffers():
            if "running" in name:
                buffer.copy_(torch.linspace(0.5, 1.5, len(buffer)))
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
    model = model.to(torch.bfloat16) if cast == "to" else getattr(model, cast)()
    for name, buffer in statistics.items():
        torch.testing.assert_close(model.get_buffer(name), buffer, rtol=0, atol=0)  # float32, and not rounded
    with torch.no_grad():
        torch.testing.assert_close(model(clips()).logits.float(), expected(clips()).logits, rtol=0.1, atol=0.1)
        model.train()(clips())
        assert not torch.equal(model.get_buffer(name), buffer)
        assert model.float()(clips()).logits.dtype == torch.float32
    assert {buffer.dtype for name, buffer in model.double().named_buffers() if "running" in name} == {torch.float64}


@pytest.mark.filterwarnings("ignore:The following device_map keys")  # accelerate looks for modules only
@pytest.mark.parametrize("design", DESIGNS)
def test_layers_on_disk_give_the_same_logits(design, tmp_path):
    """device_map with every other layer and every global block offloaded."""
    model = small_model(design)
    model.save_pretrained(tmp_path)
    device_map = {name: "cpu" for name, _ in model.uniformerv2.named_children()} | {
        "gate": "cpu",
        "video_token": "cpu",
    }
    del device_map["layers"]
    device_map |= {f"layers.{index}": ("disk", "cpu", "disk")[index] for index in range(3)} | {"global_blocks": "disk"}
    device_map = {f"uniformerv2.{name}": device for name, device in device_map.items()} | {"classifier": "cpu"}
    loaded = UniFormerV2ForVideoClassification.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload"
    ).eval()
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu", "meta"}
    with torch.no_grad():
        assert torch.equal(loaded(clips()).logits, model(clips()).logits)


@pytest.mark.parametrize("design", DESIGNS)
def test_saved_model_is_loaded_by_the_auto_classes(design, tmp_path):
    model = small_model(design)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(loaded) is UniFormerV2ForVideoClassification
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(clips()).logits, model(clips()).logits)


def test_missing_weights_get_the_initialization_of_a_new_model(tmp_path):
    """What a checkpoint lacks is not left as it is on torch's meta device."""
    model = small_model("global")
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded = UniFormerV2ForVideoClassification.from_pretrained(tmp_path, num_local_blocks=2)
    for layer in loaded.uniformerv2.layers:
        for block in (layer.local_block1, layer.local_block2):
            assert not block.expand.weight.any() and not block.expand.bias.any()
            assert block.reduce.weight.std() > 0.05 and block.conv.weight.std() > 0.1
            assert torch.equal(block.batch_norm.running_var, torch.ones(24))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"global_layers": []}, "global_layers is empty"),
        ({"global_layers": [2, 0]}, "ascending order"),
        ({"global_layers": [0, 0]}, "ascending order"),
        ({"global_layers": [0, 3]}, "from 0 to 2"),
        ({"global_layers": [-1]}, "at least 0"),
        ({"num_frames": 5, "temporal_downsampling": True}, "use 6"),
        ({"image_size": 25}, "use 24"),
        ({"num_global_attention_heads": 5}, "multiple of num_global_attention_heads"),
        ({"num_frozen_layers": 4}, "at most num_hidden_layers"),
        ({"global_dropout": [0.1]}, "one for each of the 2 global blocks"),
        ({"image_std": [0.2, 0.2]}, "one value per channel"),
        ({"num_frame": 4}, "did you mean 'num_frames'"),
        ({"hidden_act": "gellu"}, "hidden_act must be one of"),
        ({"problem_type": "multi"}, "problem_type must be one of"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate must be"),
    ],
)
def test_config_refuses_what_cannot_be_built(overrides, message):
    with pytest.raises(ValueError, match=message):
        UniFormerV2Config(**SMALL | overrides)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 3, 24, 24), "even number of frames, got 3: use 4"),
        ((2, 4, 3, 32, 24), "frames of 24x24, got 32x24"),
        ((2, 4, 1, 24, 24), "3 channels"),
        ((4, 3, 24, 24), "must have the shape"),
        ((0, 4, 3, 24, 24), r"is empty: its shape is \(0, 4, 3, 24, 24\)"),
        ((2, 0, 4, 3, 24, 24), r"is empty: its shape is \(0, 4, 3, 24, 24\)"),
    ],
)
def test_forward_refuses_clips_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        small_model("full")(torch.zeros(shape))
