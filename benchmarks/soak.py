"""Kills everything at random moments while a benchmark trains on a cluster: ``python -m benchmarks.soak --minutes 30``.

The cluster is ``docker/docker-compose.yml`` on machines of its own (``benchmarks/machines.py``): PostgreSQL, the MLflow
server, a Ray head, two workers. What dies is started again, as compose does; a driver that died is followed by a
``resume``. At the end of each round every trial must be complete, every record there once, the curves equal to an
undisturbed run's bit for bit, and the history that the MLflow server tells equal to the record files. Prints what is
killed as it happens, then a verdict as JSON. Needs root; nothing that it starts outlives it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cluster import KINDS, MLFLOW_ADDRESS, Cluster
from benchmarks.machines import enter_own_network, missing_programs
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records

_WALL_CLOCK_NAMES = ("speed/", "system/")
_MLFLOW_IS_BEHIND = "MLflow is behind"
_ROUND_TIMEOUT_S = 1800.0


def benchmark(budget_steps: int) -> dict[str, Any]:
    """Two methods, one of which forks from the other, and three seeds, as five populations."""
    return {
        "name": "soak",
        "environments": [{"kind": "classic", "task": "CartPole-v1", "num_envs": 2}],
        "agent": {
            "kind": "dqn",
            "network": {"kind": "mlp", "hidden": [16, 16]},
            "learning_starts_steps": 200,
            "capacity_transitions": 2_000,
            "target_period_steps": 100,
        },
        "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}},
        "resets": {"at": [0.5]},
        "seeds": 3,
        "budget_steps": budget_steps,
        "evaluation": {"every_steps": budget_steps // 10, "episodes": 2, "num_envs": 2},
        "probes": {"every_steps": budget_steps // 10, "batch_rows": 64, "kinds": ["dormant_ratio", "weight_norm"]},
        "records": {"every_steps": budget_steps // 40},
        "tracking": {"probes": "all"},
        "checkpoint": {"every_s": 1.0},
        "execution": {"members_per_population": 2},
    }


Fact = tuple[int, str, str]
"""Step, name, value as exact text."""
Sample = tuple[str, str, int, str, int]
"""Trial, name, step, value as exact text, time in ms."""


def curves(run_dir: Path) -> dict[str, list[Fact]]:
    """Every record of every trial but what depends on the clock on the wall, in order, values as exact text."""
    return {
        trial["id"]: [
            (record.step, record.name, repr(record.value))
            for record in read_records(run_dir / "records" / f"{trial['id']}.jsonl")
            if not record.name.startswith(_WALL_CLOCK_NAMES)
        ]
        for trial in json.loads((run_dir / "plan.json").read_text())["trials"]
    }


def recorded(run_dir: Path) -> list[Sample]:
    """All records as MLflow keeps them."""
    trials = json.loads((run_dir / "plan.json").read_text())["trials"]
    return sorted(
        (trial["id"], record.name, record.step, repr(record.value), int(record.time * 1000))
        for trial in trials
        for record in read_records(run_dir / "records" / f"{trial['id']}.jsonl")
    )


def mirrored(run_dir: Path, address: str = MLFLOW_ADDRESS) -> list[Sample]:
    """The whole history of a run directory's trials, asked from the MLflow server at ``address``."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    condition = f"tags.`plasticbench.run` = '{(run_dir / 'run_id').read_text()}'"
    return sorted(
        (run.data.tags["plasticbench.trial"], name, item.step, repr(item.value), item.timestamp)
        for run in client.search_runs(experiments, condition, max_results=1000)
        if "plasticbench.trial" in run.data.tags
        for name in run.data.metrics
        for item in client.get_metric_history(run.info.run_id, name)
    )


