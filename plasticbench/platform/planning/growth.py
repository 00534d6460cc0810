"""The plan of a run that holds some of a benchmark's trials already: what is there stays, what is missing is added.

A missing trial whose method leaves a shared prefix that is still there goes on from its end. Everything else that is
missing is planned as if it stood alone in a file: one lineage for each set of methods that the same seeds lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method, canonical
from plasticbench.platform.planning.lineage import Lineage, Segment
from plasticbench.platform.planning.plan import Plan, by_population_key

HasEnd = Callable[[str], bool]
"""Whether the end of a segment, by its id, can be gone on from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """A grown plan, and how many trials were added, how many of them go on from a prefix, how many were left out."""

    plan: Plan
    num_added: int
    num_forked: int
    num_left_out: int

    def __str__(self) -> str:
        forked = f" ({self.num_forked} from shared training that is there)" if self.num_forked else ""
        said = [f"{_trials(self.num_added)} more{forked}; what is there stays as it is"] if self.num_added else []
        if self.num_left_out:
            said.append(f"{_trials(self.num_left_out)} that the file no longer names left out: their records stay")
        return "; ".join(said)


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"


def merged(before: Benchmark, after: Benchmark) -> Benchmark:
    """``after`` with the methods and environments that only trials which were left out need."""
    methods, tasks = {one.name for one in after.methods}, {one.name for one in after.environments}
    return replace(
        after,
        methods=(*after.methods, *(one for one in before.methods if one.name not in methods)),
        environments=(*after.environments, *(one for one in before.environments if one.name not in tasks)),
    )


def conflict(known: Plan, wanted: Plan, before: Benchmark, after: Benchmark) -> bool:
    """Whether one name means two things, or trials that are there would have other results."""
    there = {(t.task, t.method, t.seed): t.id for t in (*known.trials, *known.left_out_trials)}
    olds, news = _meanings(before), _meanings(after)
    return any(there.get((t.task, t.method, t.seed), t.id) != t.id for t in wanted.trials) or any(
        olds[name] != news[name] for name in olds.keys() & news.keys()
    )


def _meanings(benchmark: Benchmark) -> dict[tuple[str, str], object]:
    methods: dict[tuple[str, str], object] = {("method", one.name): one for one in benchmark.methods}
    return methods | {("task", one.name): one.identity() for one in benchmark.environments}


def grown(known: Plan, wanted: Plan, benchmark: Benchmark, has_end: HasEnd) -> Growth:
    """The plan that trains all of ``wanted``, whose trials must not conflict with those of ``known``.

    ``benchmark`` holds, beside those of ``wanted``, the methods and environments that ``known`` names.
    """
    there = {trial.id: trial for trial in (*known.trials, *known.left_out_trials)}
    segments = _Segments(known, has_end)
    missing = [trial for trial in wanted.trials if trial.id not in there]
    for environment in benchmark.environments:
        own = {(trial.method, trial.seed): trial.id for trial in missing if trial.task == environment.name}
        for methods in by_population_key(benchmark.methods_on(environment)):
            segments.add(benchmark, environment, methods, own)
    live = {trial.id for trial in wanted.trials}
    is_live = {one.id: any(live.intersection(member.trials) for member in one.members) for one in segments.found}
    left_out = tuple(trial for trial in there.values() if trial.id not in live)
    before = {trial.id for trial in known.left_out_trials}
    plan = replace(
        known,
        description=wanted.description,
        tracked_probes=wanted.tracked_probes,
        trials=tuple(there.get(trial.id, trial) for trial in wanted.trials),
        segments=tuple(one for one in segments.found if is_live[one.id]),
        left_out_trials=left_out,
        left_out_segments=tuple(one for one in segments.found if not is_live[one.id]),
    )
    num_left_out = sum(trial.id not in before for trial in left_out)
    num_added = len(live - {trial.id for trial in known.trials})
    return Growth(plan=plan, num_added=num_added, num_forked=segments.num_forked, num_left_out=num_left_out)


