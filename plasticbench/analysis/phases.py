"""What each phase of a stream ended with, method by method, and how far behind a fresh network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis import aggregate
from plasticbench.analysis.continual import Course, phase_scores
from plasticbench.analysis.runs import Run, Trial

MAX_PHASES = 20
"""With more phases, so many of them are shown, evenly spaced and the last among them."""
UPDATES = "updates"
_FRESH = "full_reset"


class PhaseTable(NamedTuple):
    """One task: ``scores`` are IQMs over seeds by method and phase, ``behind`` those of the gap to a fresh network.

    ``phases`` count from 1. ``behind`` is the mean over phases after the first of what ``full_reset`` at boundaries has
    more, seed by seed; empty where no method is that.
    """

    task: str
    phases: list[int]
    num_phases: int
    scores: dict[str, list[float | None]]
    behind: dict[str, float]
    fresh: str | None


def phase_tables(run: Run, table: pd.DataFrame, best_first: Sequence[str]) -> list[PhaseTable]:
    """Of every task that learners of data go through in phases."""
    scores = table[table["name"] == "eval/score"]
    found = []
    for task, trials in run.by_task.items() if run.clock == UPDATES else ():
        if changes := trials[0].change_steps:
            own = scores[scores["task"] == task]
            found.append(_table(run, task, own, (*changes, run.budget_steps), best_first))
    return found


def _table(run: Run, task: str, scores: pd.DataFrame, ends: Sequence[int], best_first: Sequence[str]) -> PhaseTable:
    at_ends = {
        method: {seed: _at_ends(trial, ends) for seed, trial in own.groupby("seed", observed=True)}
        for method, own in scores.groupby("method", observed=True)
    }
    fresh = next((trial.method for trial in run.by_task[task] if _is_fresh(trial, ends)), None)
    shown = sorted({round(place) for place in np.linspace(len(ends), 1, min(len(ends), MAX_PHASES))})
    return PhaseTable(
        task=task,
        phases=shown,
        num_phases=len(ends),
        scores={m: [_iqm([s[p - 1] for s in at_ends[m].values()]) for p in shown] for m in best_first if m in at_ends},
        behind=_behind(at_ends, fresh) if fresh is not None and fresh in at_ends else {},
        fresh=fresh,
    )


def _at_ends(trial: pd.DataFrame, ends: Sequence[int]) -> np.ndarray:
    """The score of each phase ``[phases]``; NaN where it has none."""
    known = trial[np.isfinite(trial["value"])].sort_values("step")
    course = Course(known["step"].to_numpy(), known["value"].to_numpy())
    return np.array(phase_scores(course, [0, *ends]))


def _is_fresh(trial: Trial, ends: Sequence[int]) -> bool:
    return trial.settings.get("method", {}).get("kind") == _FRESH and tuple(trial.reset_steps) == tuple(ends[:-1])


def _behind(at_ends: Mapping[str, Mapping[int, np.ndarray]], fresh: str) -> dict[str, float]:
    found = {}
    for method, seeds in at_ends.items():
        pairs = [(at_ends[fresh][seed][1:], own[1:]) for seed, own in seeds.items() if seed in at_ends[fresh]]
        value = _iqm([float((theirs - own).mean()) for theirs, own in pairs])
        if value is not None and method != fresh:
            found[method] = value
    return found


def _iqm(values: Sequence[float]) -> float | None:
    known = np.array([value for value in values if np.isfinite(value)])
    return float(aggregate.iqm([known])) if len(known) else None
