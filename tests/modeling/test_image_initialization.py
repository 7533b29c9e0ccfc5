"""UniFormerV2 from CLIP and ViViT from ViT: at first the video models compute what their image models do."""

import re

import pytest
import torch
from random_weights import randomize
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPForImageClassification,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    ViTConfig,
    ViTModel,
    VivitConfig,
    VivitForVideoClassification,
)

from tubevit import FactorizedViViTForVideoClassification, FactorizedViViTModel, UniFormerV2ForVideoClassification
from tubevit.checkpoint_files import read_state, write_flax_tree


CLIP_SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4}
CLIP_SIZES |= {"image_size": 32, "patch_size": 8}
VIT_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
VIT_SIZES |= {"image_size": 16, "patch_size": 4}


def clip(**overrides) -> CLIPVisionModel:
    return randomize(CLIPVisionModel(CLIPVisionConfig(**CLIP_SIZES | overrides)))


def vit() -> ViTModel:
    return randomize(ViTModel(ViTConfig(**VIT_SIZES), add_pooling_layer=False))


def clips(batch: int = 2, frames: int = 4, size: int = 32) -> torch.Tensor:
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_trunk_of_a_uniformerv2_is_clip(activation):
    tower = clip(hidden_act=activation)
    model = UniFormerV2ForVideoClassification.from_image_checkpoint(tower, num_labels=7).double()
    pixels = clips()
    with torch.no_grad():
        tokens = tower.double()(pixels.flatten(0, 1)).last_hidden_state
        ours = model.uniformerv2(pixels).last_hidden_state.view(tokens.shape)
        torch.testing.assert_close(ours, tokens, rtol=1e-11, atol=1e-12)
        class_token = tokens.view(2, 4, 17, 64)[:, :, 0].mean(1)
        expected = model.classifier(model.uniformerv2.layernorm(class_token / 2))
        torch.testing.assert_close(model(pixels).logits, expected, rtol=1e-11, atol=1e-12)
    assert model.config.global_layers == [2, 3, 4, 5] and model.config.num_labels == 7


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("design", ["global", "full"])
def test_frozen_models_train_the_added_parts_only(design, frozen):
    model = UniFormerV2ForVideoClassification.from_image_checkpoint(clip(), design=design, frozen=frozen, num_labels=3)
    trunk = ("embeddings.", "pre_layernorm.", "layers.")
    for name, parameter in model.named_parameters():
        in_trunk = name.removeprefix("uniformerv2.").startswith(trunk)
        assert parameter.requires_grad == (not (frozen and in_trunk)), name
    assert (model.uniformerv2.gate is None) == frozen
    assert model.config.temporal_downsampling == (design == "full")


def test_clip_of_transformers_files_and_openai_layout_give_the_same_model(tmp_path):
    tower = clip()
    expected = UniFormerV2ForVideoClassification.from_image_checkpoint(tower, num_labels=3)
    both = CLIPModel(
        CLIPConfig(text_config={"num_hidden_layers": 1, "hidden_size": 32}, vision_config=tower.config.to_dict())
    )
    both.vision_model.load_state_dict(tower.state_dict())
    both.save_pretrained(tmp_path / "clip")
    classifier, projected = CLIPForImageClassification(both.config), CLIPVisionModelWithProjection(tower.config)
    for each in (classifier, projected):
        each.vision_model.load_state_dict(tower.state_dict())
        each.save_pretrained(tmp_path / type(each).__name__)
    tower.save_pretrained(tmp_path / "tower")
    state = {key.removeprefix("backbone."): value for key, value in expected.to_reference().items()}
    openai = {
        f"visual.{key}": value
        for key, value in state.items()
        if "resblocks" in key or not key.startswith("transformer.")
    }
    openai["visual.conv1.weight"] = openai["visual.conv1.weight"][:, :, 0]
    openai |= {
        "visual.proj": torch.ones(64, 8),
        "visual.ln_post.weight": torch.ones(64),
        "token_embedding.weight": torch.ones(2, 2),
    }
    torch.save(openai, tmp_path / "openai.pt")
    visual = {key.removeprefix("visual."): value for key, value in openai.items() if key.startswith("visual.")}
    folders = (tmp_path / "CLIPForImageClassification", tmp_path / "CLIPVisionModelWithProjection")
    for source in (
        both,
        classifier,
        projected,
        *folders,
        tmp_path / "clip",
        tmp_path / "tower",
        tmp_path / "openai.pt",
        visual,
    ):
        model = UniFormerV2ForVideoClassification.from_image_checkpoint(
            source, num_labels=3, num_attention_heads=4, num_global_attention_heads=4
        )
        for module in ("layers", "embeddings", "pre_layernorm"):
            ours, theirs = (getattr(each.uniformerv2, module).state_dict() for each in (model, expected))
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs), source


