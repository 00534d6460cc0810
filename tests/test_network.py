"""Population layers against PyTorch's own, and initialisers against their formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from plasticbench import plugins
from plasticbench.learning.layers import LayerSpec, draw_bias, draw_weight
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import impala_cnn, minatar_cnn, mlp, nature_cnn, simba

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
    from plasticbench.learning.network import population_conv2d

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
    shapes = {"mlp": (5,), "minatar_cnn": (4, 10, 10), "gpt": (5,), "module": (5,)}
    settings = {"gpt": {"tied_head": False}, "module": {"target": "test_module_network:Odd"}}.get(kind, {})
    layers = plugins.config_from("networks", kind, settings).layers(shapes.get(kind, (4, 84, 84)), 6)
    last = [layer for layer in layers if len(layer.weight_shape) > 1][-1]  # a module's own parameters stand behind
    assert last.role == "head"
    assert last.weight_shape[0] == 6
    assert layers[0].role == "encoder"
    assert len({layer.name for layer in layers}) == len(layers)


def test_networks_refuse_observations_that_do_not_fit():
    with pytest.raises(ValueError, match="36x36"):
        nature_cnn.Config().layers((4, 20, 20), 2)
    with pytest.raises(ValueError, match="channels, height, width"):
        minatar_cnn.Config().layers((7,), 2)
    with pytest.raises(ValueError, match="hidden"):
        mlp.Config(hidden=())


class PlainSimba(nn.Module):
    """Two blocks of width 6 as the paper draws them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(5, 6), nn.LayerNorm(6, eps=1e-6), nn.Linear(6, 3)
        for i in (1, 2):
            setattr(self, f"block{i}_norm", nn.LayerNorm(6, eps=1e-6))
            setattr(self, f"block{i}_fc1", nn.Linear(6, 24))
            setattr(self, f"block{i}_fc2", nn.Linear(24, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for i in (1, 2):
            norm, fc1, fc2 = (getattr(self, f"block{i}_{part}") for part in ("norm", "fc1", "fc2"))
            x = x + fc2(torch.relu(fc1(norm(x))))
        return self.out(self.norm(x))


class PlainImpala(nn.Module):
    """Two stages of IMPALA's network, as papers draw it."""

    def __init__(self) -> None:
        super().__init__()
        for stage, (read, channels) in enumerate(((3, 4), (4, 5)), 1):
            setattr(self, f"stage{stage}", nn.Conv2d(read, channels, 3, padding=1))
            for name in (f"stage{stage}_block{b}_conv{c}" for b in (1, 2) for c in (1, 2)):
                setattr(self, name, nn.Conv2d(channels, channels, 3, padding=1))
        self.fc1, self.fc2 = nn.Linear(5 * 3 * 3, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in ("stage1", "stage2"):
            x = nn.functional.max_pool2d(getattr(self, stage)(x), 3, 2, 1)
            for block in (f"{stage}_block1", f"{stage}_block2"):
                inside = getattr(self, f"{block}_conv1")(x.relu())
                x = x + getattr(self, f"{block}_conv2")(inside.relu())
        return self.fc2(self.fc1(x.relu().flatten(1)).relu())


def test_every_member_of_impala_computes_what_plain_residual_stages_compute():
    layers = impala_cnn.Config(channels=(4, 5), hidden_units=7).layers((3, 11, 11), 2)
    network = PopulationNetwork(layers, 2, CPU)
    network.load(network.draw([np.random.default_rng(m) for m in range(2)]))
    obs = torch.rand(2, 6, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    hidden: list[torch.Tensor] = []
    output = network.forward(obs, hidden)
    output.square().sum().backward()
    for member in range(2):
        plain = PlainImpala()
        plain.load_state_dict({name: p[member].detach().clone() for name, p in network.parameters.items()})
        expected = plain(obs[member])
        torch.testing.assert_close(output[member], expected, rtol=1e-5, atol=1e-6)
        expected.square().sum().backward()
        for name, gradient in network.views(network.flat_grad).items():
            torch.testing.assert_close(gradient[member], plain.get_parameter(name).grad, rtol=1e-4, atol=1e-5)
    judged = [name for name, wire in network.wires.items() if wire.active_at is not None]
    assert judged == [*(f"stage{s}_block{b}_conv1" for s in (1, 2) for b in (1, 2)), "fc1"]


def test_every_member_of_simba_computes_what_plain_residual_blocks_compute():
    network = PopulationNetwork(simba.Config(num_blocks=2, width=6).layers((5,), 3), 2, CPU)
    generator = torch.Generator().manual_seed(0)
    network.load({name: torch.randn(p.shape, generator=generator) for name, p in network.parameters.items()})
    obs = torch.randn(2, 7, 5, generator=generator)
    output = network.forward(obs)
    output.square().sum().backward()
    for member in range(2):
        plain = PlainSimba()
        plain.load_state_dict({name: p[member].detach() for name, p in network.parameters.items()})
        expected = plain(obs[member])
        torch.testing.assert_close(output[member], expected, rtol=1e-5, atol=1e-4)
        expected.square().sum().backward()
        for name, gradient in network.views(network.flat_grad).items():
            torch.testing.assert_close(gradient[member], plain.get_parameter(name).grad, rtol=1e-3, atol=1e-2)


def test_siblings_read_the_same_features_and_stand_side_by_side():
    *hidden, last = mlp.Config(hidden=(4,)).layers((3,), 2)
    specs = [*hidden, last._replace(name="left"), last._replace(name="right", wiring="sibling")]
    network = PopulationNetwork(specs, 1, CPU)
    network.load(network.draw([np.random.default_rng(0)]))
    obs, passed_on = torch.rand(1, 6, 3), []
    left, right = network.forward(obs, passed_on).chunk(2, dim=-1)
    assert len(passed_on) == 1
    for name, output in (("left", left), ("right", right)):
        torch.testing.assert_close(output, passed_on[0] @ network.parameters[f"{name}.weight"].mT)


def test_a_normalisation_starts_as_the_identity_and_draws_no_random_number():
    spec, rng = LayerSpec("norm", "encoder", (5,)), np.random.default_rng(0)
    assert draw_weight(spec, rng).tolist() == [1.0] * 5
    assert draw_bias(spec, rng).tolist() == [0.0] * 5
    assert rng.random() == np.random.default_rng(0).random()


def test_he_normal_has_the_wanted_deviation_and_no_tails():
    weight = draw_weight(LayerSpec("fc", "encoder", (400, 200), 1, "he_normal"), np.random.default_rng(0))
    assert weight.std() == pytest.approx(0.1, rel=0.01)  # sqrt(2 / 200)
    assert np.abs(weight).max() <= 0.1 * 2 / 0.87962566 + 1e-6
