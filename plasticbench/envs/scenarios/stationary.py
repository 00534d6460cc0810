"""A task that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvSpec, Scenario
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Has no settings."""

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same for every task and member."""
        return _Stationary()


class _Stationary:
    change_steps: tuple[int, ...] = ()
    clears_replay = False

    def transform(self, obs: np.ndarray, phase: int) -> np.ndarray:
        """Observations as they are."""
        return obs
