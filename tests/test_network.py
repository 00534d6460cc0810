"""Population layers against PyTorch's own, and initialisers against their formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from plasticbench import plugins
from plasticbench.agents._network import LayerSpec, PopulationNetwork, draw_bias, draw_weight
from plasticbench.agents.networks import minatar_cnn, mlp, nature_cnn

CPU = torch.device("cpu")


def _plain(network: PopulationNetwork, member: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for spec in network.specs:
        weight, bias = (network.parameters[f"{spec.name}.{kind}"][member].detach() for kind in ("weight", "bias"))
        if len(spec.weight_shape) == 4:
            layer: nn.Module = nn.Conv2d(spec.weight_shape[1], spec.weight_shape[0], weight.shape[-1], spec.stride)
        else:
            if not any(isinstance(m, nn.Flatten) for m in modules):
                modules.append(nn.Flatten())
            layer = nn.Linear(spec.weight_shape[1], spec.weight_shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


@pytest.mark.parametrize(
    ("config", "obs_shape"),
    [
        (mlp.Config(hidden=(7, 5)), (4,)),
        (minatar_cnn.Config(channels=3, hidden_units=6), (4, 10, 10)),
        (nature_cnn.Config(hidden_units=8), (4, 84, 84)),
    ],
)
def test_every_member_computes_what_a_plain_network_computes(config, obs_shape):
    network = PopulationNetwork(config.layers(obs_shape, 3), 2, CPU)
    network.load(network.draw([np.random.default_rng(m) for m in range(2)]))
    obs = torch.rand(2, 5, *obs_shape, generator=torch.Generator().manual_seed(0))
    output = network.forward(obs)
    output.square().sum().backward()
    for member in range(2):
        plain = _plain(network, member)
        expected = plain(obs[member])
        torch.testing.assert_close(output[member], expected, rtol=1e-5, atol=1e-6)
        expected.square().sum().backward()
        gradients = {name: gradient[member] for name, gradient in network.views(network.flat_grad).items()}
        for gradient, parameter in zip(gradients.values(), plain.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def test_grouped_convolution_of_other_devices_equals_the_loop_over_members():
    from plasticbench.agents._network import population_conv2d

    x, weight = torch.rand(3, 4, 2, 9, 9), torch.rand(3, 5, 2, 3, 3)
    bias = torch.rand(3, 5)
    on_meta = population_conv2d(x.to("meta"), weight.to("meta"), bias.to("meta"), 2)
    assert on_meta.shape == population_conv2d(x, weight, bias, 2).shape == (3, 4, 5, 4, 4)


def test_xavier_uniform_bound_is_worked_out_by_hand():
    spec = LayerSpec("fc", "head", (100, 500), 1, "xavier_uniform")
    weight = draw_weight(spec, np.random.default_rng(0))
    bound = math.sqrt(6 / 600)  # 0.1
    assert 0.0995 < np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not draw_bias(spec, np.random.default_rng(0)).any()


def test_torch_default_matches_the_bounds_of_torch_layers():
    spec = LayerSpec("conv", "encoder", (64, 4, 5, 5), 1, "torch_default")
    weight = draw_weight(spec, np.random.default_rng(0))
    bias = draw_bias(spec, np.random.default_rng(1))
    assert 0.0995 < np.abs(weight).max() <= 0.1
    assert 0 < np.abs(bias).max() <= 0.1


def test_orthogonal_rows_or_columns_are_orthonormal_times_gain():
    for shape in ((3, 8), (8, 3)):
        weight = draw_weight(LayerSpec("fc", "head", shape, 1, "orthogonal", 2.0), np.random.default_rng(0))
        gram = weight @ weight.T if shape[0] < shape[1] else weight.T @ weight
        np.testing.assert_allclose(gram, 4 * np.eye(3), atol=1e-5)


def test_initial_weights_depend_on_the_own_stream_alone():
    network = PopulationNetwork(mlp.Config(hidden=(4,)).layers((3,), 2), 2, CPU)
    together = network.draw([np.random.default_rng(7), np.random.default_rng(8)])
    alone = network.draw([np.random.default_rng(8)])
    for name, tensor in alone.items():
        assert torch.equal(tensor[0], together[name][1])


@pytest.mark.parametrize("kind", plugins.names("networks"))
def test_every_network_ends_in_a_head_of_the_asked_width(kind):
    shape = {"mlp": (5,), "minatar_cnn": (4, 10, 10), "nature_cnn": (4, 84, 84)}.get(kind, (4, 84, 84))
    layers = plugins.config_from("networks", kind, {}).layers(shape, 6)
    assert layers[-1].role == "head"
    assert layers[-1].weight_shape[0] == 6
    assert layers[0].role == "encoder"
    assert len({layer.name for layer in layers}) == len(layers)


def test_networks_refuse_observations_that_do_not_fit():
    with pytest.raises(ValueError, match="36x36"):
        nature_cnn.Config().layers((4, 20, 20), 2)
    with pytest.raises(ValueError, match="channels, height, width"):
        minatar_cnn.Config().layers((7,), 2)
    with pytest.raises(ValueError, match="hidden"):
        mlp.Config(hidden=())
