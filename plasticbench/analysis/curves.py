"""Curves over agent steps: records of one task aligned on steps, their centre, band, and what a reset did to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis import aggregate
from plasticbench.analysis.intervals import iqm_interval

FINAL_FRACTION = 0.1
"""The last part of a stretch whose evaluations are averaged into one score."""
_MAX_POINTS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One method's curve. ``low`` and ``high`` are not-a-number where there are too few seeds for a band."""

    method: str
    steps: np.ndarray  # [points]
    runs: np.ndarray  # [seeds, points], NaN where a seed has no value
    centre: np.ndarray  # [points] IQM; NaN where any seed has no value, so that no survivor speaks for all
    low: np.ndarray  # [points]
    high: np.ndarray  # [points]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What an event did to one run's score."""

    before: float
    drop: float
    recovery_steps: float  # infinite if the score was not reached again


class Stretch(NamedTuple):
    """Around an event: from the event before it to the one behind it, and how much before it counts as before."""

    from_step: float
    to_step: float
    window_steps: float


def align(steps: np.ndarray, seeds: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid ``[points]`` and values ``[seeds, points]``, the last record where two share a step.

    For the eye: more than 200 distinct steps are averaged in 100 bins, each up to and including its grid point. The
    bins divide what lies between 0 and the last step, so that they do not depend on when else something was measured.
    """
    grid, column = np.unique(steps, return_inverse=True)
    rows, row = np.unique(seeds, return_inverse=True)
    if len(grid) > _MAX_POINTS:
        edges = np.linspace(0, grid[-1], _MAX_POINTS // 2 + 1)[1:]
        return edges, _bin_means(row, np.searchsorted(edges, steps), values, (len(rows), len(edges)))
    matrix = np.full((len(rows), len(grid)), np.nan)
    matrix[row, column] = values
    return grid, matrix


def _bin_means(row: np.ndarray, column: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    flat = row * shape[1] + column
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    sums = np.bincount(flat, weights=values, minlength=shape[0] * shape[1])
    means = np.full(counts.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.reshape(shape)


def curve(method: str, steps: np.ndarray, runs: np.ndarray) -> Curve:
    """IQM over seeds at each step, and its pointwise 95% band from ``aggregate.MIN_SEEDS`` seeds on."""
    return _curve(method, steps, [runs], runs)


def _curve(method: str, steps: np.ndarray, tasks: Sequence[np.ndarray], shown: np.ndarray) -> Curve:
    finite = np.logical_and.reduce([np.isfinite(task).all(axis=0) for task in tasks])
    whole = [task[:, finite] for task in tasks]
    centre, low, high = (np.full(len(steps), np.nan) for _ in range(3))
    if finite.any():
        scores = [task.T for task in whole]
        centre[finite] = aggregate.iqm(scores)
        if min(map(len, tasks)) >= aggregate.MIN_SEEDS:
            low[finite], high[finite] = iqm_interval(scores)
    return Curve(method=method, steps=steps, runs=shown, centre=centre, low=low, high=high)


def curves_by_name(table: pd.DataFrame) -> dict[str, list[Curve]]:
    """Curves of every record name in a table of one task, methods in the table's order."""
    curves: dict[str, list[Curve]] = {}
    for name, method, steps, runs in _aligned(table):
        curves.setdefault(name, []).append(curve(method, steps, runs))
    return curves


def curves_over_tasks(table: pd.DataFrame, name: str) -> list[Curve]:
    """Curves of one record name over all tasks: IQM of the pooled runs, one faint line per task (its IQM).

    Tasks whose environments advance by other strides are evaluated at other steps: there, each counts with what its own
    figure shows, the straight line between its evaluations, at the steps of the task that has fewest. A method that
    lacks a task has no curve.
    """
    tasks = [task for _, task in table[table["name"] == name].groupby("task", observed=True)]
    aligned = [{method: (steps, runs) for _, method, steps, runs in _aligned(task)} for task in tasks]
    curves = []
    for method in table["method"].cat.categories:
        if not aligned or any(method not in task for task in aligned):
            continue
        grids = [task[method] for task in aligned]
        steps = _common_steps([grid for grid, _ in grids])
        if len(steps):
            runs = [_at(steps, grid, values) for grid, values in grids]
            shown = np.stack([aggregate.iqm([values.T]) for values in runs])
            curves.append(_curve(method, steps, runs, shown))
    return curves


def _common_steps(grids: Sequence[np.ndarray]) -> np.ndarray:
    """The steps of the shortest grid that lie between the first and the last step of every grid."""
    steps = min(grids, key=len)
    first, last = max(grid[0] for grid in grids), min(grid[-1] for grid in grids)
    shared: np.ndarray = steps[(first <= steps) & (steps <= last)]
    return shared


def _at(steps: np.ndarray, grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Runs ``[seeds, points]`` at ``steps``: their values on the grid itself, straight lines between."""
    if np.array_equal(steps, grid):
        return values
    return np.stack([np.interp(steps, grid, run) for run in values])


def _aligned(table: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    steps, seeds, values = (table[column].to_numpy() for column in ("step", "seed", "value"))
    for (name, method), rows in table.groupby(["name", "method"], observed=True).indices.items():
        yield name, method, *align(steps[rows], seeds[rows], values[rows])


def window_mean(steps: np.ndarray, values: np.ndarray, after_step: float) -> float:
    """Mean of the values after a step (exclusive), NaN if there is none.

    With evenly spaced evaluations it is the area under the curve divided by its length.
    """
    window = values[steps > after_step]
    if not len(window):
        return float("nan")
    mean = float(window.mean())
    if not np.isfinite(mean) and np.isfinite(window).all():  # the sum is more than a float can hold
        mean = float((window / len(window)).sum())
    return mean


def final_value(steps: np.ndarray, values: np.ndarray, end_step: int) -> float:
    """Mean of the values in the last tenth of the steps up to ``end_step``, NaN without a value at ``end_step``."""
    if not np.any(steps == end_step):
        return float("nan")
    upto = steps <= end_step
    return window_mean(steps[upto], values[upto], end_step * (1.0 - FINAL_FRACTION))


def recovery(steps: np.ndarray, values: np.ndarray, event_step: int, stretch: Stretch) -> Recovery | None:
    """Drop of the score after an event, and the steps until it is back; ``None`` without values on both sides.

    The score before is the mean of the evaluations in the ``window_steps`` up to the event, at least the last one. An
    evaluation at the event's own step was made before the event. What other events do is not looked at.
    """
    is_before = (steps <= event_step) & (steps > stretch.from_step)
    is_after = (steps > event_step) & (steps <= stretch.to_step)
    if not (is_before.any() and is_after.any()):
        return None
    near = is_before & (steps > min(event_step - stretch.window_steps, steps[is_before].max() - 1))
    before = float(values[near].mean())
    back = steps[is_after & (values >= before)]
    steps_back = float(back.min() - event_step) if len(back) else float("inf")
    return Recovery(before=before, drop=before - float(values[is_after].min()), recovery_steps=steps_back)
