"""CReLU as a structure: who reads twice as much, what it computes and how it trains, beside PyTorch's modules."""

import numpy as np
import pytest
import torch
from small_agents import agent_with, views_of
from torch import Tensor, nn
from treated import batch, conv_specs, part, specs, trained, update, weights

from plasticbench.analysis.probes import dormant_ratio, feature_norm, fraction_active, srank, zero_activation
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import mlp, simba
from plasticbench.learning.structures import crelu, layer_norm

CPU = torch.device("cpu")
DOUBLE, HALVE = crelu.Config(), crelu.Config(width="halve")


def shapes(layers: list[LayerSpec]) -> list[tuple[str, tuple[int, ...], str]]:
    return [(spec.name, spec.weight_shape, spec.activation) for spec in layers]


def even_conv_specs() -> list[LayerSpec]:
    """As ``conv_specs``, with numbers of units that can be halved."""
    conv1, conv2, fc1, fc2 = conv_specs()
    return [
        conv1,
        conv2._replace(weight_shape=(6, 4, 3, 3)),
        fc1._replace(weight_shape=(8, 24)),
        fc2._replace(weight_shape=(3, 8)),
    ]


# -- widths ------------------------------------------------------------------------------------------------------------


def test_readers_of_an_mlp_have_two_inputs_for_each_unit() -> None:
    assert shapes(DOUBLE.layers(mlp.Config(hidden=(8, 6)).layers((4,), 3))) == [
        ("fc1", (8, 4), "crelu"),
        ("fc2", (6, 16), "crelu"),
        ("fc3", (3, 12), "relu"),  # of outputs, which have none
    ]


def test_halved_layers_leave_their_readers_as_wide_as_before() -> None:
    assert shapes(HALVE.layers(mlp.Config(hidden=(8, 6)).layers((4,), 3))) == [
        ("fc1", (4, 4), "crelu"),
        ("fc2", (3, 8), "crelu"),
        ("fc3", (3, 6), "relu"),
    ]


def test_from_convolutions_to_linear_layers_positions_stay_what_they_are() -> None:
    assert [shape for _, shape, _ in shapes(DOUBLE.layers(even_conv_specs()))] == [
        (4, 3, 3, 3),
        (6, 8, 3, 3),
        (8, 48),
        (3, 16),
    ]
    assert [shape for _, shape, _ in shapes(HALVE.layers(even_conv_specs()))] == [
        (2, 3, 3, 3),
        (3, 4, 3, 3),
        (4, 24),
        (3, 8),
    ]


def test_both_heads_of_an_actor_read_the_doubled_features() -> None:
    *hidden, last = mlp.Config(hidden=(4,)).layers((3,), 2)
    heads = [last._replace(name="mean"), last._replace(name="log_std", wiring="sibling")]
    assert [spec.weight_shape for spec in DOUBLE.layers([*hidden, *heads])] == [(4, 3), (2, 8), (2, 8)]
    assert [spec.weight_shape for spec in HALVE.layers([*hidden, *heads])] == [(2, 3), (2, 4), (2, 4)]


def test_of_simba_the_layers_inside_the_blocks_change_and_the_stream_does_not() -> None:
    before = simba.Config(num_blocks=1, width=4).layers((5,), 3)
    for config, inner, read in ((DOUBLE, 16, 32), (HALVE, 8, 16)):
        assert shapes(config.layers(before)) == [
            ("embed", (4, 5), "identity"),
            ("block1_norm", (4,), "identity"),
            ("block1_fc1", (inner, 4), "crelu"),
            ("block1_fc2", (4, read), "identity"),
            ("norm", (4,), "identity"),
            ("out", (3, 4), "relu"),
        ]


def test_normalisations_before_and_behind_it_fit() -> None:
    layers = [
        LayerSpec("fc1", "encoder", (8, 4), activation="identity"),
        LayerSpec("before", "encoder", (8,)),
        LayerSpec("behind", "encoder", (8,), activation="identity"),
        LayerSpec("out", "head", (3, 8)),
    ]
    assert [spec.weight_shape for spec in DOUBLE.layers(layers)] == [(8, 4), (8,), (16,), (3, 16)]
    assert [spec.weight_shape for spec in HALVE.layers(layers)] == [(4, 4), (4,), (8,), (3, 8)]


def test_with_layer_norm_the_order_of_the_parts_makes_no_difference() -> None:
    norm = layer_norm.Config()
    for config in (DOUBLE, HALVE):
        layers = config.layers(norm.layers(even_conv_specs()))
        assert layers == norm.layers(config.layers(even_conv_specs()))
        assert [spec.activation for spec in layers if spec.is_norm] == ["crelu"] * 3


