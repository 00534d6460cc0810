"""Which segments may start, which wait, what is left: bookkeeping whose every call costs what it changes, not the plan.

Knows nothing of Ray. Segments are asked for by their needs, because a worker holds resources and runs what fits them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

from plasticbench.platform.cluster.placement import Needs, needs
from plasticbench.platform.planning.plan import Plan, Segment
from plasticbench.platform.tracking.mirror import RunStatus


class WorkQueue:
    """The segments of a plan: ready, resting after a failure, taken, done or failed."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._rank = {segment.id: rank for rank, segment in enumerate(segments)}
        self._next: dict[str, list[Segment]] = {}
        self._ready: dict[Needs, list[int]] = {}  # heaps of ranks: what stands first in the plan starts first
        self._resting: list[tuple[float, int]] = []
        self.done: set[str] = set()
        self.over: set[str] = set()
        self.failed: dict[str, str] = {}
        self.done_trials: set[str] = set()
        self.failed_trials: set[str] = set()
        self._budget_steps = max((segment.to_step for segment in segments), default=0)
        self.member_steps_left = sum(map(_member_steps, segments))
        for segment in segments:
            if segment.start is None:
                self.put(segment)
            else:
                self._next.setdefault(segment.start, []).append(segment)

    def put(self, segment: Segment) -> None:
        """Makes a segment ready."""
        heapq.heappush(self._ready.setdefault(needs(segment), []), self._rank[segment.id])

    def take(self, wanted: Needs) -> Segment | None:
        """The first ready segment with these needs."""
        ranks = self._ready.get(wanted)
        return self._segments[heapq.heappop(ranks)] if ranks else None

    def ready(self) -> list[Needs]:
        """Needs of the ready segments, those first whose first segment stands first."""
        return sorted((wanted for wanted, ranks in self._ready.items() if ranks), key=lambda n: self._ready[n][0])

    def rest(self, segment: Segment, until_s: float) -> None:
        """Keeps a segment back until the clock of ``wake`` shows ``until_s``."""
        heapq.heappush(self._resting, (until_s, self._rank[segment.id]))

    def wake(self, now_s: float) -> bool:
        """Makes ready what has rested long enough; returns whether anything still rests."""
        while self._resting and self._resting[0][0] <= now_s:
            self.put(self._segments[heapq.heappop(self._resting)[1]])
        return bool(self._resting)

    def finish(self, segment: Segment) -> None:
        """Notes a segment as done; what starts from it is ready now."""
        self.done.add(segment.id)
        self.done_trials.update(self._ended_by(segment))
        self.member_steps_left -= _member_steps(segment)
        for following in self._next.get(segment.id, ()):
            self.put(following)

    def end(self, segment: Segment) -> list[Segment]:
        """Of a segment that is done, and of those that it comes from: which nothing that is open goes on from now."""
        found: list[Segment] = []
        while segment.id in self.done and all(after.id in self.over for after in self._next.get(segment.id, ())):
            self.over.add(segment.id)
            found.append(segment)
            if segment.start is None:
                break
            segment = self._segments[self._rank[segment.start]]
        return found

    def fail(self, segment: Segment, reason: str) -> None:
        """Notes a segment as failed, and everything that would have started from it."""
        lost = [(segment, reason)]
        while lost:
            segment, self.failed[segment.id] = lost.pop()
            self.failed_trials.update(self._ended_by(segment))
            self.member_steps_left -= _member_steps(segment)
            reason = f"{segment.id}, where it starts, failed"
            lost += [(following, reason) for following in self._next.get(segment.id, ())]

    def _ended_by(self, segment: Segment) -> Iterator[str]:
        """Each trial has one segment that takes it to its end."""
        return trials_of(segment) if segment.to_step == self._budget_steps else iter(())


def statuses(plan: Plan, queue: WorkQueue, lost: Collection[str] = ()) -> dict[str, RunStatus]:
    """How each trial ended, for MLflow; ``lost`` are those that failed while their populations went on."""
    ended: dict[str, RunStatus] = {trial.id: "FINISHED" for trial in plan.trials}
    for segment in plan.segments:
        for trial in ended.keys() & set(trials_of(segment)):  # others were left out of the benchmark
            if segment.id in queue.failed:
                ended[trial] = "FAILED"
            elif segment.id not in queue.done and ended[trial] == "FINISHED":
                ended[trial] = "KILLED"
    return ended | {trial: "FAILED" for trial in lost if trial in ended}


def reasons(plan: Plan, queue: WorkQueue) -> dict[str, str]:
    """Why each failed trial failed: the failure of the first of its segments, on which the others depend."""
    found: dict[str, str] = {}
    for segment in plan.segments:
        for trial in trials_of(segment) if segment.id in queue.failed else ():
            found.setdefault(trial, queue.failed[segment.id])
    return {trial.id: found[trial.id] for trial in plan.trials if trial.id in found}


def trials_of(segment: Segment) -> Iterator[str]:
    """Those that its members stand for, as often as they do."""
    return (trial for member in segment.members for trial in member.trials)


def _member_steps(segment: Segment) -> int:
    return len(segment.members) * (segment.to_step - segment.from_step)
