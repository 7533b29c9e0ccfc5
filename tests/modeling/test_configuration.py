"""TubeViTConfig: the paper's defaults, a stable JSON form, and one clear error per wrong field."""

import json

import pytest
import torch
from tiny_models import TINY_TUBES, make_model, tiny_clips, tiny_config
from transformers import AutoConfig, AutoModelForVideoClassification, ViTConfig

from tubevit import (
    FactorizedViViTForVideoClassification,
    TubeViTConfig,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    UniFormerV2ForVideoClassification,
)
from tubevit.presets import uniformerv2_config, vivit_config
from tubevit.tubes import MAIN_TUBES


def test_defaults_are_the_main_configuration():
    config = TubeViTConfig()
    assert config.tubes == [{"space_to_depth": [1, 1, 1], **values} for values in MAIN_TUBES]
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert (config.num_frames, config.image_size, config.pooling) == (32, 224, "attention")
    assert config.num_tokens() == 539
    assert config.num_tokens(num_frames=64) == 1176
    assert config.num_image_tokens() == 196


def test_json_round_trip(tmp_path):
    config = tiny_config(image_size=(16, 24), image_mean=(0.1, 0.2, 0.3), pooling="cls")
    config.save_pretrained(tmp_path)
    loaded = TubeViTConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert AutoConfig.from_pretrained(tmp_path).to_json_string() == config.to_json_string()
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "tubevit"
    assert not any("table" in key for key in saved)


def test_defaults_of_offsets_and_scalar_pixel_statistics():
    config = tiny_config(image_std=0.25)
    assert config.tubes[0]["offset"] == [0, 0, 0]
    assert config.image_std == [0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ({"hidden_size": 0}, ["hidden_size", "0", "at least 1"]),
        ({"hidden_size": 25}, ["hidden_size", "25", "num_attention_heads", "4"]),
        ({"hidden_size": 4}, ["hidden_size", "4", "at least 6"]),
        ({"hidden_size": "768"}, ["hidden_size", "768", "int"]),
        ({"num_hidden_layers": -1}, ["num_hidden_layers", "-1"]),
        ({"num_attention_heads": True}, ["num_attention_heads", "True"]),
        ({"hidden_act": "gelo"}, ["hidden_act", "gelo", "gelu"]),
        ({"hidden_dropout_prob": 1.0}, ["hidden_dropout_prob", "1.0", "below 1"]),
        ({"classifier_dropout": float("nan")}, ["classifier_dropout", "nan"]),
        ({"layer_norm_eps": 0.0}, ["layer_norm_eps", "0.0", "above 0"]),
        ({"image_size": [16, 16, 16]}, ["image_size", "(height, width)"]),
        ({"image_size": 7}, ["Tube 2", "7", "smallest size"]),
        ({"num_frames": 5}, ["Tube 1", "5 frames", "needs 6"]),
        ({"num_frames": 0}, ["num_frames", "0"]),
        (
            {"problem_type": "single_label"},
            ["problem_type", "single_label_classification", "regression", "single_label"],
        ),
        ({"pooling": "max"}, ["pooling", "max", "attention", "mean", "cls"]),
        ({"image_mean": [0.5, 0.5]}, ["image_mean", "per channel", "3"]),
        ({"image_std": [0.5, 0.5, 0.0]}, ["image_std", "above 0"]),
        ({"rescale_factor": -1.0}, ["rescale_factor", "-1.0"]),
        ({"position_temperature": 1.0}, ["position_temperature", "above 1"]),
        ({"tubes": []}, ["tubes", "at least one"]),
        ({"tubes": [{"kernel_size": [1, 8, 8]}]}, ["tubes[0]", "stride"]),
        ({"tubes": [{"kernel_size": [1, 8], "stride": [1, 8, 8]}]}, ["tubes[0]", "kernel_size", "[1, 8]"]),
        ({"tubes": [{"kernel_size": [1, 8, 8], "stride": [0, 8, 8]}]}, ["tubes[0]", "stride", "[0, 8, 8]"]),
        ({"tubes": [{"kernel_size": [1, 8, 8], "stride": [1, 8, 8], "shift": 1}]}, ["tubes[0]", "shift", "offset"]),
        ({"num_frame": 8}, ["num_frame", "num_frames"]),
        ({"positions": "fixed"}, ["positions", "position_embedding"]),
        ({"depth": 12}, ["depth", "num_hidden_layers"]),
        ({"zzz": 12}, ["no field 'zzz'"]),
        ({"num_frames": "8"}, ["num_frames", "int", "8"]),
        ({"num_labels": "5"}, ["num_labels", "'5'"]),
        ({"num_labels": -1}, ["num_labels", "-1"]),
        ({"hidden_dropout_prob": "0.1"}, ["hidden_dropout_prob", "0.1"]),
        ({"initializer_range": float("inf")}, ["initializer_range", "inf"]),
        ({"num_frames": 10**30}, ["num_frames", "at most 1,000,000"]),
        ({"image_std": [1e-30, 0.5, 0.5]}, ["image_std", "1e-30", "65504"]),
        ({"num_labels": 2, "id2label": {0: "a", 2: "b"}}, ["id2label", "without a gap"]),
        ({"num_labels": 3, "id2label": {0: "a", 1: "b"}}, ["num_labels=3", "2 classes"]),
    ],
)
def test_invalid_fields_raise_with_value_and_remedy(wrong, parts):
    with pytest.raises(ValueError) as error:  # @strict raises another class, on two lines
        tiny_config(**wrong)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "model_class",
    [TubeViTForVideoClassification, UniFormerV2ForVideoClassification, FactorizedViViTForVideoClassification],
)
def test_float16_models_refuse_statistics_beyond_their_range(model_class):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    tokens = {"tubevit": {"tubes": TINY_TUBES}, "uniformerv2": {"patch_size": 8}}.get(
        model_class.config_class.model_type
    )
    fields = {**sizes, "image_size": 16, "num_frames": 8, "image_std": 1e-6, **(tokens or {"tubelet_size": [2, 8, 8]})}
    model = model_class(model_class.config_class(**fields)).eval()
    clips = tiny_clips(1, dtype=torch.uint8)
    assert model(pixel_values_videos=clips).logits.isfinite().all()
    with pytest.raises(ValueError, match=r"image_std=.*of 5.*e\+05, above 65504"):
        model.half()(pixel_values_videos=clips)


