"""``plasticbench.Recorder``: runs of other loops are crash-safe, entered once, and reported, ranked and mirrored."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch
from run_directory import write_run
from small_runs import prepare, small
from torch import nn
from typer.testing import CliRunner

import plasticbench
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.platform.cli import app
from plasticbench.platform.tracking.store_uris import database_uri
from plasticbench.records import read_records

ROOT = Path(__file__).parents[1]
runner = CliRunner(env={"COLUMNS": "250"})


def recorder(out, method="none", seed=0, **options):
    return plasticbench.Recorder(out, **{"method": method, "task": "toy", "seed": seed, "budget_steps": 100, **options})


def train(out, method, seed, **options):
    with recorder(out, method, seed, **options) as mine:
        for step in range(10, 101, 10):
            mine.record(step, {"train/return": step + seed})
            mine.evaluation(step, [step + seed, step + seed + 2])


def steps_of(mine):
    return [record.step for record in read_records(mine.directory.record_file(mine.trial))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two methods, five seeds."""
    path = tmp_path_factory.mktemp("external") / "run"
    for method in ("none", "fire"):
        for seed in range(5):
            train(path, method, seed, agent="my loop", references=(0.0, 200.0), reset_steps=[50])
    return path


def test_reports_and_leaderboards_treat_it_as_any_other_run_and_mark_it(run):
    result = runner.invoke(app, ["report", str(run)])
    assert result.exit_code == 0, result.output
    rows = json.loads((run / "report" / "leaderboard.json").read_text())["rows"]
    row = next(row for row in rows if row["method"] == "fire" and row["task"] == "toy")
    assert row["agent"] == "external my loop"
    # Final score: the mean of what lies behind step 90 of 100, (100 + seed + 1) / 200; the IQM of five seeds.
    assert row["iqm"] == pytest.approx((101 + 2) / 200)
    assert row["after_reset_iqm"] == pytest.approx((sum(range(60, 101, 10)) / 5 + 3) / 200)
    assert "external my loop" in (run / "report" / "index.html").read_text()
    assert "complete; of 10 trials 10 done" in runner.invoke(app, ["status", str(run)]).output
    table, plan = plasticbench.load(run)
    assert (len(plan.trials), set(table["name"])) == (10, {"train/return", "eval/return", "eval/score"})


def test_mlflow_shows_it_after_a_resume(run):
    result = runner.invoke(app, ["resume", str(run), "--quiet"])
    assert result.exit_code == 0, result.output
    found = mlflow.MlflowClient(database_uri(run / "mlflow.db")).search_runs(["1"], "tags.seed = '3'")
    assert {one.data.tags["agent"] for one in found} == {"external my loop"}
    assert {(one.data.tags["method"], one.info.status) for one in found} == {("none", "FINISHED"), ("fire", "FINISHED")}
    assert found[0].data.metrics["eval/return"] == 104.0


def test_it_stands_beside_a_run_of_the_platform_in_one_leaderboard(run, tmp_path):
    ours = write_run(tmp_path / "ours", {("toy", "redo"): [0.1] * 5}, change_steps=[])
    board = leaderboard([ours, run])
    assert {(row.method, row.agent) for row in board.rows if row.task == "toy"} >= {
        ("redo", "dqn"),
        ("fire", "external my loop"),
    }


def test_a_probe_is_recorded_as_the_helper_measures_it(tmp_path):
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    batch = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    with recorder(tmp_path / "run") as mine:
        mine.record(7, {"train/return": 1.0})
        found = mine.probe(module, batch)
        mine.probe(module, batch, step=9, network="critic", kinds=["dormant_ratio"])
    assert found == plasticbench.probe(module, batch)
    records = {(r.step, r.name): r.value for r in read_records(mine.directory.record_file(mine.trial))}
    assert records[7, "plasticity/online/dormant_ratio"] == found["dormant_ratio"]
    assert records[9, "plasticity/critic/dormant_ratio"] == found["dormant_ratio"]
    assert len(records) > len(found)


