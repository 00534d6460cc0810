"""What stands beside the ranks of a suite: measures of whole runs, and how well each task tells its methods apart.

All of it from entries, which hold every evaluation. They do not hold the steps of events, so what comes in a rhythm is
read off ``every`` in the settings of the method or of its task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plasticbench.analysis.continual import Course, MeasureRow, measure_rows, measured_on
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.power import TaskPower, power_of
from plasticbench.analysis.runs import Trial
from plasticbench.platform.suites.definition import Task
from plasticbench.platform.suites.entries import Entry, curve, trials_of
from plasticbench.platform.suites.grid import candidates, without_grid

DIFFERENCE = 0.1
"""Of mean scores, for which a suite says how many seeds find it."""
SHOWN = ("area", "lost", "lost_to_fresh", "forgetting", "forward_transfer", "final", "final_over_reset_periods")
"""Drops need several evaluations in each phase, which a suite does not ask of its tasks."""


def measures_and_power(
    task: Task, entries: Sequence[Entry], found: Sequence[Outcome], *, is_tuned: bool
) -> tuple[list[MeasureRow], TaskPower]:
    """Of all entries of one task, and the outcomes of their trials."""
    budget_steps = entries[0]["budget_steps"]
    planned = [(entry, trial) for entry in entries for trial in trials_of(entry, is_tuned=is_tuned)]
    trials = [_trial(task, entry, trial, is_tuned=is_tuned) for entry, trial in planned]
    courses: dict[str, dict[int, Course]] = {}
    for entry, trial in planned:
        course = Course(*curve(trial.get("scores", ()), entry["steps"], task.low, task.high))
        if len(course.steps) and course.steps[-1] == budget_steps:
            courses.setdefault(entry["method"], {})[trial["seed"]] = course
    values = measured_on(trials, courses, budget_steps, task.window)
    rows = [row for row in measure_rows(task.name, values) if row.measure in SHOWN]
    return rows, power_of(trials, found, values, DIFFERENCE)


def _trial(task: Task, entry: Entry, trial: Mapping[str, Any], *, is_tuned: bool) -> Trial:
    data = _definition(entry, is_tuned=is_tuned)
    parts = data if isinstance(data, list) else [data]
    [environment] = task.data["environments"]
    every = _every([*parts, task.data.get("resets")])
    return Trial(
        id=trial["id"],
        task=task.name,
        method=entry["method"],
        seed=trial["seed"],
        reset_steps=() if every is None else tuple(range(every, entry["budget_steps"] + 1, every)),
        change_steps=tuple(entry["change_steps"]),
        score_source="",
        settings={
            "method": {"kind": " + ".join(str(part.get("kind")) for part in parts)},
            "environment": {"scenario": environment.get("scenario")},
        },
    )


def _definition(entry: Entry, *, is_tuned: bool) -> Any:
    """The settings that trials of an entry were trained with, as a benchmark file holds them."""
    if is_tuned and entry["tuned"] is not None:
        grid = candidates(entry["method"], entry["definition"])
        return next(one.data for one in grid if one.name == entry["tuning"]["chosen"])
    return without_grid(entry["definition"])


def _every(places: Sequence[Any]) -> int | None:
    """The first rhythm that settings say, of a method before that of its task."""
    found = (place["every"] for place in places if isinstance(place, Mapping) and isinstance(place.get("every"), int))
    return next(found, None)
