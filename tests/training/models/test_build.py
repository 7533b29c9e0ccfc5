"""The model of a run: fields of its config, type and values of its weights, and the scaled model of the paper."""

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_image_models import make_source
from tiny_models import TINY_TUBES, make_model, tiny_clips
from transformers import ViTConfig, ViTModel
from video_classifiers import CLASSES, save_peer, save_tubevit

from tubevit import TubeViTForJointClassification
from tubevit.presets import preset_config
from tubevit.training.data.video_datasets import VideoData
from tubevit.training.models.build import load_run_config
from tubevit.training.models.build import make_model as make_run_model
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.model_options import ClipConfig, ModelConfig
from tubevit.training.trainer.run_config import RECIPES
from tubevit.training.trainer.summary import describe_precision


DATA = VideoData({}, CLASSES, "video", False, None)
CLIPS = {"num_frames": 8, "image_size": 16}


def build(clips: dict | None = None, **options):
    config = ModelConfig(**options)
    return make_run_model(config, ClipConfig(**CLIPS if clips is None else clips), DATA, load_run_config(config))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders of a TubeViT, a VideoMAE, and an image ViT whose weights are float16."""
    root = tmp_path_factory.mktemp("sources")
    save_tubevit(root / "tubevit")
    save_peer(root / "videomae", "videomae")
    make_source("vit").half().save_pretrained(root / "vit")
    return root


STARTS = {"preset": {"preset": "tiny"}} | {
    name: {"model_name_or_path": name} for name in ("tubevit", "videomae", "vit")
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("name", "nearest"),
    [("num_hiden_layers", "num_hidden_layers"), ("embed_dim", "hidden_size"), ("from_dict", None), ("zzz", None)],
)
def test_an_unknown_field_in_model_config_is_refused_with_the_nearest_name(start, name, nearest, sources):
    options = dict(STARTS[start])
    if "model_name_or_path" in options:
        options["model_name_or_path"] = str(sources / start)
    expected = f"no field '{name}'|^{name} is not a field"
    with pytest.raises(ValueError, match=expected) as error:
        build(**options, model_config={name: 3}, clips={})
    assert "\n" not in str(error.value) and (nearest is None or f"did you mean {nearest!r}" in str(error.value))


def test_positions_is_no_field_of_a_config(sources):
    """It is an argument of the conversion of image models; a preset and a checkpoint kept it as an attribute without effect."""
    for options in ({"preset": "tiny"}, {"model_name_or_path": str(sources / "tubevit")}):
        with pytest.raises(ValueError, match="no field 'positions'; did you mean 'position_embedding'"):
            build(**options, model_config={"positions": "fixed"})


@pytest.mark.parametrize(
    "name", ["dtype", "torch_dtype", "num_labels", "id2label", "problem_type", "attn_implementation"]
)
def test_what_other_options_decide_cannot_be_set_in_model_config(name):
    with pytest.raises(ValueError, match=rf"model_config.{name}=.* cannot be set: "):
        build(preset="tiny", model_config={name: "float16"})


@pytest.mark.parametrize("name", ["tubevit", "videomae"])
def test_weights_with_nan_are_refused_in_training_and_evaluation(name, sources, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    for path in (sources / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    key = next(each for each in weights if each.endswith("q_proj.weight") or each.endswith("query.weight"))
    weights[key][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (
        lambda: load_video_classifier(str(folder), {}),
        lambda: build(model_name_or_path=str(folder), clips={}),
    ):
        with pytest.raises(ValueError, match=r"1 tensors contain NaN or inf \(.*(query|q_proj)"):
            load()


def test_half_precision_sources_are_trained_in_float32(sources, tmp_path):
    """Image models, small models with tubes, and video models that are stored in half precision."""
    tubes = {"model_config": {"tubes": TINY_TUBES[:2]}, "clips": CLIPS}
    model = build(model_name_or_path=str(sources / "vit"), **tubes).model
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert describe_precision(model, "no") == "weights float32, arithmetic float32 (mixed_precision=no)"
    assert describe_precision(model, "bf16") == "weights float32, arithmetic bfloat16 (mixed_precision=bf16)"
    optimizer = torch.optim.AdamW(model.parameters())
    output = model(pixel_values_videos=tiny_clips(size=32), labels=torch.tensor([0, 1]))
    output.loss.backward()
    optimizer.step()
    moments = {each.dtype for state in optimizer.state.values() for each in state.values() if torch.is_tensor(each)}
    assert moments == {torch.float32}

    make_model(TubeViTForJointClassification, heads={"v": {"modality": "video", "num_labels": 2}}).to(
        torch.bfloat16
    ).save_pretrained(tmp_path / "small")
    scaled = build(
        model_name_or_path=str(sources / "vit"), tube_checkpoint=str(tmp_path / "small"), num_frozen_layers=1, clips={}
    ).model
    assert {each.dtype for each in scaled.parameters()} == {torch.float32}


def test_the_recipe_of_the_scaled_vit_h_resolves(tmp_path):
    """Both recipes at an eighth of the widths: 26 of 32 layers frozen, the gate after them, the small model's kernels."""
    names = ("joint-imagenet-kinetics-tiny", "kinetics-huge-scaled")
    recipes = [yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) for name in names]
    small_fields, large_fields = (recipe["model"] for recipe in recipes)
    eighth = {name: value // 8 for name, value in small_fields["model_config"].items() if name.endswith("_size")}
    fields = {**small_fields["model_config"], **eighth, "num_hidden_layers": 1}
    heads = {"kinetics": {"modality": "video", "num_labels": 3}, "imagenet1k": {"modality": "image", "num_labels": 2}}
    config = preset_config(small_fields["preset"], **fields, heads=heads)
    small = make_model(TubeViTForJointClassification, config)
    small.save_pretrained(tmp_path / "small")
    sizes = {"hidden_size": 160, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes, patch_size=14, image_size=224)).save_pretrained(tmp_path / "large")

    large_fields |= {"model_name_or_path": str(tmp_path / "large"), "tube_checkpoint": str(tmp_path / "small")}
    run = build(recipes[1]["clips"], **large_fields)
    model, config = run.model, run.model.config
    assert (config.num_frozen_layers, config.gate_layer, config.position_embedding) == (26, 26, "fixed")
    assert config.num_tokens() == 1296 and model.tubevit.gate.alpha.item() == 0
    trained = {
        name.split(".")[2] for name, each in model.named_parameters() if each.requires_grad and ".layers." in name
    }
    assert trained == {str(index) for index in range(26, 32)}
    for index in range(3):
        weight = small.tubevit.embeddings.projections[index].weight
        assert torch.equal(model.tubevit.embeddings.projections[index].weight, weight)
