"""The run directory: where everything about one run of a benchmark lies, and who may write there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from plasticbench.platform.benchmark import Benchmark, BenchmarkError, from_dict
from plasticbench.platform.plan import Plan


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths below one run directory."""

    path: Path

    @property
    def benchmark_file(self) -> Path:
        """The resolved benchmark."""
        return self.path / "benchmark.yaml"

    @property
    def plan_file(self) -> Path:
        """Trials and segments."""
        return self.path / "plan.json"

    @property
    def checkpoints(self) -> Path:
        """One folder per segment."""
        return self.path / "checkpoints"

    def record_file(self, trial: str) -> Path:
        """The records of one trial."""
        return self.path / "records" / f"{trial}.jsonl"

    def weights_file(self, trial: str) -> Path:
        """The final weights of one trial's online networks, where ``tracking.weights`` asks for them."""
        return self.path / "weights" / f"{trial}.safetensors"

    def film_file(self, trial: str) -> Path:
        """What the final policy of one trial does, where the benchmark asks for pictures."""
        return self.path / "pictures" / f"{trial}.webp"

    def create(self, benchmark: Benchmark, plan: Plan) -> None:
        """Writes benchmark and plan; an existing run of the very same trials is gone on with.

        Raises ``BenchmarkError`` if the folder holds anything else.
        """
        if self.plan_file.exists():
            known = {trial.id for trial in self.plan().trials}
            if known != {trial.id for trial in plan.trials} or self.plan().segments != plan.segments:
                raise BenchmarkError(
                    f"--out: {self.path} holds another benchmark or other settings ({self.plan().name!r} with "
                    f"{len(known)} trials). Choose another directory, or `plasticbench resume {self.path}` to go on"
                )
            return
        if self.path.exists() and not self.path.is_dir():
            raise BenchmarkError(f"--out: {self.path} is a file. Choose a directory")
        if self.path.is_dir() and any(entry.name != "lock" for entry in self.path.iterdir()):
            raise BenchmarkError(f"--out: {self.path} is not empty and not a run directory. Choose another directory")
        self.path.mkdir(parents=True, exist_ok=True)
        self.benchmark_file.write_text(yaml.safe_dump(benchmark.resolved(), sort_keys=False, allow_unicode=True))
        # The plan comes last: a directory with a plan is a whole run directory.
        temporary = self.plan_file.with_suffix(".new")
        temporary.write_text(plan.to_json())
        os.replace(temporary, self.plan_file)

    def benchmark(self) -> Benchmark:
        """The resolved benchmark that this run was started with."""
        self.require()
        return from_dict(yaml.safe_load(self.benchmark_file.read_text()), source=str(self.benchmark_file))

    def plan(self) -> Plan:
        """The plan that this run was started with."""
        self.require()
        return Plan.from_json(self.plan_file.read_text())

    def require(self) -> None:
        """Raises ``BenchmarkError`` unless this is a run directory."""
        if not (self.plan_file.exists() and self.benchmark_file.exists()):
            raise BenchmarkError(
                f"{self.path}: not a run directory (it has no plan.json). Start one with `plasticbench run`"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second driver out. Raises ``BenchmarkError`` while another process holds the directory."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BenchmarkError(f"{self.path}: another plasticbench is running in this directory") from error
            yield
