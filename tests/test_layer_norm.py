"""Layer normalisation as a structure: where it goes, what it computes and how it trains, beside PyTorch's modules."""

from typing import Any

import numpy as np
import pytest
import torch
from small_agents import agent_with, views_of
from torch import Tensor, nn
from treated import batch, conv_specs, part, specs, trained, update, weights

from plasticbench.analysis.probes import dormant_ratio, feature_norm, fraction_active, srank, zero_activation
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork, population_layer_norm
from plasticbench.learning.networks import mlp, simba
from plasticbench.learning.structures import layer_norm

CPU = torch.device("cpu")


def names_and_activations(layers: list[LayerSpec]) -> list[tuple[str, str]]:
    return [(spec.name, spec.activation) for spec in layers]


# -- where normalisations go -------------------------------------------------------------------------------------------


def test_every_hidden_layer_of_an_mlp_gains_a_norm_and_passes_its_nonlinearity_on() -> None:
    layers = layer_norm.Config().layers(mlp.Config(hidden=(8, 6)).layers((4,), 3))
    assert names_and_activations(layers) == [
        ("fc1", "identity"),
        ("fc1_norm", "relu"),
        ("fc2", "identity"),
        ("fc2_norm", "relu"),
        ("fc3", "relu"),  # of outputs, which have none
    ]
    assert layers[1] == LayerSpec("fc1_norm", "encoder", (8,), activation="relu")
    assert layers[3].weight_shape == (6,)


def test_a_convolution_gains_one_gain_and_bias_for_each_channel() -> None:
    layers = layer_norm.Config(over="channels").layers(conv_specs())
    norms = [spec for spec in layers if spec.is_norm]
    assert [(spec.name, spec.weight_shape, spec.over) for spec in norms] == [
        ("conv1_norm", (4,), "channels"),
        ("conv2_norm", (5,), "channels"),
        ("fc1_norm", (7,), "channels"),
    ]


def test_both_heads_of_an_actor_stay_as_they_are() -> None:
    *hidden, last = mlp.Config(hidden=(4,)).layers((3,), 2)
    heads = [last._replace(name="mean"), last._replace(name="log_std", wiring="sibling")]
    layers = layer_norm.Config().layers([*hidden, *heads])
    assert layers[2:] == heads
    assert [spec.name for spec in layers[:2]] == ["fc1", "fc1_norm"]


def test_of_simba_only_the_layers_inside_the_blocks_gain_one() -> None:
    before = simba.Config(num_blocks=2, width=4).layers((5,), 3)
    layers = layer_norm.Config().layers(before)
    added = [spec for spec in layers if spec.name not in {one.name for one in before}]
    assert [(spec.name, spec.weight_shape) for spec in added] == [
        ("block1_fc1_norm", (16,)),
        ("block2_fc1_norm", (16,)),
    ]
    kept = [spec for spec in layers if not spec.name.startswith(("block1_fc1", "block2_fc1"))]
    assert kept == [spec for spec in before if not spec.name.endswith("_fc1")]


def test_other_nonlinearities_move_behind_the_norm_as_well() -> None:
    tanh = [spec._replace(activation="tanh") for spec in specs()]
    assert [spec.activation for spec in layer_norm.Config().layers(tanh) if spec.is_norm] == ["tanh", "tanh"]


def test_only_nonlinearities_without_a_norm_gain_one() -> None:
    once = layer_norm.Config().layers(specs())
    half = [once[0], once[1], specs()[1], specs()[2]]
    assert layer_norm.Config().layers(half) == once


def test_networks_that_gain_nothing_are_refused() -> None:
    once = layer_norm.Config().layers(specs())
    with pytest.raises(ValueError, match=r"this network has none \(nonlinearities: fc1_norm: relu, fc2_norm: relu\)"):
        layer_norm.Config().layers(once)
    with pytest.raises(ValueError, match=r"this network has none \(nonlinearities: none\)"):
        layer_norm.Config().layers([spec._replace(activation="identity") for spec in specs()])
    stream = [LayerSpec("fc1", "encoder", (4, 4), wiring="closes_residual"), LayerSpec("out", "head", (2, 4))]
    with pytest.raises(ValueError, match=r"nonlinearities: fc1: relu"):
        layer_norm.Config().layers(stream)


