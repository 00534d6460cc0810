"""A bandit of handwritten digits: name the class of the digit that is shown; an episode is one digit.

Scikit-learn's digits as a contextual bandit. Under the scenario ``random_labels`` the classes are drawn by chance and
drawn anew at each change, so that nothing is left to generalise and what is lost is the ability to fit (Lyle et al.
2023, arXiv 2303.01486, for networks that are trained on given labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep, VectorEnv
from plasticbench.envs._scores import Reference
from plasticbench.envs.datasets import digits
from plasticbench.seeding import derive_generator
from plasticbench.settings import Le, OneOf, PositiveInt, Settings

NUM_CLASSES = 10
SPEC = EnvSpec(obs_shape=(1, 8, 8), obs_dtype="uint8", actions=DiscreteActions(count=NUM_CLASSES), obs_scale=1 / 255)
_REFERENCE = Reference(1 / NUM_CLASSES, 1.0)
_DRAWN_AT_ONCE = 256


def tasks() -> tuple[str, ...]:
    """All tasks of the family."""
    return ("Digits",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``samples`` different digits, each as likely as any other; the reward is 1 for its class and 0 for others.

    Every second step begins an episode, as after all ends: of so many agent steps, half are answers.
    """

    task: Annotated[str, OneOf(tasks())] = "Digits"
    num_envs: PositiveInt = 1
    samples: Annotated[PositiveInt, Le(1_438)] = 200

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions."""
        return SPEC

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return _REFERENCE.source("random answers", "all of them right")

    def score(self, mean_return: float) -> float:
        """0 for random answers, 1 for right ones."""
        return _REFERENCE.score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One bandit per seed, stepped by the calling thread alone whatever ``num_threads`` is."""
        return _LabelBandit(self.samples, seeds)


@cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """All digits that can be shown ``[1438, 1, 8, 8]``, no two alike, and their classes."""
    data = digits.Config().load()
    return data.images, data.labels


class _LabelBandit:
    """N bandits as a ``VectorEnv``; the digits of each are drawn by its seed alone."""

    def __init__(self, samples: int, seeds: Sequence[int]) -> None:
        self.spec, self.num_envs = SPEC, len(seeds)
        shown, classes = pictures()
        self._pictures, self._classes = shown[:samples], classes[:samples]
        self._generators = [derive_generator(seed, "digits") for seed in seeds]
        self._drawn = np.empty((len(seeds), 0), np.int64)
        self._position = 0
        self._current = np.zeros(len(seeds), np.int64)
        self._ended = False  # all episodes have one length

    def reset(self) -> np.ndarray:
        """First observations."""
        self._next()
        return self._observe()

    def step(self, actions: np.ndarray) -> EnvStep:
        """Rewards the answers, or shows new digits."""
        answers = not self._ended
        if not answers:
            self._next()
        reward = (answers & (actions == self._classes[self._current])).astype(np.float32)
        self._ended = answers
        ended = np.full(self.num_envs, answers)
        return EnvStep(self._observe(), reward, reward, ended, np.zeros(self.num_envs, bool))

    def close(self) -> None:
        """Nothing to free."""

    def _next(self) -> None:
        if self._position == self._drawn.shape[1]:
            drawn = [generator.integers(len(self._pictures), size=_DRAWN_AT_ONCE) for generator in self._generators]
            self._drawn, self._position = np.stack(drawn), 0
        self._current = self._drawn[:, self._position]
        self._position += 1

    def _observe(self) -> np.ndarray:
        shown: np.ndarray = self._pictures[self._current]
        return shown
