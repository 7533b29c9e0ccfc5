"""TubeViTConfig: the paper's defaults, a stable JSON form, and one clear error per wrong field."""

import json

import pytest
import torch
from tiny_models import tiny_config
from transformers import AutoConfig, ViTConfig

from tubevit import TubeViTConfig
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
    ],
)
def test_invalid_fields_raise_with_value_and_remedy(wrong, parts):
    with pytest.raises(Exception) as error:
        tiny_config(**wrong)
    for part in parts:
        assert part in str(error.value)


def test_a_config_of_another_model_is_refused(tmp_path):
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model, not of 'tubevit'"):
        TubeViTConfig.from_pretrained(tmp_path)


def test_dtype_round_trip(tmp_path):
    tiny_config(dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert TubeViTConfig.from_pretrained(tmp_path).dtype == torch.bfloat16
