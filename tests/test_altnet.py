"""AltNet: a twin that learns beside the network and takes its place at events."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from small_agents import agent_with
from small_runs import facts, run_all, small
from torch import nn
from treated import BASE, batch, event, part, train, trained, update

from plasticbench.learning.turns import turn
from plasticbench.platform.definition.reading import BenchmarkError, from_dict


def twin_of(network: Any, member: int = 0) -> dict[str, torch.Tensor]:
    """A member's twin as it was saved."""
    [application] = network.parts.applications
    return {name: tensor[member].clone() for name, tensor in application.state.items()}


def test_an_event_puts_the_twin_in_the_networks_place_and_a_new_one_in_its_own() -> None:
    network = trained([[part("altnet")]] * 2)
    train(network, 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    twin = twin_of(network, 1)
    assert event(network, [1], step=3).touched == set(network.online.parameters)
    for name in network.online.parameters:
        assert torch.equal(network.online.parameters[name][1], twin[f"online/{name}"])
        assert torch.equal(network.online.parameters[name][0], before[f"q/online/{name}"][0])
        assert network.target is not None
        assert torch.equal(network.target.parameters[name][1], twin[f"target/{name}"])
    assert network.optimizer.steps[:, 1].tolist() == twin["steps"].tolist() == [3] * len(network.online.slots)
    new = twin_of(network, 1)
    for name in network.online.parameters:
        assert torch.equal(new[f"online/{name}"], new[f"target/{name}"])
        assert torch.equal(new[f"online/{name}"], new[f"original/{name}"])
        assert not new[f"exp_avg/{name}"].any()
    assert not torch.equal(new["online/fc1.weight"], twin["original/fc1.weight"]), "each twin is another draw"
    assert new["steps"].tolist() == [0] * len(network.online.slots)


def plain_update(module: nn.Module, optimizer: torch.optim.Optimizer, member: int, step: int) -> None:
    """One update on the toy task."""
    inputs, targets = batch([member], step)
    optimizer.zero_grad()
    (module(inputs[0]) - targets[0]).square().mean().backward()
    optimizer.step()


def test_network_and_twin_agree_with_two_plain_networks_that_change_places_after_ten_updates() -> None:
    network = trained([[part("none")], [part("altnet")], [part("none")]], seeds=[5, 6, 7])
    alone = plain_copy(network, 0)
    acting = plain_copy(network, 1)
    optimizers: dict[nn.Module, torch.optim.Optimizer] = {}

    def optimizer(module: nn.Module) -> torch.optim.Optimizer:
        return optimizers.setdefault(module, torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps))

    update(network, 1)
    application = next(one for one in network.parts.applications if one.takes_turns)
    assert application.state is not None
    first = {k.removeprefix("original/"): v[0].clone() for k, v in application.state.items() if "original/" in k}
    passive = copy.deepcopy(acting)
    passive.load_state_dict(first)
    for step in range(1, 21):
        if step > 1:
            update(network, step)
        plain_update(acting, optimizer(acting), 6, step)
        plain_update(passive, optimizer(passive), 6, step)
        plain_update(alone, optimizer(alone), 5, step)
        if step == 10:
            event(network, [1], step)
            acting = passive
            passive = copy.deepcopy(acting)
            passive.load_state_dict(
                {k.removeprefix("online/"): v[0].clone() for k, v in application.state.items() if "online/" in k}
            )
    assert_agrees(network, 1, acting)
    assert_agrees(network, 0, alone)
    with turn(network, 21):
        assert_agrees(network, 1, passive)
    assert_agrees(network, 1, acting)
    assert_agrees(network, 0, alone)


@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_who_acts_learns_as_without_a_twin_bit_for_bit_until_the_first_event(kind: str) -> None:
    twinned, plain = agent_with(kind, [part("altnet")], 12), agent_with(kind, [part("none")], 12)
    theirs = plain.state_dict()[0]
    ours = twinned.state_dict()[0]
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    for network in twinned.trained:
        twin, name = twin_of(network), next(iter(network.online.parameters))
        assert twin["steps"].tolist() == network.optimizer.steps[:, 0].tolist()
        assert not torch.equal(twin[f"online/{name}"], twin[f"original/{name}"]), "it learns"
        assert not torch.equal(twin[f"online/{name}"], network.online.parameters[name][0])


