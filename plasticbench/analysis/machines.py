"""On what the trials of a run were trained, so that a mixture, which can change results by rounding, is seen."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from plasticbench import storage
from plasticbench.analysis.runs import Run

_FIELDS = ("device", "gpu", "cpu", "instructions", "num_threads")


def mixture(run: Run) -> str:
    """What differs between the machines of a run's trials and how many trials each had; empty if nothing does."""
    trials: defaultdict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    known = {trial.id for trial in run.trials}
    for note in _notes(run):
        for name, value in _facts(note):
            trials[name][value] |= known.intersection(note["trials"])
    mixed = {
        name: Counter({value: len(own) for value, own in values.items()}) for name, values in sorted(trials.items())
    }
    return "; ".join(f"{name}: {_listed(counts)}" for name, counts in mixed.items() if len(counts) > 1)


def machines(run: Run) -> list[dict[str, Any]]:
    """What the trials of a run were trained on, and how many on each; in a fixed order."""
    known, trials = {trial.id for trial in run.trials}, defaultdict[str, set[str]](set)
    for note in _notes(run):
        facts = {name: note[name] for name in _FIELDS if name in note}
        trials[json.dumps(facts, sort_keys=True)] |= known.intersection(note["trials"])
    return [json.loads(facts) | {"num_trials": len(own)} for facts, own in sorted(trials.items())]


def _notes(run: Run) -> Iterator[Mapping[str, Any]]:
    """One for each time that a segment was started, of those whose work was kept."""
    folder = run.path / "machines"
    for segment in sorted(storage.entries(folder)):
        for name in sorted(storage.entries(folder / segment)):
            yield json.loads(storage.read(folder / segment / name))


def _facts(note: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from ((name.replace("_", " "), str(note[name])) for name in _FIELDS if name in note)
    yield from note["versions"].items()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{value} ({count} trial{'s' * (count != 1)})" for value, count in sorted(counts.items()))
