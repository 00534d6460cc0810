import ctypes.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from plasticbench import plugins
from plasticbench.contracts.task import EnvStep
from plasticbench.envs import humanoid
from plasticbench.envs._gymnasium_ids import HUMANOID_TASKS
from plasticbench.envs.humanoid import _rewards, rendering
from plasticbench.envs.humanoid._foot import foot_points
from plasticbench.envs.humanoid._model import physics_model, visual_model
from plasticbench.envs.humanoid._rewards import Readings, gaussian, linear, quadratic
from plasticbench.envs.humanoid._tasks import TASKS, draw_start


def readings(**changed: Any) -> Readings:
    """One robot that stands still and upright without effort."""
    still: dict[str, Any] = {
        "qpos": np.array([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]]),
        "qvel": np.zeros((1, 6)),
        "pelvis": np.array([[0.0, 0.0, 1.0]]),
        "pelvis_quaternion": np.array([[1.0, 0.0, 0.0, 0.0]]),
        "pelvis_upright": np.ones(1),
        "torso_upright": np.ones(1),
        "head": np.array([[0.0, 0.0, 1.7]]),
        "imu": np.array([[0.0, 0.0, 1.2]]),
        "left_foot": np.zeros((1, 3)),
        "right_foot": np.zeros((1, 3)),
        "left_hand": np.zeros((1, 3)),
        "velocity": np.zeros((1, 3)),
        "torque": np.zeros((1, 19)),
        "touches": np.zeros(1, bool),
        "chair": np.zeros((1, 3)),
        "goal": np.zeros((1, 3)),
        "stage": np.zeros(1, np.int64),
    }
    return Readings(**(still | changed))


def forward(speed: float) -> np.ndarray:
    return np.array([[speed, 0.0, 0.0]])


def test_tolerances_have_their_values_inside_at_and_beyond_the_margin() -> None:
    values = np.array([1.0, 0.5, 0.0, -1.0])
    np.testing.assert_allclose(linear(values, 1.0, np.inf, margin=1.0), [1, 0.5, 0, 0])
    np.testing.assert_allclose(gaussian(values, 1.0, np.inf, margin=1.0), [1, 0.1**0.25, 0.1, 1e-4])
    np.testing.assert_allclose(quadratic(np.array([0.0, 5.0, -10.0, 20.0]), margin=10), [1, 0.75, 0, 0])


@pytest.mark.parametrize(
    ("reward", "changed", "expected"),
    [
        (_rewards.walk, {}, 1 / 6),
        (_rewards.walk, {"velocity": forward(1.0)}, 1.0),
        (_rewards.walk, {"velocity": forward(1.0), "torque": np.full((1, 19), 5.0)}, 4.75 / 5),
        (_rewards.run, {"velocity": forward(2.5)}, 3.5 / 6),
        (_rewards.stand, {}, 1.0),
        (_rewards.stand, {"velocity": forward(2.0)}, 0.55),
        (_rewards.balance, {"head": np.array([[0, 0, 1.65 + 0.37 - 1.65 / 4]])}, 0.1),
        (_rewards.hurdle, {"velocity": forward(5.0), "touches": np.array([True])}, 0.1),
        (_rewards.pole, {}, 0.5 + 0.5 / 6),
        (_rewards.climb, {"velocity": forward(1.0), "left_foot": np.array([[0, 0, 0.95]])}, 0.1),
        (_rewards.sit, {"qpos": np.array([[0.0, 0.1, 0.7]])}, 0.1 ** ((0.05 / 0.3) ** 2) * 0.55),
        (_rewards.reach, {"left_hand": np.array([[0.5, 0, 0]])}, 10.0),
        (_rewards.reach, {"qvel": np.full((1, 6), 10.0)}, 20 - 0.06),
        (_rewards.crawl, {"imu": np.array([[0, 1.5, 0.8]])}, 0.0),
        (
            _rewards.crawl,
            {
                "imu": np.array([[0, 0, 0.8]]),
                "head": np.array([[0, 0, 0.7]]),
                "pelvis_quaternion": np.array([[0.75, 0, 0.65, 0]]),
                "velocity": forward(1.0),
            },
            1.0,
        ),
        # Reaches checkpoint 0: 100, moves at the wanted speed, 3 m from the next one.
        (_rewards.maze, {"velocity": forward(2.0)}, 100 + 0.2 + 0.4 + 0.4e-9),
        (_rewards.maze, {"stage": np.array([2]), "imu": np.array([[3, 6, 1]])}, 0.2 + 0.4 / 6 + 0.4),
    ],
)
def test_rewards_of_hand_worked_states(reward: Any, changed: dict[str, Any], expected: float) -> None:
    assert reward(readings(**changed))[0] == pytest.approx(expected, rel=1e-9)


