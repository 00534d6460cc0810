"""The leaderboard as JSON and as Markdown, and its numbers as people read them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from plasticbench.analysis.continual import MeasureRow
from plasticbench.analysis.improvement import Improvement
from plasticbench.analysis.leaderboard import Leaderboard, shortened
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.plasticity import ProbeRow
from plasticbench.analysis.probe_facts import facts_of
from plasticbench.analysis.recoveries import RecoveryRow
from plasticbench.analysis.rows import ALL, Estimate, Row, Standing

_COLUMNS = (
    "rank",
    "method",
    "agent",
    "IQM [95% interval]",
    "after the event",
    "mean",
    "median",
    "optimality gap",
    "return",
    "seeds",
    "diverged",
    "not finite",
)
_BILLION = 1e9
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
"""What means something in the middle of a line; underscores within a word do not, nor does a colon without slashes."""
SCHEMA_VERSION = 3
"""Of what ``to_json`` gives; raised when a name of it goes or begins to mean something else."""


def to_json(board: Leaderboard) -> dict[str, Any]:
    """The content of ``leaderboard.json``: flat plain data; null for a number that is missing or infinite."""
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": [_strict(_flat(row)) for row in board.rows],
        "probes": [_strict(_probe(row)) for row in board.probes],
        "improvement": [_strict(_improvement(pair)) for pair in board.improvement],
        "measures": [_strict(_measure(row)) for row in board.measures],
        "recoveries": [_strict(_recovery(row)) for row in board.recoveries],
        "provenance": board.provenance,
    }


def _probe(row: ProbeRow) -> dict[str, Any]:
    return {
        "task": row.task,
        "method": row.method,
        "network": row.network,
        "probe": row.probe,
        **_columns("value", row.estimate, bounds="value"),
        "n_trials": row.num_trials,
        "is_relative_to_control": row.is_relative,
        "better": facts_of(row.probe).better or None,
        "against_control": row.against_control,
    }


def _measure(row: MeasureRow) -> dict[str, Any]:
    return {
        "task": row.task,
        "method": row.method,
        "measure": row.measure,
        "phase": row.phase,
        **_columns("value", row.estimate),
        "n_seeds": row.num_seeds,
    }


def _recovery(row: RecoveryRow) -> dict[str, Any]:
    back = Estimate() if row.back is None else Estimate(row.back.value, row.back.low, row.back.high)
    return {
        "task": row.task,
        "method": row.method,
        "event_step": row.event_step,
        "event": row.event,
        **_columns("before", row.before),
        **_columns("drop", row.drop),
        **_columns("recovery_steps", back),
        "stretch_steps": row.stretch_steps,
        "n_recovered": row.num_recovered,
        "n_seeds": row.num_seeds,
        "has_learned": row.has_learned,
    }


def _improvement(pair: Improvement) -> dict[str, Any]:
    own = Estimate(pair.value, pair.low, pair.high)
    return {"method": pair.method, "over": pair.over, **_columns("probability", own)}


def _flat(row: Row) -> dict[str, Any]:
    final, after = row.final, row.after
    return {
        "task": row.task,
        "method": row.method,
        "agent": row.agent,
        "n_seeds": row.n_seeds,
        "n_incomplete": row.n_incomplete,
        "n_trials": row.n_trials,
        "diverged_trials": row.diverged_trials,
        "not_finite_trials": row.not_finite_trials,
        **_columns("iqm", final.iqm),
        **asdict(row.summary),
        "rank": final.rank,
        "rank_best": final.rank_best,
        "rank_worst": final.rank_worst,
        **_columns("behind", final.behind),
        "detectable_difference": final.detectable,
        **_columns("after_reset_iqm", after.iqm, bounds="after_reset"),
        "after_reset_rank": after.rank,
        **_columns("after_reset_behind", after.behind),
        "above_reference": row.above_reference,
        "measure": row.measure,
        "note": row.note,
    }


def _strict(fields: dict[str, Any]) -> dict[str, Any]:
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in fields.items()}


def _columns(name: str, estimate: Estimate, bounds: str | None = None) -> dict[str, float | None]:
    bounds = bounds or name
    return {name: estimate.value, f"{bounds}_low": estimate.low, f"{bounds}_high": estimate.high}


def to_markdown(rows: Sequence[Row]) -> str:
    """One Markdown table per task; all tasks together only where there are several."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    parts = []
    for task in tasks if len(tasks) != 2 else tasks[1:]:
        own = [row for row in rows if row.task == task]
        columns = [own[0].trained if name == "agent" else name for name in _COLUMNS]
        parts.append(
            f"### {'All tasks' if task == ALL else escaped(task)}\n\n{_remark(task, rows)}"
            f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|\n" + "\n".join(map(_markdown_row, own))
        )
    return "\n\n".join(parts) + "\n"


