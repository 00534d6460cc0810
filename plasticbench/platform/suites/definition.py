"""A suite: benchmark files in one folder, the methods that run on all of them, and seeds of tuning and of reporting.

``suite.yaml`` names the files, which have neither ``methods`` nor ``seeds``. Every method brings a grid of as many
candidates as every other, so that none is tuned longer than its rivals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from plasticbench.envs import _own_modules
from plasticbench.platform import shipped
from plasticbench.platform.definition.benchmark import Benchmark
from plasticbench.platform.definition.clock import clock_of
from plasticbench.platform.definition.names import folder_name
from plasticbench.platform.definition.parsing import BenchmarkError, Problems, mapping, typed, unknown_keys
from plasticbench.platform.definition.reading import from_dict, read_yaml
from plasticbench.platform.suites.grid import MAX_CANDIDATES, Candidate, candidates, without_grid
from plasticbench.platform.terminal import no_warning
from plasticbench.plugins import did_you_mean

FOLDER = shipped.FOLDER / "suites"
_KEYS = ("name", "version", "description", "tasks", "tuning_seeds", "seeds", "methods", "references")
_GIVEN_BY_SUITE = ("methods", "seeds")
_FINAL_SHARE = 0.1
_One = TypeVar("_One")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A benchmark file of a suite, and what its score is.

    The score of a trial is the mean of its evaluations in the last ``window`` of the budget, on a scale on which
    evaluations of ``low`` are 0 and those of ``high`` 1. An ``overvalued`` task separates methods by how far values
    diverge, and stays out of what all tasks say together. References know when a task changes, so one that never does
    ``has_references`` not.
    """

    name: str
    data: Mapping[str, Any]
    window: float = _FINAL_SHARE
    low: float = 0.0
    high: float = 1.0
    is_overvalued: bool = False
    has_references: bool = True

    def runs(self, method: SuiteMethod) -> bool:
        """Whether a method is run on it."""
        return self.has_references or not method.is_reference


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteMethod:
    """A method as ``suite.yaml`` has it, with its grid under ``tune``; a reference is not tuned and never ranked."""

    name: str
    data: Any
    is_reference: bool = False

    @property
    def default(self) -> Candidate:
        """With the settings that it has by itself."""
        return Candidate(self.name, {}, without_grid(self.data))

    @property
    def candidates(self) -> list[Candidate]:
        """What it is tuned over; empty for a reference."""
        return [] if self.is_reference else candidates(self.name, self.data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A named and versioned suite; records of another version are records of another suite.

    Without ``tuning_seeds`` methods have the settings that the suite gives them. Without a version (0) it is a
    benchmark file that tunes. Modules that tasks name are looked for in ``folder``.
    """

    name: str
    version: int
    description: str
    tasks: tuple[Task, ...]
    methods: tuple[SuiteMethod, ...]
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    folder: Path = field(compare=False)

    @property
    def label(self) -> str:
        """What folders are called: ``lite-v1``."""
        return f"{self.name}-v{self.version}" if self.version else folder_name(self.name)

    @property
    def num_candidates(self) -> int:
        """How many candidates every method is tuned over."""
        return max((len(method.candidates) for method in self.methods), default=0)

    def task(self, name: str) -> Task:
        """The task of this name. Raises ``BenchmarkError`` with the nearest name."""
        return _named(name, {one.name: one for one in self.tasks}, f"{self.label} has no task")

    def method(self, name: str) -> SuiteMethod:
        """The method of this name. Raises ``BenchmarkError`` with the nearest name."""
        return _named(name, {one.name: one for one in self.methods}, f"{self.label} has no method")

    def benchmark(self, task: Task, chosen: list[Candidate], seeds: tuple[int, ...], purpose: str) -> Benchmark:
        """The benchmark that trains these variants of methods on a task. Raises ``BenchmarkError``."""
        word = clock_of(task.data).learner
        [environment] = task.data["environments"]
        data = {
            **task.data,
            "name": f"{self.label} {task.name} {purpose}",
            "environments": [{**environment, "name": task.name}],
            "methods": {one.name: _in_words_of(word, one.data) for one in chosen},
            "seeds": list(seeds),
        }
        with _own_modules.searching([self.folder, Path.cwd()]):
            return from_dict(data, f"{self.label}, {task.name}", no_warning)

    def check(self, methods: Sequence[SuiteMethod]) -> None:
        """Reads everything that these methods would train. Raises ``BenchmarkError``."""
        for task in self.tasks:
            own = [method for method in methods if task.runs(method)]
            variants = {one.name: one for method in own for one in (method.default, *method.candidates)}
            if variants:
                self.benchmark(task, list(variants.values()), self.seeds, "check")


def _named(name: str, found: Mapping[str, _One], otherwise: str) -> _One:
    if name not in found:
        raise BenchmarkError(f"{otherwise} {name!r}. {did_you_mean(name, list(found))}")
    return found[name]


def _in_words_of(word: str, data: Any) -> Any:
    """Methods of a suite say ``agent`` of whoever is trained."""
    if not isinstance(data, Mapping):
        return data
    return {word if name in ("agent", "learner") else name: value for name, value in data.items()}


def suite_names() -> list[str]:
    """The suites that come with the package, as ``NAME-vVERSION``."""
    return sorted(path.parent.name for path in FOLDER.glob("*/suite.yaml"))


def find_suite(given: str) -> Suite:
    """The shipped suite of this name, the newest version where none is said, or the one in this folder.

    Raises ``BenchmarkError``.
    """
    if (Path(given) / "suite.yaml").is_file():
        suite = read_suite(Path(given))
        if suite.label in suite_names() and suite != read_suite(FOLDER / suite.label):
            raise BenchmarkError(
                f"{given}: is not the {suite.label} that comes with the package, with whose results it would be mixed. "
                "Give it another name or version"
            )
        return suite
    if Path(given).is_file():
        raise BenchmarkError(
            f"{given}: is a file; `plasticbench run` takes benchmark files, with 'tuning_seeds' as well"
        )
    known = suite_names()
    versions = [name for name in known if given in (name, name.rpartition("-v")[0])]
    if not versions:
        raise BenchmarkError(
            f"{given!r} is no folder with a suite.yaml and no shipped suite. {did_you_mean(given, known)}"
        )
    return read_suite(FOLDER / max(versions, key=lambda name: int(name.rpartition("-v")[2])))


def read_suite(folder: Path) -> Suite:
    """Reads ``suite.yaml`` and the files that it names. Raises ``BenchmarkError`` with one line per problem."""
    source = folder / "suite.yaml"
    data, problems = read_yaml(source), Problems(str(source))
    if not isinstance(data, Mapping):
        raise BenchmarkError(f"{source}: must be a mapping that starts with 'name:', got {data!r}")
    unknown_keys(data, _KEYS, "", problems)
    for key in ("name", "version", "tasks", "seeds", "methods"):
        if data.get(key) is None:
            problems.add(key, "is missing and has no default")
    problems.raise_any()
    return suite_of(data, list(_tasks(folder, data["tasks"], problems)), folder, problems)


def suite_of(data: Mapping[str, Any], tasks: Sequence[Task], folder: Path, problems: Problems) -> Suite:
    """The suite of these tasks and of what else ``suite.yaml`` holds. Raises ``BenchmarkError``."""
    for key in ("name", "seeds", "methods"):
        if data.get(key) is None:
            problems.add(key, "is missing and has no default")
    problems.raise_any()
    suite = Suite(
        name=typed(str, data["name"], "name", problems) or "",
        version=typed(int, data["version"], "version", problems) or 0,
        description=typed(str, data.get("description") or "", "description", problems) or "",
        tasks=tuple(tasks),
        methods=(*_methods(data, "methods", problems), *_methods(data, "references", problems)),
        tuning_seeds=() if (tuning := data.get("tuning_seeds")) is None else _seeds(tuning, "tuning_seeds", problems),
        seeds=_seeds(data["seeds"], "seeds", problems),
        folder=folder,
    )
    _check_protocol(suite, problems)
    problems.raise_any()
    return suite


def read_methods(path: Path, suite: Suite) -> list[SuiteMethod]:
    """Methods of one's own from a file that maps names to what ``methods`` of a suite holds.

    Raises ``BenchmarkError``.
    """
    data, problems = read_yaml(path), Problems(str(path))
    own = list(_methods({"methods": data}, "methods", problems))
    names = {method.name for method in suite.methods}
    for method in own:
        if method.name in names:
            problems.add(method.name, f"is a method of {suite.label}; give yours a name of its own")
    _check_grids(own, suite.num_candidates, problems)
    problems.raise_any()
    return own


def _tasks(folder: Path, given: Any, problems: Problems) -> Iterator[Task]:
    for name, item in mapping(given, "tasks", problems).items():
        key = f"tasks.{name}"
        facts = mapping(item, key, problems)
        unknown_keys(facts, ("window", "low", "high", "overvalued", "references"), key, problems)
        window, low, high = (
            typed(float, facts.get(fact, default), f"{key}.{fact}", problems)
            for fact, default in (("window", _FINAL_SHARE), ("low", 0.0), ("high", 1.0))
        )
        marks = {
            mark: typed(bool, facts.get(name, default), f"{key}.{name}", problems)
            for mark, name, default in (("is_overvalued", "overvalued", False), ("has_references", "references", True))
        }
        if window is not None and not 0.0 < window <= 1.0:
            problems.add(f"{key}.window", f"must be a share of the budget, above 0 and at most 1, got {window}")
        if low is not None and high is not None and not low < high:
            problems.add(key, f"low: must be below high, got {low} and {high}")
        data = _task_data(folder / f"{name}.yaml", problems)
        if data is not None and None not in (window, low, high, *marks.values()):
            yield Task(name=name, data=data, window=window, low=low, high=high, **marks)


def _task_data(path: Path, problems: Problems) -> Mapping[str, Any] | None:
    data, before = read_yaml(path), len(problems)
    if not isinstance(data, Mapping):
        problems.add(path.name, f"must be a benchmark file, got {data!r}")
        return None
    for name in _GIVEN_BY_SUITE:
        if name in data:
            problems.add(f"{path.name}: {name}", "stands in suite.yaml, for all tasks alike. Remove it")
    environments = data.get("environments")
    if not isinstance(environments, list) or len(environments) != 1 or not isinstance(environments[0], Mapping):
        problems.add(f"{path.name}: environments", f"must be a list of one environment, got {environments!r}")
    checkpoint = data.get("checkpoint")
    if isinstance(checkpoint, Mapping) and checkpoint.get("environments", "exact") == "restart":
        problems.add(
            f"{path.name}: checkpoint.environments",
            "must not be 'restart': an interrupted run would differ from one that was not. Remove it",
        )
    return data if len(problems) == before else None


def _methods(data: Mapping[str, Any], key: str, problems: Problems) -> Iterator[SuiteMethod]:
    for name, item in mapping(data.get(key), key, problems).items():
        if not isinstance(item, Mapping | list):
            problems.add(f"{key}.{name}", f"must be a method of a benchmark file, got {item!r}")
            continue
        if key == "references" and isinstance(item, Mapping) and "tune" in item:
            problems.add(f"{key}.{name}.tune", "has no effect: references are not tuned. Remove it")
        if any(_has_sweep(part) for part in (item if isinstance(item, list) else [item])):
            problems.add(f"{key}.{name}", "sweep: makes several methods of one; use 'tune', which chooses among them")
            continue
        with problems.caught(f"{key}.{name}"):
            candidates(name, item)
            yield SuiteMethod(name=name, data=item, is_reference=key == "references")


def _has_sweep(data: Any) -> bool:
    return isinstance(data, Mapping) and ("sweep" in data or any(map(_has_sweep, data.values())))


def _seeds(given: Any, key: str, problems: Problems) -> tuple[int, ...]:
    seeds = range(given) if isinstance(given, int) else typed(tuple[int, ...], given, key, problems)
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0):
        problems.add(key, f"must be a count, or different whole numbers of 0 or more, got {given!r}")
    return tuple(seeds or ())


def _check_protocol(suite: Suite, problems: Problems) -> None:
    if shared := sorted(set(suite.seeds) & set(suite.tuning_seeds)):
        problems.add("tuning_seeds", f"must not be reported: {', '.join(map(str, shared))} stand in 'seeds' as well")
    if suite.num_candidates and not suite.tuning_seeds:
        problems.add("tuning_seeds", "is missing, and has no default where methods are tuned")
    elif suite.tuning_seeds and not suite.num_candidates:
        problems.add("tuning_seeds", "has no effect: no method has 'tune'. Remove it, or tune methods")
    if len(suite.methods) > len({method.name for method in suite.methods}):
        problems.add("references", "must have other names than methods")
    if sum(task.is_overvalued for task in suite.tasks) > 1:
        problems.add("tasks", "at most one task of a suite may be overvalued: it measures divergence, not plasticity")
    _check_grids([one for one in suite.methods if not one.is_reference], suite.num_candidates, problems)


def _check_grids(methods: list[SuiteMethod], count: int, problems: Problems) -> None:
    for method in methods:
        own = len(method.candidates)
        if own > MAX_CANDIDATES:
            problems.add(f"methods.{method.name}.tune", f"may have {MAX_CANDIDATES} candidates, got {own}")
        elif own != count <= MAX_CANDIDATES:
            problems.add(
                f"methods.{method.name}.tune",
                f"must have as many candidates as every method of the suite, {count}, got {own}",
            )
