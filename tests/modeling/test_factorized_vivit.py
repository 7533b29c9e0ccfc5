"""ViViT's Models 1 to 4: equal to a plain statement of Scenic, and the laws of their factorizations."""

import json

import pytest
import torch
from random_weights import randomize
from reference_vivit import logits as reference_logits
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification, VivitConfig, VivitForVideoClassification

from tubevit import FactorizedViViTConfig, FactorizedViViTForVideoClassification, FactorizedViViTModel
from tubevit.modeling_factorized_vivit import resize_positions
from tubevit.presets import VIVIT_PRESETS, vivit_config
from tubevit.vivit_conversion import load_scenic


SMALL = {
    **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "num_labels": 5},
    **{"image_size": [12, 18], "tubelet_size": [2, 4, 6], "num_frames": 8, "temporal_num_hidden_layers": 3},
    **{"temporal_num_attention_heads": 3, "temporal_intermediate_size": 32},
}
MODELS = {
    "1": {"factorization": "spacetime"},
    "1 mean": {"factorization": "spacetime", "pooling": "mean"},
    "2": {"factorization": "encoder"},
    "2 mean": {"factorization": "encoder", "pooling": "mean"},
    "2 average": {"factorization": "encoder", "temporal_num_hidden_layers": 0},
    "3 time first": {"factorization": "self_attention"},
    "3 space first": {"factorization": "self_attention", "attention_order": "space_time"},
    "4": {"factorization": "dot_product"},
}
# Numbers of frames with an even and with an odd number of temporal positions, and twice the first.
LENGTHS = (4, 6, 8)
SCENIC_NAMES = {
    "spacetime": "spacetime",
    "factorized_encoder": "encoder",
    "factorized_self_attention_block": "self_attention",
    "factorized_dot_product_attention": "dot_product",
}


def small_model(name: str, model_class=FactorizedViViTForVideoClassification, **overrides):
    torch.manual_seed(0)
    return randomize(model_class(FactorizedViViTConfig(**SMALL | MODELS[name] | overrides)))


