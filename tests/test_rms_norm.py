"""RMS normalisation as a structure."""

import pytest
import torch
from torch import nn
from treated import batch, conv_specs, part, specs, train, trained

from plasticbench.learning.network import population_rms_norm
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import layer_norm, rms_norm


def test_a_row_by_hand() -> None:
    x = torch.tensor([[[3.0, 4.0]]])
    gain = torch.tensor([[2.0, 1.0]])
    root = (25.0 / 2) ** 0.5
    assert population_rms_norm(x, gain)[0, 0].tolist() == pytest.approx([2 * 3 / root, 4 / root])


def test_outputs_and_gradients_are_those_of_pytorchs_module() -> None:
    network = trained([[part("rms_norm")]])
    values = {name: value.detach()[0].clone().requires_grad_() for name, value in network.online.parameters.items()}
    x, targets = batch([0], 1)
    hidden = x[0]
    for name in ("fc1", "fc2"):
        hidden = hidden @ values[f"{name}.weight"].T + values[f"{name}.bias"]
        hidden = nn.functional.rms_norm(hidden, hidden.shape[1:], values[f"{name}_norm.weight"], eps=1e-6).relu()
    expected = hidden @ values["fc3.weight"].T + values["fc3.bias"]
    ours = network.online.forward(x)[0]
    torch.testing.assert_close(ours, expected)
    (ours - targets[0]).square().mean().backward()
    (expected - targets[0]).square().mean().backward()
    for name, parameter in network.online.parameters.items():
        if not name.endswith("_norm.bias"):
            torch.testing.assert_close(parameter.grad[0], values[name].grad, rtol=1e-4, atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize(("over", "dims"), [("map", (2, 3, 4)), ("channels", (2,))])
def test_of_maps_the_mean_square_is_over_the_map_or_the_channels(over, dims) -> None:
    x = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    normalized = population_rms_norm(x, torch.ones(2, 4), over)
    assert normalized.square().mean(dim=dims) == pytest.approx(torch.ones_like(x.mean(dim=dims)), rel=1e-4)


def test_the_shift_stays_zero() -> None:
    network = trained([[part("rms_norm")]])
    train(network, 20)
    assert not network.online.parameters["fc1_norm.bias"].any()
    assert (network.online.parameters["fc1_norm.weight"] != 1).any()


@pytest.mark.parametrize("layers", [specs(), conv_specs(), simba.Config(num_blocks=1, width=6).layers((4,), 3)])
def test_it_stands_where_layer_norm_would(layers) -> None:
    ours, theirs = rms_norm.Config().layers(layers), layer_norm.Config().layers(layers)
    assert [spec._replace(norm="layer") for spec in ours] == theirs
    assert [spec.name for spec in ours if spec.is_norm and spec.norm == "rms"]
