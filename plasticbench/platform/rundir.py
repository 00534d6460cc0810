"""The run directory: where everything about one run of a benchmark lies, and who may write there."""

from __future__ import annotations

import fcntl
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plasticbench import storage
from plasticbench.envs import _own_modules
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.lease import held_lease, is_held
from plasticbench.storage import Location

if TYPE_CHECKING:  # reading a benchmark takes PyTorch, which a command that only looks at a run must not wait for
    from plasticbench.platform.definition.benchmark import Benchmark
    from plasticbench.platform.planning.growth import HasEnd
    from plasticbench.platform.planning.plan import Plan

LOCKS = frozenset({"lock", "lock.json"})
"""What whoever only looked may leave in a directory."""
_LOCK_TRIES = 5


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths below one run directory."""

    path: Location

    @property
    def benchmark_file(self) -> Location:
        """The resolved benchmark."""
        return self.path / "benchmark.yaml"

    @property
    def modules_file(self) -> Location:
        """Modules that environments come from and that are not installed, in a zip file."""
        return self.path / "modules.zip"

    @property
    def plan_file(self) -> Location:
        """Trials and segments."""
        return self.path / "plan.json"

    @property
    def tracking_note(self) -> Location:
        """The URI of the MLflow store, where it is not the directory's own."""
        return self.path / "tracking_uri"

    @property
    def checkpoints(self) -> Location:
        """One folder per segment."""
        return self.path / "checkpoints"

    def record_file(self, trial: str) -> Location:
        """The records of one trial."""
        return self.path / "records" / f"{trial}.jsonl"

    def weights_file(self, trial: str) -> Location:
        """The final weights of one trial's online networks, where ``tracking.weights`` asks for them."""
        return self.path / "weights" / f"{trial}.safetensors"

    def machine_file(self, segment: str, number: int) -> Location:
        """On what a segment was trained from its commit ``number`` on."""
        return self.path / "machines" / segment / f"{number:08d}.json"

    def film_file(self, trial: str) -> Location:
        """What the final policy of one trial does, where the benchmark asks for pictures."""
        return self.path / "pictures" / f"{trial}.webp"

    def create(self, benchmark: Benchmark, plan: Plan, has_end: HasEnd = lambda segment: False) -> str:
        """Writes benchmark and plan; an existing run that shares trials with it is gone on with, and grows.

        What it takes over, trials and settings that change no result, is returned. ``has_end`` says of which segments
        the end can be gone on from. Raises ``BenchmarkError`` if the folder holds anything else.
        """
        modules = _own_modules.archive(benchmark.modules)
        if self.plan_file.exists() and self.is_external:
            raise BenchmarkError(
                f"--out: {self.path} holds records of training loops outside the platform. Choose another directory: "
                "`plasticbench leaderboard` compares several"
            )
        if self.plan_file.exists():
            return self._take_over(benchmark, plan, modules, has_end)
        if storage.entries(self.path).keys() - LOCKS:
            raise BenchmarkError(f"--out: {self.path} is not empty and not a run directory. Choose another directory")
        if modules:
            storage.write_atomically(self.modules_file, modules)
        self._write(benchmark, plan)
        return ""

    def _take_over(self, benchmark: Benchmark, plan: Plan, modules: bytes, has_end: HasEnd) -> str:
        from plasticbench.platform.planning.changes import can_come_later, changes, changes_no_course, listed

        known, before = self.plan(), self.benchmark()
        is_same_work = {trial.id for trial in known.trials} == {trial.id for trial in plan.trials} and [
            segment.work for segment in known.segments
        ] == [segment.work for segment in plan.segments]
        found = changes(before, benchmark)
        later = {
            key: values
            for key, values in found.items()
            if can_come_later(key) or (is_same_work and changes_no_course(key))
        }
        others = {key: values for key, values in found.items() if key not in later}
        if not is_same_work:
            return self._grow(benchmark, plan, modules, has_end, later, others)
        if others:
            raise self._other(known, listed(others, "{} there, {} here"))
        self._require_same(modules)
        if not later:
            return ""
        self._write(
            benchmark,
            replace(known, description=benchmark.description, tracked_probes=benchmark.tracking.probes),
        )
        return listed(later, "{1} in place of {0}")

    def _grow(
        self,
        benchmark: Benchmark,
        plan: Plan,
        modules: bytes,
        has_end: HasEnd,
        later: Mapping[str, tuple[Any, Any]],
        others: Mapping[str, tuple[Any, Any]],
    ) -> str:
        """Takes over a benchmark that shares trials with this run: what is missing is planned beside what is there."""
        from plasticbench.platform.planning.changes import ABSENT, keeps_trials, listed
        from plasticbench.platform.planning.growth import conflict, grown, merged

        known, before = self.plan(), self.benchmark()
        fixed = {key: values for key, values in others.items() if not keeps_trials(key)}
        shared = {trial.id for trial in known.trials} & {trial.id for trial in plan.trials}
        if fixed or conflict(known, plan, before, benchmark) or not shared:
            both = {key: values for key, values in others.items() if ABSENT not in values and key != "seeds"}
            raise self._other(known, listed(fixed or both or others, "{} there, {} here"))
        self._require_same(modules)
        whole = merged(before, benchmark)
        growth = grown(known, plan, whole, has_end)
        if growth.plan == known and not later:
            return ""
        for name in storage.entries(self.path / "mirror"):
            if name.endswith("-ending.json"):
                storage.remove(self.path / "mirror" / name)  # the report is about other trials now
        self._write(whole, growth.plan)
        return "; ".join(filter(None, [str(growth), listed(later, "{1} in place of {0}")]))

    def _other(self, known: Plan, reason: str) -> BenchmarkError:
        return BenchmarkError(
            f"--out: {self.path} holds another benchmark or other settings ({known.name!r} with "
            f"{len(known.trials)} trials): {reason or 'no trial is the same'}. Choose another directory, or "
            f"`plasticbench resume {self.path}` to go on with what is there"
        )

    @property
    def starts(self) -> Location:
        """Weights of other runs that trials begin with (``definition/start.py``)."""
        return self.path / "start"

    def _write(self, benchmark: Benchmark, plan: Plan) -> None:
        import yaml

        from plasticbench.platform.definition.start import keep

        for start in benchmark.starts:
            keep(start, self.starts)
        resolved = yaml.safe_dump(benchmark.resolved(), sort_keys=False, allow_unicode=True)
        storage.write_atomically(self.benchmark_file, resolved.encode())
        # The plan comes last: a directory with a plan is a whole run directory.
        storage.write_atomically(self.plan_file, plan.to_json().encode())

    def _require_same(self, modules: bytes) -> None:
        if (storage.read(self.modules_file) if self.modules_file.exists() else b"") != modules:
            raise BenchmarkError(
                f"--out: {self.path} was begun with another version of the modules that its environments come from. "
                f"Choose another directory, or `plasticbench resume {self.path}` to go on with the version of then"
            )

    def benchmark(self) -> Benchmark:
        """The resolved benchmark that this run was started with."""
        import yaml

        from plasticbench.platform.definition.reading import from_resolved

        self.require()
        self.open_modules()
        return from_resolved(yaml.safe_load(storage.read(self.benchmark_file)), source=str(self.benchmark_file))

    def open_modules(self, benchmark: Benchmark | None = None) -> None:
        """Lets this process import the modules that the run was begun with, and imports those of ``benchmark``.

        Raises ``ValueError`` that names what this machine lacks.
        """
        if self.modules_file.exists():
            _own_modules.open_archive(storage.read(self.modules_file))
        for name in benchmark.modules if benchmark is not None else ():
            try:
                _own_modules.import_module(name)
            except Exception as error:  # it is somebody's code
                raise ValueError(
                    f"{name}: this module cannot be imported on {socket.gethostname()}: {type(error).__name__}: "
                    f"{error}. It travels with a run if it lies beside the benchmark file or in the current folder; "
                    "what else it imports must be installed there"
                ) from error

    def plan(self) -> Plan:
        """The plan that this run was started with."""
        from plasticbench.platform.planning.plan import Plan

        self.require()
        return Plan.from_json(storage.read(self.plan_file).decode())

    @property
    def is_external(self) -> bool:
        """Whether its trials are recorded by training loops outside the platform (``runs/recorder.py``)."""
        return bool(json.loads(storage.read(self.plan_file)).get("external", False))

    def require(self) -> None:
        """Raises ``BenchmarkError`` unless this is a run directory."""
        absent = [file.name for file in (self.plan_file, self.benchmark_file) if not file.exists()]
        if absent and not (self.plan_file.exists() and self.is_external):
            raise BenchmarkError(
                f"{self.path}: not a run directory (it has no {' and no '.join(absent)}). "
                "Start one with `plasticbench run`"
            )

    def require_tracking(self, tracking_uri: str | None) -> None:
        """Raises ``BenchmarkError`` where no store is named and there can be none of its own: in an object store."""
        if tracking_uri is None and not isinstance(self.path, Path) and not self.tracking_note.exists():
            raise BenchmarkError(
                f"--tracking-uri: {self.path} cannot hold an mlflow.db, which is a local file. Give a server, "
                "http://HOST:PORT, a database, postgresql://USER@HOST/DATABASE, or a local file, sqlite:////PATH/mlflow.db"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Keeps a second driver out. Raises ``BenchmarkError`` while another process holds the directory."""
        if isinstance(self.path, Path):
            return _locked(self.path)
        return held_lease(self.path / "lock.json")

    def is_driven(self) -> bool:
        """Whether a driver is at work. Locks of other machines may be invisible; a lease is watched for seconds."""
        if isinstance(self.path, Path):
            return _is_locked(self.path / "lock")
        return is_held(self.path / "lock.json")


def _is_locked(file: Path) -> bool:
    try:
        with open(file) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is none, or none that we may see
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "w")
    except FileExistsError as error:
        raise BenchmarkError(f"--out: {folder} is a file. Choose a directory") from error
    except OSError as error:
        raise BenchmarkError(
            f"{folder}: cannot be written: {error.strerror}. Choose a directory that can be"
        ) from error
    with file:
        for patience in range(_LOCK_TRIES, 0, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:  # `plasticbench status` may hold it for a moment
                if patience == 1:
                    raise BenchmarkError(f"{folder}: another plasticbench is running in this directory") from error
                time.sleep(0.1)
        yield
