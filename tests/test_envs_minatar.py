import numpy as np
import pytest
from minatar import Environment

from plasticbench.envs import minatar


@pytest.mark.parametrize("task", minatar.tasks())
def test_the_table_of_games_agrees_with_the_package(task: str) -> None:
    module = minatar._GAMES[task].module
    game = Environment(module)
    config = minatar.Config(task=task)
    assert config.spec.obs_shape == (game.state_shape()[2], 10, 10)
    assert config.spec.actions.count == game.num_actions()  # type: ignore[union-attr]
    assert list(minatar._GAMES[task].minimal_actions) == game.minimal_action_set()


def test_a_course_is_that_of_the_package_with_channels_first() -> None:
    env = minatar.Config(task="Breakout-MinAtar", action_set="minimal").build([11], num_threads=1)
    game = Environment("breakout", sticky_action_prob=0.1)
    game.seed(11)
    game.reset()
    np.testing.assert_array_equal(env.reset()[0], game.state().transpose(2, 0, 1))
    ended = False
    for action in np.random.default_rng(0).integers(3, size=300):
        step = env.step(np.array([action]))
        if ended:
            game.reset()
            reward, ended = 0, False
        else:
            reward, ended = game.act((0, 1, 3)[action])
        assert (step.reward[0], step.terminated[0]) == (reward, ended)
        np.testing.assert_array_equal(step.obs[0], game.state().transpose(2, 0, 1))
        assert set(np.unique(step.obs)) == {0, 1}


def test_the_time_limit_truncates_and_the_next_step_resets() -> None:
    env = minatar.Config(task="Freeway-MinAtar", max_episode_steps=5).build([1], num_threads=1)
    first = env.reset()
    flags = [env.step(np.array([0])) for _ in range(12)]
    assert [bool(step.truncated[0]) for step in flags] == [i % 6 == 4 for i in range(12)]
    assert not any(step.terminated[0] for step in flags)
    assert flags[5].obs.shape == first.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sticky_probability": 1.0}, r"sticky_probability: must lie in \[0, 1\), got 1.0"),
        ({"max_episode_steps": 0}, "max_episode_steps: must be at least 1, got 0"),
        ({"action_set": "minimum"}, "action_set: .*'minimum'. Did you mean 'minimal'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minatar.Config(task="Asterix-MinAtar", **settings)  # type: ignore[arg-type]
