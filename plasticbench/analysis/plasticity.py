"""How plastic the networks are at the end of training: each method's probes, with intervals, beside the control's.

A trial's value is the mean of its probe in the last tenth of the budget. On one task values are compared as they are.
Over all tasks shares are pooled, and other quantities, which depend on a task's network, are taken relative to the
control's on the same task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import compare_methods, is_testable
from plasticbench.analysis.curves import FINAL_FRACTION
from plasticbench.analysis.intervals import iqm_interval
from plasticbench.analysis.not_finite import for_figures
from plasticbench.analysis.probe_facts import facts_of, order
from plasticbench.analysis.rows import ALL, Estimate
from plasticbench.analysis.runs import Run

PREFIX = "plasticity/"
PROBE_PATTERN = r'plasticity/[^/"]+/[^/"]+'
"""Names of the records of whole networks."""
Values = Mapping[str, Sequence[Runs]]
"""Of one probe: runs per task by method."""


class ProbeRow(NamedTuple):
    """One probe of one network at the end, of one method on a task or on all of them.

    ``is_relative``: a multiple of the control's. ``against_control`` is 1 where the test finds it better than the
    control, -1 where worse, 0 where neither is certain; ``None`` where there is nothing to compare it by, and of a
    method that ``is_reference``.
    """

    task: str
    method: str
    network: str
    probe: str
    estimate: Estimate
    num_trials: int
    is_relative: bool = False
    against_control: int | None = None
    is_reference: bool = False


class Roles(NamedTuple):
    """The method that others are compared with, and those that nobody is."""

    control: str | None = None
    references: frozenset[str] = frozenset()


class ProbesAtEnd(NamedTuple):
    """All rows, and the values of single trials ``[task][network/probe][method]`` that they come from."""

    rows: list[ProbeRow]
    values: Mapping[str, Mapping[str, Mapping[str, Runs]]]


def probes_at_end(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> ProbesAtEnd:
    """The probes of all runs that are compared; none of trials that did not come to the end."""
    values: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for run, table in zip(runs, tables, strict=True):
        for (task, name, method, seed), value in _final_means(for_figures(table), run.budget_steps).items():
            if np.isfinite(value):
                own = values.setdefault(task, {}).setdefault(name.removeprefix(PREFIX), {}).setdefault(method, {})
                own[seed] = float(value)
    tasks = [task for task in dict.fromkeys(task for run in runs for task in run.tasks) if task in values]
    found = {
        task: {name: {m: _runs(own) for m, own in methods.items()} for name, methods in values[task].items()}
        for task in tasks
    }
    trials = [trial for run in runs for trial in run.trials]
    control = next((trial.method for trial in trials if trial.is_control), None)
    roles = Roles(control, frozenset(trial.method for trial in trials if trial.is_reference))
    rows: list[ProbeRow] = []
    for task in tasks:
        for name, methods in found[task].items():
            rows += map(_within_range, _rows(task, name, {m: [own] for m, own in methods.items()}, roles))
    return ProbesAtEnd((_over_tasks(found, roles) if len(tasks) > 1 else []) + rows, found)


def networks_of(rows: Sequence[ProbeRow]) -> list[str]:
    """Networks that are trained first, their targets last."""
    networks = {row.network for row in rows}
    return sorted(networks, key=lambda network: ("target" in network, network != "online", network))


def _runs(by_seed: Mapping[int, float]) -> Runs:
    seeds = tuple(sorted(by_seed))
    return Runs(np.array([by_seed[seed] for seed in seeds]), seeds)


def _final_means(table: pd.DataFrame, budget_steps: int) -> Mapping[tuple[str, str, str, int], float]:
    names = [name for name in table["name"].cat.categories if name.startswith(PREFIX) and name.count("/") == 2]
    end = budget_steps * (1.0 - FINAL_FRACTION)
    last = table.groupby(["task", "method", "seed"], observed=True, sort=False)["step"].transform("max")
    ended = table[(last > end) & table["name"].isin(names)]
    late = ended[ended["step"] > end]
    if not len(late) and len(ended):  # probes that are rarer than that
        late = ended[ended["step"] == ended["step"].max()]
    grouped = late.groupby(["task", "name", "method", "seed"], observed=True, sort=False)["value"]
    return dict(grouped.mean().items())  # a value that is not a number says nothing, and is left out


def _over_tasks(found: Mapping[str, Mapping[str, Mapping[str, Runs]]], roles: Roles) -> list[ProbeRow]:
    rows: list[ProbeRow] = []
    names = [name for name in next(iter(found.values())) if all(name in own for own in found.values())]
    for name in names:
        per_task = [own[name] for own in found.values()]
        methods = [method for method in per_task[0] if all(method in own for own in per_task)]
        if facts_of(name.partition("/")[2]).is_share:
            pooled = _rows(ALL, name, {m: [own[m] for own in per_task] for m in methods}, roles)
            rows += map(_within_range, pooled)
        elif roles.control in methods:
            ranked = [method for method in methods if method not in roles.references]
            rows += _relative_rows(name, {m: [own[m] for own in per_task] for m in ranked}, roles)
    return rows


def _relative_rows(name: str, values: Values, roles: Roles) -> list[ProbeRow]:
    """As multiples of the control's geometric mean on the same task; nothing where a value is not above 0."""
    if not all((runs.values > 0.0).all() for own in values.values() for runs in own):
        return []
    assert roles.control is not None
    base = [np.log(runs.values).mean() for runs in values[roles.control]]
    logs = {
        method: [Runs(np.log(runs.values) - level, runs.seeds) for runs, level in zip(own, base, strict=True)]
        for method, own in values.items()
    }
    return [
        row._replace(estimate=_exponential(row.estimate), is_relative=True) for row in _rows(ALL, name, logs, roles)
    ]


