"""Cost of report and leaderboard on synthetic runs; prints JSON. Run with ``python -m benchmarks.analysis``.

Each is measured in a process of its own at 100, 1,000 and 10,000 trials (4 methods, more and more tasks and seeds) with
100 points of 15 records each: evaluations, training, and three probes of a network and its two layers. ``growth`` are
exponents of CPU seconds over trials from one size to the next: 1 is linear. ``interval``: stratified bootstrap of the
IQM, 5 seeds x 26 tasks, against one call of SciPy's trimmed mean per sample.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from plasticbench.analysis import aggregate
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.report import write_report

Figures = dict[str, float]

_POINTS = 100
_METHODS = ("none", "full_reset", "shrink_perturb", "fire")
_PROBES = ("dormant_ratio", "srank", "weight_norm")
_PROBE_NAMES = [f"plasticity/online/{probe}{layer}" for probe in _PROBES for layer in ("", "/fc1", "/fc2")]
_NAMES = ("eval/return", "eval/score", "loss/td", "train/return", "train/length", "speed/steps_per_s", *_PROBE_NAMES)
_SIZES = {100: (5, 5), 1_000: (25, 10), 4_000: (50, 20), 10_000: (50, 50)}
"""Trials: tasks, seeds."""
_WORK = {"report": write_report, "leaderboard": lambda path: leaderboard([path])}


def write_synthetic_run(path: Path, num_trials: int, names: Sequence[str] = _NAMES) -> Path:
    """A run directory whose records are noise around a level per method."""
    rng = np.random.Generator(np.random.PCG64(0))
    num_tasks, num_seeds = _SIZES[num_trials]
    (path / "records").mkdir(parents=True)
    trials: list[dict[str, Any]] = []
    for task in (f"task-{i}" for i in range(num_tasks)):
        for level, method in enumerate(_METHODS):
            for seed in range(num_seeds):
                trial_id = f"{task}--{method}--s{seed}"
                settings = {"method": {"kind": method}, "evaluation": {"every_steps": 100}}
                events = {"reset_steps": [5_000], "change_steps": [5_000], "score_source": "synthetic"}
                trials.append(
                    {"id": trial_id, "task": task, "method": method, "seed": seed, "settings": settings} | events
                )
                values = level / 4 + 0.1 * rng.standard_normal((_POINTS, len(names)))
                lines = [
                    f'{{"trial":"{trial_id}","step":{100 * (i + 1)},"name":"{name}","value":{value!r},"time":1.7e9}}\n'
                    for i, row in enumerate(values.tolist())
                    for name, value in zip(names, row, strict=True)
                ]
                (path / "records" / f"{trial_id}.jsonl").write_text("".join(lines))
    plan = {"format": 1, "name": "synthetic", "version": "0", "budget_steps": 100 * _POINTS, "trials": trials}
    (path / "plan.json").write_text(json.dumps(plan))
    return path


def seconds(work: Callable[[], object]) -> Figures:
    """Elapsed and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": round(time.perf_counter() - wall, 3), "cpu_s": round(time.process_time() - cpu, 3)}


def measure(name: str, path: Path) -> Figures:
    """Seconds and peak memory of one kind of work, in this process."""
    figures = seconds(lambda: _WORK[name](path))
    return figures | {"peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def measure_apart(name: str, path: Path) -> Figures:
    """``measure`` in a process of its own, whose peak memory nothing else has raised."""
    command = [sys.executable, "-m", "benchmarks.analysis", "--measure", name, str(path)]
    figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def growth(cpu_s: dict[int, float]) -> list[float]:
    """Exponents of CPU seconds over trials between neighbouring sizes."""
    sizes = sorted(cpu_s)
    return [round(math.log(cpu_s[b] / cpu_s[a]) / math.log(b / a), 2) for a, b in itertools.pairwise(sizes)]


def bootstrap_speedup(resamples: int = 2_000) -> Figures:
    """How many times as fast the batched bootstrap is as one call per sample."""
    rng = np.random.Generator(np.random.PCG64(0))
    matrix = rng.standard_normal((5, 26))
    runs = {"a": [aggregate.Runs(column, tuple(range(5))) for column in matrix.T]}
    batched = seconds(lambda: aggregate.bootstrap(runs, aggregate.iqm, rng, resamples))["wall_s"]

    def one_by_one() -> list[float]:
        draws = rng.integers(5, size=(resamples, 5, 26))
        return [float(trim_mean(matrix[draw, np.arange(26)], 0.25, axis=None)) for draw in draws]

    return {"batched_s": batched, "one_by_one_s": (single := seconds(one_by_one)["wall_s"]), "ratio": single / batched}


def scaling(sizes: Sequence[int]) -> dict[str, Any]:
    """Figures of every kind of work at every size, their growth, and the size of the page."""
    found: dict[str, Any] = {name: {} for name in _WORK}
    for num_trials in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = write_synthetic_run(Path(folder) / "run", num_trials)
            for name in _WORK:
                found[name][num_trials] = measure_apart(name, path)
            found["report"][num_trials]["page_mib"] = round((path / "report/index.html").stat().st_size / 2**20, 1)
    for name in _WORK:
        found[name]["growth"] = growth({size: found[name][size]["cpu_s"] for size in sizes})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", choices=_SIZES, default=[100, 1_000, 10_000])
    parser.add_argument(
        "--measure", nargs=2, metavar=("WORK", "DIR"), help="measure one kind of work on a run directory"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        name, folder = arguments.measure
        print(json.dumps(measure(name, Path(folder))))
    else:
        print(json.dumps(scaling(arguments.trials) | {"interval_5_seeds_26_tasks": bootstrap_speedup()}, indent=2))


if __name__ == "__main__":
    main()
