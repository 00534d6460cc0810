"""What people see first in MLflow's pages: the runs of the benchmark, with the columns that answer its question."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Runs, metrics and charts; without it MLflow 3.17 opens an experiment on its pages for language models."""

_VIEW = "plasticbench"
_COLUMNS = ["tags.`method`", "tags.`iqm`", "metrics.`eval/score`", "metrics.`eval/return`"]
_TABLE = {
    "selectedColumns": _COLUMNS,
    "columnOrder": _COLUMNS,
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}
_SEARCH = {
    "searchFilter": "",
    "orderByKey": "attributes.start_time",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
}

EXPERIMENT_TAGS = EXPERIMENT_KIND | {f"mlflow.sharedViewState.{_VIEW}": json.dumps(_TABLE | _SEARCH)}
"""With a view that MLflow's pages take from their address, as those do that people share."""


def page(server: str, database: Path, experiment: str) -> str:
    """The address of a benchmark's runs, or of the start page while the database does not have it."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
        query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
        try:
            found = opened.execute(query, (experiment,)).fetchone()
        except sqlite3.Error:
            found = None
    return (
        f"{server}/#/experiments/{found[0]}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW}"
        if found
        else server
    )
