"""The films of a run, where it made any: ``pictures/<trial id>.webp``."""

from __future__ import annotations

import base64
from typing import NamedTuple

from plasticbench import storage
from plasticbench.analysis.runs import Run


class Film(NamedTuple):
    """What the final policy of one trial does; ``source`` is the film itself as a data URI."""

    method: str
    seed: int
    source: str


def films_by_task(run: Run) -> dict[str, list[Film]]:
    """The films that are there, in the plan's order; tasks without any are left out."""
    found: dict[str, list[Film]] = {}
    folder = run.path / "pictures"
    films = storage.entries(folder)
    for trial in run.trials:
        if (name := f"{trial.id}.webp") in films:
            source = "data:image/webp;base64," + base64.b64encode(storage.read(folder / name)).decode("ascii")
            found.setdefault(trial.task, []).append(Film(trial.method, trial.seed, source))
    return found
