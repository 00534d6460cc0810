"""Reads a benchmark, environments x methods x seeds, from one YAML file and checks it before anything starts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plasticbench.envs import _own_modules
from plasticbench.platform.definition.benchmark import (
    STEP_TIMEOUT_S,
    Benchmark,
    Boundaries,
    Checkpoint,
    Environment,
    Evaluation,
    Execution,
    PhaseEvaluation,
    Pictures,
    Probes,
    Records,
    Tracking,
)
from plasticbench.platform.definition.clock import UPDATES, clock_of
from plasticbench.platform.definition.effects import Given, judge
from plasticbench.platform.definition.feasible import check_feasible
from plasticbench.platform.definition.method import Chosen, Method
from plasticbench.platform.definition.methods import MethodsReader, read_agent, read_chosen, read_schedule
from plasticbench.platform.definition.names import MAX_NAME_CHARACTERS, slug
from plasticbench.platform.definition.parsing import (
    BenchmarkError,
    Problems,
    mapping,
    read_section,
    typed,
    unknown_keys,
)
from plasticbench.platform.definition.within import twins
from plasticbench.platform.definition.yaml_text import apply_override, decoded, parse_yaml
from plasticbench.visible import is_control

__all__ = [
    "Benchmark",
    "BenchmarkError",
    "Checkpoint",
    "Environment",
    "Evaluation",
    "Execution",
    "Method",
    "Pictures",
    "Probes",
    "Records",
    "Tracking",
    "from_dict",
    "from_resolved",
    "load",
]

_log = logging.getLogger(__name__)

DEFAULT_PROBES = (
    "dfi",
    "dormant_ratio",
    "effective_rank",
    "feature_norm",
    "fraction_active",
    "gradient_norm",
    "sfe",
    "srank",
    "stable_rank",
    "update_ratio",
    "weight_distance",
    "weight_norm",
    "zero_activation",
)
"""What a file measures that lists no probes. Named one by one, because a probe that is added later must not move the
trial ids of files that never asked for it."""

_MAX_SEEDS = 10_000

_SECTIONS = {
    "evaluation": Evaluation,
    "records": Records,
    "tracking": Tracking,
    "checkpoint": Checkpoint,
    "execution": Execution,
}


class _Reader:
    """Turns the plain data of one file into a ``Benchmark``; what it cannot read becomes a problem and ``None``."""

    def __init__(self, data: dict[str, Any], problems: Problems) -> None:
        self.data, self.problems = data, problems

    def benchmark(self) -> Benchmark | None:
        fields = [field.name for field in dataclasses.fields(Benchmark)]
        own = {name: value for name, value in self.data.items() if not name.startswith("x-")}  # anchors for the rest
        unknown_keys(own, [*fields, "agent", "resets", "filled_in"], "", self.problems)
        for name in ("name", "environments", "agent", "methods", "seeds", "budget_steps", "evaluation"):
            if self.data.get(name) is None:
                self.problems.add(name, "is missing and has no default")
        budget_steps = self._budget_steps()
        cadence_steps = max(1, budget_steps // 100)
        settings: dict[str, Any] = {
            "name": self._name(),
            "description": typed(str, self.data.get("description") or "", "description", self.problems),
            "environments": self._environments(),
            "methods": self._methods(budget_steps),
            "seeds": self._seeds(),
            "budget_steps": budget_steps,
            "probes": self._probes(cadence_steps),
            "pictures": self._pictures(),
            **self._plain_sections(cadence_steps),
        }
        return None if len(self.problems) else Benchmark(**settings)

    def _name(self) -> str:
        name: str | None = typed(str | None, self.data.get("name"), "name", self.problems)
        if name is not None:
            self._usable(name, "name")
        return name or ""

    def _usable(self, name: str, key: str) -> None:
        """Names become parts of paths, of which there must be something, and not too much."""
        if any(map(is_control, name)):
            self.problems.add(key, f"must be one line without control characters, got {name!r}")
        elif not slug(name):
            self.problems.add(key, f"must contain a letter or a digit, got {name!r}")
        elif len(slug(name)) > MAX_NAME_CHARACTERS:
            self.problems.add(
                key,
                f"is part of the names of files, so it may have {MAX_NAME_CHARACTERS} characters (letters of other "
                f"scripts are spelled out), got {len(slug(name))}: {name[:30]!r}... Shorten it",
            )

    def _budget_steps(self) -> int:
        budget_steps: int | None = typed(int | None, self.data.get("budget_steps"), "budget_steps", self.problems)
        if budget_steps is not None and budget_steps < 1:
            self.problems.add("budget_steps", f"must be at least 1 agent step, got {budget_steps}")
        return budget_steps or 1

    def _plain_sections(self, cadence_steps: int) -> dict[str, Any]:
        given = {name: mapping(self.data.get(name), name, self.problems) for name in _SECTIONS}
        given["records"].setdefault("every_steps", cadence_steps)
        kinds = _SECTIONS | ({"evaluation": PhaseEvaluation} if self.problems.clock is UPDATES else {})
        return {
            name: read_section(cls, given[name], name, self.problems)
            for name, cls in kinds.items()
            if name in self.data or name != "evaluation"
        }

    def _seeds(self) -> tuple[int, ...]:
        given = self.data.get("seeds")
        if not isinstance(given, list):
            count = typed(int | None, given, "seeds", self.problems)
            if count is not None and count < 1:
                self.problems.add("seeds", f"must be a count of at least 1, or a list of seeds, got {count}")
            if count is not None and count > _MAX_SEEDS:
                self.problems.add(
                    "seeds", f"must be at most {_MAX_SEEDS:,}, each with a trial of every method, got {count:,}"
                )
                return ()
            return tuple(range(count or 0))
        seeds: tuple[int, ...] | None = typed(tuple[int, ...], given, "seeds", self.problems)
        if seeds is not None and len(seeds) > _MAX_SEEDS:
            self.problems.add("seeds", f"must be at most {_MAX_SEEDS:,} different ones, got {len(seeds):,}")
        elif seeds is not None and (not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds)):
            self.problems.add("seeds", f"must be different whole numbers of 0 or more, and at least one, got {given}")
        return seeds or ()

    def _environments(self) -> tuple[Environment, ...]:
        items = self.data.get("environments")
        if items is None:
            return ()
        if not isinstance(items, list) or not items:
            self.problems.add("environments", f"must be a list with at least one environment, got {items!r}")
            return ()
        found = [self._environment(item, f"environments.{i}") for i, item in enumerate(items)]
        environments = tuple(environment for environment in found if environment is not None)
        self._distinct([environment.name for environment in environments], "environments", "give each a 'name'")
        return environments

    def _environment(self, item: Any, key: str) -> Environment | None:
        data = mapping(item, key, self.problems)
        label, changes = data.pop("name", None), data.pop("scenario", None)
        limit_s, boundaries = self._step_timeout(data, key), self._boundaries(data, key)
        family = read_chosen("envs", data, key, self.problems)
        label = typed(str | None, label, f"{key}.name", self.problems)
        if family is None or not self._is_of_family(family, changes, key):
            return None
        scenario, before = None, len(self.problems)
        if self.problems.clock is UPDATES:
            with self.problems.caught(key):
                assert family.config.spec  # reads the data
            if len(self.problems) > before:
                return None
        else:
            scenario = read_chosen("scenarios", changes or {"kind": "stationary"}, f"{key}.scenario", self.problems)
            if scenario is None:
                return None
        made = None
        with self.problems.caught(key):
            label = label or family.config.task
            made = Environment(
                name=label, family=family, scenario=scenario, step_timeout_s=limit_s, boundaries=boundaries
            )
        return made

    def _boundaries(self, data: dict[str, Any], key: str) -> Boundaries:
        found: Boundaries | None = typed(
            Boundaries, data.pop("boundaries", "known"), f"{key}.boundaries", self.problems
        )
        return found or "known"

    def _step_timeout(self, data: dict[str, Any], key: str) -> float | None:
        if self.problems.clock is UPDATES and "step_timeout_s" in data:
            del data["step_timeout_s"]
            self.problems.add(f"{key}.step_timeout_s", "has no effect: data are no environment that steps. Remove it")
        limit_s = data.pop("step_timeout_s", STEP_TIMEOUT_S)
        found: float | None = typed(float | None, limit_s, f"{key}.step_timeout_s", self.problems)
        return found

    def _is_of_family(self, family: Chosen, scenario: Any, key: str) -> bool:
        """Whether a task is for those whom the file trains; notes why not."""
        clock = self.problems.clock
        before = len(self.problems)
        if hasattr(family.config, "build_course") != (clock is UPDATES):
            needed = "'agent' and 'budget_steps'" if clock is UPDATES else "'learner' and 'budget_updates'"
            self.problems.add(
                f"{key}.kind",
                f"{family.kind!r} is a task of the other family, and this file trains {clock.task}. Give it a file of "
                f"its own, with {needed}",
            )
        elif clock is UPDATES and scenario is not None:
            self.problems.add(f"{key}.scenario", "has no effect: data change as their 'stream' says. Remove it")
        return len(self.problems) == before

    def _methods(self, budget_steps: int) -> tuple[Method, ...]:
        agent_data = self.data.get("agent")
        agent = read_agent(agent_data, "agent", self.problems) if agent_data is not None else None
        default = read_schedule(self.data.get("resets"), "resets", budget_steps, self.problems)
        methods = MethodsReader(self.data, agent, default, budget_steps, self.problems).methods()
        self._distinct([method.name for method in methods], "methods", "rename one")
        return methods

    def _probes(self, cadence_steps: int) -> Probes | None:
        data = mapping(self.data.get("probes"), "probes", self.problems)
        unknown_keys(data, ["every_steps", "batch_rows", "kinds"], "probes", self.problems)
        kinds = data.get("kinds", list(DEFAULT_PROBES))
        if not isinstance(kinds, list):
            self.problems.add("probes.kinds", f"must be a list of probe names or of {{kind: ...}}, got {kinds!r}")
            return None
        items = [{"kind": item} if isinstance(item, str) else item for item in kinds]
        found = [read_chosen("probes", item, f"probes.kinds.{i}", self.problems) for i, item in enumerate(items)]
        cadence = {name: data[name] for name in ("every_steps", "batch_rows") if name in data}
        settings = read_section(Probes, {"every_steps": cadence_steps, **cadence}, "probes", self.problems)
        if settings is not None:
            with self.problems.caught("probes"):
                return dataclasses.replace(settings, probes=tuple(probe for probe in found if probe is not None))
        return None

    def _pictures(self) -> Pictures | None:
        given = self.data.get("pictures")
        return None if given is None else read_section(Pictures, given, "pictures", self.problems)

    def _distinct(self, names: list[str], key: str, advice: str) -> None:
        """They must differ also where a file system may not tell them apart."""
        first: dict[str, str] = {}
        for index, name in enumerate(names):
            self._usable(name, f"{key}.{name}" if key == "methods" else f"{key}.{index}.name")
            if slug(name) and (twin := first.get(slug(name))) is not None:
                self.problems.add(key, f"names must differ in letters and digits, got {twin!r} and {name!r}: {advice}")
            first.setdefault(slug(name), name)


def load(path: Path | str, overrides: Sequence[str] = (), warn: Callable[[str], None] = _log.warning) -> Benchmark:
    """Reads a benchmark file; ``overrides`` are ``dotted.key=value`` with YAML values.

    Modules that its environments name are looked for beside it, then in the current folder. ``warn`` hears what is odd
    and not wrong. Raises ``BenchmarkError`` with one line per problem.
    """
    alone, data = read_yaml(path), read_yaml(path, overrides)
    with _own_modules.searching([Path(path).parent, Path.cwd()]):
        return _checked(data, str(path), overrides, alone, warn)


def read_yaml(path: Path | str, overrides: Sequence[str] = ()) -> Any:
    """The plain data of a file, with ``overrides``. Raises ``BenchmarkError`` for a file that is no YAML."""
    try:
        data = parse_yaml(decoded(Path(path).read_bytes()))
        for override in overrides:
            apply_override(data, override)
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BenchmarkError(f"{path}: {error}") from error
    return data


def from_dict(data: Any, source: str = "benchmark", warn: Callable[[str], None] = _log.warning) -> Benchmark:
    """Checks plain data. Raises ``BenchmarkError`` with one line per problem, each named by ``source``."""
    return _checked(data, source, (), data, warn)


def from_resolved(data: Any, source: str) -> Benchmark:
    """What ``Benchmark.resolved`` wrote, of whatever version: everything stands there, with or without an effect."""
    benchmark, problems = _read(data, source)
    problems.raise_any()
    assert benchmark is not None
    return benchmark


def _checked(data: Any, source: str, overrides: Sequence[str], alone: Any, warn: Callable[[str], None]) -> Benchmark:
    benchmark, problems = _read(data, source)
    clock = problems.clock
    given = Given(clock.internal(data), [clock.override(override) for override in overrides])
    errors, warnings = judge(problems.effects, given, lambda: _inert_keys(alone))
    for key, message in errors.items():
        problems.add(key, message)
    problems.raise_any()
    assert benchmark is not None
    for message in [*warnings, *twins(benchmark)]:
        warn(f"{source}: {clock.words(message)}")
    return benchmark


def _read(data: Any, source: str) -> tuple[Benchmark | None, Problems]:
    if not isinstance(data, Mapping):
        raise BenchmarkError(f"{source}: must be a mapping of settings that starts with 'name:', got {data!r}")
    problems = Problems(source, clock := clock_of(data))
    if strangers := clock.strangers(data):
        said = "{}: {}: belongs to files of the other family, and this one trains {}. Here it is called {!r}"
        raise BenchmarkError("\n".join(said.format(source, key, clock.task, ours) for key, ours in strangers.items()))
    benchmark = _Reader(clock.internal(mapping(data, "", problems)), problems).benchmark()
    if benchmark is not None:
        for name in benchmark.network_modules:
            with suppress(Exception):  # the network says it, where it stands
                _own_modules.import_module(name)
        check_feasible(benchmark, problems)
    return benchmark, problems


def _inert_keys(data: Any) -> Collection[str]:
    """What has no effect in a file by itself, as far as it can be read."""
    if not isinstance(data, Mapping):
        return ()
    problems = _read(data, "file")[1]
    return problems.effects.inert(Given(problems.clock.internal(data)).place)
