"""The scheduler on a Ray of its own: populations of several sizes take turns, deaths are answered by what they mean."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ray_nodes import GIB
from small_runs import facts, prepare, run_all, small

from plasticbench import plugins
from plasticbench.platform.cluster.placement import needs
from plasticbench.platform.planning.plan import Plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.platform.training.checkpoint import CheckpointStore

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# In a process of its own, because a Ray that is started inside pytest outlives its test; all runs share it.
_RUN = """
import itertools, json, os, random, signal, sys, time
from pathlib import Path
from plasticbench.platform.cluster.connection import prepare_environment, start_own_node
prepare_environment("local")
from plasticbench.platform.cluster import runner
from plasticbench.platform.display import Display
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore
from plasticbench.platform.training.segment import SegmentRun

class Told(Display):
    def __init__(self, interrupts): self.messages, self.interrupts = [], interrupts
    def message(self, text): self.messages.append(text)
    def problem(self, text): self.messages.append(text)
    def update(self, running, member_steps_left):
        if self.interrupts and any(length for progress in running for length in progress.record_bytes.values()):
            raise KeyboardInterrupt

class ListensLateAndInAnyOrder(runner.Tracker):
    def __init__(self, run_dir, uri): self.heard = []
    def committed(self, record_bytes): time.sleep(random.random()); self.heard.append(record_bytes)
    def standing(self): return runner.Standing(len(self.heard), 0)
    def finish(self, record_bytes, *_): time.sleep(1); return json.dumps([self.heard, record_bytes])

def die(): os.kill(os.getpid(), signal.SIGKILL)
def fail(): raise RuntimeError("no such layer")

def after_commits(count, act):
    commit, numbers = SegmentRun._commit, itertools.count(1)
    def counting_commit(run, *_):
        commit(run)  # not beside training, which would leave out those that are due while one is written
        if next(numbers) == count: act()
    SegmentRun._commit = counting_commit

class AsEver(runner.SegmentWorker): pass

class DiesOfItsFortiethCommit(runner.SegmentWorker):
    def run(self, segment, benchmark): after_commits(40, die); return super().run(segment, benchmark)

class FailsAfterItsFortiethCommit(runner.SegmentWorker):
    def run(self, segment, benchmark): after_commits(40, fail); return super().run(segment, benchmark)

class DiesForGoodAfterItsFortiethCommit(runner.SegmentWorker):
    def run(self, segment, benchmark):
        if CheckpointStore(self._run_dir / "checkpoints").newest_number(segment.id) is not None: die()
        after_commits(40, die)
        return super().run(segment, benchmark)

class DiesAtOnce(runner.SegmentWorker):
    def run(self, segment, benchmark): die()

class LosesItsStorage(runner.SegmentWorker):
    def run(self, segment, benchmark): raise OSError(116, "Stale file handle")

class HasAnError(runner.SegmentWorker):
    def run(self, segment, benchmark): fail()

class LacksAPackage(runner.SegmentWorker):
    def run(self, segment, benchmark): import no_such_module

settings, runs, listens = map(json.loads, sys.argv[1:4])
start_own_node(**settings)
import ray
sys.path += sys.argv[4:]  # after the workers were told where to import from
runner.Tracker = ListensLateAndInAnyOrder
ended = {}
for path, worker in runs:
    interrupts, name = worker == "AsEverButInterrupted", worker.removesuffix("ButInterrupted")
    runner.SegmentWorker = globals()[name]
    directory, shown = RunDirectory(Path(path)), Told(interrupts)
    scheduler = runner.Scheduler(
        directory, directory.benchmark(), directory.plan(), shown, runner.start_tracker(directory, None)
    )
    outcome = scheduler.run()
    heard, final = json.loads(scheduler.finish_tracking(None)) if listens else (None, None)
    ended[path] = {"outcome": outcome, "messages": shown.messages, "failed": scheduler.queue.failed}
    ended[path] |= {"heard": heard, "final": final}
