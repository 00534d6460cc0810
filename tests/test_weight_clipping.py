"""Weight clipping, and the bounds of initialisers that it goes by."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import conv_specs, part, specs, train, trained, update, weights

from plasticbench.learning.layers import LayerSpec, draw_weight, weight_bound
from plasticbench.learning.members import stacked
from plasticbench.learning.networks import mlp, simba
from plasticbench.learning.treatments import weight_clipping


@pytest.mark.parametrize(
    ("initializer", "gain", "bound"),
    [
        ("xavier_uniform", 2.0, 2.0 * math.sqrt(6 / 10)),
        ("torch_default", 1.0, 0.5),
        ("he_normal", 1.0, math.sqrt(2 / 4) * 2 / 0.87962566),
        ("orthogonal", 3.0, 3.0 * math.sqrt(3 / 6)),
    ],
)
def test_bound_of_a_layer_of_6_units_that_read_4(initializer, gain: float, bound: float) -> None:
    assert weight_bound(LayerSpec("fc", "head", (6, 4), 1, initializer, gain)) == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (8, 6, 3, 3)])
@pytest.mark.parametrize("initializer", ["xavier_uniform", "torch_default", "he_normal"])
def test_draws_come_close_to_the_bound_and_never_pass_it(initializer, shape: tuple[int, ...]) -> None:
    spec = LayerSpec("fc", "head", shape, 1, initializer, 1.5)
    largest = np.abs(draw_weight(spec, np.random.default_rng(0))).max()
    bound = np.float32(weight_bound(spec))
    assert 0.85 * bound < largest <= bound


def test_the_bound_of_an_orthogonal_layer_has_the_standard_deviation_of_its_draws() -> None:
    spec = LayerSpec("fc", "head", (40, 90), 1, "orthogonal", 1.5)
    drawn = draw_weight(spec, np.random.default_rng(0))
    assert weight_bound(spec) / math.sqrt(3) == pytest.approx(drawn.std(), rel=1e-3)
    assert 0.05 < np.mean(np.abs(drawn) > weight_bound(spec)) < 0.12


def test_layers_know_their_bound_and_normalisations_have_none() -> None:
    state = trained([[]], layers=simba.Config(num_blocks=1, width=6).layers((4,), 3)).state_of(slice(0, 1, 1))
    assert {layer.name: layer.initial_bound for layer in state.layers} == {
        "embed": pytest.approx(math.sqrt(3 / 6)),
        "block1_fc1": pytest.approx(math.sqrt(2 / 6) * 2 / 0.87962566),
        "block1_fc2": pytest.approx(math.sqrt(2 / 24) * 2 / 0.87962566),
        "out": pytest.approx(math.sqrt(3 / 6)),
    }
    assert [layer.initial_bound for layer in state.norms] == [None, None]


def test_what_lies_beyond_kappa_bounds_is_cut_off_there_and_nothing_else_changes() -> None:
    """Kernels of 3 x 3 x 3 numbers have the bound 1 / sqrt(27), so kappa sqrt(27) cuts at 1, and its half at 0.5."""
    configs = [weight_clipping.Config(kappa=kappa, layers="conv1") for kappa in (math.sqrt(27), math.sqrt(27) / 2)]
    network = trained([[], []], layers=conv_specs())
    kernel, bias = (network.online.parameters[f"conv1.{kind}"].detach() for kind in ("weight", "bias"))
    kernel[:, 0, 0, 0] = torch.tensor([-7.0, 0.75, 2.0])
    bias[:, 0] = -3.0
    expected = network.online.views(network.online.flat.clone())
    expected["conv1.weight"][:, 0, 0, 0] = torch.tensor([[-1.0, 0.75, 1.0], [-0.5, 0.5, 0.5]])
    expected["conv1.bias"][:, 0] = torch.tensor([-1.0, -0.5])
    treatment = stacked(configs, torch.device("cpu")).build()
    treatment.on_update(network.state_of(slice(0, 2, 1)), {}, SimpleNamespace())
    for name, value in network.online.parameters.items():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("initializer", ["torch_default", "xavier_uniform"])
def test_members_of_two_kappas_agree_with_plain_training_and_clamping(initializer) -> None:
    """The written-out bounds of a network 4 - 8 - 6 - 3."""
    fans = {"fc1": (4, 8), "fc2": (8, 6), "fc3": (6, 3)}
    xavier = initializer == "xavier_uniform"
    bounds = {name: math.sqrt(6 / (i + o)) if xavier else 1 / math.sqrt(i) for name, (i, o) in fans.items()}
    kappas = (0.8, 1.1)
    layers = mlp.Config(hidden=(8, 6), initializer=initializer).layers((4,), 3)
    network = trained([[part("weight_clipping", kappa=kappa)] for kappa in kappas], layers=layers)
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, kappa) in enumerate(zip(modules, kappas, strict=True)):

        def clamp(step: int, module=module, kappa=kappa) -> None:
            for name, (fan_in, _) in fans.items():
                layer = module.get_submodule(name)
                layer.weight.clamp_(-kappa * bounds[name], kappa * bounds[name])
                layer.bias.clamp_(-kappa / math.sqrt(fan_in), kappa / math.sqrt(fan_in))

        plain_training(module, member, after=clamp)
        assert_agrees(network, member, module)


def test_weights_stay_within_kappa_bounds_while_those_of_none_leave_them() -> None:
    network = trained([[part("weight_clipping", kappa=1.5, bound="fan_in")], [part("none")]])
    limits = {spec.name: 1.5 / math.sqrt(spec.weight_shape[1]) for spec in specs()}
    for step in range(1, 101):
        update(network, step)
        for name, value in weights(network, 0).items():
            assert value.abs().max() <= limits[name.partition(".")[0]] * (1 + 1e-6)
    assert any(v.abs().max() > limits[name.partition(".")[0]] for name, v in weights(network, 1).items())


def test_hidden_leaves_the_output_layer_unclipped() -> None:
    network = trained([[part("weight_clipping", kappa=1e-3, layers="hidden")]])
    update(network, 1)
    clipped = weights(network, 0)
    assert clipped["fc2.weight"].abs().max() <= 1e-3
    assert clipped["fc3.weight"].abs().max() > 0.1
