"""What random actions earn, measured by the command that the tables come from."""

import numpy as np
import pytest

from benchmarks.references import measure, random_actions, table_value
from plasticbench import plugins
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec


def test_a_table_is_read_from_the_scores_that_it_gives():
    tables = {"MountainCar-v0": -200.0, "Acrobot-v1": -499.4, "Pendulum-v1": -1231.0}
    for task, low in tables.items():
        assert table_value(plugins.config_from("envs", "classic", {"task": task})) == pytest.approx(low)


def test_a_task_that_random_actions_never_solve_costs_its_time_limit_in_every_episode():
    found = measure(plugins.config_from("envs", "classic", {"task": "MountainCar-v0"}), 150)
    assert found == (-200.0, 0.0, 200)  # two whole episodes of each of 100 environments


def test_random_actions_fill_the_space_of_actions():
    rng, obs = np.random.default_rng(0), np.zeros((50, 20, 3))
    discrete = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=3))
    chosen = random_actions(discrete, rng)(obs, obs)
    assert np.bincount(chosen.ravel()).min() > 250
    box = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-1.0, 0.0), high=(1.0, 5.0)))
    actions = random_actions(box, rng)(obs, obs)
    assert actions.shape == (50, 20, 2)
    assert actions.min(axis=(0, 1)) == pytest.approx([-1, 0], abs=0.05)
    assert actions.max(axis=(0, 1)) == pytest.approx([1, 5], abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["LunarLander-v3", "LunarLanderContinuous-v3"])
def test_the_tables_of_lunar_landers_are_what_random_actions_earn(task):
    config = plugins.config_from("envs", "classic", {"task": task})
    found = measure(config, 10_000, seed=2)
    assert abs(found.mean_return - table_value(config)) < 4 * found.standard_error < 6