def clips(batch: int = 2, frames: int = 8, height: int = 12, width: int = 18) -> torch.Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("name", MODELS)
def test_model_equals_the_plain_statement_in_float64(name, frames, attention):
    model = small_model(name, num_frames=frames).double()
    model.set_attn_implementation(attention)
    pixels = clips(frames=frames).double()
    with torch.no_grad():
        expected = reference_logits(
            model.to_scenic(), pixels, model.config.factorization, model.config.attention_order
        )
        torch.testing.assert_close(model(pixels).logits, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_float32_is_as_exact_as_the_plain_statement_in_float32(name):
    model, pixels = small_model(name), clips(8)
    with torch.no_grad():
        ours = model(pixels).logits
        theirs, exact = (
            reference_logits(
                each.to_scenic(), pixels.to(each.dtype), model.config.factorization, model.config.attention_order
            )
            for each in (model, small_model(name).double())
        )
    assert (ours - exact).abs().max() <= 20 * (theirs - exact).abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_flex_attention_equals_eager(name):
    """Without compilation, which takes seconds for each shape."""
    model, logits = small_model(name), {}
    for attention in ("eager", "flex_attention"):
        model.set_attn_implementation(attention)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            logits[attention] = model(clips()).logits
    torch.testing.assert_close(logits["eager"], logits["flex_attention"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["model1_mean", "model2", "model2_mean", "model3_space_time", "model3_time_space", "model4"]
)
def test_model_equals_the_values_of_scenic(name, shared_data):
    path = shared_data / "golden" / f"vivit_{name}.safetensors"
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    state = {key.removeprefix("param."): value for key, value in golden.items() if key.startswith("param.")}
    model = load_scenic(
        FactorizedViViTForVideoClassification,
        state,
        factorization=SCENIC_NAMES[config["kind"]],
        image_size=[config["height"], config["width"]],
        attention_order=config.get("order"),
    ).double()
    with torch.no_grad():
        output = model(golden["clip"].permute(0, 1, 4, 2, 3)).logits
    torch.testing.assert_close(output, golden["logits"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("preset", "overrides", "num_parameters"),
    [
        ("vivit-b16x2", {}, 88_954_000),
        ("vivit-b16x2-fe", {}, 115_062_928),
        ("vivit-b16x2-fsa", {}, 117_319_312),
        ("vivit-b16x2-fdp", {}, 88_952_464),
        ("vivit-l16x2-fe", {}, 606_827_920),
        ("vivit-l16x2-fe", {"temporal_num_hidden_layers": 4}, 354_903_440),
    ],
)
def test_presets_have_the_parameters_of_section_2_3(preset, overrides, num_parameters):
    with torch.device("meta"):
        model = FactorizedViViTForVideoClassification(vivit_config(preset, num_labels=400, **overrides))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert len(VIVIT_PRESETS) == 5


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_and_pixel_gets_a_gradient(name, frames):
    model = small_model(name, num_frames=frames).train()
    pixels = clips(frames=frames).requires_grad_()
    model(pixels, labels=torch.tensor([0, 3])).loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
    assert pixels.grad.isfinite().all() and pixels.grad.abs().amax((2, 3, 4)).gt(0).all()


@pytest.mark.parametrize("axis", ["time", "rows", "columns"])
@pytest.mark.parametrize("frames", [8, 10])
@pytest.mark.parametrize("name", ["1 mean", "3 time first", "3 space first", "4"])
def test_without_positions_the_order_of_times_and_places_does_not_matter(name, frames, axis):
    model = small_model(name, interpolate_positions=True).double()
    with torch.no_grad():
        model.factorized_vivit.positions.table.zero_()
        pixels = clips(frames=frames, height=16, width=24).double()
        # Whole tubelets are permuted: 4 or 5 of 2 frames, 4 rows of 4 pixels, or 4 columns of 6 pixels.
        dim, size = {"time": (1, 2), "rows": (3, 4), "columns": (4, 6)}[axis]
        tubelets = pixels.split(size, dim)
        permuted = torch.cat([tubelets[index] for index in (2, 0, 3, 1, 4)[: len(tubelets)]], dim)
        torch.testing.assert_close(model(permuted).logits, model(pixels).logits, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("name", MODELS)
def test_permuting_clips_permutes_logits(name, frames):
    model = small_model(name, num_frames=frames).double()
    pixels, order = clips(3, frames).double(), [2, 0, 1]
    with torch.no_grad():
        logits = model(pixels).logits
        torch.testing.assert_close(model(pixels[order]).logits, logits[order], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            model(pixels[:1]).logits, logits[:1], rtol=1e-12, atol=1e-12
        )  # clips see only themselves


def test_with_positions_the_order_of_times_matters():
    model = small_model("4")
    with torch.no_grad():
        assert not torch.allclose(model(clips()).logits, model(clips().flip(1)).logits, atol=1e-3)


@pytest.mark.parametrize("frames", LENGTHS)
def test_model_2_without_a_temporal_encoder_is_the_mean_of_its_spatial_encoder(frames):
    model = small_model("2 average", FactorizedViViTModel, num_frames=frames).double()
    pixels = clips(frames=frames).double()
    with torch.no_grad():
        pooled = model(pixels).pooler_output
        still = [model(each.repeat(1, frames // 2, 1, 1, 1)).pooler_output for each in pixels.split(2, dim=1)]
    torch.testing.assert_close(pooled, torch.stack(still).mean(0), rtol=1e-11, atol=1e-12)


def test_spatial_encoder_of_model_2_sees_one_temporal_index():
    model = small_model("2 average", FactorizedViViTModel)
    changed = clips(1)
    changed[:, 2:4] += 1
    with torch.no_grad():
        difference = model(clips(1)).last_hidden_state - model(changed).last_hidden_state
    assert [index for index in range(4) if difference[0, index].abs().max() > 0] == [1]


@pytest.mark.parametrize("frames", LENGTHS)
def test_model_1_is_the_vivit_of_transformers(frames):
    theirs = randomize(
        VivitForVideoClassification(
            VivitConfig(
                **{
                    "image_size": 12,
                    "num_frames": frames,
                    "tubelet_size": [2, 4, 4],
                    "num_labels": 5,
                    "hidden_size": 24,
                },
                **{"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40},
                hidden_act="gelu_pytorch_tanh",  # their gelu_fast has a rounded constant
            )
        )
    ).double()
    sizes = {"image_size": 12, "num_frames": frames, "tubelet_size": [2, 4, 4]}
    ours = FactorizedViViTForVideoClassification.from_vivit(theirs).double()
    assert {key: getattr(ours.config, key) for key in sizes} == sizes
    pixels = clips(2, frames, 12, 12).double()
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).logits, theirs(pixels).logits, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["1", "2", "4"])
def test_stochastic_depth_does_not_rescale_survivors(name):
    model = small_model(name, drop_path_rate=0.5).train()
    layer = model.factorized_vivit.first_layers[-1]
    pairs = []
    layer.drop_path.register_forward_hook(lambda module, args, output: pairs.append((args[0], output)))
    torch.manual_seed(0)
    model(clips(8))
    for branch, output in pairs:
        kept = output.flatten(1).abs().amax(1) > 0
        assert 0 < kept.sum() < 8
        assert torch.equal(output[kept], branch[kept])
    assert model.factorized_vivit.first_layers[0].drop_path.rate == 0


def test_recorded_outputs_of_both_axes():
    expected = {
        "1": ([(2, 4, 37, 37)] * 2, None, None),
        "2": ([(8, 4, 10, 10)] * 2, [(2, 3, 5, 5)] * 3, [(2, 5, 24)] * 3),
        "2 average": ([(8, 4, 10, 10)] * 2, None, None),
        "3 time first": ([(8, 4, 9, 9)] * 2, [(18, 4, 4, 4)] * 2, None),
        "4": ([(8, 2, 9, 9)] * 2, [(18, 2, 4, 4)] * 2, None),
    }
    for name, (attentions, temporal_attentions, temporal_states) in expected.items():
        model = small_model(name)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            output = model(clips(), output_attentions=True, output_hidden_states=True)
        for recorded, shapes in (
            (output.attentions, attentions),
            (output.temporal_attentions, temporal_attentions),
            (output.temporal_hidden_states, temporal_states),
        ):
            assert (recorded and [tuple(each.shape) for each in recorded]) == shapes, name
        assert len(output.hidden_states) == 3


def test_positions_are_resized_only_when_asked():
    """The error names the sizes that fit."""
    model = small_model("1")
    for pixels, given, fits in (
        (clips(frames=4), "4 frames", "8 frames"),
        (clips(width=36), "36 pixels of width", "18 pixels of width"),
    ):
        message = f"clip has {given}, and the positions .* for {fits}: give clips of {fits}, or set interpolate_positions=True"
        for name in ("1", "2"):
            with pytest.raises(ValueError, match=message):
                small_model(name)(pixels)
        with torch.no_grad():
            assert model(pixels, interpolate_positions=True).logits.isfinite().all()
    with torch.no_grad():
        assert torch.equal(model(clips(), interpolate_positions=True).logits, model(clips()).logits)


def test_resized_positions_keep_what_is_constant_along_an_axis():
    table = torch.randn(1, 4 * 3 * 5, 8, dtype=torch.float64)
    over_time = table.view(4, 3, 5, 8)[:, :1, :1].expand(4, 3, 5, 8).reshape(1, -1, 8)
    resized = resize_positions(over_time, (4, 3, 5), (4, 6, 9)).view(4, 6, 9, 8)
    torch.testing.assert_close(resized, table.view(4, 3, 5, 8)[:, :1, :1].expand(4, 6, 9, 8))
    over_space = table.view(4, 3, 5, 8)[:1].expand(4, 3, 5, 8).reshape(1, -1, 8)
    torch.testing.assert_close(
        resize_positions(over_space, (4, 3, 5), (7, 3, 5)).view(7, 3, 5, 8),
        table.view(4, 3, 5, 8)[:1].expand(7, 3, 5, 8),
    )


def test_frozen_layers_get_no_gradient():
    model = small_model("2", num_frozen_layers=1).train()
    model(clips(), labels=torch.tensor([0, 1])).loss.backward()
    frozen = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    prefixes = ("embeddings", "positions", "cls_token", "spatial_layers.0")
    assert frozen and all(name.removeprefix("factorized_vivit.").startswith(prefixes) for name in frozen)
    assert any("spatial_layers.0" in name for name in frozen) and any("cls_token" in name for name in frozen)


@pytest.mark.parametrize("name", MODELS)
def test_checkpointing_saving_and_uint8(name, tmp_path):
    model = small_model(name)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(loaded) is FactorizedViViTForVideoClassification
    raw = torch.randint(0, 256, (2, 8, 3, 12, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(raw).logits, model(raw / 127.5 - 1).logits, rtol=1e-4, atol=1e-5)
    loaded.train().activation_checkpointing_enable()
    for each in (loaded, model.train()):
        each(clips(), labels=torch.tensor([1, 2])).loss.backward()
    for (parameter_name, first), (_, second) in zip(loaded.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, msg=parameter_name)


@pytest.mark.parametrize("name", ["1", "2", "3 time first", "4"])
def test_compiled_model_equals_eager(name):
    model = small_model(name)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(pixel_values_videos=clips()).logits, model(clips()).logits, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["1", "2", "3 time first", "4"])
def test_exported_model_has_a_dynamic_batch(name):
    model, batch = small_model(name), torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(
        model, (), {"pixel_values_videos": clips(2)}, dynamic_shapes={"pixel_values_videos": {0: batch}}, strict=False
    ).module()
    with torch.no_grad():
        torch.testing.assert_close(
            exported(pixel_values_videos=clips(5)).logits, model(clips(5)).logits, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["1", "2", "3 time first", "4"])
def test_half_precision_model(name, dtype, tmp_path):
    """Raw pixels are normalized in float32, so that they are as exact as normalized ones."""
    model = small_model(name)
    model.save_pretrained(tmp_path)
    half = FactorizedViViTForVideoClassification.from_pretrained(tmp_path, dtype=dtype)
    raw = torch.randint(0, 256, (2, 8, 3, 12, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = half(raw).logits
        assert torch.equal(logits, half(raw / 127.5 - 1).logits)
        torch.testing.assert_close(logits.float(), model(raw).logits, rtol=0.1, atol=0.1)


@pytest.mark.filterwarnings("ignore:The following device_map keys")  # accelerate looks for modules only
@pytest.mark.parametrize("name", MODELS)
def test_layers_on_disk_give_the_same_logits(name, tmp_path):
    """device_map with the first layer of each encoder offloaded."""
    model = small_model(name)
    model.save_pretrained(tmp_path)
    layers = [
        each for each in ("layers", "spatial_layers", "temporal_layers") if hasattr(model.factorized_vivit, each)
    ]
    parts = [part for part, _ in model.factorized_vivit.named_children() if part not in layers]
    device_map = dict.fromkeys((*parts, "cls_token", "temporal_cls_token"), "cpu")
    for part in layers:
        indices = range(len(getattr(model.factorized_vivit, part)))
        device_map |= {f"{part}.{index}": "cpu" if index else "disk" for index in indices}
    device_map = {f"factorized_vivit.{part}": device for part, device in device_map.items()} | {"classifier": "cpu"}
    loaded = FactorizedViViTForVideoClassification.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload"
    ).eval()
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu", "meta"}
    with torch.no_grad():
        assert torch.equal(loaded(clips()).logits, model(clips()).logits)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"factorization": "dot_product", "num_attention_heads": 3}, "even num_attention_heads"),
        ({"factorization": "dot_product", "pooling": "cls"}, "has no class token"),
        ({"factorization": "self_attention", "drop_path_rate": 0.1}, "has no stochastic depth"),
        ({"num_frames": 7}, "use 8"),
        ({"image_size": [12, 20]}, "width must be a multiple of 6.*use 18"),
        ({"tubelet_size": [2, 4]}, "three integers"),
        ({"temporal_num_attention_heads": 5}, "multiple of temporal_num_attention_heads"),
        ({"num_frozen_layers": 3}, "at most num_hidden_layers"),
        ({"temporal_layers": 3, "num_frame": 8}, "did you mean 'num_frames'"),
        ({"hidden_act": "gellu"}, "hidden_act must be one of"),
        ({"layer_norm_eps": 0.0}, "above 0"),
    ],
)
def test_config_refuses_what_cannot_be_built(overrides, message):
    with pytest.raises(ValueError, match=message):
        FactorizedViViTConfig(**SMALL | overrides)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 7, 3, 12, 18), "num_frames must be a multiple of 2.*use 8"),
        ((2, 8, 3, 13, 18), "height must be a multiple of 4.*use 12"),
        ((2, 8, 4, 12, 18), "3 channels"),
        ((0, 8, 3, 12, 18), r"is empty: its shape is \(0, 8, 3, 12, 18\)"),
    ],
)
def test_forward_refuses_clips_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        small_model("1")(torch.zeros(shape), interpolate_positions=True)
