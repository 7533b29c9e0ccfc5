"""Interpolated kernels, position embeddings, and other tubes for trained weights."""

import copy
import itertools

import pytest
import torch
from tiny_models import TINY_TUBES, make_model, tiny_clips, tiny_config
from torch import nn

from tubevit import Tube, TubeViTForImageClassification, TubeViTForVideoClassification, TubeViTModel
from tubevit.interpolated_kernel import resize_kernel
from tubevit.position_embeddings import sincos_position_embedding
from tubevit.presets import TUBES, preset_config


# More, larger and longer 3D tubes than TINY_TUBES, and its 2D tube at another index.
OTHER_TUBES = [
    {"kernel_size": [1, 8, 8], "stride": [8, 8, 8]},
    {"kernel_size": [8, 8, 8], "stride": [4, 8, 8]},
    {"kernel_size": [7, 3, 5], "stride": [2, 4, 8], "offset": [1, 2, 2], "space_to_depth": [2, 2, 1]},
    {"kernel_size": [2, 8, 8], "stride": [4, 8, 8]},
]
INTERPOLATED = {"interpolate_kernels": True, "interpolated_kernel_size": [4, 3, 3]}


def test_resize_kernel_is_exact_for_its_own_size_and_linear_kernels():
    weight = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    assert resize_kernel(weight, (4, 5, 6)) is weight
    ramp = torch.arange(4, dtype=torch.float64).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)
    # twice the frames: sampled at quarter points, clamped at both ends
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], dtype=torch.float64)
    torch.testing.assert_close(resize_kernel(ramp, (8, 2, 2))[0, 0, :, 0, 0], expected)


def test_every_3d_tube_uses_the_resized_interpolated_kernel():
    model = make_model(TubeViTModel, **INTERPOLATED, tubes=OTHER_TUBES).double()
    shared = model.embeddings.interpolated_kernel
    for index in (1, 2, 3):
        tube = model.embeddings.tubes[index]
        weight, bias = model.embeddings.kernel(index)
        outputs = 24 // tube.num_merged
        expected = nn.functional.interpolate(shared.weight[:outputs], size=tube.kernel_size, mode="trilinear")
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-14)
        assert torch.equal(bias, shared.bias[:outputs])
    assert model.embeddings.kernel(0)[0] is model.embeddings.projections[0].weight


def test_the_weights_do_not_depend_on_the_3d_tubes(tmp_path):
    model = make_model(TubeViTModel, **INTERPOLATED)
    model.save_pretrained(tmp_path)
    loaded, info = TubeViTModel.from_pretrained(tmp_path, tubes=OTHER_TUBES, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    clips = tiny_clips(frames=9)
    model.set_tubes(OTHER_TUBES)
    assert torch.equal(model(pixel_values_videos=clips)[0], loaded(pixel_values_videos=clips)[0])
    assert model.config.num_tokens(9) == model(pixel_values_videos=clips)[0].shape[1]


def _fused_step(weight):
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, fused=True).step()


UPDATES = {
    "in place": lambda weight: weight.mul_(2),
    "fused AdamW": _fused_step,
    "data": lambda weight: weight.data.add_(1),
    "new data": lambda weight: setattr(weight, "data", 2 * weight.detach()),
    "numpy": lambda weight: weight.detach().numpy().__imul__(2),
}


@pytest.mark.parametrize("how", UPDATES)
@pytest.mark.parametrize("training", [False, True])
def test_resized_kernels_follow_every_update_of_the_weights(how, training):
    """`AdamW(fused=True)` changes neither the data pointer nor the version counter of a weight."""
    model = make_model(TubeViTModel, **INTERPOLATED).train(training)
    kernel, tube = model.embeddings.interpolated_kernel, model.embeddings.tubes[0]
    with torch.no_grad():
        before = kernel(tube)[0].clone()
    with torch.set_grad_enabled(how == "fused AdamW"):
        UPDATES[how](kernel.weight)
    with torch.no_grad():
        after = kernel(tube)[0]
        torch.testing.assert_close(after, resize_kernel(kernel.weight[: len(after)], tube.kernel_size))
        assert not torch.allclose(after, before, atol=1e-3)
        stacked = torch.stack((kernel.weight, 2 * kernel.weight))
        mapped = torch.func.vmap(lambda weight: torch.func.functional_call(kernel, {"weight": weight}, (tube,))[0])
        torch.testing.assert_close(mapped(stacked)[1], 2 * after)


