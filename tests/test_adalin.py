"""AdaLin as a structure: its function, its training against PyTorch's PReLU, and where it stands."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from torch import nn
from treated import BASE, batch, conv_specs, part, specs, train, trained

from plasticbench.learning.network import population_sloped_relu
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import adalin, crelu, layer_norm


def test_a_row_of_two_members_by_hand():
    x = torch.tensor([[[3.0, -4.0]], [[-2.0, 0.0]]])
    slopes = torch.tensor([[0.5, 0.25], [-1.0, 7.0]])
    assert population_sloped_relu(x, slopes).tolist() == [[[3.0, -1.0]], [[2.0, 0.0]]]


def test_every_channel_of_a_map_has_one_slope():
    x = -torch.ones(1, 2, 3, 2, 2)
    passed_on = population_sloped_relu(x, torch.tensor([[1.0, 2.0, 3.0]]))
    assert passed_on.mean(dim=(0, 1, 3, 4)).tolist() == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize("layers", [specs(), conv_specs(), simba.Config(num_blocks=1, width=6).layers((4,), 3)])
def test_it_starts_as_the_network_without_it(layers):
    with_it, without = trained([[part("adalin")]], layers=layers), trained([[]], layers=layers)
    assert all(torch.equal(with_it.online.parameters[n], p) for n, p in without.online.parameters.items())
    x = batch([0], 1, (3, 6, 6) if layers[0].name == "conv1" else (4,))[0]
    assert torch.equal(with_it.online.forward(x), without.online.forward(x))


class Sloped(nn.Module):
    """``fc1, PReLU, fc2, PReLU, fc3`` with PyTorch's modules, and our names."""

    def __init__(self, plain):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = plain.fc1, plain.fc2, plain.fc3
        self.slope1, self.slope2 = nn.PReLU(8, init=0.0), nn.PReLU(6, init=0.0)

    def forward(self, x):
        return self.fc3(self.slope2(self.fc2(self.slope1(self.fc1(x)))))


def test_training_agrees_with_pytorchs_prelu_for_every_member():
    network = trained([[part("adalin")]] * 2)
    plain = [Sloped(plain_copy(trained([[]] * 2), member)) for member in range(2)]
    train(network, 20)
    for seed, module in enumerate(plain):
        plain_training(module, seed)
        slopes = {"fc1_slope.bias": module.slope1.weight, "fc2_slope.bias": module.slope2.weight}
        for name, value in slopes.items():
            assert value.abs().max() > BASE.learning_rate
            ours = network.online.parameters[name].detach()[seed]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-5, atol=1e-5)
        del module.slope1, module.slope2
        assert_agrees(network, seed, module)


def test_a_unit_that_was_silent_for_every_row_learns():
    network = trained([[part("adalin")]])
    with torch.no_grad():
        network.online.parameters["fc1.bias"][0, 0] = -100.0
    before = network.online.parameters["fc1.weight"].detach()[0, 0].clone()
    train(network, 3)
    assert network.online.parameters["fc1_slope.bias"][0, 0] != 0
    assert (network.online.parameters["fc1.weight"].detach()[0, 0] != before).all()


def test_units_are_read_through_it_and_get_a_new_slope_with_new_weights():
    network = trained([[part("adalin")]])
    wire = network.online.wires["fc1"]
    assert (wire.activation, wire.active_at, wire.norms) == ("sloped_relu", "fc1_slope", ("fc1_slope",))


def test_behind_a_normalisation_it_stands_after_it():
    layers = adalin.Config().layers(layer_norm.Config().layers(specs()))
    assert [spec.name for spec in layers[:3]] == ["fc1", "fc1_norm", "fc1_norm_slope"]
    assert [spec.activation for spec in layers[:3]] == ["identity", "identity", "sloped_relu"]


def test_a_network_without_relu_is_refused():
    with pytest.raises(ValueError, match="adalin needs a hidden ReLU to replace, but this network has none"):
        adalin.Config().layers(crelu.Config().layers(specs()))


def test_it_cannot_stand_beside_nap():
    assert "nap" in adalin.Config.excludes