def test_other_nonlinearities_stay() -> None:
    first, *rest = specs()
    layers = DOUBLE.layers([first._replace(activation="tanh"), *rest])
    assert shapes(layers)[:2] == [("fc1", (8, 4), "tanh"), ("fc2", (6, 8), "crelu")]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none \(nonlinearities: fc1: crelu, fc2: crelu\). Leave crelu out"):
        DOUBLE.layers(DOUBLE.layers(specs()))
    with pytest.raises(ValueError, match=r"width: 'halve' needs even numbers of units, got 7 in fc1, 5 in fc2"):
        HALVE.layers(specs(hidden=(7, 5)))


def test_a_residual_stream_keeps_its_width_or_the_network_is_refused() -> None:
    # What enters the stream comes through a ReLU: twice as wide, or just as wide where the layer before is halved.
    entering = [
        LayerSpec("fc1", "encoder", (4, 4)),
        LayerSpec("fc2", "encoder", (6, 4), wiring="opens_residual"),
        LayerSpec("fc3", "encoder", (4, 6), activation="identity", wiring="closes_residual"),
        LayerSpec("out", "head", (2, 4)),
    ]
    with pytest.raises(ValueError, match="width: 'double' would double the residual stream that fc2 reads"):
        DOUBLE.layers(entering)
    assert [spec.weight_shape for spec in HALVE.layers(entering)] == [(2, 4), (3, 4), (4, 6), (2, 4)]
    # A ReLU behind the sum, and one behind a normalisation of the stream, pass on units that cannot be halved.
    behind_sum = [
        LayerSpec("fc1", "encoder", (4, 4), activation="identity"),
        LayerSpec("fc2", "encoder", (4, 4), activation="identity", wiring="opens_residual"),
        LayerSpec("fc3", "encoder", (4, 4), wiring="closes_residual"),
        LayerSpec("out", "head", (2, 4)),
    ]
    behind_norm = [
        LayerSpec("fc1", "encoder", (4, 4), activation="identity"),
        LayerSpec("norm", "encoder", (4,), wiring="opens_residual"),
        LayerSpec("fc2", "encoder", (4, 4), activation="identity", wiring="closes_residual"),
        LayerSpec("out", "head", (2, 4)),
    ]
    for layers, name in ((behind_sum, "fc3"), (behind_norm, "norm")):
        with pytest.raises(
            ValueError, match=f"width: 'halve' would halve the residual stream on which the ReLU of {name}"
        ):
            HALVE.layers(layers)
    assert [spec.weight_shape for spec in DOUBLE.layers(behind_sum)] == [(4, 4), (4, 4), (4, 4), (2, 8)]
    assert [spec.weight_shape for spec in DOUBLE.layers(behind_norm)] == [(4, 4), (4,), (4, 8), (2, 4)]


def test_initialisers_see_the_new_fan_in() -> None:
    layers = DOUBLE.layers(specs(hidden=(50, 40)))
    network = PopulationNetwork(layers, 1, CPU)
    network.load(network.draw([np.random.default_rng(0)]))
    bound = 1 / 100**0.5  # PyTorch's default, of 2 * 50 inputs
    assert 0.99 * bound < network.parameters["fc2.weight"].abs().max() <= bound


# -- what it computes --------------------------------------------------------------------------------------------------


def test_a_network_of_two_units_is_worked_out_by_hand() -> None:
    network = PopulationNetwork(DOUBLE.layers(specs(hidden=(2,), inputs=1, outputs=1)), 1, CPU)
    values = {"fc1.weight": [[[1.0], [-2.0]]], "fc1.bias": [[0.0, 1.0]], "fc2.weight": [[[1.0, 10.0, 100.0, 1000.0]]]}
    network.load({name: torch.tensor(value) for name, value in values.items()} | {"fc2.bias": torch.zeros(1, 1)})
    # Units (3, -5) are passed on as (3, 0, 0, 5); units (-1, 3) as (0, 3, 1, 0).
    assert network.forward(torch.tensor([[[3.0], [-1.0]]])).flatten().tolist() == [5003.0, 130.0]


def both(x: Tensor) -> Tensor:
    return torch.cat((torch.relu(x), torch.relu(-x)), dim=1)


