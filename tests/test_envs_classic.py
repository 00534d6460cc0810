import gymnasium
import numpy as np
import pytest

from plasticbench.contracts.task import BoxActions, DiscreteActions
from plasticbench.envs import classic


@pytest.mark.parametrize("task", [task for task in classic.tasks() if "LunarLander" not in task])
def test_shapes_and_bounds_agree_with_gymnasium(task: str) -> None:
    env = gymnasium.make(task, disable_env_checker=True)
    spec = classic.Config(task=task).spec
    assert env.observation_space.shape == spec.obs_shape
    match spec.actions:
        case DiscreteActions(count=count):
            assert isinstance(env.action_space, gymnasium.spaces.Discrete)
            assert env.action_space.n == count
        case BoxActions(low=low, high=high):
            assert isinstance(env.action_space, gymnasium.spaces.Box)
            np.testing.assert_array_equal(env.action_space.low, low)
            np.testing.assert_array_equal(env.action_space.high, high)


@pytest.mark.parametrize(("task", "limit"), [("Acrobot-v1", 500), ("MountainCar-v0", 200), ("Pendulum-v1", 200)])
def test_the_published_time_limit_truncates_and_does_not_terminate(task: str, limit: int) -> None:
    env = classic.Config(task=task).build([1, 2], num_threads=1)
    env.reset()
    box = isinstance(env.spec.actions, BoxActions)
    idle = np.zeros((2, 1), np.float32) if box else np.ones(2, np.int64)
    flags = [(step.terminated.any(), step.truncated.all()) for step in (env.step(idle) for _ in range(limit))]
    assert flags == [(False, False)] * (limit - 1) + [(False, True)]


def test_a_balanced_pole_is_truncated_after_500_steps_and_its_last_observation_is_the_episodes_own() -> None:
    env = classic.Config(task="CartPole-v1").build([1], num_threads=1)
    obs = env.reset()
    length = 0
    while length < 501:
        before, length = obs, length + 1
        step = env.step((obs @ np.array([0.1, 0.4, 1.0, 1.0]) > 0).astype(int))
        obs = step.obs
        if step.terminated[0] or step.truncated[0]:
            break
    assert (length, step.terminated[0], step.truncated[0]) == (500, False, True)
    assert before[0, 0] + 0.02 * before[0, 1] == pytest.approx(obs[0, 0], abs=1e-6)  # Euler's step of the position


def test_acrobot_has_the_dynamics_of_gymnasium() -> None:
    ours = classic.Config(task="Acrobot-v1").build([1], num_threads=1)
    theirs = gymnasium.make("Acrobot-v1", disable_env_checker=True)
    obs = ours.reset()[0]
    theirs.reset(seed=0)
    angles = (np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2]))
    theirs.unwrapped.state = np.array([*angles, obs[4], obs[5]])  # type: ignore[attr-defined]
    for action in np.random.default_rng(0).integers(3, size=50):
        step = ours.step(np.array([action]))
        expected, reward, terminated, _, _ = theirs.step(action)
        np.testing.assert_allclose(step.obs[0], expected, atol=2e-4)
        assert (step.raw_reward[0], step.terminated[0]) == (reward, terminated)