def test_positions_of_another_image_size_are_interpolated():
    tower = clip()
    with torch.no_grad():
        tower.state_dict()["embeddings.position_embedding.weight"][1:] = torch.arange(64.0)  # the same at every place
    model = UniFormerV2ForVideoClassification.from_image_checkpoint(tower, num_labels=3, image_size=48)
    table = model.uniformerv2.embeddings.position_embeddings[0]
    assert table.shape == (37, 64)
    torch.testing.assert_close(table[1:], torch.arange(64.0).expand(36, 64))


@pytest.mark.parametrize("kernel_init", ["central", "average"])
def test_model_1_on_a_still_clip_of_one_tubelet_is_the_vit(kernel_init):
    source = vit()
    model = FactorizedViViTModel.from_image_checkpoint(
        source, factorization="spacetime", num_frames=2, kernel_init=kernel_init
    ).double()
    frame = clips(2, 1, 16)
    with torch.no_grad():
        expected = source.double()(frame[:, 0]).last_hidden_state
        torch.testing.assert_close(
            model(frame.repeat(1, 2, 1, 1, 1)).last_hidden_state, expected, rtol=1e-11, atol=1e-12
        )


def test_spatial_encoder_of_model_2_is_the_vit_with_a_zero_class_token():
    source = vit()
    model = FactorizedViViTModel.from_image_checkpoint(
        source, factorization="encoder", num_frames=2, temporal_num_hidden_layers=0
    ).double()
    frame = clips(2, 1, 16)
    assert not model.cls_token.any()
    with torch.no_grad():
        source.embeddings.cls_token.zero_()
        expected = source.double()(frame[:, 0]).last_hidden_state[:, 0]
        torch.testing.assert_close(model(frame.repeat(1, 2, 1, 1, 1)).pooler_output, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("how", ["copy", "zero_output", "new"])
def test_temporal_attention_of_model_3(how):
    source = vit()
    model = FactorizedViViTModel.from_image_checkpoint(
        source, factorization="self_attention", num_frames=4, temporal_attention_init=how
    )
    for layer in model.layers:
        space, time = layer.attention, layer.temporal_attention
        same = torch.equal(space.q_proj.weight, time.q_proj.weight)
        assert same == (how != "new")
        assert (not time.o_proj.weight.any()) == (how == "zero_output")
        assert torch.equal(layer.layernorm_temporal.weight, torch.ones(24))


@pytest.mark.parametrize("factorization", ["spacetime", "encoder", "self_attention", "dot_product"])
def test_scenic_and_library_vit_give_the_same_model(factorization, tmp_path):
    source, sizes = vit(), {"factorization": factorization, "num_frames": 4, "num_labels": 3}
    expected = FactorizedViViTForVideoClassification.from_image_checkpoint(source, **sizes)
    image = FactorizedViViTModel.from_image_checkpoint(source, factorization="spacetime", num_frames=2)
    arrays = image.to_scenic()
    arrays["embedding/kernel"] = arrays["embedding/kernel"][1]  # the central frame
    write_flax_tree(tmp_path / "checkpoint", {f"optimizer/target/{name}": value for name, value in arrays.items()})
    source.save_pretrained(tmp_path / "vit")
    for each in (tmp_path / "checkpoint", tmp_path / "vit"):
        model = FactorizedViViTForVideoClassification.from_image_checkpoint(each, **sizes)
        ours, theirs = model.state_dict(), expected.state_dict()
        new = ("temporal_layers", "temporal_positions")
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs if not any(each in name for each in new))