print(json.dumps(ended))
ray.shutdown()
"""
_NODE = {"num_cpus": 2, "_memory": 2 * GIB, "object_store_memory": 100 << 20}


def _run(
    runs: dict[Path, str], *, listens: bool = False, everywhere: str = "", on_driver: str = "", **node
) -> dict[Path, dict]:
    """How the prepared runs ended, each with its kind of worker, and what their trackers heard if it ``listens``.

    ``everywhere`` and ``on_driver`` are folders of packages, for all processes and for the driver alone.
    """
    pairs = json.dumps([(str(path), worker) for path, worker in runs.items()])
    arguments = [json.dumps(_NODE | node), pairs, json.dumps(listens), *filter(None, [on_driver])]
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [everywhere, os.environ.get("PYTHONPATH")]))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    return {Path(path): ended for path, ended in json.loads(told.stdout.splitlines()[-1]).items()}


HELD_MIB = {"small": 1, "medium": 500, "large": 1_001}
"""As of replays far larger than these; the node has room for one worker at a time."""


def _asks_for_sizes(directory: RunDirectory) -> Plan:
    plan = directory.plan()
    sized = (replace(one, memory_bytes=one.memory_bytes + (HELD_MIB[one.agent_method] << 20)) for one in plan.segments)
    plan = replace(plan, segments=tuple(sized))
    directory.plan_file.write_text(plan.to_json())
    return plan


def _sizes() -> dict:
    agents = {name: {"capacity_transitions": 10_000 + number} for number, name in enumerate(HELD_MIB)}
    methods = {name: {"kind": "none", "agent": agent} for name, agent in agents.items()}
    return small(methods=methods, resets=None, seeds=2, budget_steps=200, execution={"members_per_population": 1})


def _single() -> dict:
    # 200 steps of 2 environments, with a commit after each
    return small(seeds=1, methods={"none": {"kind": "none"}}, resets=None, checkpoint={"every_s": 1e-6})


WORKERS = {
    "sizes": "AsEver",
    "progress": "DiesOfItsFortiethCommit",
    "late_error": "FailsAfterItsFortiethCommit",
    "late_death": "DiesForGoodAfterItsFortiethCommit",
    "interrupt": "AsEverButInterrupted",
    "death": "DiesAtOnce",
    "storage": "LosesItsStorage",
    "error": "HasAnError",
    "package": "LacksAPackage",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder, plan and end of each run by name."""
    folder = tmp_path_factory.mktemp("runs")
    data = dict.fromkeys(WORKERS, small()) | {"sizes": _sizes(), "progress": _single()}
    data |= dict.fromkeys(("late_error", "late_death"), small(checkpoint={"every_s": 1e-6}))
    data["interrupt"] = small(budget_steps=100_000, checkpoint={"every_s": 0.1})
    plans = {name: prepare(folder / name, data[name]) for name in WORKERS}
    plans["sizes"] = _asks_for_sizes(RunDirectory(folder / "sizes"))
    ended = _run({folder / name: worker for name, worker in WORKERS.items()}, listens=True)
    return {name: (folder / name, plans[name], ended[folder / name]) for name in WORKERS}


@pytest.mark.parametrize("name", ["sizes", "progress", "late_error", "late_death", "interrupt"])
def test_the_tracker_learns_of_all_that_was_committed_however_a_population_ended(runs, name):
    path, plan, ended = runs[name]
    committed = committed_bytes(RunDirectory(path), plan.segments)
    assert ended["final"] == committed
    assert len(committed) == len(plan.trials)
    assert min(committed.values()) > 0
    assert all(RunDirectory(path).record_file(trial).stat().st_size == end for trial, end in committed.items())


def test_the_tracker_hears_of_each_end_of_a_population_while_others_still_run(runs):
    path, plan, ended = runs["sizes"]
    store = CheckpointStore(RunDirectory(path).checkpoints)
    assert all(store.record_bytes(segment.id) in ended["heard"] for segment in plan.segments)


