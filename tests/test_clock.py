"""When updates are made and targets move: by hand, and as the loops of published codes do it, written down plainly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from plasticbench.agents import dqn
from plasticbench.agents._clock import Clock
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp
from plasticbench.seeding import Streams

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_shape=(2,), obs_dtype="float32", actions=DiscreteActions(count=2))
CONFIG = dqn.Config(network=mlp.Config(hidden=(4,)), batch_rows=4, capacity_transitions=2_000)


class Enough:
    """A replay from which everything can be drawn that was asked for in steps up to ``steps``."""

    def __init__(self, steps=10**9):
        self.steps = steps

    def has(self, steps):
        return self.steps >= steps


def _build(config, num_envs=1, budget_steps=1_000):
    return config.build(spec=SPEC, num_envs=num_envs, streams=[Streams(0)], budget_steps=budget_steps, device=CPU)


def _events(config, steps, num_envs=1):
    """What an agent does and at which clock; copies to a target before any update change nothing and are left out."""
    agent, log = _build(config, num_envs), []
    follow, move = agent.q.follow_gradient, agent.q.move_target
    agent.q.follow_gradient = lambda *gradient: (follow(*gradient), log.append(("update", now)))
    agent.q.move_target = lambda tau: (move(tau), log.append(("target", now)))
    obs, no = np.zeros((1, num_envs, 2), np.float32), np.zeros((1, num_envs), bool)
    agent.begin(obs)
    for before in range(0, steps, num_envs):
        now = before + num_envs
        agent.observe(agent.act(obs, before), EnvStep(obs, no.astype(np.float32), no.astype(np.float32), no, no))
        list(agent.learn(now))
    return _from_the_first_update(log)


def _from_the_first_update(log):
    first = next(i for i, (what, _) in enumerate(log) if what == "update")
    return log[first:]


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "num_envs", "expected"),
    [
        ({}, 1, {4: 0, 8: 0, 9: 1, 10: 1, 11: 1}),
        ({"replay_ratio": 0.5}, 1, {9: 0, 10: 1, 11: 0, 12: 1}),
        ({"replay_ratio": 2.0}, 2, {8: 0, 10: 4, 12: 4}),
        ({"update_clock": "before_step"}, 2, {8: 0, 10: 0, 12: 2, 14: 2}),
        ({"update_period_steps": 6}, 1, {6: 0, 11: 0, 12: 6, 13: 0, 18: 6}),
        ({"update_period_steps": 6, "replay_ratio": 0.5}, 1, {6: 0, 12: 3, 18: 3}),
        ({"update_period_steps": 6}, 4, {8: 0, 12: 6, 16: 0, 20: 6, 24: 6}),  # the first steps at or after 12, 18, 24
    ],
)
def test_updates_are_due_when_learning_has_started_and_a_period_is_over(settings, num_envs, expected):
    clock = Clock(replace(CONFIG, learning_starts_steps=8, **settings), num_envs)
    assert {step: clock.updates(step, Enough()) for step in expected} == expected


def test_every_update_of_a_long_run_is_made_once():
    for ratio, period in ((0.1, 1), (0.1, 10), (0.5, 256), (1 / 3, 7)):
        clock = Clock(replace(CONFIG, learning_starts_steps=1, replay_ratio=ratio, update_period_steps=period), 1)
        made = sum(clock.updates(step, Enough()) for step in range(1, 50_001))
        assert made == int(50_000 // period * period * ratio)


def test_learning_may_start_before_a_batch_is_stored_but_goes_on_after_a_clear_with_a_batch():
    config = replace(CONFIG, batch_rows=32)
    assert Clock(replace(config, learning_starts_steps=5), 1).updates(6, Enough(5)) == 1
    late = Clock(replace(config, learning_starts_steps=100), 1)
    assert (late.updates(200, Enough(31)), late.updates(200, Enough(32))) == (0, 1)


# -- as published -----------------------------------------------------------------------------------------------------


def cleanrl(steps, learning_starts, train_frequency, target_frequency, num_envs=1, repeat=1):
    """CleanRL's dqn.py and dqn_atari.py; with several environments and updates FIRE's dqn_atari.py."""
    log = []
    for global_step in range(0, steps, num_envs):
        if global_step > learning_starts:
            if global_step % train_frequency == 0:
                log += [("update", global_step + num_envs)] * repeat
            if global_step % target_frequency == 0:
                log.append(("target", global_step + num_envs))
    return log


def stable_baselines3(steps, learning_starts, train_freq, gradient_steps, target_interval):
    """``learn`` and ``collect_rollouts`` of stable-baselines3, with one environment."""
    log, num_timesteps = [], 0
    while num_timesteps < steps:
        for _ in range(train_freq):
            num_timesteps += 1
            if num_timesteps % target_interval == 0:
                log.append(("target", num_timesteps))
        if num_timesteps > learning_starts:
            log += [("update", num_timesteps)] * gradient_steps
    return _from_the_first_update(log)


def minatar(steps, replay_start, target_updates):
    """``dqn`` of MinAtar's examples/dqn.py."""
    log, updates = [], 0
    for t in range(steps):
        if t > replay_start:
            updates += 1
            log.append(("update", t + 1))
            if updates % target_updates == 0:
                log.append(("target", t + 1))
    return log


