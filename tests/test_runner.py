"""The whole platform on a real Ray: complete runs, Ctrl-C and resume, death of actors and of the driver."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_runs import facts, run_all, small

from plasticbench import storage
from plasticbench.platform.planning.plan import Plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.records import is_layer_value, read_records

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "plasticbench.platform", *map(str, arguments)]


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(*arguments),
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str], timeout_s: float = 240) -> tuple[int, str]:
    output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, output


def _write(path: Path, data: dict) -> Path:
    path.write_text(yaml.safe_dump(data))
    return path


def _long() -> dict:
    """Long enough to be killed in the middle; commits twice a second."""
    return small(
        budget_steps=6_000,
        checkpoint={"every_s": 0.5},
        evaluation={"every_steps": 1_000, "episodes": 2, "num_envs": 2},
        probes={"every_steps": 500, "batch_rows": 64, "kinds": ["dormant_ratio", "weight_norm"]},
        records={"every_steps": 200},
    )


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory):
    path = tmp_path_factory.mktemp("long")
    plan = run_all(path, _long())
    return facts(path, plan)


def _plan(out: Path) -> Plan:
    return RunDirectory(out).plan()


def _mirrored(file: Path) -> list[tuple]:
    with sqlite3.connect(file) as database:
        return sorted(
            database.execute(
                "SELECT t.value, m.key, m.step, m.value, m.is_nan, m.timestamp FROM metrics m JOIN tags t "
                "ON t.run_uuid = m.run_uuid AND t.key = 'plasticbench.trial'"
            ).fetchall()
        )


def _recorded(out: storage.Location, plan: Plan) -> list[tuple]:
    return sorted(
        (t.id, r.name, r.step, 0.0 if r.value != r.value else r.value, r.value != r.value, int(r.time * 1000))
        for t in plan.trials
        for r in read_records(RunDirectory(out).record_file(t.id))
        if not is_layer_value(r.name)
    )


def _wait_for_commit(out: Path, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if any(out.glob("checkpoints/*/commit-*.json")):
            return
        time.sleep(0.1)
    raise AssertionError("no commit was made")


def test_a_run_leaves_everything_it_promises_and_mlflow_mirrors_the_records(tmp_path):
    config, out = _write(tmp_path / "small.yaml", small()), tmp_path / "run"
    code, output = _finish(_start("run", config, "--out", out))
    assert code == 0, output
    for name in (
        "plan.json",
        "benchmark.yaml",
        "report/index.html",
        "report/leaderboard.json",
        "report/leaderboard.md",
    ):
        assert (out / name).exists(), name
    rows = json.loads((out / "report" / "leaderboard.json").read_text())["rows"]
    keys = {"task", "method", "n_seeds", "iqm", "iqm_low", "iqm_high", "mean", "median", "optimality_gap", "rank"}
    assert all(keys <= row.keys() for row in rows)
    assert {row["method"] for row in rows} == {"none", "fire"}
    reference = run_all(tmp_path / "reference", small())
    assert facts(out, _plan(out)) == facts(tmp_path / "reference", reference)
    assert _mirrored(out / "mlflow.db") == _recorded(out, _plan(out))
    code, again = _finish(_start("run", config, "--out", out))
    assert code == 0, again


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_resumes_to_the_same_records(tmp_path, undisturbed_long, kind):
    config, out = _write(tmp_path / "long.yaml", _long()), tmp_path / "run"
    process = _start("run", config, "--out", out)
    _wait_for_commit(out)
    process.send_signal(kind)
    code, output = _finish(process)
    assert code == 130, output
    assert "resume" in output
    assert _mirrored(out / "mlflow.db") == _recorded(out, _plan(out))
    code, output = _finish(_start("resume", out))
    assert code == 0, output
    assert facts(out, _plan(out)) == undisturbed_long
    assert _mirrored(out / "mlflow.db") == _recorded(out, _plan(out))


def test_a_killed_driver_resumes_to_the_same_records(tmp_path, undisturbed_long):
    config, out = _write(tmp_path / "long.yaml", _long()), tmp_path / "run"
    process = _start("run", config, "--out", out)
    _wait_for_commit(out)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    code, output = _finish(_start("resume", out))
    assert code == 0, output
    assert facts(out, _plan(out)) == undisturbed_long
    assert _mirrored(out / "mlflow.db") == _recorded(out, _plan(out))


def _children(name: str, ancestor: int) -> list[int]:
    """Processes below ``ancestor`` whose title contains ``name``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, pid = (folder / "cmdline").read_bytes().decode(), int(folder.name)
            parents = [pid]
            while parents[-1] > 1:
                status = Path(f"/proc/{parents[-1]}/stat").read_text().rpartition(")")[2].split()
                parents.append(int(status[1]))
        except (OSError, ValueError):
            continue
        if name in title and ancestor in parents:
            found.append(pid)
    return found


