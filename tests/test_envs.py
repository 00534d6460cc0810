"""What every environment family promises, for all families and tasks found on disk."""

import re
from types import ModuleType

import numpy as np
import pytest

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions, EnvConfig, EnvSpec, EnvStep, has_references
from plasticbench.envs._journal import JournaledEnv, select_envs

FAMILIES = [
    kind
    for kind in plugins.names("envs")
    # Gymnasium's tasks and returns are the user's, and data are nothing to act in.
    if kind != "gymnasium" and not hasattr(plugins.load("envs", kind).Config, "build_course")
]
SHORT_TASKS = {
    "atari": "Asterix",
    "minatar": "Asterix-MinAtar",
    "classic": "CartPole-v1",
    "envpool": "phys2d/CartPole-v1",
    "humanoid": "h1-balance_simple-v0",
    "label_bandit": "Digits",
    "mujoco": "Hopper-v4",
}


SAMPLES = {
    "atari": ("Asterix",),
    "envpool": (
        "BipedalWalker-v3",
        "CheetahRun-v1",
        "FetchReach-v4",
        "Go1JoystickFlatTerrain-v1",
        "MetaWorld/Reach-v3",
        "MiniGrid-Empty-5x5-v0",
        "Snake-v1",
    ),
}
"""Of families whose tasks would take minutes all together."""


def _tasks(kind: str) -> tuple[str, ...]:
    module: ModuleType = plugins.load("envs", kind)
    tasks: tuple[str, ...] = SAMPLES.get(kind) or module.tasks()
    return tasks


CASES = [(kind, task) for kind in FAMILIES for task in _tasks(kind)]


def _config(kind: str, task: str) -> EnvConfig:
    config: EnvConfig = plugins.load("envs", kind).Config(task=task)
    return config


def _actions(spec: EnvSpec, seeds: list[int], steps: int) -> np.ndarray:
    """Random actions that depend on the environment's seed alone, ``[steps, N]`` or ``[steps, N, dimensions]``."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    if isinstance(spec.actions, DiscreteActions):
        return np.stack([generator.integers(spec.actions.count, size=steps) for generator in generators], axis=1)
    low, high = spec.actions.low, spec.actions.high
    draws = [generator.uniform(low, high, (steps, len(low))).astype(np.float32) for generator in generators]
    return np.stack(draws, axis=1)


def _extreme_actions(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last of the actions, for one environment."""
    if isinstance(spec.actions, DiscreteActions):
        return np.array([0]), np.array([spec.actions.count - 1])
    return np.array([spec.actions.low], np.float32), np.array([spec.actions.high], np.float32)


def _course(config: EnvConfig, seeds: list[int], steps: int) -> tuple[np.ndarray, list[EnvStep]]:
    env = config.build(seeds, num_threads=1)
    first = env.reset()
    course = [env.step(actions) for actions in _actions(env.spec, seeds, steps)]
    env.close()
    return first, course


def _assert_equal(ours: list[EnvStep], theirs: list[EnvStep], index: slice) -> None:
    for step, other in zip(ours, theirs, strict=True):
        for name, values in step._asdict().items():
            np.testing.assert_array_equal(values[index], getattr(other, name), err_msg=name)


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_observations_rewards_and_flags_match_the_spec(kind: str, task: str) -> None:
    config = _config(kind, task)
    spec: EnvSpec = config.spec  # type: ignore[attr-defined]
    first, course = _course(config, [1, 2], steps=20)
    assert (first.shape, first.dtype) == ((2, *spec.obs_shape), spec.obs_dtype)
    for step in course:
        assert (step.obs.shape, step.obs.dtype) == (first.shape, first.dtype)
        assert step.reward.dtype == step.raw_reward.dtype == np.float32
        assert step.terminated.dtype == step.truncated.dtype == np.bool_
        assert {len(values) for values in step} == {2}
        assert np.isfinite(step.obs).all()


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_two_courses_of_the_same_seeds_and_actions_are_equal(kind: str, task: str) -> None:
    first, course = _course(_config(kind, task), [1, 2], steps=100)
    again, other = _course(_config(kind, task), [1, 2], steps=100)
    np.testing.assert_array_equal(first, again)
    _assert_equal(course, other, slice(None))


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_a_course_depends_on_its_own_seed_alone(kind: str, task: str) -> None:
    first, course = _course(_config(kind, task), [7, 8, 9], steps=100)
    alone, lone_course = _course(_config(kind, task), [8], steps=100)
    np.testing.assert_array_equal(first[1:2], alone)
    _assert_equal(course, lone_course, slice(1, 2))


