"""A replay ratio that rises once the critics' activity has settled."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_agents import AGENTS, agent_with
from small_runs import facts, prepare, run_all, small
from torch import Tensor
from treated import batch, part, trained, update

from plasticbench.agents._adaptive_ratio import AdaptiveRatio
from plasticbench.learning.look import Sample
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.segment import SegmentRun


def sample(*values: float) -> Sample:
    """A sample in which one hidden layer passes these on."""
    return Sample(torch.empty(0), lambda: {"fc1": torch.tensor(values).view(1, 1, -1)}, dict)


def test_a_look_compares_the_episode_that_just_ended_with_the_look_before_and_at_first_with_the_first_update() -> None:
    """Shares 1/2, then of the fourth episode 3/4: too far; of the eighth 2/3 of 3 entries: not yet; then 2/3 again."""
    critic: Any = SimpleNamespace(watch=None)
    rule = AdaptiveRatio(SimpleNamespace(adaptive_ratio_gap=0.05, adaptive_ratio_episodes=4), [critic])
    critic.watch(sample(1.0, 0.0, 2.0, -1.0))
    rule.after_update()
    settled = []
    for shown in (sample(1.0, 1.0, 1.0, 0.0), sample(1.0, 0.0, 2.0), sample(3.0, 2.0, 0.0)):
        for episode in range(4):
            critic.watch(shown if episode == 3 else sample(0.0, 0.0))  # what else is seen does not count
            rule.after_update()
            rule.after_episode()
        settled.append(rule.has_settled)
    assert settled == [False, False, True]
    for _ in range(8):
        critic.watch(sample(0.0, 0.0))
        rule.after_episode()
    assert rule.has_settled, "it never falls again"


def test_the_share_is_that_of_all_hidden_units_on_the_rows_that_are_trained_on() -> None:
    network = trained([[part("none")]])
    rule = AdaptiveRatio(SimpleNamespace(adaptive_ratio_gap=0.0, adaptive_ratio_episodes=50), [network])
    weights = {name: value.detach()[0].clone() for name, value in network.online.parameters.items()}
    update(network, 1)
    first: Tensor = (batch([0], 1)[0][0] @ weights["fc1.weight"].T + weights["fc1.bias"]).relu()
    second = (first @ weights["fc2.weight"].T + weights["fc2.bias"]).relu()
    active = int((first > 0).sum() + (second > 0).sum())
    assert (rule._active, rule._entries) == (active, first.numel() + second.numel())


@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_an_agent_makes_more_updates_from_then_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(
        AGENTS[kind][0], replay_ratio=0.5, adaptive_ratio=2.0, adaptive_ratio_gap=1.0, adaptive_ratio_episodes=2
    )
    monkeypatch.setitem(AGENTS, kind, (config, AGENTS[kind][1]))
    agent = agent_with(kind, [part("none")], 4, num_members=1)
    assert [float(one["data/replay_ratio"]) for one in agent.learn(1000)] == [0.5]
    agent.episodes_ended(1)
    assert len(list(agent.learn(1002))) == 1
    agent.episodes_ended(1)
    assert len(list(agent.learn(1004))) == 2 * 2  # environments
    tensors, plain = agent.state_dict()
    other = agent_with(kind, [part("none")], 4, num_members=1)
    other.load_state_dict(tensors, plain, [0])
    assert other.clock.replay_ratio == 2.0
    watched = ["q"] if kind == "dqn" else ["critic1", "critic2"]
    assert [own.name for own in agent.trained if own.watch is not None] == watched


def adaptive(**settings: Any) -> dict[str, Any]:
    return small()["agent"] | {"replay_ratio": 0.5, "adaptive_ratio": 2.0, "adaptive_ratio_episodes": 2} | settings


def test_a_run_resumes_with_the_ratio_that_it_had_and_each_member_trains_alone(tmp_path: Path) -> None:
    data = small(agent=adaptive(adaptive_ratio_gap=0.05), seeds=1)
    plan = run_all(tmp_path / "whole", data)
    assert {len(segment.members) for segment in make_plan(from_dict(data | {"seeds": 3})).segments} == {1}
    whole = facts(tmp_path / "whole", plan)
    ratios = [value for _, name, value in whole["none", 0] if name == "data/replay_ratio"]
    assert float(ratios[0]) < float(ratios[-1]) == 2.0
    prepare(tmp_path / "cut", data)
    for segment in plan.segments:
        steps = itertools.count()
        assert not SegmentRun(tmp_path / "cut", segment.id).run(lambda steps=steps: next(steps) == 70)
        assert SegmentRun(tmp_path / "cut", segment.id).run()
    assert facts(tmp_path / "cut", plan) == whole


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (adaptive(adaptive_ratio_episodes=1), "adaptive_ratio_episodes: must be at least 2, got 1"),
        (adaptive(adaptive_ratio=None), "agent.adaptive_ratio_episodes: this setting has no effect"),
        (adaptive(adaptive_ratio=0.5), "it is the replay_ratio from the start"),
        ({"kind": "ppo", "adaptive_ratio": 2.0}, "adaptive_ratio"),
        ({"kind": "rllib", "algorithm": "DQN", "adaptive_ratio": 2.0}, "adaptive_ratio"),
    ],
)
def test_what_cannot_be_is_refused_by_name(agent: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchmarkError) as raised:
        from_dict(small(agent=agent))
    assert said in str(raised.value)
