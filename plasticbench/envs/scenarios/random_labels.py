"""The digits of a ``label_bandit`` have random classes, drawn anew for each phase, to be learned by heart.

As the stream ``random_labels`` does with labels that are given (Lyle et al. 2023, arXiv 2303.01486): there is nothing
to generalise and all phases are equally hard, so what is lost from phase to phase is the ability to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvSpec, Scenario
from plasticbench.envs import label_bandit
from plasticbench.envs.scenarios._new_labels import NewLabelsSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(NewLabelsSettings):
    """As the base says."""

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """Each member has labels of its own."""
        return self.of_bandit("random_labels", _drawn, spec, member_seeds, (budget_steps, num_envs))


def _drawn(generator: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    return generator.integers(label_bandit.NUM_CLASSES, size=len(classes))
