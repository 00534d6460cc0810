"""Passes without autograd's graph give its values and gradients, bit for bit."""

import pytest
import torch

from plasticbench.learning.chain import is_chain
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import mlp, nature_cnn, simba
from plasticbench.seeding import derive_generator

CPU = torch.device("cpu")


def network(specs, members):
    made = PopulationNetwork(specs, members, CPU)
    made.load(made.draw([derive_generator(seed, "init") for seed in range(members)]))
    return made


def with_siblings(widths, outputs):
    *hidden, last = mlp.Config(hidden=widths).layers((5,), outputs)
    return [*hidden, last._replace(name="mean"), last._replace(name="log_std", wiring="sibling")]


def test_a_chain_worked_by_hand():
    specs = [LayerSpec("fc1", "encoder", (2, 1)), LayerSpec("fc2", "head", (1, 2))]
    made = network(specs, 1)
    made.load(
        {
            "fc1.weight": torch.tensor([[[1.0], [-1.0]]]),
            "fc1.bias": torch.tensor([[0.0, 1.0]]),
            "fc2.weight": torch.tensor([[[2.0, 3.0]]]),
            "fc2.bias": torch.tensor([[0.5]]),
        }
    )
    # Rows 2 and -1 pass (2, 0) and (0, 2) on, of which the outputs are 4.5 and 6.5.
    assert made.chain.forward(torch.tensor([[[2.0], [-1.0]]]), keeps=True).flatten().tolist() == [4.5, 6.5]
    made.chain.backward(torch.tensor([[[1.0], [10.0]]]))
    found = {name: parameter.grad.flatten().tolist() for name, parameter in made.parameters.items()}
    # Row 2 moves unit 1 by 2, row -1 unit 2 by 30.
    assert found == {"fc1.weight": [4.0, -30.0], "fc1.bias": [2.0, 30.0], "fc2.weight": [2.0, 20.0], "fc2.bias": [11.0]}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("widths", [(64, 64), (12, 7, 5), (3,)])
@pytest.mark.parametrize("siblings", [False, True])
def test_values_and_gradients_are_those_of_autograd(members, widths, siblings):
    made = network(with_siblings(widths, 3) if siblings else mlp.Config(hidden=widths).layers((5,), 3), members)
    x = torch.randn(members, 32, 5, generator=torch.Generator().manual_seed(0))
    outputs = made.forward(x)
    pull = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    expected = made.flatten(torch.autograd.grad(outputs, made.leaves, pull))
    made.flat_grad.fill_(torch.nan)
    assert torch.equal(made.chain.forward(x, keeps=True), outputs)
    made.chain.backward(pull)
    assert torch.equal(made.flat_grad, expected)


@pytest.mark.parametrize(
    "specs",
    [
        mlp.Config(activation="tanh").layers((5,), 3),
        simba.Config(width=8).layers((5,), 3),
        nature_cnn.Config().layers((4, 36, 36), 3),
    ],
)
def test_other_networks_are_no_chains(specs):
    assert not is_chain(specs)
    assert network(specs, 1).chain is None
