"""Environments that can be restored exactly, by replaying the actions since their start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvConfig, EnvSpec, EnvStep, VectorEnv

_FIRST_CAPACITY = 1024


def select_envs(state: Mapping[str, np.ndarray], env_indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """The state of a journal whose environment ``i`` is environment ``env_indices[i]`` of ``state``, for forks."""
    indices = np.asarray(env_indices)
    return {"seeds": state["seeds"][indices], "actions": state["actions"][:, indices]}


def _empty_journal(spec: EnvSpec, num_envs: int) -> np.ndarray:
    if isinstance(spec.actions, DiscreteActions):
        return np.empty((_FIRST_CAPACITY, num_envs), np.uint8 if spec.actions.count <= 256 else np.int32)
    return np.empty((_FIRST_CAPACITY, num_envs, len(spec.actions.low)), np.float32)


class JournaledEnv:
    """A ``VectorEnv`` that writes down its actions; ``obs`` is the current observation once it was reset.

    An environment's course depends on its seed and actions alone, so the two are its whole state: a few bytes per step
    and environment in place of emulator memory, at the price of stepping through the past again on a restore.
    """

    def __init__(self, config: EnvConfig, seeds: Sequence[int], num_threads: int) -> None:
        self._config = config
        self._num_threads = num_threads
        self._start(np.asarray(seeds, np.int64))

    def _start(self, seeds: np.ndarray) -> None:
        self._seeds = seeds
        self._env: VectorEnv = self._config.build(seeds.tolist(), self._num_threads)
        self.spec: EnvSpec = self._env.spec
        self.num_envs = self._env.num_envs
        self._journal = _empty_journal(self.spec, self.num_envs)
        self._length = 0
        self.obs = np.empty((0, *self.spec.obs_shape), self.spec.obs_dtype)

    def reset(self) -> np.ndarray:
        """First observations; called once, before the first step."""
        self.obs = self._env.reset()
        return self.obs

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments and writes their actions down."""
        if self._length == len(self._journal):
            self._journal = np.concatenate([self._journal, np.empty_like(self._journal)])
        self._journal[self._length] = actions
        self._length += 1
        step = self._env.step(actions)
        self.obs = step.obs
        return step

    def close(self) -> None:
        """Frees threads and memory."""
        self._env.close()

    def state_dict(self) -> dict[str, np.ndarray]:
        """``seeds`` [N] and ``actions`` [T, N] or [T, N, dimensions]."""
        return {"seeds": self._seeds.copy(), "actions": self._journal[: self._length].copy()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], config: EnvConfig | None = None) -> np.ndarray:
        """Builds the environments anew (of ``config``, if given), replays the actions, returns the observation."""
        self._env.close()
        self._config = config or self._config
        self._start(state["seeds"].copy())
        self.reset()
        for actions in state["actions"]:
            self.step(actions)
        return self.obs
