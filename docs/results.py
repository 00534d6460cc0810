"""Writes published results into README.md and docs/results.md: ``python docs/results.py [--check]``.

A block of a page begins with ``<!-- results SUITE TASK -->`` (``all`` for all tasks together) and ends with
``<!-- end -->``. ``docs/results.png`` carries a hash of the table that it shows. With ``--check`` nothing is written,
and what is not as the records give it is named.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from plasticbench.analysis.colours import method_styles
from plasticbench.analysis.rows import ALL, Estimate
from plasticbench.platform.suites import publishing
from plasticbench.platform.suites.board import CONTROL, Board, Standings, make_board
from plasticbench.platform.suites.definition import Suite, find_suite, suite_names
from plasticbench.platform.suites.markdown import IN_SHORT, table_text

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURE, SHOWN, COLUMNS = ROOT / "docs" / "results.png", "lite-v1", 2
_BLOCK = re.compile(r"(<!-- results ([\w-]+) (\w+) -->\n\n?).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with the tables that its blocks name."""
    return _BLOCK.sub(lambda block: f"{block[1].rstrip()}\n\n{_table(block[2], block[3])}\n\n{block[4]}", text)


def _table(name: str, task: str) -> str:
    tables = _board(find_suite(name)).tables
    own = [table for table in tables if table.task == task] or (tables[:1] if task == ALL else [])
    if not own:
        return "Nothing is published yet."
    caption = f"On `{own[0].task}`, all that has been run so far:\n\n" if own[0].task != task else ""
    return caption + table_text(own[0], IN_SHORT)


def _board(suite: Suite) -> Board:
    return make_board(suite, publishing.published(suite))


def draw(board: Board) -> Figure:
    """Each task's methods from the best down: IQM and interval as tuned (filled) and with default settings (open)."""
    tables = [table for table in board.tables if table.task != ALL]
    num_rows = math.ceil(len(tables) / COLUMNS)
    figure = Figure(figsize=(5.4 * COLUMNS, 4.2 * num_rows), layout="constrained")
    for axes, table in zip(figure.subplots(num_rows, COLUMNS, squeeze=False).flat, tables, strict=False):
        _draw_table(axes, table, [method.name for method in board.suite.methods])
    return figure


def _draw_table(axes: Axes, table: Standings, methods: list[str]) -> None:
    styles = method_styles(methods, {CONTROL})
    rows = sorted(table.rows, key=lambda row: row.final.iqm.value or 0.0)
    for place, row in enumerate(rows):
        colour = styles[row.method].colour if row.method in styles else "black"
        default = table.defaults.get(row.method)
        if default is not None:
            _draw_estimate(axes, default.final.iqm, place - 0.18, colour, "none")
        _draw_estimate(axes, row.final.iqm, place + 0.18, colour, colour)
    is_reference = [row.method not in table.defaults for row in rows]
    names = [f"({row.method})" if is_one else row.method for row, is_one in zip(rows, is_reference, strict=True)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_title(table.task.replace("_", " "), loc="left")
    axes.set_xlabel("IQM, 95% interval: tuned (filled), default settings (open)")
    axes.grid(axis="x", color="#e6e9ed")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_estimate(axes: Axes, iqm: Estimate, place: float, colour: str, face: str) -> None:
    if iqm.value is None or iqm.low is None:
        return
    axes.plot([iqm.low, iqm.high], [place, place], color=colour, linewidth=1.5)
    axes.plot([iqm.value], [place], "o", color=colour, markerfacecolor=face, markersize=5)


def _hash_of_table() -> str:
    folder = publishing.FOLDER / SHOWN
    return hashlib.sha256((folder / "leaderboard.json").read_bytes()).hexdigest()


def _write(suites: list[Suite]) -> None:
    for suite in suites:
        publishing.write_tables(suite, publishing.published(suite), publishing.FOLDER / suite.label)
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    if SHOWN in [suite.label for suite in suites]:
        with matplotlib.rc_context({"text.parse_math": False}):
            draw(_board(find_suite(SHOWN))).savefig(PICTURE, dpi=110, metadata={"Source": _hash_of_table()})


def _wrong(suites: list[Suite]) -> list[str]:
    wrong = [f"results/{suite.label}/{name}" for suite in suites for name in publishing.differing(suite)]
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    wrong += [page.name for page, text in pages.items() if filled(text) != text]
    if SHOWN in [suite.label for suite in suites]:
        source = Image.open(PICTURE).info.get("Source") if PICTURE.exists() else None
        wrong += [PICTURE.name] if source != _hash_of_table() else []
    return wrong


def main() -> None:
    """Writes tables, pages and picture, or exits with a message that names what is not what it would write."""
    suites = [suite for suite in map(find_suite, suite_names()) if publishing.published(suite)]
    if "--check" not in sys.argv:
        _write(suites)
    elif wrong := _wrong(suites):
        raise SystemExit(f"{', '.join(wrong)}: not what the published records give: run `make docs`")


if __name__ == "__main__":
    main()
