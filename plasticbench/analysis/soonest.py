"""Which method learns soonest: agent steps to half of the best final score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import compare_methods, is_testable
from plasticbench.analysis.events import task_events
from plasticbench.analysis.headline import separation
from plasticbench.analysis.intervals import Median, median_interval
from plasticbench.analysis.outcomes import series
from plasticbench.analysis.rows import Row
from plasticbench.analysis.runs import Run


class SoonestRow(NamedTuple):
    """One method on one task.

    ``steps`` is the median over seeds of the steps from ``from_step`` (the last change of the task, or its begin) to
    the first evaluation that reaches ``target_score``; a seed that never does counts as infinite there, and with the
    whole ``stretch_steps`` in the means that are compared. ``behind``: later than the soonest method, by that test.
    """

    task: str
    method: str
    from_step: int
    stretch_steps: int
    target_score: float
    steps: Median
    num_reached: int
    num_seeds: int
    restricted: Runs
    is_behind: bool = False


def soonest(run: Run, table: pd.DataFrame, rows: Sequence[Row]) -> list[SoonestRow]:
    """Of each task with references on which something was learned, the soonest first."""
    found = []
    own_series = series(table[table["name"] == "eval/score"])
    for task in run.scored_tasks:
        ranked = [row for row in rows if row.task == task and row.final.rank is not None]
        if not ranked or all(row.above_reference is False for row in ranked):
            continue
        best = max(row.final.iqm.value or 0.0 for row in ranked)
        if best > 0.0:
            found += _of_task(run, task, best / 2, [row.method for row in ranked], own_series)
    return found


def _of_task(
    run: Run,
    task: str,
    target: float,
    methods: Sequence[str],
    all_series: Mapping[tuple[Any, ...], tuple[np.ndarray, np.ndarray]],
) -> list[SoonestRow]:
    from_step = max(task_events(run.by_task[task]).changes, default=0)
    stretch = run.budget_steps - from_step
    steps: dict[str, dict[int, float]] = {method: {} for method in methods}
    for trial in sorted(run.by_task[task], key=lambda trial: trial.seed):
        own = all_series.get((task, trial.method, trial.seed, "eval/score"))
        if own is not None and trial.method in steps:
            reached = own[0][(own[0] > from_step) & (own[1] >= target)]
            steps[trial.method][trial.seed] = float(reached[0] - from_step) if len(reached) else float("inf")
    made = [_row(task, method, from_step, stretch, target, own) for method, own in steps.items() if own]
    made.sort(key=lambda row: row.restricted.values.mean())
    behind = _later({row.method: [row.restricted] for row in made})
    return [row._replace(is_behind=row.method in behind) for row in made]


def _row(task: str, method: str, from_step: int, stretch: int, target: float, own: Mapping[int, float]) -> SoonestRow:
    values = np.array(list(own.values()))
    restricted = Runs(np.minimum(values, stretch), tuple(own))
    reached = int(np.isfinite(values).sum())
    return SoonestRow(
        task, method, from_step, stretch, target, median_interval(values), reached, len(values), restricted
    )


def _later(steps: Mapping[str, Sequence[Runs]]) -> set[str]:
    """Methods whose mean is surely above that of the first, the soonest one."""
    if not is_testable(steps):
        return set()
    ahead = compare_methods(steps).is_ahead[:, 0]
    return {method for method, is_later in zip(steps, ahead, strict=True) if is_later}


def soonest_sentence(rows: Sequence[SoonestRow], unit: str) -> str:
    """Who learns soonest, in steps or updates on one task, or as a mean share of what was left over several tasks.

    Empty where nothing was learned.
    """
    tasks = dict.fromkeys(row.task for row in rows)
    shares: dict[str, list[Runs]] = {}
    for row in rows:
        share = Runs(row.restricted.values / row.stretch_steps, row.restricted.seeds)
        shares.setdefault(row.method, []).append(share)
    whole = {method: own for method, own in shares.items() if len(own) == len(tasks)}
    if len(whole) < 2:
        return ""
    mean = {method: float(np.mean([runs.values.mean() for runs in own])) for method, own in whole.items()}
    order = {method: whole[method] for method in sorted(whole, key=mean.__getitem__)}
    first, *others = order
    if len(tasks) == 1:
        row = next(row for row in rows if row.method == first)
        since = f"after the change at {row.from_step:,}" if row.from_step else "after the begin"
        median = steps_text(row.steps.value, row.stretch_steps)
        when = f"half of the best final score ({row.target_score:.2f}) at a median of {median} {unit} {since}"
    else:
        when = f"half of each task's best final score after {mean[first]:.0%} of the {unit} at its disposal, on average"
    if not is_testable(order):
        return f"{first} reaches {when}, the soonest; with so few seeds this is indicative."
    later = [method for method in others if method in _later(order)]
    return f"{first} reaches {when}, the soonest{separation(others, later, 'surely sooner than')}."


def steps_text(steps: float, stretch_steps: int) -> str:
    """A number of steps, or that the end came first."""
    return f"{steps:,.0f}" if np.isfinite(steps) else f"> {stretch_steps:,}"
