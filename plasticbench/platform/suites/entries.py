"""Published records: one small JSON file per task and method, from which all tables of a suite are rebuilt.

An entry holds the method as its suite has it, the score of every tuning trial, every evaluation of the reporting
trials, and what made them. Numbers have six digits: what is computed from an entry is computed from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plasticbench import storage
from plasticbench.analysis.aggregate import iqm
from plasticbench.analysis.curves import window_mean
from plasticbench.analysis.not_finite import counted
from plasticbench.analysis.outcomes import RECORD_PATTERN, outcome_rows, outcomes, references, series
from plasticbench.analysis.provenance import provenance
from plasticbench.analysis.runs import Run, load_run, read_table
from plasticbench.platform.suites.definition import Suite, SuiteMethod, Task
from plasticbench.platform.suites.grid import Candidate
from plasticbench.storage import Location

SCHEMA_VERSION = 1
"""Of an entry; raised when a name of it goes or begins to mean something else."""
Entry = Mapping[str, Any]
Entries = Mapping[tuple[str, str], Entry]
"""By task and method."""
_ORIGIN = ("command", "commit")
_MADE = ("versions", "machines", "first_record", "last_record", "wall_s", "num_trials")


class TrainedRun:
    """One run of a suite on disk: its trials by method, as entries keep them."""

    def __init__(self, path: Location) -> None:
        run = load_run(path)
        table = read_table(run, RECORD_PATTERN)
        self.budget_steps, self.clock = run.budget_steps, run.clock
        self.change_steps = list(run.trials[0].change_steps)
        self.steps = sorted({int(step) for step in table.loc[table["name"] == "eval/score", "step"]})
        self.agents = {trial.method: trial.agent for trial in run.trials}
        self.trials = _trials(run, table)
        self._run, self._table = run, table

    def made(self, methods: Collection[str]) -> dict[str, Any]:
        """What the trials of some methods were trained with, on and when; nothing of others in the same run."""
        own = replace(self._run, trials=tuple(one for one in self._run.trials if one.method in methods))
        table = self._table[self._table["method"].isin(methods)]
        found = provenance([own], [table])["runs"][0]
        return {name: found[name] for name in _MADE}


def _trials(run: Run, table: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    curves = series(counted([table], references([run]))[0])
    for trial, outcome in zip(run.trials, outcomes([run], [outcome_rows(table)]), strict=True):
        key = trial.task, trial.method, trial.seed
        own: dict[str, Any] = {"seed": trial.seed, "id": trial.id}
        for name, label in (("eval/score", "scores"), ("eval/return", "returns")):
            _, values = curves.get((*key, name), (np.empty(0), np.empty(0)))
            if len(values):
                own[label] = [_short(value) for value in values]
        if outcome.has_value_ratio:
            own["overvalued"] = None if outcome.overvalued is None else list(outcome.overvalued)
        if outcome.not_finite is not None:
            own["not_finite"] = list(outcome.not_finite)
        if outcome.failure:
            own["failure"] = outcome.failure
        found.setdefault(trial.method, []).append(own)
    return found


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def score(trial: Mapping[str, Any], steps: Sequence[int], task: Task, budget_steps: int) -> float:
    """The score of a reporting trial on the scale of its suite; NaN without the evaluation at the end."""
    known, values = curve(trial["scores"] if "scores" in trial else (), steps, task.low, task.high)
    if not len(known) or known[-1] != budget_steps:
        return float("nan")
    return window_mean(known, values, budget_steps * (1.0 - task.window))


def trials_of(entry: Entry, *, is_tuned: bool) -> Sequence[Mapping[str, Any]]:
    """Its reporting trials with the settings that were chosen, or with the default ones where these are the same."""
    group = entry["tuned"] if is_tuned and entry["tuned"] is not None else entry["default"]
    return list(group["trials"])


def curve(
    values: Sequence[float], steps: Sequence[int], low: float = 0.0, high: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values ``[n]`` of the first n evaluations, on the scale from ``low`` to ``high``."""
    scaled = (np.array(values, dtype=np.float64) - low) / (high - low)
    return np.array(steps[: len(values)], dtype=np.int64), scaled


