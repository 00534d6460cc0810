"""Priming: many updates at one step, counted by clocks and forecasts, and the same however a run is cut up."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import facts, prepare, run_all, small

from plasticbench.agents import dqn, sac
from plasticbench.agents._clock import Clock
from plasticbench.agents._settings import Priming
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, from_resolved
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import Streams

MLP = {"kind": "mlp", "hidden": [16]}
PRIMING = Priming(at_step=20, updates=30)
AGENTS = {
    "CartPole-v1": {"kind": "dqn", "network": MLP, "learning_starts_steps": 18, "capacity_transitions": 200},
    "Pendulum-v1": {
        "kind": "sac", "actor_network": MLP, "critic_network": MLP, "batch_rows": 16, "learning_starts_steps": 18,
        "capacity_transitions": 200,
    },
}  # fmt: skip


class Enough:
    def __init__(self, steps=10**9):
        self.steps = steps

    def has(self, steps):
        return self.steps >= steps


@pytest.mark.parametrize(
    ("settings", "num_envs", "expected"),
    [
        ({}, 1, {19: 0, 20: 30, 21: 0}),
        ({}, 8, {16: 0, 24: 30, 32: 0}),  # the first step of the clock at or after 20
        ({"update_clock": "before_step"}, 8, {24: 0, 32: 30, 40: 0}),
        ({"learning_starts_steps": 20}, 1, {19: 0, 20: 0, 21: 0}),  # it begins above 20
        ({"update_period_steps": 7}, 1, {19: 0, 20: 30, 21: 0}),
    ],
)
def test_a_priming_is_made_when_its_step_is_reached(settings, num_envs, expected):
    config = dqn.Config(learning_starts_steps=8, batch_rows=8, priming=PRIMING)
    clock = Clock(replace(config, **settings), num_envs)
    assert {step: clock.primed_updates(step, Enough()) for step in expected} == expected
    assert clock.primed_updates(24, Enough(steps=7)) == 0


@pytest.mark.parametrize("kind", [dqn.Config, sac.Config])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("clock", ["after_step", "before_step"])
@pytest.mark.parametrize("at_step", [10, 20, 59, 118, 119, 120, 500])
@pytest.mark.parametrize(("ratio", "period"), [(1.0, 1), (0.01, 1), (0.5, 7)])
def test_forecasts_count_the_updates_that_the_clock_makes(kind, num_envs, clock, at_step, ratio, period):
    config = kind(
        batch_rows=16,
        learning_starts_steps=18,
        update_clock=clock,
        replay_ratio=ratio,
        update_period_steps=period,
        priming=Priming(at_step=at_step, updates=1_000),
    )
    made, replay, budget_steps = 0, Enough(), 120 // num_envs * num_envs
    for replay.steps in range(num_envs, budget_steps + 1, num_envs):
        made += Clock(config, num_envs).updates(replay.steps, replay)
        made += Clock(config, num_envs).primed_updates(replay.steps, replay)
    assert config.num_updates(num_envs, budget_steps) == made
    assert ("priming" in config.inert_within(num_envs, budget_steps)) == (made < 1_000)


def test_a_priming_comes_before_the_updates_of_its_step_and_its_target_moves_as_often_as_ever():
    spec = EnvSpec(obs_shape=(2,), obs_dtype="float32", actions=DiscreteActions(count=2))
    config = dqn.Config(
        network=mlp.Config(hidden=(4,)),
        batch_rows=4,
        learning_starts_steps=8,
        replay_ratio=2.0,
        target_period_steps=5,
        priming=Priming(at_step=12, updates=25),
    )
    agent = config.build(spec=spec, num_envs=1, streams=[Streams(0)], budget_steps=100, device=torch.device("cpu"))
    log, move = [], agent.q.move_target
    agent.q.move_target = lambda tau: (move(tau), log.append((now, agent.updates_made)))
    obs, no = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), bool)
    agent.begin(obs)
    made = []
    for now in range(1, 16):
        agent.observe(agent.act(obs, now - 1), EnvStep(obs, no.astype(np.float32), no.astype(np.float32), no, no))
        made.append(len(list(agent.learn(now))))
    assert made[8:] == [2, 2, 2, 27, 2, 2, 2]
    # At steps 5, 10 and 15, and after each ten primed updates; six are made by step 11.
    assert log == [(5, 0), (10, 4), (12, 16), (12, 26), (15, 39)]


@pytest.mark.parametrize("task", AGENTS)
def test_a_primed_run_that_is_stopped_and_goes_on_leaves_the_same_records(task, tmp_path):
    scenario = {"kind": "observation_permutation", "at": [0.5]}
    environment = {"kind": "classic", "task": task, "num_envs": 2, "scenario": scenario}
    agent = AGENTS[task] | {"priming": {"at_step": 60, "updates": 50}}
    data = small(environments=[environment], agent=agent, budget_steps=120, resets={"at": [0.5]})
    undisturbed = run_all(tmp_path / "undisturbed", data)
    plan = prepare(tmp_path / "run", data)
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            run = SegmentRun(tmp_path / "run", segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 11):
                break
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "undisturbed", undisturbed)
    plain = run_all(tmp_path / "plain", data | {"agent": AGENTS[task]})
    assert facts(tmp_path / "plain", plain) != facts(tmp_path / "undisturbed", undisturbed)


def test_a_priming_is_read_written_and_stands_in_no_id_where_there_is_none():
    data = small(agent=small()["agent"] | {"priming": {"at_step": 60, "updates": 1e3}})
    made = from_dict(data)
    assert made.methods[0].agent_config.priming == Priming(at_step=60, updates=1_000)
    assert from_resolved(made.resolved(), "again") == made
    assert made.resolved()["agent"]["priming"] == {"at_step": 60, "updates": 1_000}
    off = from_dict(small(agent=small()["agent"] | {"priming": None}))
    assert "priming" not in off.resolved()["agent"]
    plans = [make_plan(benchmark) for benchmark in (made, off, from_dict(small()))]
    ids = [[trial.id for trial in plan.trials] for plan in plans]
    assert ids[1] == ids[2]
    assert not set(ids[0]) & set(ids[2])


def test_a_method_may_have_a_priming_of_its_own():
    methods = {
        "none": {"kind": "none"},
        "primed": {"parts": [{"kind": "none"}], "agent": {"priming": {"at_step": 60, "updates": 9}}},
    }
    made = from_dict(small(methods=methods, resets=None))
    assert [method.agent_config.priming for method in made.methods] == [None, Priming(at_step=60, updates=9)]


@pytest.mark.parametrize(
    ("priming", "message"),
    [
        ({"at_step": 60, "update": 9}, "agent.priming.update: there is no such setting. Did you mean 'updates'"),
        ({"at_step": 60}, "agent.priming.updates: is missing and has no default"),
        ({"at_step": 0, "updates": 9}, "agent.priming.at_step: must be at least 1, got 0"),
        (9, "agent.priming: .*got 9"),
        ({"at_step": 50, "updates": 9}, r"agent.priming: .*above learning_starts_steps \(50\) and at most 400"),
        ({"at_step": 401, "updates": 9}, r"agent.priming: .*above learning_starts_steps \(50\) and at most 400"),
    ],
)
def test_impossible_primings_are_refused(priming, message):
    with pytest.raises(BenchmarkError, match=message):
        make_plan(from_dict(small(agent=small()["agent"] | {"priming": priming})))
