"""Named sizes: their parameter counts against the table of the paper's models."""

import pytest
import torch

from tubevit import TubeViTModel
from tubevit.presets import PRESETS, preset_config


# Encoder parameters in millions: the ViTs of "An Image is Worth 16x16 Words" and DeiT, as the paper's sizes have them.
ENCODER_MILLIONS = {"tiny": 5.5, "small": 21.5, "base": 85.5, "large": 303, "huge": 631}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_size_of_the_image_vits(name):
    with torch.device("meta"):
        model = TubeViTModel(preset_config(name))
    num_parameters = sum(parameter.numel() for parameter in model.layers.parameters())
    assert num_parameters / 1e6 == pytest.approx(ENCODER_MILLIONS[name], rel=0.04)
    assert model.config.num_tokens() == 539


def test_overrides_win():
    config = preset_config("tiny", num_hidden_layers=2, num_labels=7)
    assert (config.num_hidden_layers, config.num_labels, config.hidden_size) == (2, 7, 192)


def test_an_unknown_preset_is_named_with_its_neighbor():
    with pytest.raises(ValueError, match=r"no preset 'basse'; there are tiny, .*Did you mean 'base'"):
        preset_config("basse")
