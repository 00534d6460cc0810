"""Adaptive replay ratio: few updates while the critics' activity changes, and more from when it has settled.

Source: Ma et al., ICLR 2024, arXiv 2310.07418, and their code (Guozheng-Ma/Adaptive-Replay-Ratio): at every 50th
episode the mean share of active units in the critics' hidden layers, over the updates of the episode that just ended,
is compared with that of 50 episodes before (at first with that of the first update). Once they differ by at most 0.001
the ratio rises, from 0.5 to 2, and never falls again. A member has a ratio of its own, so it trains alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from plasticbench.learning.look import Sample
from plasticbench.learning.trained import TrainedNetwork


class RatioSettings(Protocol):
    """What an agent's ``Config`` says about it."""

    @property
    def adaptive_ratio_gap(self) -> float:
        """By how much activity may still differ once it has settled."""
        ...

    @property
    def adaptive_ratio_episodes(self) -> int:
        """From one look at it to the next."""
        ...


class AdaptiveRatio:
    """Of one member. ``share`` of active units: entries above 0 of what hidden layers pass on, over all critics."""

    def __init__(self, settings: RatioSettings, critics: Sequence[TrainedNetwork]) -> None:
        self._settings = settings
        self.has_settled = False
        self._episodes = 0
        self._last_share: float | None = None
        self._active, self._entries = 0.0, 0.0  # per update the means count alike, as all batches are of one size
        for critic in critics:
            critic.watch = self._see

    def _see(self, sample: Sample) -> None:
        for passed_on in sample.activations.values():
            self._active += float((passed_on > 0).sum())
            self._entries += passed_on.numel()

    def after_update(self) -> None:
        """The activity of the first one is what the first look compares with."""
        if self._last_share is None:
            self._last_share = self._active / self._entries

    def after_episode(self) -> None:
        """Looks, or begins to count for the look at the end of the next episode."""
        self._episodes += 1
        period = self._settings.adaptive_ratio_episodes
        if self._episodes % period == 0 and self._entries and self._last_share is not None:
            share = self._active / self._entries
            self.has_settled |= abs(share - self._last_share) <= self._settings.adaptive_ratio_gap
            self._last_share = share
        if self._episodes % period in (0, period - 1):
            self._active = self._entries = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self._names()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        for name in self._names():
            setattr(self, name, state[name])

    def _names(self) -> tuple[str, ...]:
        return ("has_settled", "_episodes", "_last_share", "_active", "_entries")
