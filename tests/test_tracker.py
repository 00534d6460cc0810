"""The tracker as a process of its own, against real stores that fail: nothing stops it, and nothing is there twice."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import Server, mlflow_server, postgresql
from small_runs import prepare, small
from tracker_process import TrackerProcess

from plasticbench.platform.planning.plan import Plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror, TrackingUnavailable
from plasticbench.platform.tracking.tracker import Tracker
from plasticbench.records import Record, RecordWriter, read_records

pytestmark = pytest.mark.slow

_TIMEOUT_S = 200.0  # on a machine that does other things as well

_ROWS = (
    "SELECT t.value, m.key, m.step, m.value, m.timestamp FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid "
    "JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'plasticbench.trial' WHERE r.lifecycle_stage = 'active'"
)
_RUNS = (
    "SELECT t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'plasticbench.trial' "
    "WHERE r.lifecycle_stage = 'active'"
)


def append(run_dir: Path, plan: Plan, first_step: int, num_steps: int) -> dict[str, int]:
    """Three records at each step in every trial's file; returns the files' lengths."""
    lengths = {}
    for trial in plan.trials:
        path = RunDirectory(run_dir).record_file(trial.id)
        writer = RecordWriter(path, path.stat().st_size if path.exists() else 0)
        writer.write(
            Record(trial.id, step, name, step / 7 + trial.seed, 1.7e9 + step / 1000)
            for step in range(first_step, first_step + num_steps)
            for name in ("eval/return", "loss/td", "train/length")
        )
        lengths[trial.id] = writer.sync()
        writer.close()
    return lengths


def recorded(run_dir: Path, plan: Plan) -> list[tuple[Any, ...]]:
    files = [read_records(RunDirectory(run_dir).record_file(trial.id)) for trial in plan.trials]
    return sorted((one.trial, one.name, one.step, one.value, int(one.time * 1000)) for file in files for one in file)


def rows(database: Path | Server, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database) if isinstance(database, Path) else psycopg.connect(database.uri)) as opened:
        return sorted(opened.execute(query).fetchall())


@contextmanager
def tracking(run_dir: Path, tracking_uri: str | None = None) -> Iterator[TrackerProcess]:
    tracker = TrackerProcess(run_dir, tracking_uri)
    try:
        yield tracker
    finally:
        tracker.kill()


def wait_for(run_dir: Path, num_rows: int) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        with suppress(sqlite3.OperationalError):  # MLflow is still making the tables
            if len(rows(run_dir / "mlflow.db", _ROWS)) >= num_rows:
                return
        time.sleep(0.1)
    raise AssertionError(f"{num_rows} records did not arrive")


def test_records_that_cannot_be_read_hold_up_no_other_trial_and_are_sent_when_they_are_back(tmp_path: Path) -> None:
    plan = prepare(tmp_path, small())
    lengths = append(tmp_path, plan, 0, 5)
    hidden = RunDirectory(tmp_path).record_file(plan.trials[0].id)
    hidden.rename(tmp_path / "elsewhere")
    with tracking(tmp_path) as tracker:
        tracker.committed({"nobody": 7} | lengths)
        wait_for(tmp_path, 3 * 5 * (len(plan.trials) - 1))
        (tmp_path / "elsewhere").rename(hidden)
        wait_for(tmp_path, 3 * 5 * len(plan.trials))
        message = tracker.finish()
    assert message is not None
    assert "nobody" in message
    assert rows(tmp_path / "mlflow.db", _ROWS) == recorded(tmp_path, plan)


def test_an_unexpected_error_reaches_the_driver_and_stops_nothing(tmp_path: Path) -> None:
    plan, in_the_way = prepare(tmp_path, small()), tmp_path / "mirror"
    in_the_way.write_text("a file where the tracker keeps its folder")
    lengths = append(tmp_path, plan, 0, 5)
    with tracking(tmp_path) as tracker:
        tracker.committed(lengths)
        message = tracker.finish()
    assert message is not None
    assert "NotADirectoryError" in message

    with tracking(tmp_path) as tracker:
        tracker.committed(lengths)
        time.sleep(5)
        in_the_way.unlink()
        wait_for(tmp_path, 3 * 5 * len(plan.trials))
        assert tracker.finish() is None
    assert rows(tmp_path / "mlflow.db", _RUNS) == sorted((trial.id, "FINISHED") for trial in plan.trials)


def test_news_that_arrives_while_an_older_one_fails_is_what_the_next_round_sends(tmp_path: Path, monkeypatch) -> None:
    plan, pump = prepare(tmp_path, small()), Mirror.pump
    failed = []

    def fails_once(mirror: Mirror, news: dict[str, int]) -> int:
        if news and not failed:
            failed.append(news)
            tracker.committed(append(tmp_path, plan, 5, 5))
            raise TrackingUnavailable("just now")
        return pump(mirror, news)

    monkeypatch.setattr(Mirror, "pump", fails_once)
    tracker = Tracker(str(tmp_path), None)
    tracker.committed(append(tmp_path, plan, 0, 5))
    while not failed:
        time.sleep(0.01)
    assert tracker.finish({}, {trial.id: "FINISHED" for trial in plan.trials}, None) is None
    assert rows(tmp_path / "mlflow.db", _ROWS) == recorded(tmp_path, plan)


def test_a_tracker_that_dies_while_it_makes_the_database_leaves_no_half_of_one(tmp_path: Path) -> None:
    plan = prepare(tmp_path, small())
    lengths = append(tmp_path, plan, 0, 5)
    for moment_s in (0.05, 0.3, 0.9):
        with tracking(tmp_path):
            _wait_for_tables(tmp_path)
            time.sleep(moment_s)
    with tracking(tmp_path) as tracker:
        tracker.committed(lengths)
        assert tracker.finish() is None
    assert rows(tmp_path / "mlflow.db", _ROWS) == recorded(tmp_path, plan)


def _wait_for_tables(run_dir: Path) -> None:
    """Until a database is being made, or is there."""
    end = time.monotonic() + _TIMEOUT_S
    while not any(file.stat().st_size for pattern in ("mlflow.db", ".*/mlflow.db") for file in run_dir.glob(pattern)):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_death_of_every_server_and_of_the_tracker_while_it_sends_leaves_each_record_once(tmp_path: Path) -> None:
    plan = prepare(tmp_path / "run", small(seeds=10))
    with postgresql() as database, mlflow_server(database.uri, tmp_path / "server") as server:
        with tracking(tmp_path / "run", server.uri) as tracker:
            tracker.committed(append(tmp_path / "run", plan, 0, 600))
            arrived = [0]
            for victim in (server, database):
                _wait_for_more(database, arrived)
                victim.kill()
                time.sleep(1)
                victim.start()
            tracker.committed(append(tmp_path / "run", plan, 600, 100))
            _wait_for_more(database, arrived)
            sent_before_last_death = arrived[-1]
        with tracking(tmp_path / "run", server.uri) as tracker:
            tracker.committed(append(tmp_path / "run", plan, 700, 10))
            assert tracker.finish() is None
        assert arrived == sorted(set(arrived)), "every death came while records were being sent"
        assert sent_before_last_death < 3 * 700 * len(plan.trials), "the tracker died while it was sending"
        assert rows(database, _ROWS) == recorded(tmp_path / "run", plan)
        assert rows(database, _RUNS) == sorted((trial.id, "FINISHED") for trial in plan.trials)
    shutil.rmtree(tmp_path / "server")


def _wait_for_more(database: Server, arrived: list[int]) -> None:
    """Until the store holds more rows than it did before."""
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        with psycopg.connect(database.uri) as opened:
            (known,) = opened.execute("SELECT to_regclass('metrics') IS NOT NULL").fetchone() or (False,)
            count = len(opened.execute(_ROWS).fetchall()) if known else 0
        if count > arrived[-1]:
            arrived.append(count)
            return
        time.sleep(0.05)
    raise AssertionError("nothing more arrives")
