"""The mark ``not_finite``: a trial whose weights, losses or values ended, and single evaluations that did.

A trial is marked once, by a record ``trial/not_finite/<what>`` at the step at which it was noticed. What it would have
reached is unknown, so each later evaluation counts as the reference low: leaving it out would praise a method for the
trials that it broke. The same holds for a single evaluation that is not finite of a trial that goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # trainers, who only need the names, should not pay for it

MARK = "trial/not_finite/"
"""Begins the name of the record that marks a trial; what was not finite first follows."""
SPOILT = "eval/not_finite"
"""The record of a single evaluation that was not finite, beside the low that it counts as."""
EVALUATIONS = ("eval/return", "eval/score")
"""Names of the records of which none is left out of a mean."""


_RETURN, _SCORE = EVALUATIONS


class NotFinite(NamedTuple):
    """The agent step at which a trial was marked, and what was not finite first."""

    step: int
    what: str


def mark(names: Sequence[str], steps: Sequence[int]) -> NotFinite | None:
    """The mark of a trial from the names and steps of its records, ``None`` if it stayed finite."""
    marks = ((step, name) for name, step in zip(names, steps, strict=True) if name.startswith(MARK))
    return min((NotFinite(step, name.removeprefix(MARK)) for step, name in marks), default=None)


def is_mark(table: pd.DataFrame) -> pd.Series[bool]:
    """Which rows of a table are marks."""
    names = table["name"].cat.categories
    return table["name"].isin([name for name in names if name.startswith(MARK)])


def marks(table: pd.DataFrame) -> dict[tuple[Any, ...], NotFinite]:
    """The marks of a run's trials by task, method and seed."""
    trials = table[is_mark(table)].groupby(["task", "method", "seed"], observed=True)
    found = {key: mark([str(name) for name in own["name"]], own["step"].tolist()) for key, own in trials}
    return {key: its for key, its in found.items() if its is not None}


def for_figures(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which marked trials have evaluations alone, where their method has other trials of the task.

    A curve ends where any of its runs does, so that no survivor speaks for all; but what the networks of a broken trial
    showed before it broke is no reason to hide what those of all others show behind that step.
    """
    seeds: dict[tuple[str, str], set[int]] = {}
    for task, method, seed in marks(table):
        seeds.setdefault((task, method), set()).add(seed)
    dropped = np.zeros(len(table), dtype=bool)
    for (task, method), broken in seeds.items():
        own = (table["task"] == task) & (table["method"] == method)
        if set(table.loc[own, "seed"]) - broken:
            dropped |= (own & table["seed"].isin(broken)).to_numpy()
    if not dropped.any():
        return table
    return table[~dropped | table["name"].isin(EVALUATIONS).to_numpy()]


def counted(tables: Sequence[pd.DataFrame], has_references: Mapping[str, bool]) -> list[pd.DataFrame]:
    """Tables in which every evaluation is a number that counts; ``has_references``: by task.

    A score that is not finite is the reference low, 0. A return, and a score where scores are raw returns, is the
    lowest that any trial of the task had at any time; where there is none at all it stays as it is.
    """
    lowest: dict[tuple[str, str], float] = {}
    for table in tables:
        finite = table[table["name"].isin(EVALUATIONS) & np.isfinite(table["value"])]
        for key, low in finite.groupby(["task", "name"], observed=True)["value"].min().items():
            lowest[key] = min(float(low), lowest.get(key, np.inf))
    lowest |= {(task, _SCORE): 0.0 for task, has in has_references.items() if has}
    return [_filled(table, lowest) for table in tables]


def _filled(table: pd.DataFrame, lowest: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    broken = table["name"].isin(EVALUATIONS) & ~np.isfinite(table["value"])
    if not broken.any():
        return table
    filled, rows = table.copy(), table[broken]
    own = zip(rows["task"], rows["name"], rows["value"], strict=True)
    filled.loc[broken, "value"] = [lowest.get((task, name), value) for task, name, value in own]
    return filled
