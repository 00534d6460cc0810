"""Which parts of an observation an agent sees where EnvPool delivers more than the task's publishers show.

EnvPool gives all tasks of a domain of the control suite the same parts; those that a task does not have in dm_control
are left out here, and the rest is in dm_control's order. MuJoCo Playground shows ``privileged_state`` to critics alone.
"""

from __future__ import annotations

from collections.abc import Collection

_DOG = (
    "joint_angles joint_velocites torso_pelvis_height z_projection torso_com_velocity inertial_sensors foot_forces "
    "touch_sensors actuator_state"
)
_HUMANOID = "joint_angles head_height extremities torso_vertical com_velocity velocity"
_QUADRUPED = "egocentric_state torso_velocity torso_upright imu force_torque"
_CONTROL_SUITE = {
    "DogStand-v1": _DOG,
    "DogWalk-v1": _DOG,
    "DogTrot-v1": _DOG,
    "DogRun-v1": _DOG,
    "FingerSpin-v1": "position velocity touch",
    "FishUpright-v1": "joint_angles upright velocity",
    "FishSwim-v1": "joint_angles upright target velocity",
    "HumanoidStand-v1": _HUMANOID,
    "HumanoidWalk-v1": _HUMANOID,
    "HumanoidRun-v1": _HUMANOID,
    "HumanoidRunPureState-v1": "position velocity",
    "QuadrupedWalk-v1": _QUADRUPED,
    "QuadrupedRun-v1": _QUADRUPED,
    "QuadrupedEscape-v1": f"{_QUADRUPED} origin rangefinder",
    "QuadrupedFetch-v1": f"{_QUADRUPED} ball_state target_position",
}


def published_parts(group: str, task: str, delivered: Collection[str]) -> tuple[str, ...]:
    """Names out of those that are ``delivered``, in the order in which they are seen."""
    if group == "dmc" and task in _CONTROL_SUITE:
        return tuple(_CONTROL_SUITE[task].split())
    if group == "playground":
        return tuple(name for name in delivered if name != "privileged_state")
    return tuple(delivered)
