"""Places segments on Ray actors, retries those that die, keeps the MLflow mirror fed.

The driver holds no results: segments commit to the run directory, and whoever starts again reads it from there.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from plasticbench.envs._watch import Stuck
from plasticbench.failures import Failure, failures_name, last_frames, note_failure
from plasticbench.platform.cluster.connection import answer_interrupt, check_interrupted, connected
from plasticbench.platform.cluster.placement import Needs, check_fits, describe_nodes, needs
from plasticbench.platform.cluster.post_mortem import PostMortem, cause, never_returned, post_mortem
from plasticbench.platform.cluster.work_queue import WorkQueue, reasons, statuses, trials_of
from plasticbench.platform.cluster.worker import SegmentWorker
from plasticbench.platform.definition.reading import Benchmark
from plasticbench.platform.display import Display, TrialCounts
from plasticbench.platform.heartbeat import Heartbeat
from plasticbench.platform.planning.plan import Plan, Segment
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.tracker import Standing, Tracker, committed_bytes
from plasticbench.platform.training.checkpoint import CheckpointStore, StorageError
from plasticbench.platform.training.segment import Progress
from plasticbench.storage import Location

_MAX_DEATHS = 4  # of one segment, without a commit in between
_MAX_TRACKER_DEATHS = 8  # in a whole run; a resume sends what is left
_MAX_REASON = 300  # characters
_MAX_WAITING = 8
_ASKED_PER_POLL = 32
_POLL_S = 0.5
_BURIAL_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 120.0
_MIRROR_TIMEOUT_S = 180.0
_TELL_S = 1.0

Outcome = Literal["complete", "failed", "interrupted"]


@dataclass(slots=True, eq=False)
class _Running:
    segment: Segment
    needs: Needs
    worker: Any
    result: Any
    placed: bool = False  # on a node; until then it waits for resources
    asked_s: float = 0.0
    progress: Progress | None = None


@dataclass(slots=True)
class Scheduler:
    """Runs all segments of a plan in the order of their dependencies."""

    directory: RunDirectory
    benchmark: Benchmark
    plan: Plan
    display: Display
    tracker: Any
    queue: WorkQueue = field(init=False)
    _actor: Any = field(init=False)
    _running: dict[Any, _Running] = field(default_factory=dict)  # by result
    _asked: dict[Any, _Running] = field(default_factory=dict)  # by answer
    _begun: dict[str, Segment] = field(default_factory=dict)  # and not known to be complete
    _record_bytes: dict[str, int] = field(default_factory=dict)  # of what is complete
    _deaths: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    _lost: dict[str, str] = field(default_factory=dict)  # trials that failed alone, and why
    _num_failures: Counter[str] = field(default_factory=Counter)  # by segment
    _heartbeat: Heartbeat = field(init=False)
    _next_show_s: float = 0.0

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self.plan.segments)
        self._actor = ray.remote(SegmentWorker)
        self._heartbeat = Heartbeat(self.directory.path)

    @property
    def record_bytes(self) -> Mapping[str, int]:
        """Committed length of the record file of each trial that has segments which are complete."""
        return self._record_bytes

    def run(self) -> Outcome:
        """Returns once nothing more can be done."""
        check_fits(self.plan.segments, _node_resources(), self.benchmark.execution.replay_store)
        self.display.start()
        try:
            while self._start_ready():
                self._wait()
                self._show()
                check_interrupted()
        except KeyboardInterrupt:
            answer_interrupt()
            self.display.message("Stopping: every population commits what it has. Interrupt again to give up on that.")
            self._stop_all()
            return "interrupted"
        finally:
            self.display.stop()
            self._heartbeat.say("tracking")
        return "failed" if self.queue.failed or self._lost else "complete"

    def _start_ready(self) -> bool:
        """Starts what can start; returns whether there is anything to wait for.

        Only a few workers of each size wait for a place at a time: enough for Ray to fill a node that joins.
        """
        resting = self.queue.wake(time.monotonic())
        waiting = Counter(running.needs for running in self._running.values() if not running.placed)
        slots = (self.benchmark.execution.max_concurrent or len(self.plan.segments)) - len(self._running)
        for wanted in self.queue.ready():
            while waiting[wanted] < _MAX_WAITING and slots > 0 and (segment := self.queue.take(wanted)):
                self._start(segment, self._new_worker(wanted))
                waiting[wanted] += 1
                slots -= 1
        return resting or bool(self._running)

    def _new_worker(self, wanted: Needs) -> Any:
        options = {"num_cpus": wanted.num_cpus, "num_gpus": wanted.num_gpus, "memory": wanted.memory_bytes}
        worker = self._actor.options(**options, max_concurrency=3, max_restarts=0)
        return worker.remote(str(self.directory.path))

    def _start(self, segment: Segment, worker: Any, placed: bool = False) -> None:
        self._begun[segment.id] = segment
        running = _Running(segment, needs(segment), worker, worker.run.remote(segment, self.benchmark), placed)
        self._running[running.result] = running
        self._ask(running)

    def _wait(self) -> None:
        if not self._running:
            time.sleep(_POLL_S)  # everything that is left rests after a failure
            return
        ray.wait([*self._running, *self._asked], num_returns=1, timeout=_POLL_S)
        for answer in _ready(self._asked):
            self._hear(answer, self._asked.pop(answer))
        for result in _ready(self._running):
            self._settle(self._running.pop(result))

    def _hear(self, answer: Any, running: _Running) -> None:
        try:
            progress: Progress | Stuck | None = ray.get(answer)
        except RayError:
            return  # the same death reaches us through the segment's result
        running.placed = True
        if isinstance(progress, Stuck):
            self._end_stuck(running, progress)
            return
        if progress is not None:
            known = running.progress.record_bytes if running.progress is not None else {}
            if progress.record_bytes != known:
                self.tracker.committed.remote(progress.record_bytes)
            running.progress = progress

    def _settle(self, running: _Running) -> None:
        segment = running.segment
        try:
            record_bytes, failed = ray.get(running.result)
        except RayTaskError as error:
            found = post_mortem(error, _last_step(running))
            ray.kill(running.worker)
            if isinstance(cause(error), OSError | StorageError):  # storage that comes and goes
                self._retry(segment, found)
            else:
                self._fail(segment, found)
        except RayError as error:  # the process, its node or the way to it is gone
            _bury(running.worker)
            self._retry(segment, post_mortem(error, _step(running)))
        else:
            self.tracker.committed.remote(record_bytes)
            self._record_bytes |= record_bytes
            self._begun.pop(segment.id)
            self.queue.finish(segment)
            self._remove_ends(segment)
            self._lose(segment, failed)
            self._employ(running)

    def _remove_ends(self, segment: Segment) -> None:
        """What a branch keeps of its past lies with its prefix, so both go when the last branch is complete."""
        if self.benchmark.checkpoint.ends == "keep":
            return
        store = CheckpointStore(self.directory.checkpoints)
        for over in self.queue.end(segment):
            try:
                store.clean(over.id)
            except OSError as error:
                self.display.problem(f"{over.id}: what nobody needs any more could not be removed: {error}")

    def _end_stuck(self, running: _Running, stuck: Stuck) -> None:
        """Its process is ended: nothing else ends a call that does not return."""
        if self._running.pop(running.result, None) is None:
            return  # it has returned, or died, meanwhile
        _bury(running.worker)
        self._fail(running.segment, never_returned(running.segment.task, stuck, _step(running)))

    def _employ(self, running: _Running) -> None:
        """The worker goes on with a segment of its size; without one it must not hold what other sizes need."""
        segment = self.queue.take(running.needs) or self._from_waiting(running.needs)
        if segment is not None:
            self._start(segment, running.worker, placed=True)
        else:
            ray.kill(running.worker)

    def _from_waiting(self, wanted: Needs) -> Segment | None:
        """A segment whose own worker still waits for a place; that one is no longer needed."""
        for waiting in self._running.values():
            if not waiting.placed and waiting.needs == wanted:
                _bury(self._running.pop(waiting.result).worker)
                return waiting.segment
        return None

    def _retry(self, segment: Segment, found: PostMortem) -> None:
        newest = CheckpointStore(self.directory.checkpoints).newest_number(segment.id)
        known, count = self._deaths.get(segment.id, (None, 0))
        count = count + 1 if newest == known else 1
        self._deaths[segment.id] = newest, count
        if count >= _MAX_DEATHS:
            why = f"it died {count} times in a row without a new commit, the last time of: {found.reason}"
            self._fail(segment, found._replace(reason=why))
            return
        self._note(segment, found, is_final=False)
        self.display.problem(
            f"{segment.id} died and is starting again from its last commit. It died of: {found.reason}"
        )
        self.queue.rest(segment, time.monotonic() + (0.0 if count == 1 else 2.0**count))

    def _fail(self, segment: Segment, found: PostMortem) -> None:
        self.queue.fail(segment, found.reason)
        at = "" if found.step is None else f" at step {found.step:,}"
        lines = [f"{segment.id} failed{at}: {found.reason}", *last_frames(found.traceback)]
        if self._note(segment, found, is_final=True):
            lines.append(f"The whole traceback: {self.directory.path / failures_name(self.directory.path)}")
        self.display.problem("\n    ".join(lines))

    def _note(self, segment: Segment, found: PostMortem, is_final: bool) -> bool:
        """Keeps it in the run directory; returns whether that can be written."""
        self._num_failures[segment.id] += 1
        trials = list(dict.fromkeys(trial for member in segment.members for trial in member.trials))
        failure = _failure(segment, found, trials)
        return self._keep(replace(failure, attempt=self._num_failures[segment.id], is_final=is_final))

    def _keep(self, failure: Failure) -> bool:
        try:
            note_failure(self.directory.path, failure)
        except OSError as error:
            self.display.problem(f"{failure.segment}: its failure cannot be kept in the run directory: {error}")
            return False
        return True

    def _lose(self, segment: Segment, failed: Mapping[str, str]) -> None:
        """Single trials failed, by their tracebacks, and their populations went on."""
        for trial in failed.keys() - self._lost.keys():
            reason = failed[trial].strip().rpartition("\n")[2]
            self._keep(replace(_failure(segment, PostMortem(reason, failed[trial], ""), [trial]), is_alone=True))
            lines = [f"{trial} failed, and the others of its population went on: {reason}", *last_frames(failed[trial])]
            self.display.problem("\n    ".join(lines))
            self._lost[trial] = reason

    @property
    def reasons(self) -> dict[str, str]:
        """Why each failed trial failed."""
        return reasons(self.plan, self.queue) | self._lost

    def _ask(self, running: _Running) -> None:
        running.asked_s = time.monotonic()
        self._asked[running.worker.progress.remote()] = running

    def _show(self) -> None:
        if time.monotonic() < self._next_show_s:
            return
        self._next_show_s = time.monotonic() + _POLL_S
        shown = [running.progress for running in self._running.values() if running.progress is not None]
        done = sum(progress.num_members * (progress.step - progress.from_step) for progress in shown)
        self.display.trials(self._counts())
        self.display.update(shown, self.queue.member_steps_left - done)
        self._heartbeat.beat(shown, self.queue.member_steps_left - done)
        silent = set(self._asked.values())
        able = (running for running in self._running.values() if running not in silent)
        for running in heapq.nsmallest(_ASKED_PER_POLL, able, key=lambda running: running.asked_s):
            self._ask(running)

    def _counts(self) -> TrialCounts:
        everyone = {trial.id for trial in self.plan.trials}  # segments may stand for others, which were left out
        taken = (running.segment for running in self._running.values() if running.progress is not None)
        trials = (trial for segment in taken for trial in trials_of(segment))
        failed = self.queue.failed_trials | self._lost.keys()
        return TrialCounts.of(everyone, done=self.queue.done_trials, running=trials, failed=failed)

    def _stop_all(self) -> None:
        placed = [running for running in self._running.values() if running.placed]
        for running in placed:
            running.worker.stop.remote()
        for running in self._running.values():
            if not running.placed:
                ray.kill(running.worker)  # or it would begin as soon as another one stops
        results = [running.result for running in placed]
        ray.wait(results, num_returns=len(results), timeout=_STOP_TIMEOUT_S) if results else None

    def finish_tracking(
        self, report_dir: Location | None, tell: Callable[[int], None] = lambda left: None
    ) -> str | None:
        """Waits until MLflow has everything, for as long as that gets further; returns why not if it has not.

        ``tell`` hears every second how many trials are left.
        """
        ended, standing, since_s = statuses(self.plan, self.queue, self._lost), Standing(0, 0), time.monotonic()
        try:
            # What died or was stopped may have committed more than it could tell.
            record_bytes = self._record_bytes | committed_bytes(self.directory, self._begun.values())
            report = str(report_dir) if report_dir else None
            answer = self.tracker.finish.remote(record_bytes, ended, report, self.reasons)
            while not ray.wait([answer], timeout=_TELL_S)[0]:
                check_interrupted()
                before, standing = standing, ray.get(self.tracker.standing.remote(), timeout=_MIRROR_TIMEOUT_S)
                since_s = since_s if standing == before else time.monotonic()
                if time.monotonic() - since_s > _MIRROR_TIMEOUT_S:
                    return f"the tracker sent nothing for {_MIRROR_TIMEOUT_S:g} s"
                tell(standing.left)
            message: str | None = ray.get(answer)
        except RayError as error:
            cause = " ".join(str(error).split())[:_MAX_REASON]
            return f"the tracker did not answer ({cause}). `python -c 'import mlflow'` shows whether MLflow works here"
        except OSError as error:
            return f"what was committed cannot be read: {error}"
        return message


def describe_cluster(address: str) -> str:
    """The nodes of a running cluster. Raises ``BenchmarkError`` if it cannot be joined."""
    with connected(address):
        return describe_nodes(_node_resources())


def _ready(references: Mapping[Any, _Running]) -> list[Any]:
    if not references:
        return []
    ready, _ = ray.wait(list(references), num_returns=len(references), timeout=0)
    return list(ready)


def _node_resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _step(running: _Running) -> int | None:
    return running.progress.step if running.progress is not None else None


def _last_step(running: _Running) -> int | None:
    """Where the segment stood when its code failed: the process still answers."""
    try:
        progress: Progress | Stuck | None = ray.get(running.worker.progress.remote(), timeout=_ANSWER_TIMEOUT_S)
    except RayError:
        return None
    return progress.step if isinstance(progress, Progress) and progress.segment == running.segment.id else None


def _bury(worker: Any) -> None:
    """Returns once the worker is dead, not merely out of reach: two must never write one segment."""
    ray.kill(worker)
    ray.wait([worker.progress.remote()], timeout=_BURIAL_TIMEOUT_S)


def start_tracker(directory: RunDirectory, tracking_uri: str | None) -> Any:
    """The actor that mirrors records; Ray restarts it if it dies, but not without end.

    It runs on the driver's node, as several machines must not share the embedded SQLite file, while there is that node.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(Tracker).options(
        num_cpus=0,
        max_restarts=_MAX_TRACKER_DEATHS,
        max_task_retries=_MAX_TRACKER_DEATHS,
        max_concurrency=8,
        scheduling_strategy=here,
    )
    return actor.remote(str(directory.path), tracking_uri)


def _failure(segment: Segment, found: PostMortem, trials: Sequence[str]) -> Failure:
    return Failure(
        segment=segment.id,
        trials=list(trials),
        step=found.step,
        time=time.time(),
        exception=found.reason,
        traceback=found.traceback,
        worker=found.worker,
        attempt=1,
        is_final=True,
    )
