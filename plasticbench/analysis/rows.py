"""The rows of a leaderboard, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALL = "all"
"""The row's task when all tasks are taken together."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95% interval; ``None`` where there is none, as with few seeds or beyond what a float holds."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where one method stands among the ranked ones; without values if it is not ranked.

    ``behind`` is the leader's mean minus its own, with the simultaneous interval that the platform's test has for the
    differences of all pairs; they leave open the ranks from ``rank_best`` to ``rank_worst``. ``detectable`` is the
    difference that the test finds with a power of 80 %, given the board's seeds and their mean spread.
    """

    iqm: Estimate = Estimate()
    rank: int | None = None
    rank_best: int | None = None
    rank_worst: int | None = None
    behind: Estimate = Estimate()
    detectable: float | None = None

    @property
    def is_separated(self) -> bool:
        """Whether the test finds the leader ahead of it."""
        return self.behind.low is not None and self.behind.low > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Other summaries of the final scores, and the mean final return, which tasks do not share."""

    mean: float | None = None
    median: float | None = None
    optimality_gap: float | None = None
    mean_return: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method on one task, or on all; ``note`` says why where there are no values.

    ``agent`` says what was trained, and ``trained`` whether it is an agent or a learner of data, so that methods of
    different backends can stand in one table. ``final`` ranks the final scores, ``after`` the means of all scores after
    the first change or the first resets. ``diverged_trials`` are those marked ``overvalued``; ``None`` where no trial
    recorded how large its values are. ``not_finite_trials`` are those marked ``not_finite``, which are ranked with the
    reference low. ``measure`` is what everything of the row is about: scores, or raw returns where there are no
    references. ``above_reference``: whether the final scores are surely above 0, the reference low; ``None`` where
    there is none, or too few seeds to tell.
    """

    task: str
    method: str
    agent: str = ""
    trained: Literal["agent", "learner"] = "agent"
    n_seeds: int
    n_incomplete: int
    n_trials: int = 0
    diverged_trials: int | None = None
    not_finite_trials: int = 0
    final: Standing = Standing()
    after: Standing = Standing()
    above_reference: bool | None = None
    summary: Summary = Summary()
    note: str = ""
    measure: Literal["score", "return"] = "score"
