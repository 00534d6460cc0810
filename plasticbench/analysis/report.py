"""Writes a run's report: one HTML file that opens offline, and the leaderboard as JSON and Markdown.

Everything comes from the plan, the records and the films, and the same of these give the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from plasticbench import storage
from plasticbench.analysis import page
from plasticbench.analysis.divergence import RATIO
from plasticbench.analysis.leaderboard import Leaderboard, board_of
from plasticbench.analysis.leaderboard_text import failures_to_markdown, to_json, to_markdown
from plasticbench.analysis.not_finite import MARK, counted, for_figures
from plasticbench.analysis.outcomes import outcome_rows, outcomes, references
from plasticbench.analysis.plasticity import probes_at_end
from plasticbench.analysis.restarts import RESTARTED
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.failures import failures_name
from plasticbench.storage import Location

_NAMES = (
    rf'(?:eval|loss)/[^"]*|train/return|{RATIO}|q/mean|{MARK}[^"]*|{RESTARTED}|(?:plasticity|reset/after)/[^/"]+/[^/"]+'
)
"""Records of whole networks alone; those of single layers would fill the page."""


@np.errstate(over="ignore", invalid="ignore")  # what floats cannot hold is left out of tables and figures
def write_report(run_dir: Location) -> Location:
    """Writes ``report/index.html``, ``leaderboard.json`` and ``leaderboard.md``; returns the path of the page.

    All of them or, whatever fails, none: a table never lies beside the page of another day.
    """
    run = load_run(run_dir)
    table = read_table(run, _NAMES)
    own = outcome_rows(table)
    found, probes = outcomes([run], [own]), probes_at_end([run], [table])
    board = board_of([run], [own], found, probes.rows)
    [shown] = counted([for_figures(table)], references([run]))
    texts = {
        "leaderboard.json": json.dumps(to_json(board), indent=1, allow_nan=False) + "\n",
        "leaderboard.md": (
            page.answer_text(run, shown, probes, board)
            + to_markdown(board.rows)
            + failures_to_markdown(found, f"../{failures_name(run.path)}")
        ),
        "index.html": page.report_page(run, shown, found, probes, board),
    }
    folder = run.path / "report"
    storage.write_together({folder / name: text.encode() for name, text in texts.items()})
    return folder / "index.html"


def write_leaderboard_html(board: Leaderboard, path: Path) -> None:
    """Writes the boards alone as one HTML file, for several runs that are compared."""
    Path(path).write_text(page.leaderboard_page(board), encoding="utf-8")
