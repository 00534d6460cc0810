"""Takes results into the published ones, after everything about them that can be checked was checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plasticbench import storage
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.suites import publishing
from plasticbench.platform.suites.board import require_of
from plasticbench.platform.suites.definition import Suite, SuiteMethod, find_suite
from plasticbench.platform.suites.entries import (
    Entries,
    Entry,
    best,
    entry_file,
    iqm_of,
    is_same,
    read_entries,
    score,
    to_text,
)
from plasticbench.platform.suites.grid import MAX_CANDIDATES, Candidate
from plasticbench.platform.suites.running import RECORDS, is_default

Ids = Mapping[tuple[str, int], str]
"""Of trials, by variant of a method and seed."""


def add(result: Path, folder: Path, to: str | None = None) -> tuple[Suite, list[tuple[str, str]]]:
    """Publishes the entries in ``result``; returns their suite, and their tasks and methods.

    With ``to`` they are published for another suite as well, on the tasks that it has alike. Raises ``BenchmarkError``
    with one line per problem, and then adds none.
    """
    found = read_entries(result / RECORDS if (result / RECORDS).is_dir() else result)
    if not found:
        raise BenchmarkError(
            f"{result}: holds no records of a suite. `plasticbench suite run` leaves them in its folder"
        )
    labels = sorted({f"{entry['suite']}-v{entry['suite_version']}" for entry in found.values()})
    if len(labels) > 1:
        raise BenchmarkError(f"{result}: mixes {' and '.join(labels)}: add the results of one version of a suite")
    suite = find_suite(labels[0])
    if to is not None:
        suite, found = _shared(suite, find_suite(to), found)
    known = publishing.published(suite, folder)
    new = {key: entry for key, entry in found.items() if not is_same(entry, known.get(key))}
    problems = [problem for key, entry in new.items() if key in known for problem in [_is_there(suite, entry)]]
    problems += [problem for entry in new.values() for problem in check(suite, entry)]
    if problems:
        raise BenchmarkError("\n".join(problems))
    for (task, method), entry in new.items():
        path = entry_file(folder / suite.label, task, method)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomically(path, to_text(entry).encode())
    publishing.write_tables(suite, {**known, **new}, folder / suite.label)
    return suite, list(new)


def _shared(own: Suite, other: Suite, found: Entries) -> tuple[Suite, dict[tuple[str, str], Entry]]:
    """The entries of tasks that are the same in two suites, as entries of the other one."""
    same = {task.name for task in other.tasks if task in own.tasks}
    if not same & {task for task, _ in found}:
        raise BenchmarkError(f"--to: {other.label} has none of these tasks with the same settings and score")
    label = {"suite": other.name, "suite_version": other.version}
    return other, {key: {**entry, **label} for key, entry in found.items() if key[0] in same}


def _is_there(suite: Suite, entry: Entry) -> str:
    return (
        f"{entry['method']} on {entry['task']}: {suite.label} has another result of it, and what is published does not "
        "change. Give the method another name"
    )


def check(suite: Suite, entry: Entry) -> list[str]:
    """What is wrong with an entry, one line each. Raises ``BenchmarkError`` where it is of another suite."""
    require_of(suite, entry)
    where = f"{entry['method']} on {entry['task']}"
    try:
        return [f"{where}: {problem}" for problem in _problems(suite, entry)]
    except (KeyError, TypeError, AttributeError) as error:  # somebody wrote it by hand
        return [f"{where}: is no entry as `plasticbench suite run` writes it: {error!r}"]


def _problems(suite: Suite, entry: Entry) -> Iterator[str]:
    task = suite.task(entry["task"])
    try:
        method = SuiteMethod(name=entry["method"], data=entry["definition"], is_reference=entry["is_reference"])
        candidates = method.candidates
    except ValueError as error:
        yield str(error)
        return
    if (own := {m.name: m for m in suite.methods}.get(method.name)) is not None and own != method:
        yield f"is not the {method.name} of {suite.label}, whose settings are others. Give it another name"
        return
    expected = 0 if method.is_reference else suite.num_candidates
    if len(candidates) != expected or expected > MAX_CANDIDATES:
        yield f"must be tuned over {expected} candidates, as every method of {suite.label}, got {len(candidates)}"
        return
    try:
        whole = suite.benchmark(task, [method.default, *candidates], (*suite.seeds, *suite.tuning_seeds), "check")
    except BenchmarkError as error:
        yield f"cannot be checked here, where its kinds must be installed: {error}"
        return
    if whole.budget_steps != entry["budget_steps"]:
        yield f"has a budget of {entry['budget_steps']}, and {suite.label} one of {whole.budget_steps}"
    ids = {(trial.method, trial.seed): trial.id for trial in make_plan(whole).trials}
    if candidates:
        yield from _tuning_problems(suite, entry, candidates, ids)
    chosen = next((one for one in candidates if one.name == entry["tuning"]["chosen"]), None) if candidates else None
    is_untuned = chosen is None or is_default(suite, task, method, chosen)
    if is_untuned != (entry["tuned"] is None):
        yield "the result with the chosen settings is missing, or is there although they are the default ones"
        return
    groups = [("default", method.default), *([] if chosen is None or is_untuned else [("tuned", chosen)])]
    for group, one in groups:
        trials = entry[group]["trials"]
        yield from _trial_problems(suite, one.name, suite.seeds, trials, ids)
        scores = [score(trial, entry["steps"], task, entry["budget_steps"]) for trial in trials]
        if lost := [trial["seed"] for trial, value in zip(trials, scores, strict=True) if not np.isfinite(value)]:
            yield f"seeds {', '.join(map(str, lost))} of {one.name} have no evaluation at the end"


def _tuning_problems(suite: Suite, entry: Entry, candidates: Sequence[Candidate], ids: Ids) -> Iterator[str]:
    found = {one["name"]: one for one in entry["tuning"]["candidates"]}
    if found.keys() != {one.name for one in candidates}:
        yield f"the candidates of tuning are not those of its grid: {', '.join(found)}"
        return
    for name, one in found.items():
        yield from _trial_problems(suite, name, suite.tuning_seeds, one["trials"], ids)
        if one["iqm"] != iqm_of(one["trials"]):
            yield f"the IQM of {name} is not that of its trials"
    if best(entry["tuning"]["candidates"]) != entry["tuning"]["chosen"]:
        yield f"{entry['tuning']['chosen']!r} was chosen, which is not the candidate with the highest IQM"


def _trial_problems(
    suite: Suite, name: str, seeds: tuple[int, ...], trials: Sequence[Mapping[str, Any]], ids: Ids
) -> Iterator[str]:
    """Seeds that are missing, and trials whose ids, which hash all settings, are not those of the suite's."""
    if absent := sorted(set(seeds) - {trial["seed"] for trial in trials}):
        yield f"seeds {', '.join(map(str, absent))} of {name} are missing"
    if strange := sorted({trial["seed"] for trial in trials} - set(seeds)):
        yield f"seeds {', '.join(map(str, strange))} of {name} are none of {suite.label}'s"
    if len(trials) > len({trial["seed"] for trial in trials}):
        yield f"a seed of {name} is there twice"
    if wrong := [one["seed"] for one in trials if ids.get((name, one["seed"]), one["id"]) != one["id"]]:
        yield (
            f"seeds {', '.join(map(str, wrong))} of {name} were trained with other settings than {suite.label} "
            "has (the hashes in their trial ids differ), or with another version of plasticbench"
        )
