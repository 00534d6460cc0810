"""The public ``humanoid_bench`` package as a ``VectorEnv``, where a user has installed it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

import gymnasium
import numpy as np

from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep


def check_installed() -> None:
    """Raises ``ValueError`` that says what to do if the package cannot be imported."""
    if importlib.util.find_spec("humanoid_bench") is None:
        raise ValueError(
            "backend: 'official' needs the package humanoid_bench, which is not installed. It is on no package index: "
            "clone github.com/carlosferrazza/humanoid-bench and run `pip install -e .` there, or use backend: builtin"
        )


def _make(task: str) -> Any:
    check_installed()
    importlib.import_module("humanoid_bench")  # registers its environments
    try:
        return gymnasium.make(task, max_episode_steps=-1, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise ValueError(f"task: must be an environment of humanoid_bench, got {task!r} ({error})") from error


@cache
def official_spec(task: str) -> EnvSpec:
    """Shapes and actions of a task."""
    env = _make(task)
    actions, obs_shape = env.action_space, env.observation_space.shape
    env.close()
    low, high = (tuple(float(bound) for bound in bounds) for bounds in (actions.low, actions.high))
    return EnvSpec(obs_shape=obs_shape, obs_dtype="float32", actions=BoxActions(low=low, high=high))


@cache
def success_return(task: str) -> float:
    """The return that the package counts as success."""
    env = _make(task)
    success = float(env.unwrapped.task.success_bar)
    env.close()
    return success


class OfficialEnv:
    """Environments of the package, stepped one after the other."""

    def __init__(
        self, spec: EnvSpec, task: str, seeds: Sequence[int], action_repeat: int, max_episode_steps: int
    ) -> None:
        self.spec = spec
        self.num_envs = len(seeds)
        self._action_repeat = action_repeat
        self._max_episode_steps = max_episode_steps
        self._envs = [_make(task) for _ in seeds]
        self._seeds: list[int | None] = list(seeds)  # given to the first reset of each
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)

    def reset(self) -> np.ndarray:
        """First observations."""
        return np.stack([self._reset(index) for index in range(self.num_envs)])

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        obs = np.empty((self.num_envs, *self.spec.obs_shape), np.float32)
        reward, terminated = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        for index, env in enumerate(self._envs):
            if self._ended[index]:
                obs[index] = self._reset(index)
                continue
            for _ in range(self._action_repeat):
                obs[index], env_reward, terminated[index], _, _ = env.step(actions[index])
                reward[index] += env_reward
                self._elapsed[index] += 1
                if terminated[index] or self._elapsed[index] >= self._max_episode_steps:
                    break
        truncated = (self._elapsed >= self._max_episode_steps) & ~terminated
        self._ended = terminated | truncated
        return EnvStep(obs, reward, reward, terminated, truncated)

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs:
            env.close()

    def _reset(self, index: int) -> np.ndarray:
        obs, _ = self._envs[index].reset(seed=self._seeds[index])
        self._seeds[index], self._elapsed[index] = None, 0
        first: np.ndarray = np.asarray(obs, np.float32)
        return first
