"""Ranks methods from the records of one or more runs.

The final score of a trial is the mean of its evaluations in the last tenth of the budget, and the evaluation at the
very end must be there. Methods stand in the order of the IQM of the final scores (equal IQMs share a rank), but none
stands above one that is found ahead of it, as can be over several tasks: means, which are tested, count the task on
which a method fails, and IQMs leave it out. The order alone is no finding: ``rank_best`` and ``rank_worst`` bound it
by the pairs that the platform's one test finds apart (``claims``). A method that lacks a trial's final evaluation, or
a task, is listed without a rank, because the runs that are missing may be the bad ones.

Methods stand by raw return on a task without reference returns. Where there are several tasks, such a task stays out of
what all tasks say together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import (
    Comparison,
    above_reference,
    compare_methods,
    detectable_difference,
)
from plasticbench.analysis.continual import MeasureRow, continual
from plasticbench.analysis.improvement import Improvement, improvements
from plasticbench.analysis.intervals import iqm_interval
from plasticbench.analysis.not_finite import counted
from plasticbench.analysis.outcomes import (
    RECORD_PATTERN,
    Outcome,
    after_score,
    outcome_rows,
    outcomes,
    references,
    scores_by_task,
)
from plasticbench.analysis.plasticity import PROBE_PATTERN, ProbeRow, probes_at_end
from plasticbench.analysis.provenance import provenance
from plasticbench.analysis.recoveries import RecoveryRow, recoveries
from plasticbench.analysis.rows import ALL, Estimate, Row, Standing, Summary
from plasticbench.analysis.runs import Run, load_run, read_table
from plasticbench.storage import Location

REFERENCE = "a reference, never ranked"
UNPOOLED = "not ranked: returns of tasks without reference returns cannot be taken together"
_MAX_REASON = 160  # characters


class Leaderboard(NamedTuple):
    """Rows of all tasks together and of each task, in the order of their ranks, and what they were made of."""

    rows: list[Row]
    probes: list[ProbeRow]
    improvement: list[Improvement]
    provenance: dict[str, Any]
    measures: Sequence[MeasureRow] = ()
    recoveries: Sequence[RecoveryRow] = ()


@np.errstate(over="ignore", invalid="ignore")  # what floats cannot hold is null in the rows
def leaderboard(run_dirs: Iterable[Location]) -> Leaderboard:
    """Ranks the methods of one or more runs; task by task, rows without a rank come last.

    Raises ``ValueError`` if the runs cannot be compared: other budgets, environments, changes or evaluation on a task,
    other settings under one method name, or a trial that is there twice.
    """
    runs = [load_run(path) for path in run_dirs]
    tables = [read_table(run, f"{RECORD_PATTERN}|{PROBE_PATTERN}") for run in runs]
    own = [outcome_rows(table) for table in tables]
    return board_of(runs, own, outcomes(runs, own), probes_at_end(runs, tables).rows)


def board_of(
    runs: Sequence[Run], tables: Sequence[pd.DataFrame], found: Sequence[Outcome], probes: list[ProbeRow]
) -> Leaderboard:
    """The leaderboard of runs from the records, outcomes and probes that belong to them."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    shown = counted(tables, references(runs))
    return Leaderboard(
        rows=rank(found),
        probes=probes,
        improvement=improvements(complete_scores(tasks, found)),
        provenance=provenance(runs, tables),
        measures=continual(runs, shown),
        recoveries=[row for run, table in zip(runs, shown, strict=True) for row in recoveries(run, table).rows],
    )


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
    above = _above(finals) if measure == "score" else {}
    known = [method for method in by_method if notes[method] == REFERENCE]
    reached = {method: scores_by_task(tasks, by_method[method]) for method in known}
    by_final |= _reached(reached)
    by_after |= _reached({method: scores_by_task(tasks, by_method[method], after_score) for method in known})
    finals |= reached
    rows = []
    for method, own in by_method.items():
        counts = [sum(outcome.is_complete for outcome in own if outcome.task == task) for task in tasks]
        row = Row(
            task=label,
            method=method,
            agent=", ".join(dict.fromkeys(outcome.agent for outcome in own)),
            trained=own[0].trained,
            n_seeds=min(counts),
            n_incomplete=sum(not outcome.is_complete for outcome in own),
            n_trials=len(own),
            diverged_trials=_diverged(own),
            not_finite_trials=sum(outcome.not_finite is not None for outcome in own),
            final=by_final.get(method, Standing()),
            after=by_after.get(method, Standing()),
            above_reference=above.get(method),
            summary=_summary(label, measure, finals[method], own) if method in finals else Summary(),
            note=notes[method] or ("" if min(counts) >= aggregate.MIN_SEEDS else _too_few(min(counts))),
            measure=measure,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (row.final.rank is None, row.final.rank or 0))


