"""Published results: a folder of entries for each version of a suite, and the tables that are made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from plasticbench import storage
from plasticbench.analysis.leaderboard import Leaderboard
from plasticbench.analysis.leaderboard_text import interval_text, number_text
from plasticbench.analysis.measure_tables import FactTable, MeasureTable
from plasticbench.analysis.page import leaderboard_page
from plasticbench.analysis.rows import ALL, Estimate
from plasticbench.platform.suites import board as boards
from plasticbench.platform.suites.board import Board, make_board
from plasticbench.platform.suites.definition import Suite
from plasticbench.platform.suites.entries import Entries, Entry, read_entries
from plasticbench.platform.suites.markdown import to_markdown, told_apart, whole_run

FOLDER = Path(__file__).parents[2] / "results"
"""What was published with the package."""


def published(suite: Suite, folder: Path = FOLDER) -> dict[tuple[str, str], Entry]:
    """The entries of a suite's version that were published."""
    return dict(read_entries(folder / suite.label))


def tables(suite: Suite, entries: Entries) -> dict[str, str]:
    """``leaderboard.md``, ``.json`` and ``.html`` of a suite, by file name."""
    board = make_board(suite, entries)
    return {
        "leaderboard.md": to_markdown(board),
        "leaderboard.json": json.dumps(boards.to_json(board), indent=1, allow_nan=False) + "\n",
        "leaderboard.html": _page(board),
    }


def _page(board: Board) -> str:
    methods = [method.name for method in board.suite.methods]
    methods += [row.method for table in board.tables for row in table.rows if row.method not in methods]
    runs = {"runs": [{"methods": list(dict.fromkeys(methods)), "controls": [boards.CONTROL]}]}
    beside: list[MeasureTable | FactTable] = []
    for table in board.tables:
        beside += [*whole_run(table), *told_apart(table)]
    return leaderboard_page(Leaderboard(boards.page_rows(board), [], [], runs), beside)


def write_tables(suite: Suite, entries: Entries, folder: Path) -> None:
    """Writes the three tables into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_together({folder / name: text.encode() for name, text in tables(suite, entries).items()})


def differing(suite: Suite, folder: Path = FOLDER) -> list[str]:
    """The published tables that are not what their entries give."""
    if not (known := published(suite, folder)):
        return []
    made, own = tables(suite, known), folder / suite.label
    return [n for n, text in made.items() if not (own / n).exists() or (own / n).read_text(encoding="utf-8") != text]


def compared(suite: Suite, known: Entries, made: Sequence[Entry]) -> Iterator[str]:
    """A line for each entry that was made anew: whether its IQM lies in the interval of the published one."""
    before, after = (_iqms(suite, entries) for entries in (known, {(e["task"], e["method"]): e for e in made}))
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        if old.low is None or old.high is None or new.value is None:
            continue
        verdict = "inside" if old.low <= new.value <= old.high else "outside"
        yield f"{key[1]} on {key[0]}: IQM {number_text(new.value)}, {verdict} the published {interval_text(old)}"


def _iqms(suite: Suite, entries: Entries) -> dict[tuple[str, str], Estimate]:
    tables = make_board(suite, entries).tables
    return {(table.task, row.method): row.final.iqm for table in tables for row in table.rows if table.task != ALL}
