"""Sets of Procgen's levels in turn: the game stays, and what it shows and where things are is new.

Procgen (Cobbe et al. 2020, arXiv 1912.01588) makes a level from its number. Plasticine and C-CHAIN (Tang et al., ICML
2025) change levels in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from plasticbench.contracts.task import EnvConfig, EnvSpec, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.plugins import inert
from plasticbench.settings import Ge, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``phases`` of equal length, each with the next ``num_levels`` of the environment; none comes twice.

    ``replay``: whether transitions of earlier levels stay in the replay.
    """

    phases: Annotated[int, Ge(2)] = 4
    replay: ReplayRule = "keep"

    def check(self, config: EnvConfig) -> None:
        """Raises ``ValueError`` for tasks without levels, and where all levels are played at once."""
        any_config: Any = config
        if not hasattr(config, "num_levels") or "num_levels" in inert(config):
            raise ValueError(
                f"kind: level_sets changes levels, and {config.task} has none. Procgen has: {{kind: envpool, task: "
                "CoinrunEasy-v0, num_levels: 50}"
            )
        if any_config.num_levels == 0:
            raise ValueError(
                "kind: level_sets needs the environment's num_levels, how many each phase has; 0 is all of them"
            )

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same levels for all members."""
        return LevelSets(equal_phases(self.phases, budget_steps, num_envs), clears_replay=self.replay == "clear")


class LevelSets(Unchanged):
    """Phase k plays the k-th set of levels."""

    def __init__(self, change_steps: tuple[int, ...], *, clears_replay: bool) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay

    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        """The environments with the phase's levels."""
        any_config: Any = config
        own: EnvConfig = replace(any_config, start_level=any_config.start_level + phase * any_config.num_levels)
        return own
