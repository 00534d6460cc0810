"""Which steps the figures of a task mark: a line for each event, and a rug for what comes too often for lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plasticbench.analysis.annotations import Marks
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.drawing import MUTED
from plasticbench.analysis.events import TaskEvents, own_resets, task_events
from plasticbench.analysis.runs import Trial

MAX_LINES = 8
"""Events of which each has a line."""
_MAX_RUGS = 8  # methods with resets of their own


def marks(trials: Sequence[Trial], styles: Mapping[str, MethodStyle]) -> Marks:
    """Of the trials of one task: its events, and in each method's colour what that method does by itself."""
    events = task_events(trials)
    lines, common = _lines(events)
    own = {method: list(steps) for method, steps in own_resets(trials).items() if set(steps) - set(events.steps)}
    rugs = {MUTED: common} if common else {}
    rugs |= {styles[method].colour: steps for method, steps in list(own.items())[:_MAX_RUGS]}
    return Marks(lines=lines, rugs=rugs, note=_note(common, own))


def marks_over_tasks(tasks: Sequence[Sequence[Trial]]) -> Marks:
    """The events that all tasks have in common."""
    found = [task_events(trials) for trials in tasks]
    changes = set.intersection(*(set(events.changes) for events in found))
    resets = set.intersection(*(set(events.resets) for events in found))
    lines, common = _lines(TaskEvents(tuple(sorted(changes)), tuple(sorted(resets))))
    return Marks(lines=lines, rugs={MUTED: common} if common else {}, note=_note(common, {}))


def _lines(events: TaskEvents) -> tuple[list[tuple[int, str]], list[int]]:
    """Events with a line each, and resets that are too many for that."""
    if len(events.steps) <= MAX_LINES:
        return [(step, events.label(step)) for step in events.steps], []
    if len(events.changes) <= MAX_LINES:
        return [(step, "change") for step in events.changes], list(events.resets)
    return [], list(events.steps)


def _note(common: Sequence[int], own: Mapping[str, Sequence[int]]) -> str:
    if common:
        return f"reset {_period(common)}"
    if len(own) == 1:
        ((method, steps),) = own.items()
        return f"ticks: {method} resets {_period(steps)}" if len(steps) > 1 else f"tick: {method} resets"
    return "ticks: single methods reset" if own else ""


def _period(steps: Sequence[int]) -> str:
    """``every 2,000 steps``, or how often where the steps have no period."""
    gaps = set(np.diff(steps).tolist())
    return f"every {gaps.pop():,} steps" if len(gaps) == 1 else f"{len(steps)} times"
