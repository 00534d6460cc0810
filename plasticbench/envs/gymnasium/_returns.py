"""Reference returns of tasks that Gymnasium or somebody's module registers, where any are known."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import gymnasium

from plasticbench.envs import classic, mujoco
from plasticbench.envs._scores import RAW_RETURN, Reference

_RANDOM_RETURNS = {
    "CartPole-v0": (22.5, 1000),
    "FrozenLake-v1": (0.018, 1000),
    "FrozenLake8x8-v1": (0.001, 1000),
    "Taxi-v3": (-776.2, 1000),
    "Reacher-v4": (-42.8, 1000),
    "Reacher-v5": (-42.7, 1000),
    "Pusher-v5": (-149.4, 1000),
    "InvertedPendulum-v4": (6.3, 1000),
    "InvertedPendulum-v5": (5.3, 1000),
    "InvertedDoublePendulum-v4": (57.6, 1000),
    "InvertedDoublePendulum-v5": (47.6, 1000),
    "Hopper-v5": (17.9, 1000),
    "BipedalWalker-v3": (-101.4, 300),
    "HalfCheetah-v5": (-280.9, 300),
    "Swimmer-v4": (0.038, 300),
    "Swimmer-v5": (0.038, 300),
    "Ant-v5": (-57.7, 300),
    "BipedalWalkerHardcore-v3": (-108.2, 300),
}
"""Random actions, measured here: mean return and number of episodes."""


class Measure(Protocol):
    """What scores a mean return, and where its two reference returns come from."""

    def score(self, mean_return: float) -> float:
        """Normalised, or the return itself."""
        ...

    @property
    def score_source(self) -> str:
        """For the report."""
        ...


class Scored(NamedTuple):
    """Linear between two returns."""

    reference: Reference
    score_source: str

    def score(self, mean_return: float) -> float:
        """Normalised."""
        return self.reference.score(mean_return)


class Raw:
    """The return itself."""

    score_source = RAW_RETURN

    def score(self, mean_return: float) -> float:
        """The same."""
        return mean_return


def measure(task: str, low: float | None, high: float | None, source: str, *, is_plain: bool) -> Measure:
    """How returns of a registered id are scored; ``low`` and ``high`` are what a file gives.

    Known returns are those of the task as it is registered, so they count where ``is_plain``. Raises ``ValueError`` for
    a given return that lacks the other.
    """
    if low is not None and high is not None:
        return Scored(Reference(low, high), f"0: {low:g}; 1: {high:g}: {source}")
    if low is None and high is None:
        return _known(task) if is_plain else Raw()
    known = _bounds(task) if is_plain else None
    if known is None:
        given, other = ("high", "low") if low is None else ("low", "high")
        raise ValueError(
            f"{given}_return: needs {other}_return as well, since {task} has no reward threshold; with neither, "
            "methods are ranked by raw return"
        )
    (known_low, low_source), (known_high, high_source) = known
    if low is None:
        return Scored(Reference(known_low, float(high or 0.0)), f"0: {low_source}; 1: {high:g}: {source}")
    return Scored(Reference(low, known_high), f"0: {low:g}: {source}; 1: {high_source}")


def _known(task: str) -> Measure:
    for family in (classic, mujoco):
        if task in family.tasks():
            found: Measure = family.Config(task=task)
            return found
    if (known := _bounds(task)) is None:
        return Raw()
    (low, low_source), (high, high_source) = known
    return Scored(Reference(low, high), f"0: {low_source}; 1: {high_source}")


def _bounds(task: str) -> tuple[tuple[float, str], tuple[float, str]] | None:
    """A low and a high return of a registered id, each with its source."""
    high = gymnasium.registry[task].reward_threshold
    if high is None:
        return None
    threshold = float(high), f"{high:g}, the reward threshold that the task is registered with"
    if task in _RANDOM_RETURNS:
        mean_return, episodes = _RANDOM_RETURNS[task]
        return (mean_return, f"{mean_return:g}, random actions, measured here over {episodes:,} episodes"), threshold
    return ((0.0, "a return of 0"), threshold) if high > 0 else None
