"""Ranks methods from the records of one or more runs.

The final score of a trial is the mean of its evaluations in the last tenth of the budget, and the evaluation at the
very end must be there. Methods stand in the order of the IQM of the final scores (equal IQMs share a rank). The order
alone is no finding: ``rank_best`` and ``rank_worst`` bound it by those pairwise differences whose 95% paired bootstrap
interval excludes zero. A method that lacks a trial's final evaluation, or a task, is listed without a rank, because
the runs that are missing may be the bad ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.outcomes import RECORD_NAMES, Outcome, after_score, outcomes, scores_by_task
from plasticbench.analysis.provenance import provenance
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.storage import Location

ALL = "all"
"""The row's task when all tasks are taken together."""
BOOTSTRAP_SEED = 20210831
_COLUMNS = (
    "rank",
    "method",
    "agent",
    "IQM [95% interval]",
    "after the reset",
    "mean",
    "median",
    "optimality gap",
    "return",
    "seeds",
    "diverged",
)
SCHEMA_VERSION = 1
"""Of what ``to_json`` gives; raised when a name of it goes or begins to mean something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where one method stands among the ranked ones; ``behind`` is the leader's IQM minus its own, paired by seed."""

    iqm: float
    low: float | None = None
    high: float | None = None
    rank: int
    rank_best: int | None = None
    rank_worst: int | None = None
    behind: float
    behind_low: float | None = None
    behind_high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method on one task, or on all. ``None`` where there is no such number; ``note`` says why.

    ``agent`` says what trained it, so that methods of different backends can stand in one table. ``diverged_trials``
    are those marked ``overvalued``; ``None`` where no trial recorded how large its values are.
    """

    task: str
    method: str
    agent: str = ""
    n_seeds: int
    n_incomplete: int
    n_trials: int = 0
    diverged_trials: int | None = None
    iqm: float | None = None
    iqm_low: float | None = None
    iqm_high: float | None = None
    mean: float | None = None
    median: float | None = None
    optimality_gap: float | None = None
    mean_return: float | None = None
    rank: int | None = None
    rank_best: int | None = None
    rank_worst: int | None = None
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    after_reset_iqm: float | None = None
    after_reset_low: float | None = None
    after_reset_high: float | None = None
    after_reset_rank: int | None = None
    after_reset_behind: float | None = None
    after_reset_behind_low: float | None = None
    after_reset_behind_high: float | None = None
    note: str = ""


class Leaderboard(NamedTuple):
    """Rows of all tasks together and of each task, in the order of their ranks, and what they were made of."""

    rows: list[Row]
    provenance: dict[str, Any]


def leaderboard(run_dirs: Iterable[Location]) -> Leaderboard:
    """Ranks the methods of one or more runs; rows without a rank come last.

    Raises ``ValueError`` if the runs cannot be compared: other budgets, environments, changes or evaluation on a task,
    other settings under one method name, or a trial that is there twice.
    """
    runs = [load_run(path) for path in run_dirs]
    tables = [read_table(run, "|".join(RECORD_NAMES)) for run in runs]
    return Leaderboard(rank(outcomes(runs, tables)), provenance(runs, tables))


def rank(found: Sequence[Outcome]) -> list[Row]:
    """The rows of a leaderboard from outcomes."""
    by_task: dict[str, list[Outcome]] = {}
    for outcome in found:
        by_task.setdefault(outcome.task, []).append(outcome)
    rows = _rows(ALL, list(by_task), found)
    for task, own in by_task.items():
        rows += _rows(task, [task], own)
    return rows


def _rows(label: str, tasks: Sequence[str], found: Sequence[Outcome]) -> list[Row]:
    by_method = _by_method(found)
    notes = {method: _note(tasks, own) for method, own in by_method.items()}
    whole = {method: own for method, own in by_method.items() if not notes[method]}
    finals = complete_scores(tasks, found)
    after = {method: scores_by_task(tasks, own, after_score) for method, own in whole.items()}
    is_after_known = all(np.isfinite(runs.values).all() for own in after.values() for runs in own)
    final_standings = standings(finals)
    after_standings = standings(after) if is_after_known else {}
    rows = []
    for method, own in by_method.items():
        counts = [sum(outcome.is_complete for outcome in own if outcome.task == task) for task in tasks]
        row = Row(
            task=label,
            method=method,
            agent=", ".join(dict.fromkeys(outcome.agent for outcome in own)),
            n_seeds=min(counts),
            n_incomplete=sum(not outcome.is_complete for outcome in own),
            n_trials=len(own),
            diverged_trials=_diverged(own),
            note=notes[method] or ("" if min(counts) >= aggregate.MIN_SEEDS else _too_few(min(counts))),
        )
        if method in whole:
            row = _filled(row, finals[method], own, final_standings[method], after_standings.get(method))
        rows.append(row)
    return sorted(rows, key=lambda row: (row.rank is None, row.rank or 0))


def _filled(row: Row, scores: Sequence[Runs], own: Sequence[Outcome], final: Standing, after: Standing | None) -> Row:
    values = [runs.values for runs in scores]
    named = dataclasses.asdict(final)
    named["iqm_low"], named["iqm_high"] = named.pop("low"), named.pop("high")
    if after is not None:
        kept = ("iqm", "low", "high", "rank", "behind", "behind_low", "behind_high")
        named |= {f"after_reset_{name}": getattr(after, name) for name in kept}
    return dataclasses.replace(
        row,
        mean=float(aggregate.mean(values)),
        median=float(aggregate.median(values) if len(values) > 1 else np.median(values[0])),
        optimality_gap=float(aggregate.optimality_gap(values)),
        mean_return=float(np.mean([outcome.final_return for outcome in own])) if row.task != ALL else None,
        **named,
    )


def complete_scores(tasks: Sequence[str], found: Sequence[Outcome]) -> dict[str, list[Runs]]:
    """Final scores per task of the methods that have every trial's final evaluation on every task."""
    return {m: scores_by_task(tasks, own) for m, own in _by_method(found).items() if not _note(tasks, own)}


