"""A benchmark as work: trials with content ids, and the segments of populations that train them.

Trials of one task and agent share a prefix: up to the first reset known in advance, f, nothing but the seed tells them
apart, so one member per seed is trained to f and then forked into one member per method. Where methods have several f,
the prefix goes on from one f to the next like a trunk, and branches leave it. At its own f every trial starts new
episodes, whether or not others share its prefix, so that no result depends on what else a file holds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import pydantic

from plasticbench import __version__
from plasticbench.code_commit import code_commit
from plasticbench.contracts.task import Scenario, has_references
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.clock import STEPS
from plasticbench.platform.definition.method import Method, canonical
from plasticbench.platform.definition.names import slug
from plasticbench.platform.planning.corrections import corrections
from plasticbench.platform.planning.lineage import Lineage, Segment

__all__ = ["RESULT_FORMAT", "Plan", "Segment", "Trial", "make_plan", "summary"]

RESULT_FORMAT = 1
"""Raised when the same settings begin to give other results, so that old records are not taken for new ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One seed of a method on a task; ``settings`` are all that can change its result, as plain data.

    Device, threads, versions of libraries and the kind of CPU can change it too, by rounding. They are no settings, and
    are kept beside the records (``training/machine.py``).
    ``fork_step`` is where environments start anew, of methods for which that is not simply their first reset. Scores of
    a task without references are raw returns.
    """

    id: str
    task: str
    method: str
    seed: int
    reset_steps: tuple[int, ...]
    change_steps: tuple[int, ...]
    score_source: str
    settings: dict[str, Any]
    fork_step: int | None = None
    has_references: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All trials of a benchmark and the segments that train them; a segment stands after the one it starts from.

    ``left_out_...`` are those of which no trial is in the benchmark any more: on disk, and in no report. A member may
    stand for such trials and for others. The trials of an ``external`` one are recorded by training loops outside the
    platform, and it has no segments.
    """

    name: str
    description: str
    version: str
    versions: dict[str, str]
    budget_steps: int
    tracked_probes: Literal["totals", "all"]
    trials: tuple[Trial, ...]
    segments: tuple[Segment, ...]
    external: bool = False
    left_out_trials: tuple[Trial, ...] = ()
    left_out_segments: tuple[Segment, ...] = ()
    clock: str = STEPS.unit

    def to_json(self) -> str:
        """The content of ``plan.json``."""
        text = pydantic.TypeAdapter(Plan).dump_json(self, indent=1, exclude_defaults=True)  # as version 0.1 wrote it
        return text.decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Inverse of ``to_json``. Raises ``ValueError`` for anything else."""
        return pydantic.TypeAdapter(cls).validate_json(text, strict=True)

    def segment(self, segment_id: str) -> Segment:
        """The segment with this id."""
        return next(segment for segment in self.segments if segment.id == segment_id)


def make_plan(benchmark: Benchmark) -> Plan:
    """Trials ordered by task, method and seed, and their segments."""
    trials: list[Trial] = []
    segments: list[Segment] = []
    for environment in benchmark.environments:
        known = benchmark.methods_on(environment)
        own = [trial for method in known for trial in _trials(benchmark, environment, method)]
        trial_ids = {(trial.method, trial.seed): trial.id for trial in own}
        for methods in by_population_key(known):
            segments += Lineage(benchmark, environment, methods, trial_ids).segments()
        trials += own
    return Plan(
        name=benchmark.name,
        description=benchmark.description,
        version=__version__,
        versions=_versions(),
        budget_steps=benchmark.budget_steps,
        tracked_probes=benchmark.tracking.probes,
        trials=tuple(trials),
        segments=tuple(segments),
        clock=benchmark.clock.unit,
    )


def _versions() -> dict[str, str]:
    """Of everything that can change what is measured."""
    packages = ("torch", "numpy", "envpool", "gymnasium", "ale-py", "minatar", "ray", "mlflow")
    commit = code_commit()
    return {
        "plasticbench": __version__,
        **({} if commit is None else {"commit": commit}),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def by_population_key(methods: Sequence[Method]) -> list[list[Method]]:
    """Methods in groups that can share a population."""
    groups: dict[str, list[Method]] = {}
    for method in methods:
        groups.setdefault(method.population_key, []).append(method)
    return list(groups.values())


def _trials(benchmark: Benchmark, environment: Environment, method: Method) -> Iterator[Trial]:
    """One trial per seed; what they share is computed, and held, once."""
    num_envs = environment.config.num_envs
    scenario = environment.changes(benchmark.seeds[:1], benchmark.budget_steps, method.stride_steps(num_envs))
    shared = {
        "environment": environment.told(),
        "agent": method.agent.settings(),
        "method": method.settings(),
        "schedule": method.schedule_settings(),
        "seed": None,
        "budget_steps": benchmark.budget_steps,
        "evaluation": benchmark.evaluation.settings(),
        "probes": benchmark.probes.settings(),
        "records": dataclasses.asdict(benchmark.records),
    }
    if corrected := corrections(benchmark, environment, method, scenario):
        shared["corrections"] = corrected
    for seed in benchmark.seeds:
        settings = shared | {"seed": seed}
        hashed = {"format": RESULT_FORMAT, **settings, "environment": environment.identity()}
        digest = hashlib.sha256(canonical(hashed).encode()).hexdigest()[:8]
        yield Trial(
            id=f"{slug(environment.name)}--{slug(method.name)}--s{seed}--{digest}",
            task=environment.name,
            method=method.name,
            seed=seed,
            reset_steps=method.reset_steps(benchmark.budget_steps, num_envs),
            change_steps=tuple(scenario.change_steps),
            score_source=_score_source(environment, scenario),
            settings=settings,
            fork_step=None if method.is_reset_policy else method.fork_step(benchmark.budget_steps, num_envs),
            has_references=has_references(environment.config),
        )


def _score_source(environment: Environment, scenario: Scenario) -> str:
    """Where 0 and 1 lie, in each of its tasks if it has several."""
    configs = [scenario.env(environment.config, phase) for phase in range(len(scenario.change_steps) + 1)]
    sources = {config.task: config.score_source for config in configs}
    if len(sources) == 1:
        return environment.config.score_source
    return "; ".join(f"{task}: {source}" for task, source in sources.items())


def summary(plan: Plan) -> dict[str, Any]:
    """What the plan costs to train; ``disk.py`` has what it leaves.

    ``memory_bytes`` (of hosts) and ``gpu_memory_bytes`` are the largest population's; ``..._side_by_side_bytes`` are
    those of all populations that can run at the same time.
    """
    lengths = [segment.to_step - segment.from_step for segment in plan.segments]
    with_forks = sum(length * len(segment.members) for length, segment in zip(lengths, plan.segments, strict=True))
    without_forks = len(plan.trials) * plan.budget_steps
    memory, gpu_memory = (
        {s.id: getattr(s, name) for s in plan.segments} for name in ("memory_bytes", "gpu_memory_bytes")
    )
    return {
        "trials": len(plan.trials),
        "segments": len(plan.segments),
        "populations_side_by_side": sum(segment.start is None for segment in plan.segments),
        "member_steps": with_forks,
        "member_steps_without_forks": without_forks,
        "saved_by_forks": round(1 - with_forks / without_forks, 3),
        "memory_bytes": max(memory.values()),
        "gpu_memory_bytes": max(gpu_memory.values()),
        "memory_side_by_side_bytes": _side_by_side(plan, memory),
        "gpu_memory_side_by_side_bytes": _side_by_side(plan, gpu_memory),
    }


def _side_by_side(plan: Plan, sizes: dict[str, int]) -> int:
    """The most that populations take at the same time: each, or all those that start from it."""
    later: dict[str | None, int] = {}
    for segment in reversed(plan.segments):  # a segment stands after the one it starts from
        most = max(sizes[segment.id], later.get(segment.id, 0))
        later[segment.start] = later.get(segment.start, 0) + most
    return later[None]
