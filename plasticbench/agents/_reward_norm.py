"""Rewards brought to the scale on which their discounted sum has variance 1, each member's by its own training.

Source: VecNormalize of OpenAI baselines, as Gymnasium's NormalizeReward and stable-baselines3 have it: the sum starts
anew with each episode, its mean is not taken off, and what comes out is clipped to [-10, 10].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.task import EnvStep

_PRIOR_COUNT = 1e-4  # the weight of the mean 0 and variance 1 with which the statistics begin
_EPSILON = 1e-8
_LIMIT = 10.0


class RewardNorm:
    """Statistics in double precision on the host."""

    def __init__(self, num_members: int, num_envs: int, discount: float) -> None:
        self._discount = discount
        self._sums = np.zeros((num_members, num_envs))
        self._count = np.full(num_members, _PRIOR_COUNT)
        self._mean, self._variance = np.zeros(num_members), np.ones(num_members)

    def begin(self) -> None:
        """New episodes have earned nothing yet."""
        self._sums[:] = 0.0

    def scaled(self, step: EnvStep, counts: np.ndarray) -> np.ndarray:
        """Takes in those of a step's rewards ``[M, E]`` that count, and returns all of them scaled."""
        self._sums = np.where(counts, self._sums * self._discount + step.reward, self._sums)
        self._take_in(counts)
        self._sums = np.where(step.terminated | step.truncated, 0.0, self._sums)
        scale = 1 / np.sqrt(self._variance + _EPSILON)
        return np.clip(step.reward * scale[:, None], -_LIMIT, _LIMIT).astype(np.float32)

    def _take_in(self, counts: np.ndarray) -> None:
        """Merges the moments of two samples (Chan, Golub & LeVeque 1979)."""
        number = counts.sum(axis=1)
        shown = np.where(counts, self._sums, 0.0)
        mean = shown.sum(axis=1) / np.maximum(number, 1)
        spread = np.where(counts, (self._sums - mean[:, None]) ** 2, 0.0).sum(axis=1)
        total, delta = self._count + number, np.where(number > 0, mean - self._mean, 0.0)
        spread += self._variance * self._count + delta**2 * self._count * number / total
        self._mean += delta * number / total
        self._variance, self._count = spread / total, total

    def silence(self, members: Sequence[int]) -> None:
        """These members forget what they earned."""
        for values, start in ((self._sums, 0.0), (self._mean, 0.0), (self._variance, 1.0)):
            values[list(members)] = start

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, each ``[M, ...]``."""
        named = {"sums": self._sums, "count": self._count, "mean": self._mean, "variance": self._variance}
        return {f"rewards/{name}": torch.from_numpy(array.copy()) for name, array in named.items()}

    def load_state_dict(self, state: dict[str, Tensor], parents: Sequence[int]) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``."""
        self._sums, self._count, self._mean, self._variance = (
            state[f"rewards/{name}"].numpy()[list(parents)] for name in ("sums", "count", "mean", "variance")
        )
