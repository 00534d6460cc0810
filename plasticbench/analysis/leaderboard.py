"""Ranks methods from the records of one or more runs.

The final score of a trial is the mean of its evaluations in the last tenth of the budget, and the evaluation at the
very end must be there. Methods stand in the order of the IQM of the final scores (equal IQMs share a rank). The order
alone is no finding: ``rank_best`` and ``rank_worst`` bound it by the pairs that the platform's one test finds apart
(``claims``). A method that lacks a trial's final evaluation, or a task, is listed without a rank, because
the runs that are missing may be the bad ones.

Methods stand by raw return on a task without reference returns. Where there are several tasks, such a task stays out of
what all tasks say together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import Comparison, compare_methods, detectable_difference
from plasticbench.analysis.intervals import iqm_interval
from plasticbench.analysis.outcomes import RECORD_PATTERN, Outcome, after_score, outcomes, scores_by_task
from plasticbench.analysis.provenance import provenance
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.storage import Location

ALL = "all"
"""The row's task when all tasks are taken together."""
BOOTSTRAP_SEED = 20210831
UNPOOLED = "not ranked: returns of tasks without reference returns cannot be taken together"
_MAX_REASON = 160  # characters


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

    ``agent`` says what trained it, so that methods of different backends can stand in one table. ``final`` ranks the
    final scores, ``after`` the means of all scores after the first reset or change. ``diverged_trials`` are those
    marked ``overvalued``; ``None`` where no trial recorded how large its values are. ``not_finite_trials`` are those
    marked ``not_finite``, which are ranked with the reference low. ``measure`` is what everything of the row is about:
    scores, or raw returns where there are no references.
    """

    task: str
    method: str
    agent: str = ""
    n_seeds: int
    n_incomplete: int
    n_trials: int = 0
    diverged_trials: int | None = None
    not_finite_trials: int = 0
    final: Standing = Standing()
    after: Standing = Standing()
    summary: Summary = Summary()
    note: str = ""
    measure: Literal["score", "return"] = "score"


class Leaderboard(NamedTuple):
    """Rows of all tasks together and of each task, in the order of their ranks, and what they were made of."""

    rows: list[Row]
    provenance: dict[str, Any]


@np.errstate(over="ignore", invalid="ignore")  # what floats cannot hold is null in the rows
def leaderboard(run_dirs: Iterable[Location]) -> Leaderboard:
    """Ranks the methods of one or more runs; rows without a rank come last.

    Raises ``ValueError`` if the runs cannot be compared: other budgets, environments, changes or evaluation on a task,
    other settings under one method name, or a trial that is there twice.
    """
    runs = [load_run(path) for path in run_dirs]
    tables = [read_table(run, RECORD_PATTERN) for run in runs]
    return Leaderboard(rank(outcomes(runs, tables)), provenance(runs, tables))


def rank(found: Sequence[Outcome]) -> list[Row]:
    """The rows of a leaderboard from outcomes."""
    by_task: dict[str, list[Outcome]] = {}
    for outcome in found:
        by_task.setdefault(outcome.task, []).append(outcome)
    pooled = pooled_tasks({task: own[0].has_references for task, own in by_task.items()})
    rows = _rows(ALL, pooled or list(by_task), found, is_ranked=bool(pooled))
    for task, own in by_task.items():
        rows += _rows(task, [task], own)
    return rows


def pooled_tasks(has_references: Mapping[str, bool]) -> list[str]:
    """Whose scores can be taken together: a single task's, or those of all tasks that have references."""
    return list(has_references) if len(has_references) == 1 else [task for task, has in has_references.items() if has]


def _rows(label: str, tasks: Sequence[str], found: Sequence[Outcome], is_ranked: bool = True) -> list[Row]:
    by_method = {method: [o for o in own if o.task in tasks] for method, own in _by_method(found).items()}
    found = [outcome for own in by_method.values() for outcome in own]
    notes = {method: _note(tasks, own) if is_ranked else UNPOOLED for method, own in by_method.items()}
    whole = {method: own for method, own in by_method.items() if not notes[method]}
    finals = complete_scores(tasks, found) if is_ranked else {}
    measure: Literal["score", "return"] = "score" if all(o.has_references for o in found) else "return"
    after = {method: scores_by_task(tasks, own, after_score) for method, own in whole.items()}
    is_after_known = all(np.isfinite(runs.values).all() for own in after.values() for runs in own)
    by_final, by_after = standings(finals), standings(after) if is_after_known else {}
    rows = []
    for method, own in by_method.items():
        counts = [sum(outcome.is_complete for outcome in own if outcome.task == task) for task in tasks]
        row = Row(
            task=label,
            method=method,
            agent=", ".join(dict.fromkeys(outcome.agent for outcome in own)),
            n_seeds=min(counts),
            n_incomplete=sum(not outcome.is_complete for outcome in own),
            n_trials=len(own),
            diverged_trials=_diverged(own),
            not_finite_trials=sum(outcome.not_finite is not None for outcome in own),
            final=by_final.get(method, Standing()),
            after=by_after.get(method, Standing()),
            summary=_summary(label, measure, finals[method], own) if method in finals else Summary(),
            note=notes[method] or ("" if min(counts) >= aggregate.MIN_SEEDS else _too_few(min(counts))),
            measure=measure,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (row.final.rank is None, row.final.rank or 0))


