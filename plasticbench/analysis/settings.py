"""Settings of a run sorted by what they depend on, so that a reader sees at once in what the methods differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plasticbench.analysis.runs import Run

ABSENT = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One value; it stands out where most of its row says something else."""

    text: str
    stands_out: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsTables:
    """Dotted keys with one value for all trials, one cell per method, or one cell per task."""

    shared: list[tuple[str, str]] = field(default_factory=list)
    by_method: list[tuple[str, list[Cell]]] = field(default_factory=list)
    by_task: list[tuple[str, list[Cell]]] = field(default_factory=list)


def settings_tables(run: Run) -> SettingsTables:
    """Sorts every setting but the seed; one that depends on task and method stands with the methods."""
    trials = {(trial.task, trial.method): dict(flatten(trial.settings)) for trial in run.trials}
    tables = SettingsTables()
    for key in dict.fromkeys(key for settings in trials.values() for key in settings if key != "seed"):
        values = {cell: settings.get(key, ABSENT) for cell, settings in trials.items()}
        per_method = [_by_task(values, run.tasks, method) for method in run.methods]
        per_task = [{values[task, m] for m in run.methods if (task, m) in values} for task in run.tasks]
        if len(set(values.values())) == 1:
            tables.shared.append((key, next(iter(values.values()))))
        elif all(len(seen) == 1 for seen in per_task):
            tables.by_task.append((key, _cells([next(iter(seen)) for seen in per_task])))
        else:
            tables.by_method.append((key, _cells(per_method)))
    return tables


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys with values as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if value is None or value == {}:
        return ABSENT
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _by_task(values: Mapping[tuple[str, str], str], tasks: Sequence[str], method: str) -> str:
    own = {task: values[task, method] for task in tasks if (task, method) in values}
    if len(set(own.values())) == 1:
        return next(iter(own.values()))
    return "; ".join(f"{task}: {value}" for task, value in own.items())


def _cells(texts: Sequence[str]) -> list[Cell]:
    common, count = Counter(texts).most_common(1)[0]
    usual = common if count > 1 else None
    return [Cell(text=text, stands_out=text not in (usual, ABSENT)) for text in texts]