def test_a_single_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 units to normalise over, but fc1 has 1"):
        layer_norm.Config().layers(specs(hidden=(1,)))
    one_channel = [LayerSpec("conv1", "encoder", (1, 3, 3, 3)), LayerSpec("out", "head", (2, 16))]
    with pytest.raises(ValueError, match="conv1 has 1"):
        layer_norm.Config(over="channels").layers(one_channel)
    assert len(layer_norm.Config(over="map").layers(one_channel)) == 3


def test_initial_weights_of_the_other_layers_are_those_without_it() -> None:
    plain, normalized = trained([[]]), trained([[part("layer_norm")]])
    without, having = weights(plain, 0), weights(normalized, 0)
    assert all(torch.equal(having[name], value) for name, value in without.items())
    assert having["fc1_norm.weight"].tolist() == [1.0] * 8
    assert having["fc1_norm.bias"].tolist() == [0.0] * 8


# -- what it computes --------------------------------------------------------------------------------------------------


def test_normalised_numbers_are_worked_out_by_hand() -> None:
    # (1, 3) has mean 2 and variance 1; gain (2, 3) and bias (0.5, -1).
    gain, bias = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.5, -1.0]])
    row = population_layer_norm(torch.tensor([[[1.0, 3.0]]]), gain, bias)
    torch.testing.assert_close(row, torch.tensor([[[-1.5, 2.0]]]), rtol=0, atol=1e-5)
    # Two channels of two positions: (1, 5) and (3, 7) over the map have mean 4, variance 5; at each position mean 2 and
    # 6, variance 1.
    maps = torch.tensor([[[[[1.0, 5.0]], [[3.0, 7.0]]]]])
    one, zero = torch.ones(1, 2), torch.zeros(1, 2)
    over_map = population_layer_norm(maps, one, zero, "map")
    torch.testing.assert_close(over_map.flatten() * 5**0.5, torch.tensor([-3.0, 1.0, -1.0, 3.0]), rtol=0, atol=1e-5)
    over_channels = population_layer_norm(maps, one, zero, "channels")
    torch.testing.assert_close(over_channels.flatten(), torch.tensor([-1.0, -1.0, 1.0, 1.0]), rtol=0, atol=1e-5)


class ChannelNorm(nn.LayerNorm):
    """Normalises the channels of ``[B, c, h, w]`` at each position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Plain(nn.Module):
    """Two convolutions and a hidden layer with PyTorch's normalisations; one group over all channels is a whole map."""

    def __init__(self, over: str) -> None:
        super().__init__()
        norm = (lambda n: nn.GroupNorm(1, n, eps=1e-6)) if over == "map" else (lambda n: ChannelNorm(n, eps=1e-6))
        self.conv1, self.conv1_norm = nn.Conv2d(3, 4, 3), norm(4)
        self.conv2, self.conv2_norm = nn.Conv2d(4, 5, 3), norm(5)
        self.fc1, self.fc1_norm, self.fc2 = nn.Linear(20, 7), nn.LayerNorm(7, eps=1e-6), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1_norm(self.conv1(x)))
        x = torch.relu(self.conv2_norm(self.conv2(x))).flatten(1)
        out: Tensor = self.fc2(torch.relu(self.fc1_norm(self.fc1(x))))
        return out


