"""The width multiplier: sizes worked out by hand, beside other structures and in every kind of network."""

import pytest
import torch
from treated import batch, conv_specs, part, specs, train, trained

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import mlp, simba
from plasticbench.learning.structures import crelu, layer_norm, maxmin, width


def shapes(layers):
    return {spec.name: spec.weight_shape for spec in layers}


def test_hidden_units_are_multiplied_and_outputs_and_inputs_stay():
    layers = width.Config(factor=1.5).layers(specs((8, 6)))
    assert shapes(layers) == {"fc1": (12, 4), "fc2": (9, 12), "fc3": (3, 9)}


def test_halves_are_rounded_up_and_one_unit_is_left():
    assert shapes(width.Config(factor=0.5).layers(specs((5, 1)))) == {"fc1": (3, 4), "fc2": (1, 3), "fc3": (3, 1)}
    assert shapes(width.Config(factor=0.01).layers(specs((5,)))) == {"fc1": (1, 4), "fc2": (3, 1)}


def test_behind_a_convolution_every_position_has_the_new_channels():
    layers = width.Config(factor=2).layers(conv_specs())
    assert shapes(layers) == {"conv1": (8, 3, 3, 3), "conv2": (10, 8, 3, 3), "fc1": (14, 40), "fc2": (3, 14)}


def test_a_residual_stream_is_as_wide_everywhere():
    ours = width.Config(factor=1.5).layers(simba.Config(num_blocks=2, width=6).layers((4,), 3))
    assert shapes(ours) == shapes(simba.Config(num_blocks=2, width=9).layers((4,), 3))


def test_all_outputs_read_the_new_units():
    head = LayerSpec("std", "head", (2, 6), wiring="sibling")
    layers = width.Config(factor=2).layers([*specs((8, 6)), head])
    assert layers[-1].weight_shape == (2, 12)
    assert layers[-2].weight_shape == (3, 12)


@pytest.mark.parametrize("other", [crelu.Config(), layer_norm.Config(), crelu.Config(width="halve")])
def test_before_or_after_another_structure_is_the_same(other):
    first = other.layers(width.Config(factor=3).layers(specs((8, 6))))
    assert first == width.Config(factor=3).layers(other.layers(specs((8, 6))))


def test_a_factor_of_one_changes_nothing():
    assert width.Config(factor=1).layers(conv_specs()) == conv_specs()


def test_it_trains_as_the_network_that_was_made_so_wide():
    widened = trained([[part("width", factor=2)]] * 2)
    made = trained([[]] * 2, layers=specs((16, 12)))
    for network in (widened, made):
        train(network, 10)
    assert torch.equal(widened.online.flat, made.online.flat)
    assert widened.online.forward(batch([0, 1], 1)[0]).shape == (2, 16, 3)


def test_pairs_that_become_odd_are_refused():
    with pytest.raises(ValueError, match=r"factor: maxmin takes units in pairs, got 3 in fc1. Choose another factor"):
        width.Config(factor=0.5).layers(maxmin.Config().layers(specs((6,))))


def test_a_network_without_hidden_layers_is_refused():
    with pytest.raises(ValueError, match="width needs a hidden layer"):
        width.Config().layers(mlp.Config(hidden=(1,)).layers((4,), 3)[-1:])


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_factor_that_is_not_above_zero_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        width.Config(factor=factor)
