"""At given fractions of the budget a constant vector of chance is added to the inputs of the agent.

The continual Gym control of TRAC (Muppidi et al., NeurIPS 2024, arXiv 2405.16642) and C-CHAIN (Tang et al., ICML 2025),
with ten levels and a deviation of 2. The world stays the same, so what was lost is the network's and not the task's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvSpec, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, change_steps
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.schedules import At, Fractions
from plasticbench.seeding import derive_generator
from plasticbench.settings import PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A new vector at each fraction of the budget; in the first phase nothing is added.

    ``deviation``: of the normal distribution from which each number of it is drawn. ``replay``: whether transitions of
    earlier phases stay in the replay.
    """

    at: Fractions
    deviation: PositiveFloat = 2.0
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        At(at=self.at)  # its order is ours

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """Changes fall on the first vector step at or after each fraction of ``budget_steps`` (of one member)."""
        if spec.obs_dtype != "float32":
            raise ValueError(
                f"kind: observation_offset needs observations that are numbers, got {spec.obs_dtype} pixels. Choose "
                "observation_permutation"
            )
        steps = change_steps(self.at, budget_steps, num_envs)
        return ObservationOffset(spec, member_seeds, steps, self.deviation, clears_replay=self.replay == "clear")


class ObservationOffset(Unchanged):
    """One vector per member and phase, the same for each frame of a stack."""

    def __init__(
        self,
        spec: EnvSpec,
        member_seeds: Sequence[int],
        change_steps: tuple[int, ...],
        deviation: float,
        *,
        clears_replay: bool,
    ) -> None:
        self.change_steps = change_steps
        self.clears_replay = clears_replay
        self._frame_shape, self._frame_stack, self._deviation = spec.frame_shape, spec.frame_stack, deviation
        self._member_seeds = tuple(member_seeds)
        self._offsets: dict[int, np.ndarray] = {}

    def transform(self, obs: np.ndarray, phase: int) -> np.ndarray:
        """Observations with the phase's vectors added; phase 0 copies nothing."""
        if phase == 0:
            return obs
        if phase not in self._offsets:
            drawn = [
                derive_generator(s, "scenario", phase).standard_normal(self._frame_shape) for s in self._member_seeds
            ]
            offsets = (self._deviation * np.stack(drawn)).astype(np.float32)
            self._offsets[phase] = np.expand_dims(offsets, (1, 2) if self._frame_stack > 1 else 1)
        moved: np.ndarray = obs + self._offsets[phase]
        return moved