def _reached(scores: Mapping[str, Sequence[Runs]]) -> dict[str, Standing]:
    """What references reached, each with an interval of its own, and no more than that."""
    found = {}
    for method, tasks in scores.items():
        values = [runs.values for runs in tasks]
        bounds = iqm_interval(values) if aggregate.has_interval(tasks) else ()
        found[method] = Standing(iqm=_estimate(float(aggregate.iqm(values)), *bounds))
    return found


def _above(scores: Mapping[str, Sequence[Runs]]) -> dict[str, bool]:
    if not scores or not all(aggregate.has_interval(tasks) for tasks in scores.values()):
        return {}
    return dict(zip(scores, above_reference(scores).tolist(), strict=True))


def _summary(label: str, measure: str, scores: Sequence[Runs], own: Sequence[Outcome]) -> Summary:
    values = [runs.values for runs in scores]
    return Summary(
        mean=float(aggregate.mean(values)),
        median=float(aggregate.median(values) if len(values) > 1 else np.median(values[0])),
        optimality_gap=float(aggregate.optimality_gap(values)) if measure == "score" else None,
        mean_return=float(np.mean([outcome.final_return for outcome in own])) if label != ALL else None,
    )


def complete_scores(tasks: Sequence[str], found: Sequence[Outcome]) -> dict[str, list[Runs]]:
    """Final scores per task of the methods with every trial's final evaluation on every task, references left out."""
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
    if any(outcome.is_reference for outcome in own):
        return REFERENCE + ("" if not missing and not absent else ", and without all of its trials")
    if absent:
        return f"not ranked: was not run on {', '.join(absent)}"
    reason = next((f"; the cause: {shortened(why)}" for outcome in own if (why := _why_incomplete(outcome))), "")
    return f"not ranked: {missing} of {len(own)} trials incomplete{reason}" if missing else ""


def _why_incomplete(outcome: Outcome) -> str:
    """Where it is known. Without references what is not finite counts as the lowest return, if any is known."""
    if outcome.failure or outcome.not_finite is None or outcome.has_references or outcome.is_complete:
        return outcome.failure
    return f"{outcome.not_finite.what} is not finite at step {outcome.not_finite.step:,}"


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
    order = _ranks(point, found.is_ahead)
    leader = list(scores).index(next(iter(order)))
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


def _ranks(point: Mapping[str, float], is_ahead: np.ndarray) -> dict[str, int]:
    """Ranks from 1 by IQM among those that nobody left is ahead of; ``is_ahead`` ``[methods, methods]``."""
    names, values = list(point), list(point.values())
    left, ranks = list(range(len(names))), dict[str, int]()
    before = None
    while left:
        best = max((i for i in left if not is_ahead[left, i].any()), key=lambda i: values[i])
        is_equal = before is not None and values[before] == values[best]
        ranks[names[best]] = ranks[names[before]] if before is not None and is_equal else 1 + len(ranks)
        left.remove(best)
        before = best
    return ranks


def _behind(found: Comparison, leader: int, method: int) -> Estimate:
    difference, bound = found.difference[leader, method], found.bound[leader, method]
    return _estimate(difference, difference - bound, difference + bound)


def _estimate(value: float, *bounds: np.ndarray) -> Estimate:
    numbers = [float(value), *(float(bound) for bound in bounds)]
    if not np.isfinite(numbers).all():
        return Estimate(numbers[0] if np.isfinite(numbers[0]) else None)
    return Estimate(*numbers)
