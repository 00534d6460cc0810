"""How the tracker bears load: ``python -m benchmarks.tracker load|away|scale [--trials N] ...``. Prints JSON.

``load``: N trials log METRICS every second; the tracker, a process of its own, sends them to a real PostgreSQL, direct
or through a real MLflow server. A training process runs beside it at niceness 0, in windows with and without logging by
turns. ``away``: the same trials while no server answers. ``scale``: N trials with one line of records each, and what
each costs as N grows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from plasticbench.platform.benchmark import from_dict
from plasticbench.platform.plan import Plan, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking import Mirror
from plasticbench.records import Record, RecordWriter
from tests.servers import Server, family, mlflow_server, postgresql
from tests.tracker_process import TrackerProcess

METRICS = ("loss/td", "q/mean", "train/return", "train/length", "speed/steps_per_s", "eval/return", "eval/score")
METRICS += ("plasticity/online/dormant_ratio", "plasticity/online/srank", "plasticity/online/weight_norm")


class Trials:
    """Record files that grow as those of running trials do."""

    def __init__(self, run_dir: Path, num_trials: int) -> None:
        benchmark = from_dict(
            {
                "name": "load",
                "environments": [{"kind": "classic", "task": "CartPole-v1", "num_envs": 1}],
                "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [16]}},
                "methods": {"none": {"kind": "none"}, "full_reset": {"kind": "full_reset"}},
                "resets": {"at": [0.5]},
                "seeds": num_trials // 2,
                "budget_steps": 1_000_000,
                "evaluation": {"every_steps": 100_000, "episodes": 2},
            }
        )
        self.plan: Plan = make_plan(benchmark)
        RunDirectory(run_dir).create(benchmark, self.plan)
        self._files = {trial.id: RunDirectory(run_dir).record_file(trial.id) for trial in self.plan.trials}
        self._step = 0
        self.num_records = 0

    def log(self) -> dict[str, int]:
        """One record of each metric of each trial; returns the files' lengths."""
        self._step += 1
        lengths = {}
        for trial, path in self._files.items():
            writer = RecordWriter(path, path.stat().st_size if path.exists() else 0)
            writer.write(Record(trial, self._step, name, self._step / 7, time.time()) for name in METRICS)
            lengths[trial] = writer.sync()
            writer.close()
        self.num_records += len(METRICS) * len(self._files)
        return lengths


TRAINING = """
import sys, time, torch
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 4))
adam = torch.optim.Adam(net.parameters())
x, count = torch.randn(64, 16), 0
while True:
    for _ in range(20):
        adam.zero_grad(); net(x).square().mean().backward(); adam.step()
    count += 20
    print(count, time.process_time(), flush=True)
"""


class Training:
    """A process that does updates of a small network as fast as it can, on one thread at niceness 0."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen([sys.executable, "-c", TRAINING], stdout=open(log, "wb"))

    def updates(self) -> int:
        """How many it has done."""
        with open(self._log, "rb") as file:
            file.seek(max(0, self._log.stat().st_size - 200))
            return int(file.read().splitlines()[-2].split()[0])

    def end(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()


class NoTraining:
    """In its place where the cost alone is asked for."""

    def updates(self) -> int:
        """None."""
        return 0

    def end(self) -> None:
        """Nothing to end."""


def cpu_s(pid: int) -> float:
    """CPU time of a process, of those below it and of those it has waited for."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def rows(uri: str) -> int:
    """Metrics in the store."""
    with psycopg.connect(uri) as database:
        (known,) = database.execute("SELECT to_regclass('metrics') IS NOT NULL").fetchone() or (False,)
        (count,) = (database.execute("SELECT count(*) FROM metrics").fetchone() or (0,)) if known else (0,)
    return int(count)


@contextmanager
def store(folder: Path, through_server: bool) -> Iterator[tuple[str, dict[str, Server]]]:
    """The address to send to, and the servers behind it."""
    with postgresql() as database:
        if not through_server:
            yield database.uri, {"database": database}
            return
        with mlflow_server(database.uri, folder, workers=2) as server:
            yield server.uri, {"database": database, "server": server}


