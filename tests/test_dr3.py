"""DR3: features of rows and of those that follow them are kept apart."""

from typing import Any

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from small_agents import agent_with
from small_runs import small
from torch import nn
from treated import BASE, batch, next_inputs, part, train, trained, update

from plasticbench.learning.treatments.dr3 import co_adaptation
from plasticbench.platform.definition.reading import BenchmarkError, from_dict


def test_it_is_the_mean_magnitude_of_dot_products_with_what_follows() -> None:
    """(1, 2) . (3, 4) = 11 and (1, 0) . (-3, 5) = -3: 7 on average."""
    features = torch.tensor([[[1.0, 2.0], [1.0, 0.0], [3.0, 4.0], [-3.0, 5.0]]])
    assert co_adaptation((torch.empty(0), {"fc1": torch.empty(0), "fc2": features})).tolist() == [7.0]


def test_members_of_two_strengths_agree_with_a_plain_loop_of_twenty_updates() -> None:
    strengths = (0.3, 0.01)
    network = trained([[part("dr3", strength=strength)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        features = nn.Sequential(*list(module)[:-1])
        optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            (inputs, targets), following = batch([member], step), next_inputs([member], step)
            both = features(inputs[0]) * features(following[0])
            penalty = both.sum(dim=1).abs().mean()
            optimizer.zero_grad()
            ((module(inputs[0]) - targets[0]).square().mean() + strength * penalty).backward()
            optimizer.step()
        assert_agrees(network, member, module)


def test_features_come_apart() -> None:
    free, held = trained([[part("none")]]), trained([[part("dr3", strength=1.0)]])
    shown = []
    for network in (free, held):
        train(network, 60)
        rows = torch.cat((batch([0], 61)[0], next_inputs([0], 61)), dim=1)
        shown.append(float(co_adaptation((rows, hidden_of(network, rows))).detach()))
    assert shown[1] < shown[0] / 4


def hidden_of(network: Any, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    hidden: list[torch.Tensor] = []
    network.online.forward(rows, hidden)
    return {str(number): passed_on for number, passed_on in enumerate(hidden)}


@pytest.mark.parametrize(("kind", "networks"), [("dqn", ["q"]), ("sac", ["critic1", "critic2"])])
def test_networks_that_learn_values_show_what_their_targets_read(kind: str, networks: list[str]) -> None:
    agent = agent_with(kind, [part("dr3")], 1)
    seen: dict[str, Any] = {}
    for own in agent.trained:
        own.watch = lambda sample, name=own.name: seen.update({name: sample})
    agent.update(100)
    assert [name for name, sample in seen.items() if sample.next_inputs is not None] == networks
    assert all(
        sample.next_inputs is None or sample.next_inputs.shape == sample.inputs.shape for sample in seen.values()
    )


def test_where_nothing_follows_it_changes_no_bit() -> None:
    networks = [trained([[part(kind)]]) for kind in ("dr3", "none")]
    for network in networks:
        inputs, targets = batch([0], 1)
        network.begin(1)
        network.descend((network.forward(inputs) - targets).square().mean(dim=(1, 2)), 1)
    assert torch.equal(networks[0].online.flat, networks[1].online.flat)
    update(networks[0], 2), update(networks[1], 2)
    assert not torch.equal(networks[0].online.flat, networks[1].online.flat)


@pytest.mark.parametrize(
    ("agent", "method", "said"),
    [
        ({"kind": "ppo"}, {}, "'dr3' looks at next_inputs, which agent kind 'ppo' does not show"),
        ({"kind": "rllib", "algorithm": "DQN"}, {}, "'dr3' acts at each gradient"),
        (small()["agent"], {"strength": -1.0}, "strength: must be at least 0"),
    ],
)
def test_where_it_cannot_act_it_is_refused_by_name(agent: Any, method: Any, said: str) -> None:
    with pytest.raises(BenchmarkError) as raised:
        from_dict(small(agent=agent, methods={"none": {"kind": "none"}, "x": {"kind": "dr3"} | method}))
    assert said in str(raised.value)


def test_it_is_refused_on_an_actor_alone() -> None:
    data = small(agent={"kind": "sac"}, environments=[{"kind": "classic", "task": "Pendulum-v1"}])
    with pytest.raises(BenchmarkError, match="'dr3' is about values, which an actor does not have"):
        from_dict(data | {"methods": {"x": {"kind": "dr3", "networks": "actor"}}})
