"""The tables of a suite, from its entries alone: the same of these give the same bytes.

Methods are ranked with the settings that tuning chose; beside each stand its own default settings. Everything that is
called separated is so by the platform's one test (``analysis.claims``). References are shown and never ranked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import compare_methods, is_testable
from plasticbench.analysis.continual import MeasureRow
from plasticbench.analysis.curves import window_mean
from plasticbench.analysis.divergence import Overvalued
from plasticbench.analysis.leaderboard import Leaderboard, complete_scores, rank
from plasticbench.analysis.leaderboard_text import to_json as rows_to_json
from plasticbench.analysis.not_finite import NotFinite
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.power import TaskPower
from plasticbench.analysis.power import to_json as power_to_json
from plasticbench.analysis.rows import ALL, Estimate, Row
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.suites.definition import Suite, Task
from plasticbench.platform.suites.entries import Entries, Entry, curve, score, to_text, trials_of
from plasticbench.platform.suites.measures import measures_and_power

SCHEMA_VERSION = 1
"""Of ``leaderboard.json``."""
CONTROL = "none"
"""The method that others are compared with."""
TUNED, DEFAULT = "tuned", "default"
"""The settings with which methods are reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standings:
    """One table: rows of tuned methods in the order of their ranks, then references; beside them, by method, the rest.

    Where a suite tunes nothing, rows are of the settings that it gives, and there are no ``defaults``.

    ``against_control`` is the mean score minus the control's with its simultaneous interval over all pairs,
    ``ahead_of`` what the same test finds a method ahead of. ``measures`` are of whole runs, ``power`` says what a task
    tells apart, both by setting, and of single tasks alone. ``num_tuning_trials`` came before all of it.
    """

    task: str
    rows: list[Row]
    references: Collection[str]
    defaults: Mapping[str, Row]
    against_control: Mapping[str, Estimate]
    ahead_of: Mapping[str, Sequence[str]]
    chosen: Mapping[str, str]
    measures: Mapping[str, Sequence[MeasureRow]]
    power: Mapping[str, TaskPower]
    num_tuning_trials: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """All tables of a suite, first that over all tasks run so far; ``absent``: methods without an entry, by task."""

    suite: Suite
    tables: list[Standings]
    absent: Mapping[str, list[str]]
    provenance: list[dict[str, Any]]


def make_board(suite: Suite, entries: Entries) -> Board:
    """The tables of what has been run. Raises ``BenchmarkError`` for entries of another suite or version."""
    for entry in entries.values():
        require_of(suite, entry)
    order = {method.name: i for i, method in enumerate(suite.methods)}
    names = sorted(dict.fromkeys(method for _, method in entries), key=lambda name: order.get(name, len(order)))
    known = {
        (task.name, name): entries[task.name, name]
        for task in suite.tasks
        for name in names
        if (task.name, name) in entries
    }
    run = [task for task in suite.tasks if any(key[0] == task.name for key in known)]
    tables = [_table(suite, [task], known) for task in run]
    pooled = [task for task in run if not task.is_overvalued]
    if len(pooled) > 1:
        tables.insert(0, _table(suite, pooled, known))
    absent = {
        task.name: [one.name for one in suite.methods if task.runs(one) and (task.name, one.name) not in known]
        for task in suite.tasks
    }
    return Board(suite=suite, tables=tables, absent=absent, provenance=[_made(entry) for entry in known.values()])


def require_of(suite: Suite, entry: Entry) -> None:
    """Raises ``BenchmarkError`` unless an entry is of this suite and version, and of one of its tasks."""
    if (entry["suite"], entry["suite_version"]) != (suite.name, suite.version):
        raise BenchmarkError(
            f"{entry['method']} on {entry['task']} is of {entry['suite']}-v{entry['suite_version']}, and this is "
            f"{suite.label}: versions of a suite are not mixed. Run it on {suite.label}"
        )
    if entry["task"] not in [task.name for task in suite.tasks]:
        raise BenchmarkError(f"{entry['method']}: {suite.label} has no task {entry['task']!r}")


def _made(entry: Entry) -> dict[str, Any]:
    digest = hashlib.sha256(to_text(entry).encode()).hexdigest()
    made = {name: entry["made"].get(name) for name in ("command", "commit", "versions")}
    return {"task": entry["task"], "method": entry["method"], **made, "entry_sha256": digest}


def _table(suite: Suite, tasks: Sequence[Task], entries: Entries) -> Standings:
    label = tasks[0].name if len(tasks) == 1 else ALL
    own = {key: entry for key, entry in entries.items() if key[0] in {task.name for task in tasks}}
    ranked = {key: entry for key, entry in own.items() if not entry["is_reference"]}
    found = [one for task, entry in _by_task(tasks, own) for one in _outcomes(task, entry, is_tuned=True)]
    untuned = ranked if suite.num_candidates else {}  # where nothing is tuned, these are the rows themselves
    defaults = [one for task, entry in _by_task(tasks, untuned) for one in _outcomes(task, entry, is_tuned=False)]
    beside = {
        setting: measures_and_power(tasks[0], list(own.values()), outcomes, is_tuned=setting == TUNED)
        for setting, outcomes in ((TUNED, found), (DEFAULT, defaults))
        if len(tasks) == 1 and outcomes
    }
    against, ahead = _claims(complete_scores([task.name for task in tasks], found))
    return Standings(
        task=label,
        rows=_rows(label, found),
        references={method for (_, method), entry in own.items() if entry["is_reference"]},
        defaults={row.method: row for row in _rows(label, defaults)},
        against_control=against,
        ahead_of=ahead,
        chosen={method: chosen_text(entry) for (task, method), entry in ranked.items() if label == task},
        measures={setting: measures for setting, (measures, _) in beside.items()},
        power={setting: power for setting, (_, power) in beside.items()},
        num_tuning_trials=sum(
            len(c["trials"]) for e in own.values() for c in (e["tuning"] or {}).get("candidates", ())
        ),
    )


