"""How large values are beside the largest that can be earned: worked numbers, and agents in training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_dqn import CONFIG, _train
from test_sac import CONFIG as SAC_CONFIG
from test_sac import _build as build_sac
from test_sac import _train as train_sac

from plasticbench.agents._value_bound import ValueBound

CPU = torch.device("cpu")


def bound(discount: float = 0.99, members: int = 2, entropy_nats: float = 0.0) -> ValueBound:
    return ValueBound(discount, members, CPU, entropy_nats)


def test_values_are_held_against_the_largest_reward_for_ever():
    values = bound()
    values.see(np.array([[0.0, -1.0], [0.0, 0.5]], np.float32))
    values.see(np.array([[0.25, 0.0], [0.0, 0.0]], np.float32))
    q = torch.tensor([[[100.0, -300.0]], [[25.0, 25.0]]])  # the bounds are 100 and 50
    assert values.ratio(q).tolist() == pytest.approx([2.0, 0.5])


def test_there_is_no_ratio_before_a_reward_and_none_without_a_discount():
    values = bound()
    values.see(np.zeros((2, 3), np.float32))
    assert values.ratio(torch.full((2, 4), 1e9)).tolist() == [0.0, 0.0]
    endless = bound(discount=1.0)
    endless.see(np.ones((2, 3), np.float32))
    assert endless.ratio(torch.full((2, 4), 1e9)).tolist() == [0.0, 0.0]


def test_entropy_is_earned_from_the_next_step_on_at_the_highest_temperature_that_was_paid():
    values = bound(discount=0.9, members=1, entropy_nats=2.0)
    values.see(np.ones((1, 1), np.float32))
    q = torch.full((1, 3), 38.0)
    assert values.ratio(q, torch.tensor([0.5])).tolist() == pytest.approx([2.0])  # (1 + 0.9 x 0.5 x 2) / 0.1 = 19
    assert values.ratio(q, torch.tensor([0.1])).tolist() == pytest.approx([2.0])


def test_a_fork_inherits_its_parents_bound_and_an_old_state_begins_at_0():
    values, twin = bound(), bound()
    values.see(np.array([[1.0], [4.0]], np.float32))
    twin.load_state_dict(values.state_dict(), [1, 1])
    twin.see(np.array([[2.0], [8.0]], np.float32))
    assert twin.ratio(torch.full((2, 1), 400.0)).tolist() == pytest.approx([1.0, 0.5])
    twin.load_state_dict({}, [0, 1])
    assert twin.ratio(torch.full((2, 1), 400.0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n_step", [1, 3, 10])
def test_values_that_targets_over_several_steps_settle_at_are_within_the_same_bound(n_step):
    discount, temperature, entropy_nats = 0.9, 0.5, 2.0
    rewards, weight = sum(discount**k for k in range(n_step)), discount**n_step  # of 1 each; of the value behind them
    earned = rewards / (1 - weight)
    paid = (rewards + weight * temperature * entropy_nats) / (1 - weight)
    plain, entropic = bound(discount, 1), bound(discount, 1, entropy_nats)
    for values in (plain, entropic):
        values.see(np.ones((1, 1), np.float32))
    assert plain.ratio(torch.full((1, 3), earned)).item() == pytest.approx(1.0)
    ratio = entropic.ratio(torch.full((1, 3), paid), torch.tensor([temperature])).item()
    assert ratio == pytest.approx(1.0) if n_step == 1 else ratio < 1


@pytest.mark.parametrize("n_step", [1, 3])
def test_agents_hold_values_against_single_rewards_however_many_a_target_sums_up(n_step):
    dqn, _ = _train([0, 1], 100, replace(CONFIG, n_step=n_step))
    sac, _ = train_sac([0, 1], 100, replace(SAC_CONFIG, n_step=n_step))
    for agent in (dqn, sac):
        stored = torch.from_numpy(agent.replay._valid)
        rewards = torch.where(stored, agent.replay._outcome[..., 0].abs(), 0.0).amax(dim=1)
        assert torch.equal(agent.value_bound._reward, rewards)


def test_dqn_records_the_mean_magnitude_of_its_values_over_their_bound():
    agent, _ = _train([0, 1], 300)
    batch = agent.replay.sample(np.random.default_rng(0).random((2, 16)))
    expected = agent.q.online.forward(agent.inputs(batch)["q"]).abs().mean(dim=(1, 2)) * (1 - CONFIG.discount)
    assert torch.allclose(agent.value_bound.ratio(agent.q.online.forward(agent.inputs(batch)["q"])), expected)
    ratios = [metrics["q/bound_ratio"] for metrics in (agent.update(300) for _ in range(32)) if len(metrics) == 3]
    assert len(ratios) == 2, "every sixteenth update looks at it"
    assert all(((ratio > 0) & (ratio < 1)).all() for ratio in ratios)


def test_the_entropy_that_bounds_sacs_values_is_that_of_uniform_actions_or_the_one_aimed_at():
    names = {"target_entropy_coefficient": (-0.5, 2 * math.log(2)), "other": (-3.0, 6.0)}
    for coefficient, entropy_nats in names.values():
        agent = build_sac([0], replace(SAC_CONFIG, target_entropy_coefficient=coefficient))
        assert agent.value_bound._entropy_nats == pytest.approx(entropy_nats)


def test_a_sac_that_learns_stays_within_its_bound():
    agent, _ = train_sac([0, 1], 300)
    ratio = agent.update(300)["q/bound_ratio"]
    assert ((ratio > 0) & (ratio < 1)).all()
    state, plain = agent.state_dict()
    twin = build_sac([5, 6])
    twin.replay = agent.replay
    twin.load_state_dict(state, plain, [1, 1])
    assert torch.equal(twin.value_bound._reward, agent.value_bound._reward[[1, 1]])
