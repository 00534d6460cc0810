"""The tables of a suite as Markdown, for ``leaderboard.md``, README and a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from plasticbench.analysis.leaderboard_text import (
    diverged_text,
    escaped,
    interval_text,
    not_finite_text,
    number_text,
    rank_text,
)
from plasticbench.analysis.rows import ALL, Estimate, Row
from plasticbench.platform.suites.board import CONTROL, Board, Standings
from plasticbench.platform.suites.definition import Suite

_COLUMNS = ("rank", "method", "IQM [95% interval]", f"more than {CONTROL}", "by itself", "after the first change")


def to_markdown(board: Board) -> str:
    """The content of ``leaderboard.md``."""
    parts = [f"# {escaped(board.suite.label)}", _protocol(board.suite)]
    for table in board.tables:
        parts += [f"## {_title(table)}", table_text(table)]
    if any(board.absent.values()):
        missing = (
            f"* {escaped(task)}: {', '.join(map(escaped, names))}" for task, names in board.absent.items() if names
        )
        parts += ["## Not run yet", "\n".join(missing)]
    return "\n\n".join(parts) + "\n"


def table_text(table: Standings) -> str:
    """One table: ranked methods, then references."""
    columns = [*_COLUMNS, *(["chosen"] if table.task != ALL else []), "seeds", "diverged", "not finite"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    lines += [f"| {' | '.join(_cells(table, row))} |" for row in table.rows]
    lines += [f"| {' | '.join(_cells(table, row, is_reference=True))} |" for row in table.references]
    return "\n".join(lines)


def _title(table: Standings) -> str:
    return "All tasks" if table.task == ALL else escaped(table.task)


def _protocol(suite: Suite) -> str:
    windows = ", ".join(f"{task.name} {task.window:.0%}" for task in suite.tasks)
    num_tuning = suite.num_candidates * len(suite.tuning_seeds)
    return (
        f"{escaped(suite.description)} Scores are means of the end of the budget ({escaped(windows)}). Each method "
        f"was tuned over {suite.num_candidates} candidates on {len(suite.tuning_seeds)} seeds of their own ("
        f"{num_tuning} trials a task at the full budget) and is "
        f"ranked with the best of them, on {len(suite.seeds)} other seeds; *by itself* is its IQM with its default "
        f"settings. *More than {CONTROL}* is the difference of means with the interval of the test of all pairs: what "
        "excludes 0 is separated. In brackets behind a rank: the ranks that this test leaves open."
    )


def _cells(table: Standings, row: Row, *, is_reference: bool = False) -> Iterator[str]:
    name = escaped(row.method + (f" ({row.note})" if row.note else ""))
    default = table.defaults.get(row.method)
    yield "reference" if is_reference else rank_text(row.final)
    yield name
    yield interval_text(row.final.iqm)
    yield interval_text(table.against_control.get(row.method, Estimate()))
    yield interval_text(default.final.iqm) if default is not None and not is_reference else number_text(None)
    yield interval_text(row.after.iqm)
    if table.task != ALL:
        yield escaped(table.chosen.get(row.method, "")) or number_text(None)
    yield str(row.n_seeds)
    yield diverged_text(row)
    yield not_finite_text(row)
