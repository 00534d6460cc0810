"""What failed can be read afterwards: in the run directory, in the report, in MLflow, on standard error."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from own_environments import write_file, write_module
from run_directory import BUDGET_STEPS, write_run
from small_runs import prepare, small
from typer.testing import CliRunner

from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.report import write_report
from plasticbench.failures import Failure, failures, last_failures, last_frames, note_failure
from plasticbench.platform.cli import app
from plasticbench.platform.cluster.work_queue import WorkQueue, reasons
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.seeding import derive_seed

_FAILURE = Failure(
    segment="a--none--s0--0-100",
    trials=["a--none--s0"],
    step=50,
    time=1.7e9,
    exception="RuntimeError: simulator | died:\n<no> `asset` [/opt/robot]",
    traceback="Traceback (most recent call last):\n...",
    worker="process 7 on 127.0.0.1",
    attempt=1,
    is_final=True,
)


def test_failures_are_kept_one_line_each_and_a_torn_line_costs_itself_alone(tmp_path):
    again = dataclasses.replace(_FAILURE, attempt=2, step=None)
    note_failure(tmp_path, _FAILURE)
    with open(tmp_path / "failures.jsonl", "a") as file:
        file.write('{"segment": "a--no')
    note_failure(tmp_path, again)
    assert failures(tmp_path) == [_FAILURE, again]
    assert [json.loads(line)["attempt"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()[::2]] == [
        1,
        2,
    ]


def test_failures_are_kept_in_an_object_store(bucket_folder):
    assert failures(bucket_folder) == []
    note_failure(bucket_folder, _FAILURE)
    note_failure(bucket_folder, _FAILURE)
    assert failures(bucket_folder) == [_FAILURE, _FAILURE]


def test_what_was_tried_again_is_not_why_a_trial_failed(tmp_path):
    note_failure(tmp_path, dataclasses.replace(_FAILURE, is_final=False, exception="OSError: stale"))
    assert last_failures(tmp_path) == {}
    note_failure(tmp_path, _FAILURE)
    assert last_failures(tmp_path) == {"a--none--s0": _FAILURE}
    assert _FAILURE.reason == "at step 50: RuntimeError: simulator | died: <no> `asset` [/opt/robot]"
    assert dataclasses.replace(_FAILURE, step=None, exception="E: x").reason == "E: x"


def test_what_an_exception_says_steers_no_terminal_and_keeps_no_password(tmp_path):
    said = "OSError: \x1b[31mno\x1b[2J such asset at s3://alice:S3cret@store/x\x07"
    scores = {("A", "none"): [0.1, 0.2, 0.3], ("A", "fire"): [0.4, 0.5, 0.6]}
    run = write_run(tmp_path / "run", scores, last_step=lambda *_: 50)
    note_failure(run, dataclasses.replace(_FAILURE, exception=said, traceback=f"Traceback:\n\t{said}\n"))
    (kept,) = failures(run)
    assert kept.exception == "OSError: no\\x1b[2J such asset at s3://***@store/x\\x07"
    assert kept.traceback == f"Traceback:\n\t{kept.exception}\n"
    of_before = json.dumps(dataclasses.asdict(dataclasses.replace(_FAILURE, exception=said)))
    (run / "failures.jsonl").write_text(of_before + "\n")
    write_report(run)
    told = [path.read_text() for path in (run / "report").iterdir()]
    told.append(CliRunner().invoke(app, ["leaderboard", str(run)]).output)
    assert all("such asset" in text for text in told)
    assert not [text for text in told if "\x1b" in text or "\x07" in text or "S3cret" in text]


def test_the_last_frames_are_those_of_the_users_own_code():
    package = Path(sys.modules["plasticbench"].__file__).parent
    ours = f'  File "{package}/learning/event.py", line 62, in apply_event\n    report = treatment.on_event()\n'
    moved = (
        '  File "/tmp/job/plasticbench/learning/event.py", line 62, in apply_event\n    report = treatment.on_event()\n'
    )
    library = '  File "/venv/lib/python3.11/site-packages/torch/nn.py", line 3, in call\n    return f(x)\n'
    user = '  File "/home/u/plasticbench/my_env.py", line 7, in step\n    raise RuntimeError("x")\n'
    other = '  File "/home/u/physics.py", line 9, in simulate\n'
    text = "Traceback (most recent call last):\n" + ours + moved + user + library + other + "RuntimeError: x\n"
    assert last_frames(text) == [
        '/home/u/plasticbench/my_env.py:7, in step: raise RuntimeError("x")',
        "/home/u/physics.py:9, in simulate",
    ]
    assert last_frames(moved + library + "E: x\n") == [
        "/tmp/job/plasticbench/learning/event.py:62, in apply_event: report = treatment.on_event()"
    ]
    assert last_frames("E: x") == []


@pytest.fixture
def failed_run(tmp_path):
    scores = {("A", "none"): [0.1, 0.2, 0.3], ("A", "fire"): [0.4, 0.5, 0.6]}
    write_run(tmp_path, scores, last_step=lambda _, method, seed: 50 if (method, seed) == ("none", 0) else BUDGET_STEPS)
    note_failure(tmp_path, _FAILURE)
    return tmp_path


def test_report_and_leaderboard_name_the_reason_and_link_the_tracebacks(failed_run):
    page = write_report(failed_run).read_text()
    assert "A, none, seed 0: at step 50: RuntimeError: simulator | died: &lt;no&gt;" in page
    assert 'href="../failures.jsonl"' in page
    text = (failed_run / "report" / "leaderboard.md").read_text()
    assert "* A, none, seed 0: `at step 50: RuntimeError: simulator | died: <no> 'asset' [/opt/robot]`" in text
    assert "[failures.jsonl](../failures.jsonl)" in text
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert len(columns) == 1, "what stands in an error does not break the table"
    (row,) = [row for row in leaderboard([failed_run]).rows if (row.task, row.method) == ("A", "none")]
    assert row.note.startswith("not ranked: 1 of 3 trials incomplete; the cause: at step 50: RuntimeError")


def test_a_trial_that_was_completed_since_has_no_failure(tmp_path):
    write_run(tmp_path / "undisturbed", {("A", "none"): [0.1, 0.2, 0.3]})
    write_run(tmp_path / "resumed", {("A", "none"): [0.1, 0.2, 0.3]})
    note_failure(tmp_path / "resumed", _FAILURE)
    names = ("index.html", "leaderboard.json", "leaderboard.md")
    reports = [write_report(tmp_path / name).parent for name in ("undisturbed", "resumed")]
    assert [(reports[0] / name).read_bytes() for name in names] == [(reports[1] / name).read_bytes() for name in names]


def _runs(path: Path, key: str):
    client = MlflowClient(f"sqlite:///{path / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    return {run.data.tags[key]: run for run in client.search_runs([experiment.experiment_id]) if key in run.data.tags}


def test_a_failed_run_in_mlflow_says_why_until_it_is_finished(tmp_path):
    plan = prepare(tmp_path, small())
    lost, *others = [trial.id for trial in plan.trials]
    mirror = Mirror(tmp_path, None)
    mirror.finish_all(
        {lost: "FAILED"} | dict.fromkeys(others, "FINISHED"), {lost: "RuntimeError: simulator\x1b[2J died"}
    )
    run = _runs(tmp_path, "plasticbench.trial")[lost]
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"].startswith(
        "Failed: RuntimeError: simulator\\x1b[2J died\n\nWhat sets it apart"
    )
    method = _runs(tmp_path, "plasticbench.method")["CartPole-v1/none"]
    assert method.info.status == "FAILED"
    assert method.data.tags["mlflow.note.content"].startswith(
        "Failed: 1 of 2 trials: RuntimeError: simulator\\x1b[2J died"
    )

    Mirror(tmp_path, None).finish_all(dict.fromkeys([lost, *others], "FINISHED"))
    for key, name in (("plasticbench.trial", lost), ("plasticbench.method", "CartPole-v1/none")):
        run = _runs(tmp_path, key)[name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.note.content"].startswith("What sets it apart")


def test_every_trial_that_a_failed_prefix_takes_along_has_its_reason(tmp_path):
    plan = prepare(tmp_path, small())
    queue = WorkQueue(plan.segments)
    queue.fail(plan.segments[0], "RuntimeError: simulator died")
    assert reasons(plan, queue) == {trial.id: "RuntimeError: simulator died" for trial in plan.trials}


_TREATMENT = """
from dataclasses import dataclass
from plasticbench.learning.treatments import full_reset

