"""Whether record files hold what the commits name, and the way back to the commits of which they do."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from plasticbench import storage
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore, Commit
from plasticbench.records import read_bytes
from plasticbench.storage import Location

_IO_THREADS = 16
_NAMED_FILES = 5


class Damage(NamedTuple):
    """A trial whose record file does not hold what the newest commit of a segment names."""

    trial: str
    segment: str
    file: Location
    problem: str

    def __str__(self) -> str:
        return f"trial {self.trial}: {self.file} {self.problem}"


def damages(directory: RunDirectory) -> list[Damage]:
    """What is wrong with the record files of a run, at most one entry a trial; needs no plan. Reads all of them."""
    store = CheckpointStore(directory.checkpoints)
    newest = [commits[0] for name in sorted(storage.entries(store.folder)) if (commits := store.commits(name))]
    problems = _problems(directory, newest)
    found: dict[str, Damage] = {}
    for commit in newest:
        for trial, length in commit.record_bytes.items():
            if problem := problems[trial].get(length):
                found.setdefault(trial, Damage(trial, commit.segment, directory.record_file(trial), problem))
    return list(found.values())


def require_sound_records(directory: RunDirectory) -> None:
    """Raises ``BenchmarkError`` that names damaged record files and their trials, and what to do."""
    if found := damages(directory):
        shown = "; ".join(map(str, found[:_NAMED_FILES]))
        more = f"; and {len(found) - _NAMED_FILES} more" if len(found) > _NAMED_FILES else ""
        raise BenchmarkError(
            f"{directory.path}: record files are damaged: {shown}{more}. Put them back from a copy, or `plasticbench "
            "resume --repair` with this directory goes back to the last commit before the damage and trains on from it"
        )


def go_back(directory: RunDirectory) -> list[str]:
    """Forgets all commits of which the record files do not hold everything; returns the segments that lost some.

    A segment that goes on from one of them is trained again from its beginning, since its records are cut off with it.
    """
    store, segments = CheckpointStore(directory.checkpoints), directory.plan().segments
    commits = {segment.id: store.commits(segment.id) for segment in segments}
    problems = _problems(directory, [commit for own in commits.values() for commit in own])
    kept: dict[str, int] = {}  # the number of the newest sound commit, of segments that lose some
    for segment in segments:
        sound = (commit.number for commit in commits[segment.id] if _is_sound(commit, problems))
        newest = -1 if segment.start in kept else next(sound, -1)
        if commits[segment.id] and newest < commits[segment.id][0].number:
            kept[segment.id] = newest
    for name in reversed(kept):  # what goes on from a segment first: dying in between leaves damage that is found again
        store.forget(name, kept[name])
    return list(kept)


def _is_sound(commit: Commit, problems: Mapping[str, Mapping[int, str]]) -> bool:
    return not any(length in problems[trial] for trial, length in commit.record_bytes.items())


def _problems(directory: RunDirectory, commits: Sequence[Commit]) -> dict[str, dict[int, str]]:
    """By trial and committed length. Every file is read once."""
    marks: dict[str, dict[int, int | None]] = {}
    for commit in commits:
        for trial, length in commit.record_bytes.items():
            own = marks.setdefault(trial, {})
            own[length] = commit.record_crc32.get(trial, own.get(length))
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        found = pool.map(lambda item: _problems_of(directory.record_file(item[0]), item[1]), marks.items())
        return dict(zip(marks, found, strict=True))


def _problems_of(file: Location, marks: Mapping[int, int | None]) -> dict[int, str]:
    """What is wrong with the first bytes of a file, by their number; ``marks`` are their CRC-32 where it is known."""
    try:
        data = read_bytes(file, 0, max(marks))
    except FileNotFoundError:
        return {length: f"is missing, and {length:,} bytes were committed" for length in marks if length}
    problems: dict[int, str] = {}
    crc32, position = 0, 0
    for length, committed in sorted(marks.items()):
        piece, position = data[position:length], length
        crc32 = zlib.crc32(piece, crc32)
        if problems:
            problems[length] = next(iter(problems.values()))
        elif len(data) < length:
            problems[length] = f"holds {len(data):,} bytes, and {length:,} were committed"
        elif committed not in (crc32, None) or (committed is None and not _are_lines(piece.splitlines(keepends=True))):
            problems[length] = f"was altered within its first {length:,} bytes, which were committed"
    return problems


def _are_lines(lines: Iterable[bytes]) -> bool:
    """All that can be asked of records whose commit has no checksum: those of version 0.1."""
    return all(line.startswith(b"{") and line.endswith(b"}\n") and b"\0" not in line for line in lines)
