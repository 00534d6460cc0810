"""What the pages hold, put together from finished numbers, and the templates that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from plasticbench.analysis import aggregate, score_panels
from plasticbench.analysis.colours import method_styles
from plasticbench.analysis.curve_plots import MAX_TOGETHER
from plasticbench.analysis.divergence import LIMIT, NUM_RECORDS
from plasticbench.analysis.films import films_by_task
from plasticbench.analysis.headline import answer, lowest_text, not_finite_sentence, warning
from plasticbench.analysis.leaderboard import Leaderboard, shortened
from plasticbench.analysis.leaderboard_text import (
    by_raw_return,
    diverged_text,
    escaped,
    left_out,
    not_finite_text,
    number_text,
    rank_text,
)
from plasticbench.analysis.machines import mixture
from plasticbench.analysis.measure_tables import FactTable, MeasureTable, heads_of, measure_tables
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.panels import MAX_DETAILED_TASKS, Panels
from plasticbench.analysis.phases import phase_tables
from plasticbench.analysis.plasticity import ProbesAtEnd
from plasticbench.analysis.plasticity_text import plasticity_answer, probe_tables
from plasticbench.analysis.predictors import predictors
from plasticbench.analysis.recoveries import MAX_RESETS, recoveries
from plasticbench.analysis.rows import ALL, Row
from plasticbench.analysis.runs import Run
from plasticbench.analysis.settings import settings_tables
from plasticbench.analysis.soonest import soonest, soonest_sentence, steps_text
from plasticbench.failures import failures_name

MAX_DRAWN = 24
"""With more methods, figures show the controls and the best of the others; tables show all."""


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

    @property
    def shares(self) -> dict[str, str]:
        """What all rows have in common, and needs no column: the agent, and the number of seeds."""
        values = {
            "agent": {row.agent for row in self.rows},
            "seeds": {str(row.n_seeds) for row in self.rows},
        }
        return {name: next(iter(own)) for name, own in values.items() if len(own) == 1}

    def percent(self, score: float) -> float:
        """Where a score lies on the scale."""
        return round(100 * (score - self.low) / (self.high - self.low), 2)


def report_page(
    run: Run, table: pd.DataFrame, found: Sequence[Outcome], probes: ProbesAtEnd, board: Leaderboard
) -> str:
    """The report of one run; ``table`` holds the records that figures show."""
    boards = boards_of(board.rows)
    own = boards[0].rows
    drawn = _drawn(run, own)
    styles = method_styles(run.methods, run.controls)
    panels = Panels(run=run, table=table[table["method"].isin(drawn)], styles=styles)
    speed = soonest(run, table, board.rows)
    best_first = [row.method for row in own]
    phases = phase_tables(run, table, best_first)
    context = {
        "run": run,
        "boards": boards,
        "methods": run.methods,
        "drawn": drawn,
        "styles": styles,
        "answer": answer(own),
        "speed_answer": soonest_sentence(speed, run.unit),
        "plasticity_answer": plasticity_answer(probes.rows, _control(run)),
        "warning": warning(own),
        "not_finite_sentence": not_finite_sentence(own),
        "diverged_trials": [outcome for outcome in found if outcome.overvalued is not None],
        "not_finite_trials": [outcome for outcome in found if outcome.not_finite is not None],
        "spoilt_trials": [outcome for outcome in found if outcome.spoilt_steps],
        "restarted_trials": [outcome for outcome in found if outcome.restarted_steps],
        "incomplete": [outcome for outcome in found if not outcome.is_complete],
        "failures_link": f"../{failures_name(run.path)}" if any(outcome.failure for outcome in found) else None,
        "fewest_seeds": min((row.n_seeds for row in own), default=0),
        "seed_counts": _span(_seed_counts(run)),
        "speed": speed,
        "recoveries": recoveries(run, table),
        "measure_tables": measure_tables(board.measures, best_first, [one.task for one in phases]),
        "shown_measures": heads_of(board.measures),
        "predictors": predictors(run, table, probes, found),
        "phases": phases,
        "films": films_by_task(run),
        "curves": panels.learning_curves(),
        "max_faint_lines": panels.max_faint_lines,
        "probe_tables": probe_tables(probes.rows, best_first),
        "scatters": score_panels.scatters(found, probes, {method: styles[method] for method in drawn}),
        "plasticity": panels.plasticity(),
        "distributions": score_panels.distributions(run, found, board.rows, styles),
        "profile": score_panels.profile(run, [one for one in found if one.method in drawn], styles),
        "improvement": {(pair.method, pair.over): pair for pair in board.improvement},
        "settings": settings_tables(run),
        "mixture": mixture(run),
        "source": board.provenance["runs"][0],
        "score_sources": {trial.task: trial.score_source for trial in run.trials},
    }
    return str(_template("report.html.j2").render(context))


def _drawn(run: Run, best_first: Sequence[Row]) -> list[str]:
    chosen = [*sorted(run.controls), *(row.method for row in best_first if row.method not in run.controls)][:MAX_DRAWN]
    return [method for method in run.methods if method in chosen]


def answer_text(run: Run, table: pd.DataFrame, probes: ProbesAtEnd, board: Leaderboard) -> str:
    """The answer as a Markdown list, for whoever sees no page."""
    sentences = [*answer(boards_of(board.rows)[0].rows), *plasticity_answer(probes.rows, _control(run))]
    speed = soonest_sentence(soonest(run, table, board.rows), run.unit)
    return "".join(f"* {escaped(sentence)}\n" for sentence in (*sentences, speed) if sentence) + "\n"


def _control(run: Run) -> str | None:
    return next((trial.method for trial in run.trials if trial.is_control), None)


def leaderboard_page(board: Leaderboard, beside: Sequence[MeasureTable | FactTable] = ()) -> str:
    """The boards, methods in the colours of the runs' reports as far as one run has them all, then other tables."""
    runs = board.provenance["runs"]
    methods = list(dict.fromkeys(method for run in runs for method in run["methods"]))
    controls = {method for run in runs for method in run["controls"]}
    context = {
        "boards": boards_of(board.rows),
        "styles": method_styles(methods, controls),
        "methods": methods,
        "beside": beside,
    }
    return str(_template("leaderboard.html.j2").render(context))


