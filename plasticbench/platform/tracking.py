"""Mirrors committed records into MLflow: experiment = benchmark, parent run = task and method, child run = trial.

The record files are the truth. The mirror only follows them, so it may fail, lag or start over at any time.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plasticbench import storage
from plasticbench.platform._mlflow import (
    RunStatus,
    Store,
    TrackingUnavailable,
    check,
    database_uri,
    scheme,
    session,
)
from plasticbench.platform._run_specs import Trial, method_spec, report_spec, trial_spec
from plasticbench.records import Record, is_layer_value, read_bytes, read_records
from plasticbench.storage import Location

__all__ = ["Mirror", "RunStatus", "TrackingUnavailable", "check", "ui_command"]

_WINDOW_BYTES = 1 << 20  # about 9,000 records: held in memory at once, and sent again after a crash
_MEAN_METRICS = ("eval/return", "eval/score")


class Mirror:
    """Follows the record files of one run directory into one MLflow store. Made for one thread of one process."""

    def __init__(self, run_dir: Location, tracking_uri: str | None) -> None:
        """Touches neither disk nor network; without ``tracking_uri`` the store is ``mlflow.db`` in ``run_dir``."""
        self._run_dir = run_dir
        self._uri = tracking_uri or _embedded_uri(run_dir)
        scheme(self._uri)  # a wrong one is the user's error, to be told before anything starts
        self._store: Store | None = None
        self._runs: dict[str | tuple[str, str], str] = {}  # MLflow run ids by trial id, and by (task, method)

    def pump(self, committed: Mapping[str, int]) -> int:
        """Sends what is committed and not yet sent, and returns the number of records.

        ``committed`` holds the committed length in bytes of each trial's record file.
        Raises ``TrackingUnavailable`` if the store fails; the next call goes on from there.
        """
        with self._connected() as store:
            return sum(self._pump_trial(store, self._trials[trial], end) for trial, end in committed.items() if end)

    def finish(self, trial_id: str, status: RunStatus) -> None:
        """Ends a trial's run."""
        with self._connected() as store:
            store.end(self._trial_run(store, self._trials[trial_id]), status)

    def finish_all(self, statuses: Mapping[str, RunStatus]) -> None:
        """Ends the runs of these trials and those of their methods, which get the means over their seeds.

        A method is FINISHED if all its trials are.
        """
        with self._connected() as store:
            for trial_id, status in statuses.items():
                store.end(self._trial_run(store, self._trials[trial_id]), status)
            for trials in self._methods.values():
                if any(trial["id"] in statuses for trial in trials):
                    run = self._method_run(store, trials[0])
                    store.log(run, self._means(store, trials))
                    store.end(run, _worst([statuses.get(trial["id"], "KILLED") for trial in trials]))

    def log_report(self, report_dir: Location) -> None:
        """Keeps the report's files as artifacts of a run called ``report``."""
        with self._connected() as store, _local_copy(report_dir) as folder:
            run = store.run(report_spec(self._plan))
            store.log_folder(run, folder, "report")
            store.end(run, "FINISHED")

    @contextmanager
    def _connected(self) -> Iterator[Store]:
        with session(self._uri):
            try:
                if self._store is None:
                    name, note = self._plan["name"], str(self._plan["description"])
                    artifacts = (self._run_dir / "mlartifacts").resolve().as_uri()
                    self._store = Store.open(self._uri, name, note, artifacts, self._directory_id)
                yield self._store
            except BaseException:
                # A store can come back without the runs that we know, so the next call looks for them again.
                self._store = None
                self._runs.clear()
                raise

    def _pump_trial(self, store: Store, trial: Trial, end: int) -> int:
        run = self._trial_run(store, trial)
        # A file shorter than what was sent was cut back to an older commit, and grows again from there.
        start = min(self._sent.get(run, 0), end)
        count = 0
        for records, position in _windows(self._record_file(trial), start, end):
            store.reopen(self._method_run(store, trial))
            store.reopen(run)
            shown = [record for record in records if self._shows(record.name)]
            store.log(run, shown)
            self._sent[run] = position
            storage.write_atomically(self._sent_file, json.dumps(self._sent).encode())
            count += len(shown)
        return count

    def _shows(self, name: str) -> bool:
        return self._plan.get("tracked_probes", "all") == "all" or not is_layer_value(name)

    def _trial_run(self, store: Store, trial: Trial) -> str:
        if trial["id"] not in self._runs:
            parent = self._method_run(store, trial)
            self._runs[trial["id"]] = store.run(trial_spec(self._plan, trial, parent))
        return self._runs[trial["id"]]

    def _method_run(self, store: Store, trial: Trial) -> str:
        key = trial["task"], trial["method"]
        if key not in self._runs:
            self._runs[key] = store.run(method_spec(self._plan, self._methods[key]))
        return self._runs[key]

    def _means(self, store: Store, trials: Sequence[Trial]) -> list[Record]:
        """Means of the evaluations over the seeds, at the steps that all seeds have reached.

        Leaving the other steps out makes a mean final: no record that comes later changes one that was sent.
        """
        found: dict[tuple[int, str], dict[str, Record]] = {}
        for trial in trials:
            sent = self._sent.get(self._trial_run(store, trial), 0)
            for records, _ in _windows(self._record_file(trial), 0, sent):
                for record in records:
                    if record.name in _MEAN_METRICS:
                        found.setdefault((record.step, record.name), {})[trial["id"]] = record
        return [
            Record(
                "", step, name, statistics.fmean(r.value for r in seeds.values()), max(r.time for r in seeds.values())
            )
            for (step, name), seeds in sorted(found.items())
            if len(seeds) == len(trials)
        ]

    def _record_file(self, trial: Trial) -> Location:
        return self._run_dir / "records" / f"{trial['id']}.jsonl"

    @cached_property
    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads(storage.read(self._run_dir / "plan.json"))
        return plan

    @cached_property
    def _trials(self) -> dict[str, Trial]:
        return {trial["id"]: trial for trial in self._plan["trials"]}

    @cached_property
    def _methods(self) -> dict[tuple[str, str], list[Trial]]:
        methods: dict[tuple[str, str], list[Trial]] = {}
        for trial in self._plan["trials"]:
            methods.setdefault((trial["task"], trial["method"]), []).append(trial)
        return methods

    @cached_property
    def _directory_id(self) -> str:
        """Keeps the runs of two directories apart that track one benchmark into one store."""
        path = self._run_dir / "run_id"
        if not path.exists():
            storage.write_atomically(path, uuid.uuid4().hex.encode())
        return storage.read(path).decode()

    @property
    def _sent_file(self) -> Location:
        return self._run_dir / "mirror" / f"{hashlib.sha256(self._uri.encode()).hexdigest()[:16]}.json"

    @cached_property
    def _sent(self) -> dict[str, int]:
        """Bytes sent to each MLflow run: a run that is deleted in MLflow gets its successor filled from the start."""
        try:
            sent: dict[str, int] = json.loads(storage.read(self._sent_file))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}  # new, or torn by a power cut: sending everything again changes nothing
        return sent


