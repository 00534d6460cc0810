"""How a run grows with its number of trials: ``python -m benchmarks.scale [--trials N ...] [--members M ...]``.

Real trials, as small as they get (CartPole, two layers of 8, 16 steps, one evaluation of 8 steps), through plan, Ray,
tracker, MLflow and report on this machine. Each size runs in a process of its own. Prints JSON, then a table with the
exponent b of cost ~ trials ** b between neighbouring sizes: 1 is linear, 2 would be quadratic.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NUM_METHODS = 4
TIMES = ("plan_s", "create_s", "train_s", "mirror_s", "report_s")
SIZES = ("driver_mib", "tracker_mib", "worker_mib", "plan_mib")


def benchmark_data(num_trials: int, members: int) -> dict[str, Any]:
    """``num_trials`` trials of four methods without resets, cut into populations of ``members``."""
    return {
        "name": f"scale {num_trials}",
        "environments": [{"kind": "classic", "task": "CartPole-v1"}],
        "agent": {
            "kind": "dqn",
            "network": {"kind": "mlp", "hidden": [8, 8]},
            "learning_starts_steps": 8,
            "batch_rows": 8,
            "capacity_transitions": 64,
        },
        "methods": {f"method {n}": {"kind": "none"} for n in range(NUM_METHODS)},
        "seeds": num_trials // NUM_METHODS,
        "budget_steps": 16,
        "evaluation": {"every_steps": 16, "steps": 8},
        "probes": {"every_steps": 16, "kinds": ["weight_norm"]},
        "records": {"every_steps": 16},
        "execution": {"members_per_population": members},
    }


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 2)


class _Peaks(threading.Thread):
    """Follows the largest resident memory of Ray's actors by the name of their class."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib: dict[str, float] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(2.0):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    title = (folder / "cmdline").read_bytes().rstrip(b"\0").decode()
                    if title.startswith("ray::") and _descends_from(os.getpid(), int(folder.name)):
                        self._note(title, (folder / "status").read_text())
                except (OSError, ValueError):
                    continue  # it ended meanwhile

    def _note(self, title: str, status: str) -> None:
        peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        name = title.removeprefix("ray::").partition(".")[0]
        self.mib[name] = max(self.mib.get(name, 0.0), peak_kib / 1024)

    def stop(self) -> None:
        self._ended.set()


def _descends_from(ancestor: int, pid: int) -> bool:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == ancestor:
            return True
    return False


def measure(num_trials: int, members: int) -> dict[str, Any]:
    """Runs one size here; the seconds of each part and the peak memory of each kind of process."""
    from plasticbench.platform.cluster import connection

    connection.prepare_environment("local")  # before the runner imports Ray
    from rich.console import Console

    from plasticbench.analysis.report import write_report
    from plasticbench.platform.cluster import runner
    from plasticbench.platform.definition.reading import from_dict
    from plasticbench.platform.display import make_display
    from plasticbench.platform.planning.plan import make_plan
    from plasticbench.platform.rundir import RunDirectory

    clock, peaks = _Clock(), _Peaks()
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run")
        with clock("plan_s"):
            benchmark = from_dict(benchmark_data(num_trials, members))
            plan = make_plan(benchmark)
        with clock("create_s"):
            directory.create(benchmark, plan)
            plan = directory.plan()
        peaks.start()
        with connection.connected("local"):
            tracker = runner.start_tracker(directory, None)
            scheduler = runner.Scheduler(directory, benchmark, plan, make_display(Console(), quiet=True), tracker)
            with clock("train_s"):
                outcome = scheduler.run()
            with clock("mirror_s"):  # what the mirror still had to do when training had ended
                behind = scheduler.finish_tracking(None)
        peaks.stop()
        training_mib = _own_peak_mib()
        with clock("report_s"):
            write_report(directory.path)
        return {
            "trials": num_trials,
            "members": members,
            "segments": len(plan.segments),
            "outcome": outcome,
            "behind": behind,
            **clock.seconds,
            "trials_per_s": round(num_trials / clock.seconds["train_s"], 2),
            "driver_mib": round(training_mib),
            "report_mib": round(_own_peak_mib()),
            "tracker_mib": round(peaks.mib.get("Tracker", 0)),
            "worker_mib": round(peaks.mib.get("SegmentWorker", 0)),
            "plan_mib": round(directory.plan_file.stat().st_size / 2**20, 2),
        }


def _own_peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exponents(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    """How each cost grows between two sizes of one kind of population."""
    ratio = math.log(large["trials"] / small["trials"])
    return {
        name: round(math.log(large[name] / small[name]) / ratio, 2)
        for name in (*TIMES, *SIZES)
        if small[name] > 0 and large[name] > 0
    }


def table(rows: list[dict[str, Any]]) -> str:
    """All figures, and beneath each size the exponents against the one before."""
    names = ("members", "trials", "segments", "trials_per_s", *TIMES, *SIZES, "report_mib")
    lines = [" ".join(f"{name:>12}" for name in names)]
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before["members"] == row["members"]:
            growth = exponents(before, row)
            shown = {"members": "growth", **{name: f"^{value:.2f}" for name, value in growth.items()}}
            lines.append(" ".join(f"{shown.get(name, ''):>12}" for name in names))
        lines.append(" ".join(f"{row[name]:>12}" for name in names))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--here", action="store_true", help="measure one size in this process and print its JSON")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.trials[0], arguments.members[0])))
        return
    rows = []
    for members in arguments.members:
        for num_trials in arguments.trials:
            size = ["--trials", str(num_trials), "--members", str(members), "--here"]
            told = subprocess.run([sys.executable, "-m", "benchmarks.scale", *size], stdout=subprocess.PIPE, check=True)
            rows.append(json.loads(told.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
