"""Rewards and ends of HumanoidBench's 14 hand-free tasks, for all environments at once.

Sferrazza et al. 2024, arXiv:2403.10506, appendix, and the public package; the factors are dm_control's ``tolerance``
(Tunyasuvunakool et al. 2020, arXiv:2006.12983). All functions map readings of N environments to ``[N]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HEAD_HEIGHT_M = 1.65
_BOARD_HEIGHT_M = 0.37
_CRAWL_HEIGHT_M = (0.6, 1.0)
_CRAWL_POSTURE = np.array([0.75, 0.0, 0.65, 0.0])
CHECKPOINTS_M = np.array([(0.0, 0.0), (3.0, 0.0), (3.0, 6.0), (6.0, 6.0), (6.0, 6.0)])
_MAZE_DIRECTIONS = np.array([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
_MAZE_SPEED_M_S = 2.0
_CHECKPOINT_RADIUS_M = 0.4
_COLLISION_DISCOUNT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """What rewards see of N environments after a step; lengths in metres.

    ``qpos`` and ``qvel`` are the state after the step. All else is what MuJoCo computed on the way to it: poses,
    velocities, forces and contacts at the beginning of the last substep, as in the public package.
    """

    qpos: Floats  # [N, nq]
    qvel: Floats  # [N, nv]
    pelvis: Floats  # [N, 3]
    pelvis_quaternion: Floats  # [N, 4]
    pelvis_upright: Floats  # [N] cosine to the vertical
    torso_upright: Floats  # [N]
    head: Floats  # [N, 3]
    imu: Floats  # [N, 3]
    left_foot: Floats  # [N, 3]
    right_foot: Floats  # [N, 3]
    left_hand: Floats  # [N, 3]
    velocity: Floats  # [N, 3] of the centre of mass, m/s
    torque: Floats  # [N, 19] of the actuators, N m
    touches: NDArray[np.bool_]  # [N] bool: two geoms touch that the task wants apart
    chair: Floats  # [N, 3], zeros without one
    goal: Floats  # [N, 3], zeros without one
    stage: NDArray[np.int64]  # [N] int: checkpoints that were passed before this step


def _excess(value: Floats, low: float, high: float) -> Floats:
    """Distance to the interval, 0 inside it."""
    return np.asarray(np.maximum(low - value, 0) + np.maximum(value - high, 0))


def gaussian(value: Floats, low: float = 0.0, high: float = 0.0, *, margin: float) -> Floats:
    """1 inside the interval, 0.1 at ``margin`` from it, falling like a Gaussian."""
    return np.asarray(0.1 ** (_excess(value, low, high) / margin) ** 2)


def linear(value: Floats, low: float = 0.0, high: float = 0.0, *, margin: float) -> Floats:
    """1 inside the interval, 0 from ``margin`` on, linear in between."""
    return np.maximum(1 - _excess(value, low, high) / margin, 0)


def quadratic(value: Floats, *, margin: float) -> Floats:
    """1 at zero, 0 from ``margin`` on, a parabola in between."""
    return np.maximum(1 - (value / margin) ** 2, 0)


def _small_control(r: Readings) -> Floats:
    return np.asarray((4 + quadratic(r.torque, margin=10).mean(axis=1)) / 5)


def _stand(r: Readings, *, height: float = _HEAD_HEIGHT_M, upright: float = 0.9) -> Floats:
    standing = gaussian(r.head[:, 2], height, np.inf, margin=_HEAD_HEIGHT_M / 4)
    return standing * linear(r.torso_upright, upright, np.inf, margin=1.9)


def _still(r: Readings) -> Floats:
    return np.asarray(gaussian(r.velocity[:, :2], margin=2).mean(axis=1))


def _move(r: Readings, speed: float) -> Floats:
    return np.asarray((5 * linear(r.velocity[:, 0], speed, np.inf, margin=speed) + 1) / 6)


def _discount(r: Readings) -> Floats:
    return np.where(r.touches, _COLLISION_DISCOUNT, 1.0)


def walk(r: Readings) -> Floats:
    """Standing, upright and moving forward with at least 1 m/s."""
    return _small_control(r) * _stand(r) * _move(r, 1)


def run(r: Readings) -> Floats:
    """As ``walk``, with 5 m/s."""
    return _small_control(r) * _stand(r) * _move(r, 5)


def stand(r: Readings) -> Floats:
    """Standing upright without moving."""
    return _small_control(r) * _stand(r) * _still(r)


def balance(r: Readings) -> Floats:
    """As ``stand``, on top of the board."""
    return _small_control(r) * _stand(r, height=_HEAD_HEIGHT_M + _BOARD_HEIGHT_M) * _still(r)


def hurdle(r: Readings) -> Floats:
    """As ``run``, leaning further, without touching the barriers at the sides."""
    return _small_control(r) * _stand(r, upright=0.8) * _move(r, 5) * _discount(r)


def pole(r: Readings) -> Floats:
    """Walking with at least 0.5 m/s without touching a pole."""
    return (0.5 * _small_control(r) * _stand(r) + 0.5 * _move(r, 0.5)) * _discount(r)


def climb(r: Readings) -> Floats:
    """Walking over stairs and slides: the head counts from the feet."""
    head = r.head[:, 2]
    standing = gaussian(head - r.left_foot[:, 2], 1.2, np.inf, margin=0.45)
    standing = standing * gaussian(head - r.right_foot[:, 2], 1.2, np.inf, margin=0.45)
    return standing * linear(r.torso_upright, 0.5, np.inf, margin=1.9) * _small_control(r) * _move(r, 1)


def crawl(r: Readings) -> Floats:
    """Moving forward on all fours inside the tunnel."""
    height = np.minimum(*(gaussian(site[:, 2], *_CRAWL_HEIGHT_M, margin=1) for site in (r.imu, r.head)))
    posture = gaussian(np.linalg.norm(r.pelvis_quaternion - _CRAWL_POSTURE, axis=1), margin=1)
    inside = np.abs(r.imu[:, 1]) <= 1
    return (0.1 * _small_control(r) + 0.25 * height + 0.4 * _move(r, 1) + 0.25 * posture) * inside


def sit(r: Readings) -> Floats:
    """Sitting upright on the chair without moving."""
    height = gaussian(r.qpos[:, 2], 0.68, 0.72, margin=0.2)
    offset = r.qpos[:, :2] - r.chair[:, :2]
    on_chair = gaussian(offset[:, 0], -0.19, 0.19, margin=0.2) * gaussian(offset[:, 1], margin=0.1)
    posture = gaussian(r.head[:, 2] - r.imu[:, 2], 0.35, 0.45, margin=0.3)
    upright = linear(r.torso_upright, 0.95, np.inf, margin=0.9)
    return _small_control(r) * (0.5 * height + 0.5 * on_chair) * upright * posture * _still(r)


def reach(r: Readings) -> Floats:
    """The left hand at the goal, with the pelvis upright and little motion."""
    distance = np.linalg.norm(r.left_hand - r.goal, axis=1)
    motion: Floats = (r.qvel**2).sum(axis=1)
    near: Floats = 5.0 * (distance < 1) + 10.0 * (distance < 0.05)
    return 5 * r.pelvis_upright - 1e-4 * motion + near


def next_stage(r: Readings) -> NDArray[np.int64]:
    """The maze's stage ``[N]`` after this step: one more within reach of the next checkpoint, 4 at most."""
    distance = np.linalg.norm(r.pelvis[:, :2] - CHECKPOINTS_M[r.stage], axis=1)
    stage: NDArray[np.int64] = np.minimum(r.stage + (distance < _CHECKPOINT_RADIUS_M), len(CHECKPOINTS_M) - 1)
    return stage


