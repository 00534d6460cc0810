import gymnasium as gym
import numpy as np
import pytest

from plasticbench.contracts.task import BoxActions, DiscreteActions
from plasticbench.envs import classic
from plasticbench.envs._journal import JournaledEnv
from plasticbench.envs.gymnasium import Config

BOUNDS = {"low_return": 0.0, "high_return": 500.0}


def test_a_registered_id_has_the_spec_of_its_spaces() -> None:
    assert Config(task="CartPole-v1", **BOUNDS).spec == classic.Config(task="CartPole-v1").spec
    assert Config(task="Pendulum-v1", **BOUNDS).spec.actions == BoxActions(low=(-2.0,), high=(2.0,))
    assert Config(task="Acrobot-v1", **BOUNDS).spec.actions == DiscreteActions(count=3)


def test_each_environment_takes_the_course_of_gymnasium_and_the_step_after_an_end_begins_the_next_episode() -> None:
    env = Config(task="CartPole-v1", num_envs=2, **BOUNDS).build([5, 6], num_threads=1)
    single = gym.make("CartPole-v1")
    np.testing.assert_array_equal(env.reset()[1], single.reset(seed=6)[0])
    ended = False
    for _ in range(60):
        step = env.step(np.array([0, 1]))
        if ended:
            expected, reward, terminated = single.reset()[0], 0.0, False
        else:
            expected, reward, terminated, _, _ = single.step(1)
        np.testing.assert_array_equal(step.obs[1], expected)
        assert (step.reward[1], step.terminated[1]) == (reward, terminated)
        ended = terminated
    env.close()


def test_a_journal_restores_it_exactly() -> None:
    env = JournaledEnv(Config(task="CartPole-v1", **BOUNDS), [3], num_threads=1)
    env.reset()
    for action in np.random.default_rng(0).integers(2, size=90):
        env.step(np.array([action]))
    twin = JournaledEnv(Config(task="CartPole-v1", **BOUNDS), [4], num_threads=1)
    np.testing.assert_array_equal(twin.load_state_dict(env.state_dict()), env.obs)
    np.testing.assert_array_equal(twin.step(np.array([1])).obs, env.step(np.array([1])).obs)


def test_the_score_is_linear_between_the_given_returns() -> None:
    config = Config(task="CartPole-v1", low_return=20.0, high_return=120.0, returns_source="measured here")
    assert [config.score(x) for x in (20.0, 70.0, 220.0)] == [0.0, 0.5, 2.0]
    assert config.score_source == "0: 20; 1: 120: measured here"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "CartPole-v9"}, "task: no environment is registered under 'CartPole-v9'. Did you mean"),
        ({"task": "Taxi-v3"}, "task: Taxi-v3: observations must be a Box of numbers, got Discrete"),
        ({"high_return": 0.0}, "low_return: must be below high_return"),
        ({"num_envs": 0}, "num_envs: must be at least 1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{"task": "CartPole-v1", **BOUNDS, **changes})