def _remark(task: str, rows: Sequence[Row]) -> str:
    sentence = left_out(rows) if task == ALL else by_raw_return([row for row in rows if row.task == task])
    return f"{escaped(sentence)}\n\n" if sentence else ""


def escaped(text: str) -> str:
    """A name as one line of Markdown that shows it: nothing of it is HTML, a link, a picture or the end of a cell."""
    text = html.escape(" ".join(text.split()), quote=False)
    return _MARKDOWN.sub(r"\\\g<0>", text)


def by_raw_return(rows: Sequence[Row]) -> str:
    """A sentence about a task whose methods stand by raw return; empty for others."""
    is_raw = any(row.measure == "return" and row.task != ALL for row in rows)
    return "Ranked by raw return: no reference returns are known, and numbers are returns." if is_raw else ""


def left_out(rows: Sequence[Row]) -> str:
    """A sentence about the tasks that the rows of all tasks leave out; empty where there are none."""
    raw = list(dict.fromkeys(row.task for row in rows if row.measure == "return" and row.task != ALL))
    if not raw or len({row.task for row in rows}) <= 2:
        return ""
    return f"Without {', '.join(raw)}, for which no reference returns are known: each stands by itself, by raw return."


def _markdown_row(row: Row) -> str:
    cells = [
        rank_text(row.final),
        escaped(row.method + (f" ({row.note})" if row.note else "")),
        escaped(row.agent),
        interval_text(row.final.iqm),
        interval_text(row.after.iqm),
        *(number_text(value) for value in (row.summary.mean, row.summary.median, row.summary.optimality_gap)),
        number_text(row.summary.mean_return, digits=1),
        str(row.n_seeds),
        diverged_text(row),
        not_finite_text(row),
    ]
    return f"| {' | '.join(cells)} |"


def failures_to_markdown(found: Sequence[Outcome], link: str) -> str:
    """Why trials failed, a line for each, with a link to the whole; empty where none did."""
    failed = [outcome for outcome in found if outcome.failure]
    if not failed:
        return ""
    lines = [
        f"* {outcome.task}, {outcome.method}, seed {outcome.seed}: `{shortened(outcome.failure).replace('`', chr(39))}`"
        for outcome in failed
    ]
    tracebacks = f"The tracebacks: [{link.removeprefix('../')}]({link})"
    return "\n".join(["", "### What failed", "", *lines, "", tracebacks, ""])


def rank_text(standing: Standing) -> str:
    """The rank, and the ranks that the intervals leave open where there are several: ``1 (1-3)``."""
    if standing.rank is None:
        return "–"  # noqa: RUF001
    if standing.rank_best is None or standing.rank_best == standing.rank_worst:
        return str(standing.rank)
    return f"{standing.rank} ({standing.rank_best}–{standing.rank_worst})"  # noqa: RUF001


def diverged_text(row: Row) -> str:
    """How many of the trials diverged, ``3 of 5``, or a dash where none recorded it."""
    return "–" if row.diverged_trials is None else f"{row.diverged_trials} of {row.n_trials}"  # noqa: RUF001


def not_finite_text(row: Row) -> str:
    """How many of the trials are not finite: ``2 of 10``."""
    return f"{row.not_finite_trials} of {row.n_trials}"


def interval_text(estimate: Estimate) -> str:
    """``0.91 [0.85, 0.96]``, without brackets where there is no interval."""
    bounds = f" [{number_text(estimate.low)}, {number_text(estimate.high)}]" if estimate.low is not None else ""
    return number_text(estimate.value) + bounds


def number_text(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign and no negative zero, from a billion on with an exponent; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001
    text = f"{value:z.{digits}f}" if abs(value) < _BILLION else f"{value:.{digits}e}"
    return text.replace("-", "\N{MINUS SIGN}")
