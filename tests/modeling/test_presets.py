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


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_random_weights_have_the_same_scale_at_each_width(name):
    """The first layer changes its input by the input's own norm; with 0.02 for all widths by 9, 19 and 41 % of it."""
    torch.manual_seed(0)
    config = preset_config(name, num_hidden_layers=1, num_frames=32, image_size=64)
    assert (config.initializer_range, config.kernel_initialization) == (round(config.hidden_size**-0.5, 4), "fan_in")
    model = TubeViTModel(config).eval()
    with torch.no_grad():
        before, after = model(torch.randn(1, 32, 3, 64, 64), output_hidden_states=True).hidden_states
    assert 0.8 < (after - before).norm() / before.norm() < 1.4


def test_fields_of_the_initialization_take_precedence():
    config = preset_config("tiny", hidden_size=96, kernel_initialization="normal")
    assert (config.initializer_range, config.kernel_initialization) == (0.1021, "normal")
    assert preset_config("tiny", initializer_range=0.02).initializer_range == 0.02
