"""The ten classes of a ``label_bandit`` swap their names in each phase: what digits show is worth as much as ever.

As the stream ``label_permutation`` does with labels that are given (Kumar et al. 2023, arXiv 2308.11958; Elsayed &
Mahmood 2024, arXiv 2404.00781). What was seen can be used again, and only the answers are new.
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
        """Each member has an order of its own."""
        return self.of_bandit("label_permutation", _renamed, spec, member_seeds, (budget_steps, num_envs))


def _renamed(generator: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    renamed: np.ndarray = generator.permutation(label_bandit.NUM_CLASSES)[classes]
    return renamed
