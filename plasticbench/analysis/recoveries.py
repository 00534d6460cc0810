"""What each change of a task, and each reset that its methods have in common, did to their scores.

A stretch reaches from one such step to the next, so that nothing is measured against what another one did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import has_learned
from plasticbench.analysis.curves import FINAL_FRACTION, Stretch, recovery
from plasticbench.analysis.events import TaskEvents, task_events
from plasticbench.analysis.intervals import Median, estimate_of, median_interval
from plasticbench.analysis.outcomes import series
from plasticbench.analysis.rows import Estimate
from plasticbench.analysis.runs import Run

MAX_RESETS = 4
"""Resets without a change of the task of which each gets rows; one that comes every 2,000 steps would fill the page."""


class RecoveryRow(NamedTuple):
    """What one event did to one method.

    ``back`` is the median over seeds of the steps to the first evaluation as good as before, infinite for a seed that
    did not come back until the next event, or its last evaluation so far, ``stretch_steps`` later. ``has_learned`` is
    false where there was nothing to lose; ``back`` is ``None`` then.
    """

    task: str
    method: str
    event_step: int
    event: str
    before: Estimate
    drop: Estimate
    back: Median | None
    num_recovered: int
    num_seeds: int
    stretch_steps: int
    has_learned: bool


class Recoveries(NamedTuple):
    """Rows by task, event and method; ``left_out`` resets of each task have none."""

    rows: list[RecoveryRow]
    left_out: Mapping[str, int]


def recoveries(run: Run, table: pd.DataFrame) -> Recoveries:
    """Drop and recovery around each event, from the evaluations as they were recorded.

    A curve that a figure shows averages neighbouring evaluations, and with them what lies before and behind an event.
    """
    courses: dict[str, dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]] = {}
    for (task, method, seed, _), (steps, scores) in series(table[table["name"] == "eval/score"]).items():
        known = np.isfinite(scores)
        courses.setdefault(task, {}).setdefault(method, {})[seed] = (steps[known], scores[known])
    rows, left_out = list[RecoveryRow](), dict[str, int]()
    for task in run.tasks:
        events = task_events(run.by_task[task])
        shown = _shown(events)
        if len(shown) < len(events.steps):
            left_out[task] = len(events.steps) - len(shown)
        own = {method: courses[task][method] for method in run.methods if method in courses.get(task, {})}
        for step in shown:
            rows += _rows(run, task, events, step, own)
    return Recoveries(rows, left_out)


def _shown(events: TaskEvents) -> list[int]:
    resets = [step for step in events.resets if step not in events.changes]
    return sorted({*events.changes, *resets[:MAX_RESETS]})


def _rows(
    run: Run,
    task: str,
    events: TaskEvents,
    step: int,
    courses: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]],
) -> Iterator[RecoveryRow]:
    stretch = stretch_around(run.budget_steps, events, step)
    fates = {
        method: {seed: fate for seed, own in seeds.items() if (fate := recovery(*own, step, stretch)) is not None}
        for method, seeds in courses.items()
    }
    fates = {method: own for method, own in fates.items() if own}
    before = {m: [Runs(np.array([f.before for f in own.values()]), tuple(own))] for m, own in fates.items()}
    is_scored = task in run.scored_tasks
    learned = has_learned(before) if is_scored and before else dict.fromkeys(fates, True)
    for method, own in fates.items():
        back = np.array([fate.recovery_steps for fate in own.values()])
        yield RecoveryRow(
            task=task,
            method=method,
            event_step=step,
            event=events.label(step),
            before=estimate_of([fate.before for fate in own.values()]),
            drop=estimate_of([fate.drop for fate in own.values()]),
            back=median_interval(back) if learned[method] else None,
            num_recovered=int(np.isfinite(back).sum()),
            num_seeds=len(own),
            stretch_steps=min(int(stretch.to_step), *(int(courses[method][seed][0][-1]) for seed in own)) - step,
            has_learned=learned[method],
        )


def stretch_around(budget_steps: int, events: TaskEvents, step: int) -> Stretch:
    """From the event before a step to the one behind it."""
    edges = [0, *events.steps, budget_steps]
    position = edges.index(step, 1)
    return Stretch(edges[position - 1], edges[position + 1], budget_steps * FINAL_FRACTION)
