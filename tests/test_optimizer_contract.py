"""What holds of every optimizer on disk: previews, resets of its state, forks, members that never mix."""

import copy
from typing import Any

import pytest
import torch
from small_agents import agent_with
from torch import Tensor
from treated import conv_specs, part, trained, update

from plasticbench import plugins
from plasticbench.learning.trained import TrainedNetwork

KINDS = plugins.names("optimizers")
SHAPE = (3, 6, 6)
# A pull so strong that its absence would show.
STRONG: dict[str, dict[str, Any]] = {
    "adamo": {"strength": 0.3},
    "upgd": {"noise": 0.1},
    "trac": {"initial_scale": 0.1},
}
# Settings with which each parameter is updated by itself, so that others do not show what became of it.
BY_PARAMETER: dict[str, dict[str, Any]] = {"upgd": {"scope": "local", "noise": 0.0}}
WHOLE = {
    "trac": "one scale is that of all parameters",
    "kron": "factors are fitted with noise from a stream that has gone on: see its own test",
}
"""Optimizers that take no parameter by itself, and why."""


def network_of(kind: str, members: int = 3, seeds: list[int] | None = None, **settings: Any) -> TrainedNetwork:
    parts = [[part(kind, **STRONG.get(kind, {}) | settings)]] * members
    return trained(parts, seeds=seeds, layers=conv_specs())


def updates(network: TrainedNetwork, first: int, last: int) -> None:
    for step in range(first, last + 1):
        update(network, step, SHAPE)


def everything(network: TrainedNetwork) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_preview_is_the_next_step_to_the_bit_and_changes_nothing(kind: str) -> None:
    network = network_of(kind)
    updates(network, 1, 3)
    before = everything(network)
    flat = network.online.flat.clone()
    gradients = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    predicted = network.optimizer.preview(gradients)
    for name, tensor in everything(network).items():
        assert torch.equal(tensor, before[name]), name
    network.online.flat_grad.copy_(gradients)
    network.optimizer.step()
    assert torch.equal(network.online.flat - flat, predicted)
    assert torch.count_nonzero(predicted) > 0.9 * predicted.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_knows_whose_updates_cannot_be_recorded(kind: str) -> None:
    config = plugins.load("optimizers", kind).Config()
    assert getattr(config, "can_capture", True) == getattr(network_of(kind).optimizer, "is_capturable", False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WHOLE])
def test_a_cleared_parameter_of_one_member_goes_on_as_with_a_new_optimizer(kind: str) -> None:
    settings = BY_PARAMETER.get(kind, {})
    network = network_of(kind, **settings)
    updates(network, 1, 5)
    flat = network.online.flat.clone()
    name = "fc1.weight"
    network.clear_moments(slice(1, 2, 1), {name})
    for moment in network.optimizer.moments.values():
        assert not network.online.views(moment)[name][1].any()
    gradients = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    predicted = network.online.views(network.optimizer.preview(gradients))
    new = network_of(kind, **settings)
    new.online.flat.copy_(flat)
    first = new.online.views(new.optimizer.preview(gradients))
    kept = network_of(kind, **settings)
    updates(kept, 1, 5)
    going_on = kept.online.views(kept.optimizer.preview(gradients))
    for each, change in predicted.items():
        for member in range(3):
            other = first if (each, member) == (name, 1) else going_on
            torch.testing.assert_close(change[member], other[each][member], rtol=1e-5, atol=1e-7)
    if network.optimizer.moments:  # otherwise there is no past that a step could show
        assert not torch.allclose(first[name][1], going_on[name][1], rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_and_a_forked_network_go_on_bit_for_bit(kind: str) -> None:
    seeds = [5, 6, 7]
    network = network_of(kind, seeds=seeds)
    updates(network, 1, 4)
    network.clear_moments(slice(0, 1, 1), {"conv2.weight", "fc1.bias"})
    saved = everything(network)
    chance = [copy.deepcopy(streams.state_dict()) for streams in network.streams]
    resumed = network_of(kind, seeds=seeds)
    for streams, state in zip(resumed.streams, chance, strict=True):
        streams.load_state_dict(state)
    resumed.load_state_dict(saved, [0, 1, 2])
    updates(network, 5, 8)
    updates(resumed, 5, 8)
    assert torch.equal(resumed.online.flat, network.online.flat)
    forks = [network_of(kind, seeds=[6] * 3) for _ in range(2)]
    for fork in forks:
        fork.load_state_dict(saved, [1, 1, 1])
        for streams in fork.streams:
            streams.load_state_dict(chance[1])
        updates(fork, 5, 8)
    for name, value in forks[0].online.parameters.items():
        assert torch.equal(value, forks[1].online.parameters[name])
        for own in value:
            torch.testing.assert_close(own, network.online.parameters[name][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_alone_and_in_company_agree(kind: str) -> None:
    together = network_of(kind)
    updates(together, 1, 20)
    for member in range(3):
        alone = network_of(kind, 1, [member])
        updates(alone, 1, 20)
        for name, value in alone.online.parameters.items():
            torch.testing.assert_close(value[0], together.online.parameters[name][member], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_stay_where_they_are_in_memory(kind: str) -> None:
    network = network_of(kind)
    before = {name: value.data_ptr() for name, value in network.online.parameters.items()}
    flats = [moment.data_ptr() for moment in network.optimizer.moments.values()]
    updates(network, 1, 3)
    assert {name: value.data_ptr() for name, value in network.online.parameters.items()} == before
    assert [moment.data_ptr() for moment in network.optimizer.moments.values()] == flats


@pytest.mark.parametrize("kind", KINDS)
def test_weights_without_any_gradient_stay_finite(kind: str) -> None:
    network = network_of(kind)
    network.online.flat.zero_()
    for _ in range(3):
        network.optimizer.step()
    assert network.online.flat.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("agent", ["dqn", "sac"])
def test_agents_train_with_it(kind: str, agent: str) -> None:
    treated = agent_with(agent, [part(kind, **STRONG.get(kind, {}))], updates=6)
    for network in treated.trained:
        assert network.optimizer.steps.eq(6).all()
        assert network.online.flat.isfinite().all()
        moved = network.online.views(network.online.flat - network.original)
        assert all(moved[f"{spec.name}.weight"].flatten(1).any(1).all() for spec in network.online.specs)
