"""What a leaderboard was made of, from the files of its runs alone: the same of these give the same bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from plasticbench import storage
from plasticbench.analysis.machines import machines
from plasticbench.analysis.outcomes import RECORD_NAMES, outcome_rows
from plasticbench.analysis.runs import Run
from plasticbench.records import read_bytes
from plasticbench.storage import Location

_TIME = re.compile(rb'"time": ?([0-9.e+]+)}')
_END_BYTES = 2_000  # hold several records


def provenance(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Which code made which trials of each run when and where, and a hash of the records that the rows come from.

    The hash is over trials, steps and values, not over times and files: two runs that measured the same have the same.
    """
    return {"runs": [_of_run(run, table) for run, table in zip(runs, tables, strict=True)]}


def _of_run(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    first_s, last_s = _times(run)
    return {
        "name": run.name,
        "version": run.version,
        "versions": dict(run.versions),
        "budget_steps": run.budget_steps,
        "num_trials": len(run.trials),
        "methods": run.methods,
        "controls": [method for method in run.methods if method in run.controls],
        "first_record": _date(first_s),
        "last_record": _date(last_s),
        "wall_s": None if first_s is None or last_s is None else round(last_s - first_s, 1),
        "machines": machines(run),
        "benchmark_yaml": _benchmark(run),
        "trials_sha256": hashlib.sha256("\n".join(trial.id for trial in run.trials).encode()).hexdigest(),
        "records_sha256": _records_hash(table),
    }


def _times(run: Run) -> tuple[float | None, float | None]:
    """When the first and the last record of all trials were measured, in seconds since 1970."""
    firsts, lasts = [], []
    for trial in run.trials:
        try:
            data = read_ends(run.path / "records" / f"{trial.id}.jsonl")
        except FileNotFoundError:
            continue
        if times := _TIME.findall(data):
            firsts.append(float(times[0]))
            lasts.append(float(times[-1]))
    return min(firsts, default=None), max(lasts, default=None)


def read_ends(path: Location) -> bytes:
    """The beginning and the end of a file, which is read whole where it is in parts."""
    if not isinstance(path, Path):
        return read_bytes(path)
    with open(path, "rb") as file:
        begin = file.read(_END_BYTES)
        file.seek(max(len(begin), path.stat().st_size - _END_BYTES))
        return begin + file.read()


def _date(time_s: float | None) -> str | None:
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")


def _benchmark(run: Run) -> str | None:
    try:
        return storage.read(run.path / "benchmark.yaml").decode()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _records_hash(table: pd.DataFrame) -> str:
    """Of a table's rows in their order: trials as the plan has them, records as their files have them."""
    rows = outcome_rows(table)
    names = rows["name"].cat.set_categories(RECORD_NAMES)
    digest = hashlib.sha256()
    for codes in (rows["task"].cat.codes, rows["method"].cat.codes, names.cat.codes, rows["seed"], rows["step"]):
        digest.update(codes.to_numpy().astype("<i8").tobytes())
    digest.update(rows["value"].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()
