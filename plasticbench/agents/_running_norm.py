"""Observations brought to mean 0 and variance 1 by running statistics, each member's of its own training.

Source: the merging of two samples' moments by Chan, Golub & LeVeque 1979; use and constants as in SimBa (Lee et al.
2025, arXiv 2410.09754).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_PRIOR_COUNT = 1e-4  # the weight of the mean 0 and variance 1 with which the statistics begin
_EPSILON = 1e-8


class RunningNorm:
    """Statistics in double precision on the host; what networks see is computed on ``device``."""

    def __init__(self, num_members: int, obs_shape: tuple[int, ...], device: torch.device) -> None:
        self._count = np.full(num_members, _PRIOR_COUNT)
        self._mean = np.zeros((num_members, *obs_shape))
        self._variance = np.ones((num_members, *obs_shape))
        self._shift = torch.empty(num_members, 1, *obs_shape, device=device)
        self._scale = torch.empty_like(self._shift)
        self._refresh()

    def _refresh(self) -> None:
        scale = 1 / np.sqrt(self._variance + _EPSILON)
        for seen, array in ((self._shift, self._mean), (self._scale, scale)):
            seen.copy_(torch.from_numpy(array).unsqueeze(1))

    def update(self, obs: np.ndarray) -> None:
        """Takes in one observation of each environment, ``[M, E, *obs_shape]``."""
        number = obs.shape[1]
        shape = (-1,) + (1,) * (obs.ndim - 2)
        before, total = self._count.reshape(shape), self._count.reshape(shape) + number
        mean = obs.mean(axis=1, dtype=np.float64)
        delta = mean - self._mean
        spread = self._variance * before + obs.var(axis=1, dtype=np.float64) * number
        self._mean += delta * number / total
        self._variance = (spread + delta**2 * before * number / total) / total
        self._count += number
        self._refresh()

    def silence(self, members: Sequence[int]) -> None:
        """These members forget what they saw: zeros stay zeros."""
        self._mean[list(members)] = 0.0
        self._variance[list(members)] = 1.0
        self._refresh()

    def apply(self, obs: Tensor) -> Tensor:
        """Normalises float observations ``[M, B, *obs_shape]``."""
        return (obs - self._shift) * self._scale

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, each ``[M, ...]``."""
        named = {"count": self._count, "mean": self._mean, "variance": self._variance}
        return {f"observations/{name}": torch.from_numpy(array.copy()) for name, array in named.items()}

    def load_state_dict(self, state: dict[str, Tensor], parents: Sequence[int]) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``."""
        self._count, self._mean, self._variance = (
            state[f"observations/{name}"].numpy()[list(parents)] for name in ("count", "mean", "variance")
        )
        self._refresh()