def _exponential(estimate: Estimate) -> Estimate:
    with np.errstate(over="ignore"):
        ends = [None if end is None else float(np.exp(end)) for end in (estimate.value, estimate.low, estimate.high)]
    return Estimate(*(end if end is None or np.isfinite(end) else None for end in ends))


def _rows(task: str, name: str, values: Values, roles: Roles) -> list[ProbeRow]:
    network, _, probe = name.partition("/")
    ranked = {method: own for method, own in values.items() if method not in roles.references}
    against = _against_control(ranked, roles.control, facts_of(probe).sign)
    return [
        ProbeRow(
            task=task,
            method=method,
            network=network,
            probe=probe,
            estimate=_estimate(own),
            num_trials=sum(len(runs.seeds) for runs in own),
            against_control=against.get(method),
            is_reference=method in roles.references,
        )
        for method, own in values.items()
    ]


def _within_range(row: ProbeRow) -> ProbeRow:
    """An interval covers no less without what its quantity cannot be: a share of units below 0, say."""
    value, low, high = row.estimate.value, row.estimate.low, row.estimate.high
    if low is None or high is None:
        return row
    facts = facts_of(row.probe)
    return row._replace(estimate=Estimate(value, max(low, facts.low), min(high, facts.high)))


def _against_control(values: Values, control: str | None, sign: int) -> dict[str, int]:
    if control is None or control not in values or sign == 0 or not is_testable(values):
        return {}
    methods = list(values)
    ahead = compare_methods(values).is_ahead
    at = methods.index(control)
    return {m: sign * (int(ahead[i, at]) - int(ahead[at, i])) for i, m in enumerate(methods) if m != control}


def _estimate(own: Sequence[Runs]) -> Estimate:
    scores = [runs.values for runs in own]
    centre = float(aggregate.iqm(scores))
    if not np.isfinite(centre) or not aggregate.has_interval(own):
        return Estimate(centre if np.isfinite(centre) else None)
    low, high = iqm_interval(scores)
    return Estimate(centre, float(low), float(high))


def ordered_probes(rows: Sequence[ProbeRow]) -> list[str]:
    """The probes of some rows, those with a direction first."""
    return sorted({row.probe for row in rows}, key=order)