@dataclass(slots=True)
class Verdict:
    """What happened in all rounds; ``passed`` says whether anything was lost."""

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    jobs: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check of every round held."""
        return self.rounds > 0 and not self.problems

    def check(
        self,
        found: Mapping[str, Sequence[Fact]],
        undisturbed: Mapping[str, Sequence[Fact]],
        files: Sequence[Sample],
        history: Sequence[Sample],
    ) -> None:
        """Takes note of what a finished round lost or has twice, in its curves and between files and MLflow."""
        self.rounds += 1
        self.records += len(files)
        for trial, expected in undisturbed.items():
            own = found.get(trial, [])
            repeated = len(own) - len({(step, name) for step, name, _ in own})
            self._require(repeated == 0, f"{trial} has {repeated} records twice")
            self._require(own == expected, f"{trial} differs from an undisturbed run")
        lost, added = Counter(files) - Counter(history), Counter(history) - Counter(files)
        self._require(not lost, f"MLflow lacks {lost.total()} of {len(files)}: {list(lost)[:3]}")
        self._require(not added, f"MLflow has {added.total()} more: {list(added)[:3]}")

    def _require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(f"round {self.rounds}: {problem}")


class Killer:
    """Kills every kind once in random order, again and again while ``minutes`` last, but at least once."""

    def __init__(
        self, cluster: Cluster, verdict: Verdict, kinds: Sequence[str], minutes: float, pause_s: float
    ) -> None:
        """``pause_s``: the mean pause between two kills."""
        self._cluster, self._verdict, self._kinds, self._pause_s = cluster, verdict, kinds, pause_s
        self._until = time.monotonic() + 60 * minutes
        self._pending: list[str] = []
        self._shuffle()

    def _shuffle(self) -> None:
        self._pending = self._cluster.chance.sample(self._kinds, len(self._kinds))
        self._wait()

    def _wait(self) -> None:
        self._next = time.monotonic() + self._cluster.chance.uniform(0.2, 1.8) * self._pause_s

    @property
    def has_finished(self) -> bool:
        """Whether nothing more will be killed."""
        return not self._pending

    def act(self) -> None:
        """Kills what is next once its time has come; what is not there now has its turn later."""
        if self._pending and time.monotonic() >= self._next and self._cluster.kill(self._pending[0]):
            kind = self._pending.pop(0)
            self._verdict.kills[kind] = self._verdict.kills.get(kind, 0) + 1
            self._wait()
            if not self._pending and time.monotonic() < self._until:
                self._shuffle()


def play_round(cluster: Cluster, killer: Killer, config: Path, run_dir: Path) -> None:
    """Trains a benchmark to its end while things are killed: whenever a job ends otherwise, it is submitted again."""
    job, end = cluster.submit(config, run_dir), time.monotonic() + _ROUND_TIMEOUT_S
    while not cluster.has_succeeded(job):
        if time.monotonic() > end:
            raise TimeoutError(f"{run_dir.name} did not end within {_ROUND_TIMEOUT_S:g} s\n{cluster.logs()}")
        cluster.revive()
        killer.act()
        if cluster.has_lost(job) and cluster.is_ready():
            job = cluster.submit(config, run_dir)
        time.sleep(0.3)
    # A run whose MLflow is away at its end succeeds and says so; submitted again it only catches up.
    while _MLFLOW_IS_BEHIND in cluster.log(job):
        cluster.tell("MLflow is behind")
        cluster.wait_for("the cluster is whole", cluster.is_ready)
        job = cluster.submit(config, run_dir)
        cluster.wait_for(f"{job} succeeds", partial(cluster.has_succeeded, job))
    cluster.wait_for("the cluster is whole", cluster.is_ready)


def train_undisturbed(run_dir: Path, budget_steps: int) -> dict[str, list[Fact]]:
    """The same benchmark in this process, without Ray."""
    settings = from_dict(benchmark(budget_steps))
    plan = make_plan(settings)
    RunDirectory(run_dir).create(settings, plan)
    for segment in plan.segments:
        SegmentRun(run_dir, segment.id).run()
    return curves(run_dir)


def soak(folder: Path, minutes: float, seed: int, budget_steps: int, pause_s: float) -> Verdict:
    """Rounds of training until the time is over and everything was killed at least once."""
    verdict, config = Verdict(seed=seed), folder / "soak.yaml"
    config.write_text(yaml.safe_dump(benchmark(budget_steps)))
    with ProcessPoolExecutor(max_workers=1) as beside:
        undisturbed = beside.submit(train_undisturbed, folder / "undisturbed", budget_steps)
        cluster = Cluster(folder / "machines", random.Random(seed))
        try:
            cluster.start()
            killer = Killer(cluster, verdict, KINDS, minutes, pause_s)
            while not killer.has_finished and not verdict.problems:
                run_dir = folder / f"round-{verdict.rounds + 1}"
                play_round(cluster, killer, config, run_dir)
                verdict.check(curves(run_dir), undisturbed.result(), recorded(run_dir), mirrored(run_dir))
                cluster.tell(f"{run_dir.name} is checked; {len(verdict.problems)} problems so far")
        finally:
            cluster.stop()
    verdict.jobs = cluster.num_jobs
    return verdict


def main() -> None:
    """Prints the verdict; exits with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="for how long things are killed; 0 is once each")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed, and when")
    parser.add_argument("--budget-steps", type=int, default=20_000, help="length of each trial")
    parser.add_argument("--pause-s", type=float, default=10.0, help="mean pause between two kills")
    options = parser.parse_args()
    if missing := missing_programs():
        sys.exit(f"soak: needs {', '.join(missing)}")
    enter_own_network("benchmarks.soak", sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        os.chmod(name, 0o755)  # PostgreSQL runs as another user
        verdict = soak(Path(name), options.minutes, options.seed, options.budget_steps, options.pause_s)
    print(json.dumps({**asdict(verdict), "passed": verdict.passed}, indent=2))
    sys.exit(0 if verdict.passed else 1)


if __name__ == "__main__":
    main()
