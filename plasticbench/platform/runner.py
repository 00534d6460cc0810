"""Places segments on Ray actors, retries those that die, keeps the MLflow mirror fed. Only this file imports ray.

The driver holds no results: segments commit to the run directory, and whoever starts again reads it from there.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from plasticbench.platform.benchmark import BenchmarkError
from plasticbench.platform.display import Display
from plasticbench.platform.plan import Plan, Segment
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.segment import Progress, SegmentRun
from plasticbench.platform.tracker import Tracker
from plasticbench.platform.tracking import RunStatus

_MAX_RETRIES = 3
_POLL_S = 0.5
_STOP_TIMEOUT_S = 120.0
_MIRROR_TIMEOUT_S = 600.0

Outcome = Literal["complete", "failed", "interrupted"]


class SegmentWorker:
    """Ray actor: runs segments one after the other; ``progress`` and ``stop`` answer while one runs."""

    def __init__(self, run_dir: str, tracker: Any) -> None:
        self._run_dir, self._tracker = Path(run_dir), tracker
        self._stop = threading.Event()
        self._current: SegmentRun | None = None

    def run(self, segment_id: str) -> bool:
        """Runs a segment; returns whether it is complete (it is not after ``stop``)."""
        self._current = SegmentRun(self._run_dir, segment_id)
        return self._current.run(self._stop.is_set, self._tracker.committed.remote)

    def progress(self) -> Progress | None:
        """Where the current segment stands."""
        return self._current.progress() if self._current else None

    def stop(self) -> None:
        """Makes the current segment commit and return."""
        self._stop.set()


def prepare_environment(address: str | None) -> None:
    """Defaults for a quiet, loopback-only Ray of our own, before ``ray.init``; a given cluster is left alone."""
    if (address or os.environ.get("RAY_ADDRESS") or "local") != "local":
        return
    for name, value in {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every socket on 127.0.0.1
        "RAY_AUTH_MODE": "disabled",  # nobody else can reach it; asking for a token would write one to the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SCHEDULER_EVENTS": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 starves training beside anything else that runs; the tracker yields
    }.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster at ``address``, else at RAY_ADDRESS, else a Ray of our own on this machine.

    Raises ``BenchmarkError`` if the cluster cannot be reached.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {"num_cpus": os.cpu_count(), "include_dashboard": False} if where == "local" else {}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BenchmarkError(f"--address: no Ray cluster answers at {where!r}: {error}") from error
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        ray.shutdown()


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


@dataclass(slots=True)
class _Running:
    segment: Segment
    worker: Any
    result: Any
    progress: Progress | None = None


@dataclass(slots=True)
class Scheduler:
    """Runs all segments of a plan in the order of their dependencies."""

    directory: RunDirectory
    plan: Plan
    display: Display
    tracker: Any
    max_concurrent: int | None = None
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    _retries: dict[str, int] = field(default_factory=dict)
    _running: list[_Running] = field(default_factory=list)
    _idle: dict[tuple[float, float], list[Any]] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Returns once nothing more can be done."""
        self._check_resources()
        self.display.start()
        try:
            while self._start_ready() or self._running:
                self._wait()
                self._show()
        except KeyboardInterrupt:
            self.display.message("Stopping: every population commits what it has. Interrupt again to give up on that.")
            self._stop_all()
            return "interrupted"
        finally:
            self.display.stop()
        return "failed" if self.failed else "complete"

    def _check_resources(self) -> None:
        cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
        for segment in self.plan.segments:
            for what, wanted in (("CPU", segment.num_cpus), ("GPU", segment.num_gpus)):
                if wanted > cluster.get(what, 0):
                    raise BenchmarkError(
                        f"execution.num_{what.lower()}s: a population asks for {wanted:g} {what}s, but the cluster has "
                        f"{cluster.get(what, 0):g}. It would wait for ever: ask for less, or add a node"
                    )

    def _start_ready(self) -> bool:
        """Starts what can start; returns whether anything was started."""
        busy = {running.segment.id for running in self._running}
        ready = [
            segment
            for segment in self.plan.segments
            if segment.id not in self.done | busy | self.failed.keys()
            and (segment.start is None or segment.start in self.done)
        ]
        slots = len(ready) if self.max_concurrent is None else self.max_concurrent - len(self._running)
        for segment in ready[: max(0, slots)]:
            worker = self._worker(segment)
            self._running.append(_Running(segment, worker, worker.run.remote(segment.id)))
        return bool(ready[: max(0, slots)])

    def _worker(self, segment: Segment) -> Any:
        resources = (segment.num_cpus, segment.num_gpus)
        if self._idle.get(resources):
            return self._idle[resources].pop()
        actor = ray.remote(SegmentWorker).options(
            num_cpus=segment.num_cpus, num_gpus=segment.num_gpus, max_concurrency=3, max_restarts=0
        )
        return actor.remote(str(self.directory.path), self.tracker)

    def _wait(self) -> None:
        finished, _ = ray.wait([running.result for running in self._running], num_returns=1, timeout=_POLL_S)
        for running in [running for running in self._running if running.result in finished]:
            self._running.remove(running)
            self._settle(running)

    def _settle(self, running: _Running) -> None:
        segment = running.segment
        try:
            ray.get(running.result)
        except RayActorError as error:
            self._retry(segment, error)
        except (RayTaskError, RayError) as error:
            cause = getattr(error, "cause", None) or error
            self._fail(segment, f"{type(cause).__name__}: {cause}")
        else:
            self.done.add(segment.id)
            self._keep(running.worker, (segment.num_cpus, segment.num_gpus))

    def _keep(self, worker: Any, resources: tuple[float, float]) -> None:
        """An idle worker holds its CPUs, for which a segment that asks for others may wait: then it is let go."""
        left = [segment for segment in self.plan.segments if segment.id not in self.done | self.failed.keys()]
        if all((segment.num_cpus, segment.num_gpus) == resources for segment in left):
            self._idle.setdefault(resources, []).append(worker)

    def _retry(self, segment: Segment, error: RayActorError) -> None:
        self._retries[segment.id] = self._retries.get(segment.id, 0) + 1
        if self._retries[segment.id] > _MAX_RETRIES:
            self._fail(segment, f"its process died {_MAX_RETRIES + 1} times: {error}")
        else:
            self.display.message(f"{segment.id}: its process died; starting again from its last commit")

    def _fail(self, segment: Segment, reason: str) -> None:
        self.failed[segment.id] = reason
        self.display.message(f"{segment.id} failed: {reason}")
        for other in self.plan.segments:
            if other.start in self.failed and other.id not in self.failed:
                self.failed[other.id] = f"{other.start}, where it starts, failed"

    def _show(self) -> None:
        answers = {running.worker.progress.remote(): running for running in self._running}
        ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_POLL_S) if answers else ([], [])
        for answer in ready:
            try:
                answers[answer].progress = ray.get(answer)
            except RayError:
                continue  # the same death reaches us through the segment's result
        shown = [running.progress for running in self._running if running.progress is not None]
        self.display.update(shown, self._member_steps_left(shown))

    def _member_steps_left(self, shown: Sequence[Progress]) -> int:
        at = {progress.segment: progress.step for progress in shown}
        return sum(
            len(segment.members) * (segment.to_step - at.get(segment.id, segment.from_step))
            for segment in self.plan.segments
            if segment.id not in self.done | self.failed.keys()
        )

    def _stop_all(self) -> None:
        for running in self._running:
            running.worker.stop.remote()
        results = [running.result for running in self._running]
        ray.wait(results, num_returns=len(results), timeout=_STOP_TIMEOUT_S) if results else None

    def statuses(self) -> dict[str, RunStatus]:
        """How each trial ended, for MLflow."""
        ended: dict[str, RunStatus] = {trial.id: "FINISHED" for trial in self.plan.trials}
        for segment in self.plan.segments:
            for trial in (trial for member in segment.members for trial in member.trials):
                if segment.id in self.failed:
                    ended[trial] = "FAILED"
                elif segment.id not in self.done and ended[trial] == "FINISHED":
                    ended[trial] = "KILLED"
        return ended


def start_tracker(directory: RunDirectory, tracking_uri: str | None) -> Any:
    """The actor that mirrors records; Ray restarts it if it dies."""
    actor = ray.remote(Tracker).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=8)
    return actor.remote(str(directory.path), tracking_uri)


def finish_tracking(tracker: Any, statuses: Mapping[str, RunStatus], report_dir: Path | None) -> str | None:
    """Waits until MLflow has everything; returns why not if it has not."""
    try:
        message: str | None = ray.get(
            tracker.finish.remote(statuses, str(report_dir) if report_dir else None), timeout=_MIRROR_TIMEOUT_S
        )
    except RayError as error:
        return f"the tracker did not answer: {error}"
    return message
