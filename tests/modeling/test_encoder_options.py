"""Encoder options of image models: the laws of each option, and every other feature with all options at once."""

import copy

import pytest
import torch
from tiny_models import make_model, tiny_clips, tiny_config

from tubevit import TubeViTForImageClassification, TubeViTForVideoClassification, TubeViTModel
from tubevit.vit_layers import rotate


# All options of DINOv3, and all options of CLIP and DINOv2 together.
ROTARY = {
    "position_embedding": "transfer",
    "rope_theta": 100.0,
    "hidden_size": 32,
    "use_gated_mlp": True,
    "hidden_act": "silu",
    "layerscale_value": 0.5,
    "num_register_tokens": 3,
    "pooling": "cls",
}
GRID = {
    "position_embedding": "transfer",
    "position_grid": [3, 4],
    "position_interpolation": "bicubic_antialias",
    "use_pre_layernorm": True,
    "layerscale_value": 1e-1,
    "num_register_tokens": 2,
    "pooling": "cls_mean",
}
ONE_CELL = {"pooling_grid": [1, 1, 1]}
OPTIONS = {
    "rotary": ROTARY,
    "pooling grid": {"pooling": "grid", "pooling_grid": [3, 2, 2], "num_register_tokens": 1},
    "grid": GRID,
    "pooled norm": {"pooling": "mean", "use_cls_token": True, "final_layernorm": "pooled", "pooler_act": None},
    "no norm": {"pooling": "cls_registers", "num_register_tokens": 1, "final_layernorm": "none"},
    "pooler": {"pooling": "cls", "pooler_act": "tanh", "qkv_bias": False},
}
parametrize_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@parametrize_options
def test_every_parameter_gets_a_gradient(options):
    model = make_model(TubeViTForVideoClassification, **options).train()
    model(tiny_clips(), labels=torch.tensor([0, 3])).loss.backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("k_proj.bias"):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@parametrize_options
def test_attention_backends_agree(options):
    model, clips = make_model(TubeViTForVideoClassification, attn_implementation="eager", **options), tiny_clips()
    with torch.no_grad():
        expected = model(clips).logits
        # flex_attention is tested once, because it compiles for 10 seconds
        for backend in ("sdpa", *(["flex_attention"] if "rope_theta" in options else [])):
            model.set_attn_implementation(backend)
            torch.testing.assert_close(model(clips).logits, expected, rtol=1e-4, atol=1e-5)


@parametrize_options
def test_gradient_checkpointing_changes_nothing(options):
    plain = make_model(TubeViTForVideoClassification, **options).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable()
    for model in (plain, checkpointed):
        model(tiny_clips(), labels=torch.tensor([1, 2])).loss.backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize("options", [ROTARY, GRID], ids=["rotary", "grid"])
def test_compile_and_export_give_the_same_outputs(options):
    model = make_model(TubeViTForVideoClassification, num_hidden_layers=1, **options)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (tiny_clips(),), dynamic_shapes={"pixel_values_videos": {0: batch}})
    with torch.no_grad():
        for size in (2, 3):
            clips = tiny_clips(batch=size)
            expected = model(clips).logits
            torch.testing.assert_close(compiled(clips).logits, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(program.module()(clips).logits, expected, rtol=1e-4, atol=1e-5)


@parametrize_options
def test_recorded_outputs_and_token_counts(options):
    model = make_model(TubeViTModel, attn_implementation="eager", **options)
    output = model(tiny_clips(), output_hidden_states=True, output_attentions=True)
    num_tokens = model.config.num_tokens() + model.config.num_prefix_tokens
    shape = (2, num_tokens, model.config.hidden_size)
    assert [tuple(state.shape) for state in output.hidden_states] == [shape] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, num_tokens, num_tokens)] * 2
    assert output.pooler_output.shape == (2, model.config.pooled_size)


@parametrize_options
def test_half_precision_and_autocast_follow_float32(options):
    model = make_model(TubeViTForVideoClassification, **options)
    clips = tiny_clips()
    expected = model(clips).logits.softmax(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(clips, output_hidden_states=True)
    assert all(state.dtype == torch.float32 for state in output.hidden_states)
    torch.testing.assert_close(output.logits.float().softmax(-1), expected, rtol=0, atol=0.05)
    half = model.to(torch.bfloat16)(clips).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float().softmax(-1), expected, rtol=0, atol=0.05)


