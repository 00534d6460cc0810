"""Writes a run's report: one HTML file that opens offline, and the leaderboard as JSON and Markdown.

Everything comes from the plan, the records and the films, and the same of these give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from plasticbench import storage
from plasticbench.analysis import aggregate, leaderboard
from plasticbench.analysis.divergence import LIMIT, NUM_RECORDS, RATIO
from plasticbench.analysis.films import films_by_task
from plasticbench.analysis.headline import answer, lowest_text, not_finite_sentence, warning
from plasticbench.analysis.leaderboard import ALL, Leaderboard, Row
from plasticbench.analysis.leaderboard_text import (
    by_raw_return,
    diverged_text,
    failures_to_markdown,
    left_out,
    not_finite_text,
    number_text,
    rank_text,
    to_json,
    to_markdown,
)
from plasticbench.analysis.machines import mixture
from plasticbench.analysis.not_finite import MARK, counted, for_figures
from plasticbench.analysis.outcomes import Outcome, outcome_rows, outcomes, references
from plasticbench.analysis.panels import MAX_DETAILED_TASKS, Panels
from plasticbench.analysis.plots import palette
from plasticbench.analysis.provenance import provenance
from plasticbench.analysis.recoveries import recoveries
from plasticbench.analysis.runs import Run, load_run, read_table
from plasticbench.analysis.settings import settings_tables
from plasticbench.failures import failures_name
from plasticbench.storage import Location

_NAMES = rf'(?:eval|loss)/[^"]*|train/return|{RATIO}|{MARK}[^"]*|(?:plasticity|reset/after)/[^/"]+/[^/"]+'
"""Records of whole networks alone; those of single layers would fill the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """The rows of one task, and where 0 and 1 lie on the scale of its interval bars (in percent)."""

    title: str
    rows: list[Row]
    low: float
    high: float
    remark: str = ""

    @property
    def measure(self) -> str:
        """What its numbers are: scores or returns."""
        return self.rows[0].measure

    def percent(self, score: float) -> float:
        """Where a score lies on the scale."""
        return round(100 * (score - self.low) / (self.high - self.low), 2)


@np.errstate(over="ignore", invalid="ignore")  # what floats cannot hold is left out of tables and figures
def write_report(run_dir: Location) -> Location:
    """Writes ``report/index.html``, ``leaderboard.json`` and ``leaderboard.md``; returns the path of the page.

    All of them or, whatever fails, none: a table never lies beside the page of another day.
    """
    run = load_run(run_dir)
    table = read_table(run, _NAMES)
    own = outcome_rows(table)
    found = outcomes([run], [own])
    rows = leaderboard.rank(found)
    folder = run.path / "report"
    ranking = json.dumps(to_json(Leaderboard(rows, provenance([run], [own]))), indent=1, allow_nan=False) + "\n"
    [shown] = counted([for_figures(table)], references([run]))
    page = _template("report.html.j2").render(_context(run, shown, found, rows))
    text = to_markdown(rows) + failures_to_markdown(found, f"../{failures_name(run.path)}")
    texts = {"leaderboard.json": ranking, "leaderboard.md": text, "index.html": page}
    storage.write_together({folder / name: text.encode() for name, text in texts.items()})
    return folder / "index.html"


def write_leaderboard_html(rows: Sequence[Row], path: Path) -> None:
    """Writes the boards alone as one HTML file, for several runs that are compared."""
    methods = list(dict.fromkeys(row.method for row in rows))
    context = {"boards": _boards(rows), "colours": palette(methods, {"none"} & set(methods)), "methods": methods}
    Path(path).write_text(_template("leaderboard.html.j2").render(context), encoding="utf-8")


def _template(name: str) -> Any:
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number_text, "shortened": leaderboard.shortened, "steps": "{:,}".format}
    environment.globals |= {
        "rank": rank_text,
        "diverged": diverged_text,
        "not_finite": not_finite_text,
        "lowest": lowest_text,
        "css": Markup((folder / "report.css").read_text(encoding="utf-8")),
    }
    return environment.get_template(name)


