"""What the rows of ``agent_rows.py`` reached, beside what their sources say, as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.agent_rows import ROWS, Row
from plasticbench.analysis.curves import final_value
from plasticbench.analysis.outcomes import RECORD_NAMES, outcomes
from plasticbench.analysis.runs import load_run, read_table

RECORDS = Path(__file__).with_name("records")
"""What stable-baselines3 reached where it was last run, for whoever does not run it again."""

HEADER = (
    "| row | task | source | steps x seeds | ours | published | stable-baselines3 here | verdict | overvalued |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """``mean ± half_width``."""

    mean: float
    half_width: float

    @classmethod
    def of_mean(cls, values: Sequence[float]) -> Interval:
        """Student's 95 % interval of the mean of two or more seeds."""
        error = np.std(values, ddof=1) / len(values) ** 0.5
        return cls(mean=float(np.mean(values)), half_width=float(stats.t.ppf(0.975, len(values) - 1) * error))

    def __str__(self) -> str:
        return f"{self.mean:,.1f} ± {self.half_width:,.1f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """Final returns of the seeds of a whole row, and how many of them have the mark ``overvalued``."""

    returns: tuple[float, ...]
    num_overvalued: int


def reached(name: str, out: Path) -> Reached | None:
    """What the run directory ``out/NAME`` shows; ``None`` unless every seed has its final evaluation."""
    if not (out / name / "plan.json").exists():
        return None
    run = load_run(out / name)
    trials = outcomes([run], [read_table(run, "|".join(RECORD_NAMES))])
    if not all(trial.is_complete for trial in trials):
        return None
    return Reached(
        returns=tuple(trial.final_return for trial in trials),
        num_overvalued=sum(trial.overvalued is not None for trial in trials),
    )


def peer_returns(name: str, row: Row, out: Path) -> tuple[float, ...] | None:
    """Final returns of stable-baselines3 in ``out``, or else those in the repository; ``None`` without all seeds."""
    for path in (out / f"peer_{name}.json", RECORDS / f"peer_{name}.json"):
        if path.exists() and len(curves := json.loads(path.read_text())["returns"]) == row.seeds:
            steps = np.arange(row.every_steps, row.budget_steps + 1, row.every_steps)
            return tuple(final_value(steps, np.array(curve), row.budget_steps) for curve in curves.values())
    return None


def verdict(ours: Interval, theirs: Interval) -> str:
    """Where our mean lies beside their interval; outside of it, whether the two intervals meet."""
    distance = abs(ours.mean - theirs.mean)
    if distance <= theirs.half_width:
        return "inside"
    side = "above" if ours.mean > theirs.mean else "below"
    return f"{side}, intervals meet" if distance <= ours.half_width + theirs.half_width else side


def line(name: str, row: Row, out: Path) -> str:
    """One row of the table. We are judged by what is published, and by the peer where nothing is."""
    ours, published = reached(name, out), row.published
    interval = Interval.of_mean(ours.returns) if ours is not None else None
    returns = peer_returns(name, row, out) if row.peer is not None else None
    peer = Interval.of_mean(returns) if returns is not None else None
    judge = peer if published is None else Interval(mean=published.mean_return, half_width=published.half_width)
    cells = (
        name,
        row.task,
        row.source,
        f"{row.budget_steps:,} x {row.seeds}",
        str(interval or "not measured"),
        str(published or ""),
        str(peer or "not measured") if row.peer is not None else "",
        verdict(interval, judge) if interval is not None and judge is not None else "",
        f"{ours.num_overvalued} of {row.seeds}" if ours is not None else "",
    )
    return f"| {' | '.join(cells)} |"


def table(out: Path) -> str:
    """All rows, whatever was measured of them."""
    return "\n".join([HEADER, *(line(name, row, out) for name, row in ROWS.items())])
