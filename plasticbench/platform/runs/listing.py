"""The runs below a folder: one line each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from plasticbench import storage
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.status import status
from plasticbench.storage import Location

_THREADS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedRun:
    """A run directory; ``changed`` is when its newest file was, ``state`` says why where it cannot be read."""

    name: str
    run_dir: str
    state: str
    num_done: int
    num_trials: int
    num_bytes: int
    changed: str


def list_runs(folder: str) -> list[ListedRun]:
    """The runs in a folder, or of it, the newest first. Raises ``BenchmarkError`` where there is no such folder."""
    place = storage.connect(folder)
    if not (names := storage.entries(place)):
        raise BenchmarkError(f"{folder}: there is no such folder, or nothing in it")
    paths = [place] if "plan.json" in names else [place / name for name in sorted(names)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_listed, [path for path in paths if (path / "plan.json").exists()]))
    return sorted(found, key=lambda run: run.changed, reverse=True)


def _listed(path: Location) -> ListedRun:
    files = storage.tree(path)
    changed_s = max((facts.changed_s for facts in files.values()), default=0.0)
    name, state, num_done, num_trials = path.name, "", 0, 0
    try:
        found = status(RunDirectory(path))
        name, state, num_done, num_trials = found.name, found.state, found.counts["done"], len(found.trials)
    except (ValueError, KeyError, TypeError, OSError) as error:
        state = f"cannot be read: {' '.join(str(error).split())}"
    return ListedRun(
        name=name,
        run_dir=str(path),
        state=state,
        num_done=num_done,
        num_trials=num_trials,
        num_bytes=sum(facts.size for facts in files.values()),
        changed=time.strftime("%Y-%m-%d %H:%M", time.localtime(changed_s)),
    )


def to_json(runs: list[ListedRun]) -> str:
    """All of them as JSON."""
    plain: list[dict[str, Any]] = [asdict(run) for run in runs]
    return json.dumps(plain, indent=2)


def to_text(runs: list[ListedRun]) -> Iterator[str]:
    """One line a run, in columns."""
    rows = [
        (
            run.changed,
            run.state,
            f"{run.num_done} of {run.num_trials} trials",
            size(run.num_bytes),
            run.name,
            run.run_dir,
        )
        for run in runs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def size(num_bytes: int) -> str:
    """``12.3 MiB``."""
    return f"{num_bytes / 2**20:,.1f} MiB" if num_bytes < 10 * 2**30 else f"{num_bytes / 2**30:,.1f} GiB"