def _context(run: Run, table: pd.DataFrame, found: Sequence[Outcome], rows: Sequence[Row]) -> dict[str, Any]:
    boards = _boards(rows)
    panels = Panels(run=run, table=table, colours=palette(run.methods, run.controls))
    return {
        "run": run,
        "answer": answer(boards[0].rows),
        "warning": warning(boards[0].rows),
        "diverged_trials": [outcome for outcome in found if outcome.overvalued is not None],
        "not_finite_sentence": not_finite_sentence(boards[0].rows),
        "not_finite_trials": [outcome for outcome in found if outcome.not_finite is not None],
        "spoilt_trials": [outcome for outcome in found if outcome.spoilt_steps],
        "value_limit": LIMIT,
        "value_records": NUM_RECORDS,
        "boards": boards,
        "methods": run.methods,
        "colours": panels.colours,
        "max_faint_lines": panels.max_faint_lines,
        "max_detailed_tasks": MAX_DETAILED_TASKS,
        "failures_link": f"../{failures_name(run.path)}" if any(outcome.failure for outcome in found) else None,
        "incomplete": [outcome for outcome in found if not outcome.is_complete],
        "min_seeds": aggregate.MIN_SEEDS,
        "fewest_seeds": min((row.n_seeds for row in boards[0].rows), default=0),
        "seed_counts": _span(_seed_counts(run)),
        "films": films_by_task(run),
        "curves": panels.learning_curves(),
        "recoveries": recoveries(run, table),
        "plasticity": panels.plasticity(),
        "distributions": panels.distributions(found, rows),
        "profile": panels.profile(found),
        "improvement": _improvement(run, found),
        "settings": settings_tables(run),
        "mixture": mixture(run),
        "score_sources": {trial.task: trial.score_source for trial in run.trials},
    }


def _boards(rows: Sequence[Row]) -> list[Board]:
    tasks = list(dict.fromkeys(row.task for row in rows))
    boards = []
    for task in tasks if len(tasks) != 2 else tasks[1:]:  # "all" says nothing new about a single task
        own = [row for row in rows if row.task == task]
        iqms = [row.final.iqm for row in own]
        ends = [end for iqm in iqms for end in (iqm.value, iqm.low, iqm.high) if end is not None]
        low, high = _scale(own[0].measure, ends)
        remark = left_out(rows) if task == ALL else by_raw_return(own)
        boards.append(Board(title="All tasks" if task == ALL else task, rows=own, low=low, high=high, remark=remark))
    return boards


def _scale(measure: str, ends: Sequence[float]) -> tuple[float, float]:
    """From reference low to reference high at least; of raw returns, no further than they reach."""
    if measure == "score" or not ends:
        return min([0.0, *ends]), max([1.0, *ends])
    return (min(ends), max(ends)) if min(ends) < max(ends) else (ends[0] - 0.5, ends[0] + 0.5)


def _seed_counts(run: Run) -> list[int]:
    """Of every task and method, 0 for a pair that was not planned."""
    counts = Counter((trial.task, trial.method) for trial in run.trials)
    return [counts[task, method] for task in run.tasks for method in run.methods]


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Improvement:
    """P(row beats column), its interval, and the colour of its cell."""

    value: float
    low: float | None
    high: float | None

    @property
    def colour(self) -> str:
        """White at one half, blue towards 1, orange towards 0."""
        red, green, blue = (0, 114, 178) if self.value > 0.5 else (213, 94, 0)
        strength = 1.1 * abs(self.value - 0.5)
        return "#" + "".join(f"{round(255 + (c - 255) * strength):02x}" for c in (red, green, blue))


def _improvement(run: Run, found: Sequence[Outcome]) -> dict[tuple[str, str], Improvement]:
    """All ordered pairs of the methods that are complete on all tasks."""
    scores = leaderboard.complete_scores(run.tasks, found)
    bounds: Mapping[tuple[str, str], tuple[Any, Any]] = {}
    if all(aggregate.has_interval(tasks) for tasks in scores.values()):
        rng = np.random.Generator(np.random.PCG64(leaderboard.BOOTSTRAP_SEED))
        samples = aggregate.bootstrap_improvement(scores, rng, resamples=2_000)
        bounds = {pair: aggregate.interval(values) for pair, values in samples.items()}
    cells = {}
    for a, b in ((a, b) for a in scores for b in scores if a != b):
        x, y = ([runs.values for runs in scores[method]] for method in (a, b))
        low, high = bounds.get((a, b), (None, None))
        cells[a, b] = Improvement(value=aggregate.probability_of_improvement(x, y), low=low, high=high)
    return cells