@pytest.mark.parametrize("kind", FAMILIES)
def test_seeds_make_courses_differ(kind: str) -> None:
    env = _config(kind, SHORT_TASKS[kind]).build([1, 2], num_threads=1)
    env.reset()
    actions = _actions(env.spec, [1, 1], steps=100)
    assert any((step.obs[0] != step.obs[1]).any() for step in (env.step(action) for action in actions))


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_step_after_an_end_resets_and_ignores_its_action(kind: str) -> None:
    config = _config(kind, SHORT_TASKS[kind])
    spec: EnvSpec = config.spec  # type: ignore[attr-defined]
    envs = [config.build([5], num_threads=1) for _ in range(2)]
    for env in envs:
        env.reset()
    for action in _actions(spec, [5], steps=2000):
        step, _ = (env.step(action) for env in envs)
        if step.terminated[0]:
            break
    assert step.terminated[0]
    assert not step.truncated[0]
    resets = [env.step(action) for env, action in zip(envs, _extreme_actions(spec), strict=True)]
    for reset in resets:
        assert (reset.reward[0], reset.raw_reward[0], reset.terminated[0], reset.truncated[0]) == (0, 0, False, False)
    np.testing.assert_array_equal(resets[0].obs, resets[1].obs)
    if spec.frame_stack > 1:
        assert (resets[0].obs == resets[0].obs[:, :1]).all()  # what a replay rebuilds by repeating the first frame
    following = [env.step(_extreme_actions(spec)[1]) for env in envs]
    _assert_equal(following[:1], following[1:], slice(None))


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_are_zero_and_one_at_the_references_of_every_task(kind: str) -> None:
    module = plugins.load("envs", kind)
    for task in SAMPLES[kind] if kind == "envpool" else module.tasks():
        config = module.Config(task=task)
        if not has_references(config):
            assert config.score(-12.5) == -12.5
            continue
        assert config.score(1.0) > config.score(0.0), task
        low, high = re.fullmatch(r"0: (\S+), .+; 1: (\S+), .+", config.score_source).groups()
        assert config.score(float(low)) == pytest.approx(0.0, abs=1e-9)
        assert config.score(float(high)) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_unknown_task_names_the_nearest_one(kind: str) -> None:
    task = SHORT_TASKS[kind]
    with pytest.raises(ValueError, match=rf"task: .*got '{task}x'\. Did you mean '{task}'\?"):
        plugins.config_from("envs", kind, {"task": f"{task}x"})


@pytest.mark.parametrize("kind", FAMILIES)
def test_zero_environments_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="num_envs: must be at least 1, got 0"):
        plugins.config_from("envs", kind, {"task": SHORT_TASKS[kind], "num_envs": 0})


@pytest.mark.parametrize(
    ("kind", "task"),
    [(kind, SHORT_TASKS[kind]) for kind in FAMILIES]
    + [("classic", "Pendulum-v1"), ("envpool", "CheetahRun-v1"), ("envpool", "MiniGrid-Empty-5x5-v0")],
)
def test_a_restored_journal_continues_bit_for_bit(kind: str, task: str) -> None:
    config, seeds = _config(kind, task), [3, 4]
    original = JournaledEnv(config, seeds, num_threads=1)
    original.reset()
    actions = _actions(original.spec, seeds, steps=400)
    for action in actions[:300]:
        original.step(action)
    state = original.state_dict()
    restored = JournaledEnv(config, [0], num_threads=1)
    np.testing.assert_array_equal(restored.load_state_dict(state), original.obs)
    np.testing.assert_array_equal(restored.obs, original.obs)
    assert restored.num_envs == 2
    ours, theirs = ([env.step(action) for action in actions[300:]] for env in (original, restored))
    _assert_equal(ours, theirs, slice(None))
    np.testing.assert_array_equal(original.state_dict()["actions"], restored.state_dict()["actions"])


def test_a_journal_grows_beyond_its_first_buffer_in_one_byte_per_action() -> None:
    env = JournaledEnv(_config("classic", "CartPole-v1"), [1], num_threads=1)
    env.reset()
    actions = _actions(env.spec, [1], steps=3000)
    for action in actions:
        env.step(action)
    state = env.state_dict()
    assert (state["actions"].dtype, state["actions"].nbytes) == (np.uint8, 3000)
    np.testing.assert_array_equal(state["actions"], actions)


def test_a_forked_journal_gives_each_child_its_parents_course() -> None:
    config = _config("minatar", "Breakout-MinAtar")
    parent = JournaledEnv(config, [3, 4], num_threads=1)
    parent.reset()
    for action in _actions(parent.spec, [3, 4], steps=50):
        parent.step(action)
    child = JournaledEnv(config, [3, 4], num_threads=1)
    obs = child.load_state_dict(select_envs(parent.state_dict(), [1, 1, 0]))
    np.testing.assert_array_equal(obs, parent.obs[[1, 1, 0]])
