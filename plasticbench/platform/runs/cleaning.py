"""What the parts of a run directory take, and removing those that are not needed any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plasticbench import storage
from plasticbench.platform.rundir import LOCKS, RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore
from plasticbench.platform.training.ends import are_over
from plasticbench.platform.training.journal import is_journal

Keep = Literal["records", "weights", "all"]
KEPT: tuple[Keep, ...] = ("records", "weights", "all")

_PARTS = {
    "checkpoints": ("checkpoints",),
    "weights and films": ("weights", "pictures"),
    "MLflow": ("mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db-shm", "mlartifacts", "mirror"),
    "report": ("report",),
    "stored start": ("start",),
    "records": ("records",),
}
"""Names in a run directory; everything else is small, and stays with the records."""
_OTHERS = "plan and notes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaning:
    """What each part takes and loses in bytes, and the relative paths of what goes."""

    sizes: Mapping[str, int]
    freed: Mapping[str, int]
    files: tuple[str, ...]
    segments: tuple[str, ...]
    num_unfinished: int = 0


def plan_cleaning(directory: RunDirectory, keep: Keep, everything: bool = False) -> Cleaning:
    """What would go. Checkpoints of populations that something may still go on from stay, unless ``everything`` goes.

    ``keep`` ``all`` removes nothing, ``weights`` the checkpoints, ``records`` also weights, films and the run's own
    MLflow store, which `plasticbench resume` fills again from the records.
    """
    directory.require()
    plan = directory.plan()
    segments = (*plan.segments, *plan.left_out_segments)
    over = () if keep == "all" else tuple(are_over(directory, segments))
    sizes: dict[str, int] = {}
    freed: dict[str, int] = {}
    files = []
    for path, facts in sorted(storage.tree(directory.path).items()):
        part = _part(path)
        sizes[part] = sizes.get(part, 0) + facts.size
        if path not in LOCKS and (everything or _goes(path, part, keep, over)):
            files.append(path)
            freed[part] = freed.get(part, 0) + facts.size
    return Cleaning(
        sizes={part: sizes[part] for part in (*_PARTS, _OTHERS) if part in sizes},
        freed=freed,
        files=tuple(files),
        segments=() if everything else over,
        num_unfinished=len(segments) - len(over),
    )


def _part(path: str) -> str:
    first = path.partition("/")[0]
    return next((part for part, names in _PARTS.items() if first in names), _OTHERS)


def _goes(path: str, part: str, keep: Keep, over: tuple[str, ...]) -> bool:
    if part == "checkpoints":
        _, segment, name, *_ = path.split("/")
        return segment in over and (name.endswith(".safetensors") or is_journal(name))
    return keep == "records" and part in ("weights and films", "MLflow")


def clean(directory: RunDirectory, cleaning: Cleaning) -> None:
    """Removes it. The caller holds the directory's lock. What a death leaves is removed by the next call."""
    store = CheckpointStore(directory.checkpoints)
    for segment in cleaning.segments:
        store.clean(segment)
    last = "plan.json"  # a directory with a plan is a run directory, which can be cleaned again
    for path in sorted(cleaning.files, key=lambda path: path == last):
        storage.remove(directory.path / path)
    if isinstance(directory.path, Path):
        for folder in sorted((path for path in directory.path.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
