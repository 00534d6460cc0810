"""N copies of a task's MuJoCo state, stepped on threads and read together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np

from plasticbench.cpus import usable_cpus
from plasticbench.envs.humanoid._rewards import Readings
from plasticbench.envs.humanoid._robot import SITES
from plasticbench.envs.humanoid._scenes import SCENES, Scene

SUBSTEPS = 10
"""Physics steps of 2 ms per environment step."""

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""Full physics, what users set, and where the solver starts from."""

_ARRAYS = ("qpos", "qvel", "xpos", "xquat", "xmat", "site_xpos", "subtree_linvel", "actuator_force")


class Simulation:
    """Episodes' physics without rewards: positions go in by ``place``, actions in [-1, 1] by ``step``."""

    def __init__(self, model: Any, task: str, num_envs: int, num_threads: int) -> None:
        """``num_threads`` 0 takes as many as there are CPUs; with one the calling thread does the work."""
        self.model = model
        self.datas = [mujoco.MjData(model) for _ in range(num_envs)]
        # Views into MuJoCo's memory, made once: attribute access costs more than the copy.
        self._views = {name: [getattr(data, name) for data in self.datas] for name in _ARRAYS}
        # In single precision, as the public package computes controls from actions.
        self._control_low, self._control_high = model.actuator_ctrlrange.astype(np.float32).T
        self._sites = {name: model.site(name).id for name in SITES}
        self._pelvis, self._torso = model.body("pelvis").id, model.body("torso_link").id
        self._chair = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "chair")
        forbidden = SCENES.get(task, Scene()).forbidden
        names = [model.geom(geom).name for geom in range(model.ngeom)]
        self._forbidden = forbidden(names) if forbidden else None
        workers = min(num_threads or usable_cpus(), num_envs)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._workers = workers

    def place(self, index: int, qpos: np.ndarray) -> None:
        """Puts one robot at rest into the given position."""
        data = self.datas[index]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = qpos
        mujoco.mj_normalizeQuat(self.model, data.qpos)
        mujoco.mj_forward(self.model, data)
        data.qacc_warmstart[:] = data.qacc

    def save(self) -> np.ndarray:
        """All that the physics of the next step depend on, ``[N, size]`` float64."""
        states = np.empty((len(self.datas), mujoco.mj_stateSize(self.model, _STATE)))
        for data, state in zip(self.datas, states, strict=True):
            mujoco.mj_getState(self.model, data, state, _STATE)
        return states

    def restore(self, states: np.ndarray) -> None:
        """Goes on as saved. What is derived from a state, as ``read`` shows it, is known from the next step on."""
        for data, state in zip(self.datas, states, strict=True):
            mujoco.mj_setState(self.model, data, state, _STATE)

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """One environment step of the robots that ``active`` [N] marks; ``actions`` [N, 19]."""
        actions = actions.astype(np.float32, copy=False)
        controls = (actions + 1) / 2 * (self._control_high - self._control_low) + self._control_low
        indices = np.flatnonzero(active)
        if self._pool is None:
            self._step_each(indices, controls)
        else:
            chunks = np.array_split(indices, self._workers)
            list(self._pool.map(self._step_each, chunks, [controls] * len(chunks)))

    def _step_each(self, indices: np.ndarray, controls: np.ndarray) -> None:
        for index in indices:
            data = self.datas[index]
            data.ctrl[:] = controls[index]
            mujoco.mj_step(self.model, data, nstep=SUBSTEPS)  # without the interpreter's lock

    def read(self, goal: np.ndarray, stage: np.ndarray) -> Readings:
        """What rewards see of all robots."""
        for data in self.datas:
            mujoco.mj_subtreeVel(self.model, data)
        arrays = {name: np.stack(views) for name, views in self._views.items()}
        sites = {name: arrays["site_xpos"][:, index] for name, index in self._sites.items()}
        return Readings(
            qpos=arrays["qpos"],
            qvel=arrays["qvel"],
            pelvis=arrays["xpos"][:, self._pelvis],
            pelvis_quaternion=arrays["xquat"][:, self._pelvis],
            pelvis_upright=arrays["xmat"][:, self._pelvis, 8],
            torso_upright=arrays["xmat"][:, self._torso, 8],
            velocity=arrays["subtree_linvel"][:, self._pelvis],
            torque=arrays["actuator_force"],
            touches=np.array([self._touches(data) for data in self.datas]),
            chair=arrays["xpos"][:, self._chair] if self._chair >= 0 else np.zeros_like(goal),
            goal=goal,
            stage=stage,
            **sites,
        )

    def _touches(self, data: Any) -> bool:
        if self._forbidden is None or data.ncon == 0:
            return False
        pairs = data.contact.geom
        return bool(self._forbidden[pairs[:, 0], pairs[:, 1]].any())

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