def test_targets_of_a_dqns_twins_move_when_its_own_do() -> None:
    agent = agent_with("dqn", [part("altnet")], 12)
    assert agent.clock.passes(agent.config.target_period_steps, agent.config.target_period_steps)
    agent._move_targets(agent.config.target_period_steps)
    twin = twin_of(agent.q)
    for name in agent.q.online.parameters:
        assert torch.equal(twin[f"target/{name}"], twin[f"online/{name}"])
        assert torch.equal(agent.q.target.parameters[name], agent.q.online.parameters[name])


@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_a_saved_agent_goes_on_with_its_twin_bit_for_bit(kind: str) -> None:
    agent, other = agent_with(kind, [part("altnet")], 6), agent_with(kind, [part("altnet")], 3)
    agent.treat([0], 0, 60, None)
    tensors, plain = agent.state_dict()
    other.replay = agent.replay
    other.load_state_dict({name: value.clone() for name, value in tensors.items()}, copy.deepcopy(plain), [0, 1])
    for one in (agent, other):
        one.train(100)
    ours, theirs = agent.state_dict()[0], other.state_dict()[0]
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


def test_the_twin_of_a_sac_has_a_temperature_of_its_own_that_takes_over_with_it() -> None:
    agent = agent_with("sac", [part("altnet")], 12)
    own, twin = agent.temperature.value.clone(), agent._twins._temperature.value.clone()
    assert not torch.equal(own, twin)
    agent.treat([1], 0, 100, None)
    assert torch.equal(agent.temperature.value, torch.stack([own[0], twin[1]]))
    assert agent._twins._temperature.value.tolist() == pytest.approx([twin[0].item(), agent.config.temperature_start])
    assert agent.temperature.optimizer.steps.tolist() == [[12, 12]]


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        (
            {"kind": "altnet"},
            {"agent": {"kind": "ppo"}},
            "'altnet' acts at each turn of a twin, which agent kind 'ppo'",
        ),
        ({"kind": "altnet"}, {"agent": {"kind": "rllib", "algorithm": "DQN"}}, "'altnet' acts at each turn of a twin"),
        ({"kind": "altnet"}, {"resets": None}, "would never act"),
        ([{"kind": "altnet"}, {"kind": "redo"}], {}, "'redo' and 'altnet' exclude each other: nothing else may act on"),
        ([{"kind": "altnet"}, {"kind": "trac"}], {}, "exclude each other: it keeps numbers or chance of a whole"),
        ({"kind": "altnet", "networks": "q"}, {}, "'altnet' acts on all networks of an agent, got 'q'"),
    ],
)
def test_where_no_twin_can_learn_it_is_refused(method: Any, changes: dict[str, Any], said: str) -> None:
    content = small(methods={"none": {"kind": "none"}, "altnet": method}) | changes
    with pytest.raises(BenchmarkError) as raised:
        from_dict({name: value for name, value in content.items() if value is not None})
    assert said in str(raised.value)


def test_twins_have_a_population_of_their_own_so_that_nobody_else_pays_for_their_updates(tmp_path: Path) -> None:
    none, altnet = {"kind": "none"}, {"kind": "altnet", "every": 120}
    methods = {"none": none, "altnet": altnet, "late": altnet | {"from": 0.5}}
    plan = run_all(tmp_path / "with", small(methods=methods))
    alone = run_all(tmp_path / "without", small(methods={"none": none}))
    together = [{method for method in methods for m in s.members if method in m.trials[0]} for s in plan.segments]
    assert not any({"none"} < names for names in together)
    ours = facts(tmp_path / "with", plan)
    assert {key: value for key, value in ours.items() if key[0] == "none"} == facts(tmp_path / "without", alone)
    assert ours["late", 0] != ours["altnet", 0]
