"""What a scenario leaves as it is unless it says otherwise."""

from __future__ import annotations

import numpy as np

from plasticbench.contracts.task import EnvConfig, EnvStep


class Unchanged:
    """Base of scenarios: no change of environments, observations or rewards."""

    change_steps: tuple[int, ...] = ()
    clears_replay = False

    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        """The same environments."""
        return config

    def transform(self, obs: np.ndarray, phase: int) -> np.ndarray:
        """Observations as they are."""
        return obs

    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        """Rewards as they are."""
        return step
