"""Writes tables of published results into README.md and docs/results.md: ``python docs/results.py [--check]``.

A block begins with ``<!-- results SUITE TASK -->`` (``all`` for all tasks together) and ends with ``<!-- end -->``.
With ``--check`` nothing is written, and what is not as the records give it is named.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from plasticbench.platform.suites import publishing
from plasticbench.platform.suites.board import make_board
from plasticbench.platform.suites.definition import find_suite, suite_names
from plasticbench.platform.suites.markdown import IN_SHORT, table_text

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
_BLOCK = re.compile(r"(<!-- results ([\w-]+) (\w+) -->\n\n?).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with the tables that its blocks name."""
    return _BLOCK.sub(lambda block: f"{block[1].rstrip()}\n\n{_table(block[2], block[3])}\n\n{block[4]}", text)


def _table(name: str, task: str) -> str:
    suite = find_suite(name)
    tables = {table.task: table for table in make_board(suite, publishing.published(suite)).tables}
    return table_text(tables[task], IN_SHORT) if task in tables else "Nothing is published yet."


def main() -> None:
    """Writes tables and pages, or exits with a message that names what is not what it would write."""
    suites = [suite for suite in map(find_suite, suite_names()) if publishing.published(suite)]
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES if page.exists()}
    if "--check" not in sys.argv:
        for suite in suites:
            publishing.write_tables(suite, publishing.published(suite), publishing.FOLDER / suite.label)
        for page, text in pages.items():
            page.write_text(filled(text), encoding="utf-8")
        return
    wrong = [f"results/{suite.label}/{name}" for suite in suites for name in publishing.differing(suite)]
    wrong += [page.name for page, text in pages.items() if filled(text) != text]
    if wrong:
        raise SystemExit(f"{', '.join(wrong)}: not what the published records give: run `make docs`")


if __name__ == "__main__":
    main()
