"""What the first reset or change of each task did to the methods' scores: the report's table of drop and recovery."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis.curves import FINAL_FRACTION, Recovery, recovery
from plasticbench.analysis.outcomes import series
from plasticbench.analysis.runs import Run


class RecoveryRow(NamedTuple):
    """What the first reset or change did to one method: medians over seeds, and how many seeds came back."""

    task: str
    method: str
    event_step: int
    before: float
    drop: float
    recovery_steps: float | None
    num_recovered: int
    num_seeds: int


def recoveries(run: Run, table: pd.DataFrame) -> list[RecoveryRow]:
    """Drop and recovery around the first reset or change of each task, from the evaluations as they were recorded.

    A curve that a figure shows averages neighbouring evaluations, and with them what lies before and behind an event.
    """
    window_steps = run.budget_steps * FINAL_FRACTION
    fates: dict[tuple[str, str], list[Recovery]] = {}
    for (task, method, *_), (steps, scores) in series(table[table["name"] == "eval/score"]).items():
        event_step, known = run.first_event(task), np.isfinite(scores)
        if event_step is None:
            continue
        if (fate := recovery(steps[known], scores[known], event_step, window_steps)) is not None:
            fates.setdefault((task, method), []).append(fate)
    ordered = [(task, method) for task in run.tasks for method in run.methods if (task, method) in fates]
    return [_row(task, method, run.first_event(task) or 0, fates[task, method]) for task, method in ordered]


def _row(task: str, method: str, event_step: int, fates: list[Recovery]) -> RecoveryRow:
    back = float(np.median([fate.recovery_steps for fate in fates]))
    return RecoveryRow(
        task=task,
        method=method,
        event_step=event_step,
        before=float(np.median([fate.before for fate in fates])),
        drop=float(np.median([fate.drop for fate in fates])),
        recovery_steps=back if np.isfinite(back) else None,
        num_recovered=sum(np.isfinite(fate.recovery_steps) for fate in fates),
        num_seeds=len(fates),
    )
