"""Measures of runs whose task changes, from evaluations alone: what is kept, what is lost, what helps later.

Every evaluation is of the task of its time, so what is known of an earlier task is known when it comes back. Scores are
as the run recorded them, normalised by references that no other run can move (facts and traps: De Lange et al., ICLR
2023, arXiv 2205.13452; Wolczyk et al., NeurIPS 2021, arXiv 2105.10919; New et al. 2022, arXiv 2301.07799). The lowest
of many noisy evaluations is biased downwards: compare it among methods with the same evaluations only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis.curves import FINAL_FRACTION, Stretch, recovery, window_mean
from plasticbench.analysis.events import TaskEvents, task_events
from plasticbench.analysis.intervals import estimate_of
from plasticbench.analysis.outcomes import series
from plasticbench.analysis.recoveries import stretch_around
from plasticbench.analysis.rows import Estimate
from plasticbench.analysis.runs import Run, Trial

MEASURES = {
    "area": "mean of all evaluations",
    "phase_score": "mean of the evaluations in the last tenth of a phase, or the last one",
    "lost": "score of the first phase less that of the last",
    "forgetting": "score of a phase less the first evaluation when its task comes back, mean over returns",
    "forward_transfer": "mean over later phases of (area - fresh agent's) / (1 - fresh agent's)",
    "lost_to_fresh": "fresh agent's score of the last phase less the method's",
    "drop": "score before a change, or a reset where nothing changes, less the lowest after it, mean over them",
    "stability_gap": "the part of a drop that is won back until the next event, mean over events",
    "final": "mean of the evaluations at the end of the budget, as the leaderboard has it",
    "final_over_reset_periods": "mean of the evaluations in as many whole reset periods as make that end",
}
"""By name, in words."""


class Course(NamedTuple):
    """The finite evaluations of one trial."""

    steps: np.ndarray
    scores: np.ndarray


class MeasureRow(NamedTuple):
    """One measure of a method on a task: IQM over seeds. ``phase`` counts from 1, where a measure is of one."""

    task: str
    method: str
    measure: str
    phase: int | None
    estimate: Estimate
    num_seeds: int


Courses = Mapping[str, Mapping[int, Course]]
"""Of one task, by method and seed."""
Values = dict[tuple[str, int | None], dict[int, float]]
"""By measure and phase, then by seed."""


def continual(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> list[MeasureRow]:
    """All measures of all tasks, of trials that came to the end; ``tables`` hold evaluations that count."""
    return [row for task, methods in measured(runs, tables).items() for row in measure_rows(task, methods)]


def measure_rows(task: str, methods: Mapping[str, Values]) -> Iterator[MeasureRow]:
    """The measures of one task's methods over their seeds."""
    for method, values in methods.items():
        for (measure, phase), by_seed in values.items():
            own = [value for value in by_seed.values() if math.isfinite(value)]
            if len(own) == len(by_seed):  # a measure of survivors would be another one
                estimate = _at_least_zero(estimate_of(own)) if measure == "stability_gap" else estimate_of(own)
                yield MeasureRow(task, method, measure, phase, estimate, len(own))


def _at_least_zero(estimate: Estimate) -> Estimate:
    """An interval covers no less without what its quantity cannot be."""
    return estimate if estimate.low is None else Estimate(estimate.value, max(estimate.low, 0.0), estimate.high)


