"""Cuts the trials of one task and agent into segments of populations: shared prefixes, forks and what stands alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any, TypeVar

from plasticbench.contracts.learner import AgentConfig
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method, canonical
from plasticbench.platform.definition.names import slug
from plasticbench.platform.planning.frames import raw_bytes, saved_bytes
from plasticbench.schedules import Trigger

Item = TypeVar("Item")

PIECE_BYTES = 256 << 20
"""A commit writes what it keeps of the replay in files of about this size, and loads them one by one."""

# tests/test_memory.py measures what these must cover.
_PROCESS_BYTES = 768 << 20  # Python, PyTorch, Ray and the libraries of environments
_SUPERVISED_PROCESS_BYTES = 480 << 20  # the same without environments
_MODULE_PROCESS_BYTES = 80 << 20  # what PyTorch traces modules with
_CUDA_PROCESS_BYTES = 3 << 30  # the same with CUDA's libraries loaded; not measured here
_CUDA_CONTEXT_BYTES = 1 << 30  # on the GPU: kernels and workspaces; not measured here
_NETWORK_COPIES, _SUPERVISED_NETWORK_COPIES = 3, 1.75  # while a commit is written; targets and passes of agents
_NUMBERS_OF_A_WEIGHT = 6  # that agents count: itself and its target, its first value, its gradient, two moments
_ACTIVATION_COPIES = 4  # of the largest batch in single precision: what probes keep of convolutions


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One agent of a population; ``method`` is ``None`` while several methods share it, ``trials`` own its records.

    ``acts_as`` names one of the methods that share a member: what all of them have in common acts on it already.
    """

    seed: int
    method: str | None
    trials: tuple[str, ...]
    acts_as: str | None = None

    @property
    def treated_as(self) -> str | None:
        """The method whose parts the member has; ``None`` where nothing acts."""
        return self.method or self.acts_as


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A range of steps of one population: the unit that is scheduled, checkpointed and retried.

    ``start`` is the segment whose last commit it goes on from, its member i from that one's member ``parents[i]``. With
    ``fork`` the environments begin new episodes at ``from_step``. ``memory_bytes`` (of the whole process, at its peak),
    ``gpu_memory_bytes`` and ``disk_bytes`` (one commit) are estimates, rather too large than too small.
    """

    id: str
    task: str
    from_step: int
    to_step: int
    start: str | None
    parents: tuple[int, ...]
    fork: bool
    members: tuple[Member, ...]
    agent_method: str
    num_cpus: int
    num_gpus: float
    memory_bytes: int
    disk_bytes: int
    gpu_memory_bytes: int = 0

    @property
    def work(self) -> Segment:
        """The same without estimates, which another version may make otherwise."""
        return replace(self, memory_bytes=0, gpu_memory_bytes=0, disk_bytes=0)


class Lineage:
    """The trials of one environment whose methods can be members of one population.

    Up to its fork step a trial shares its training with all those in which the same parts act up to there: one member
    for each seed and *course*, a text that is equal for equal parts.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        environment: Environment,
        methods: Sequence[Method],
        trial_ids: Mapping[tuple[str, int], str],
    ) -> None:
        self.benchmark, self.environment, self.methods, self.trial_ids = benchmark, environment, methods, trial_ids
        self.first = methods[0]
        self.agent = fitted(self.first.agent_config, benchmark.budget_steps)
        self.is_only = all(method.population_key == self.first.population_key for method in benchmark.methods)
        self.limit = min(benchmark.execution.members_per_population, self.agent.demands.max_members or sys.maxsize)
        # Members of one method are a regular slice in either order; the first one is that of version 0.1's plans.
        self.by_seed = all(method.is_reset_policy for method in methods)
        self.forks: dict[int, list[Method]] = {}
        self.never: list[Method] = []
        self.triggered: list[Method] = []
        for method in methods:
            if (step := method.fork_step(benchmark.budget_steps, environment.config.num_envs)) is not None:
                self.forks.setdefault(step, []).append(method)
            elif any(isinstance(part.schedule, Trigger) for part in method.parts):
                self.triggered.append(method)
            else:
                self.never.append(method)
        last = max(self.forks, default=benchmark.budget_steps)
        self.courses = {method.name: self._course(method, last) for method in methods}

    def _course(self, method: Method, last_fork_step: int) -> str:
        budget_steps, num_envs = self.benchmark.budget_steps, self.environment.config.num_envs
        until = method.fork_step(budget_steps, num_envs) or last_fork_step
        acting = method.acting_before(until, budget_steps, num_envs)
        return canonical([method.part_settings(part) for part in acting]) if acting else ""

    def segments(self) -> Iterator[Segment]:
        """All segments; each stands after the one it starts from."""
        courses = list(self._courses_of(self.methods).values())
        if len(courses) > self.limit and self.forks:
            for group in balanced(courses, self.limit):
                methods = [method for together in group for method in together]
                lineage = Lineage(self.benchmark, self.environment, methods, self.trial_ids)
                lineage.is_only = False
                yield from lineage.segments()
            return
        alone = self.triggered if self.forks else self.triggered + self.never
        if self.forks:
            widest = max(len(courses), *map(len, self.forks.values()))
            for seeds in balanced(self.benchmark.seeds, max(1, self.limit // widest)):
                yield from self._tree(seeds)
        for pairs in balanced(self._pairs(self.benchmark.seeds, alone), self.limit):
            members = tuple(self._member(seed, method) for seed, method in pairs)
            yield self._segment(members, 0, self.benchmark.budget_steps)

    def _pairs(self, seeds: Sequence[int], methods: Sequence[Method]) -> list[tuple[int, Method]]:
        if self.by_seed:
            return list(product(seeds, methods))
        return [(seed, method) for method in methods for seed in seeds]

    def _staying(self, step: int) -> list[Method]:
        """Methods that have not left the trunk before ``step``."""
        later = (leaving for at, leaving in sorted(self.forks.items()) if at >= step)
        return [*(method for leaving in later for method in leaving), *self.never]

    def _courses_of(self, methods: Sequence[Method]) -> dict[str, list[Method]]:
        found: dict[str, list[Method]] = {}
        for method in methods:
            found.setdefault(self.courses[method.name], []).append(method)
        return found

    def _tree(self, seeds: Sequence[int]) -> Iterator[Segment]:
        budget_steps, trunk, from_step = self.benchmark.budget_steps, None, 0
        for fork_step, leaving in sorted(self.forks.items()):
            courses = self._courses_of(self._staying(fork_step))
            shared = tuple(self._shared(seed, methods) for methods in courses.values() for seed in seeds)
            trunk = self._segment(shared, from_step, fork_step, trunk)
            yield trunk
            yield from self.branches(self._pairs(seeds, leaving), trunk)
            from_step = fork_step
        for method in self.never:
            members = tuple(self._member(seed, method) for seed in seeds)
            yield self._segment(members, from_step, budget_steps, trunk)

    def branches(self, pairs: Sequence[tuple[int, Method]], trunk: Segment) -> Iterator[Segment]:
        """From the end of a prefix, whose members stand for their trials as well, to the end of the budget."""
        for own in balanced(pairs, self.limit):
            members = tuple(self._member(seed, method) for seed, method in own)
            yield self._segment(members, trunk.to_step, self.benchmark.budget_steps, trunk, fork=True)

    def _member(self, seed: int, method: Method) -> Member:
        return Member(seed=seed, method=method.name, trials=(self.trial_ids[method.name, seed],))

    def _shared(self, seed: int, methods: Sequence[Method]) -> Member:
        """One member for all methods of one course."""
        trials = tuple(self.trial_ids[method.name, seed] for method in methods)
        acts_as = methods[0].name if self.courses[methods[0].name] else None
        return Member(seed=seed, method=None, trials=trials, acts_as=acts_as)

    def _parents(self, members: Sequence[Member], start: Segment) -> tuple[int, ...]:
        """The members of the trunk from which these go on: those that recorded for the same trials."""
        rows = {trial: row for row, member in enumerate(start.members) for trial in member.trials}
        return tuple(rows[member.trials[0]] for member in members)

    def _segment(
        self,
        members: tuple[Member, ...],
        from_step: int,
        to_step: int,
        start: Segment | None = None,
        fork: bool = False,
    ) -> Segment:
        execution = self.benchmark.execution
        memory_bytes, gpu_memory_bytes = self._memory_bytes(members)
        return Segment(
            id=self._id(members, from_step, to_step),
            task=self.environment.name,
            from_step=from_step,
            to_step=to_step,
            start=start.id if start is not None else None,
            parents=self._parents(members, start) if start is not None else (),
            fork=fork,
            members=members,
            agent_method=self.first.name,
            num_cpus=execution.num_cpus + self.agent.demands.helper_cpus,
            num_gpus=execution.num_gpus if execution.device == "cuda" else 0.0,
            memory_bytes=memory_bytes,
            disk_bytes=self.agent.disk_bytes(self.environment.config.spec, len(members))
            - saved_bytes(self._compressed_bytes(len(members)))
            + self._twin_bytes(members),
            gpu_memory_bytes=gpu_memory_bytes,
        )

    def _compressed_bytes(self, num_members: int) -> int:
        return raw_bytes(self.benchmark, self.environment, self.agent, num_members)

    def _memory_bytes(self, members: Sequence[Member]) -> tuple[int, int]:
        """Of the host and of the GPU, where with ``cuda`` replay and networks lie.

        They pass through the host to be written: networks as a copy, the replay in pieces. What is loaded is mapped.
        Frames that are compressed lie on the host.
        """
        spec, agent, num_members = self.environment.config.spec, self.agent, len(members)
        data_bytes = getattr(self.environment.config, "memory_bytes", 0)
        frame_bytes = self._compressed_bytes(num_members)
        held_bytes = agent.memory_bytes(spec, num_members) + data_bytes - saved_bytes(frame_bytes)
        working_bytes = num_members * self._working_bytes() + self._twin_bytes(members)
        if self.benchmark.execution.device == "cpu" or not hasattr(agent, "device_bytes"):
            return self._process_bytes() + held_bytes + working_bytes, 0
        device_bytes = agent.device_bytes(spec, num_members) + data_bytes - frame_bytes
        passing_bytes = 2 * PIECE_BYTES + num_members * agent.network_bytes(spec)
        host_bytes = _CUDA_PROCESS_BYTES + held_bytes - device_bytes + passing_bytes + data_bytes
        return host_bytes, _CUDA_CONTEXT_BYTES + device_bytes + working_bytes

    def _id(self, members: Sequence[Member], from_step: int, to_step: int) -> str:
        """The first member, its agent and the steps tell a segment from all others; a slug holds no double hyphen."""
        first, others = members[0], len({member.method for member in members}) - 1
        if first.method is not None:
            course = slug(first.method) + (f"-and-{others}-more" if others else "")
        else:
            course = "shared" if self.is_only else f"shared-{slug(self.first.name)}"
        return f"{slug(self.environment.name)}--{course}--s{first.seed}--{from_step}-{to_step}"

    def _twin_bytes(self, members: Sequence[Member]) -> int:
        """Networks and moments of what learns beside the members to take their places."""
        twins = {
            m.name for m in self.methods if any(getattr(part.chosen.config, "has_twin", False) for part in m.parts)
        }
        count = sum(member.treated_as in twins for member in members)
        return count * self.agent.network_bytes(self.environment.config.spec) if count else 0

    def _process_bytes(self) -> int:
        own_bytes = _SUPERVISED_PROCESS_BYTES if self.environment.is_supervised else _PROCESS_BYTES
        return own_bytes + (_MODULE_PROCESS_BYTES if self._module_row_bytes() else 0)

    def _module_row_bytes(self) -> int:
        """What one row takes in a training pass of those networks that are modules."""
        networks: Iterable[Any] = self.agent.layers(self.environment.config.spec).values()
        # Asked of the type, since whatever stops the property must not pass for a network without it.
        return sum(layers.row_bytes for layers in networks if hasattr(type(layers), "row_bytes"))

    def _working_bytes(self) -> int:
        """What one member adds to the peak beyond what it holds all the time."""
        spec, probes = self.environment.config.spec, self.benchmark.probes
        trained_rows = -(-getattr(self.agent, "batch_rows", 0) // getattr(self.agent, "accumulate", 1))
        rows = max(probes.batch_rows, trained_rows)
        row_bytes = _ACTIVATION_COPIES * 4 * int(prod(spec.obs_shape)) + self._module_row_bytes()
        weight_bytes = self.agent.network_bytes(spec) // _NUMBERS_OF_A_WEIGHT
        pass_bytes, own = probes.batch_rows * row_bytes, [probe.config for probe in probes.probes]
        probe_bytes = (one.working_bytes(weight_bytes, pass_bytes) for one in own if hasattr(one, "working_bytes"))
        copies = _SUPERVISED_NETWORK_COPIES if self.environment.is_supervised else _NETWORK_COPIES
        return rows * row_bytes + max(probe_bytes, default=0) + round(copies * self.agent.network_bytes(spec))


def fitted(agent: AgentConfig, budget_steps: int) -> AgentConfig:
    """An agent's settings with a replay that is no larger than the budget fills."""
    own: AgentConfig = agent.fitted(budget_steps) if hasattr(agent, "fitted") else agent
    return own


def balanced(items: Sequence[Item], limit: int) -> list[Sequence[Item]]:
    """As few runs of consecutive items as the limit allows, their lengths at most one apart: 5 under 3 are 3 and 2."""
    count = -(-len(items) // limit)
    bounds = [-(-len(items) * part // count) for part in range(count + 1)] if count else [0]
    return [items[low:high] for low, high in pairwise(bounds)]
