"""A task that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.contracts.task import EnvSpec, Scenario
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Has no settings."""

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same for every task and member."""
        return Unchanged()
