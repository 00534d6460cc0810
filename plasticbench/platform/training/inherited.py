"""Records of trials that came to a shared prefix after it was trained, when their run had grown."""

from __future__ import annotations

from collections.abc import Sequence

from plasticbench.append_log import append_log
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import Commit
from plasticbench.records import read_bytes


def inherit_records(directory: RunDirectory, segment: Segment, begin: Commit) -> dict[str, int]:
    """Gives trials of a segment that the commit it begins with does not know the records of the trials that it knows.

    Up to there one member stood for all of them. Returns the lengths of the files that were written; what was in them,
    from a process that died before its first commit, is written over.
    """
    added = [trial for member in segment.members for trial in member.trials if trial not in begin.record_bytes]
    if not added:
        return {}
    lengths: dict[str, int] = {}
    for row, member in enumerate(segment.members):
        siblings = _siblings(directory, segment, begin, row)
        donor = next(trial for trial in siblings if trial in begin.record_bytes)
        for trial in member.trials:
            if trial in added:
                lengths[trial] = _copy(directory, donor, trial, begin.record_bytes[donor])
    return lengths


def _siblings(directory: RunDirectory, segment: Segment, begin: Commit, row: int) -> Sequence[str]:
    """The trials of the member that was trained."""
    if begin.segment == segment.id:
        return segment.members[row].trials
    return directory.plan().segment(begin.segment).members[segment.parents[row]].trials


def _copy(directory: RunDirectory, donor: str, trial: str, num_bytes: int) -> int:
    old, new = (b'\n{"trial":"%s",' % name.encode() for name in (donor, trial))
    data = (b"\n" + read_bytes(directory.record_file(donor), 0, num_bytes)).replace(old, new)[1:] if num_bytes else b""
    log = append_log(directory.record_file(trial))
    log.cut(0)
    log.write(0, data)
    return len(data)
