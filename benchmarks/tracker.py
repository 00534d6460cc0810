"""How the tracker bears load: ``python -m benchmarks.tracker load|slowdown|away|scale [--trials N] ...``. Prints JSON.

``load``: N trials log METRICS every second; the tracker, a process of its own, sends them to a real PostgreSQL, direct
or through a real MLflow server: what that costs, and how far it lags. ``slowdown``: the same beside a training process
at niceness 0, while the tracker is stopped and continued every few seconds. ``away``: the same trials while no server
answers. ``scale``: N trials with one line of records each, and what each costs as N grows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import Plan, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
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
        self.pid = self._process.pid
        while log.stat().st_size < 10_000:  # it has begun, and is warm
            time.sleep(0.1)

    def updates(self) -> int:
        """How many it has done."""
        with open(self._log, "rb") as file:
            file.seek(max(0, self._log.stat().st_size - 200))
            return int(file.read().splitlines()[-2].split()[0])

    def end(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()


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


@dataclass
class Stage:
    """Trials, the tracker that follows them, and the servers that it sends to."""

    trials: Trials
    tracker: TrackerProcess
    servers: dict[str, Server]


@contextmanager
def stage(num_trials: int, through_server: bool) -> Iterator[Stage]:
    """All runs are there already."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir, trials = Path(scratch) / "run", Trials(Path(scratch) / "run", num_trials)
        with store(Path(scratch) / "server", through_server) as (uri, servers):
            found = Stage(trials, TrackerProcess(run_dir, uri), servers)
            try:
                _window(found, 1)
                yield found
            finally:
                found.tracker.kill()


def load(num_trials: int, through_server: bool, window_s: float, num_windows: int) -> dict[str, Any]:
    """Windows with logging, each until all of it is in the store."""
    with stage(num_trials, through_server) as on:
        windows = [_costs(on, window_s) for _ in range(num_windows)]
        memory = memory_mib(on.tracker.pid)
    return {
        "trials": num_trials,
        "records_per_s": num_trials * len(METRICS),
        "through_server": through_server,
        **{name: [round(window[name], 1) for window in windows] for name in windows[0]},
        "tracker_memory_mib": round(memory),
    }


def _costs(on: Stage, window_s: float) -> dict[str, float]:
    """CPU in percent of one core for ``window_s``, and lag."""
    pids = {"tracker": on.tracker.pid, **{name: server.pid for name, server in on.servers.items()}}
    before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
    lag_s = _window(on, window_s)
    figures = {f"{name}_cpu_percent": 100 * (cpu_s(pid) - before[name]) / window_s for name, pid in pids.items()}
    return figures | {"longest_lag_s": lag_s, "until_all_is_there_s": time.monotonic() - began}


def slowdown(
    num_trials: int, through_server: bool, period_s: float, num_pairs: int, *, apart: bool = False
) -> dict[str, Any]:
    """Updates per second of training with the tracker running and with it stopped, in neighbouring periods.

    ``apart``: servers and logging stay on the last core and training on the first, as on machines of their own; the
    tracker may use both. Logging never pauses, so a running tracker sends what two periods logged: twice the share
    that it really takes.
    """
    losses = []
    with stage(num_trials, through_server) as on, tempfile.TemporaryDirectory() as scratch:
        training = Training(Path(scratch) / "training")
        if apart:
            _pin(training.pid, 0)
            for pid in (os.getpid(), *(server.pid for server in on.servers.values())):
                _pin(pid, (os.cpu_count() or 1) - 1, but=(training.pid, on.tracker.pid))
        try:
            for _ in range(num_pairs):
                rates = []
                for signum in (signal.SIGCONT, signal.SIGSTOP):
                    os.kill(on.tracker.pid, signum)
                    rates.append(_rate(on, training, period_s, tells=signum == signal.SIGCONT))
                losses.append(100 * (1 - rates[0] / rates[1]) / 2)
        finally:
            training.end()
            os.kill(on.tracker.pid, signal.SIGCONT)
    return {
        "trials": num_trials,
        "through_server": through_server,
        "apart": apart,
        "pairs": num_pairs,
        "slowdown_percent": round(statistics.fmean(losses), 2),
        "standard_error": round(statistics.stdev(losses) / num_pairs**0.5, 2),
        "median": round(statistics.median(losses), 2),
    }


def _pin(pid: int, core: int, but: Sequence[int] = ()) -> None:
    for member in set(family(pid)) - set(but):
        for thread in Path(f"/proc/{member}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def _rate(on: Stage, training: Training, period_s: float, *, tells: bool) -> float:
    """Updates per second while trials log every second; a stopped tracker is not told, as its pipe would fill."""
    before, began = training.updates(), time.monotonic()
    while (now := time.monotonic()) < began + period_s:
        lengths = on.trials.log()
        if tells:
            on.tracker.committed(lengths)
        time.sleep(max(0.0, now + 1 - time.monotonic()))
    return (training.updates() - before) / (time.monotonic() - began)


def _window(on: Stage, window_s: float) -> float:
    """Logs every second for a while and waits until the store has it all; returns the longest lag."""
    logged: list[tuple[int, float]] = []  # records up to a time
    longest, end = 0.0, time.monotonic() + window_s
    while True:
        if time.monotonic() < end:
            on.tracker.committed(on.trials.log())
            logged.append((on.trials.num_records, time.monotonic()))
        arrived = rows(on.servers["database"].uri)
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
    parser.add_argument("what", choices=("load", "slowdown", "away", "scale"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--direct", action="store_true", help="to PostgreSQL itself, without an MLflow server")
    parser.add_argument("--apart", action="store_true", help="slowdown: servers on one core, training on another")
    parser.add_argument("--seconds", type=float, default=60, help="of a window; 5 is good for slowdown")
    parser.add_argument("--windows", type=int, default=4, help="or pairs of periods; 30 is good for slowdown")
    given = parser.parse_args()
    match given.what:
        case "load":
            figures = load(given.trials, not given.direct, given.seconds, given.windows)
        case "slowdown":
            figures = slowdown(given.trials, not given.direct, given.seconds, given.windows, apart=given.apart)
        case "away":
            figures = away(given.trials, given.seconds)
        case "scale":
            figures = scale(given.trials)
    print(json.dumps(figures))
