"""Runs a suite: per task one ordinary run for tuning and one for reporting, each of what has no record yet.

Both are run directories that grow with every method, so that whatever interrupts them, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from plasticbench import storage
from plasticbench.code_commit import code_commit
from plasticbench.platform.definition.benchmark import Benchmark
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.suites import entries
from plasticbench.platform.suites.definition import Suite, SuiteMethod, Task
from plasticbench.platform.suites.entries import Entry, TrainedRun
from plasticbench.platform.suites.grid import Candidate

Train = Callable[[Benchmark, Path], object]
"""Trains what a run directory lacks of a benchmark, as ``plasticbench.run`` does."""
RECORDS = "records"
"""The folder of what was made, in the form in which results are published."""


class SuiteRun:
    """One folder in which methods of a suite are tuned and run."""

    def __init__(self, suite: Suite, out: Path, train: Train) -> None:
        self.suite, self.out, self._train = suite, out, train

    def run(
        self,
        methods: Sequence[SuiteMethod],
        tasks: Sequence[Task] | None = None,
        left_out: Collection[tuple[str, str]] = (),
    ) -> list[Entry]:
        """Tunes and runs these methods on all tasks, or on some; what is there already is not trained again.

        Neither is what is ``left_out``, by task and method.

        Trials that failed leave their entries incomplete. Raises ``ValueError`` before anything starts if there is
        something wrong with a method, ``KeyboardInterrupt`` after an interrupt.
        """
        self.suite.check(methods)
        made: list[Entry] = []
        for task in self.suite.tasks if tasks is None else tasks:
            made += self._run(task, [m for m in methods if task.runs(m) and (task.name, m.name) not in left_out])
        return made

    def _run(self, task: Task, methods: Sequence[SuiteMethod]) -> list[Entry]:
        if not methods:
            return []
        tuning = self._tune(task, [method for method in methods if not method.is_reference])
        chosen = {method.name: self._chosen(task, method, tuning.get(method.name)) for method in methods}
        wanted = [one for m in methods for one in (m.default, chosen[m.name]) if one is not None]
        run = self._trained(task, wanted, self.suite.seeds, "reporting")
        made: list[Entry] = []
        for method in methods:
            own = entries.entry(
                self.suite, task, method, tuning.get(method.name), chosen[method.name], run, self._origin(method)
            )
            made.append(self._kept(own))
        return made

    def _kept(self, made: Entry) -> Entry:
        """The entry on disk: one that is there already stays, as it names the commit that trained its trials."""
        path = entries.entry_file(self.out / RECORDS, made["task"], made["method"])
        if path.exists() and entries.is_same(made, known := entries.read_entry(path)):
            return known
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomically(path, entries.to_text(made).encode())
        return made

    def _tune(self, task: Task, methods: Sequence[SuiteMethod]) -> dict[str, dict[str, Any]]:
        wanted = [one for method in methods for one in method.candidates]
        if not wanted:
            return {}
        run = self._trained(task, wanted, self.suite.tuning_seeds, "tuning")
        return {method.name: entries.tuned(method, run, task) for method in methods}

    def _chosen(self, task: Task, method: SuiteMethod, tuning: Mapping[str, Any] | None) -> Candidate | None:
        """The best candidate, unless it is what the method is by itself."""
        found = next((one for one in method.candidates if tuning and one.name == tuning["chosen"]), None)
        return None if found is None or is_default(self.suite, task, method, found) else found

    def _trained(self, task: Task, wanted: Sequence[Candidate], seeds: tuple[int, ...], purpose: str) -> TrainedRun:
        place = self.out / task.name / purpose
        self._train(self.suite.benchmark(task, self._beside(task, place, wanted), seeds, purpose), place)
        return TrainedRun(place)

    def _beside(self, task: Task, place: Path, wanted: Sequence[Candidate]) -> list[Candidate]:
        """What is wanted and what a run has already: one that shared no trial with it could not grow."""
        directory = RunDirectory(place)
        there = {trial.method for trial in directory.plan().trials} if directory.plan_file.exists() else set()
        own = [
            SuiteMethod(name=name, data=entry["definition"], is_reference=entry["is_reference"])
            for (where, name), entry in entries.read_entries(self.out / RECORDS).items()
            if where == task.name
        ]
        known = [one for method in (*own, *self.suite.methods) for one in (method.default, *method.candidates)]
        return list({one.name: one for one in [*(one for one in known if one.name in there), *wanted]}.values())

    def _origin(self, method: SuiteMethod) -> dict[str, Any]:
        is_own = method not in self.suite.methods
        option = "--method FILE" if is_own else f"--again {method.name}"
        command = f"suite run {self.suite.label} {option}" if self.suite.version else "run FILE"
        return {"command": f"plasticbench {command}", "commit": code_commit()}


def is_default(suite: Suite, task: Task, method: SuiteMethod, candidate: Candidate) -> bool:
    """Whether a candidate has the settings that its method has by itself."""
    both = [method.default, candidate]
    own, other = suite.benchmark(task, both, suite.seeds[:1], "check").methods
    return (own.parts, own.agent) == (other.parts, other.agent)


def methods_to_run(
    suite: Suite,
    published: entries.Entries,
    *,
    own: Sequence[SuiteMethod] = (),
    only: Sequence[str] = (),
    again: Sequence[str] = (),
    tasks: Sequence[Task] | None = None,
) -> list[SuiteMethod]:
    """What is to be trained: methods of one's own, or else those of the suite without a published entry.

    ``only`` restricts the suite's, ``tasks`` where entries may be missing; ``again`` trains a row anew that is
    published. Raises ``BenchmarkError``.
    """
    if again and only:
        raise BenchmarkError("--again: names what is trained, and so does --only; give one of them")
    if again:
        return [suite.method(name) for name in again]
    for (task, name), entry in published.items():
        if any(one.name == name and one.data != entry["definition"] for one in own):
            raise BenchmarkError(f"{name}: is published on {task} with other settings; give yours a name of its own")
    chosen = [suite.method(name) for name in only] if only else [] if own else list(suite.methods)
    where = suite.tasks if tasks is None else tasks
    missing = [
        one for one in chosen if any(task.runs(one) and (task.name, one.name) not in published for task in where)
    ]
    return [*missing, *own]


def tasks_to_run(
    suite: Suite, published: entries.Entries, *, only: Sequence[str] = (), again: Sequence[str] = ()
) -> list[Task]:
    """On which tasks: those named, of which only those with a published row of a method that is trained ``again``.

    Raises ``BenchmarkError``.
    """
    chosen = [suite.task(name) for name in only] or list(suite.tasks)
    if not again:
        return chosen
    for name in again:
        if not any((task.name, suite.method(name).name) in published for task in chosen):
            where = ", ".join(task.name for task in chosen)
            raise BenchmarkError(f"--again: nothing of {name!r} is published on {where}; --only trains it first")
    return [task for task in chosen if any((task.name, name) in published for name in again)]


def left_out(
    tasks: Sequence[Task], methods: Sequence[SuiteMethod], published: entries.Entries, *, is_again: bool
) -> set[tuple[str, str]]:
    """By task and method, what is not trained of all of these: what is published, or with ``again`` what is not."""
    pairs = {(task.name, method.name) for task in tasks for method in methods}
    return pairs - published.keys() if is_again else pairs & published.keys()
