"""MuJoCo models of the tasks, to step and to look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import mujoco

from plasticbench.envs.humanoid._hulls import compile_with_hulls
from plasticbench.envs.humanoid._robot import robot_spec
from plasticbench.envs.humanoid._scenes import SCENES, Scene, add_floor
from plasticbench.envs.humanoid._tasks import Physics


@cache
def physics_model(task: str, physics: Physics, ankle_meshes: Path | None) -> Any:
    """The compiled ``MjModel`` that environments of one process share; it is never written to."""
    model = compile_with_hulls(_spec(task, ankle_meshes), ankle_meshes)
    # Islands came to MuJoCo after the published results, and cost time where there is one robot.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    if ankle_meshes is not None:
        # Where rounding decides between two contacts, the recordings are met a little more often with sparse algebra.
        model.opt.jacobian = mujoco.mjtJacobian.mjJAC_SPARSE
    if physics == "published":
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    return model


@cache
def visual_model(task: str) -> Any:
    """The compiled ``MjModel`` with all meshes, for pictures."""
    return _spec(task, ankle_meshes=None).compile()


def _spec(task: str, ankle_meshes: Path | None) -> Any:
    spec = robot_spec(ankle_meshes)
    add_floor(spec)
    scene = SCENES.get(task, Scene())
    if scene.add:
        scene.add(spec)
    return spec
