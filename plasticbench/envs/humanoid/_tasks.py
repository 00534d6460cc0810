"""The 14 tasks by name: what each starts from, rewards, ends with, and how its returns are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from plasticbench.envs._scores import Reference
from plasticbench.envs.humanoid import _rewards
from plasticbench.envs.humanoid._rewards import Readings

Physics = Literal["published", "fast"]
Measure = Callable[[Readings], np.ndarray]

NUM_ACTIONS = 19
_ROBOT_POSITIONS = 26  # 7 of the free pelvis and 19 joints; one velocity less
_LEG = (0.0, 0.0, -0.4, 0.8, -0.4)
_BOARD = (0.0, 0.0, 0.37, 1.0, 0.0, 0.0, 0.0)
_SPHERE = (0.0, 0.0, 0.17, 1.0, 0.0, 0.0, 0.0)
_CHAIR = (-0.25, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


class Task(NamedTuple):
    """One task. ``start`` is the pelvis' position in metres; ``objects`` are poses of free bodies beside the robot."""

    reward: Measure
    is_over: Measure
    reference: Reference
    start: tuple[float, float, float] = (0.0, 0.0, 0.98)
    objects: tuple[tuple[float, ...], ...] = ()
    goal_range: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    random_placement: bool = False
    next_stage: Measure | None = None
    camera: str = "cam_default"

    @property
    def initial_qpos(self) -> np.ndarray:
        """Positions ``[nq]`` before noise."""
        arms = (0.0,) * 9
        joints = (*self.start, 1.0, 0.0, 0.0, 0.0, *_LEG, *_LEG, *arms)
        return np.array([*joints, *(number for pose in self.objects for number in pose)])

    @property
    def obs_size(self) -> int:
        """Positions and velocities; with a goal, the left hand's and the goal's position as well."""
        return 2 * _ROBOT_POSITIONS - 1 + 13 * len(self.objects) + (6 if self.goal_range else 0)


_LIES, _KNEELS = _rewards.pelvis_below_20_cm, _rewards.pelvis_below_50_cm
_ON_BOARD = (-0.1, 0.0, 1.38)

TASKS = {
    "h1-walk-v0": Task(_rewards.walk, _LIES, Reference(2.377, 700)),
    "h1-stand-v0": Task(_rewards.stand, _LIES, Reference(10.545, 800)),
    "h1-run-v0": Task(_rewards.run, _LIES, Reference(2.02, 700)),
    "h1-reach-v0": Task(
        _rewards.reach,
        _rewards.never,
        Reference(260.302, 12000),
        goal_range=((-2.0, -2.0, 0.2), (2.0, 2.0, 2.0)),
    ),
    "h1-hurdle-v0": Task(_rewards.hurdle, _LIES, Reference(2.214, 700), camera="cam_hurdle"),
    "h1-crawl-v0": Task(_rewards.crawl, _rewards.never, Reference(272.658, 700)),
    "h1-maze-v0": Task(
        _rewards.maze, _LIES, Reference(106.441, 1200), next_stage=_rewards.next_stage, camera="cam_maze"
    ),
    "h1-sit_simple-v0": Task(_rewards.sit, _KNEELS, Reference(9.393, 750)),
    "h1-sit_hard-v0": Task(_rewards.sit, _KNEELS, Reference(2.448, 750), objects=(_CHAIR,), random_placement=True),
    "h1-balance_simple-v0": Task(
        _rewards.balance, _rewards.off_board, Reference(9.391, 800), start=_ON_BOARD, objects=(_BOARD,)
    ),
    "h1-balance_hard-v0": Task(
        _rewards.balance, _rewards.off_board, Reference(9.044, 800), start=_ON_BOARD, objects=(_BOARD, _SPHERE)
    ),
    "h1-stair-v0": Task(_rewards.climb, _rewards.torso_tilted, Reference(3.112, 700)),
    "h1-slide-v0": Task(_rewards.climb, _rewards.torso_tilted, Reference(3.191, 700)),
    "h1-pole-v0": Task(_rewards.pole, _KNEELS, Reference(20.09, 700)),
}

SUCCESS = "the return that counts as success (HumanoidBench, Sferrazza et al. 2024, arXiv:2403.10506)"


def draw_start(task: Task, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[nq]`` and goal ``[3]`` of a new episode.

    Noise of +-0.01 on every position; ``sit_hard`` also places the robot anew, up to 0.4 m before the chair and
    turned by up to 1.8 rad.
    """
    qpos = task.initial_qpos
    qpos += rng.uniform(-0.01, 0.01, len(qpos))
    if task.random_placement:
        qpos[:2] = rng.uniform((0.2, -0.15), (0.4, 0.15))
        half_angle = rng.uniform(-1.8, 1.8) / 2
        qpos[3:7] = (np.cos(half_angle), 0.0, 0.0, np.sin(half_angle))
    goal = rng.uniform(*task.goal_range) if task.goal_range else np.zeros(3)
    return qpos, goal


def observe(task: Task, readings: Readings) -> np.ndarray:
    """Observations ``[N, obs_size]`` float32."""
    parts = [readings.qpos, readings.qvel]
    if task.goal_range:
        parts += [readings.left_hand, readings.goal]
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