def test_positions_are_tiled_resized_or_both():
    source = vit()
    table = source.embeddings.position_embeddings[0, 1:]

    def positions(how, frames, size=16):
        model = FactorizedViViTModel.from_image_checkpoint(
            source, factorization="spacetime", pooling="mean", num_frames=frames, position_init=how, image_size=size
        )
        return model.positions.table[0]

    assert torch.equal(positions("tile", 8), table.repeat(4, 1))
    assert torch.equal(positions("resize_tile", 8), table.repeat(4, 1))
    assert positions("resize_tile", 8, 24).shape == (4 * 36, 24)
    resized = positions("resize", 8).view(8, 8, 24)  # 4x4x4 tokens as one grid of 8x8
    torch.testing.assert_close(
        resized[[0, 0, -1, -1], [0, -1, 0, -1]], table.view(4, 4, 24)[[0, 0, -1, -1], [0, -1, 0, -1]]
    )
    with pytest.raises(ValueError, match=r"needs a square number of tokens.*use 'resize_tile'"):
        positions("resize", 4)
    with pytest.raises(ValueError, match="frames have 6x6: use 'resize_tile'"):
        positions("tile", 8, 24)


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(ValueError, match="design must be one of"):
        UniFormerV2ForVideoClassification.from_image_checkpoint(clip(), design="local")
    with pytest.raises(ValueError, match="starts from a CLIP image encoder, and this is a ViTModel"):
        UniFormerV2ForVideoClassification.from_image_checkpoint(vit())
    with pytest.raises(ValueError, match="starts from a ViT, and this is a CLIPVisionModel"):
        FactorizedViViTForVideoClassification.from_image_checkpoint(clip())
    with pytest.raises(ValueError, match="kernel_init must be one of"):
        FactorizedViViTForVideoClassification.from_image_checkpoint(vit(), kernel_init="first")
    with pytest.raises(ValueError, match="patches of 4x4, and tubelet_size is"):
        FactorizedViViTForVideoClassification.from_image_checkpoint(vit(), tubelet_size=[2, 8, 8])
    broken = clip()
    with torch.no_grad():
        broken.state_dict()["embeddings.class_embedding"][0] = float("nan")
    with pytest.raises(ValueError, match="NaN or inf: class_embedding"):
        UniFormerV2ForVideoClassification.from_image_checkpoint(broken)


def drop_tensor(folder, part: str) -> None:
    """Remove the tensors with `part` in their names from a saved checkpoint."""
    path = folder / "model.safetensors"
    state = load_file(path)
    left = {name: value for name, value in state.items() if part not in name}
    assert 0 < len(left) < len(state)
    save_file(left, path, {"format": "pt"})


def test_library_checkpoints_of_another_type_or_without_a_tensor_are_refused(tmp_path):
    library_vivit = VivitForVideoClassification(
        VivitConfig(**VIT_SIZES | {"num_frames": 4, "tubelet_size": [2, 4, 4]}, num_labels=3)
    )
    loads = {
        "clip_vision_model": (clip(), UniFormerV2ForVideoClassification.from_image_checkpoint),
        "vit": (vit(), FactorizedViViTForVideoClassification.from_image_checkpoint),
        "vivit": (library_vivit, FactorizedViViTForVideoClassification.from_vivit),
    }
    for name, (model, _) in loads.items():
        model.save_pretrained(tmp_path / name)
    for name, (_, load) in loads.items():
        other = "vivit" if name != "vivit" else "vit"
        with pytest.raises(ValueError, match=f"model_type '{other}', and a checkpoint of model_type '{name}'"):
            load(tmp_path / other)
        load(tmp_path / name)
        drop_tensor(tmp_path / name, "embeddings.cl")  # the class token
        with pytest.raises(ValueError, match=r"not a complete .*1 of its tensors are missing.*embeddings.cl"):
            load(tmp_path / name)