class Plain(nn.Module):
    """Two convolutions and a hidden layer; ``units`` are theirs."""

    def __init__(self, units: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = units
        self.conv1, self.conv2 = nn.Conv2d(3, first, 3), nn.Conv2d(2 * first, second, 3)
        self.fc1, self.fc2 = nn.Linear(2 * second * 4, third), nn.Linear(2 * third, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(both(self.fc1(both(self.conv2(both(self.conv1(x)))).flatten(1))))
        return out


class PlainBlock(nn.Module):
    """SimBa with one block of width 4."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block1_norm, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=1e-6), nn.LayerNorm(4, eps=1e-6)
        self.block1_fc1, self.block1_fc2, self.out = nn.Linear(4, 16), nn.Linear(32, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.block1_fc2(both(self.block1_fc1(self.block1_norm(x))))
        out: Tensor = self.out(self.norm(x))
        return out


CASES = {
    "double": ("double", even_conv_specs(), (3, 6, 6), lambda: Plain((4, 6, 8))),
    "halve": ("halve", even_conv_specs(), (3, 6, 6), lambda: Plain((2, 3, 4))),
    "simba": ("double", simba.Config(num_blocks=1, width=4).layers((4,), 3), (4,), PlainBlock),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_agree_with_torchs_modules(case: str) -> None:
    width, layers, shape, module = CASES[case]
    network = PopulationNetwork(crelu.Config(width=width).layers(layers), 2, CPU)
    generator = torch.Generator().manual_seed(0)
    network.load({name: 0.3 * torch.randn(p.shape, generator=generator) for name, p in network.parameters.items()})
    obs = torch.randn(2, 9, *shape, generator=generator)
    output = network.forward(obs)
    output.square().mean().backward()
    for member in range(2):
        plain = module()
        plain.load_state_dict({name: p.detach()[member] for name, p in network.parameters.items()})
        expected = plain(obs[member])
        torch.testing.assert_close(output[member], expected, rtol=1e-5, atol=1e-5)
        (expected.square().mean() / 2).backward()
        for name, gradient in network.views(network.flat_grad).items():
            torch.testing.assert_close(gradient[member], plain.get_parameter(name).grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_twenty_updates_agree_with_torchs_modules_and_adam(case: str) -> None:
    width, layers, shape, module = CASES[case]
    network = trained([[part("crelu", width=width)]] * 2, layers=layers)
    plains = [module() for _ in range(2)]
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


def test_the_columns_of_a_unit_are_those_that_its_activation_enters() -> None:
    network = trained([[part("crelu")]], layers=even_conv_specs())
    layers = {layer.name: layer for layer in network.state_of(slice(0, 1, 1)).layers}
    for name, shape in (("conv1", (4, 6, 2, 1, 3, 3)), ("conv2", (6, 8, 2, 4)), ("fc1", (8, 3, 2, 1))):
        (reader,) = layers[name].readers
        assert reader.columns(reader.layer.weight.value)[0].shape == shape
    # Without its columns a unit makes no difference: silence unit 2 of conv2 in either way.
    obs = torch.randn(1, 5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    (reader,) = layers["conv2"].readers
    reader.columns(reader.layer.weight.value)[0, 2] = 0.0
    without_columns = network.forward(obs).detach()
    for parameter in layers["conv2"].parameters.values():
        parameter.value[0, 2] = 0.0
    assert torch.equal(network.forward(obs), without_columns)


@pytest.mark.parametrize("agent", ["dqn", "sac"])
@pytest.mark.parametrize("width", ["double", "halve"])
def test_agents_train_with_it_and_probes_count_units_and_entries(agent: str, width: str) -> None:
    treated = agent_with(agent, [part("crelu", width=width)], updates=6)
    for network in treated.trained:
        assert network.online.flat.isfinite().all()
        moved = network.online.views(network.online.flat - network.original)
        assert all(change.flatten(1).any(1).all() for name, change in moved.items() if name.endswith("weight"))
    for view in views_of(treated).values():
        for measured in (fraction_active.Config().measure(view), zero_activation.Config().measure(view)):
            assert all((value == 0.5).all() for value in measured.values())
        assert all((value == 0).all() for value in dormant_ratio.Config(tau=0.0).measure(view).values())
        hidden = [layer for layer in view.layers if layer.activation is not None]
        assert all(layer.activation.shape[2] == 2 * layer.weight.shape[1] for layer in hidden)
        assert (srank.Config().measure(view)[""] > 1).all()


def test_features_are_as_long_as_what_the_last_crelu_receives() -> None:
    network = trained([[part("crelu")]], layers=specs())
    inputs, _ = batch([0], 1)
    view = network.view("online", inputs, torch.zeros_like(network.online.flat), None)
    w = {name: value.detach()[0] for name, value in network.online.parameters.items()}
    received = both(inputs[0] @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T + w["fc2.bias"]
    expected = received.norm(dim=1).mean().item()
    assert feature_norm.Config().measure(view)[""].item() == pytest.approx(expected, rel=1e-5)
    assert view.features.shape[-1] == 12


def test_a_unit_that_never_leaves_zero_is_dormant_and_counts_once() -> None:
    network = trained([[part("crelu")]], layers=specs(hidden=(8, 6)))
    for kind in ("weight", "bias"):
        network.online.parameters[f"fc1.{kind}"].data[0, 3] = 0.0
    inputs, _ = batch([0], 1)
    view = network.view("online", inputs, torch.zeros_like(network.online.flat), None)
    assert dormant_ratio.Config().measure(view)["fc1"].tolist() == [1 / 8]
    # 16 entries a row: 7 above 0, 7 mirrored ones at 0, and both of the silent unit.
    assert fraction_active.Config().measure(view)["fc1"].tolist() == [7 / 16]
    assert zero_activation.Config().measure(view)["fc1"].tolist() == [9 / 16]
