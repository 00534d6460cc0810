"""The end of a run: it is told at once, MLflow follows, and nothing waits for ever."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from small_runs import run_all, small

from plasticbench.failures import Failure, note_failure
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking import ending
from plasticbench.platform.tracking.flush import LocalFlush
from plasticbench.platform.training.ends import finished_bytes

_UNFILTERED = {"PYTHONWARNINGS": "ignore"}
_FULL = """
DELETE FROM metrics; DELETE FROM latest_metrics; UPDATE runs SET status = 'RUNNING';
CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'disk is full'); END;
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All trained, nothing reported, nothing in MLflow."""
    path = tmp_path_factory.mktemp("trained")
    run_all(path, small())
    return path


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(trained, path)
    assert _finish(path) is None
    return path


def _finish(path) -> str | None:
    directory = RunDirectory(path)
    plan = directory.plan()
    lengths = finished_bytes(directory, plan.segments, plan.budget_steps)
    trials = dict.fromkeys((trial.id for trial in plan.trials), "FINISHED")
    return LocalFlush(directory, None).finish(lengths, trials, None, lambda left: None)


def _resume(path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plasticbench", "resume", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | _UNFILTERED)


def _num_metrics(path) -> int:
    with closing(sqlite3.connect(path / "mlflow.db")) as opened:
        # What a report tells methods' runs beside their curves comes with the report.
        (count,) = opened.execute("SELECT count(*) FROM metrics WHERE key NOT LIKE 'final/%'").fetchone()
    return count


def _change(path, script: str) -> None:
    with closing(sqlite3.connect(path / "mlflow.db")) as opened:
        opened.executescript(script)


def test_what_is_left_to_train_is_told_from_commits_alone(trained, tmp_path):
    directory = RunDirectory(trained)
    plan = directory.plan()
    lengths = finished_bytes(directory, plan.segments, plan.budget_steps)
    assert lengths == {trial.id: directory.record_file(trial.id).stat().st_size for trial in plan.trials}
    shutil.copytree(trained, tmp_path / "run")
    damaged = RunDirectory(tmp_path / "run")
    next((damaged.checkpoints / plan.segments[-1].id).glob("state-*")).unlink()
    assert finished_bytes(damaged, plan.segments, plan.budget_steps) is None


def test_an_ending_is_known_for_the_very_records_and_store_while_they_are_there(tmp_path):
    (tmp_path / "report").mkdir()
    for name in ("index.html", "leaderboard.json", "leaderboard.md"):
        (tmp_path / "report" / name).touch()
    (tmp_path / "mlflow.db").touch()
    assert not ending.is_known(tmp_path, None, {"a": 7})
    ending.remember(tmp_path, None, {"a": 7, "b": 8})
    assert ending.is_known(tmp_path, None, {"b": 8, "a": 7})
    assert not ending.is_known(tmp_path, None, {"a": 7, "b": 9})
    assert not ending.is_known(tmp_path, "http://elsewhere:5000", {"a": 7, "b": 8})
    (tmp_path / "mlflow.db").unlink()
    assert not ending.is_known(tmp_path, None, {"a": 7, "b": 8})
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "report" / "index.html").unlink()
    assert not ending.is_known(tmp_path, None, {"a": 7, "b": 8})


def test_a_store_that_refuses_metrics_is_named_within_30_s_and_filled_once_there_is_room(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    wanted = _num_metrics(path)
    _change(path, _FULL)
    shutil.rmtree(path / "mirror")
    began = time.monotonic()
    message = _finish(path)
    assert time.monotonic() - began < 30
    assert "disk is full" in message
    assert _num_metrics(path) == 0
    _change(path, "DROP TRIGGER full")
    assert _finish(path) is None
    assert _num_metrics(path) == wanted


def test_a_deleted_experiment_is_named_with_how_to_restore_it_and_the_report_is_made_all_the_same(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    _change(path, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'small'")
    done = _resume(path)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert "the experiment 'small' was deleted in MLflow" in told
    assert "mlflow experiments restore --experiment-id 1" in told
    assert "another name" in told
    assert (path / "report" / "index.html").exists()
    restore = [sys.executable, "-m", "mlflow", "experiments", "restore", "--experiment-id", "1"]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{path}/mlflow.db"}
    subprocess.run(restore, env=os.environ | store, check=True, capture_output=True, timeout=120)
    done = _resume(path)
    assert (done.returncode, done.stderr) == (0, "")


_IMPORTED = """
import json, sys
from plasticbench.platform.cli import app
try:
    app(["resume", sys.argv[1]], standalone_mode=False)
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_finished_run_is_shown_again_without_ray_torch_mlflow_or_plots(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    assert _resume(path).returncode == 0, "makes the report"
    done = subprocess.run([sys.executable, "-c", _IMPORTED, str(path)], capture_output=True, text=True, timeout=120)
    *shown, imported = done.stdout.splitlines()
    assert any("final score" in line for line in shown)
    assert f"Report: {path}/report/index.html" in shown
    assert set(json.loads(imported)).isdisjoint({"ray", "torch", "mlflow", "matplotlib"})


@pytest.mark.slow
def test_ctrl_c_while_mlflow_is_brought_up_to_date_loses_nothing(trained, finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    command = [sys.executable, "-u", "-m", "plasticbench", "resume", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("MLflow is brought up to date"):
                process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert process.returncode == 130, error
    report = next(place for place, line in enumerate(told) if line.startswith("Report: "))
    progress = next(place for place, line in enumerate(told) if line.startswith("MLflow is brought"))
    assert report < progress, "the report is there before MLflow is"
    assert f"`plasticbench resume {path}` brings it up to date" in error
    assert _resume(path).returncode == 0
    assert _num_metrics(path) == _num_metrics(finished)


def test_a_trial_that_failed_alone_stays_failed_and_nothing_is_promised(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    lost = RunDirectory(path).plan().trials[0].id
    cause = "RuntimeError: simulator died"
    note_failure(
        path,
        Failure(
            segment="a",
            trials=[lost],
            step=None,
            time=1.7e9,
            exception=cause,
            traceback=cause,
            worker="",
            attempt=1,
            is_final=True,
            is_alone=True,
        ),
    )
    for _ in range(2):  # it is no ending that could be remembered
        done = _resume(path)
        assert done.returncode == 1, done.stderr
        assert f"1 trial failed: {cause}" in done.stderr
        assert "tries again" not in done.stderr
    with closing(sqlite3.connect(path / "mlflow.db")) as opened:
        states = [state for (state,) in opened.execute("SELECT status FROM runs WHERE name = ?", [lost])]
        notes = opened.execute("SELECT value FROM tags WHERE key = 'mlflow.note.content'").fetchall()
    assert "FAILED" in states or any(f"Failed: {cause}" in note for (note,) in notes)
    command = [sys.executable, "-m", "plasticbench", "status", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    assert "failed; of" in told
    assert f"{lost} failed, and the others of its population went on: {cause}" in told
    assert "goes on." not in told