def test_a_killed_population_goes_on_from_its_last_commit(tmp_path, undisturbed_long):
    config, out = _write(tmp_path / "long.yaml", _long()), tmp_path / "run"
    process = _start("run", config, "--out", out)
    _wait_for_commit(out)
    for pid in _children("SegmentWorker", process.pid) + _children("Tracker", process.pid):
        os.kill(pid, signal.SIGKILL)
    code, output = _finish(process)
    assert code == 0, output
    assert "starting again from its last commit" in output
    assert facts(out, _plan(out)) == undisturbed_long
    assert _mirrored(out / "mlflow.db") == _recorded(out, _plan(out))


def test_a_killed_run_in_an_object_store_is_resumed_by_one_of_two_drivers_to_the_same_records(tmp_path, bucket_folder):
    data = small(budget_steps=2_000, checkpoint={"every_s": 1.0})
    reference = facts(tmp_path / "disk", run_all(tmp_path / "disk", data))
    config, out, database = _write(tmp_path / "small.yaml", data), str(bucket_folder), tmp_path / "mlflow.db"
    code, output = _finish(_start("run", config, "--out", out))
    assert code == 2
    assert "cannot hold an mlflow.db" in output
    assert storage.entries(bucket_folder) == {}
    process = _start("run", config, "--out", out, "--tracking-uri", f"sqlite:///{database}")
    while not _has_commit(bucket_folder / "checkpoints"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    ended = [_finish(driver, timeout_s=500) for driver in [_start("resume", out), _start("resume", out)]]
    assert sorted(code for code, _ in ended) == [0, 2], ended
    assert "another plasticbench is running" in max(ended)[1]
    assert f"MLflow: sqlite:///{database}" in min(ended)[1]
    plan = RunDirectory(bucket_folder).plan()
    assert facts(bucket_folder, plan) == reference
    assert _mirrored(database) == _recorded(bucket_folder, plan)
    assert storage.entries(bucket_folder / "report").keys() == {"index.html", "leaderboard.json", "leaderboard.md"}
    page = storage.read(bucket_folder / "report" / "index.html")
    code, output = _finish(_start("report", out))
    assert code == 0, output
    assert storage.read(bucket_folder / "report" / "index.html") == page
    code, output = _finish(_start("leaderboard", out, "--json"))
    assert {row["method"] for row in json.loads(output)["rows"]} == {"none", "fire"}


def _has_commit(checkpoints: storage.Location) -> bool:
    folders = [storage.entries(checkpoints / segment) for segment in storage.entries(checkpoints)]
    return any(name.startswith("commit-") for names in folders for name in names)


def test_a_second_driver_is_refused(tmp_path):
    config, out = _write(tmp_path / "long.yaml", _long()), tmp_path / "run"
    process = _start("run", config, "--out", out)
    _wait_for_commit(out)
    code, output = _finish(_start("resume", out))
    assert code == 2
    assert "another plasticbench is running" in output
    process.send_signal(signal.SIGINT)
    _finish(process)
