"""EnvPool as a ``VectorEnv``.

Measured of EnvPool 1.2.5, and held by tests: the seed list gives each environment its own course, whatever its
neighbours; the step after an end ignores its action and returns the reset observation with reward 0; the observation
of an ending step is the episode's last one; an Atari reset fills the whole frame stack with the first frame.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep


class EnvPoolEnv:
    """One synchronous EnvPool with an environment per seed; rewards as the task gives them."""

    def __init__(self, spec: EnvSpec, pool_task: str, seeds: Sequence[int], num_threads: int, **options: Any) -> None:
        """``pool_task`` and ``options`` are EnvPool's own; ``num_threads`` 0 lets EnvPool choose."""
        import envpool  # a second of start-up that a plan or a listing must not pay

        self.spec = spec
        self.num_envs = len(seeds)
        self._action_dtype = np.int32 if isinstance(spec.actions, DiscreteActions) else np.float32
        with warnings.catch_warnings():
            # Gymnasium warns of its own rounding of infinite float64 bounds to float32.
            warnings.filterwarnings("ignore", message=".*precision lowered by casting", category=UserWarning)
            self._pool: Any = envpool.make(
                pool_task,
                env_type="gymnasium",
                num_envs=self.num_envs,
                num_threads=min(num_threads, self.num_envs),
                seed=[int(seed) for seed in seeds],
                **options,
            )
            _ = self._pool.observation_space  # built and cached here, where the warning is caught

    def reset(self) -> np.ndarray:
        """First observations."""
        obs, _ = self._pool.reset()
        return self._typed(obs)

    def _typed(self, obs: np.ndarray) -> np.ndarray:
        return obs.astype(self.spec.obs_dtype, copy=False)  # MuJoCo tasks give float64

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        obs, reward, terminated, truncated, info = self._pool.step(actions.astype(self._action_dtype, copy=False))
        if "terminated" in info:
            # Atari tells a game that ends exactly at the time limit from one that was cut; EnvPool's flag does not.
            game_over = info["terminated"].astype(bool)
            terminated, truncated = terminated | game_over, truncated & ~game_over
        raw_reward = reward.astype(np.float32, copy=False)
        return EnvStep(self._typed(obs), raw_reward, raw_reward, terminated, truncated)

    def close(self) -> None:
        """Frees threads and memory."""
        self._pool.close()
        self._pool = None  # EnvPool ends its threads with the last reference, not when it is closed