def test_an_interrupted_run_says_so_and_stops_its_populations(runs):
    _, _, ended = runs["interrupt"]
    assert ended["outcome"] == "interrupted"
    assert ended["messages"][0].startswith("Stopping: every population commits")


def test_populations_of_several_sizes_finish_on_a_node_that_holds_one_at_a_time(runs):
    _, plan, ended = runs["sizes"]
    assert len({needs(segment) for segment in plan.segments}) == 3
    assert (ended["outcome"], ended["messages"], ended["failed"]) == ("complete", [], {})


def test_a_population_that_gets_on_between_its_deaths_never_runs_out_of_them(runs, tmp_path):
    path, plan, ended = runs["progress"]
    assert ended["outcome"] == "complete", ended
    assert len(ended["messages"]) >= 5
    run_all(tmp_path, _single())
    assert facts(path, plan) == facts(tmp_path, plan)


@pytest.mark.parametrize(
    ("name", "num_messages", "told"),
    [
        ("death", 4, "died 4 times in a row without a new commit"),
        ("storage", 4, "Stale file handle"),
        ("error", 1, "RuntimeError: no such layer"),
        ("late_error", 1, "RuntimeError: no such layer"),
        ("late_death", 4, "died 4 times in a row without a new commit"),
        ("package", 1, "lacks a plug-in, or a package of requirements.lock"),
    ],
)
def test_a_death_is_tried_again_and_an_error_is_not(runs, name, num_messages, told):
    _, plan, ended = runs[name]
    prefix, branches = plan.segments
    assert ended["outcome"] == "failed"
    assert told in ended["failed"][prefix.id]
    assert ended["failed"][branches.id] == f"{prefix.id}, where it starts, failed"
    assert len(ended["messages"]) == num_messages


_PLUGIN = """
from dataclasses import dataclass
from plasticbench.envs import classic

@dataclass(frozen=True, kw_only=True, slots=True)
class Config(classic.Config):
    pass
"""


def _install(folder: Path, kind: str) -> str:
    """A folder with a package that brings an environment family, as pip would leave it."""
    (folder / f"{kind}-1.0.dist-info").mkdir(parents=True)
    (folder / f"{kind}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}\nVersion: 1.0\n")
    (folder / f"{kind}-1.0.dist-info" / "entry_points.txt").write_text(f"[plasticbench.envs]\n{kind} = its_{kind}\n")
    (folder / f"its_{kind}.py").write_text(_PLUGIN)
    return str(folder)


def test_settings_of_an_installed_plug_in_reach_its_workers_and_a_node_without_it_is_told_so(tmp_path, monkeypatch):
    everywhere, on_driver = _install(tmp_path / "everywhere", "known"), _install(tmp_path / "driver", "unknown")
    plugins._installed.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, everywhere, on_driver])
        for kind in ("known", "unknown"):
            prepare(tmp_path / kind, small(environments=[{"kind": kind, "task": "CartPole-v1", "num_envs": 2}]))
    plugins._installed.cache_clear()
    runs = {tmp_path / kind: "AsEver" for kind in ("known", "unknown")}
    ended = _run(runs, everywhere=everywhere, on_driver=on_driver)
    assert ended[tmp_path / "known"]["outcome"] == "complete", ended
    (reason, _) = ended[tmp_path / "unknown"]["failed"].values()
    assert "No module named 'its_unknown'" in reason
    assert "lacks a plug-in, or a package of requirements.lock" in reason


def test_a_node_short_of_memory_is_named_as_the_cause(tmp_path):
    plan = prepare(tmp_path, small())
    short = {"memory_usage_threshold": 0.0001, "memory_monitor_refresh_ms": 100}
    ended = _run({tmp_path: "AsEver"}, _system_config=short)
    assert "its node ran short of memory" in ended[tmp_path]["failed"][plan.segments[0].id]