@dataclass(frozen=True, kw_only=True, slots=True)
class Config(full_reset.Config):
    def build(self):
        return Broken()

class Broken:
    def on_event(self, net, state, look):
        raise RuntimeError("cannot open asset [/opt/robot]")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_quiet_run_tells_on_standard_error_what_failed_and_keeps_it(tmp_path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "[plasticbench.treatments]\nbroken = its_broken\n"
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "its_broken.py").write_text(_TREATMENT)
    config, out = tmp_path / "small.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(small(methods={"none": {"kind": "none"}, "broken": {"kind": "broken"}})))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "plasticbench", "run", str(config), "--out", str(out), "--quiet"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "failed at step 200: RuntimeError: cannot open asset [/opt/robot]" in done.stderr
    assert f"{tmp_path}/its_broken.py:12, in on_event: raise RuntimeError(" in done.stderr
    assert f"{out}/failures.jsonl" in done.stderr
    (failure,) = failures(out)
    assert (failure.step, failure.attempt, failure.is_final) == (200, 1, True)
    assert "its_broken.py" in failure.traceback
    assert re.fullmatch(r"process \d+ on 127\.0\.0\.1", failure.worker)
    assert "cannot open asset [/opt/robot]" in (out / "report" / "leaderboard.md").read_text()
    notes = {run.info.status: run.data.tags["mlflow.note.content"] for run in _runs(out, "plasticbench.trial").values()}
    assert notes.keys() == {"FAILED"}
    assert notes["FAILED"].startswith("Failed: RuntimeError: cannot open asset [/opt/robot]")
    told = subprocess.run(
        [sys.executable, "-m", "plasticbench", "status", str(out), "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["counts"] == {"done": 0, "running": 0, "failed": 4, "waiting": 0}


@pytest.mark.ray
@pytest.mark.slow
def test_a_simulator_that_dies_costs_its_own_trial_and_the_run_tells_it_again_and_again(tmp_path):
    dies = f"self.np_random_seed == {derive_seed(1, 'environment', 0, 0)} and self.age == 7"
    reward = f'if {dies}:\n            raise RuntimeError("simulator died")\n        return 1.0'
    write_module(tmp_path, reward=reward)
    out = tmp_path / "run"
    config = write_file(tmp_path, seeds=2)
    for command in (["run", str(config), "--out", str(out)], ["resume", str(out)]):
        done = subprocess.run(
            [sys.executable, "-m", "plasticbench", *command, "--quiet"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 1, done.stderr
        assert "1 trial failed: RuntimeError: simulator died" in done.stderr
    (failure,) = failures(out)
    assert failure.is_alone
    assert failure.trials == [trial.id for trial in RunDirectory(out).plan().trials if trial.seed == 1]
    assert "RuntimeError: simulator died" in failure.traceback
    told = subprocess.run(
        [sys.executable, "-m", "plasticbench", "status", str(out), "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["counts"] == {"done": 1, "running": 0, "failed": 1, "waiting": 0}
