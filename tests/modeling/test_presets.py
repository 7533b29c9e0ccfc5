"""Presets: parameter counts of the named sizes, and errors."""

import pytest
import torch

from tubevit import TubeViTModel
from tubevit.presets import PRESETS, preset_config


# Encoder parameters in millions of the ViTs of "An Image is Worth 16x16 Words" and DeiT; the paper's sizes have as many.
ENCODER_MILLIONS = {"tiny": 5.5, "small": 21.5, "base": 85.5, "large": 303, "huge": 631}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_size_of_the_image_vits(name):
    with torch.device("meta"):
        model = TubeViTModel(preset_config(name))
    num_parameters = sum(parameter.numel() for parameter in model.layers.parameters())
    assert num_parameters / 1e6 == pytest.approx(ENCODER_MILLIONS[name], rel=0.04)
    assert model.config.num_tokens() == 539


def test_overrides_take_precedence_over_the_preset():
    config = preset_config("tiny", num_hidden_layers=2, num_labels=7)
    assert (config.num_hidden_layers, config.num_labels, config.hidden_size) == (2, 7, 192)


def test_unknown_preset_raises_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"no preset 'basse'; there are tiny, .*Did you mean 'base'"):
        preset_config("basse")
