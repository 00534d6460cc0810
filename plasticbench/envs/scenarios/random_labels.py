"""The digits of a ``label_bandit`` have random classes, drawn anew for each phase, to be learned by heart.

As the stream ``random_labels`` does with labels that are given (Lyle et al. 2023, arXiv 2303.01486): there is nothing
to generalise and all phases are equally hard, so what is lost from phase to phase is the ability to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from plasticbench.contracts.task import EnvSpec, EnvStep, Scenario
from plasticbench.envs import label_bandit
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``phases`` of equal length, each with labels of its own, the first as well.

    ``replay``: whether transitions of earlier phases, whose rewards are wrong now, stay in the replay.
    """

    phases: Annotated[int, Ge(2)] = 16
    replay: ReplayRule = "clear"

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """Each member has labels of its own."""
        if spec != label_bandit.SPEC:
            raise ValueError(
                "kind: random_labels gives new labels to the pictures of 'kind: label_bandit', and this task has none. "
                "Choose that environment, or another scenario"
            )
        steps = equal_phases(self.phases, budget_steps, num_envs)
        return RandomLabels(member_seeds, steps, clears_replay=self.replay == "clear")


class RandomLabels(Unchanged):
    """One table of labels per member and phase."""

    def __init__(self, member_seeds: Sequence[int], change_steps: tuple[int, ...], *, clears_replay: bool) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay
        self._member_seeds = tuple(member_seeds)
        self._rows = {picture.tobytes(): row for row, picture in enumerate(label_bandit.pictures()[0])}
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
            drawn = [generator.integers(label_bandit.NUM_CLASSES, size=len(self._rows)) for generator in generators]
            self._tables = {phase: np.stack(drawn)}
        return self._tables[phase]
