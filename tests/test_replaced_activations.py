"""Structures that put another nonlinearity in the place of ReLU."""

import pytest
import torch
from torch import nn
from treated import batch, conv_specs, event, part, specs, trained

from plasticbench.learning.activations import ACTIVATIONS, dead_units
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import crelu, deep_fourier, leaky_relu, maxmin, tanh

SWAPPED = {"leaky_relu": nn.LeakyReLU(), "tanh": nn.Tanh()}


@pytest.mark.parametrize("kind", SWAPPED)
def test_outputs_are_those_of_pytorchs_modules(kind) -> None:
    network = trained([[part(kind)]])
    values = {name: value.detach()[0] for name, value in network.online.parameters.items()}
    x, _ = batch([0], 1)
    hidden = x[0]
    for name in ("fc1", "fc2"):
        hidden = SWAPPED[kind](hidden @ values[f"{name}.weight"].T + values[f"{name}.bias"])
    expected = hidden @ values["fc3.weight"].T + values["fc3.bias"]
    torch.testing.assert_close(network.online.forward(x)[0], expected)


def test_pairs_are_sorted_and_lengths_stay() -> None:
    x = torch.tensor([[[1.0, 3.0, 5.0, 2.0]]])
    sorted_pairs = ACTIVATIONS["maxmin"].function(x)
    assert sorted_pairs.tolist() == [[[3.0, 1.0, 5.0, 2.0]]]
    maps = torch.randn(2, 3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    mapped = ACTIVATIONS["maxmin"].function(maps)
    assert torch.equal(mapped[:, :, 0], torch.maximum(maps[:, :, 0], maps[:, :, 1]))
    assert torch.equal(mapped[:, :, 5], torch.minimum(maps[:, :, 4], maps[:, :, 5]))
    torch.testing.assert_close(mapped.norm(), maps.norm())


def test_maxmin_needs_pairs() -> None:
    with pytest.raises(ValueError, match="even numbers of units, got 5 in conv2, 7 in fc1"):
        maxmin.Config().layers(conv_specs())


def test_units_behind_pairs_cannot_be_exchanged_one_by_one() -> None:
    network = trained([[part("maxmin"), part("redo")]])
    with pytest.raises(ValueError, match="'redo' exchanges hidden units one by one"):
        event(network, [0], 1, index=1)


def test_sine_and_cosine_of_half_the_units_keep_the_width() -> None:
    layers = deep_fourier.Config().layers(specs())
    assert [(spec.name, spec.weight_shape, spec.activation) for spec in layers] == [
        ("fc1", (4, 4), "fourier"),
        ("fc2", (3, 8), "fourier"),
        ("fc3", (3, 6), "relu"),  # of outputs, which have none
    ]
    x = torch.tensor([[[0.0, torch.pi / 2]]])
    assert ACTIVATIONS["fourier"].function(x)[0, 0].tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0], abs=1e-6)


def test_no_fourier_unit_is_ever_dead() -> None:
    passed_on = ACTIVATIONS["fourier"].function(torch.zeros(1, 5, 3))
    assert not dead_units(passed_on, "fourier").any()


def test_shapes_of_doubled_layers_are_those_of_crelu() -> None:
    ours, theirs = (m.Config(width="double").layers(conv_specs()) for m in (deep_fourier, crelu))
    assert [spec.weight_shape for spec in ours] == [spec.weight_shape for spec in theirs]


@pytest.mark.parametrize("module", [leaky_relu, tanh, maxmin, deep_fourier])
def test_a_network_without_relu_is_refused_by_name(module) -> None:
    layers = tanh.Config().layers(specs()) if module is not tanh else leaky_relu.Config().layers(specs())
    kind = module.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"{kind} needs a hidden ReLU to replace, but this network has none"):
        module.Config().layers(layers)


@pytest.mark.parametrize("module", [leaky_relu, tanh, maxmin])
def test_in_residual_blocks_the_hidden_layers_are_rewritten_and_widths_stay(module) -> None:
    before = simba.Config(num_blocks=1, width=6).layers((4,), 3)
    after = module.Config().layers(before)
    assert [spec.weight_shape for spec in after] == [spec.weight_shape for spec in before]
    assert [spec.name for spec in after if spec.activation not in ("identity", "relu")] == ["block1_fc1"]
