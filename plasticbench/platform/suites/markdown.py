"""The tables of a suite as Markdown, for ``leaderboard.md``, README and a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plasticbench.analysis.leaderboard_text import (
    diverged_text,
    escaped,
    interval_text,
    not_finite_text,
    number_text,
    rank_text,
)
from plasticbench.analysis.measure_tables import FactTable, MeasureTable, measure_tables
from plasticbench.analysis.power import facts
from plasticbench.analysis.rows import ALL, Estimate, Row
from plasticbench.platform.suites.board import CONTROL, DEFAULT, TUNED, Board, Standings
from plasticbench.platform.suites.definition import Suite

IN_SHORT = ("rank", "method", "IQM [95% interval]", f"more than {CONTROL} [interval]", "with default settings")
"""Columns for whoever only passes by."""
_WITH = {TUNED: "as tuned", DEFAULT: "with default settings"}
_AS_GIVEN = "with the suite's settings"
_WHOLE_RUN, _TOLD_APART = "over the whole run", "what the task tells apart"


def to_markdown(board: Board) -> str:
    """The content of ``leaderboard.md``."""
    parts = [f"# {escaped(board.suite.label)}", _protocol(board.suite)]
    for table in board.tables:
        parts += [f"## {_title(table)}", table_text(table)]
        parts += _beside(table)
    if any(board.absent.values()):
        missing = (
            f"* {escaped(task)}: {', '.join(map(escaped, names))}" for task, names in board.absent.items() if names
        )
        parts += ["## Not run yet", "\n".join(missing)]
    return "\n\n".join(parts) + "\n"


def table_text(table: Standings, columns: Sequence[str] | None = None) -> str:
    """One table, with all columns unless some are named."""
    rows = [_cells(table, row) for row in table.rows]
    shown = list(columns or rows[0])
    return _grid(shown, [[row[name] for name in shown] for row in rows])


def _beside(table: Standings) -> Iterator[str]:
    """What stands below the ranks of one task; nothing below those of all tasks."""
    for one in whole_run(table):
        rows = [
            [escaped(method), *(interval_text(one.cells.get((method, head.key), Estimate())) for head in one.heads)]
            for method in one.methods
        ]
        yield f"### {_of_whole_run(table).capitalize()}"
        yield _grid(["method", *(head.title for head in one.heads)], rows)
    for told in told_apart(table):
        yield f"### {_TOLD_APART.capitalize()}"
        yield _grid(["", *told.heads], [[escaped(name), *values] for name, *values in told.rows])


def whole_run(table: Standings) -> list[MeasureTable]:
    """The measures of one task's methods as tuned, if there are any."""
    found = measure_tables(table.measures.get(TUNED, ()), [row.method for row in table.rows])
    return [one._replace(title=f"{table.task}: {_of_whole_run(table)}") for one in found]


def _of_whole_run(table: Standings) -> str:
    return f"{_WHOLE_RUN}, {_WITH[TUNED]}" if table.defaults else _WHOLE_RUN


def told_apart(table: Standings) -> list[FactTable]:
    """What one task tells apart, with each setting; none of all tasks."""
    columns = [facts(power) for power in table.power.values()]
    if not columns:
        return []
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    heads = [_WITH[setting] for setting in table.power] if table.defaults else [_AS_GIVEN]
    if table.defaults:
        cost = {TUNED: str(table.num_tuning_trials), DEFAULT: "none"}
        rows.insert(0, ["trials that tuning took, each of the whole budget", *(cost[one] for one in table.power)])
    return [FactTable(f"{table.task}: {_TOLD_APART}", heads, rows)]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _title(table: Standings) -> str:
    return "All tasks" if table.task == ALL else escaped(table.task)


def _protocol(suite: Suite) -> str:
    windows = ", ".join(f"{task.name} {task.window:.0%}" for task in suite.tasks)
    return (
        f"{escaped(suite.description)} A score is the mean of a trial's evaluations at the end of its budget "
        f"({escaped(windows)}). {_tuning(suite)} *More than {CONTROL}* is the difference of means, "
        "with the interval of the test of all pairs: what excludes 0 is separated. In brackets behind a rank: the "
        "ranks that this test leaves open."
    )


def _tuning(suite: Suite) -> str:
    if not suite.num_candidates:
        return f"Each method has the settings that the suite gives it, and {len(suite.seeds)} seeds; none was tuned."
    num_tuning = suite.num_candidates * len(suite.tuning_seeds)
    return (
        f"Each method was tuned over {suite.num_candidates} candidates on {len(suite.tuning_seeds)} seeds of their own "
        f"({num_tuning} trials a task at the full budget) and is ranked with the best of them, on {len(suite.seeds)} "
        "other seeds."
    )


def _cells(table: Standings, row: Row) -> dict[str, str]:
    default = table.defaults.get(row.method)
    beside = {"with default settings": interval_text(default.final.iqm) if default is not None else number_text(None)}
    chosen = {"chosen": escaped(table.chosen.get(row.method, "")) or number_text(None)}
    return {
        "rank": rank_text(row.final),
        "method": escaped(row.method + (f" ({row.note})" if row.note else "")),
        "IQM [95% interval]": interval_text(row.final.iqm),
        f"more than {CONTROL} [interval]": interval_text(table.against_control.get(row.method, Estimate())),
        **(beside if table.defaults else {}),
        "after the first change": interval_text(row.after.iqm),
        **(chosen if table.defaults and table.task != ALL else {}),
        "seeds": str(row.n_seeds),
        "diverged": diverged_text(row),
        "not finite": not_finite_text(row),
    }
