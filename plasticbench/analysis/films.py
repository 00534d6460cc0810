"""The films of a run, where it made any: ``pictures/<trial id>.webp``."""

from __future__ import annotations

import base64
from typing import NamedTuple

from plasticbench.analysis.runs import Run


class Film(NamedTuple):
    """What the final policy of one trial does; ``source`` is the film itself as a data URI."""

    method: str
    seed: int
    source: str


def films_by_task(run: Run) -> dict[str, list[Film]]:
    """The films that are there, in the plan's order; tasks without any are left out."""
    found: dict[str, list[Film]] = {}
    for trial in run.trials:
        file = run.path / "pictures" / f"{trial.id}.webp"
        if file.is_file():
            source = "data:image/webp;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
            found.setdefault(trial.task, []).append(Film(trial.method, trial.seed, source))
    return found
