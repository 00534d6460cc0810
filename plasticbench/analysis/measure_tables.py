"""Measures of whole runs as tables: methods by measures, and methods by phases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from plasticbench.analysis.continual import MEASURES, MeasureRow
from plasticbench.analysis.rows import Estimate

_TITLES = {
    "area": "Mean over the run ↑",
    "lost": "Lost from first to last phase ↓",
    "lost_to_fresh": "Behind a fresh agent ↓",
    "forgetting": "Forgetting ↓",
    "forward_transfer": "Forward transfer ↑",
    "drop": "Drop ↓",
    "stability_gap": "Stability gap ↓",
    "final": "Final score ↑",
    "final_over_reset_periods": "Final, over reset periods ↑",
}
_PHASE = "phase_score"
_MAX_PHASES = 12


class Head(NamedTuple):
    """A column: of a measure, or of one phase."""

    key: tuple[str, int | None]
    title: str
    words: str


class MeasureTable(NamedTuple):
    """One task's; ``cells`` by method and key."""

    title: str
    heads: list[Head]
    methods: list[str]
    cells: Mapping[tuple[str, tuple[str, int | None]], Estimate]


class FactTable(NamedTuple):
    """A row for each fact: its name, then a text for each of ``heads``."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def heads_of(rows: Sequence[MeasureRow]) -> list[Head]:
    """The measures that some rows have, those of single phases left out."""
    present = {row.measure for row in rows}
    return [Head((name, None), title, MEASURES[name]) for name, title in _TITLES.items() if name in present]


def measure_tables(
    rows: Sequence[MeasureRow], methods: Sequence[str], without_phases: Collection[str] = ()
) -> list[MeasureTable]:
    """A table of measures for each task, and one of its phases where it has several, the last of many.

    ``without_phases``: tasks whose phases are shown elsewhere.
    """
    tables = []
    tasks = list(dict.fromkeys(row.task for row in rows))
    for task in tasks:
        own = [row for row in rows if row.task == task]
        cells = {(row.method, (row.measure, row.phase)): row.estimate for row in own}
        present = [method for method in methods if any(row.method == method for row in own)]
        tables.append(MeasureTable(task, heads_of(own), present, cells))
        phases = sorted({row.phase for row in own if row.measure == _PHASE and row.phase is not None})
        if phases and task not in without_phases:
            shown = phases if len(phases) <= _MAX_PHASES else [phases[0], *phases[1 - _MAX_PHASES :]]
            heads = [Head((_PHASE, phase), f"Phase {phase}", MEASURES[_PHASE]) for phase in shown]
            tables.append(MeasureTable(f"{task}: score at the end of each phase", heads, present, cells))
    return tables
