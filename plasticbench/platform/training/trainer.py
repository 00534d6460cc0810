"""Trains one population over one segment, step by step, and says what it measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench.analysis.not_finite import SPOILT
from plasticbench.analysis.restarts import RESTARTED
from plasticbench.contracts.learner import Course, Learner, MemberRows, Population
from plasticbench.contracts.network import Probe
from plasticbench.contracts.treatment import Part as AgentPart
from plasticbench.envs import _own_modules
from plasticbench.envs._course import RLCourse
from plasticbench.learning import convolutions
from plasticbench.learning.captured_update import CudaGraphs
from plasticbench.platform.definition.benchmark import Benchmark, Execution
from plasticbench.platform.definition.method import Method, Part
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.training.recorder import Recorder
from plasticbench.records import Record
from plasticbench.schedules import Trigger
from plasticbench.seeding import derive_generator


def build_course(benchmark: Benchmark, segment: Segment, methods: Sequence[Method | None]) -> Course:
    """The course of a segment's population: the task's own, or an agent in environments.

    Nothing acts on a member whose method is ``None``.
    """
    for name in benchmark.network_modules:
        _own_modules.import_module(name)
    environment, built = benchmark.environment(segment.task), benchmark.method(segment.agent_method)
    stride_steps = built.stride_steps(environment.config.num_envs)
    convolutions.prefer(benchmark.execution.convolutions)
    population = Population(
        agent=built.agent_config,
        seeds=[member.seed for member in segment.members],
        parts=[_parts(method or built, method is not None, benchmark.budget_steps, stride_steps) for method in methods],
        budget_steps=benchmark.budget_steps,
        evaluation=benchmark.evaluation,
        device=torch.device(benchmark.execution.device),
        num_threads=max(1, int(segment.num_cpus)),
        replay_store=benchmark.execution.replay_store,
        saves_states=benchmark.checkpoint.environments != "replay",
        max_replay_s=benchmark.checkpoint.max_replay_s,
    )
    if environment.scenario is None:
        task: Any = environment.config
        course: Course = task.build_course(population)
        return course
    course = RLCourse.build(environment.config, environment.scenario.config, population)
    _capture(course.learner, benchmark.execution)
    if hasattr(course.learner, "open_ahead"):
        course.learner.open_ahead(benchmark.execution.num_openers)
    return course


def _capture(learner: Any, execution: Execution) -> None:
    if execution.device == "cpu" or execution.capture == "never" or not hasattr(learner, "capture_updates"):
        return
    if execution.capture == "always" or learner.capture_obstacle() is None:
        learner.capture_updates(CudaGraphs())


def _parts(method: Method, is_treated: bool, budget_steps: int, stride_steps: int) -> list[AgentPart]:
    """What a member is given: of a method that nothing of acts yet, only what its network is built with."""
    own = (part for part in method.parts if is_treated or part.family != "treatments")
    return [part.for_agent(budget_steps, stride_steps) for part in own]


class Trainer:
    """A population at one step; ``state_dict`` and the replay's chunks are all that it needs to go on elsewhere."""

    def __init__(self, benchmark: Benchmark, segment: Segment) -> None:
        self.benchmark, self.segment = benchmark, segment
        self.seeds = [member.seed for member in segment.members]
        self.num_members = len(self.seeds)
        self._known = {one.name: one for one in benchmark.methods_on(benchmark.environment(segment.task))}
        self._methods = [self._known[m.treated_as] if m.treated_as else None for m in segment.members]
        self.course = build_course(benchmark, segment, self._methods)
        self.step = segment.from_step
        self.last_evaluation: float | None = None
        self._events_of = [self._event_parts(method) for method in self._methods]
        self._last_reset = [0] * self.num_members
        self._triggered: list[int] = []
        chosen = [probe.config for probe in benchmark.probes.probes]
        self._paced = [(probe.build(), getattr(probe, "every_steps", None)) for probe in chosen]
        self._device = torch.device(benchmark.execution.device)
        self._recorder = Recorder(segment, self._device)
        self._notes: list[Record] = []  # of how it went on from a commit, for the first stride

    @property
    def agent(self) -> Learner:
        """Who is trained."""
        return self.course.learner

    @property
    def num_overvalued(self) -> int:
        """Members whose values are known to have diverged."""
        return sum(course.mark is not None for course in self._recorder.value_courses)

    @property
    def num_not_finite(self) -> int:
        """Members that are silent since something of them was not finite, and not since their environments raised."""
        return len(self._recorder.silent - self._recorder.lost)

    @property
    def _acts(self) -> bool:
        return not self.benchmark.environment(self.segment.task).is_supervised

    @property
    def _is_over(self) -> bool:
        return len(self._recorder.silent) == self.num_members

    def _event_parts(self, method: Method | None) -> list[tuple[int, Part, frozenset[int]]]:
        """Position, part and known steps of everything that has events."""
        return [
            (index, part, frozenset(part.event_steps(self.benchmark.budget_steps, self.course.stride_steps)))
            for index, part in enumerate(method.parts if method is not None else ())
            if "event" in part.hooks
        ]

    # -- the course ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins at step 0, where there is nothing to load."""
        self.course.begin()

    def advance(self) -> Iterator[list[Record]]:
        """Trains to the segment's end; yields after every stride of the clock, at which point it may be saved."""
        while self.step < self.segment.to_step:
            records, self._notes = [*self._notes, *self._events()], []
            for metrics in self.course.advance(self.step) if not self._is_over else ():
                self._recorder.window.add(metrics)
            self.step += self.course.stride_steps
            yield records + self._measurements()

    def _phase(self, changes_until: int) -> int:
        return sum(change <= changes_until for change in self.course.change_steps)

    @property
    def _phase_before_events(self) -> int:
        return self._phase(changes_until=self.step - 1)

    def _is_due(self, every_steps: int) -> bool:
        return self.step // every_steps > (self.step - self.course.stride_steps) // every_steps

    # -- events: what happens at a step before anybody acts ------------------------------------------------------

    def _events(self) -> list[Record]:
        due = {m: self._due_parts(m) for m in range(self.num_members)}
        resets = [m for m, indices in due.items() if indices]
        records = self._newly_silent(look=bool(resets))
        resets = [] if self._is_over else resets
        restarts = self.segment.fork and self.step == self.segment.from_step
        changes = self.step in self.course.change_steps
        phase = self._phase(changes_until=self.step)
        if self.course.resets_see_new_phase:
            self.course.set_phase(phase, self.step)
        batch = self._probe_batch() if resets else None
        if not self.course.resets_see_new_phase:
            self.course.set_phase(phase, self.step)
        if restarts:
            self.course.restart(self.step)
        if changes and self.course.clears_replay:
            self.agent.replay.clear()
        if restarts or changes:
            self.course.begin()
        return records + (self._reset(resets, due, batch) if resets else [])

    def _due_parts(self, member: int) -> list[int]:
        """Positions of the parts that have an event now."""
        triggered = member in self._triggered
        return [
            index
            for index, part, steps in self._events_of[member]
            if self.step in steps or (triggered and isinstance(part.schedule, Trigger))
        ]

    def _reset(self, members: list[int], due: Mapping[int, list[int]], batch: Any | None) -> list[Record]:
        probes = [probe for probe, own in self._paced if own is None]
        records = self._probe_records("reset/before", probes, batch, None, members)
        previous = self.agent.weights()
        for method in self._known.values():
            for index, _ in enumerate(method.parts):
                if concerned := [m for m in members if self._methods[m] == method and index in due[m]]:
                    records += self._treat(method, index, concerned, batch)
        self._last_reset = [self.step if m in members else last for m, last in enumerate(self._last_reset)]
        self._triggered = []
        records += self._newly_silent(look=True)
        return records + self._probe_records("reset/after", probes, batch, previous, members)

    def _treat(self, method: Method, index: int, members: list[int], batch: Any | None) -> list[Record]:
        records: list[Record] = []
        several = sum("event" in part.hooks for part in method.parts) > 1
        label = f"{method.parts[index].kind}/" if several else ""
        for network, report in self.agent.treat(members, index, self.step, batch).items():
            for name, values in report.measurements.items():
                records += self._recorder.measured(
                    self.step, f"reset/{network}/{label}{name}", values.tolist(), members
                )
        return records

    # -- measurements: what is looked at after a step, leaving no trace in the training --------------------------

    def _measurements(self) -> list[Record]:
        benchmark = self.benchmark
        is_last = self.step == benchmark.budget_steps
        is_recorded = self._is_due(benchmark.records.every_steps) or is_last
        is_probed = self._is_due(benchmark.probes.every_steps)
        due = [probe for probe, own in self._paced if (is_probed if own is None else self._is_due(own))]
        is_evaluated = self._is_due(benchmark.evaluation.every_steps) or is_last
        records = self._newly_silent(look=is_recorded or is_probed or bool(due) or is_evaluated)
        if is_recorded:
            records += self._recorder.training(self.step, self.course.training_metrics())
        if due and not self._is_over:
            records += self._probe_records("plasticity", due, self._probe_batch(), None, range(self.num_members))
        if is_evaluated:
            records += self._evaluation_records()
        return records

    def _evaluation_records(self) -> list[Record]:
        # A change at this very step has not happened yet: events come after measurements.
        low, silent, everyone = self.course.lowest, self._recorder.silent, range(self.num_members)
        nothing = {name: np.full(self.num_members, np.nan) for name in low}
        found = nothing if self._is_over else self.course.evaluate(self.step, self._phase_before_events)
        records = self._newly_silent(look=False)
        sound = np.logical_and.reduce([np.isfinite(found[name]) for name in low])
        spoilt = [m for m in everyone if not sound[m] and m not in silent]
        sound[list(silent)] = False
        records += self._recorder.records(self.step, SPOILT, [1.0] * len(spoilt), spoilt)
        for name, values in found.items():
            if name in low:
                counted = np.where(sound, values, low[name])
                records += self._recorder.records(self.step, name, counted.tolist(), everyone)
            else:
                records += self._recorder.measured(self.step, name, values.tolist(), everyone)
        first = next(iter(found.values()))
        self.last_evaluation = float(first[sound].mean()) if sound.any() else None
        return records

    def _newly_silent(self, *, look: bool) -> list[Record]:
        """The marks of members that are not finite any more; without ``look`` only of those that their agent noticed.

        Only steps of the clock at which something is due anyway are looked at, so that a mark does not depend on when
        something was saved.
        """
        if failed := self.course.failed.keys() - self._recorder.lost:
            self._recorder.lose(failed)
            self.agent.silence(dict.fromkeys(failed, "environment"))
        if look and not self._is_over:
            self.agent.silence(self._recorder.window.faults())
            self.agent.check_finite()
        if len(self.agent.not_finite) == len(self._recorder.silent):
            return []
        return self._recorder.silenced(self.step, self.agent.not_finite)

    def policy(self, member: int) -> Callable[[np.ndarray], np.ndarray]:
        """How ``member`` acts in evaluation now: raw observations ``[1, ...]`` to actions ``[1, ...]``."""
        return self.course.policy(member, self._phase_before_events)

    def _probe_batch(self) -> Any | None:
        rows = self.benchmark.probes.batch_rows
        uniforms = [derive_generator(seed, "probe", self.step).random(rows) for seed in self.seeds]
        return self.agent.probe_batch(np.stack(uniforms))

    def _probe_records(
        self,
        prefix: str,
        probes: Sequence[Probe],
        batch: Any | None,
        previous: Mapping[str, Any] | None,
        members: Iterable[int],
    ) -> list[Record]:
        if batch is None or not probes:
            return []
        members = list(members)
        records: list[Record] = []
        totals: dict[tuple[str, str], list[float]] = {}
        for view in self.agent.views(batch, previous):
            for probe in probes:
                for layer, tensor in probe.measure(view).items():
                    values = tensor.tolist()
                    name = f"{prefix}/{view.name}/{probe.label}" + (f"/{layer}" if layer else "")
                    records += self._recorder.measured(self.step, name, [values[m] for m in members], members)
                    if not layer:
                        totals[view.name, probe.label] = values
        if prefix == "plasticity":
            self._trigger(totals, {probe.label for probe in probes})
        return records

    def _trigger(self, totals: Mapping[tuple[str, str], Sequence[float]], measured: Collection[str]) -> None:
        for m, method in enumerate(self._methods):
            for _, part, _ in self._events_of[m]:
                if method is None or not isinstance(part.schedule, Trigger) or m in self._triggered:
                    continue
                if m in self._recorder.silent:
                    continue
                trigger = part.schedule
                if trigger.probe not in measured:
                    continue
                if (trigger.network, trigger.probe) not in totals:
                    raise ValueError(
                        f"methods.{method.name}.when.probe: {trigger.probe!r} has no total on the {trigger.network!r} "
                        "network between resets. Choose another probe or network"
                    )
                if trigger.fires(totals[trigger.network, trigger.probe][m], self.step, self._last_reset[m]):
                    self._triggered.append(m)

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data of everything but the replay's rows, which ``agent.replay.export`` gives in chunks."""
        tensors, agent = self.agent.state_dict()
        course = self.course.state_dict().items()
        tensors = tensors | {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in course}
        plain = {
            "agent": agent,
            "replay": self.agent.replay.meta(),
            "window": self._recorder.window.state_dict(),
            "last_reset": self._last_reset,
            "triggered": self._triggered,
            "not_finite": list(self.agent.not_finite.items()),
            "failed": list(self.course.failed.items()),
        }
        return tensors, plain

    def load_state_dict(
        self,
        tensors: dict[str, Tensor],
        plain: dict[str, Any],
        chunks: Iterable[tuple[int, MemberRows]],
        *,
        step: int,
        parents: Sequence[int],
    ) -> None:
        """Goes on at ``step`` where a population was saved; member i as its member ``parents[i]``.

        Where the segment is about to restart its environments, their course is not replayed first; where environments
        are never found again, new episodes begin, and a record says so.
        """
        self.step = step
        self.agent.load_state_dict(tensors, plain["agent"], parents)
        self.agent.replay.restore(plain["replay"], chunks, parents)
        self._recorder.window.load_state_dict(plain["window"], parents, self._device)
        self._last_reset = [plain["last_reset"][parent] for parent in parents]
        self._triggered = [m for m, parent in enumerate(parents) if parent in plain["triggered"]]
        failed = dict(plain.get("failed", ()))
        self.course.failed |= {m: failed[parent] for m, parent in enumerate(parents) if parent in failed}
        self._recorder.lose(self.course.failed)
        self._stay_silent(dict(plain.get("not_finite", ())), parents)
        arrays = {name: value.numpy() for name, value in tensors.items()}
        forks = self.segment.fork and step == self.segment.from_step
        restarts = self.benchmark.checkpoint.environments == "restart" and self._acts
        self.course.load_state_dict(arrays, parents, phase=self._phase_before_events, restarts=forks or restarts)
        if restarts and not forks:
            self.course.restart(step)
            self.course.begin()
            self._notes = self._recorder.records(step, RESTARTED, [1.0] * self.num_members, range(self.num_members))

    def _stay_silent(self, saved: Mapping[int, str], parents: Sequence[int]) -> None:
        self.agent.silence({m: saved[parent] for m, parent in enumerate(parents) if parent in saved})
        self._recorder.hush(self.agent.not_finite)

    def close(self) -> None:
        """Frees the environments and whatever the agent holds."""
        self.course.close()
        self.agent.close()
