"""What each planned trial reached, and whether trials of several runs may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.curves import final_value, window_mean
from plasticbench.analysis.divergence import RATIO, Overvalued, overvalued
from plasticbench.analysis.events import task_events
from plasticbench.analysis.not_finite import MARK, SPOILT, NotFinite, counted, is_mark, marks
from plasticbench.analysis.restarts import RESTARTED, restarts
from plasticbench.analysis.runs import Run
from plasticbench.failures import last_failures
from plasticbench.storage import Location

RECORD_NAMES = ("eval/return", "eval/score", RATIO, SPOILT, RESTARTED)
"""Names of the records that outcomes need, beside the marks of trials that are not finite."""
RECORD_PATTERN = "|".join(RECORD_NAMES) + f'|{MARK}[^"]*'
"""The names of all of them as a regular expression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one trial reached. NaN: the final evaluation is missing, or there is no event to be after.

    Without ``has_references`` the scores of the task are raw returns.
    ``overvalued`` is the mark of a trial whose values diverged; ``has_value_ratio`` says whether it recorded any.
    ``not_finite`` is the mark of a trial that ended so; ``spoilt_steps`` are those of single evaluations that did.
    ``is_reference``: of a method that is never ranked.
    ``restarted_steps`` are those at which its environments began anew, since it was gone on with so.
    ``failure`` says why a trial without its final evaluation failed, where that is known.
    """

    task: str
    method: str
    seed: int
    final_score: float
    final_return: float
    after_score: float
    agent: str = ""
    trained: Literal["agent", "learner"] = "agent"
    has_value_ratio: bool = False
    overvalued: Overvalued | None = None
    has_references: bool = True
    not_finite: NotFinite | None = None
    spoilt_steps: tuple[int, ...] = ()
    failure: str = ""
    is_reference: bool = False
    restarted_steps: tuple[int, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the trial has its final evaluation."""
        return math.isfinite(self.final_score)


def outcomes(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> list[Outcome]:
    """One outcome per planned trial, those without records included; ``tables`` hold ``RECORD_NAMES`` of each run."""
    _check_comparable(runs)
    tasks = dict.fromkeys(task for run in runs for task in run.tasks)
    events = {task: task_events([t for run in runs for t in run.by_task.get(task, ())]) for task in tasks}
    found = []
    for run, table, raw in zip(runs, counted(tables, references(runs)), tables, strict=True):
        own, broken, spoilt, failed = series(table), marks(raw), _spoilt(raw), last_failures(run.path)
        restarted = restarts(raw)
        for trial in run.trials:
            after = events[trial.task].after_step
            key = trial.task, trial.method, trial.seed
            returns, scores, ratios, *_ = (own.get((*key, name), _NOTHING) for name in RECORD_NAMES)
            score = final_value(*scores, run.budget_steps)
            is_lost = not math.isfinite(score) and trial.id in failed
            found.append(
                Outcome(
                    task=trial.task,
                    method=trial.method,
                    seed=trial.seed,
                    final_score=score,
                    final_return=final_value(*returns, run.budget_steps),
                    after_score=math.nan if after is None else window_mean(*scores, after),
                    agent=trial.agent,
                    trained="learner" if run.clock == "updates" else "agent",
                    has_value_ratio=len(ratios[0]) > 0,
                    overvalued=overvalued(*ratios),
                    has_references=trial.has_references,
                    is_reference=trial.is_reference,
                    not_finite=(ended := broken.get(key)),
                    spoilt_steps=tuple(s for s in spoilt.get(key, ()) if ended is None or s < ended.step),
                    restarted_steps=tuple(restarted.get(key, ())),
                    failure=failed[trial.id].reason if is_lost else "",
                )
            )
    return found


_NOTHING = (np.empty(0, dtype=np.int64), np.empty(0))


def references(runs: Sequence[Run]) -> dict[str, bool]:
    """Whether tasks have reference returns."""
    return {trial.task: getattr(trial, "has_references", True) for run in runs for trial in run.trials}


def outcome_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The records that outcomes need."""
    return table[table["name"].isin(RECORD_NAMES) | is_mark(table)]


def _spoilt(table: pd.DataFrame) -> dict[tuple[Any, ...], list[int]]:
    """The steps of evaluations that were not finite, by task, method and seed."""
    scores = table[(table["name"] == "eval/score") & ~np.isfinite(table["value"])]
    rows = pd.concat([scores, table[table["name"] == SPOILT]])
    trials = rows.groupby(["task", "method", "seed"], observed=True)["step"]
    return {key: sorted(set(steps.tolist())) for key, steps in trials}


def series(table: pd.DataFrame) -> dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]]:
    """Steps and values by (task, method, seed, name), the last record where two share a step."""
    table = table.drop_duplicates(["task", "method", "seed", "name", "step"], keep="last")
    steps, values = table["step"].to_numpy(), table["value"].to_numpy()
    groups = table.groupby(["task", "method", "seed", "name"], observed=True).indices
    return {key: (steps[rows], values[rows]) for key, rows in groups.items()}


def _check_comparable(runs: Sequence[Run]) -> None:
    first: dict[tuple[Any, ...], tuple[Any, Location]] = {}

    def same(key: tuple[Any, ...], value: Any, rule: str) -> None:
        known, path = first.setdefault(key, (value, run.path))
        if known != value:
            raise ValueError(f"{rule}: {known} in {path}, {value} in {run.path}")

    for run in runs:
        for trial in run.trials:
            task, method, settings = trial.task, trial.method, trial.settings
            same(("budget", task), run.budget_steps, f"{task}: trials of one task need one budget_steps")
            for part in ("environment", "evaluation") if not trial.is_external else ():
                value = settings.get(part) or {}
                value = {name: v for name, v in value.items() if name != "equals"} | value.get("equals", {})
                same((part, task), value, f"{task}: trials of one task need the same {part}")
            same(("changes", task), trial.change_steps, f"{task}: trials of one task need the same change_steps")
            own = {part: settings.get(part) for part in ("agent", "method", "schedule")}
            same(("settings", task, method), own, f"{task}: two methods are called {method!r}; rename one")
            if first.setdefault((task, method, trial.seed), (trial.id, run.path)) != (trial.id, run.path):
                other = first[task, method, trial.seed][1]
                raise ValueError(f"{task}: {method!r} with seed {trial.seed} is both in {other} and in {run.path}")


def final_score(outcome: Outcome) -> float:
    """The mean of the evaluations in the last tenth of the budget."""
    return outcome.final_score


def after_score(outcome: Outcome) -> float:
    """The mean of all evaluations after the task's first change, or after the methods' resets have begun."""
    return outcome.after_score


def scores_by_task(
    tasks: Sequence[str], own: Iterable[Outcome], score: Callable[[Outcome], float] = final_score
) -> list[Runs]:
    """One method's scores per task, seeds ascending."""
    groups: dict[str, list[Outcome]] = {task: [] for task in tasks}
    for outcome in sorted(own, key=lambda outcome: outcome.seed):
        groups[outcome.task].append(outcome)
    return [Runs(np.array([score(o) for o in group]), tuple(o.seed for o in group)) for group in groups.values()]
