"""RLlib agents in whole runs: processes within Ray's processes, beside native agents, and the death of one of them."""

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from own_environments import write_file, write_module
from small_runs import facts, small
from test_runner import _children, _finish, _plan, _start, _write

from plasticbench.analysis.not_finite import MARK
from plasticbench.records import read_records

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RLLIB = {
    "kind": "rllib",
    "algorithm": "DQN",
    "config": {
        "rollout_fragment_length": 4,
        "num_steps_sampled_before_learning_starts": 60,
        "replay_buffer_config": {"capacity": 300},
    },
    "model": {"fcnet_hiddens": [16, 16]},
    "num_learners": 1,
}


def mixed(**changes):
    environments = [{"kind": "gymnasium", "task": "CartPole-v1", "low_return": 20.0, "high_return": 500.0}]
    methods = {
        "none": {"kind": "none"},
        "rllib none": {"kind": "none", "agent": RLLIB},
        "rllib fire": {"kind": "fire", "agent": RLLIB},
    }
    return small(environments=environments, methods=methods, seeds=1, **changes)


def test_native_and_rllib_agents_share_a_run_whose_processes_may_die(tmp_path):
    """Two CPUs: a population with a learner of its own takes both, and must not wait for a third."""
    data = mixed(budget_steps=800, checkpoint={"every_s": 0.5})
    config = _write(tmp_path / "mixed.yaml", data)
    code, output = _finish(_start("run", config, "--out", tmp_path / "whole"), timeout_s=900)
    assert code == 0, output
    process = _start("run", config, "--out", tmp_path / "killed")
    while not list(tmp_path.glob("killed/checkpoints/*shared-rllib*/commit-*.json")):
        assert process.poll() is None
        time.sleep(0.1)
    for pid in _children("SegmentWorker", process.pid):
        os.kill(pid, signal.SIGKILL)
    code, output = _finish(process, timeout_s=900)
    assert code == 0, output
    assert "starting again from its last commit" in output
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert facts(killed, _plan(killed)) == facts(whole, _plan(whole))
    for trial in _plan(killed).trials:
        names = [(r.step, r.name) for r in read_records(killed / "records" / f"{trial.id}.jsonl")]
        assert len(names) == len(set(names)) > 50
    rows = json.loads((killed / "report" / "leaderboard.json").read_text())["rows"]
    agents = {row["method"]: row["agent"] for row in rows}
    assert agents == {"none": "dqn", "rllib none": "rllib DQN", "rllib fire": "rllib DQN"}
    assert "rllib DQN" in (killed / "report" / "index.html").read_text()
    with sqlite3.connect(killed / "mlflow.db") as database:
        tags = database.execute("SELECT DISTINCT value FROM tags WHERE key = 'agent'").fetchall()
    assert sorted(tag for (tag,) in tags) == ["dqn", "rllib DQN"]


def test_a_plan_measures_rllib_agents_beside_native_ones(tmp_path):
    agent = {name: value for name, value in RLLIB.items() if name != "num_learners"}
    data = mixed() | {"methods": {"none": {"kind": "none"}, "rllib": {"kind": "none", "agent": agent}}}
    code, output = _finish(_start("plan", _write(tmp_path / "mixed.yaml", data), "--time"), timeout_s=300)
    assert code == 0, output
    assert "a step of all environments" in output
    assert "4 steps of all environments" in output


def _run_on_own(folder: Path, deliver: str) -> tuple[int, str]:
    """A short run of RLlib's DQN on an environment that delivers such observations."""
    write_module(folder, deliver=f"return {deliver}")
    agent = {name: value for name, value in RLLIB.items() if name != "num_learners"}
    evaluation = {"every_steps": 100, "episodes": 1}
    config = write_file(folder, {"kwargs": {"length": 50}}, agent=agent, evaluation=evaluation)
    code, output = _finish(_start("run", config, "--out", folder / "run"), timeout_s=500)
    return code, " ".join(output.split())


def test_what_is_wrong_with_an_environment_is_said_and_not_that_rllib_could_not_step_it(tmp_path):
    code, output = _run_on_own(tmp_path, "np.zeros(4 if self.age == 10 else 3, np.float32)")
    assert code == 1
    promised = "its observation_space promises shape (3,), and shape (4,) came"
    assert f"mine:Mine-v0, seed 0, step 9: {promised}" in output


def test_an_observation_that_is_not_finite_marks_the_trial_of_rllib_as_it_does_ours(tmp_path):
    code, output = _run_on_own(tmp_path, "np.full(3, np.nan if self.age == 10 else 0.5, np.float32)")
    assert code == 0
    assert "1 of 1" in output
    (trial,) = _plan(tmp_path / "run").trials
    records = list(read_records(tmp_path / "run" / "records" / f"{trial.id}.jsonl"))
    assert [r.name for r in records if r.name.startswith(MARK)] == [f"{MARK}observation 0 of environment 0"]
    rows = json.loads((tmp_path / "run" / "report" / "leaderboard.json").read_text())["rows"]
    assert {row["not_finite_trials"] for row in rows} == {1}
