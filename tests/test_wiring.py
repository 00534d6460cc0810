"""Who reads whom, and where in the reader's columns: written out for every kind of network."""

import torch
from torch import Tensor

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import minatar_cnn, mlp, nature_cnn, simba
from plasticbench.learning.structures import crelu, layer_norm
from plasticbench.learning.views import LazyDraw, activations_of, network_state
from plasticbench.learning.wiring import Reading, Wire, wiring

NOBODY = Wire("identity", None, ())
"""Of outputs."""


def test_each_layer_of_an_mlp_is_read_by_the_next() -> None:
    assert wiring(mlp.Config(hidden=(8, 6)).layers((4,), 3)) == {
        "fc1": Wire("relu", "fc1", (Reading("fc2", 1, 1),)),
        "fc2": Wire("relu", "fc2", (Reading("fc3", 1, 1),)),
        "fc3": NOBODY,
    }


def test_a_linear_layer_reads_a_channel_at_every_position() -> None:
    assert wiring(minatar_cnn.Config(channels=5, hidden_units=7).layers((4, 10, 10), 3)) == {
        "conv1": Wire("relu", "conv1", (Reading("fc1", 1, 64),)),
        "fc1": Wire("relu", "fc1", (Reading("fc2", 1, 1),)),
        "fc2": NOBODY,
    }
    wires = wiring(nature_cnn.Config().layers((4, 84, 84), 6))
    assert wires["conv1"].readings == (Reading("conv2", 1, 1),)
    assert wires["conv3"].readings == (Reading("fc1", 1, 49),)


def test_through_crelu_each_unit_stands_in_two_blocks() -> None:
    assert wiring(crelu.Config().layers(minatar_cnn.Config(channels=5, hidden_units=7).layers((4, 10, 10), 3))) == {
        "conv1": Wire("crelu", "conv1", (Reading("fc1", 2, 64),)),
        "fc1": Wire("crelu", "fc1", (Reading("fc2", 2, 1),)),
        "fc2": NOBODY,
    }


def test_a_normalisation_is_looked_through() -> None:
    layers = layer_norm.Config().layers(minatar_cnn.Config(channels=5, hidden_units=7).layers((4, 10, 10), 3))
    assert wiring(layers) == {
        "conv1": Wire("relu", "conv1_norm", (Reading("fc1", 1, 64),), ("conv1_norm",)),
        "fc1": Wire("relu", "fc1_norm", (Reading("fc2", 1, 1),), ("fc1_norm",)),
        "fc2": NOBODY,
    }
    assert wiring(crelu.Config().layers(layers))["conv1"] == Wire(
        "crelu", "conv1_norm", (Reading("fc1", 2, 64),), ("conv1_norm",)
    )


def test_of_simba_the_stream_is_read_by_each_block_and_by_the_outputs() -> None:
    assert wiring(simba.Config(num_blocks=2, width=4).layers((5,), 3)) == {
        "embed": Wire(
            "identity", None, (Reading("block1_fc1", 1, 1), Reading("block2_fc1", 1, 1), Reading("out", 1, 1))
        ),
        "block1_fc1": Wire("relu", "block1_fc1", (Reading("block1_fc2", 1, 1),)),
        "block1_fc2": Wire("identity", None, (Reading("block2_fc1", 1, 1), Reading("out", 1, 1))),
        "block2_fc1": Wire("relu", "block2_fc1", (Reading("block2_fc2", 1, 1),)),
        "block2_fc2": Wire("identity", None, (Reading("out", 1, 1),)),
        "out": NOBODY,
    }


def test_of_simba_structures_concern_the_layers_inside_the_blocks() -> None:
    plain = simba.Config(num_blocks=1, width=4).layers((5,), 3)
    both = wiring(crelu.Config().layers(layer_norm.Config().layers(plain)))
    assert both["block1_fc1"] == Wire("crelu", "block1_fc1_norm", (Reading("block1_fc2", 2, 1),), ("block1_fc1_norm",))
    assert {name: wire for name, wire in both.items() if name != "block1_fc1"} == {
        name: wire for name, wire in wiring(plain).items() if name != "block1_fc1"
    }