def dopamine(steps, min_replay_history, update_period, target_period):
    """``_train_step`` of Dopamine's dqn_agent.py, called after every step but the last of an episode."""
    log = []
    for training_steps in range(1, steps + 1):
        if training_steps > min_replay_history:
            if training_steps % update_period == 0:
                log.append(("update", training_steps))
            if training_steps % target_period == 0:
                log.append(("target", training_steps))
    return _from_the_first_update(log)


SOURCES = {
    "cleanrl": (
        {"learning_starts_steps": 40, "replay_ratio": 0.1, "target_period_steps": 30, "update_clock": "before_step"},
        1,
        cleanrl(400, 40, 10, 30),
    ),
    "fire": (
        {"learning_starts_steps": 40, "replay_ratio": 1.0, "target_period_steps": 20, "update_clock": "before_step"},
        4,
        cleanrl(400, 40, 1, 20, num_envs=4, repeat=4),
    ),
    "zoo cartpole": (
        {
            "learning_starts_steps": 40,
            "replay_ratio": 0.5,
            "update_period_steps": 16,
            "target_period_steps": 10,
            "target_moves": "before_updates",
        },
        1,
        stable_baselines3(400, 40, 16, 8, 10),
    ),
    "zoo acrobot": (
        {
            "learning_starts_steps": 1,  # Zoo: 0, and nothing is due at step 1
            "update_period_steps": 4,
            "target_period_steps": 25,
            "target_moves": "before_updates",
        },
        1,
        stable_baselines3(400, 0, 4, 4, 25),
    ),
    "minatar": (
        {"learning_starts_steps": 50, "target_period_updates": 7, "update_clock": "before_step"},
        1,
        minatar(400, 50, 7),
    ),
    "dopamine": (
        {"learning_starts_steps": 20, "replay_ratio": 0.25, "target_period_steps": 16},
        1,
        dopamine(400, 20, 4, 16),
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_updates_and_targets_come_in_the_order_and_at_the_steps_of_published_codes(source):
    settings, num_envs, expected = SOURCES[source]
    assert _events(replace(CONFIG, **settings), 400, num_envs) == expected


def test_a_target_moves_by_tau():
    agent = _build(replace(CONFIG, target_tau=0.25, target_period_updates=1, batch_rows=1))
    obs, no = np.ones((1, 1, 2), np.float32), np.zeros((1, 1), bool)
    agent.begin(obs)
    agent.observe(np.array([[1]]), EnvStep(obs, no + np.float32(1), no + np.float32(1), no, no))
    before = agent.q.target.flat.clone()
    agent.update()
    torch.testing.assert_close(agent.q.target.flat, 0.75 * before + 0.25 * agent.q.online.flat)
    assert not torch.equal(agent.q.target.flat, before)


def test_updates_are_counted_over_interruptions():
    config = replace(CONFIG, target_period_updates=5, batch_rows=1)
    agent, twin = _build(config), _build(config)
    agent.updates_made = 4
    tensors, plain = agent.state_dict()
    twin.load_state_dict(tensors, plain, [0])
    assert twin.updates_made == 4


# -- exploration ------------------------------------------------------------------------------------------------------


def test_epsilon_falls_from_the_first_step_on_as_in_cleanrl_and_stable_baselines3():
    settings = {"learning_starts_steps": 40, "epsilon_end": 0.1, "epsilon_decay_fraction": 0.2}
    agent = _build(replace(CONFIG, epsilon_decay_begins="first_step", **settings))
    cleanrl_epsilon = [max((0.1 - 1) / 200 * step + 1, 0.1) for step in range(0, 300, 7)]
    assert [agent._epsilon.value(step) for step in range(0, 300, 7)] == pytest.approx(cleanrl_epsilon)


def test_epsilon_falls_from_the_start_of_learning_on_as_in_minatar_and_dopamine():
    settings = {"learning_starts_steps": 40, "epsilon_end": 0.1, "epsilon_decay_fraction": 0.2}
    agent = _build(replace(CONFIG, **settings))
    minatar_epsilon = [
        1.0 if t < 40 else 0.1 if t - 40 >= 200 else (0.1 - 1.0) / 200 * (t - 40) + 1.0 for t in range(0, 300, 7)
    ]
    assert [agent._epsilon.value(t) for t in range(0, 300, 7)] == pytest.approx(minatar_epsilon)


def test_actions_are_uniform_until_learning_starts_as_in_stable_baselines3():
    settings = {"learning_starts_steps": 40, "epsilon_start": 0.0, "epsilon_end": 0.0}
    agent = _build(replace(CONFIG, warm_up_actions="uniform", **settings), num_envs=64)
    obs = np.random.default_rng(0).random((1, 64, 2), np.float32)
    greedy = agent.act_in_evaluation(obs, np.ones((1, 64, 2)))
    for step, share in ((0, 0.5), (39, 0.5), (40, 1.0)):
        agree = np.mean([agent.act(obs, step) == greedy for _ in range(20)])
        assert agree == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_period_updates": 3, "target_period_steps": 20}, "target_period_steps: this setting has no effect"),
        ({"target_period_updates": 3, "target_moves": "before_updates"}, "target_moves: this setting has no effect"),
        ({"warm_up_actions": "uniform"}, "warm_up_actions: .* epsilon is 1 until learning starts"),
        ({"target_tau": 0.0}, "target_tau: must"),
        ({"update_period_steps": 0}, "update_period_steps: must"),
    ],
)
def test_settings_without_effect_or_out_of_range_are_refused(given, message):
    from plasticbench import plugins

    with pytest.raises(ValueError, match=message):
        plugins.config_from("agents", "dqn", given)
