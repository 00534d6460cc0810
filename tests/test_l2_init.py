"""L2 towards the initialisation."""

import copy
from types import SimpleNamespace

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import part, train, trained, update, weights

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.learning.treatments import l2_init


def parameter(value: list[list[float]], original: list[list[float]]) -> ParameterState:
    value_tensor = torch.tensor(value)
    return ParameterState(
        value=value_tensor,
        draw=lambda: value_tensor,
        original=torch.tensor(original),
        gradient=torch.ones_like(value_tensor),
    )


def penalised(**settings) -> torch.Tensor:
    """The gradient, 1 before, of two members whose weights moved by (1, -2) and by (0, 3)."""
    weight = parameter([[2.0, 0.0], [5.0, 3.0]], [[1.0, 2.0], [5.0, 0.0]])
    layer = LayerState(name="norm", role="encoder", is_output=False, weight=weight)
    treatment = l2_init.Config(**settings).build()
    treatment.on_gradient(NetworkState(layers=[], norms=[layer]), {}, SimpleNamespace())
    assert weight.gradient is not None
    return weight.gradient


def test_the_gradient_grows_by_twice_the_strength_times_the_distance() -> None:
    assert penalised(strength=0.5).tolist() == [[2.0, -1.0], [1.0, 4.0]]


def test_the_mean_divides_by_the_entries_of_one_members_parameter() -> None:
    assert penalised(strength=0.5, reduction="mean").tolist() == [[1.5, 0.0], [1.0, 2.5]]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty(reduction: str) -> None:
    strengths = (1e-2, 3e-1)
    network = trained([[part("l2_init", strength=strength, reduction=reduction)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        initial = copy.deepcopy(module).requires_grad_(False)

        def penalty(module=module, initial=initial, strength=strength):
            pairs = zip(module.parameters(), initial.parameters(), strict=True)
            return strength * sum(getattr((p - q).square(), reduction)() for p, q in pairs)

        plain_training(module, member, penalty=penalty)
        assert_agrees(network, member, module)


def test_the_first_update_is_that_of_none_since_nothing_has_moved_yet() -> None:
    treated, untreated = trained([[part("l2_init", strength=10.0)]]), trained([[part("none")]])
    update(treated, 1)
    update(untreated, 1)
    ours, theirs = weights(treated, 0), weights(untreated, 0)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_strong_pull_keeps_the_weights_near_their_first_values() -> None:
    network = trained([[part("l2_init", strength=10.0)], [part("none")]])
    train(network, 100)
    squares = network.online.views((network.online.flat - network.original).square())
    pulled, free = (sum(float(square[member].sum()) for square in squares.values()) for member in range(2))
    assert pulled < 0.04 * free
