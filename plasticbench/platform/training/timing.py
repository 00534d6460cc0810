"""How long a plan takes here: a stride of each kind of population, its evaluation and its probes, measured for seconds.

A population of M members costs a + b M; a and b come from the smallest and the largest of its kind.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import NamedTuple

import numpy as np
import torch

from plasticbench.contracts.learner import Course
from plasticbench.platform.definition.benchmark import Benchmark
from plasticbench.platform.planning.plan import Plan, Segment
from plasticbench.platform.training.trainer import Trainer
from plasticbench.schedules import rounded_up

_MEASURED_S = 2.0
_MAX_S = 20.0
_FIRST = 4  # strides with updates that are not counted: they draw, compile and allocate


class Costs(NamedTuple):
    """Seconds of one population: a stride of its clock with the updates due in it, an evaluation, and all probes."""

    stride_s: float
    evaluation_s: float
    probes_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeEstimate:
    """Seconds of training, evaluation and probes; start-up, resets, commits and MLflow come on top.

    ``work_s`` is that of all populations one after another, ``seconds`` with ``side_by_side`` of them at a time.
    ``costs`` by id of the segments that were measured.
    """

    seconds: float
    work_s: float
    side_by_side: int
    costs: dict[str, Costs]


def estimate(benchmark: Benchmark, plan: Plan, num_cpus: int, tell: Callable[[str], None]) -> TimeEstimate:
    """Measures here, where ``num_cpus`` can be used; ``tell`` hears what is measured.

    Raises ``ValueError`` for what cannot be measured here.
    """
    _require_measurable(benchmark)
    kinds: dict[tuple[str, str], list[Segment]] = {}
    for segment in plan.segments:
        kinds.setdefault((segment.task, segment.agent_method), []).append(segment)
    costs: dict[str, Costs] = {}
    seconds: dict[str, float] = {}
    for own in kinds.values():
        own = sorted(own, key=lambda segment: len(segment.members))
        for segment in own[-1:] if len(own[0].members) == len(own[-1].members) else (own[0], own[-1]):
            tell(f"Measuring {segment.id}, {len(segment.members)} members")
            costs[segment.id] = measure(benchmark, segment)
        ends = [(len(one.members), costs[one.id]) for one in own if one.id in costs]
        seconds |= {one.id: _seconds(benchmark, one, _between(ends, len(one.members))) for one in own}
    slots = _slots(benchmark, num_cpus)
    return TimeEstimate(
        seconds=finished_after(plan.segments, seconds, slots),
        work_s=sum(seconds.values()),
        side_by_side=min(slots, len(plan.segments)),
        costs=costs,
    )


def _require_measurable(benchmark: Benchmark) -> None:
    if benchmark.execution.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--time: execution.device is 'cuda', and this machine has no GPU to measure on")
    if helped := [one.name for one in benchmark.methods if one.agent_config.demands.helper_cpus]:
        raise ValueError(f"--time: agents with processes of their own are not measured, as that of {helped[0]!r}")
    if benchmark.starts:
        raise ValueError("--time: agents that begin with stored weights are not measured")


def measure(benchmark: Benchmark, segment: Segment) -> Costs:
    """Trains a population from nothing, in the middle of its segment and where it learns, for some seconds."""
    torch.set_num_threads(max(1, segment.num_cpus))
    trainer = Trainer(benchmark, segment)
    course, learner = trainer.course, trainer.agent
    config = benchmark.method(segment.agent_method).agent_config
    learns = max(config.learning_starts_steps, (segment.from_step + segment.to_step) // 2)
    first_step = 0 if config.demands.inside_ray else rounded_up(learns, course.stride_steps)  # RLlib counts by itself
    steps = cycle(range(first_step, max(segment.to_step, first_step + 1), course.stride_steps))
    phase = sum(change <= first_step for change in course.change_steps)
    probes = [probe.config.build() for probe in benchmark.probes.probes]
    uniforms = np.random.default_rng(0).random((len(segment.members), benchmark.probes.batch_rows))

    def probe() -> None:
        if probes and (batch := learner.probe_batch(uniforms)) is not None:
            for view, one in product(learner.views(batch), probes):
                one.measure(view)

    try:
        course.set_phase(phase, first_step)
        course.begin()
        stride_s = _stride_s(course, steps)
        return Costs(stride_s, _timed(lambda: course.evaluate(first_step, phase)), _timed(probe))
    finally:
        trainer.close()


def _stride_s(course: Course, steps: Iterable[int]) -> float:
    """From one stride with updates to a later one: whole cycles of an agent that collects first and learns then."""
    begin, learned = time.monotonic(), list[tuple[int, float]]()
    for count, step in enumerate(steps, start=1):
        course.set_phase(sum(change <= step for change in course.change_steps), step)
        updates = sum(1 for _ in course.advance(step))
        now = time.monotonic()
        if updates:
            learned.append((count, now))
        if now - begin > _MAX_S or (len(learned) > _FIRST and now - learned[_FIRST][1] > _MEASURED_S and updates):
            break
    if len(learned) < 2:
        return (now - begin) / count
    (first, first_s), (last, last_s) = learned[min(_FIRST, len(learned) - 2)], learned[-1]
    return (last_s - first_s) / (last - first)


def _timed(act: Callable[[], object]) -> float:
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


def _between(ends: Sequence[tuple[int, Costs]], members: int) -> Costs:
    (few, low), (many, high) = ends[0], ends[-1]
    share = (members - few) / (many - few) if many > few else 0.0
    return Costs(*(a + share * (b - a) for a, b in zip(low, high, strict=True)))


def _seconds(benchmark: Benchmark, segment: Segment, costs: Costs) -> float:
    length = segment.to_step - segment.from_step
    built = benchmark.method(segment.agent_method)
    stride_steps = built.stride_steps(benchmark.environment(segment.task).config.num_envs)
    evaluations = length // benchmark.evaluation.every_steps
    return (
        length // stride_steps * costs.stride_s
        + evaluations * costs.evaluation_s
        + length // benchmark.probes.every_steps * costs.probes_s
    )


def _slots(benchmark: Benchmark, num_cpus: int) -> int:
    execution = benchmark.execution
    slots = max(1, num_cpus // execution.num_cpus)
    if execution.num_gpus:
        slots = min(slots, max(1, int(torch.cuda.device_count() / execution.num_gpus)))
    return min(slots, execution.max_concurrent or slots)


def finished_after(segments: Sequence[Segment], seconds: dict[str, float], slots: int) -> float:
    """When all are done, in seconds, with ``slots`` of them at a time, each as soon as the one it starts from is."""
    waiting = {segment.id: segment for segment in segments}
    running: list[tuple[float, str]] = []
    done: set[str | None] = {None}
    now = 0.0
    while waiting or running:
        for segment in [one for one in waiting.values() if one.start in done][: slots - len(running)]:
            heapq.heappush(running, (now + seconds[segment.id], segment.id))
            del waiting[segment.id]
        now, ended = heapq.heappop(running)
        done.add(ended)
    return now
