"""An environment whose call never returns: its population fails with that sentence and its stack, the others go on."""

import json
import subprocess
import sys
import threading
import time
import timeit

import pytest
from own_environments import write_file, write_module
from small_runs import facts, run_all, small

from plasticbench.envs._watch import Watch
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory

SLOW = """import time
        time.sleep(600 if self.age == 15 and self.length == 21 else 0)
        return 1.0"""


def test_a_call_that_lasts_too_long_is_told_with_the_stack_of_where_it_sits():
    watch, begun, end = Watch(), threading.Event(), threading.Event()

    def never_ending_call():
        with watch("step"):
            begun.set()
            end.wait()

    thread = threading.Thread(target=never_ending_call)
    thread.start()
    begun.wait()
    time.sleep(0.05)
    assert watch.stuck(None) is None
    assert watch.stuck(60.0) is None
    found = watch.stuck(0.01)
    end.set()
    thread.join()
    assert found.call == "step"
    assert found.seconds > 0.01
    assert "in never_ending_call\n    end.wait()" in found.stack
    assert watch.stuck(0.0) is None


def test_the_innermost_call_counts_and_what_raises_is_over():
    watch = Watch()
    with watch("build"):
        with pytest.raises(RuntimeError), watch("step"):
            raise RuntimeError
        time.sleep(0.01)
        assert watch.stuck(0.005).call == "build"
    assert watch.stuck(0.0) is None


def test_a_look_costs_little_beside_a_step():
    watch = Watch()

    def look():
        with watch("step"):
            pass

    assert min(timeit.repeat(look, number=10_000, repeat=5)) / 10_000 < 20e-6, "EnvPool's quickest step takes 30 us"


def limited(limit):
    data = small()
    data["environments"][0]["step_timeout_s"] = limit
    return data


def test_the_limit_is_in_no_id_and_can_be_changed_later(tmp_path):
    benchmarks = [from_dict(small()), from_dict(limited(5)), from_dict(limited(None))]
    assert [benchmark.environments[0].step_timeout_s for benchmark in benchmarks] == [600.0, 5.0, None]
    assert len({tuple(trial.id for trial in make_plan(benchmark).trials) for benchmark in benchmarks}) == 1
    run = RunDirectory(tmp_path / "run")
    assert [run.create(benchmark, make_plan(benchmark)) for benchmark in benchmarks] == [
        "",
        "environments.0.step_timeout_s: 5.0 in place of nothing",
        "environments.0.step_timeout_s: nothing in place of 5.0",
    ]
    assert run.benchmark().environments[0].step_timeout_s is None


@pytest.mark.parametrize(("limit", "message"), [(0, "must be above 0 seconds"), ("long", "valid number")])
def test_a_limit_that_cannot_be_is_refused(limit, message):
    with pytest.raises(BenchmarkError, match=rf"environments\.0\.step_timeout_s: .*{message}"):
        from_dict(limited(limit))


def test_records_are_those_of_a_run_without_a_limit(tmp_path):
    plans = [run_all(tmp_path / name, data) for name, data in {"a": limited(None), "b": limited(3)}.items()]
    assert facts(tmp_path / "a", plans[0]) == facts(tmp_path / "b", plans[1])


@pytest.mark.slow
def test_a_population_that_hangs_fails_and_the_others_go_on(tmp_path):
    """The unlucky environment is the one of the second task; both are populations of their own."""
    write_module(tmp_path, reward=SLOW)
    environments = [
        {"kind": "gymnasium", "task": "mine:Mine-v0", "name": name, "kwargs": {"length": n}, "step_timeout_s": 5}
        for name, n in (("good", 20), ("bad", 21))
    ]
    write_file(tmp_path, environments=environments)
    command = [sys.executable, "-m", "plasticbench"]
    run = [*command, "run", "own.yaml", "--out", "run"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert "bad: an environment did not return from step within" in " ".join(done.stderr.split())
    status = subprocess.run([*command, "status", "run", "--json"], cwd=tmp_path, capture_output=True, check=True)
    states = {trial["task"]: trial["state"] for trial in json.loads(status.stdout)["trials"]}
    assert states == {"good": "done", "bad": "failed"}
    (failure,) = [json.loads(line) for line in (tmp_path / "run" / "failures.jsonl").read_text().splitlines()]
    assert "time.sleep(600" in failure["traceback"]
    assert failure["is_final"]