def _by_method(found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in found:
        groups.setdefault(outcome.method, []).append(outcome)
    return groups


def _note(tasks: Sequence[str], own: Sequence[Outcome]) -> str:
    present = {outcome.task for outcome in own}
    absent = [task for task in tasks if task not in present]
    missing = sum(not outcome.is_complete for outcome in own)
    if absent:
        return f"not ranked: was not run on {', '.join(absent)}"
    return f"not ranked: {missing} of {len(own)} trials incomplete" if missing else ""


def _diverged(own: Sequence[Outcome]) -> int | None:
    if not any(outcome.has_value_ratio for outcome in own):
        return None
    return sum(outcome.overvalued is not None for outcome in own)


def _too_few(num_seeds: int) -> str:
    return f"no interval: {num_seeds} seed{'' if num_seeds == 1 else 's'}, {aggregate.MIN_SEEDS} are needed"


def standings(scores: Mapping[str, Sequence[Runs]]) -> dict[str, Standing]:
    """Ranks methods by IQM; intervals where every task of every method has enough seeds."""
    if not scores:
        return {}
    point = {method: float(aggregate.iqm([runs.values for runs in tasks])) for method, tasks in scores.items()}
    leader = max(point, key=lambda method: point[method])
    order = {m: 1 + sum(other > point[m] for other in point.values()) for m in point}
    plain = {m: Standing(iqm=point[m], rank=order[m], behind=point[leader] - point[m]) for m in point}
    if not all(aggregate.has_interval(tasks) for tasks in scores.values()):
        return plain
    rng = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    samples = aggregate.bootstrap(scores, aggregate.iqm, rng)
    return {m: _with_intervals(standing, m, leader, samples) for m, standing in plain.items()}


def _with_intervals(standing: Standing, method: str, leader: str, samples: Mapping[str, np.ndarray]) -> Standing:
    own = samples[method]
    gains = [aggregate.interval(own - sample) for other, sample in samples.items() if other != method]
    low, high = aggregate.interval(own)
    behind_low, behind_high = aggregate.interval(samples[leader] - own)
    return dataclasses.replace(
        standing,
        low=float(low),
        high=float(high),
        rank_best=1 + sum(bool(gain_high < 0) for _, gain_high in gains),
        rank_worst=len(samples) - sum(bool(gain_low > 0) for gain_low, _ in gains),
        behind_low=float(behind_low),
        behind_high=float(behind_high),
    )


def to_json(board: Leaderboard) -> dict[str, Any]:
    """The content of ``leaderboard.json``; missing numbers are null."""
    rows = [dataclasses.asdict(row) for row in board.rows]
    return {"schema_version": SCHEMA_VERSION, "rows": rows, "provenance": board.provenance}


def to_markdown(rows: Sequence[Row]) -> str:
    """One Markdown table per task; all tasks together only where there are several."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    parts = []
    for task in tasks if len(tasks) != 2 else tasks[1:]:
        own = [row for row in rows if row.task == task]
        parts.append(
            f"### {'All tasks' if task == ALL else task}\n\n"
            f"| {' | '.join(_COLUMNS)} |\n{'| --- ' * len(_COLUMNS)}|\n" + "\n".join(map(_markdown_row, own))
        )
    return "\n\n".join(parts) + "\n"


def _markdown_row(row: Row) -> str:
    cells = [
        rank_text(row),
        row.method.replace("|", "\\|") + (f" ({row.note})" if row.note else ""),
        row.agent,
        interval_text(row.iqm, row.iqm_low, row.iqm_high),
        interval_text(row.after_reset_iqm, row.after_reset_low, row.after_reset_high),
        *(number_text(value) for value in (row.mean, row.median, row.optimality_gap)),
        number_text(row.mean_return, digits=1),
        str(row.n_seeds),
        diverged_text(row),
    ]
    return f"| {' | '.join(cells)} |"


def rank_text(row: Row) -> str:
    """The rank, and the ranks that the intervals leave open where there are several: ``1 (1-3)``."""
    if row.rank is None:
        return "–"  # noqa: RUF001
    if row.rank_best is None or row.rank_best == row.rank_worst:
        return str(row.rank)
    return f"{row.rank} ({row.rank_best}–{row.rank_worst})"  # noqa: RUF001


def diverged_text(row: Row) -> str:
    """How many of the trials diverged, ``3 of 5``, or a dash where none recorded it."""
    return "–" if row.diverged_trials is None else f"{row.diverged_trials} of {row.n_trials}"  # noqa: RUF001


def interval_text(value: float | None, low: float | None, high: float | None) -> str:
    """``0.91 [0.85, 0.96]``, without brackets where there is no interval."""
    bounds = f" [{number_text(low)}, {number_text(high)}]" if low is not None else ""
    return number_text(value) + bounds


def number_text(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign and no negative zero, or a dash for none."""
    return "–" if value is None else f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")  # noqa: RUF001
