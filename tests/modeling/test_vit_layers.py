"""The encoder blocks work with any config: the tests use configs of models in Transformers."""

import pytest
import torch
from torch import nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer

from tubevit.vit_layers import VisionAttention, VisionGatedMLP, VisionLayer, VisionMLP, drop_path_rates


SIZES = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40}


def make_layer(config: ViTConfig, **options) -> VisionLayer:
    torch.manual_seed(0)
    layer = VisionLayer(config, **options).double().eval()
    for parameter in layer.parameters():
        parameter.data.normal_(std=0.3)
    return layer


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_pytorch_tanh", "quick_gelu"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_a_vit_config_the_block_is_transformers_vit_layer(hidden_act, attention):
    config, library_config = (
        ViTConfig(**SIZES, hidden_act=hidden_act, layer_norm_eps=1e-5, qkv_bias=False) for _ in range(2)
    )
    # The eager softmax of Transformers is in float32 even for a float64 model.
    config._attn_implementation, library_config._attn_implementation = attention, "sdpa"
    layer, reference = make_layer(config), ViTLayer(library_config).double().eval()
    reference.load_state_dict(layer.state_dict())
    states = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(states), reference(states), rtol=0, atol=1e-12)


def test_a_block_can_have_its_own_head_count_and_mlp_width():
    """The two encoders of a factorized model share a config: a block of its own sizes equals that of a config with them."""
    config = ViTConfig(**SIZES)
    layer = make_layer(config, num_heads=2, intermediate_size=56)
    other = make_layer(ViTConfig(hidden_size=24, num_attention_heads=2, intermediate_size=56))
    states = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(states), other(states), rtol=0, atol=0)
    assert layer.mlp.fc1.out_features == 56
    assert not torch.allclose(layer(states), make_layer(config, intermediate_size=56)(states))


def test_a_family_can_use_its_own_attention_and_mlp():
    class WithinFrames(VisionAttention):
        """Attention within each of two frames, for tokens `(batch, 2 * tokens of a frame, hidden_size)`."""

        def forward(self, hidden_states, rotary=None, attention_bias=None, **kwargs):
            frames = hidden_states.unflatten(1, (2, -1)).flatten(0, 1)
            output, weights = super().forward(frames, rotary, attention_bias, **kwargs)
            return output.unflatten(0, (-1, 2)).flatten(1, 2), weights

    config = ViTConfig(**SIZES, layerscale_value=0.1)
    layer = make_layer(config, attention_class=WithinFrames, mlp_class=VisionGatedMLP, use_layer_scale=True)
    states = torch.randn(3, 10, 24, dtype=torch.float64)
    changed = states.clone()
    changed[:, 5:] += 1
    assert torch.equal(layer(states)[:, :5], layer(changed)[:, :5])
    assert not torch.allclose(layer(states)[:, 5:], layer(changed)[:, 5:])
    layer(states).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def gradients(mlp, inputs, device_type="cpu", **autocast):
    mlp.zero_grad()
    inputs.grad = None
    with torch.autocast(device_type, **autocast):
        outputs = mlp(inputs)
    outputs.float().pow(2).sum().backward()
    return [outputs.detach(), inputs.grad, *(parameter.grad.clone() for parameter in mlp.parameters())]


def num_saved(mlp, inputs):
    """The number of tensors of the width between the layers that the backward pass keeps."""
    saved = {}

    def pack(tensor):
        saved[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mlp(inputs)
    return sum(tensor.numel() == 2 * 7 * SIZES["intermediate_size"] for tensor in saved.values())


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_pytorch_tanh", "quick_gelu", "relu"])
def test_an_mlp_in_training_computes_its_activation_again_and_has_the_same_gradients(hidden_act):
    torch.manual_seed(0)
    mlp, inputs = VisionMLP(ViTConfig(**SIZES, hidden_act=hidden_act)), torch.randn(2, 7, 24, requires_grad=True)
    for autocast in ({"enabled": False}, {"dtype": torch.bfloat16}):
        expected, found = gradients(mlp.eval(), inputs, **autocast), gradients(mlp.train(), inputs, **autocast)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    if hidden_act.startswith("gelu"):
        assert (num_saved(mlp.eval(), inputs), num_saved(mlp.train(), inputs)) == (2, 1)
    mlp, inputs = mlp.double(), inputs.detach()[:1, :2].double().requires_grad_()

    parameters = dict(mlp.named_parameters())

    def outputs(inputs, *weights):
        return torch.func.functional_call(mlp, dict(zip(parameters, weights, strict=True)), inputs)

    assert torch.autograd.gradcheck(outputs, (inputs, *parameters.values()))
    assert torch.autograd.gradgradcheck(outputs, (inputs, *parameters.values()))


def test_other_linear_layers_hooks_and_frozen_weights_are_left_alone():
    torch.manual_seed(0)
    mlp, inputs = VisionMLP(ViTConfig(**SIZES)).train(), torch.randn(2, 7, 24, requires_grad=True)
    calls = []
    handle = mlp.fc2.register_forward_hook(lambda *_: calls.append(1))
    assert num_saved(mlp, inputs) == 2 and calls
    handle.remove()
    assert num_saved(mlp, inputs) == 1
    mlp.fc2.weight.requires_grad_(False)
    assert num_saved(mlp, inputs) == 1  # the linear layer needs none of its inputs
    mlp.fc2 = nn.Sequential(mlp.fc2.requires_grad_())
    assert num_saved(mlp, inputs) == 2


def test_hooks_changes_in_place_forward_derivatives_and_single_vectors_work_in_training():
    torch.manual_seed(0)
    mlp, inputs = VisionMLP(ViTConfig(**SIZES)).train(), torch.randn(2, 7, 24, requires_grad=True)
    calls = []
    handle = mlp.fc2.register_full_backward_pre_hook(lambda *_: calls.append("own"))
    mlp(inputs).sum().backward()
    handle.remove()
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: calls.append("global") if module is mlp.fc2 else None
    )
    mlp(inputs)
    handle.remove()
    assert calls == ["own", "global"] and num_saved(mlp, inputs) == 1
    expected = torch.autograd.grad(mlp(inputs).sum(), [*mlp.parameters()])
    in_place = torch.autograd.grad(mlp(inputs).add_(1).sum(), [*mlp.parameters()])
    torch.testing.assert_close(in_place, expected)
    assert mlp(inputs[:0]).shape == (0, 7, 24)
    vector = inputs.detach()[0, 0]
    found, expected = (torch.func.jvp(each, (vector,), (vector,))[1] for each in (mlp.train(), mlp.eval()))
    torch.testing.assert_close(found, expected)
    gradients_of_vector = [
        gradients(each, vector.requires_grad_(), enabled=False) for each in (mlp.eval(), mlp.train())
    ]
    torch.testing.assert_close(*gradients_of_vector)


@pytest.mark.parametrize(("layers", "rates"), [(1, [0.0]), (3, [0.0, 0.2, 0.4])])
def test_stochastic_depth_grows_linearly(layers, rates):
    assert drop_path_rates(0.4, layers) == pytest.approx(rates)
