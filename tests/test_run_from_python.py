"""``plasticbench.run``: whatever a benchmark is given as, quiet, interruptible, and what comes of it at hand."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from small_runs import small

import plasticbench
from plasticbench.envs import classic
from plasticbench.learning.networks import mlp
from plasticbench.learning.treatments import fire, none
from plasticbench.platform.cluster.connection import check_interrupted, interrupts
from plasticbench.platform.definition.benchmark import Evaluation
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.runs.built import plain
from plasticbench.platform.runs.running import _read

ROOT = Path(__file__).parents[1]


def built():
    """``small`` with a ``Config`` wherever there is one."""
    data = small()
    scenario = {"kind": "observation_permutation", "at": [0.5], "replay": "clear"}
    data["environments"] = [{**plain(classic.Config(task="CartPole-v1", num_envs=2)), "scenario": scenario}]
    data["agent"] = {**data["agent"], "network": mlp.Config(hidden=(16, 16))}
    data["methods"] = {"none": none.Config(), "fire": fire.Config()}
    data["evaluation"] = Evaluation(every_steps=100, episodes=2, num_envs=2)
    return data


def test_a_file_a_mapping_built_settings_and_a_benchmark_are_the_same_trials(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small(), sort_keys=False))
    given = [small(), built(), str(tmp_path / "small.yaml"), tmp_path / "small.yaml", from_dict(small())]
    ids = [[trial.id for trial in make_plan(_read(one, (), print)).trials] for one in given]
    assert len(ids[0]) == 4
    assert all(own == ids[0] for own in ids)


def test_built_settings_say_what_is_not_the_default_and_nothing_else():
    assert plain({"a": [fire.Config(iterations=7), (1, 2)]}) == {"a": [{"kind": "fire", "iterations": 7}, [1, 2]]}
    assert plain(Evaluation(every_steps=5, episodes=1)) == {"every_steps": 5, "episodes": 1}
    assert plain(mlp.Config(hidden=(4,))) == {"kind": "mlp", "hidden": [4]}


@pytest.mark.parametrize(
    ("benchmark", "options", "message"),
    [
        ("qickstart", {}, "'qickstart' is no file and no shipped benchmark. Did you mean 'quickstart'?"),
        ("nowhere.yaml", {}, "nowhere.yaml: cannot be read"),
        (small(bugdet_steps=3), {}, "bugdet_steps: there is no such setting. Did you mean 'budget_steps'?"),
        (small(), {"overrides": ["seeds=3"]}, "overrides: they change a file"),
        (small(methods={"a": 3}), {}, "methods.a"),
    ],
)
def test_bad_input_is_told_before_anything_starts(benchmark, options, message, tmp_path):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("?", r"\?")):
        plasticbench.run(benchmark, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_thread_that_hears_no_signals_can_run(tmp_path):
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupts():
            check_interrupted()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


_NOTEBOOK = """
import os, sys
sys.path.insert(0, "tests")
from small_runs import small
import plasticbench
done = plasticbench.run(small(), sys.argv[1])
facts = [done.state, len(done.trials), set(done.table["trial"]) == {one.id for one in done.trials},
         sorted(done.leaderboard["method"].unique()), done.report.exists()]
open(sys.argv[2], "w").write(repr(facts))
try:
    plasticbench.run(small(name="long", budget_steps=400_000), sys.argv[1] + "-long")
except KeyboardInterrupt:
    open(sys.argv[2], "a").write("\\ninterrupted")
"""


@pytest.mark.slow
def test_a_run_from_python_prints_nothing_and_an_interrupt_commits(tmp_path):
    facts, long = tmp_path / "facts", tmp_path / "run-long"
    command = [sys.executable, "-c", _NOTEBOOK, str(tmp_path / "run"), str(facts)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 240
    while not list(long.glob("checkpoints/*/owner")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    first, last = facts.read_text().split("\n")
    assert first == "['complete', 4, True, ['fire', 'none'], True]"
    assert last == "interrupted"
    assert list(long.glob("checkpoints/*/commit-*.json"))
    assert output == ""
