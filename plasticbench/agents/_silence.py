"""Members of a population that are not finite any more: noticed where numbers enter, zeros from then on.

Nothing that a population computes mixes its members, so a bad one leaves its siblings bit-equal for as long as nobody
judges all of them at once. An environment that is handed NaN does, and so does LAPACK.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep


class Silence:
    """Which of M members are silent, and what of each was not finite first; arrays are ``[M, E, ...]``."""

    def __init__(self, spec: EnvSpec) -> None:
        self.reasons: dict[int, str] = {}
        box = spec.actions
        self._idle = np.add(box.low, box.high) / 2 if isinstance(box, BoxActions) else 0

    def observed(self, obs: np.ndarray) -> np.ndarray:
        """Observations with zeros for silent members."""
        return self._replaced(obs, 0)

    def acted(self, action: np.ndarray) -> np.ndarray:
        """Actions, for silent members those in the middle of what is allowed, or the first choice."""
        return self._replaced(action, self._idle)

    def followed(self, step: EnvStep) -> EnvStep:
        """A step whose observations and rewards are zeros for silent members; episodes end as they end."""
        if not self.reasons:
            return step
        return step._replace(obs=self.observed(step.obs), reward=self._replaced(step.reward, 0))

    def _replaced(self, values: np.ndarray, by: np.ndarray | float) -> np.ndarray:
        if not self.reasons:
            return values
        replaced = values.copy()
        replaced[list(self.reasons)] = by
        return replaced


def faults(found: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Members with a value that is not finite, and the first of them as people call it; ``[M, E, ...]`` by name."""
    first: dict[int, str] = {}
    for name, values in found.items():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        by_env = values.reshape(*values.shape[:2], -1)
        for member, env, entry in np.argwhere(~np.isfinite(by_env)).tolist():
            what = f"{name} {entry}" if by_env.shape[2] > 1 else name
            first.setdefault(member, f"{what} of environment {env}")
    return first
