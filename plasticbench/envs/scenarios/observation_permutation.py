"""At given fractions of the budget the inputs of the agent are shuffled, as in permuted MNIST.

Goodfellow et al. 2013, arXiv:1312.6211; for plasticity in RL, Dohare et al. 2024, doi:10.1038/s41586-024-07711-7. The
world stays the same and only its encoding changes, so what was lost is the network's and not the task's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvSpec, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, change_steps
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.schedules import At, Fractions
from plasticbench.seeding import derive_generator
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A new permutation at each fraction of the budget; the first phase is not permuted.

    ``replay``: whether transitions of earlier phases stay in the replay.
    """

    at: Fractions
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        At(at=self.at)  # its order is ours

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """Changes fall on the first vector step at or after each fraction of ``budget_steps`` (of one member)."""
        steps = change_steps(self.at, budget_steps, num_envs)
        return ObservationPermutation(spec, member_seeds, steps, clears_replay=self.replay == "clear")


class ObservationPermutation(Unchanged):
    """One permutation per member and phase, the same for each frame of a stack."""

    def __init__(
        self, spec: EnvSpec, member_seeds: Sequence[int], change_steps: tuple[int, ...], clears_replay: bool
    ) -> None:
        self.change_steps = change_steps
        self.clears_replay = clears_replay
        self._frame_size = math.prod(spec.frame_shape)
        self._member_seeds = tuple(member_seeds)
        self._permutations: dict[int, list[np.ndarray]] = {}

    def transform(self, obs: np.ndarray, phase: int) -> np.ndarray:
        """Entry ``i`` of a flattened frame becomes the raw entry ``permutation[i]``; phase 0 copies nothing."""
        if phase == 0:
            return obs
        frames = obs.reshape(len(obs), -1, self._frame_size)
        permuted = np.empty_like(frames)
        # One take per member is five times as fast as one take_along_axis over all of them.
        for member, permutation in enumerate(self._permutations_of(phase)):
            np.take(frames[member], permutation, axis=1, out=permuted[member], mode="clip")
        return permuted.reshape(obs.shape)

    def _permutations_of(self, phase: int) -> list[np.ndarray]:
        if phase not in self._permutations:
            generators = [derive_generator(seed, "scenario", phase) for seed in self._member_seeds]
            self._permutations[phase] = [generator.permutation(self._frame_size) for generator in generators]
        return self._permutations[phase]