def load(
    num_trials: int, through_server: bool, beside_training: bool, window_s: float, num_windows: int
) -> dict[str, Any]:
    """Windows with logging until all of it is in the store; each paired with one as long without, for the slow-down."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir, trials = Path(scratch) / "run", Trials(Path(scratch) / "run", num_trials)
        with store(Path(scratch) / "server", through_server) as (uri, servers):
            tracker = TrackerProcess(run_dir, uri)
            training = Training(Path(scratch) / "training") if beside_training else NoTraining()
            pids = {"tracker": tracker.pid, **{name: server.pid for name, server in servers.items()}}
            try:
                _window(trials, tracker, servers["database"].uri, 1)  # creates the runs
                pairs = [
                    _pair(trials, tracker, training, servers["database"].uri, pids, window_s)
                    for _ in range(num_windows)
                ]
                memory = memory_mib(tracker.pid)
            finally:
                training.end()
                tracker.kill()
    return {
        "trials": num_trials,
        "records_per_s": num_trials * len(METRICS),
        "through_server": through_server,
        **{name: [round(pair[name], 1) for pair in pairs] for name in pairs[0]},
        "tracker_memory_mib": round(memory),
    }


def _pair(
    trials: Trials,
    tracker: TrackerProcess,
    training: Training | NoTraining,
    database: str,
    pids: dict[str, int],
    window_s: float,
) -> dict[str, float]:
    """Updates lost to logging, and CPU it takes, in percent of ``window_s`` of training and of one core."""
    before, cpu_before, began = training.updates(), {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
    lag_s = _window(trials, tracker, database, window_s)
    took_s, updates = time.monotonic() - began, training.updates() - before
    figures = {f"{name}_cpu_percent": 100 * (cpu_s(pid) - cpu_before[name]) / window_s for name, pid in pids.items()}
    figures |= {"longest_lag_s": lag_s, "until_all_is_there_s": took_s}
    if isinstance(training, NoTraining):
        return figures
    before, began = training.updates(), time.monotonic()
    time.sleep(took_s)
    alone_per_s = (training.updates() - before) / (time.monotonic() - began)
    return figures | {"slowdown_percent": 100 * (alone_per_s * took_s - updates) / (alone_per_s * window_s)}


def _window(trials: Trials, tracker: TrackerProcess, database: str, window_s: float) -> float:
    """Logs every second for a while and waits until the store has it all; returns the longest lag."""
    logged: list[tuple[int, float]] = []  # records up to a time
    longest, end = 0.0, time.monotonic() + window_s
    while True:
        if time.monotonic() < end:
            tracker.committed(trials.log())
            logged.append((trials.num_records, time.monotonic()))
        arrived = rows(database)
        while logged and logged[0][0] <= arrived:
            longest = max(longest, time.monotonic() - logged.pop(0)[1])
        if time.monotonic() >= end and not logged:
            return longest
        time.sleep(1)


def away(num_trials: int, seconds: float) -> dict[str, Any]:
    """Memory of the tracker while no server answers and records grow."""
    with tempfile.TemporaryDirectory() as scratch:
        trials = Trials(Path(scratch) / "run", num_trials)
        tracker = TrackerProcess(Path(scratch) / "run", "http://127.0.0.1:9")
        memory, end = [], time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                for _ in range(20):
                    tracker.committed(trials.log())
                memory.append((trials.num_records, round(memory_mib(tracker.pid), 1)))
                time.sleep(1)
        finally:
            tracker.kill()
        size = sum(file.stat().st_size for file in (Path(scratch) / "run" / "records").iterdir())
    settled = memory[len(memory) // 4 :]
    return {
        "trials": num_trials,
        "record_mib": round(size / 2**20),
        "records_at_first_and_last": [settled[0][0], settled[-1][0]],
        "memory_mib_at_first_and_last": [settled[0][1], settled[-1][1]],
    }


def scale(num_trials: int) -> dict[str, Any]:
    """Into an embedded store: everything of N trials that log once, one at a time as when they finish in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        trials = Trials(Path(scratch), num_trials)
        lengths = trials.log()
        mirror = Mirror(Path(scratch), None)
        mirror.pump({})
        times = [time.process_time()]
        for trial, length in lengths.items():
            mirror.pump({trial: length})
        times.append(time.process_time())
        mirror.pump(lengths)
        times.append(time.process_time())
        mirror.finish_all(dict.fromkeys(lengths, "FINISHED"))
        times.append(time.process_time())
        Mirror(Path(scratch), None).finish_all(dict.fromkeys(lengths, "FINISHED"))
        times.append(time.process_time())
    steps = ("send", "send_nothing_new", "finish", "start_again_and_finish")
    per_trial = {
        f"{name}_cpu_ms_per_trial": round(1000 * (after - before) / num_trials, 3)
        for name, before, after in zip(steps, times, times[1:], strict=False)
    }
    return {"trials": num_trials, **per_trial}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("load", "away", "scale"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--direct", action="store_true", help="to PostgreSQL itself, without an MLflow server")
    parser.add_argument("--cost", action="store_true", help="load: CPU and lag alone, with no training beside it")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--windows", type=int, default=4)
    given = parser.parse_args()
    match given.what:
        case "load":
            figures = load(given.trials, not given.direct, not given.cost, given.seconds, given.windows)
        case "away":
            figures = away(given.trials, given.seconds)
        case "scale":
            figures = scale(given.trials)
    print(json.dumps(figures))