@pytest.mark.parametrize("over", ["map", "channels"])
def test_outputs_and_gradients_agree_with_torchs_modules(over: Any) -> None:
    network = PopulationNetwork(layer_norm.Config(over=over).layers(conv_specs()), 2, CPU)
    generator = torch.Generator().manual_seed(0)
    network.load({name: torch.randn(p.shape, generator=generator) for name, p in network.parameters.items()})
    obs = torch.randn(2, 9, 3, 6, 6, generator=generator)
    output = network.forward(obs)
    output.square().mean().backward()
    for member in range(2):
        plain = Plain(over)
        plain.load_state_dict({name: p.detach()[member] for name, p in network.parameters.items()})
        expected = plain(obs[member])
        torch.testing.assert_close(output[member], expected, rtol=1e-4, atol=1e-4)
        (expected.square().mean() / 2).backward()
        for name, gradient in network.views(network.flat_grad).items():
            torch.testing.assert_close(gradient[member], plain.get_parameter(name).grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("over", ["map", "channels"])
def test_twenty_updates_agree_with_torchs_modules_and_adam(over: str) -> None:
    shape = (3, 6, 6)
    network = trained([[part("layer_norm", over=over)]] * 2, layers=conv_specs())
    plains = [Plain(over) for _ in range(2)]
    for member, plain in enumerate(plains):
        plain.load_state_dict(weights(network, member))
    optimizers = [torch.optim.Adam(plain.parameters(), lr=1e-2) for plain in plains]
    for step in range(1, 21):
        update(network, step, shape)
        inputs, targets = batch([0, 1], step, shape)
        for member, (plain, optimizer) in enumerate(zip(plains, optimizers, strict=True)):
            optimizer.zero_grad()
            (plain(inputs[member]) - targets[member]).square().mean().backward()
            optimizer.step()
    for member, plain in enumerate(plains):
        for name, value in weights(network, member).items():
            torch.testing.assert_close(value, plain.get_parameter(name).detach(), rtol=1e-5, atol=1e-5)


# -- in agents, and what probes see ------------------------------------------------------------------------------------


def test_readers_are_found_through_the_norm() -> None:
    network = PopulationNetwork(layer_norm.Config().layers(conv_specs()), 1, CPU)
    assert network.wires["conv2"].activation == "relu"
    assert network.wires["conv2"].active_at == "conv2_norm"
    (reading,) = network.wires["conv2"].readings
    assert (reading.layer, reading.blocks, reading.positions) == ("fc1", 1, 4)


@pytest.mark.parametrize("agent", ["dqn", "sac"])
@pytest.mark.parametrize("over", ["map", "channels"])
def test_agents_train_with_it_and_probes_see_normalised_units(agent: str, over: str) -> None:
    treated = agent_with(agent, [part("layer_norm", over=over)], updates=6)
    for network in treated.trained:
        assert network.online.flat.isfinite().all()
        assert any(name.endswith("_norm.weight") for name in network.online.parameters)
        moved = network.online.views(network.online.flat - network.original)
        assert all(change.flatten(1).any(1).all() for name, change in moved.items() if name.endswith("weight"))
    for view in views_of(treated).values():
        active, silent = fraction_active.Config().measure(view)[""], zero_activation.Config().measure(view)[""]
        np.testing.assert_allclose(active + silent, 1.0, atol=1e-6)
        # A row of normalised units has mean 0, so neither all nor none of it is passed on.
        assert ((active > 0.2) & (active < 0.8)).all()
        assert (dormant_ratio.Config().measure(view)[""] < 0.5).all()
        assert srank.Config().measure(view)[""].isfinite().all()


def test_the_size_of_features_no_longer_depends_on_that_of_weights() -> None:
    network = trained([[part("layer_norm")]], layers=specs(hidden=(8, 6)))
    inputs, _ = batch([0], 1)
    sizes = []
    for _ in range(2):
        view = network.view("online", inputs, torch.zeros_like(network.online.flat), None)
        sizes.append(feature_norm.Config().measure(view)[""].item())
        for name in ("fc1", "fc2"):
            network.online.parameters[f"{name}.weight"].data.mul_(10)
            network.online.parameters[f"{name}.bias"].data.mul_(10)
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)
    # Six normalised units have squares that sum to 6, of which ReLU passes on a part.
    assert 0.5 < sizes[0] < 6**0.5