def tuned(method: SuiteMethod, run: TrainedRun, task: Task) -> dict[str, Any]:
    """What an entry says of tuning: each candidate with its seeds' scores and their IQM, and which is the best."""
    found = []
    for one in method.candidates:
        trials = [
            {
                "seed": trial["seed"],
                "id": trial["id"],
                "score": _number(score(trial, run.steps, task, run.budget_steps)),
            }
            for trial in run.trials.get(one.name, ())
        ]
        found.append({"name": one.name, "values": dict(one.values), "iqm": iqm_of(trials), "trials": trials})
    made = run.made([one.name for one in method.candidates])
    return {"candidates": found, "chosen": best(found), "budget_steps": run.budget_steps, "made": made}


def _number(value: float) -> float | None:
    return _short(value) if np.isfinite(value) else None


def iqm_of(trials: Sequence[Mapping[str, Any]]) -> float | None:
    """The IQM of one candidate; ``None`` if it has a trial without an end, which may be a bad one."""
    values = [trial["score"] for trial in trials]
    return None if not values or None in values else _short(float(iqm([np.array(values)])))


def best(found: Sequence[Mapping[str, Any]]) -> str | None:
    """The name of the candidate with the highest IQM, of equals the first; ``None`` where none is complete."""
    whole = [one for one in found if one["iqm"] is not None]
    return str(max(whole, key=lambda one: one["iqm"])["name"]) if whole else None


def entry(
    suite: Suite,
    task: Task,
    method: SuiteMethod,
    tuning: Mapping[str, Any] | None,
    chosen: Candidate | None,
    run: TrainedRun,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The entry of a method on a task; ``chosen`` is a candidate that differs from the default settings, if any."""
    default = run.trials.get(method.name, [])
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": suite.name,
        "suite_version": suite.version,
        "task": task.name,
        "method": method.name,
        "agent": run.agents.get(method.name, ""),
        "definition": method.data,
        "is_reference": method.is_reference,
        "clock": run.clock,
        "budget_steps": run.budget_steps,
        "change_steps": run.change_steps,
        "steps": run.steps,
        "default": {"trials": default},
        "tuned": None if chosen is None else {"trials": run.trials.get(chosen.name, [])},
        "tuning": tuning,
        "made": {**origin, **run.made([method.name, *([] if chosen is None else [chosen.name])])},
    }


def is_same(one: Entry, other: Entry | None) -> bool:
    """Whether two entries are of the same trials, whoever read them from their run and when."""
    return other is not None and _without_origin(one) == _without_origin(other)


def _without_origin(entry: Entry) -> dict[str, Any]:
    made = {name: value for name, value in entry["made"].items() if name not in _ORIGIN}
    return {**entry, "made": made}


def is_whole(entry: Entry, suite: Suite) -> bool:
    """Whether every reporting trial of an entry has its end."""
    task, groups = suite.task(entry["task"]), [entry["default"], entry["tuned"]]
    wanted = len(suite.seeds)
    return all(
        sum(bool(np.isfinite(score(trial, entry["steps"], task, entry["budget_steps"]))) for trial in group["trials"])
        == wanted
        for group in groups
        if group is not None
    )


def to_text(entry: Entry) -> str:
    """An entry as its file holds it; lists of numbers, which are most of it, on one line."""
    text = json.dumps(entry, indent=1, allow_nan=False)
    return re.sub(r"\[[\s\d.,e+-]*\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


def read_entries(folder: Location) -> dict[tuple[str, str], Entry]:
    """All entries below a folder, in the order of their names. Raises ``ValueError`` that names the file."""
    found: dict[tuple[str, str], Entry] = {}
    for name in sorted(path for path in storage.tree(folder) if path.endswith(".json") and "/" in path):
        own = read_entry(folder / name)
        found[own["task"], own["method"]] = own
    return found


def read_entry(path: Location) -> Entry:
    """One entry. Raises ``ValueError`` that names the file for anything else."""
    try:
        data = json.loads(storage.read(path))
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {data['schema_version']} is not {SCHEMA_VERSION}")
        assert data["task"], data["method"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: this is no entry of a suite: {error!r}") from error
    return dict(data)


def entry_file(folder: Path, task: str, method: str) -> Path:
    """Where an entry lies."""
    from plasticbench.platform.definition.names import slug

    return folder / task / f"{slug(method)}.json"
