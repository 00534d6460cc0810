"""A task as a ``VectorEnv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from plasticbench.contracts.task import EnvSpec, EnvStep
from plasticbench.envs._packing import packed_generators, restore_generators
from plasticbench.envs.humanoid._model import physics_model
from plasticbench.envs.humanoid._rewards import Readings
from plasticbench.envs.humanoid._simulation import Simulation
from plasticbench.envs.humanoid._tasks import TASKS, Physics, draw_start, observe
from plasticbench.seeding import derive_generator


class HumanoidEnv:
    """N robots that share a model and differ in their seeds."""

    def __init__(
        self,
        spec: EnvSpec,
        task: str,
        seeds: Sequence[int],
        num_threads: int,
        *,
        physics: Physics,
        ankle_meshes: Path | None,
        action_repeat: int,
        max_episode_steps: int,
    ) -> None:
        self.spec = spec
        self.num_envs = len(seeds)
        self._task = TASKS[task]
        self._action_repeat = action_repeat
        self._max_episode_steps = max_episode_steps
        self._generators = [derive_generator(seed, "start") for seed in seeds]
        model = physics_model(task, physics, ankle_meshes)
        self._simulation = Simulation(model, task, self.num_envs, num_threads)
        self._goal = np.zeros((self.num_envs, 3))
        self._stage = np.zeros(self.num_envs, np.int64)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)
        self._obs = np.empty((0, *spec.obs_shape), np.float32)

    def reset(self) -> np.ndarray:
        """First observations."""
        self._start(np.ones(self.num_envs, bool))
        self._obs = observe(self._task, self._read())
        return self._obs

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments; an action is held for ``action_repeat`` environment steps or until the end."""
        active = ~self._ended
        self._start(self._ended)
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for _ in range(self._action_repeat):
            self._simulation.step(actions, active)
            self._elapsed += active
            readings = self._read()
            reward += np.where(active, self._task.reward(readings), 0.0)
            terminated |= active & self._task.is_over(readings)
            if self._task.next_stage:
                self._stage = np.where(active, self._task.next_stage(readings), self._stage)
            active &= ~terminated & (self._elapsed < self._max_episode_steps)
            if not active.any():
                break
        truncated = (self._elapsed >= self._max_episode_steps) & ~terminated
        self._ended = terminated | truncated
        raw_reward = reward.astype(np.float32)
        self._obs = observe(self._task, readings)
        return EnvStep(self._obs, raw_reward, raw_reward, terminated, truncated)

    def save(self) -> dict[str, np.ndarray]:
        """Physics, the task's own variables, generators of starts, and the observations, which physics lag behind."""
        return {
            "physics": self._simulation.save(),
            "obs": self._obs,
            "goal": self._goal.copy(),
            "stage": self._stage.copy(),
            "elapsed": self._elapsed.copy(),
            "ended": self._ended.copy(),
            "generators": packed_generators(self._generators),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved."""
        self._simulation.restore(state["physics"])
        self._goal, self._stage = state["goal"].copy(), state["stage"].copy()
        self._elapsed, self._ended = state["elapsed"].copy(), state["ended"].copy()
        restore_generators(self._generators, state["generators"])
        self._obs = state["obs"].copy()
        return self._obs

    def positions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of one robot's ``qpos`` and goal, for pictures."""
        return self._simulation.datas[index].qpos.copy(), self._goal[index].copy()

    def close(self) -> None:
        """Ends the threads."""
        self._simulation.close()

    def _start(self, which: np.ndarray) -> None:
        for index in np.flatnonzero(which).tolist():
            qpos, self._goal[index] = draw_start(self._task, self._generators[index])
            self._simulation.place(index, qpos)
        self._elapsed[which] = 0
        self._stage[which] = 0

    def _read(self) -> Readings:
        return self._simulation.read(self._goal, self._stage)
