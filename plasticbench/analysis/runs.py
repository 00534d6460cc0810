"""A run directory as data: ``plan.json`` and ``records/<trial id>.jsonl``, and nothing else."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from plasticbench import storage
from plasticbench.analysis._scan import Columns, scan
from plasticbench.records import read_bytes, read_records
from plasticbench.storage import Location

FRESH = "oracle"
"""The treatment whose agent is new at each change: what others transfer, or have lost, is measured against it."""
REFERENCES = frozenset({FRESH, "frozen"})
"""Treatments whose methods say what could be reached; nobody is better or worse than they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One planned trial; ``settings`` is nested and resolved, steps are agent steps."""

    id: str
    task: str
    method: str
    seed: int
    reset_steps: tuple[int, ...]
    change_steps: tuple[int, ...]
    score_source: str
    settings: Mapping[str, Any]
    fork_step: int | None = None
    has_references: bool = True  # without any, its scores are raw returns

    @property
    def events(self) -> tuple[int, ...]:
        """The steps from which on methods are told apart: where they fork, and not each of a treatment's own events."""
        return self.reset_steps if self.fork_step is None else (self.fork_step,)

    @property
    def agent(self) -> str:
        """What trained it: the agent's kind, with the algorithm where a kind offers several, as in ``rllib DQN``."""
        agent = self.settings.get("agent", {})
        return " ".join(str(agent[name]) for name in ("kind", "algorithm") if name in agent)

    @property
    def is_external(self) -> bool:
        """Whether a training loop outside the platform recorded it: its environment is known to that loop alone."""
        return str(self.settings.get("agent", {}).get("kind")) == "external"

    @property
    def is_control(self) -> bool:
        """Whether the method leaves the networks alone."""
        return str(self.settings.get("method", {}).get("kind")) == "none"

    @property
    def is_reference(self) -> bool:
        """Whether the method says what could be reached and is never ranked: it knows when the task changes."""
        return not REFERENCES.isdisjoint(self.parts)

    @property
    def is_fresh(self) -> bool:
        """Whether its agent is new at each change of the task."""
        return FRESH in self.parts

    @property
    def parts(self) -> list[str]:
        """The kinds of the method's parts."""
        return str(self.settings.get("method", {}).get("kind")).split(" + ")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run directory says it holds."""

    path: Location
    name: str
    description: str
    version: str
    budget_steps: int
    versions: Mapping[str, str]
    trials: tuple[Trial, ...]
    left_out: tuple[Trial, ...] = ()  # which its file no longer names; their records stay
    clock: str = "agent steps"

    @property
    def unit(self) -> str:
        """What its clock counts, in a word: steps or updates."""
        return self.clock.removeprefix("agent ")

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks in the plan's order."""
        return list(dict.fromkeys(trial.task for trial in self.trials))

    @cached_property
    def scored_tasks(self) -> list[str]:
        """Tasks with reference returns: scores of others are raw returns, which tasks do not share."""
        return list(dict.fromkeys(trial.task for trial in self.trials if trial.has_references))

    def score_source(self, task: str) -> str:
        """Where 0 and 1 lie on the scale of a task's scores."""
        return next(trial.score_source for trial in self.trials if trial.task == task)

    @cached_property
    def methods(self) -> list[str]:
        """Methods in the plan's order."""
        return list(dict.fromkeys(trial.method for trial in self.trials))

    @property
    def controls(self) -> set[str]:
        """Methods that leave the networks alone."""
        return {trial.method for trial in self.trials if trial.is_control}

    @cached_property
    def by_task(self) -> dict[str, list[Trial]]:
        """The trials of each task, in the plan's order."""
        trials: dict[str, list[Trial]] = {}
        for trial in self.trials:
            trials.setdefault(trial.task, []).append(trial)
        return trials


def load_run(path: Location) -> Run:
    """Reads ``plan.json``. Raises ``ValueError`` that names the file for anything else than a plan."""
    plan_file = path / "plan.json"
    try:
        text = storage.read(plan_file)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{plan_file}: there is no such file, so {path} is not a run directory") from None
    try:
        plan = json.loads(text)
        return Run(
            path=path,
            name=plan["name"],
            description=plan.get("description") or "",
            version=plan["version"],
            budget_steps=int(plan["budget_steps"]),
            versions=plan.get("versions", {}),
            trials=tuple(_trial(fields) for fields in plan["trials"]),
            left_out=tuple(_trial(fields) for fields in plan.get("left_out_trials", ())),
            clock=plan.get("clock", "agent steps"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{plan_file}: this is not a plan: {error!r}") from error


def _trial(fields: Mapping[str, Any]) -> Trial:
    return Trial(
        id=fields["id"],
        task=fields["task"],
        method=fields["method"],
        seed=int(fields["seed"]),
        reset_steps=tuple(fields["reset_steps"]),
        change_steps=tuple(fields["change_steps"]),
        score_source=fields["score_source"],
        settings=fields["settings"],
        fork_step=fields.get("fork_step"),
        has_references=fields.get("has_references", True),
    )


def read_table(run: Run, names: str = '[^"]*') -> pd.DataFrame:
    """Records of all trials whose whole name matches the regular expression ``names`` (see ``scan``).

    Columns ``task, method, name`` (categorical), ``seed, step, value``. A trial without a file has no rows: whoever
    counts trials takes them from the run, never from this table.
    """
    codes: defaultdict[bytes, int] = defaultdict(lambda: len(codes))
    steps, keys, values = [], [], []
    for trial in run.trials:
        found = _columns(run.path / "records" / f"{trial.id}.jsonl", names)
        steps.append(np.asarray(found.steps, dtype=np.int64))
        keys.append(np.asarray(list(map(codes.__getitem__, found.names)), dtype=np.int32))
        values.append(np.asarray(found.values, dtype=np.float64))
    rows = [len(step) for step in steps]
    return pd.DataFrame(
        {
            "task": _repeat([trial.task for trial in run.trials], run.tasks, rows),
            "method": _repeat([trial.method for trial in run.trials], run.methods, rows),
            "seed": np.repeat(np.asarray([trial.seed for trial in run.trials], dtype=np.int64), rows),
            "name": pd.Categorical.from_codes(_join(keys, np.int32), [name.decode() for name in codes]),
            "step": _join(steps, np.int64),
            "value": _join(values, np.float64),
        }
    )


def _columns(path: Location, names: str) -> Columns:
    """The one place where records are read: everything that a report needs comes from a single pass."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return Columns([], [], [])
    if (columns := scan(data, names)) is not None:
        return columns
    records = [record for record in read_records(path) if re.fullmatch(names, record.name)]  # names a bad line
    return Columns([r.step for r in records], [r.name.encode() for r in records], [r.value for r in records])


def _repeat(labels: Sequence[str], categories: Sequence[str], rows: Sequence[int]) -> pd.Categorical:
    position = {label: code for code, label in enumerate(categories)}
    return pd.Categorical.from_codes(np.repeat([position[label] for label in labels], rows), list(categories))


def _join(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