def _summary(label: str, measure: str, scores: Sequence[Runs], own: Sequence[Outcome]) -> Summary:
    values = [runs.values for runs in scores]
    return Summary(
        mean=float(aggregate.mean(values)),
        median=float(aggregate.median(values) if len(values) > 1 else np.median(values[0])),
        optimality_gap=float(aggregate.optimality_gap(values)) if measure == "score" else None,
        mean_return=float(np.mean([outcome.final_return for outcome in own])) if label != ALL else None,
    )


def complete_scores(tasks: Sequence[str], found: Sequence[Outcome]) -> dict[str, list[Runs]]:
    """Final scores per task of the methods that have every trial's final evaluation on every task."""
    own_tasks = [outcome for outcome in found if outcome.task in tasks]
    return {m: scores_by_task(tasks, own) for m, own in _by_method(own_tasks).items() if not _note(tasks, own)}


def _by_method(found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in found:
        groups.setdefault(outcome.method, []).append(outcome)
    return groups


def _note(tasks: Sequence[str], own: Sequence[Outcome]) -> str:
    present = {outcome.task for outcome in own}
    absent = [task for task in tasks if task not in present]
    missing = sum(not outcome.is_complete for outcome in own)
    if absent:
        return f"not ranked: was not run on {', '.join(absent)}"
    reason = next((f"; the cause: {shortened(outcome.failure)}" for outcome in own if outcome.failure), "")
    return f"not ranked: {missing} of {len(own)} trials incomplete{reason}" if missing else ""


def shortened(reason: str) -> str:
    """What fits a line; ``failures.jsonl`` has the rest."""
    return reason if len(reason) <= _MAX_REASON else reason[: _MAX_REASON - 1] + "…"


def _diverged(own: Sequence[Outcome]) -> int | None:
    if not any(outcome.has_value_ratio for outcome in own):
        return None
    return sum(outcome.overvalued is not None for outcome in own)


def _too_few(num_seeds: int) -> str:
    return f"no interval: {num_seeds} seed{'' if num_seeds == 1 else 's'}, {aggregate.MIN_SEEDS} are needed"


@np.errstate(over="ignore", invalid="ignore")  # scores may be as large as floats get
def standings(scores: Mapping[str, Sequence[Runs]]) -> dict[str, Standing]:
    """Ranks methods by IQM; intervals and claims where every task of every method has enough seeds."""
    if not scores:
        return {}
    point = {method: float(aggregate.iqm([runs.values for runs in tasks])) for method, tasks in scores.items()}
    order = {m: 1 + sum(other > point[m] for other in point.values()) for m in point}
    if not all(aggregate.has_interval(tasks) for tasks in scores.values()):
        mean = {m: float(aggregate.mean([runs.values for runs in tasks])) for m, tasks in scores.items()}
        lead = mean[max(point, key=lambda method: point[method])]
        return {m: Standing(iqm=_estimate(point[m]), rank=order[m], behind=_estimate(lead - mean[m])) for m in point}
    found = compare_methods(scores)
    leader = int(np.argmax(list(point.values())))
    detectable = _estimate(detectable_difference(scores)).value if len(scores) > 1 else None
    return {
        method: Standing(
            iqm=_estimate(point[method], *iqm_interval([runs.values for runs in tasks])),
            rank=order[method],
            rank_best=1 + int(found.is_ahead[:, i].sum()),
            rank_worst=len(scores) - int(found.is_ahead[i].sum()),
            behind=_behind(found, leader, i),
            detectable=detectable,
        )
        for i, (method, tasks) in enumerate(scores.items())
    }


def _behind(found: Comparison, leader: int, method: int) -> Estimate:
    difference, bound = found.difference[leader, method], found.bound[leader, method]
    return _estimate(difference, difference - bound, difference + bound)


def _estimate(value: float, *bounds: np.ndarray) -> Estimate:
    numbers = [float(value), *(float(bound) for bound in bounds)]
    if not np.isfinite(numbers).all():
        return Estimate(numbers[0] if np.isfinite(numbers[0]) else None)
    return Estimate(*numbers)
