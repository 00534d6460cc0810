"""Speed of the analysis on synthetic runs; prints JSON. Run with ``python -m benchmarks.analysis``.

``report``: 20 trials x 100 points x 30 names, read and drawn. ``leaderboard``: 10,000 trials x 100 evaluations.
``interval``: stratified bootstrap of the IQM, 5 seeds x 26 tasks, against one call of SciPy's trimmed mean per sample.
"""

from __future__ import annotations

import json
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

_POINTS = 100
_METHODS = ("none", "full_reset", "shrink_perturb", "fire")
_PROBES = ("dormant_ratio", "srank", "gradient_norm", "dfi", "weight_norm", "update_ratio", "stable_rank", "zero")
_EVALUATIONS = ("eval/return", "eval/score")
_PROBE_NAMES = [f"plasticity/online/{probe}{layer}" for probe in _PROBES for layer in ("", "/fc1", "/fc2")]
_NAMES = (*_EVALUATIONS, "loss/td", "train/return", "train/length", "speed/steps_per_s", *_PROBE_NAMES)


def write_synthetic_run(path: Path, tasks: Sequence[str], num_seeds: int, names: Sequence[str]) -> Path:
    """A run directory whose records are noise around a level per method."""
    rng = np.random.Generator(np.random.PCG64(0))
    (path / "records").mkdir(parents=True)
    trials: list[dict[str, Any]] = []
    for task in tasks:
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
                    f'{{"trial":"{trial_id}","step":{100 * (i + 1)},"name":"{name}","value":{value!r},"time":0.0}}\n'
                    for i, row in enumerate(values.tolist())
                    for name, value in zip(names, row, strict=True)
                ]
                (path / "records" / f"{trial_id}.jsonl").write_text("".join(lines))
    plan = {"format": 1, "name": "synthetic", "version": "0", "budget_steps": 100 * _POINTS, "trials": trials}
    (path / "plan.json").write_text(json.dumps(plan))
    return path


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Elapsed and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": round(time.perf_counter() - wall, 3), "cpu_s": round(time.process_time() - cpu, 3)}


def bootstrap_speedup(resamples: int = 2_000) -> dict[str, float]:
    """How many times as fast the batched bootstrap is as one call per sample."""
    rng = np.random.Generator(np.random.PCG64(0))
    matrix = rng.standard_normal((5, 26))
    runs = {"a": [aggregate.Runs(column, tuple(range(5))) for column in matrix.T]}
    batched = seconds(lambda: aggregate.bootstrap(runs, aggregate.iqm, rng, resamples))["wall_s"]

    def one_by_one() -> list[float]:
        draws = rng.integers(5, size=(resamples, 5, 26))
        return [float(trim_mean(matrix[draw, np.arange(26)], 0.25, axis=None)) for draw in draws]

    return {"batched_s": batched, "one_by_one_s": (single := seconds(one_by_one)["wall_s"]), "ratio": single / batched}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small = write_synthetic_run(Path(folder) / "small", ["task"], 5, _NAMES)
        tasks = [f"task-{i}" for i in range(50)]
        large = write_synthetic_run(Path(folder) / "large", tasks, 50, _EVALUATIONS)
        figures = {
            "report_20_trials": seconds(lambda: write_report(small)),
            "leaderboard_10000_trials": seconds(lambda: leaderboard([large])),
            "interval_5_seeds_26_tasks": bootstrap_speedup(),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