@pytest.mark.parametrize("make", [uniformerv2_config, vivit_config])
def test_other_families_refuse_unknown_fields_too(make):
    name = "uniformerv2-b16" if make is uniformerv2_config else "vivit-b16x2"
    with pytest.raises(ValueError, match="no field 'depth'; did you mean 'num_hidden_layers'"):
        make(name, depth=2)
    with pytest.raises(ValueError, match="num_hidden_layers"):
        make(name, num_hidden_layers="2")


OVERRIDES = {
    "num_frozen_layers": (7, "num_frozen_layers must be at most num_hidden_layers, 2, got 7"),
    "gate_layer": (9, "gate_layer must be a trained layer"),
    "num_frames": (2, "does not fit a clip of 2x16x16"),
    "image_size": (4, "does not fit"),
    "problem_type": ("multi", "problem_type"),
    "drop_path_rate": (float("nan"), "drop_path_rate"),
    "hidden_dropout_prob": ("0.1", "hidden_dropout_prob"),
    "tubes": ([{"kernel_size": [1, 8, 8], "stride": [1, 8, 8], "strides": 1}], "unknown key 'strides'"),
}


@pytest.mark.parametrize("field", OVERRIDES)
def test_overrides_are_checked_when_a_checkpoint_is_loaded_or_a_model_is_built(field, tmp_path):
    value, message = OVERRIDES[field]
    make_model(TubeViTForVideoClassification).save_pretrained(tmp_path)
    for load in (TubeViTForVideoClassification, AutoModelForVideoClassification, TubeViTConfig, AutoConfig):
        with pytest.raises(ValueError, match=message):
            load.from_pretrained(tmp_path, **{field: value})
    config = tiny_config()
    with pytest.raises(ValueError, match=message):
        setattr(config, field, value)
        TubeViTModel(config)


def test_overrides_replace_saved_labels(tmp_path):
    labels = {"num_labels": 2, "id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    tiny_config(**labels).save_pretrained(tmp_path)
    assert TubeViTConfig.from_pretrained(tmp_path, num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert TubeViTConfig.from_pretrained(tmp_path, num_labels=2).id2label == {0: "a", 1: "b"}
    assert not TubeViTConfig.from_pretrained(tmp_path, id2label={0: "c", 1: "d"}).label2id  # not those of a and b
    for inverse in ({"c": 0, "d": 1}, {"c": 0, "d": 1, "e": 2}):
        names = {index: name for name, index in inverse.items()}
        assert TubeViTConfig.from_pretrained(tmp_path, label2id=inverse).id2label == names
        assert TubeViTConfig(label2id=inverse).id2label == names
    with pytest.raises(ValueError, match="no field 'num_frame'; did you mean 'num_frames'"):
        TubeViTConfig.from_pretrained(tmp_path, num_frame=8)


def test_a_checkpoint_of_newer_code_loads_and_one_line_names_the_ignored_fields(tmp_path, caplog):
    model = make_model(TubeViTForJointClassification, heads={"a": {"modality": "video", "num_labels": 2}})
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    saved |= {"new_field": 3, "num_frame": 16}
    saved["tubes"][1]["dilation"] = [1, 1, 1]
    saved["heads"]["a"]["margin"] = 0.5
    path.write_text(json.dumps(saved))
    with caplog.at_level("WARNING"):
        loaded = TubeViTForJointClassification.from_pretrained(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    for name in (
        "new_field",
        "num_frame (the nearest known name is num_frames)",
        "tubes[1].dilation",
        "heads[a].margin",
    ):
        assert name in line
    assert "\n" not in line and not hasattr(loaded.config, "new_field")
    differ = {"dtype": None, "_name_or_path": None}
    assert loaded.config.to_dict() | differ == model.config.to_dict() | differ
    assert torch.equal(loaded(tiny_clips()).logits, model(tiny_clips()).logits)


def test_a_config_of_another_model_is_refused(tmp_path):
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model, not of 'tubevit'"):
        TubeViTConfig.from_pretrained(tmp_path)


def test_dtype_round_trip(tmp_path):
    tiny_config(dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert TubeViTConfig.from_pretrained(tmp_path).dtype == torch.bfloat16