_CRASH = """
import os, signal, sys, plasticbench
mine = plasticbench.Recorder(sys.argv[1], method="none", task="toy", seed=0, budget_steps=100)
for step in range(10, 61, 10):
    mine.record(step, {"train/return": step})
    if step == 40:
        mine.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_what_was_not_committed_and_going_on_has_each_record_once(tmp_path):
    killed = subprocess.run([sys.executable, "-c", _CRASH, str(tmp_path / "run")], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    with recorder(tmp_path / "run", from_step=30) as mine:  # where the loop's own checkpoint stands
        assert steps_of(mine) == [10, 20, 30]
        for step in (40, 50, 100):
            mine.record(step, {"train/return": step})
    assert steps_of(mine) == [10, 20, 30, 40, 50, 100]


def test_many_recorders_that_begin_at_once_are_all_in_the_plan(tmp_path):
    code = (
        "import sys, plasticbench\n"
        "out, seed = sys.argv[1], int(sys.argv[2])\n"
        "with plasticbench.Recorder(out, method='none', task='toy', seed=seed, budget_steps=9) as mine:\n"
        "    mine.evaluation(9, 1.0)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    started = [subprocess.Popen([*command, str(seed)], cwd=ROOT) for seed in range(4)]
    assert [process.wait(120) for process in started] == [0] * 4
    table, plan = plasticbench.load(tmp_path / "run")
    assert sorted(trial.seed for trial in plan.trials) == sorted(table["seed"].unique()) == [0, 1, 2, 3]


def test_it_works_in_an_object_store(bucket_folder):
    train(bucket_folder / "run", "none", 0)
    assert len(plasticbench.load(str(bucket_folder / "run")).table) == 30


def _files(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"}


def test_whatever_does_not_fit_is_refused_and_nothing_is_lost(tmp_path):
    out = tmp_path / "run"
    train(out, "none", 0)
    before = _files(out)
    held = recorder(out, "none", 1)
    for options, message in (
        ({}, "this trial is in .* already, recorded up to step 100. Choose another seed"),
        ({"references": (0, 1)}, "this method, task and seed are in .* already"),
        ({"seed": 2, "settings": {"strength": 0.5}}, "'none' on 'toy' was recorded with others"),
        ({"seed": 1, "from_step": 0}, "another recorder writes this trial now"),
        ({"seed": 2, "from_step": 10}, "has no trial .* to go on with"),
        ({"seed": 2, "budget_steps": 200}, "budget_steps: the trials in .* have 100, got 200"),
        ({"seed": 2, "name": "other"}, "is called 'run', got 'other'"),
        ({"seed": -1}, "seed: must be a whole number of at least 0, got -1"),
        ({"method": "\n"}, "method: must be a name"),
        ({"references": (3, 3)}, "references: must be two different returns"),
        ({"settings": {"a": object()}}, "settings: must be plain"),
    ):
        with pytest.raises(ValueError, match=message):
            recorder(out, **options)
    held.close()
    assert before.items() <= {**_files(out), out / "plan.json": before[out / "plan.json"]}.items()


def test_steps_and_names_that_cannot_be_are_refused(tmp_path):
    with recorder(tmp_path / "run") as mine:
        mine.record(10, {"a": 1})
        for step, values, message in (
            (9, {"a": 1}, "from 10, as steps never go back, to the budget of 100, got 9"),
            (101, {"a": 1}, "got 101"),
            (11, {"a\nb": 1}, "names must be text of one line"),
            (11, {"a": "x"}, "values: a: must be one number, got 'x'"),
            (11, {"a": torch.ones(2)}, "values: a: must be one number, got tensor"),
            (10, {"b": 1, "a": 2}, "values: a: recorded at step 10 already"),
        ):
            with pytest.raises(ValueError, match=message):
                mine.record(step, values)
        with pytest.raises(ValueError, match="returns: must be one return or several, got none"):
            mine.evaluation(20, [])
        mine.record(10, {"b": 1})
    assert steps_of(mine) == [10, 10]


def test_each_fact_of_a_step_is_there_once_also_where_a_trial_goes_on(tmp_path):
    with recorder(tmp_path / "run") as mine:
        mine.record(10, {"a": 1})
    with recorder(tmp_path / "run", from_step=10) as again:
        with pytest.raises(ValueError, match="values: a: recorded at step 10 already"):
            again.record(10, {"a": 2})
        again.record(10, {"b": 2})
        again.record(20, {"a": 2})
    assert steps_of(again) == [10, 10, 20]


def test_a_closed_recorder_records_nothing(tmp_path):
    mine = recorder(tmp_path / "run")
    mine.close()
    mine.close()
    with pytest.raises(ValueError, match="this recorder is closed"):
        mine.record(10, {"a": 1})
    assert steps_of(mine) == []


def test_directories_of_the_platform_and_of_loops_are_not_mixed(tmp_path):
    prepare(tmp_path / "ours", small())
    with pytest.raises(ValueError, match="holds a run that the platform trains"):
        recorder(tmp_path / "ours")
    train(tmp_path / "theirs", "none", 0)
    with pytest.raises(ValueError, match="holds records of training loops outside the platform"):
        prepare(tmp_path / "theirs", small())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not empty and not a run directory"):
        recorder(tmp_path / "thesis")
    assert set(os.listdir(tmp_path / "thesis")) <= {"chapter.tex", "lock"}


@pytest.mark.parametrize(
    "command",
    [
        ["plain_loop.py", "--budget-steps", "2000"],
        pytest.param(["sb3_recorder.py", "--budget-steps", "1000"], marks=pytest.mark.slow),
    ],
)
def test_the_examples_record_what_a_leaderboard_ranks(command, tmp_path):
    script, *arguments = command
    done = subprocess.run(
        [sys.executable, "-W", "ignore", f"examples/{script}", "--out", str(tmp_path / "run"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in leaderboard([tmp_path / "run"]).rows if row.task == "CartPole-v1"]
    assert (row.final.rank, row.n_incomplete) == (1, 0)
    assert re.match("external (REINFORCE|stable-baselines3 DQN)", row.agent)
    assert "plasticity/online/dormant_ratio" in set(plasticbench.load(tmp_path / "run").table["name"])