@parametrize_options
def test_save_and_load_give_the_same_model(options, tmp_path):
    model = make_model(TubeViTForVideoClassification, **options)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    model.save_pretrained(tmp_path)
    loaded, info = TubeViTForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(loaded(tiny_clips()).logits, model(tiny_clips()).logits)


def test_tensor_parallel_plan_names_existing_modules():
    for options in ({}, ROTARY):
        model = TubeViTModel(tiny_config(**options))
        linear = {
            name.replace("layers.0.", "layers.*.")
            for name, module in model.named_modules()
            if name.startswith("layers.0.") and isinstance(module, torch.nn.Linear)
        }
        assert set(model.config.base_model_tp_plan) == linear
        assert "tp_plan" not in str(model.config.to_dict())


def test_rotary_scores_depend_on_the_angle_difference_only():
    """Rotating the query by a and the key by b gives the same score as rotating only the query by a - b."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 1, 8, dtype=torch.float64)
    a, b = (torch.randn(1, 4, dtype=torch.float64).tile(2) for _ in range(2))

    def product(query_angle, key_angle):
        rotated = (
            rotate(query, (query_angle.cos(), query_angle.sin())),
            rotate(key, (key_angle.cos(), key_angle.sin())),
        )
        return (rotated[0] * rotated[1]).sum(-1)

    torch.testing.assert_close(product(a, b), product(a - b, torch.zeros_like(b)))
    still = rotate(query, (torch.ones(1, 8, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64)))
    assert torch.equal(still, query)


def test_rotary_positions_are_spatial_and_skip_cls_and_registers():
    model = make_model(TubeViTModel, **ROTARY)
    clips = tiny_clips()
    hidden_states = model.embeddings(pixel_values_videos=clips)
    cos, sin = model.embeddings.rotary(hidden_states, None, clips)
    assert cos.shape == sin.shape == (hidden_states.shape[1], 8)
    assert torch.equal(cos[:4], torch.ones(4, 8)) and not sin[:4].any()
    num_tokens = [tube.grid((8, 16, 16)) for tube in model.config.get_tubes()]
    first = cos[4 : 4 + 2 * num_tokens[0][1] * num_tokens[0][2]].unflatten(0, (2, -1))
    assert torch.equal(first[0], first[1])  # the same spatial positions at both times


def test_layer_scale_of_zero_makes_the_layers_the_identity():
    model = make_model(TubeViTModel, layerscale_value=1.0)
    clips = tiny_clips()
    with torch.no_grad():
        for layer in model.layers:
            layer.layer_scale1.lambda1.zero_()
            layer.layer_scale2.lambda1.zero_()
    expected = model.layernorm(model.embeddings(pixel_values_videos=clips))
    torch.testing.assert_close(model(clips).last_hidden_state, expected)
    fresh = TubeViTModel(tiny_config(layerscale_value=0.25))
    assert torch.equal(fresh.layers[1].layer_scale2.lambda1, torch.full((24,), 0.25))


def test_each_pooling_reads_its_tokens():
    for pooling, expected in {
        "mean": lambda tokens: tokens[:, 3:].mean(1),
        "cls": lambda tokens: tokens[:, 0],
        "cls_mean": lambda tokens: torch.cat((tokens[:, 0], tokens[:, 3:].mean(1)), -1),
        "cls_registers": lambda tokens: tokens[:, :3].flatten(1),
    }.items():
        model = make_model(TubeViTModel, pooling=pooling, use_cls_token=True, num_register_tokens=2)
        output = model(tiny_clips())
        torch.testing.assert_close(output.pooler_output, expected(output.last_hidden_state))


def test_grid_pooling_gives_the_mean_of_each_cell():
    tube, grid = {"kernel_size": [2, 4, 4], "stride": [2, 4, 4]}, [2, 1, 2]
    model = make_model(TubeViTModel, tubes=[tube], pooling="grid", pooling_grid=grid, num_register_tokens=1)
    output = model(tiny_clips())
    tokens = output.last_hidden_state[:, 1:].unflatten(1, (4, 4, 4)).movedim(-1, 1)
    cells = torch.nn.functional.adaptive_avg_pool3d(tokens, grid)  # (batch, hidden_size, 2, 1, 2)
    torch.testing.assert_close(output.pooler_output, cells.flatten(2).transpose(1, 2).flatten(1))
    assert model.config.pooled_size == output.pooler_output.shape[1] == 4 * 24


def test_grid_pooling_of_one_cell_is_the_mean_whatever_the_tubes_are():
    plain, grid = (make_model(TubeViTModel, pooling=name, **more) for name, more in (("mean", {}), ("grid", ONE_CELL)))
    torch.testing.assert_close(grid(tiny_clips()).pooler_output, plain(tiny_clips()).pooler_output)


def test_a_cell_without_tokens_takes_the_nearest_ones():
    model = make_model(TubeViTModel, pooling="grid", pooling_grid=[4, 2, 2])
    images = tiny_clips()[:, 0]
    output = model(pixel_values=images)  # all tokens are at t = 0
    cells = output.pooler_output.unflatten(1, (4, 4, 24))
    assert all(torch.equal(cells[:, 0], each) for each in cells.unbind(1))
    assert not torch.equal(cells[:, 0, 0], cells[:, 0, 1])
    few = TubeViTModel(model.config.with_token_budget(3)).eval()
    few.load_state_dict(model.state_dict())
    assert few(tiny_clips()).pooler_output.isfinite().all()


def test_grid_pooling_refuses_missing_tokens():
    model = make_model(TubeViTModel, pooling="grid", pooling_grid=[2, 2, 2], mask_ratio=0.5)
    number = model.config.num_tokens()
    masks = (torch.arange(number) % 2 == 0).expand(2, -1)
    with pytest.raises(ValueError, match=r"pooling=.grid. needs all .* does not work with masked or dropped tokens"):
        model(tiny_clips(), bool_masked_pos=masks)


@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_grid_pooling_compiles_to_one_graph(dynamic):
    """Two tables are constants of the graph, those of positions and of cells, and AOTAutograd needs a name for each."""
    model = make_model(TubeViTModel, num_hidden_layers=1, pooling="grid", pooling_grid=[2, 2, 2])
    compiled = torch.compile(model, backend="aot_eager" if dynamic else "eager", fullgraph=True, dynamic=dynamic)
    for clips in (tiny_clips(), tiny_clips(batch=3), tiny_clips(size=20)):
        torch.testing.assert_close(compiled(clips).pooler_output, model(clips).pooler_output)


def test_image_classifier_does_not_freeze_transferred_positions():
    model = make_model(TubeViTForImageClassification, **GRID)
    assert model.tubevit.embeddings.positions.grid.requires_grad
    model(tiny_clips()[:, 0], labels=torch.tensor([0, 3])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_embedding": "transfer"}, "needs either position_grid.*got None and None"),
        ({"position_embedding": "transfer", "position_grid": [2, 2], "rope_theta": 10.0}, r"got \[2, 2\] and 10.0"),
        ({"position_grid": [2, 2, 2]}, r"position_grid must be two integers \(rows, columns\), got \[2, 2, 2\]"),
        ({"position_grid": [0, 2]}, r"position_grid must be at least 1, got \[0, 2\]"),
        ({"rope_theta": 100.0}, "head dimension that is a multiple of 4.*= 6"),
        ({"rope_theta": 1.0}, "rope_theta must be above 1, got 1.0"),
        ({"num_register_tokens": -1}, "num_register_tokens must be at least 0, got -1"),
        ({"layerscale_value": float("nan")}, "layerscale_value must be finite, got nan"),
        ({"use_cls_token": False, "pooling": "cls_mean"}, "pooling='cls_mean' needs the CLS token"),
        ({"pooling": "grid"}, "pooling='grid' and pooling_grid need each other.*pooling='grid' and pooling_grid=None"),
        ({"pooling_grid": [1, 2, 2]}, "need each other.*pooling='attention' and pooling_grid=.1, 2, 2."),
        ({"pooling": "grid", "pooling_grid": [2, 2]}, "pooling_grid must be three integers of at least 1"),
        ({"pooling": "grid", "pooling_grid": [0, 2, 2]}, "pooling_grid must be three integers of at least 1"),
        ({"pooler_act": "tanh"}, "pooler_act needs pooling='cls', got 'attention'"),
        ({"pooler_act": "tan", "pooling": "cls"}, "pooler_act must be one of .*, got 'tan'"),
        (
            {"final_layernorm": "pooled", "pooling": "cls_mean"},
            "final_layernorm='pooled' needs a pooled vector as wide",
        ),
    ],
)
def test_incompatible_settings_raise(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)
