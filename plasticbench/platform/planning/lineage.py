"""Cuts the trials of one task and agent into segments of populations: shared prefixes, forks and what stands alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import TypeVar

from plasticbench.platform.definition.benchmark import Benchmark, Environment, Method, slug
from plasticbench.schedules import Trigger

Item = TypeVar("Item")

# tests/test_memory.py measures what these must cover.
_PROCESS_BYTES = 768 << 20  # Python, PyTorch, Ray and the libraries of environments
_NETWORK_COPIES = 3  # while a commit is written
_ACTIVATION_COPIES = 4  # of the largest batch in single precision: what probes keep of convolutions


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One agent of a population; ``method`` is ``None`` while several methods share it, ``trials`` own its records."""

    seed: int
    method: str | None
    trials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A range of steps of one population: the unit that is scheduled, checkpointed and retried.

    ``start`` is the segment whose last commit it goes on from, its member i from that one's member ``parents[i]``. With
    ``fork`` the environments begin new episodes at ``from_step``. ``memory_bytes`` (of the whole process, at its peak)
    and ``disk_bytes`` (one commit) are upper bounds.
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


class Lineage:
    """The trials of one environment whose methods have equal agents."""

    def __init__(
        self,
        benchmark: Benchmark,
        environment: Environment,
        methods: Sequence[Method],
        trial_ids: Mapping[tuple[str, int], str],
    ) -> None:
        self.benchmark, self.environment, self.trial_ids = benchmark, environment, trial_ids
        self.agent = methods[0]
        self.has_only_agent = all(method.agent == self.agent.agent for method in benchmark.methods)
        self.limit = min(benchmark.execution.members_per_population, self.agent.demands.max_members or sys.maxsize)
        num_envs = environment.config.num_envs
        self.forks: dict[int, list[str]] = {}
        self.never: list[str] = []
        self.triggered: list[str] = []
        for method in methods:
            if known := method.reset_steps(benchmark.budget_steps, num_envs):
                self.forks.setdefault(known[0], []).append(method.name)
            elif isinstance(method.schedule, Trigger):
                self.triggered.append(method.name)
            else:
                self.never.append(method.name)

    def segments(self) -> Iterator[Segment]:
        """All segments; each stands after the one it starts from."""
        alone = self.triggered
        if self.forks:
            widest = max(len(leaving) for leaving in self.forks.values())
            for seeds in balanced(self.benchmark.seeds, max(1, self.limit // widest)):
                yield from self._tree(seeds)
        else:
            alone = self.triggered + self.never
        for pairs in balanced(list(product(self.benchmark.seeds, alone)), self.limit):
            members = tuple(self._member(seed, method) for seed, method in pairs)
            yield self._segment(members, 0, self.benchmark.budget_steps)

    def _tree(self, seeds: Sequence[int]) -> Iterator[Segment]:
        budget_steps, trunk, from_step = self.benchmark.budget_steps, None, 0
        staying = [*(name for _, names in sorted(self.forks.items()) for name in names), *self.never]
        for fork_step, leaving in sorted(self.forks.items()):
            shared = tuple(self._shared_member(seed, staying) for seed in seeds)
            trunk = self._segment(shared, from_step, fork_step, trunk)
            yield trunk
            for pairs in balanced(list(product(seeds, leaving)), self.limit):
                members = tuple(self._member(seed, method) for seed, method in pairs)
                yield self._segment(members, fork_step, budget_steps, trunk, fork=True)
            staying = [name for name in staying if name not in leaving]
            from_step = fork_step
        for method in self.never:
            members = tuple(self._member(seed, method) for seed in seeds)
            yield self._segment(members, from_step, budget_steps, trunk)

    def _member(self, seed: int, method: str) -> Member:
        return Member(seed=seed, method=method, trials=(self.trial_ids[method, seed],))

    def _shared_member(self, seed: int, methods: Sequence[str]) -> Member:
        return Member(seed=seed, method=None, trials=tuple(self.trial_ids[method, seed] for method in methods))

    def _segment(
        self,
        members: tuple[Member, ...],
        from_step: int,
        to_step: int,
        start: Segment | None = None,
        fork: bool = False,
    ) -> Segment:
        execution = self.benchmark.execution
        held_bytes = self._estimate("memory_bytes", len(members))
        rows = {member.seed: row for row, member in enumerate(start.members)} if start is not None else {}
        return Segment(
            id=self._id(members, from_step, to_step),
            task=self.environment.name,
            from_step=from_step,
            to_step=to_step,
            start=start.id if start is not None else None,
            parents=tuple(rows[member.seed] for member in members) if start is not None else (),
            fork=fork,
            members=members,
            agent_method=self.agent.name,
            num_cpus=execution.num_cpus + self.agent.demands.helper_cpus,
            num_gpus=execution.num_gpus,
            memory_bytes=_PROCESS_BYTES + held_bytes + len(members) * self._working_bytes(),
            disk_bytes=self._estimate("disk_bytes", len(members)) or held_bytes,
        )

    def _id(self, members: Sequence[Member], from_step: int, to_step: int) -> str:
        """The first member, its agent and the steps tell a segment from all others; a slug holds no double hyphen."""
        first, others = members[0], len({member.method for member in members}) - 1
        if first.method is not None:
            course = slug(first.method) + (f"-and-{others}-more" if others else "")
        else:
            course = "shared" if self.has_only_agent else f"shared-{slug(self.agent.name)}"
        return f"{slug(self.environment.name)}--{course}--s{first.seed}--{from_step}-{to_step}"

    def _estimate(self, name: str, num_members: int) -> int:
        estimate = getattr(self.agent.agent, name, None)
        return int(estimate(self.environment.config.spec, num_members)) if estimate is not None else 0

    def _working_bytes(self) -> int:
        """What one member adds to the peak beyond what it holds all the time."""
        agent, spec = self.agent.agent, self.environment.config.spec
        estimate = getattr(agent, "network_bytes", None)
        network_bytes = int(estimate(spec)) if estimate is not None else 0
        rows = max(self.benchmark.probes.batch_rows, getattr(agent, "batch_rows", 0))
        activation_bytes = 4 * rows * int(prod(spec.obs_shape))
        return _ACTIVATION_COPIES * activation_bytes + _NETWORK_COPIES * network_bytes


def balanced(items: Sequence[Item], limit: int) -> list[Sequence[Item]]:
    """As few runs of consecutive items as the limit allows, their lengths at most one apart: 5 under 3 are 3 and 2."""
    count = -(-len(items) // limit)
    bounds = [-(-len(items) * part // count) for part in range(count + 1)] if count else [0]
    return [items[low:high] for low, high in pairwise(bounds)]
