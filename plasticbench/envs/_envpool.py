"""EnvPool as a ``VectorEnv``.

Measured of EnvPool 1.2.5, and held by tests: the seed list gives each environment its own course, whatever its
neighbours; the step after an end ignores its action and returns the reset observation with reward 0; the observation
of an ending step is the episode's last one; an Atari reset fills the whole frame stack with the first frame.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.cpus import usable_cpus


class EnvPoolEnv:
    """One synchronous EnvPool with an environment per seed; rewards as the task gives them."""

    def __init__(
        self,
        spec: EnvSpec,
        pool_task: str,
        seeds: Sequence[int],
        num_threads: int,
        *,
        read: Callable[[Any], np.ndarray] | None = None,
        reports_success: bool = False,
        **options: Any,
    ) -> None:
        """``pool_task`` and ``options`` are EnvPool's own; ``num_threads`` 0 takes as many as there are CPUs.

        ``read`` makes one array of a batch of observations. With ``reports_success`` the return that is reported of an
        episode is 1 if it had success at one of its steps, else 0.
        """
        import envpool  # a second of start-up that a plan or a listing must not pay

        self.spec = spec
        self.num_envs = len(seeds)
        self._read = read or self._typed
        self._success = FirstSuccess(self.num_envs) if reports_success else None
        self._action_dtype = np.int32 if isinstance(spec.actions, DiscreteActions) else np.float32
        with warnings.catch_warnings():
            # Gymnasium warns of its own rounding of infinite float64 bounds to float32.
            warnings.filterwarnings("ignore", message=".*precision lowered by casting", category=UserWarning)
            self._pool: Any = envpool.make(
                pool_task,
                env_type="gymnasium",
                num_envs=self.num_envs,
                num_threads=min(num_threads or usable_cpus(), self.num_envs),
                seed=[int(seed) for seed in seeds],
                **options,
            )
            _ = self._pool.observation_space  # built and cached here, where the warning is caught

    def reset(self) -> np.ndarray:
        """First observations."""
        obs, _ = self._pool.reset()
        return self._read(obs)

    def _typed(self, obs: np.ndarray) -> np.ndarray:
        return obs.astype(self.spec.obs_dtype, copy=False)  # MuJoCo tasks give float64

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        obs, reward, terminated, truncated, info = self._pool.step(actions.astype(self._action_dtype, copy=False))
        if "terminated" in info:
            # Atari tells a game that ends exactly at the time limit from one that was cut; EnvPool's flag does not.
            game_over = info["terminated"].astype(bool)
            terminated, truncated = terminated | game_over, truncated & ~game_over
        reward = reward.astype(np.float32, copy=False)
        raw_reward = reward if self._success is None else self._success.update(info)
        return EnvStep(self._read(obs), reward, raw_reward, terminated, truncated)

    def close(self) -> None:
        """Frees threads and memory."""
        self._pool.close()
        self._pool = None  # EnvPool ends its threads with the last reference, not when it is closed


class FirstSuccess:
    """1 at the first step of an episode that EnvPool calls a success, else 0: the sum over an episode is 0 or 1."""

    def __init__(self, num_envs: int) -> None:
        self._succeeded = np.zeros(num_envs, bool)

    def update(self, info: Mapping[str, np.ndarray]) -> np.ndarray:
        """``[N]`` float32 from what EnvPool tells of a step."""
        begins = info["elapsed_step"] == 0
        first: np.ndarray = (info["success"] > 0) & ~self._succeeded & ~begins
        self._succeeded = (self._succeeded | first) & ~begins
        return first.astype(np.float32)