def _template(name: str) -> Any:
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number_text, "shortened": shortened, "steps": "{:,}".format}
    environment.globals |= {
        "rank": rank_text,
        "diverged": diverged_text,
        "not_finite": not_finite_text,
        "lowest": lowest_text,
        "steps_text": steps_text,
        "ALL": ALL,
        "min_seeds": aggregate.MIN_SEEDS,
        "value_limit": LIMIT,
        "value_records": NUM_RECORDS,
        "max_detailed_tasks": MAX_DETAILED_TASKS,
        "max_resets": MAX_RESETS,
        "max_together": MAX_TOGETHER,
        "css": Markup((folder / "report.css").read_text(encoding="utf-8")),
        "script": Markup((folder / "report.js").read_text(encoding="utf-8")),
    }
    return environment.get_template(name)


def boards_of(rows: Sequence[Row]) -> list[Board]:
    """A board for each task, and for all of them first where there are several."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    boards = []
    for task in tasks[1:] if len(tasks) == 2 and tasks[0] == ALL else tasks:  # "all" says nothing new about one task
        own = [row for row in rows if row.task == task]
        iqms = [row.final.iqm for row in own]
        ends = [end for iqm in iqms for end in (iqm.value, iqm.low, iqm.high) if end is not None]
        low, high = _scale(own[0].measure, ends)
        remarks = [left_out(rows) if task == ALL else by_raw_return(own), _untrimmed(own)]
        title, remark = "All tasks" if task == ALL else task, " ".join(filter(None, remarks))
        boards.append(Board(title=title, rows=own, low=low, high=high, remark=remark))
    return boards


def _untrimmed(rows: Sequence[Row]) -> str:
    most = max(row.n_trials for row in rows)
    return f"Of {most} runs none is trimmed: the IQM is their mean." if 1 < most < 4 else ""


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