def two_heads() -> list[LayerSpec]:
    *hidden, last = mlp.Config(hidden=(6,)).layers((4,), 2)
    return [*hidden, last._replace(name="mean"), last._replace(name="log_std", wiring="sibling")]


def test_both_heads_read_what_the_first_one_reads() -> None:
    assert wiring(two_heads()) == {
        "fc1": Wire("relu", "fc1", (Reading("mean", 1, 1), Reading("log_std", 1, 1))),
        "mean": NOBODY,
        "log_std": NOBODY,
    }
    assert wiring(crelu.Config().layers(two_heads()))["fc1"].readings == (
        Reading("mean", 2, 1),
        Reading("log_std", 2, 1),
    )


def test_a_nonlinearity_of_the_stream_itself_belongs_to_nobody() -> None:
    layers = [
        LayerSpec("fc1", "encoder", (4, 4), activation="identity"),
        LayerSpec("fc2", "encoder", (4, 4), activation="identity", wiring="opens_residual"),
        LayerSpec("fc3", "encoder", (4, 4), wiring="closes_residual"),
        LayerSpec("out", "head", (2, 4)),
    ]
    assert wiring(layers) == {
        "fc1": Wire("identity", None, (Reading("fc2", 1, 1), Reading("out", 1, 1))),
        "fc2": Wire("identity", None, (Reading("fc3", 1, 1),)),
        "fc3": Wire("identity", None, (Reading("out", 1, 1),)),
        "out": NOBODY,
    }


def columns_of(weight: list[list[float]], layers: list[LayerSpec], name: str) -> Tensor:
    """The columns of the one reader of a layer, whose weight is given, by unit."""
    network = PopulationNetwork(layers, 1, torch.device("cpu"))
    state = network_state(network, slice(0, 1, 1), fresh=LazyDraw(dict), buffers={}, moments={})
    (reader,) = next(layer for layer in state.layers if layer.name == name).readers
    reader.layer.weight.value[0] = torch.tensor(weight)
    return reader.columns(reader.layer.weight.value)[0]


def test_the_columns_of_each_unit_are_written_out() -> None:
    plain = [LayerSpec("conv", "encoder", (2, 1, 1, 1)), LayerSpec("out", "head", (1, 6))]
    # Two channels at three positions, flattened channel by channel: (a1 a2 a3 b1 b2 b3).
    assert columns_of([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], plain, "conv").tolist() == [
        [[[1.0, 2.0, 3.0]]],
        [[[4.0, 5.0, 6.0]]],
    ]
    # Through CReLU all positive parts come first: (+a1 +a2 +a3 +b1 +b2 +b3 -a1 -a2 -a3 -b1 -b2 -b3).
    doubled = crelu.Config().layers(plain)
    assert columns_of([[float(i) for i in range(1, 13)]], doubled, "conv").tolist() == [
        [[[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]],
        [[[4.0, 5.0, 6.0], [10.0, 11.0, 12.0]]],
    ]


def test_activations_are_those_behind_the_norm_and_the_nonlinearity() -> None:
    network = PopulationNetwork(layer_norm.Config().layers(two_heads()), 1, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    network.load({name: torch.randn(p.shape, generator=generator) for name, p in network.parameters.items()})
    passed_on: list[Tensor] = []
    outputs = network.forward(torch.randn(1, 5, 4, generator=generator), passed_on)
    activation = activations_of(network, passed_on)
    assert activation.keys() == {"fc1"}
    w = network.parameters
    assert (activation["fc1"] >= 0).all()
    torch.testing.assert_close(outputs[..., :2], activation["fc1"] @ w["mean.weight"].mT + w["mean.bias"])
