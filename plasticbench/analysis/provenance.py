"""What a leaderboard was made of, from plans and records alone: the same of these give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from plasticbench.analysis.outcomes import RECORD_NAMES, outcome_rows
from plasticbench.analysis.runs import Run


def provenance(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Which code made which trials of each run, and a hash of the records that the rows come from.

    The hash is over trials, steps and values, not over times and files: two runs that measured the same have the same.
    """
    return {"runs": [_of_run(run, table) for run, table in zip(runs, tables, strict=True)]}


def _of_run(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    return {
        "name": run.name,
        "version": run.version,
        "versions": dict(run.versions),
        "budget_steps": run.budget_steps,
        "num_trials": len(run.trials),
        "trials_sha256": hashlib.sha256("\n".join(trial.id for trial in run.trials).encode()).hexdigest(),
        "records_sha256": _records_hash(table),
    }


def _records_hash(table: pd.DataFrame) -> str:
    """Of a table's rows in their order: trials as the plan has them, records as their files have them."""
    rows = outcome_rows(table)
    names = rows["name"].cat.set_categories(RECORD_NAMES)
    digest = hashlib.sha256()
    for codes in (rows["task"].cat.codes, rows["method"].cat.codes, names.cat.codes, rows["seed"], rows["step"]):
        digest.update(codes.to_numpy().astype("<i8").tobytes())
    digest.update(rows["value"].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()
