"""A task as a ``gymnasium.Env``, for anybody's training script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from plasticbench.envs.humanoid._model import physics_model
from plasticbench.envs.humanoid._rewards import Readings
from plasticbench.envs.humanoid._simulation import Simulation
from plasticbench.envs.humanoid._tasks import NUM_ACTIONS, TASKS, Physics, draw_start, observe
from plasticbench.envs.humanoid.rendering import Camera, check_rendering


class SingleHumanoid(gymnasium.Env[np.ndarray, np.ndarray]):
    """One robot; the time limit is Gymnasium's wrapper."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(
        self,
        task: str,
        physics: Physics = "published",
        ankle_meshes: str | None = None,
        render_mode: str | None = None,
        width: int = 256,
        height: int = 256,
    ) -> None:
        if render_mode is not None:
            check_rendering()
        self.render_mode = render_mode
        self._task_name, self._task = task, TASKS[task]
        model = physics_model(task, physics, None if ankle_meshes is None else Path(ankle_meshes))
        self._simulation = Simulation(model, task, num_envs=1, num_threads=1)
        self._goal, self._stage = np.zeros((1, 3)), np.zeros(1, np.int64)
        self._size = (width, height)
        self._camera: Camera | None = None
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._task.obs_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        qpos, self._goal[0] = draw_start(self._task, self.np_random)
        self._stage[0] = 0
        self._simulation.place(0, qpos)
        return observe(self._task, self._read())[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Steps by 20 ms."""
        self._simulation.step(action[None], np.ones(1, bool))
        readings = self._read()
        reward, terminated = self._task.reward(readings)[0], self._task.is_over(readings)[0]
        if self._task.next_stage:
            self._stage = self._task.next_stage(readings)
        return observe(self._task, readings)[0], float(reward), bool(terminated), False, {}

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The current picture ``[height, width, 3]``, if ``render_mode`` is ``rgb_array``."""
        if self.render_mode is None:
            return None
        if self._camera is None:
            self._camera = Camera(self._task_name, *self._size)
        return self._camera.picture(self._simulation.datas[0].qpos, self._goal[0])

    def close(self) -> None:
        """Frees the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _read(self) -> Readings:
        return self._simulation.read(self._goal, self._stage)
