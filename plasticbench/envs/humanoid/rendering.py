"""Pictures of humanoids without a screen, through EGL or OSMesa.

On Debian: ``apt-get install libosmesa6`` (software, works everywhere) or ``libegl1`` (GPU). ``MUJOCO_GL`` chooses one;
without it EGL comes first. ``check_rendering`` tells in advance whether there will be pictures.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from plasticbench.contracts.task import EnvConfig
from plasticbench.envs.humanoid._model import visual_model
from plasticbench.envs.humanoid._tasks import TASKS
from plasticbench.envs.humanoid._vector import HumanoidEnv

_LIBRARIES = {"egl": ("EGL", "libegl1"), "osmesa": ("OSMesa", "libosmesa6")}


def check_rendering() -> str:
    """The backend that MuJoCo will draw with; starts nothing.

    Raises ``RuntimeError`` that names the Debian package if no library is there.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    candidates = [wanted] if wanted in _LIBRARIES else ["egl", "osmesa"]
    for backend in candidates:
        if ctypes.util.find_library(_LIBRARIES[backend][0]):
            return backend
    package = _LIBRARIES[candidates[-1]][1]
    raise RuntimeError(
        f"pictures of humanoids need {' or '.join(candidates)}, which is missing: apt-get install {package}"
    )


def check_drawable(backend: str) -> None:
    """Raises ``ValueError`` for a backend whose robots cannot be drawn."""
    if backend != "builtin":
        raise ValueError(f"backend: must be 'builtin' for pictures, got {backend!r}")


class Camera:
    """Draws states of one task with all meshes, seen from the task's own camera."""

    def __init__(self, task: str, width: int, height: int) -> None:
        # Not mujoco.Renderer: it takes the library that was chosen when MuJoCo was imported, which needs a screen.
        self._gl: Any = importlib.import_module(f"mujoco.{check_rendering()}").GLContext(width, height)
        self._gl.make_current()
        self._task = TASKS[task]
        self._model = visual_model(task)
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._data = mujoco.MjData(self._model)
        self._model.vis.quality.offsamples = 0  # without a GPU, smooth edges and shadows cost most of the time
        self._scene = mujoco.MjvScene(self._model, maxgeom=1000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._view, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = self._model.camera(self._task.camera).id
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._window = mujoco.MjrRect(0, 0, width, height)

    def picture(self, qpos: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """``[height, width, 3]`` uint8 of a robot at ``qpos``; the goal is a red ball where the task has one."""
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        seen = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._view, seen, self._scene)
        if self._task.goal_range:
            ball, red = self._scene.geoms[self._scene.ngeom], np.array([0.8, 0.3, 0.3, 1.0], np.float32)
            mujoco.mjv_initGeom(ball, mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, 0.05), goal, np.eye(3).ravel(), red)
            self._scene.ngeom += 1
        self._gl.make_current()
        mujoco.mjr_render(self._window, self._scene, self._context)
        upside_down = np.empty((self._window.height, self._window.width, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._window, self._context)
        return upside_down[::-1].copy()

    def close(self) -> None:
        """Frees the graphics memory."""
        self._context.free()
        self._gl.free()


def render_rollout(
    config: EnvConfig,
    act: Callable[[np.ndarray], np.ndarray],
    seed: int,
    num_steps: int,
    width: int,
    height: int,
    *,
    every: int = 1,
) -> np.ndarray:
    """Pictures ``[T, height, width, 3]`` uint8 of one episode of ``num_steps`` agent steps at most.

    Args:
        config: the task, of the built-in backend, which alone can be drawn.
        act: maps observations ``[1, obs]`` to actions ``[1, 19]``.
        seed: of the environment.
        num_steps: at least one; fewer if the episode ends before.
        width: in pixels.
        height: in pixels.
        every: steps from one picture to the next; without a GPU, drawing takes most of the time.
    """
    camera = Camera(config.task, width, height)
    env = config.build([seed], num_threads=1)
    assert isinstance(env, HumanoidEnv)
    obs, pictures = env.reset(), []
    for index in range(num_steps):
        if index % every == 0:
            pictures.append(camera.picture(*env.positions(0)))
        step = env.step(act(obs))
        obs = step.obs
        if step.terminated[0] or step.truncated[0]:
            break
    env.close()
    camera.close()
    return np.stack(pictures)
