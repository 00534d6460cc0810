"""Nonlinearities: function, width and dead units of each, worked out by hand."""

import pytest
import torch
from torch import Tensor

from plasticbench.learning.activations import ACTIVATIONS, by_unit, dead_units
from plasticbench.learning.unit_scores import dormancy_scores, mean_magnitude

X = torch.tensor([[[-2.0, 0.0, 3.0, 1.0]]])

FUNCTIONS = {
    "identity": (1, [-2.0, 0.0, 3.0, 1.0]),
    "relu": (1, [0.0, 0.0, 3.0, 1.0]),
    "leaky_relu": (1, [-0.02, 0.0, 3.0, 1.0]),
    "sloped_relu": (1, [-2.0, 0.0, 3.0, 1.0]),  # what it is given has its slopes already
    "aid": (1, [-2.0, 0.0, 3.0, 1.0]),  # the network applies it
    "tanh": (1, [-0.9640276, 0.0, 0.9950548, 0.7615942]),
    "crelu": (2, [0.0, 0.0, 3.0, 1.0, 2.0, 0.0, 0.0, 0.0]),
    "fourier": (2, [-0.9092974, 0.0, 0.1411200, 0.8414710, -0.4161468, 1.0, -0.9899925, 0.5403023]),
    "maxmin": (1, [0.0, -2.0, 3.0, 1.0]),
    "gelu": (1, [-0.0455003, 0.0, 2.9959503, 0.8413447]),
    "silu": (1, [-0.2384058, 0.0, 2.8577224, 0.7310586]),
}


def test_every_nonlinearity_is_worked_out_here() -> None:
    assert FUNCTIONS.keys() == ACTIVATIONS.keys() == DEAD.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_widths(name: str) -> None:
    width_factor, expected = FUNCTIONS[name]
    assert ACTIVATIONS[name].width_factor == width_factor
    torch.testing.assert_close(ACTIVATIONS[name].function(X.clone()), torch.tensor([[expected]]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_maps_the_channels_are_the_units(name: str) -> None:
    maps = torch.stack((X, X + 1), dim=-1).unsqueeze(-1)  # [1, 1, 4, 2, 1]
    after = ACTIVATIONS[name].function(maps.clone())
    assert after.shape == (1, 1, 4 * ACTIVATIONS[name].width_factor, 2, 1)
    for position, rows in enumerate((X, X + 1)):
        torch.testing.assert_close(after[..., position, 0], ACTIVATIONS[name].function(rows.clone()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_pass_where_the_slope_says(name: str) -> None:
    slopes = {
        "identity": [1.0, 1.0],
        "relu": [0.0, 1.0],
        "leaky_relu": [0.01, 1.0],
        "sloped_relu": [1.0, 1.0],
        "aid": [1.0, 1.0],
        "tanh": [1 - 0.9640276**2, 1 - 0.9950548**2],
        "crelu": [-1.0, 1.0],
        "fourier": [-0.4161468 + 0.9092974, -0.9899925 - 0.1411200],  # cos x - sin x
        "maxmin": [1.0, 1.0],
        "gelu": [-0.0852319, 1.0119457],
        "silu": [-0.0907843, 1.0881041],
    }
    x = torch.tensor([[[-2.0, 3.0]]], requires_grad=True)
    ACTIVATIONS[name].function(x * 1).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[slopes[name]]]))


def of_units(*units: list[float]) -> Tensor:
    """Outputs ``[1, N, units]`` from the values of each unit over the rows."""
    return torch.tensor(units).T[None]


# What units pass on over two rows, and which of them are dead.
DEAD = {
    "identity": (of_units([0.0, 0.0], [1.0, 1.0]), [False, False]),
    "relu": (of_units([0.0, 0.0], [0.0, 0.1], [2.0, 2.0]), [True, False, False]),
    # With its small slope alone a unit is as good as linear; at exactly 0 it is not counted.
    "leaky_relu": (of_units([-0.01, -0.5], [-0.01, 0.1], [0.0, 0.0]), [True, False, False]),
    # With a slope of 0 it is a ReLU.
    "sloped_relu": (of_units([-0.1, -0.5], [-0.1, 0.1], [0.0, 0.0]), [True, False, True]),
    "aid": (of_units([-0.1, -0.5], [-0.1, 0.1], [0.0, 0.0]), [True, False, True]),
    # Spread 0.0009 and 0.0011 around a saturated value: half the distance of two values is their deviation.
    "tanh": (of_units([0.9982, 1.0], [0.9978, 1.0], [0.0, 0.0]), [True, False, True]),
    # First the positive parts of three units, then the negative ones: only the first has neither.
    "crelu": (of_units([0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 3.0]), [True, False, False]),
    "fourier": (of_units([0.0, 0.0], [1.0, 1.0]), [False]),
    "maxmin": (of_units([0.0, 0.0], [1.0, 1.0]), [False, False]),
    **dict.fromkeys(("gelu", "silu"), (of_units([0.0, 0.0], [1.0, 1.0]), [False, False])),  # smooth everywhere
}


@pytest.mark.parametrize("name", DEAD)
def test_dead_units(name: str) -> None:
    activation, expected = DEAD[name]
    assert dead_units(activation, name).tolist() == [expected]


@pytest.mark.parametrize("name", DEAD)
def test_a_channel_is_dead_if_it_is_at_all_positions(name: str) -> None:
    activation, expected = DEAD[name]
    still = activation[..., None, None].expand(-1, -1, -1, 2, 1)
    assert dead_units(still, name).tolist() == [expected]
    # One position that moves from -1 to 1 revives every channel; of CReLU that of either half.
    moving = still.clone()
    moving[:, :, :, 1] = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    assert not dead_units(moving, name).any()


def test_members_are_judged_apart() -> None:
    silent, loud = torch.zeros(1, 4, 2), torch.ones(1, 4, 2)
    assert dead_units(torch.cat((silent, loud)), "relu").tolist() == [[True, True], [False, False]]
    spread = torch.linspace(-1, 1, 4).view(1, 4, 1).expand(1, 4, 2)
    assert dead_units(torch.cat((loud, spread)), "tanh").tolist() == [[True, True], [False, False]]


def test_a_unit_that_is_not_finite_is_not_called_dead() -> None:
    activation = torch.tensor([[[torch.nan], [0.0]]])
    assert not dead_units(activation, "relu").any()


def test_entries_of_a_unit_are_its_positions_and_both_its_parts() -> None:
    # Two units on maps of two positions: channels are (+a, +b, -a, -b).
    maps = torch.arange(8.0).view(1, 1, 4, 2, 1)
    assert by_unit(maps, "crelu").tolist() == [[[[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]]]
    assert by_unit(maps, "relu").tolist() == [[[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]]]


def test_magnitudes_and_scores_of_crelu_are_those_of_units() -> None:
    # Pre-activations (-2, 2) and (3, 3): mean magnitudes of both parts together are 1 and 1.5.
    passed_on = ACTIVATIONS["crelu"].function(of_units([-2.0, 2.0], [3.0, 3.0]))
    assert mean_magnitude(passed_on, "crelu").tolist() == [[1.0, 1.5]]
    torch.testing.assert_close(dormancy_scores(passed_on, "crelu"), torch.tensor([[0.8, 1.2]]).double())