def _by_task(tasks: Sequence[Task], entries: Entries) -> Iterator[tuple[Task, Entry]]:
    by_name = {task.name: task for task in tasks}
    return ((by_name[task], entry) for (task, _), entry in entries.items())


def _rows(label: str, found: Sequence[Outcome]) -> list[Row]:
    return [row for row in rank(found) if row.task == label]


def _claims(scores: Mapping[str, Sequence[Runs]]) -> tuple[dict[str, Estimate], dict[str, list[str]]]:
    """By method, the difference from the control, and those that it is separated from and ahead of."""
    if not is_testable(scores):
        return {}, {}
    names, found = list(scores), compare_methods(scores)
    ahead = {name: [names[i] for i in np.flatnonzero(row)] for name, row in zip(names, found.is_ahead, strict=True)}
    if CONTROL not in scores:
        return {}, ahead
    column = names.index(CONTROL)
    differences = zip(names, found.difference[:, column], found.bound[:, column], strict=True)
    return {n: Estimate(float(d), float(d - b), float(d + b)) for n, d, b in differences if n != CONTROL}, ahead


def _outcomes(task: Task, entry: Entry, *, is_tuned: bool) -> Iterator[Outcome]:
    for trial in trials_of(entry, is_tuned=is_tuned):
        steps, values = curve(trial.get("scores", ()), entry["steps"], task.low, task.high)
        changes = entry["change_steps"]
        mark, broken = trial.get("overvalued"), trial.get("not_finite")
        yield Outcome(
            task=task.name,
            method=entry["method"],
            seed=trial["seed"],
            final_score=score(trial, entry["steps"], task, entry["budget_steps"]),
            final_return=_final_return(trial, entry, task.window),
            after_score=window_mean(steps, values, changes[0]) if changes else math.nan,
            agent=entry["agent"],
            has_value_ratio="overvalued" in trial,
            overvalued=None if mark is None else Overvalued(*mark),
            not_finite=None if broken is None else NotFinite(*broken),
            failure=trial.get("failure", ""),
            is_reference=entry["is_reference"],
        )


def _final_return(trial: Mapping[str, Any], entry: Entry, window: float) -> float:
    steps, returns = curve(trial.get("returns", ()), entry["steps"])
    return window_mean(steps, returns, entry["budget_steps"] * (1.0 - window))


def chosen_text(entry: Entry) -> str:
    """The values that tuning chose: ``strength=0.001``; ``default`` where they are what the method has by itself."""
    if entry["tuned"] is None:
        return "default"
    return str(entry["tuning"]["chosen"]).removeprefix(entry["method"]).strip()


def to_json(board: Board) -> dict[str, Any]:
    """The content of ``leaderboard.json``."""
    suite = board.suite
    first = TUNED if suite.num_candidates else DEFAULT  # where nothing is tuned, rows are of what the suite gives
    labels = {TUNED: first, DEFAULT: DEFAULT}
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": suite.name,
        "suite_version": suite.version,
        "seeds": list(suite.seeds),
        "tuning_seeds": list(suite.tuning_seeds),
        "candidates_per_method": suite.num_candidates,
        "evaluation": {
            task.name: {"window": task.window, "low": task.low, "high": task.high, "overvalued": task.is_overvalued}
            for task in suite.tasks
        },
        "rows": [row for table in board.tables for row in _json_rows(table, labels)],
        "measures": [
            {"setting": labels[setting], **flat}
            for table in board.tables
            for setting, measures in table.measures.items()
            for flat in rows_to_json(Leaderboard([], [], [], {}, measures))["measures"]
        ],
        "power": [
            {"setting": labels[setting], **flat}
            for table in board.tables
            for setting, power in table.power.items()
            for flat in power_to_json([power])
        ],
        "absent": {task: names for task, names in board.absent.items() if names},
        "entries": board.provenance,
    }


def _json_rows(table: Standings, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    groups = {TUNED: table.rows, DEFAULT: list(table.defaults.values())}
    for setting, rows in groups.items():
        for flat in rows_to_json(Leaderboard(rows, [], [], {}))["rows"]:
            against = table.against_control.get(flat["method"], Estimate()) if setting == TUNED else Estimate()
            yield {
                "setting": "reference" if flat["method"] in table.references else labels[setting],
                **flat,
                "against_none": against.value,
                "against_none_low": against.low,
                "against_none_high": against.high,
                "ahead_of": list(table.ahead_of.get(flat["method"], ())) if setting == TUNED else None,
                "chosen": table.chosen.get(flat["method"]) if setting == TUNED else None,
            }


def page_rows(board: Board) -> list[Row]:
    """All rows for a page that knows tasks alone: those with default settings as tasks of their own."""
    rows: list[Row] = []
    for table in board.tables:
        rows += table.rows
        title = "all tasks" if table.task == ALL else table.task
        rows += [replace(row, task=f"{title}, default settings") for row in table.defaults.values()]
    return rows
