import envpool
import numpy as np
import pytest

from plasticbench.envs import mujoco


@pytest.mark.parametrize("task", mujoco.tasks())
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
def test_shapes_bounds_and_limits_are_those_of_envpool(task: str) -> None:
    space, spec = envpool.make_spec(task), mujoco.Config(task=task).spec
    assert space.observation_space.shape == spec.obs_shape
    assert space.config.max_episode_steps == 1000
    np.testing.assert_array_equal(space.action_space.low, spec.actions.low)
    np.testing.assert_array_equal(space.action_space.high, spec.actions.high)


@pytest.mark.parametrize("task", mujoco.tasks())
def test_steps_give_finite_single_precision_of_the_promised_shape(task: str) -> None:
    env = mujoco.Config(task=task).build([1, 2], num_threads=1)
    obs, rng = env.reset(), np.random.default_rng(0)
    for _ in range(5):
        step = env.step(rng.uniform(-1, 1, (2, len(env.spec.actions.low))).astype(np.float32))
        assert step.obs.dtype == obs.dtype == np.float32
        assert step.obs.shape == obs.shape == (2, *env.spec.obs_shape)
        assert np.isfinite(step.obs).all()
        assert np.isfinite(step.reward).all()
    env.close()


def test_half_cheetah_is_truncated_after_1000_steps_and_never_terminates() -> None:
    env = mujoco.Config(task="HalfCheetah-v4").build([1], num_threads=1)
    env.reset()
    idle = np.zeros((1, 6), np.float32)
    flags = [(step.terminated[0], step.truncated[0]) for step in (env.step(idle) for _ in range(1000))]
    assert flags == [(False, False)] * 999 + [(False, True)]
    env.close()


def test_scores_are_0_for_random_actions_and_1_for_the_expert() -> None:
    config = mujoco.Config(task="Hopper-v4")
    assert config.score(-20.3) == pytest.approx(0)
    assert config.score(3234.3) == pytest.approx(1)
    with pytest.raises(ValueError, match="task: "):
        mujoco.Config(task="Hopper-v3")