def test_interpolated_kernel_gets_gradients_from_every_3d_tube():
    model = make_model(TubeViTForVideoClassification, **INTERPOLATED).train()
    model(pixel_values_videos=tiny_clips(), labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_independent_kernels_are_initialized_with_the_interpolated_kernel():
    model = make_model(TubeViTForVideoClassification, **INTERPOLATED, tubes=OTHER_TUBES)
    warm = model.with_independent_kernels()
    assert not warm.config.interpolate_kernels and model.config.interpolate_kernels
    clips = tiny_clips()
    assert torch.equal(warm(pixel_values_videos=clips).logits, model(pixel_values_videos=clips).logits)
    assert warm.tubevit.embeddings.projections[1].weight.shape == (24, 3, 8, 8, 8)
    with pytest.raises(ValueError, match="independent already"):
        warm.with_independent_kernels()


def test_reduced_strides_give_more_tokens_with_the_same_weights():
    model = make_model(TubeViTModel)
    clips = tiny_clips()
    before = model(pixel_values_videos=clips)[0]
    dense = [dict(tube, stride=[max(1, s // 2) for s in tube["stride"]]) for tube in TINY_TUBES]
    model.set_tubes(dense)
    tokens = model.embeddings(pixel_values_videos=clips)
    assert tokens.shape[1] == model.config.num_tokens() > before.shape[1]
    model.set_tubes(TINY_TUBES)
    assert torch.equal(model(pixel_values_videos=clips)[0], before)


def test_set_tubes_raises_for_other_kernel_shapes_and_changes_nothing():
    model = make_model(TubeViTModel)
    old = copy.deepcopy(model.config.tubes)
    with pytest.raises(
        ValueError, match=r"kernels of this model are 4x4x4 with 24.*new tubes need 1x8x8 with 24"
    ) as error:
        model.set_tubes(OTHER_TUBES)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"tubes\[0\]"):
        model.set_tubes([{"kernel_size": [4, 4, 4], "stride": [4, 8]}])
    assert model.config.tubes == old


def test_learned_positions_fit_only_their_tubes():
    model = make_model(TubeViTModel, position_embedding="learned", **INTERPOLATED)
    with pytest.raises(ValueError, match="'learned' has a vector for each token"):
        model.set_tubes(OTHER_TUBES)
    with pytest.raises(ValueError, match="'learned' has a vector for each token"):
        model.set_tubes(TINY_TUBES, num_frames=16)
    model.set_tubes(TINY_TUBES)


def test_interpolated_kernels_need_a_3d_tube_before_and_after():
    flat = [OTHER_TUBES[0]]
    for tubes, others in ((TINY_TUBES, flat), (flat, TINY_TUBES)):
        with pytest.raises(ValueError, match="kernels of this model are"):
            make_model(TubeViTModel, **INTERPOLATED, tubes=tubes).set_tubes(others)


@pytest.mark.parametrize(
    "values",
    [
        INTERPOLATED,
        {"num_frozen_layers": 1, "gate_layer": 1},
        {"num_extra_layers": 2, "gate_layer": 1},
        {"position_embedding": "transfer", "position_grid": [3, 3]},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_every_option_compiles_without_graph_breaks(values, training):
    model = make_model(TubeViTModel, **values).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    clips = tiny_clips()
    torch.testing.assert_close(compiled(pixel_values_videos=clips)[0], model(pixel_values_videos=clips)[0])


def test_interpolated_weights_take_the_charades_tubes():
    config = preset_config("tiny", num_hidden_layers=1, interpolate_kernels=True)
    model = make_model(TubeViTModel, config)
    model.set_tubes([dict(tube) for tube in TUBES["charades"]], num_frames=128)
    with torch.no_grad():
        tokens = model.embeddings(pixel_values_videos=torch.zeros(1, 40, 3, 64, 64))
    assert tokens.shape[1] == model.config.num_tokens(40, 64)


@pytest.mark.parametrize(("kind", "num_tables"), [("none", 0), ("learned", 3)])
def test_learned_and_no_positions(kind, num_tables):
    model = make_model(TubeViTModel, position_embedding=kind, num_frames=9).double()
    assert sum("positions" in name for name in model.state_dict()) == num_tables
    plain = make_model(TubeViTModel, position_embedding="none").double()
    plain.load_state_dict(model.state_dict(), strict=False)
    clips = tiny_clips(frames=9, dtype=torch.float64)
    added = model.embeddings(pixel_values_videos=clips) - plain.embeddings(pixel_values_videos=clips)
    expected = torch.cat(model.embeddings.positions.tables) if num_tables else torch.zeros_like(added[0])
    torch.testing.assert_close(added[1], expected, rtol=0, atol=1e-13)


def test_learned_positions_are_resized_for_other_clips():
    model = make_model(TubeViTForImageClassification, position_embedding="learned", num_frames=16)
    positions, tube = model.tubevit.embeddings.positions, model.tubevit.embeddings.tubes[2]
    tokens = torch.zeros(1, 4, 24)
    first_frame = positions((tube,), [2], (1, 16, 16), tokens)
    assert torch.equal(first_frame, positions.tables[2][:4])
    assert positions((tube,), [2], (1, 32, 16), torch.zeros(1, 8, 24)).shape == (8, 24)
    image = tiny_clips()[:, 0]
    model(pixel_values=image, labels=torch.tensor([0, 1])).loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    partial = make_model(TubeViTModel, position_embedding="learned", num_frames=4, allow_missing_tubes=True)
    with pytest.raises(ValueError, match=r"Tube 1 has no learned positions"):
        partial(pixel_values_videos=tiny_clips())


def test_fixed_without_stride_uses_grid_indices():
    model = make_model(TubeViTModel, position_embedding="fixed_without_stride")
    tube = Tube((5, 2, 2), (2, 8, 8), (1, 2, 2))
    table = model.embeddings.positions((tube,), [1], (9, 16, 16), torch.zeros(1, 1, 24, dtype=torch.float64))
    expected = sincos_position_embedding(([0.0, 1.0], [0.0, 1.0], [0.0, 1.0]), 24, 10000.0)
    assert tube.grid((9, 16, 16)) == (2, 2, 2) and torch.equal(table, expected)


RELATIVE = {"position_embedding": "relative", "pooling": "cls", "num_register_tokens": 1}


def test_relative_positions_are_a_bias_per_head_and_displacement():
    """The eager attention weights equal softmax(q k / sqrt(d) + bias), with the bias looked up pair by pair."""
    model = make_model(TubeViTModel, **RELATIVE, attn_implementation="eager").double()
    clips = tiny_clips(dtype=torch.float64)
    outputs = model(pixel_values_videos=clips, output_attentions=True, output_hidden_states=True)
    centers = [center for tube in model.config.get_tubes() for center in itertools.product(*tube.centers((8, 16, 16)))]
    tables = model.embeddings.positions.tables
    bias = torch.zeros(4, len(centers) + 2, len(centers) + 2, dtype=torch.float64)
    for (i, one), (j, other) in itertools.product(enumerate(centers), repeat=2):
        for table, here, there in zip(tables, one, other, strict=True):
            bias[:, i + 2, j + 2] += table[:, round(2 * (here - there)) + table.shape[1] // 2]
    for layer, states, weights in zip(model.layers, outputs.hidden_states, outputs.attentions, strict=False):
        attention, states = layer.attention, layer.layernorm_before(states)
        query, key = (
            projection(states).unflatten(-1, (4, 6)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj)
        )
        expected = (query @ key.transpose(2, 3) / 6**0.5 + bias).softmax(-1)
        torch.testing.assert_close(weights, expected)


def test_relative_positions_do_not_change_when_clip_and_tubes_move_together():
    tubes = [{**tube, "offset": tube.get("offset", [0, 0, 0])} for tube in TINY_TUBES]
    moved = [{**tube, "offset": [n + 2 for n in tube["offset"]]} for tube in tubes]
    clip = tiny_clips(frames=10, size=18)
    for kind, is_equal in (("relative", True), ("fixed", False)):
        model = make_model(TubeViTModel, position_embedding=kind, tubes=tubes).double()
        model.embeddings.tubes = tuple(map(Tube.from_dict, moved))
        there = model(pixel_values_videos=clip.double()).pooler_output
        model.embeddings.tubes = tuple(map(Tube.from_dict, tubes))
        here = model(pixel_values_videos=clip[:, 2:, :, 2:, 2:].double()).pooler_output
        assert torch.allclose(here, there, rtol=0, atol=1e-12) == is_equal


def test_relative_positions_agree_over_backends_sizes_and_checkpointing():
    eager, sdpa = (make_model(TubeViTModel, **RELATIVE, attn_implementation=name) for name in ("eager", "sdpa"))
    for size in (16, 24):  # displacements beyond the configured clip have the value of the largest one
        clips = tiny_clips(frames=size // 2, size=size)
        torch.testing.assert_close(eager(pixel_values_videos=clips)[0], sdpa(pixel_values_videos=clips)[0])
        torch.testing.assert_close(eager(pixel_values=clips[:, 0])[0], sdpa(pixel_values=clips[:, 0])[0])
    expected = None
    for reentrant in (None, False, True):
        model = make_model(TubeViTModel, **RELATIVE).train()
        if reentrant is not None:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        model(pixel_values_videos=tiny_clips()).last_hidden_state.square().sum().backward()
        gradients = {name: each.grad for name, each in model.named_parameters() if "pooler" not in name}
        expected = expected or gradients
        torch.testing.assert_close(gradients, expected)
    tables = [each for name, each in expected.items() if ".positions." in name]
    assert len(tables) == 3 and all(each.any() for each in tables)
    compiled = torch.compile(sdpa, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pixel_values_videos=clips)[0], sdpa(pixel_values_videos=clips)[0])
    with pytest.raises(ValueError, match="needs attn_implementation eager or sdpa, got flex_attention"):
        make_model(TubeViTModel, **RELATIVE, attn_implementation="flex_attention")(pixel_values_videos=clips)
    with pytest.raises(
        ValueError, match=r"configured size, 8x16x16, so num_frames and image_size cannot become 9x16x16"
    ):
        sdpa.set_tubes(TINY_TUBES, num_frames=9)


@pytest.mark.parametrize("num_extra", [1, 2, 5])
def test_extra_layers_do_not_rename_the_other_layers(num_extra):
    plain = make_model(TubeViTModel)
    model = make_model(TubeViTModel, num_extra_layers=num_extra)
    missing = model.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(key.startswith("extra_layers.") for key in missing.missing_keys)
    counts = [len(model._extra_layers_after(index)) for index in range(2)]
    assert sum(counts) == num_extra and counts[-1] >= 1
    clips = tiny_clips()
    assert not torch.allclose(model(pixel_values_videos=clips)[0], plain(pixel_values_videos=clips)[0])
    with torch.no_grad():
        for layer in model.extra_layers:
            layer.attention.o_proj.weight.zero_()
            layer.attention.o_proj.bias.zero_()
    assert torch.equal(model(pixel_values_videos=clips)[0], plain(pixel_values_videos=clips)[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tubes": [{"kernel_size": [1, 4, 4], "stride": [1, 6, 4], "space_to_depth": [1, 4, 1]}]},
            "6 rows.* factor 4",
        ),
        (
            {"tubes": [{"kernel_size": [1, 4, 4], "stride": [5, 4, 4], "space_to_depth": [5, 1, 1]}]},
            "merges 5.*hidden_size 24",
        ),
        (
            {"tubes": [{"kernel_size": [1, 4, 4], "stride": [4, 4, 4], "space_to_depth": [0, 1, 1]}]},
            "space_to_depth as three",
        ),
        ({"interpolated_kernel_size": [8, 8]}, "interpolated_kernel_size must be three integers"),
        ({"interpolated_kernel_size": [8, 8, 0]}, "interpolated_kernel_size must be at least 1"),
        ({"num_frozen_layers": 3}, "num_frozen_layers must be at most num_hidden_layers, 2, got 3"),
        ({"num_frozen_layers": 1, "num_extra_layers": 2}, "num_extra_layers=2.*num_frozen_layers=1"),
        ({"num_frozen_layers": -1}, "num_frozen_layers must be at least 0"),
        ({"num_frozen_layers": 1, "gate_layer": 0}, "gate_layer must be a trained layer.*1 to 1, got 0"),
        ({"gate_layer": 2}, "gate_layer must be a trained layer.*0 to 1, got 2"),
    ],
)
def test_invalid_options_raise(values, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny_config(**values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"position_embedding": "learned"},
        {**INTERPOLATED, "num_extra_layers": 2, "gate_layer": 1},
        {"pooling": "cls", "num_register_tokens": 2, "use_gated_mlp": True, "layerscale_value": 0.1},
        {"position_embedding": "transfer", "position_grid": [2, 2], "use_pre_layernorm": True},
    ],
)
def test_every_parameter_is_initialized(values):
    fill = torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = True  # with NaN
        model = TubeViTForVideoClassification(tiny_config(**values))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fill
    assert not [name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()]