def ui_command(run_dir: Location, port: int) -> list[str]:
    """The command that serves MLflow's pages for the store in ``run_dir`` on 127.0.0.1."""
    database = run_dir / "mlflow.db"
    if not (isinstance(database, Path) and database.exists()):
        raise ValueError(f"{run_dir}: holds no mlflow.db; open the store that --tracking-uri named when it ran")
    # Job execution is for MLflow's hosted evaluations; without it the pages are there in 5 s instead of 13.
    server = ["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"]
    server += [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database_uri(database)]
    return [*server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def _embedded_uri(run_dir: Location) -> str:
    if not isinstance(run_dir, Path):
        raise ValueError(f"tracking_uri: must be given, since {run_dir} cannot hold an mlflow.db")
    return database_uri(run_dir / "mlflow.db")


@contextmanager
def _local_copy(folder: Location) -> Iterator[Path]:
    """MLflow sends local files alone."""
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for name in storage.entries(folder):
            (Path(copy) / name).write_bytes(storage.read(folder / name))
        yield Path(copy)


def _worst(statuses: Sequence[RunStatus]) -> RunStatus:
    order: tuple[RunStatus, ...] = ("FAILED", "KILLED", "FINISHED")
    return min(statuses, key=order.index)


def _windows(path: Location, start: int, end: int) -> Iterator[tuple[list[Record], int]]:
    """Records of ``[start, end)`` in pieces of bounded size, each with the position where it ends."""
    while start < end:
        length = read_bytes(path, start, min(start + _WINDOW_BYTES, end)).rfind(b"\n") + 1
        if length == 0:
            return  # less than one line is committed or on disk
        start += length
        yield list(read_records(path, start - length, start)), start
