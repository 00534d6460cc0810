"""Mirrors committed records into MLflow: experiment = benchmark, parent run = task and method, child run = trial.

The record files are the truth. The mirror only follows them, so it may fail, lag or start over at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from plasticbench import storage
from plasticbench.analysis.divergence import RATIO, ValueCourse
from plasticbench.analysis.not_finite import mark
from plasticbench.analysis.restarts import RESTARTED
from plasticbench.platform.tracking.mlflow_store import (
    RunStatus,
    Store,
    TrackingUnavailable,
    check,
    masked,
    session,
)
from plasticbench.platform.tracking.positions import Positions
from plasticbench.platform.tracking.report_run import final_records, iqm_text
from plasticbench.platform.tracking.run_specs import NOTE, RunSpec, RunSpecs, Trial
from plasticbench.platform.tracking.store_uris import accepted, database_uri, scheme
from plasticbench.records import Record, is_layer_value, read_bytes, read_records
from plasticbench.storage import Location
from plasticbench.visible import visible

__all__ = ["Mirror", "RunStatus", "TrackingUnavailable", "UnreadableRecords", "check", "masked"]

_WINDOW_BYTES = 1 << 20  # about 9,000 records: held in memory at once, and sent again after a crash
_MEAN_METRICS = ("eval/return", "eval/score")
_NUM_CONNECTIONS = 2  # to a server or PostgreSQL: most of a request's time is waiting
_T = TypeVar("_T")
_R = TypeVar("_R")


class UnreadableRecords(RuntimeError):
    """Record files are missing or damaged; the message names the first. Everything else was sent."""


class Mirror:
    """Follows the record files of one run directory into one MLflow store. Made for one thread of one process."""

    def __init__(self, run_dir: Location, tracking_uri: str | None) -> None:
        """Touches neither disk nor network; without ``tracking_uri`` the store is ``mlflow.db`` in ``run_dir``."""
        self._run_dir = run_dir
        self._uri = accepted(tracking_uri) if tracking_uri else _embedded_uri(run_dir)
        self._scheme = scheme(self._uri)  # a wrong one is the user's error, to be told before anything starts
        self._store: Store | None = None
        self._runs: dict[str | tuple[str, str], str] = {}  # MLflow run ids by trial id, and by (task, method)
        self._values: dict[str, tuple[int, ValueCourse]] = {}  # by trial, up to a position of its record file
        self._reached: dict[str | tuple[str, str], float] = {}  # bytes, and infinity for what has ended
        self.progress = 0  # grows while anything new is sent: what is sent again after a failure is no progress

    @property
    def left(self) -> int:
        """Trials that have not been ended yet."""
        return sum(self._reached.get(trial) != math.inf for trial in self._trials)

    def _reaches(self, what: str | tuple[str, str], position: float) -> None:
        if position > self._reached.get(what, -1):
            self._reached[what] = position
            self.progress += 1

    def pump(self, committed: Mapping[str, int]) -> int:
        """Sends what is committed and not yet sent, and returns the number of records.

        ``committed`` holds the committed length in bytes of the record files of the trials that may have news. A trial
        that has reached the budget's end is ended. Raises ``TrackingUnavailable`` if the store fails; the next call
        goes on from there. Raises ``UnreadableRecords`` when all other trials are sent.
        """
        with self._connected() as store:
            for trial_id in [name for name, end in committed.items() if end > 0 and name in self._trials]:
                self._trial_run(store, self._trials[trial_id])  # in turn, as trials share the run of their method
            with self._connections() as through:
                return sum(_do_all(committed.items(), lambda item: self._pump_trial(store, *item), through))

    def finish_all(self, statuses: Mapping[str, RunStatus], reasons: Mapping[str, str] | None = None) -> None:
        """Ends the runs of these trials and those of their methods, which get the means over their seeds.

        A method is FINISHED if all its trials are. ``reasons`` say of failed trials why they did: the note of their run
        begins with it. Raises as ``pump`` does.
        """
        with self._connected() as store:
            for trial_id, status in statuses.items():
                self._end_trial(store, self._trials[trial_id], status, (reasons or {}).get(trial_id, ""))
            concerned = [trials for trials in self._methods.values() if any(t["id"] in statuses for t in trials)]
            _do_all(concerned, lambda trials: self._end_method(store, trials, statuses, reasons or {}))

    def log_report(self, report_dir: Location) -> None:
        """Keeps the report's files as artifacts of a run called ``report``, which says what they answer.

        Methods get their final numbers, and the experiment a note with links to both.
        """
        with self._connected() as store, _local_copy(report_dir, storage.entries(report_dir)) as folder:
            run = store.run(self._specs.report())
            store.log_folder(run, folder, "report")
            store.end(run, "FINISHED")
            if (text := folder / "leaderboard.md").exists():
                store.tag(run, NOTE, text.read_text(encoding="utf-8"))
            store.describe(str(self._plan["description"]), run)
            board = folder / "leaderboard.json"
            found = json.loads(board.read_bytes()) if board.exists() else {"rows": []}
            for row in found["rows"]:
                if row["iqm"] is not None and (row["task"], row["method"]) in self._methods:
                    method = self._method_run(store, self._methods[row["task"], row["method"]][0])
                    store.tag(method, "iqm", iqm_text(row))
                    store.log(method, final_records(row, found))

    @contextmanager
    def _connected(self) -> Iterator[Store]:
        with session(self._uri):
            try:
                if self._store is None:
                    name, note = self._plan["name"], str(self._plan["description"])
                    artifacts = (self._run_dir / "mlartifacts").resolve().as_uri()
                    self._store = Store.open(self._uri, name, note, artifacts, self._directory_id)
                yield self._store
            except UnreadableRecords:
                raise
            except BaseException:
                # A store can come back without the runs that we know, so the next call looks for them again.
                self._store = None
                self._runs.clear()
                raise
            finally:
                self._sent.save()

    @contextmanager
    def _connections(self) -> Iterator[Callable[..., Iterable[Any]]]:
        """A ``map`` over trials; several are sent at a time, unless the store has one writer at a time."""
        if self._scheme == "sqlite":
            yield map
            return
        with ThreadPoolExecutor(_NUM_CONNECTIONS) as pool:
            yield pool.map

    def _pump_trial(self, store: Store, trial_id: str, end: int) -> int:
        if end == 0 or trial_id in self._left_out:
            return 0
        if trial_id not in self._trials:
            raise UnreadableRecords(f"records of a trial that plan.json does not know cannot be mirrored: {trial_id}")
        trial = self._trials[trial_id]
        run = self._trial_run(store, trial)
        # A file shorter than what was sent was cut back to an older commit, and grows again from there.
        start = min(self._sent[run], end)
        count, last_step, values = 0, -1, self._values_before(trial, start, end)
        for records, position in _windows(self._record_file(trial), start, end):
            self._reopen(store, self._method_run(store, trial), lambda: self._method_spec(trial))
            self._reopen(store, run, lambda: self._trial_spec(store, trial))
            shown = [record for record in records if self._shows(record.name)]
            store.log(run, shown)
            values = self._tell_divergence(store, run, values, records)
            if (broken := mark([r.name for r in records], [r.step for r in records])) is not None:
                store.tag(run, "not_finite", f"{broken.what} at step {broken.step}")
            if restarts := [record.step for record in records if record.name == RESTARTED]:
                store.tag(run, "restarted", f"at step {restarts[-1]}")
            self._sent[run], self._values[trial_id] = position, (position, values)
            self._reaches(trial_id, position)
            count, last_step = count + len(shown), records[-1].step
        if last_step >= self._plan.get("budget_steps", math.inf):
            self._end_trial(store, trial, "FINISHED")  # now, as ending thousands together would take long
        return count

    def _values_before(self, trial: Trial, start: int, end: int) -> ValueCourse:
        """What the records before ``start`` showed; read again where another process sent them."""
        position, values = self._values.get(trial["id"], (0, ValueCourse()))
        if position == start or start == end:
            return values
        values = ValueCourse()
        for records, _ in _windows(self._record_file(trial), 0, start):
            values = _followed(values, records)
        return values

    def _tell_divergence(self, store: Store, run: str, before: ValueCourse, records: Iterable[Record]) -> ValueCourse:
        """Tags a run once its values have diverged."""
        after = _followed(before, records)
        if before.mark is None and after.mark is not None:
            store.tag(run, "diverged", f"from step {after.mark.first_step}")
        return after

    def _reopen(self, store: Store, run: str, spec: Callable[[], RunSpec]) -> None:
        if store.status(run) == "FAILED":
            self._note(store, run, spec(), "")
        store.reopen(run)

    def _note(self, store: Store, run: str, spec: RunSpec, reason: str) -> None:
        parts = [f"Failed: {visible(reason)}" if reason else "", spec.tags.get(NOTE, "")]
        store.tag(run, NOTE, "\n\n".join(filter(None, parts)))

    def _end_trial(self, store: Store, trial: Trial, status: RunStatus, reason: str = "") -> None:
        run, weights = self._trial_run(store, trial), self._run_dir / "weights" / f"{trial['id']}.safetensors"
        if store.status(run) != status and status == "FINISHED" and weights.exists():
            with _local_copy(weights.parent, [weights.name]) as folder:
                store.log_file(run, folder / weights.name, "weights")
        if reason or (store.status(run) == "FAILED" and status != "FAILED"):
            self._note(store, run, self._trial_spec(store, trial), reason)
        store.end(run, status)
        self._reaches(trial["id"], math.inf)

    def _end_method(
        self, store: Store, trials: Sequence[Trial], statuses: Mapping[str, RunStatus], reasons: Mapping[str, str]
    ) -> None:
        run = self._method_run(store, trials[0])
        status = _worst([statuses.get(trial["id"], "KILLED") for trial in trials])
        if failed := [reasons[trial["id"]] for trial in trials if trial["id"] in reasons]:
            self._note(store, run, self._method_spec(trials[0]), f"{len(failed)} of {len(trials)} trials: {failed[0]}")
        elif store.status(run) == "FAILED" and status != "FAILED":
            self._note(store, run, self._method_spec(trials[0]), "")
        if store.status(run) != status:
            store.log(run, self._means(store, trials))
            store.end(run, status)
        self._reaches((trials[0]["task"], trials[0]["method"]), math.inf)

    def _shows(self, name: str) -> bool:
        return self._plan.get("tracked_probes", "all") == "all" or not is_layer_value(name)

    def _trial_run(self, store: Store, trial: Trial) -> str:
        if trial["id"] not in self._runs:
            self._runs[trial["id"]] = store.run(self._trial_spec(store, trial))
            self._reaches(trial["id"], 0)
        return self._runs[trial["id"]]

    def _method_run(self, store: Store, trial: Trial) -> str:
        key = trial["task"], trial["method"]
        if key not in self._runs:
            self._runs[key] = store.run(self._method_spec(trial))
        return self._runs[key]

    def _trial_spec(self, store: Store, trial: Trial) -> RunSpec:
        return self._specs.trial(trial, self._method_run(store, trial))

    def _method_spec(self, trial: Trial) -> RunSpec:
        return self._specs.method(self._methods[trial["task"], trial["method"]])

    def _means(self, store: Store, trials: Sequence[Trial]) -> list[Record]:
        """Means of evaluations and of whole networks' probes over the seeds, at the steps that all have reached.

        Leaving the other steps out makes a mean final: no record that comes later changes one that was sent.
        """
        found: dict[tuple[int, str], dict[str, Record]] = {}
        for trial in trials:
            sent = self._sent[self._trial_run(store, trial)]
            for records, _ in _windows(self._record_file(trial), 0, sent):
                for record in records:
                    if record.name in _MEAN_METRICS or _is_probe(record.name):
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
    def _left_out(self) -> set[str]:
        """Trials that the benchmark no longer names; members may stand for them and for others."""
        return {trial["id"] for trial in self._plan.get("left_out_trials", ())}

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

    @cached_property
    def _specs(self) -> RunSpecs:
        return RunSpecs(self._plan)

    @cached_property
    def _sent(self) -> Positions:
        return Positions(self._run_dir / "mirror" / f"{hashlib.sha256(self._uri.encode()).hexdigest()[:16]}.json")


def _embedded_uri(run_dir: Location) -> str:
    if not isinstance(run_dir, Path):
        raise ValueError(f"--tracking-uri: must be given, since {run_dir} cannot hold an mlflow.db")
    return database_uri(run_dir / "mlflow.db")


@contextmanager
def _local_copy(folder: Location, names: Iterable[str]) -> Iterator[Path]:
    """A local folder that holds these files of ``folder``: MLflow sends no others."""
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for name in names:
            (Path(copy) / name).write_bytes(storage.read(folder / name))
        yield Path(copy)


def _followed(values: ValueCourse, records: Iterable[Record]) -> ValueCourse:
    for record in records:
        if record.name == RATIO:
            values = values.then(record.step, record.value)
    return values


def _is_probe(name: str) -> bool:
    return name.startswith("plasticity/") and not is_layer_value(name)


def _worst(statuses: Sequence[RunStatus]) -> RunStatus:
    order: tuple[RunStatus, ...] = ("FAILED", "KILLED", "FINISHED")
    return min(statuses, key=order.index)


def _do_all(items: Iterable[_T], action: Callable[[_T], _R], through: Callable[..., Iterable[Any]] = map) -> list[_R]:
    """Does everything that can be done before it raises ``UnreadableRecords`` for the rest."""

    def attempt(item: _T) -> tuple[_R | None, str]:
        try:
            return action(item), ""
        except UnreadableRecords as error:
            return None, str(error)

    attempts = list(through(attempt, items))
    if unreadable := [message for _, message in attempts if message]:
        more = f" (and {len(unreadable) - 1} more like this)" if len(unreadable) > 1 else ""
        raise UnreadableRecords(unreadable[0] + more)
    return [result for result, _ in attempts]


def _windows(path: Location, start: int, end: int) -> Iterator[tuple[list[Record], int]]:
    """Records of ``[start, end)`` in pieces of bounded size, each with the position where it ends."""
    while start < end:
        try:
            length = read_bytes(path, start, min(start + _WINDOW_BYTES, end)).rfind(b"\n") + 1
            records = list(read_records(path, start, start + length))
        except (OSError, ValueError) as error:
            raise UnreadableRecords(f"records cannot be mirrored: {error}") from error
        if length == 0:
            return  # less than one line is committed or on disk
        start += length
        yield records, start