def maze(r: Readings) -> Floats:
    """From checkpoint to checkpoint with 2 m/s without touching the walls; 100 times its number for each one."""
    stage = next_stage(r)
    surplus = r.velocity[:, :2] - _MAZE_SPEED_M_S * _MAZE_DIRECTIONS[stage]
    move = np.where(stage == len(CHECKPOINTS_M) - 1, 1.0, linear(surplus, margin=1).prod(axis=1))
    near = gaussian(np.linalg.norm(CHECKPOINTS_M[stage] - r.imu[:, :2], axis=1), margin=1)
    shaped = 0.2 * _stand(r) * _small_control(r) + 0.4 * (5 * move + 1) / 6 + 0.4 * near
    return shaped * _discount(r) + 100.0 * stage * (stage > r.stage)


def never(r: Readings) -> NDArray[np.bool_]:
    """No end but the time limit."""
    return np.zeros(len(r.qpos), bool)


def pelvis_below_20_cm(r: Readings) -> NDArray[np.bool_]:
    """The robot lies."""
    return r.qpos[:, 2] < 0.2


def pelvis_below_50_cm(r: Readings) -> NDArray[np.bool_]:
    """The robot has sunk to its knees."""
    return r.qpos[:, 2] < 0.5


def torso_tilted(r: Readings) -> NDArray[np.bool_]:
    """The torso is nearly horizontal."""
    return r.torso_upright < 0.1


def off_board(r: Readings) -> NDArray[np.bool_]:
    """The pelvis is below 80 cm, or something touches that should not."""
    return (r.qpos[:, 2] < 0.8) | r.touches
