"""Any registered Gymnasium environment with a vector or picture to see, and a choice or a bounded vector to act.

The course of such an environment is restored by replaying its actions, so it must depend on its seed and actions alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import numpy as np

from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep, VectorEnv
from plasticbench.envs._scores import Reference
from plasticbench.plugins import did_you_mean
from plasticbench.settings import PositiveInt, Settings


def _make(task: str) -> gymnasium.Env[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer versions, or of spaces that we check ourselves
        return gymnasium.make(task, disable_env_checker=True)


@cache
def _spec(task: str) -> EnvSpec:
    env = _make(task)
    obs, action = env.observation_space, env.action_space
    env.close()  # type: ignore[no-untyped-call]
    if not isinstance(obs, gymnasium.spaces.Box):
        raise ValueError(f"task: observations must be a Box of numbers, but {task} has {obs}")
    is_picture = obs.dtype == np.uint8 and len(obs.shape) == 3
    shape = (obs.shape[2], *obs.shape[:2]) if is_picture else obs.shape
    return EnvSpec(
        obs_shape=shape,
        obs_dtype="uint8" if is_picture else "float32",
        actions=_actions(task, action),
        obs_scale=1 / 255 if is_picture else 1.0,
    )


def _actions(task: str, space: gymnasium.Space[Any]) -> DiscreteActions | BoxActions:
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return DiscreteActions(count=int(space.n))
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        low, high = (tuple(float(x) for x in bound) for bound in (space.low, space.high))
        if all(map(math.isfinite, (*low, *high))):
            return BoxActions(low=low, high=high)
    raise ValueError(f"task: actions must be Discrete from 0 or a bounded vector, but {task} has {space}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A registered id such as ``CartPole-v1``; ``low_return`` has score 0 and ``high_return`` score 1.

    ``returns_source`` says where the two come from, for the report. A picture's channels come first.
    """

    task: str
    low_return: float
    high_return: float
    returns_source: str = "two returns that the benchmark file gives without a source"
    num_envs: PositiveInt = 1

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.low_return >= self.high_return:
            raise ValueError(f"low_return: must be below high_return ({self.high_return}), got {self.low_return}")
        if self.task not in gymnasium.registry:
            raise ValueError(
                f"task: no environment is registered under {self.task!r}. {did_you_mean(self.task, gymnasium.registry)}"
            )
        try:
            _spec(self.task)
        except gymnasium.error.Error as error:
            raise ValueError(f"task: {self.task} cannot be made on this machine: {error}") from error

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, from an environment that was made once and closed."""
        return _spec(self.task)

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return f"0: {self.low_return:g}; 1: {self.high_return:g}: {self.returns_source}"

    def score(self, mean_return: float) -> float:
        """Linear between the two reference returns."""
        return Reference(self.low_return, self.high_return).score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One environment per seed, in this process."""
        return GymnasiumEnv(self.task, self.spec, seeds)


class GymnasiumEnv:
    """Environments that are stepped one after the other; each is seeded once, at its first reset."""

    def __init__(self, task: str, spec: EnvSpec, seeds: Sequence[int]) -> None:
        self.spec, self.num_envs, self._seeds = spec, len(seeds), [int(seed) for seed in seeds]
        self._envs = [_make(task) for _ in seeds]
        self._ended = [False] * len(seeds)

    def _typed(self, observations: Sequence[Any]) -> np.ndarray:
        obs = np.stack(observations).astype(self.spec.obs_dtype, copy=False)
        return np.moveaxis(obs, -1, 1) if self.spec.obs_dtype == "uint8" else obs

    def reset(self) -> np.ndarray:
        """First observations."""
        return self._typed([env.reset(seed=seed)[0] for env, seed in zip(self._envs, self._seeds, strict=True)])

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments; one whose episode is over begins the next instead."""
        found = [self._step_one(index, action) for index, action in enumerate(actions)]
        obs, reward, terminated, truncated = zip(*found, strict=True)
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite to an agent
            rewards = np.array(reward, np.float32)
        return EnvStep(self._typed(obs), rewards, rewards, np.array(terminated), np.array(truncated))

    def _step_one(self, index: int, action: Any) -> tuple[Any, float, bool, bool]:
        env = self._envs[index]
        if self._ended[index]:
            self._ended[index] = False
            return env.reset()[0], 0.0, False, False
        obs, reward, terminated, truncated, _ = env.step(action)
        self._ended[index] = bool(terminated or truncated)
        return obs, float(reward), bool(terminated), bool(truncated)

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs:
            env.close()  # type: ignore[no-untyped-call]