def test_the_maze_counts_checkpoints_up_to_the_last() -> None:
    there = np.array([[6.2, 6.1, 1.0]])
    assert _rewards.next_stage(readings(pelvis=there, stage=np.array([3])))[0] == 4
    assert _rewards.next_stage(readings(pelvis=there, stage=np.array([4])))[0] == 4
    assert _rewards.next_stage(readings(pelvis=there, stage=np.array([1])))[0] == 1


def test_the_foot_has_the_measured_extent() -> None:
    points = foot_points()
    np.testing.assert_allclose(points.min(axis=0), [-0.1, -0.015, -0.07], atol=1e-6)
    np.testing.assert_allclose(points.max(axis=0), [0.2, 0.015, 0.01096], atol=1e-6)
    rim = points[np.isclose(np.abs(points[:, 1]), 0.015)]
    assert rim[:, 2].min() == pytest.approx(-0.067, abs=1e-5)  # the sole's edge is rounded with 3 mm


def test_the_model_to_step_has_the_mass_and_the_hulls_of_the_model_to_look_at() -> None:
    thin, full = physics_model("h1-walk-v0", "published", None), visual_model("h1-walk-v0")
    assert thin.nbvh < 1000 < full.nbvh
    np.testing.assert_array_equal(thin.body_mass, full.body_mass)
    for name in ("pelvis", "torso_link", "left_knee_link"):
        ours, theirs = thin.geom(name), full.geom(name)
        assert ours.rbound == pytest.approx(theirs.rbound, abs=1e-6)
        np.testing.assert_allclose(ours.pos, theirs.pos, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_starts_are_within_the_published_noise_and_placement(task: str) -> None:
    starts = np.stack([draw_start(TASKS[task], np.random.default_rng(seed))[0] for seed in range(200)])
    noise = starts - TASKS[task].initial_qpos
    if TASKS[task].random_placement:
        np.testing.assert_allclose(starts[:, :2].min(axis=0), [0.2, -0.15], atol=0.02)
        np.testing.assert_allclose(starts[:, :2].max(axis=0), [0.4, 0.15], atol=0.02)
        yaw = 2 * np.arctan2(starts[:, 6], starts[:, 3])
        assert 1.6 < np.abs(yaw).max() <= 1.8
        noise = noise[:, 7:]
    assert 0.009 < np.abs(noise).max() <= 0.01


def play(config: humanoid.Config, seeds: list[int], num_threads: int, steps: int) -> list[EnvStep]:
    env = config.build(seeds, num_threads)
    env.reset()
    rng = np.random.default_rng(0)
    course = [env.step(rng.uniform(-1, 1, (len(seeds), 19)).astype(np.float32)) for _ in range(steps)]
    env.close()
    return course


def test_threads_change_nothing() -> None:
    config = humanoid.Config(task="h1-hurdle-v0")
    one, two = (play(config, [1, 2, 3], num_threads, steps=60) for num_threads in (1, 2))
    for step, other in zip(one, two, strict=True):
        for values, others in zip(step, other, strict=True):
            np.testing.assert_array_equal(values, others)


def test_an_agent_step_with_repeat_2_is_two_steps_with_the_same_action() -> None:
    single = humanoid.Config(task="h1-walk-v0").build([4], num_threads=1)
    double = humanoid.Config(task="h1-walk-v0", action_repeat=2).build([4], num_threads=1)
    np.testing.assert_array_equal(single.reset(), double.reset())
    rng = np.random.default_rng(0)
    for _ in range(10):
        action = rng.uniform(-1, 1, (1, 19)).astype(np.float32)
        first, second = single.step(action), single.step(action)
        both = double.step(action)
        np.testing.assert_array_equal(both.obs, second.obs)
        assert both.raw_reward[0] == pytest.approx(first.raw_reward[0] + second.raw_reward[0], rel=1e-6)


def test_the_time_limit_counts_environment_steps_and_truncates() -> None:
    env = humanoid.Config(task="h1-crawl-v0", action_repeat=2, max_episode_steps=9).build([1], num_threads=1)
    env.reset()
    steps = [env.step(np.zeros((1, 19), np.float32)) for _ in range(6)]
    assert [step.truncated[0] for step in steps] == [False, False, False, False, True, False]
    assert not any(step.terminated[0] for step in steps)
    assert (steps[5].reward[0], steps[4].reward[0] > 0) == (0, True)


def test_a_fall_terminates_and_the_next_step_starts_an_episode() -> None:
    course = play(humanoid.Config(task="h1-walk-v0"), [1, 2], num_threads=1, steps=400)
    ends = [number for number, step in enumerate(course) if step.terminated[0]]
    assert ends
    fallen, first = course[ends[0]], course[ends[0] + 1]
    assert fallen.obs[0, 2] < 0.2
    assert (first.reward[0], first.terminated[0]) == (0, False)
    assert first.obs[0, 2] == pytest.approx(0.98, abs=0.011)


@pytest.mark.filterwarnings("ignore:.*observation space (minimum|maximum) value is -?infinity")  # it has no bounds
@pytest.mark.parametrize("task", ["h1-walk-v0", "h1-reach-v0", "h1-maze-v0"])
def test_gymnasiums_checker_passes(task: str) -> None:
    env = gymnasium.make(f"plasticbench/{task}")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_every_task_is_registered_and_registering_imports_neither_torch_nor_mujoco() -> None:
    assert {f"h1-{name}-v0" for name in HUMANOID_TASKS} == set(humanoid.tasks())
    code = (
        "import sys; from plasticbench.envs import _gymnasium_ids as ids; ids.register_humanoids(); import gymnasium; "
        "gymnasium.spec('plasticbench/h1-walk-v0'); assert not {'torch', 'mujoco'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("task", ["plasticbench:h1-walk", "plasticbench:h1-walk-v0", "plasticbench:h1-sit_hard-v0"])
def test_gymnasium_makes_a_task_in_a_fresh_process_by_the_name_of_the_package(task: str) -> None:
    code = (
        f"import gymnasium; env = gymnasium.make({task!r}); obs, _ = env.reset(seed=0); "
        "env.step(env.action_space.sample()); print(env.unwrapped.spec.kwargs['task'], obs.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    name = task.partition(":")[2].removesuffix("-v0") + "-v0"
    assert done.stdout.split()[0] == name
    assert done.stdout.endswith(f"({humanoid.Config(task=name).spec.obs_shape[0]},)\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "h1-wolk-v0"}, "task: .*Did you mean 'h1-walk-v0'"),
        ({"physics": "old"}, "physics: .*published"),
        ({"action_repeat": 0}, "action_repeat: must be at least 1, got 0"),
        ({"ankle_meshes": "nowhere"}, "ankle_meshes: must be a folder with left_ankle_link.stl, got 'nowhere'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.config_from("envs", "humanoid", {"task": "h1-walk-v0"} | settings)


def test_the_official_backend_says_how_to_get_it() -> None:
    with pytest.raises(ValueError, match=r"backend: 'official' needs .*humanoid_bench.*pip install -e"):
        humanoid.Config(task="h1hand-push-v0", backend="official")


def test_a_missing_graphics_library_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RuntimeError, match="apt-get install libosmesa6"):
        rendering.check_rendering()
    with pytest.raises(RuntimeError, match="apt-get install libosmesa6"):
        gymnasium.make("plasticbench/h1-walk-v0", render_mode="rgb_array")


def _can_draw() -> bool:
    try:
        return bool(rendering.check_rendering())
    except RuntimeError:
        return False


@pytest.mark.skipif(not _can_draw(), reason="no EGL or OSMesa: apt-get install libosmesa6")
def test_a_rollout_shows_a_robot_that_moves() -> None:
    config = humanoid.Config(task="h1-reach-v0")
    pictures = rendering.render_rollout(config, lambda obs: np.zeros((1, 19), np.float32), 1, 12, 160, 120)
    assert (pictures.shape, pictures.dtype) == ((12, 120, 160, 3), np.uint8)
    dark = (pictures[0].max(axis=-1) < 60).mean()
    assert 0.005 < dark < 0.3  # the black robot before a bright sky
    assert (pictures[0] != pictures[-1]).mean() > 0.005


def test_a_plug_in_may_be_a_package_and_groups_are_none() -> None:
    assert "humanoid" in plugins.names("envs")
    assert "scenarios" not in plugins.names("envs")
    assert Path(plugins.load("envs", "humanoid").__file__ or "").name == "__init__.py"