class _Segments:
    """Those that are there, and those that are added to them."""

    def __init__(self, known: Plan, has_end: HasEnd) -> None:
        self.found = [*known.segments, *known.left_out_segments]
        self.num_forked = 0
        self._has_end = has_end
        self._methods = {trial.id: trial.method for trial in (*known.trials, *known.left_out_trials)}

    def add(
        self,
        benchmark: Benchmark,
        environment: Environment,
        methods: Sequence[Method],
        missing: Mapping[tuple[str, int], str],
    ) -> None:
        """Trains what is missing of methods that can share a population; ``missing`` has ids by method and seed."""
        pairs = [(seed, method) for method in methods for seed in benchmark.seeds if (method.name, seed) in missing]
        forked: dict[int, list[tuple[int, Method]]] = {}  # by the place of the prefix
        rest: dict[int, list[Method]] = {}  # by seed
        for seed, method in pairs:
            place = self._extend(benchmark, environment, seed, method, missing[method.name, seed])
            if place is None:
                rest.setdefault(seed, []).append(method)
            else:
                forked.setdefault(place, []).append((seed, method))
        for place, own in forked.items():
            lineage = Lineage(benchmark, environment, [method for _, method in own], missing)
            self.num_forked += len(own)
            self._append(lineage.branches(own, self.found[place]))
        for together, seeds in _rectangles(rest):
            self._append(Lineage(replace(benchmark, seeds=seeds), environment, together, missing).segments())

    def _extend(
        self, benchmark: Benchmark, environment: Environment, seed: int, method: Method, trial: str
    ) -> int | None:
        """Lets the member of a prefix that is there stand for a trial as well; returns the prefix's place, if any."""
        budget_steps, num_envs = benchmark.budget_steps, environment.config.num_envs
        if (fork_step := method.fork_step(budget_steps, num_envs)) is None:
            return None

        def course(one: Method) -> str:
            acting = one.acting_before(fork_step, budget_steps, num_envs)
            return canonical([one.part_settings(part) for part in acting])

        for place, segment in enumerate(self.found):
            if (segment.task, segment.to_step) != (environment.name, fork_step) or fork_step == budget_steps:
                continue
            if benchmark.method(segment.agent_method).population_key != method.population_key:
                continue
            for row, member in enumerate(segment.members):
                stands_for = self._methods[member.trials[0]]
                is_same = member.seed == seed and course(benchmark.method(stands_for)) == course(method)
                if is_same and self._has_end(segment.id):
                    self.found[place] = _standing_for(segment, row, trial)
                    return place
        return None

    def _append(self, planned: Iterator[Segment]) -> None:
        """With ids that no other segment has."""
        taken, renamed = {one.id for one in self.found}, dict[str, str]()
        for segment in planned:
            name, count = segment.id, 2
            while name in taken:
                name, count = f"{segment.id}--{count}", count + 1
            renamed[segment.id] = name
            taken.add(name)
            start = renamed.get(segment.start, segment.start) if segment.start is not None else None
            self.found.append(replace(segment, id=name, start=start))


def _standing_for(segment: Segment, row: int, trial: str) -> Segment:
    members = list(segment.members)
    members[row] = replace(members[row], trials=(*members[row].trials, trial))
    return replace(segment, members=tuple(members))


def _rectangles(methods_of: Mapping[int, Sequence[Method]]) -> Iterator[tuple[Sequence[Method], tuple[int, ...]]]:
    """Methods with all the seeds that lack exactly these."""
    found: dict[tuple[str, ...], tuple[Sequence[Method], list[int]]] = {}
    for seed, methods in sorted(methods_of.items()):
        found.setdefault(tuple(method.name for method in methods), (methods, []))[1].append(seed)
    return ((methods, tuple(seeds)) for methods, seeds in found.values())