def measured(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> dict[str, dict[str, Values]]:
    """The measures of single trials, by task and method."""
    courses: dict[str, dict[str, dict[int, Course]]] = {}
    for run, table in zip(runs, tables, strict=True):
        for (task, method, seed, _), (steps, scores) in series(table[table["name"] == "eval/score"]).items():
            known = np.isfinite(scores)
            if (steps[known] == run.budget_steps).any():
                courses.setdefault(task, {}).setdefault(method, {})[seed] = Course(steps[known], scores[known])
    found = {}
    for task in dict.fromkeys(task for run in runs for task in run.tasks):
        planned = [(run, trial) for run in runs for trial in run.by_task.get(task, ())]
        trials = [trial for _, trial in planned]
        found[task] = measured_on(trials, courses.get(task, {}), planned[0][0].budget_steps)
    return found


def measured_on(
    trials: Sequence[Trial], courses: Courses, budget_steps: int, final_fraction: float = FINAL_FRACTION
) -> dict[str, Values]:
    """The measures of single trials of one task, by method; ``courses`` are of those that came to the end.

    ``final_fraction`` of the budget makes the final score.
    """
    events = task_events(trials)
    edges = [0, *events.changes, budget_steps]
    first = {trial.method: trial for trial in reversed(trials)}
    fresh = next((courses[m] for m, own in first.items() if own.is_fresh and m in courses), {})
    found: dict[str, Values] = {}
    for method in (method for method in first if method in courses):
        values = found.setdefault(method, {})
        period = reset_period(first[method].reset_steps)
        for seed, course in courses[method].items():
            of_seed = dict(_of_one(course, edges, events, phase_tasks(first[method], len(edges) - 1)))
            if period is not None:
                of_seed["final", None] = window_mean(*course, budget_steps * (1.0 - final_fraction))
                of_seed["final_over_reset_periods", None] = over_whole_periods(
                    course, budget_steps, period, final_fraction
                )
            if fresh and not first[method].is_fresh and len(edges) > 2:
                of_seed |= _against_fresh(course, edges, fresh)
            for key, value in of_seed.items():
                values.setdefault(key, {})[seed] = value
    return found


def _of_one(
    course: Course, edges: Sequence[int], events: TaskEvents, tasks: Sequence[Any]
) -> Iterator[tuple[tuple[str, int | None], float]]:
    yield ("area", None), window_mean(*course, 0)
    scores = phase_scores(course, edges)
    if len(scores) > 1:
        yield from ((("phase_score", number + 1), score) for number, score in enumerate(scores))
        yield ("lost", None), scores[0] - scores[-1]
    if (lost := forgetting(course, edges, tasks)) is not None:
        yield ("forgetting", None), lost
    steps = events.changes or events.resets
    fates = [_fate(course, step, stretch_around(edges[-1], events, step)) for step in steps]
    if known := [fate for fate in fates if fate is not None]:
        yield ("drop", None), float(np.mean([drop for drop, _ in known]))
        yield ("stability_gap", None), float(np.mean([gap for _, gap in known]))


def phase_scores(course: Course, edges: Sequence[int]) -> list[float]:
    """Of each phase ``(edges[i], edges[i + 1]]``; NaN for one without evaluations."""
    return [_end_of(course, start, stop) for start, stop in pairwise(edges)]


def _end_of(course: Course, start: float, stop: float) -> float:
    steps, scores = course
    inside = (steps > start) & (steps <= stop)
    if not inside.any():
        return math.nan
    begin = min(stop - FINAL_FRACTION * (stop - start), steps[inside].max() - 1)
    return float(scores[inside & (steps > begin)].mean())


def forgetting(course: Course, edges: Sequence[int], tasks: Sequence[Any]) -> float | None:
    """``None`` where no task comes back. By the first evaluation of the return, something is learnt again already."""
    scores, last_met, found = phase_scores(course, edges), dict[Any, int](), list[float]()
    for number, task in enumerate(tasks):
        later = (course.steps > edges[number]) & (course.steps <= edges[number + 1])
        if task in last_met and later.any():
            found.append(scores[last_met[task]] - float(course.scores[later][0]))
        last_met[task] = number
    return float(np.mean(found)) if found else None


def phase_tasks(trial: Trial, num_phases: int) -> list[Any]:
    """Which task each phase has: a scenario that goes round says how many ``tasks`` it has, all others never repeat."""
    scenario = trial.settings.get("environment", {}).get("scenario") or {}
    tasks = scenario.get("tasks")
    names = list(range(tasks)) if isinstance(tasks, int) else tasks
    if not isinstance(names, list) or not names:
        return list(range(num_phases))
    return [str(names[number % len(names)]) for number in range(num_phases)]


def _against_fresh(
    course: Course, edges: Sequence[int], fresh: Mapping[int, Course]
) -> dict[tuple[str, int | None], float]:
    own = forward_transfer(_areas(course, edges), np.mean([_areas(c, edges) for c in fresh.values()], axis=0))
    last = float(np.mean([phase_scores(other, edges)[-1] for other in fresh.values()]))
    found: dict[tuple[str, int | None], float] = {("lost_to_fresh", None): last - phase_scores(course, edges)[-1]}
    return found if own is None else found | {("forward_transfer", None): own}


def _areas(course: Course, edges: Sequence[int]) -> np.ndarray:
    return np.array([window_mean(*_upto(course, stop), start) for start, stop in pairwise(edges)])


def _upto(course: Course, stop: int) -> Course:
    return Course(course.steps[course.steps <= stop], course.scores[course.steps <= stop])


def forward_transfer(own: np.ndarray, fresh: np.ndarray) -> float | None:
    """From areas ``[phases]``, the first left out; ``None`` where a fresh agent leaves nothing to gain."""
    if not (fresh[1:] < 1.0).all():
        return None
    return float(((own - fresh)[1:] / (1.0 - fresh)[1:]).mean())


def _fate(course: Course, step: int, stretch: Stretch) -> tuple[float, float] | None:
    """Drop and stability gap around an event; ``None`` without evaluations on both sides."""
    found = recovery(*course, step, stretch)
    if found is None:
        return None
    end = _end_of(course, step, stretch.to_step)
    lowest = found.before - found.drop
    return found.drop, max(min(found.before, end) - lowest, 0.0)


def reset_period(reset_steps: Sequence[int]) -> int | None:
    """Steps from one reset to the next, where there are three at least in one rhythm."""
    gaps = np.diff(reset_steps)
    if len(gaps) < 2 or gaps.min() < 0.9 * gaps.max():
        return None
    return int(gaps.max())


def over_whole_periods(
    course: Course, budget_steps: int, period_steps: int, final_fraction: float = FINAL_FRACTION
) -> float:
    """The end of the budget may be the dip after a reset, or all but the dip: here each phase counts alike."""
    periods = max(1, math.ceil(final_fraction * budget_steps / period_steps))
    return window_mean(*course, max(0, budget_steps - periods * period_steps))
