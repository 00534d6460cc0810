"""The world itself changes: the ground becomes slippery, bodies heavy, motors weak.

Slippery Ant (Dohare et al. 2024, doi:10.1038/s41586-024-07711-7) changes the friction every two million steps. Many
small changes are a gradual drift, the case in which consolidation is said to beat resets (arXiv 2605.26357).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from plasticbench.contracts.task import EnvConfig, EnvSpec, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.settings import PositiveFloat, Settings

_FACTORS = ("friction", "gravity", "action_scale")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Factors on those of the environment, one for each of the phases, which are equally long; for ``mujoco``.

    ``friction``, ``gravity`` and ``action_scale`` (the force of an action) list as many each, or none, which leaves
    theirs alone. ``replay``: whether transitions of earlier phases stay in the replay.
    """

    friction: tuple[PositiveFloat, ...] = ()
    gravity: tuple[PositiveFloat, ...] = ()
    action_scale: tuple[PositiveFloat, ...] = ()
    replay: ReplayRule = "keep"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        counts = {name: len(getattr(self, name)) for name in _FACTORS if getattr(self, name)}
        if len(set(counts.values())) != 1 or min(counts.values()) < 2:
            raise ValueError(
                f"{', '.join(_FACTORS)}: one of them must list a factor for each of two or more phases, and all that "
                f"do as many, got {counts or 'none'}"
            )
        if unchanged := [i + 2 for i in range(self._phases - 1) if self._factors(i) == self._factors(i + 1)]:
            raise ValueError(
                f"{', '.join(counts)}: each phase must differ from that before, phase {unchanged[0]} does not"
            )

    @property
    def _phases(self) -> int:
        return max(len(getattr(self, name)) for name in _FACTORS)

    def _factors(self, phase: int) -> dict[str, float]:
        return {name: getattr(self, name)[phase] for name in _FACTORS if getattr(self, name)}

    def check(self, config: EnvConfig) -> None:
        """Raises ``ValueError`` for environments whose dynamics are fixed."""
        if not all(hasattr(config, name) for name in _FACTORS):
            raise ValueError(
                f"kind: dynamics_drift changes friction, gravity and motors of 'kind: mujoco', and {config.task} here "
                "has none to change. Choose that family, or another scenario"
            )

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same for all members, whose environments share a pool in each phase."""
        steps = equal_phases(self._phases, budget_steps, num_envs)
        factors = [self._factors(phase) for phase in range(self._phases)]
        return DynamicsDrift(factors, steps, clears_replay=self.replay == "clear")


class DynamicsDrift(Unchanged):
    """Phase k has the k-th factors."""

    def __init__(
        self, factors: Sequence[dict[str, float]], change_steps: tuple[int, ...], *, clears_replay: bool
    ) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay
        self._factors = factors

    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        """The environments with the phase's dynamics."""
        any_config: Any = config
        own = {name: factor * getattr(config, name) for name, factor in self._factors[phase].items()}
        changed: EnvConfig = replace(any_config, **own)
        return changed
