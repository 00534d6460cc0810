"""What the scenarios of a ``label_bandit`` share: digits whose classes are others in each phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from plasticbench.contracts.task import EnvSpec, EnvStep, Scenario
from plasticbench.envs import label_bandit
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, Settings

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""The classes of all pictures in one phase, from their own ``[rows]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLabelsSettings(Settings):
    """``phases`` of equal length, each with labels of its own, the first as well.

    ``replay``: whether transitions of earlier phases, whose rewards are wrong now, stay in the replay.
    """

    phases: Annotated[int, Ge(2)] = 16
    replay: ReplayRule = "clear"

    def of_bandit(self, kind: str, draw: Draw, spec: EnvSpec, seeds: Sequence[int], steps: tuple[int, int]) -> Scenario:
        """The scenario for a budget and a stride. Raises ``ValueError`` for any other task than the bandit."""
        if spec != label_bandit.SPEC:
            raise ValueError(
                f"kind: {kind} gives new labels to the pictures of 'kind: label_bandit', and this task has none. "
                "Choose that environment, or another scenario"
            )
        return NewLabels(draw, seeds, equal_phases(self.phases, *steps), clears_replay=self.replay == "clear")


class NewLabels(Unchanged):
    """One table of labels per member and phase."""

    def __init__(
        self, draw: Draw, member_seeds: Sequence[int], change_steps: tuple[int, ...], *, clears_replay: bool
    ) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay
        self._draw, self._member_seeds = draw, tuple(member_seeds)
        pictures, self._classes = label_bandit.pictures()
        self._rows = {picture.tobytes(): row for row, picture in enumerate(pictures)}
        self._tables: dict[int, np.ndarray] = {}

    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        """1 for the label of the picture that was answered; a step that shows a new one is no answer."""
        rows = [self._rows.get(picture.tobytes(), 0) for picture in obs.reshape(-1, *label_bandit.SPEC.obs_shape)]
        labels = np.take_along_axis(self._labels(phase), np.reshape(rows, action.shape), axis=1)
        reward = (step.terminated & (action == labels)).astype(np.float32)
        return step._replace(reward=reward, raw_reward=reward)

    def _labels(self, phase: int) -> np.ndarray:
        """Of all pictures, ``[M, rows]``."""
        if phase not in self._tables:
            generators = [derive_generator(seed, "scenario", phase) for seed in self._member_seeds]
            self._tables = {phase: np.stack([self._draw(generator, self._classes) for generator in generators])}
        return self._tables[phase]