@pytest.mark.parametrize("image", [False, True], ids=["vivit", "vit"])
@pytest.mark.parametrize("prefix", ["optimizer/target/", "params/", ""])
def test_moments_of_the_optimizer_are_not_weights(prefix, image, tmp_path):
    model = FactorizedViViTModel.from_image_checkpoint(vit(), factorization="spacetime", num_frames=2)
    arrays = {name: value.contiguous() for name, value in model.to_scenic().items()}
    arrays["output_projection/kernel"], arrays["output_projection/bias"] = torch.zeros(24, 3), torch.zeros(3)
    if image:
        arrays["embedding/kernel"] = arrays["embedding/kernel"][1]
    others = ("opt_state/0/trace/", "optimizer/state/param_states/", "opt_state/1/mu/", "opt_state/1/nu/")
    state = {f"{other}{name}": torch.full_like(value, 9) for other in others for name, value in arrays.items()}
    state |= {f"{prefix}{name}": value for name, value in arrays.items()}
    write_flax_tree(tmp_path / "checkpoint", state)
    for source in (tmp_path / "checkpoint", read_state(tmp_path / "checkpoint")):
        if image:
            loaded = FactorizedViViTModel.from_image_checkpoint(source, factorization="spacetime", num_frames=2)
        else:
            loaded = FactorizedViViTModel.from_scenic(source, num_frames=2)
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    twice = {f"{prefix}{name}": value for prefix in ("first/", "second/") for name, value in arrays.items()}
    with pytest.raises(ValueError, match="parameters of several models, under first/, second/"):
        FactorizedViViTModel.from_scenic(twice, num_frames=2)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("positional_embedding", torch.ones(16, 64), "16 positions, which are not a class token and a square grid"),
        ("positional_embedding", torch.ones(17, 32), "positional_embedding of the source has the shape"),
        ("class_embedding", torch.ones(1, 64), "class_embedding must have 1 dimensions"),
        ("conv1.weight", torch.ones(64, 3, 64), "conv1.weight must have 4 or 5 dimensions"),
        ("conv1.weight", torch.ones(32, 3, 8, 8), "conv1.weight of the source has the shape"),
        ("transformer.resblocks.0.mlp.c_fc.weight", torch.ones(64, 96), "c_fc.weight of the source has the shape"),
        (
            "transformer.resblocks.1.attn.in_proj_weight",
            torch.ones(96, 128),
            "in_proj_weight of the source has the shape",
        ),
    ],
)
def test_tensors_of_another_shape_are_named(name, tensor, message):
    model = UniFormerV2ForVideoClassification.from_image_checkpoint(clip(num_attention_heads=1), num_labels=3)
    state = {key.removeprefix("backbone."): value for key, value in model.to_reference().items()}
    added = re.compile(r"transformer\.(?!resblocks)")
    state = {key: value for key, value in state.items() if not added.match(key)}
    state["conv1.weight"] = state["conv1.weight"][:, :, 0]
    UniFormerV2ForVideoClassification.from_image_checkpoint(state)
    with pytest.raises(ValueError, match=message):
        UniFormerV2ForVideoClassification.from_image_checkpoint(state | {name: tensor})


@pytest.mark.parametrize("factorization", ["spacetime", "encoder", "self_attention", "dot_product"])
def test_fsdp_finds_every_class_that_it_wraps(factorization):
    model = FactorizedViViTForVideoClassification.from_image_checkpoint(
        vit(), factorization=factorization, num_frames=4
    )
    for each in (model, model.factorized_vivit):
        assert set(each._no_split_modules) == {type(module).__name__ for module in each.modules()} & {
            "FactorizedViViTEmbeddings",
            "FactorizedViViTLayer",
            "FactorizedViViTTwoAttentionsLayer",
        }
