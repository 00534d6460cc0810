"""Which probe goes with the loss of plasticity: rank correlations over all trials of a run, in a picture and a table.

What a trial has lost is, where an agent that is new at each change was trained as well, how far its last phase is
behind that agent's; else, where the task changes, its first phase's score less its last one's; else how far its final
score is behind the best method's mean. Ranks are made within each task, and tasks weigh the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.special import stdtrit
from scipy.stats import rankdata

from plasticbench.analysis.aggregate import MIN_SEEDS
from plasticbench.analysis.continual import measured
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.panels import Panel, summary
from plasticbench.analysis.plasticity import ProbesAtEnd
from plasticbench.analysis.predictor_plot import predictor_figure
from plasticbench.analysis.probe_facts import facts_of
from plasticbench.analysis.rows import Estimate
from plasticbench.analysis.runs import Run

_FRESH, _PHASES, _SHORT = (
    "how far the last phase is behind that of an agent that was fresh at each change",
    "how much lower the last phase ends than the first",
    "how far the final score is behind the mean of the best method",
)
_LARGEST_Z = math.atanh(0.999)

Losses = Mapping[tuple[str, int], float]
"""Of one task, by method and seed."""


class PredictorRow(NamedTuple):
    """One probe of one network; ``expected`` is the sign that its healthy direction would give."""

    network: str
    probe: str
    title: str
    estimate: Estimate
    expected: str
    num_trials: int


class Predictors(NamedTuple):
    """``meaning`` says what was lost; rows by the size of their correlation."""

    meaning: str
    rows: list[PredictorRow]
    panel: Panel
    num_trials: int
    has_intervals: bool


def predictors(run: Run, table: pd.DataFrame, probes: ProbesAtEnd, found: Sequence[Outcome]) -> Predictors | None:
    """``None`` where no probe varies with three trials at least."""
    meaning, losses = lost(run, table, found)
    rows = [row for name in _names(probes) if (row := _row(name, probes, losses)) is not None]
    rows.sort(key=lambda row: -abs(row.estimate.value or 0.0))
    if not rows:
        return None
    shown = [(f"{row.title}, {row.network}", row.estimate.value or 0.0) for row in rows]
    label = f"Rank correlation of probes with {meaning}: {summary(shown[:10])}"
    several = len({row.network for row in rows}) > 1
    bars = [(f"{row.title}, {row.network}" if several else row.title, row.estimate) for row in rows]
    panel = Panel("Rank correlation with what was lost", "dot: all trials; bar: 95% interval", Markup(
        predictor_figure(bars, key="predictors", label=label)
    ))  # fmt: skip
    has_intervals = any(row.estimate.low is not None for row in rows)
    return Predictors(meaning, rows, panel, max(row.num_trials for row in rows), has_intervals)


def lost(
    run: Run, table: pd.DataFrame, found: Sequence[Outcome]
) -> tuple[str, dict[str, dict[tuple[str, int], float]]]:
    """What was lost, in words, and by task and trial: the first of the three readings that all tasks have."""
    values = measured([run], [table])
    for meaning, measure in ((_FRESH, "lost_to_fresh"), (_PHASES, "lost")):
        losses = {
            task: {
                (method, seed): value
                for method, own in methods.items()
                for seed, value in own.get((measure, None), {}).items()
            }
            for task, methods in values.items()
        }
        if losses and all(losses.values()):
            return meaning, losses
    return _SHORT, {task: _shortfalls([o for o in found if o.task == task and o.is_complete]) for task in run.tasks}


def _shortfalls(own: Sequence[Outcome]) -> dict[tuple[str, int], float]:
    by_method: dict[str, list[float]] = {}
    for outcome in own:
        by_method.setdefault(outcome.method, []).append(outcome.final_score)
    best = max((float(np.mean(scores)) for scores in by_method.values()), default=0.0)
    return {(outcome.method, outcome.seed): best - outcome.final_score for outcome in own}


def _names(probes: ProbesAtEnd) -> list[str]:
    """Of networks that are trained, if every task has them."""
    by_task = list(probes.values.values())
    first = by_task[0] if by_task else {}
    return [name for name in first if "target" not in name and all(name in own for own in by_task)]


def _row(name: str, probes: ProbesAtEnd, losses: Mapping[str, Losses]) -> PredictorRow | None:
    pairs = {
        task: [
            (seed, value, losses.get(task, {})[method, seed])
            for method, runs in own[name].items()
            for value, seed in zip(runs.values.tolist(), runs.seeds, strict=True)
            if (method, seed) in losses.get(task, {})
        ]
        for task, own in probes.values.items()
    }
    network, _, probe = name.partition("/")
    facts = facts_of(probe)
    if (estimate := correlation([np.array(own) for own in pairs.values()])) is None:
        return None
    expected = {1: "below 0", -1: "above 0", 0: "–"}[facts.sign]  # noqa: RUF001
    return PredictorRow(network, probe, facts.title, estimate, expected, sum(map(len, pairs.values())))


def correlation(tasks: Sequence[np.ndarray]) -> Estimate | None:
    """Mean over tasks of Spearman's correlation of ``[trials, (seed, probe, loss)]``, with a 95% interval.

    The interval is Student's t on jackknife pseudo-values of Fisher's z, leaving out a seed with all of its methods at
    a time: trials of one seed are not independent. ``None`` where a task has nothing to compare.
    """
    if (whole := _mean_correlation(tasks)) is None:
        return None
    seeds = sorted({float(seed) for own in tasks for seed in own[:, 0]})
    if min(len(set(own[:, 0])) for own in tasks) < MIN_SEEDS:
        return Estimate(whole)
    left = [_mean_correlation([own[own[:, 0] != seed] for own in tasks]) for seed in seeds]
    if any(each is None for each in left):
        return Estimate(whole)
    z = _fisher(whole)
    pseudo = np.array([len(seeds) * z - (len(seeds) - 1) * _fisher(each or 0.0) for each in left])
    half = stdtrit(len(seeds) - 1, 0.975) * pseudo.std(ddof=1) / math.sqrt(len(seeds))
    return Estimate(whole, math.tanh(z - half), math.tanh(z + half))


def _mean_correlation(tasks: Sequence[np.ndarray]) -> float | None:
    found = []
    for own in tasks:
        if len(own) < 3 or not np.isfinite(own).all() or np.ptp(own[:, 1]) == 0.0 or np.ptp(own[:, 2]) == 0.0:
            return None
        ranks = rankdata(own[:, 1:], axis=0)
        found.append(float(np.corrcoef(ranks.T)[0, 1]))
    return float(np.mean(found)) if found else None


def _fisher(correlation: float) -> float:
    return max(-_LARGEST_Z, min(_LARGEST_Z, math.atanh(max(-0.999999, min(0.999999, correlation)))))
