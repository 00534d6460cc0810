"""Which transitions are likely in a batch: distributions by hand, the edges, and what agents and probes draw."""

import dataclasses

import numpy as np
import pytest
from small_agents import AGENTS, agent_with

from plasticbench.agents.dqn import Config as DQN
from plasticbench.learning.replays import age_weighted, recency, uniform

GRID = (np.arange(200_000) + 0.5) / 200_000


def shares(config, size: int) -> np.ndarray:
    """How likely each age is, 0 the newest."""
    places = config.places(GRID[None], np.array([size]))[0]
    return np.bincount(size - 1 - places, minlength=size) / len(GRID)


def test_ages_are_geometric_and_cut_off() -> None:
    q = np.exp(-1 / 3.0)
    expected = q ** np.arange(8) * (1 - q) / (1 - q**8)
    np.testing.assert_allclose(shares(recency.Config(scale_transitions=3.0), 8), expected, atol=2e-5)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_weights_fall_with_a_power_of_the_age(power: float) -> None:
    ages = np.arange(6)
    whole = np.log if power == 1.0 else lambda x: x ** (1 - power) / (1 - power)
    weights = whole(ages + 2.0) - whole(ages + 1.0)
    found = shares(age_weighted.Config(power=power), 6)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=2e-5)
    assert (np.diff(found) < 0).all()


def test_a_scale_beyond_all_bounds_and_a_power_near_zero_are_uniform() -> None:
    for config in (uniform.Config(), recency.Config(scale_transitions=1e12), age_weighted.Config(power=1e-9)):
        np.testing.assert_allclose(shares(config, 5), 0.2, atol=1e-3)


@pytest.mark.parametrize("config", [recency.Config(scale_transitions=1e-3), recency.Config(), age_weighted.Config()])
def test_every_place_exists_whatever_is_drawn(config) -> None:
    uniforms = np.array([[0.0, np.nextafter(1.0, 0.0)], [0.0, np.nextafter(1.0, 0.0)]])
    sizes = np.array([1, 1_000_000])
    places = config.places(uniforms, sizes)
    assert places.dtype == np.int64
    assert (places >= 0).all()
    assert (places < sizes[:, None]).all()


@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_batches_of_training_follow_and_samples_of_probes_do_not(kind, monkeypatch) -> None:
    config, spec = AGENTS[kind]
    replay = recency.Config(scale_transitions=5.0)
    monkeypatch.setitem(AGENTS, kind, (dataclasses.replace(config, replay=replay), spec))
    agent = agent_with(kind, [], 3)
    taken = []
    real = agent.replay.sample
    monkeypatch.setattr(agent.replay, "sample", lambda *given: taken.append(given) or real(*given))
    agent.update(1_000)
    agent.probe_batch(np.full((2, 16), 0.5))
    assert taken[0][1] == replay
    assert len(taken[1]) == 1 or taken[1][1] == uniform.Config()


def test_the_default_is_uniform() -> None:
    assert DQN().replay == uniform.Config()
