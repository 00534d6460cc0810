"""What MLflow is told of a run's report: the answer as a description, and final numbers as metrics. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from plasticbench.records import Record

CHARTS = "#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"
"""Where MLflow draws the curves of an experiment's runs."""
_FINAL = ("iqm", "iqm_low", "iqm_high", "rank")


def final_records(row: Mapping[str, Any], board: Mapping[str, Any]) -> list[Record]:
    """A row's final numbers at the end of the budget, as of the last record, so that sending them again is harmless."""
    (source,) = board["provenance"]["runs"]
    if source.get("last_record") is None:
        return []
    time_s = datetime.fromisoformat(source["last_record"]).timestamp()
    values = {name: row[name] for name in _FINAL if row[name] is not None}
    return [Record("", source["budget_steps"], f"final/{name}", value, time_s) for name, value in values.items()]


def experiment_note(description: str, experiment: str, report_run: str) -> str:
    """The benchmark's own words, and where to look first."""
    charts = CHARTS.format(experiment=experiment)
    links = f"[Answer and leaderboard](#/experiments/{experiment}/runs/{report_run}) · [Curves]({charts})"
    return "\n\n".join(filter(None, [description, links]))


def is_ours(note: str, description: str) -> bool:
    """Whether nobody has written a note of their own."""
    return note in ("", description) or "compareRunsMode=CHART" in note


def iqm_text(row: Mapping[str, Any]) -> str:
    """``0.91 [0.85, 0.96]``."""
    bounds = "" if row["iqm_low"] is None else f" [{row['iqm_low']:.3f}, {row['iqm_high']:.3f}]"
    return f"{row['iqm']:.3f}{bounds}"
