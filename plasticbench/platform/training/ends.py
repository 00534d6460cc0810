"""Which segments are complete: judged from commits and record files alone, so that nobody waits for PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from plasticbench import storage
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError, CheckpointStore, Commit
from plasticbench.records import record_length

if TYPE_CHECKING:
    from plasticbench.platform.planning.plan import Segment


def sound_end(directory: RunDirectory, segment: Segment, budget_steps: int) -> Commit | None:
    """The segment's last commit if it is complete and whatever goes on from it can be, or already is.

    Raises ``CheckpointError`` if there are commits and none is sound.
    """
    store = CheckpointStore(directory.checkpoints)
    if (cleaned := _cleaned(store, segment)) is not None:
        return cleaned
    if segment.to_step == budget_steps:
        own = store.latest(segment.id, store.require_files)
    elif (own := store.completed(segment.id)) is None or not _is_built_on(directory, own):
        own = store.latest(segment.id, store.verify_end)
    return own if own is not None and own.complete else None


def _cleaned(store: CheckpointStore, segment: Segment) -> Commit | None:
    return store.completed(segment.id) if store.is_cleaned(segment.id) else None


def can_be_gone_on_from(directory: RunDirectory, segment_id: str) -> bool:
    """Whether trials that are added to a run may share a segment: its end is whole, or still to be trained."""
    store = CheckpointStore(directory.checkpoints)
    try:
        end = store.completed(segment_id)
        if end is not None:
            store.verify_end(end)
    except CheckpointError:
        return False
    return True


def _is_built_on(directory: RunDirectory, end: Commit) -> bool:
    """Whether later segments have begun: training a damaged end again would cut their records off."""
    return any(record_length(directory.record_file(trial)) > length for trial, length in end.record_bytes.items())


def finished_bytes(directory: RunDirectory, segments: Sequence[Segment], budget_steps: int) -> dict[str, int] | None:
    """Committed length of each trial's record file if nothing is left to train, else ``None``."""
    lengths: dict[str, int] = {}
    for segment in reversed(segments):  # what is left is most likely at the end
        try:
            end = sound_end(directory, segment, budget_steps)
        except CheckpointError:
            return None  # whoever trains it says so
        if end is None:
            return None
        lengths = end.record_bytes | lengths
    return lengths


def external_bytes(directory: RunDirectory, trials: Iterable[str]) -> dict[str, int]:
    """Length of the record file of each trial of a loop outside the platform, all of which may be sent."""
    return {trial: record_length(directory.record_file(trial)) for trial in trials}


def are_over(directory: RunDirectory, segments: Sequence[Segment]) -> list[str]:
    """Complete segments that nothing will go on from: those that come from them are complete as well.

    A segment that started from another one keeps what it did not see itself in that one's folder.
    """
    store = CheckpointStore(directory.checkpoints)
    starts = {segment.id: segment.start for segment in segments}
    needed: set[str] = set()
    for segment in segments:
        name: str | None = segment.id if store.completed(segment.id) is None else None
        while name is not None and name not in needed:
            needed.add(name)
            name = starts.get(name)
    return [segment.id for segment in segments if segment.id not in needed]


def remove_ends(directory: RunDirectory, segments: Sequence[Segment]) -> list[str]:
    """With ``ends: remove`` removes what a process that died left, once nothing goes on from it. Raises ``OSError``."""
    import yaml

    resolved = yaml.safe_load(storage.read(directory.benchmark_file))  # without PyTorch, and without plugins
    if (resolved.get("checkpoint") or {}).get("ends") != "remove":
        return []
    store = CheckpointStore(directory.checkpoints)
    left = [name for name in are_over(directory, segments) if not store.is_cleaned(name)]
    for name in left:
        store.clean(name)
    return left
