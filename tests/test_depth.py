"""The depth multiplier: layers worked out by hand, beside other structures and in every kind of network."""

import pytest
import torch
from treated import conv_specs, part, specs, train, trained

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import crelu, depth, layer_norm


def shapes(layers):
    return [(spec.name, spec.weight_shape) for spec in layers]


def test_every_hidden_layer_is_followed_by_layers_of_its_own_width():
    assert shapes(depth.Config(factor=3).layers(specs((8, 6)))) == [
        ("fc1", (8, 4)),
        ("fc1_2", (8, 8)),
        ("fc1_3", (8, 8)),
        ("fc2", (6, 8)),
        ("fc2_2", (6, 6)),
        ("fc2_3", (6, 6)),
        ("fc3", (3, 6)),
    ]


def test_convolutions_stay_as_they_are():
    layers = depth.Config().layers(conv_specs())
    assert shapes(layers)[1:5] == [
        ("conv2", (5, 4, 3, 3)),
        ("fc1", (7, 20)),
        ("fc1_2", (7, 7)),
        ("fc2", (3, 7)),
    ]


def test_a_residual_network_has_more_blocks():
    ours = depth.Config(factor=2).layers(simba.Config(num_blocks=1, width=6).layers((4,), 3))
    theirs = simba.Config(num_blocks=2, width=6).layers((4,), 3)
    named = [spec._replace(name=spec.name.removesuffix("_2")) for spec in ours]
    assert [spec._replace(name="") for spec in named] == [spec._replace(name="") for spec in theirs]
    assert len({spec.name for spec in ours}) == len(ours)


def test_all_outputs_read_the_last_repetition():
    head = LayerSpec("std", "head", (2, 6), wiring="sibling")
    layers = depth.Config().layers([*specs((8, 6)), head])
    assert shapes(layers)[-3:] == [("fc2_2", (6, 6)), ("fc3", (3, 6)), ("std", (2, 6))]


def test_repetitions_read_both_halves_of_units_that_are_passed_on_twice():
    layers = depth.Config().layers(crelu.Config().layers(specs((8,))))
    assert shapes(layers) == [("fc1", (8, 4)), ("fc1_2", (8, 16)), ("fc2", (3, 16))]


def test_normalisations_are_repeated_with_their_layer():
    layers = depth.Config().layers(layer_norm.Config().layers(specs((8,))))
    assert shapes(layers) == [
        ("fc1", (8, 4)),
        ("fc1_norm", (8,)),
        ("fc1_2", (8, 8)),
        ("fc1_norm_2", (8,)),
        ("fc2", (3, 8)),
    ]
    assert layers == [
        spec._replace(name={"fc1_2_norm": "fc1_norm_2"}.get(spec.name, spec.name))
        for spec in layer_norm.Config().layers(depth.Config().layers(specs((8,))))
    ]


def test_a_factor_of_one_changes_nothing():
    assert depth.Config(factor=1).layers(conv_specs()) == conv_specs()


def test_repetitions_start_with_weights_of_their_own_and_train():
    network = trained([[part("depth", factor=3)]], layers=specs((8, 8)))
    values = network.online.parameters
    assert not torch.equal(values["fc1_2.weight"], values["fc1_3.weight"])
    before = values["fc1_3.weight"].detach().clone()
    train(network, 3)
    assert not torch.equal(values["fc1_3.weight"], before)


def test_a_network_with_nothing_to_repeat_is_refused():
    with pytest.raises(ValueError, match="depth needs a residual block or a hidden linear layer to repeat"):
        depth.Config().layers([LayerSpec("conv1", "encoder", (4, 3, 3, 3)), LayerSpec("out", "head", (3, 64))])


@pytest.mark.parametrize("factor", [0, -1])
def test_a_factor_that_is_no_positive_whole_number_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        depth.Config(factor=factor)
