"""The scheduler on a Ray of its own: populations of several sizes take turns, deaths are answered by what they mean."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.rundir import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Runs in a process of its own, because a Ray that is started inside pytest outlives its test.
_RUN = """
import json, os, signal, sys, threading, time
from pathlib import Path
import ray
from plasticbench.platform import runner
from plasticbench.platform.display import QuietDisplay
from plasticbench.platform.rundir import RunDirectory

class Told(QuietDisplay):
    def __init__(self): self.messages = []
    def message(self, text): self.messages.append(text)

class Worker(runner.SegmentWorker):
    # __WORKER__
    pass

runner.SegmentWorker = Worker
os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
directory = RunDirectory(Path(sys.argv[1]))
ray.init(address="local", include_dashboard=False, log_to_driver=False, **json.loads(sys.argv[2]))
shown = Told()
scheduler = runner.Scheduler(directory, directory.plan(), shown, runner.start_tracker(directory, None))
outcome = scheduler.run()
print(json.dumps({"outcome": outcome, "messages": shown.messages, "failed": scheduler.queue.failed}))
ray.shutdown()
"""
_NODE = {"num_cpus": 2, "_memory": 2 * 2**30, "object_store_memory": 100 << 20}


def _run(path: Path, worker: str = "pass", **node) -> dict:
    script = _RUN.replace("# __WORKER__", worker)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(path), json.dumps(_NODE | node)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


def test_populations_of_several_sizes_finish_on_a_node_that_holds_one_at_a_time(tmp_path):
    # Replays of 1 MiB, 500 MiB and 1 GiB; the node has room for one worker of the largest kind and nothing beside it.
    agents = {"small": 10_000, "medium": 12_500_000, "large": 25_000_000}
    methods = {name: {"kind": "none", "agent": {"capacity_transitions": rows}} for name, rows in agents.items()}
    data = small(methods=methods, resets=None, seeds=2, budget_steps=200, execution={"members_per_population": 1})
    plan = prepare(tmp_path / "run", data)
    assert len({segment.memory_bytes for segment in plan.segments}) == 3
    ended = _run(tmp_path / "run")
    assert ended == {"outcome": "complete", "messages": [], "failed": {}}


def test_a_population_that_gets_on_between_its_deaths_never_runs_out_of_them(tmp_path):
    data = small(seeds=1, budget_steps=1_600, methods={"none": {"kind": "none"}}, checkpoint={"every_s": 0.01})
    prepare(tmp_path / "run", data)
    # Every process dies 0.3 s after its first commit.
    dies = """def _notify(self, record_bytes):
        super()._notify(record_bytes)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()"""
    ended = _run(tmp_path / "run", dies)
    assert ended["outcome"] == "complete", ended
    assert len(ended["messages"]) > 0
    reference = run_all(tmp_path / "reference", data)
    assert facts(tmp_path / "run", RunDirectory(tmp_path / "run").plan()) == facts(tmp_path / "reference", reference)


@pytest.mark.parametrize(
    ("worker", "num_messages", "told"),
    [
        (
            "def run(self, segment): os.kill(os.getpid(), signal.SIGKILL)",
            4,
            "died 4 times in a row without a new commit",
        ),
        ("def run(self, segment): raise OSError(116, 'Stale file handle')", 4, "Stale file handle"),
        ("def run(self, segment): raise RuntimeError('no such layer')", 1, "RuntimeError: no such layer"),
        ("def run(self, segment): import no_such_module", 1, "lacks a package of requirements.lock"),
    ],
)
def test_a_death_is_tried_again_and_an_error_is_not(tmp_path, worker, num_messages, told):
    plan = prepare(tmp_path, small())
    ended = _run(tmp_path, worker)
    prefix, branches = plan.segments
    assert ended["outcome"] == "failed"
    assert told in ended["failed"][prefix.id]
    assert ended["failed"][branches.id] == f"{prefix.id}, where it starts, failed"
    assert len(ended["messages"]) == num_messages


def test_a_node_short_of_memory_is_named_as_the_cause(tmp_path):
    plan = prepare(tmp_path, small())
    ended = _run(tmp_path, _system_config={"memory_usage_threshold": 0.0001, "memory_monitor_refresh_ms": 100})
    assert "its node ran short of memory" in ended["failed"][plan.segments[0].id]
