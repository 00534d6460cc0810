"""Spectral regularisation."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import conv_specs, part, train, trained

from plasticbench.learning.members import stacked
from plasticbench.learning.networks import simba
from plasticbench.learning.treatments import spectral


def gradient_of(network, **settings) -> dict[str, torch.Tensor]:
    members = network.online.num_members
    configs = [spectral.Config(**settings)] * members
    treatment = stacked(configs, torch.device("cpu")).build()
    net = network.state_of(slice(0, members, 1))
    network.online.flat_grad.zero_()
    treatment.on_gradient(net, treatment.init(net), None)
    return network.online.views(network.online.flat_grad)


def test_a_diagonal_layer_by_hand() -> None:
    """Singular values 3 and 0.5: (9 - 1)^2 has the slope 2 x 2 x 8 x 3 = 96 along the first direction alone."""
    network = trained([[]])
    network.online.flat.zero_()
    weight = network.online.parameters["fc1.weight"].data
    weight[0, 0, 0], weight[0, 1, 1] = 3.0, 0.5
    found = gradient_of(network, strength=0.5, iterations=30)["fc1.weight"][0]
    expected = torch.zeros_like(found)
    expected[0, 0] = 48.0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_biases_go_to_zero_and_scales_to_one_unless_they_are_free() -> None:
    network = trained([[]], layers=simba.Config(num_blocks=1, width=6).layers((4,), 3))
    network.online.parameters["embed.bias"].data.fill_(2.0)
    network.online.parameters["norm.weight"].data.fill_(3.0)
    drawn = gradient_of(network, strength=0.5)
    assert drawn["embed.bias"].unique().tolist() == [2.0]
    assert drawn["norm.weight"].unique().tolist() == [2.0]
    free = gradient_of(network, strength=0.5, vectors="free")
    assert free["embed.bias"].unique().tolist() == [0.0]


@pytest.mark.parametrize(("exponent", "target"), [(2, 1.0), (1, 1.0), (2, 2.0)])
def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty(exponent, target) -> None:
    strengths = (1e-3, 3e-2)
    settings = {"iterations": 300, "exponent": exponent, "target": target}
    network = trained([[part("spectral", strength=strength, **settings)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):

        def penalty(module=module, strength=strength):
            layers = [layer for layer in module if hasattr(layer, "weight")]
            largest = [torch.linalg.matrix_norm(layer.weight, ord=2) for layer in layers]
            own = sum((sigma**exponent - target) ** 2 for sigma in largest)
            return strength * (own + sum(layer.bias.square().sum() for layer in layers))

        plain_training(module, member, penalty=penalty)
        assert_agrees(network, member, module)


@pytest.mark.parametrize("layers", [None, conv_specs()])
def test_a_strong_penalty_brings_the_largest_singular_values_to_the_target(layers) -> None:
    shape = (4,) if layers is None else (3, 6, 6)
    network = trained([[part("spectral", strength=1.0)]], layers=layers)
    train(network, 300, shape=shape)
    for name, value in network.online.parameters.items():
        if name.endswith("weight"):
            sigma = torch.linalg.matrix_norm(value.detach()[0].flatten(1), ord=2)
            assert float(sigma) == pytest.approx(1.0, abs=0.15), name


def test_a_layer_of_zeros_leaves_its_vector_so_that_it_finds_a_direction_again() -> None:
    network = trained([[]])
    treatment = spectral.Config(strength=0.5, iterations=3).build()
    net = network.state_of(slice(0, 1, 1))
    state = treatment.init(net)
    before = state["fc1"].clone()
    network.online.parameters["fc1.weight"].data.zero_()
    treatment.on_gradient(net, state, None)  # type: ignore[arg-type]
    assert torch.equal(state["fc1"], before)
