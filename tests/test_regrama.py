"""Units that the loss does not reach are recycled."""

import pytest
import torch
from treated import conv_specs, event, part, sample, trained, weights

from plasticbench.learning.unit_scores import gradient_scores


def test_gradient_scores_by_hand() -> None:
    gradient = torch.tensor([[[1.0, -1.0], [0.0, 0.0], [4.0, 0.0]]])
    assert gradient_scores(gradient)[0].tolist() == pytest.approx([1.0, 0.0, 2.0])
    assert gradient_scores(torch.zeros(1, 3, 2)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("layers", [None, conv_specs()])
def test_units_that_no_gradient_reaches_are_recycled_although_they_speak(layers) -> None:
    """Zero outgoing weights keep every gradient from a unit, and leave its activation as it is."""
    shape = (4,) if layers is None else (3, 6, 6)
    network = trained([[part("regrama", tau=0.0)]], layers=layers)
    network.online.parameters["fc1.bias"].data.fill_(1.0)
    network.online.parameters["fc2.weight"].data[:, :, 2] = 0.0
    assert float(sample(network, 1, shape).activations["fc1"][0, :, 2].abs().sum()) > 0
    before = weights(network, 0)["fc1.weight"]
    event(network, [0], 1, shape=shape)
    is_redrawn = (weights(network, 0)["fc1.weight"] != before).all(dim=1)
    assert is_redrawn.nonzero().flatten().tolist() == [2]


def test_redo_would_not_have_chosen_that_unit() -> None:
    network = trained([[part("redo", tau=0.0)]])
    network.online.parameters["fc1.bias"].data.fill_(1.0)
    network.online.parameters["fc2.weight"].data[:, :, 2] = 0.0
    before = weights(network, 0)["fc1.weight"]
    event(network, [0], 1)
    assert torch.equal(weights(network, 0)["fc1.weight"][2], before[2])
